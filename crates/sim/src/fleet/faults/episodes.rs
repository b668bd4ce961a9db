//! Faults that last: of a device's clock or sensor, of its connection, of a partition.

use super::Faults;
use super::partition::murmur2_partition;
use crate::fleet::draw::{For, Key};

const HOUR_US: i64 = 3_600_000_000;

/// From when to when; both ends are in one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fleet) struct Episode {
    pub(in crate::fleet) from_us: i64,
    pub(in crate::fleet) to_us: i64,
}

impl Episode {
    /// Whether a device that reports at `time_us` and did so `interval_us` before sees it for the first time.
    pub(in crate::fleet) fn begins(&self, time_us: i64, interval_us: i64) -> bool {
        self.from_us > time_us - interval_us
    }
}

/// The episode under way at a time, if there is one: at most one begins in an hour.
fn episode(key: Key, time_us: i64, chance: f64, seconds: std::ops::Range<f64>) -> Option<Episode> {
    if chance == 0.0 {
        return None;
    }
    let hour = time_us.div_euclid(HOUR_US);
    let key = key.with(hour as u64);
    if !key.happens(chance) {
        return None;
    }
    let length_us = (key.with(1).between(seconds.start, seconds.end) * 1e6) as i64;
    let from_us = hour * HOUR_US + (key.with(2).unit() * (HOUR_US - length_us) as f64) as i64;
    let episode = Episode {
        from_us,
        to_us: from_us + length_us,
    };
    (episode.from_us..episode.to_us).contains(&time_us).then_some(episode)
}

/// A device that sends nothing until the episode ends.
pub(in crate::fleet) fn silence(faults: &Faults, device: Key, time_us: i64) -> Option<Episode> {
    episode(device.of(For::Silence), time_us, faults.silence, 30.0..240.0)
}

/// A speed sensor that holds the value it had when the episode began.
pub(in crate::fleet) fn stuck_sensor(faults: &Faults, device: Key, time_us: i64) -> Option<Episode> {
    episode(device.of(For::Stuck), time_us, faults.stuck_sensor, 60.0..600.0)
}

/// A partition whose records wait until the episode ends; its number with it.
pub(in crate::fleet) fn partition_stall(
    faults: &Faults,
    seed: Key,
    stream: usize,
    key: &[u8],
    time_us: i64,
) -> Option<(u32, Episode)> {
    if faults.lagging_partition == 0.0 {
        return None;
    }
    let partition = murmur2_partition(key, faults.partitions());
    let place = seed.of(For::Lag).with(stream as u64).with(u64::from(partition));
    Some((
        partition,
        episode(place, time_us, faults.lagging_partition, 60.0..300.0)?,
    ))
}

/// What a device's clock shows too much, in whole milliseconds; 0 for one that is right.
pub(in crate::fleet) fn clock_skew_us(faults: &Faults, device: Key) -> i64 {
    let key = device.of(For::Skew);
    if faults.clock_skew == 0.0 || !key.happens(faults.clock_skew) {
        return 0;
    }
    let size_ms = key.with(1).between(5_000.0, 600_000.0) as i64;
    let sign = if key.with(2).happens(0.5) { 1 } else { -1 };
    sign * size_ms * 1000
}
