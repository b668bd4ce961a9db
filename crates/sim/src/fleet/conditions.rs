//! What drivers meet: the traffic on a segment, the weather on the road and the incidents, at any time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::fleet::demand;
use crate::fleet::draw::{For, Key};
use crate::fleet::geometry::Point;
use crate::fleet::incidents::{self, Exposure, Incident, LONGEST_US, REPORT_RADIUS_M};
use crate::fleet::weather::{Raster, Weather};
use crate::fleet::world::{Segment, SegmentId, World};

const DAY_US: i64 = 86_400_000_000;
const ROAD_WEATHER_US: i64 = 10 * 60_000_000;
const ROAD_WEATHERS: usize = (DAY_US / ROAD_WEATHER_US) as usize;
/// Days kept: vehicles' days reach into yesterday, and incidents into today.
const DAYS_MAX: usize = 8;

/// The conditions of one seed; days are made when first asked for, and a few are kept.
#[derive(Debug)]
pub(crate) struct Conditions {
    seed: Key,
    traffic: Key,
    pub(crate) weather: Weather,
    exposure: Exposure,
    days: Mutex<BTreeMap<i32, Arc<Day>>>,
}

/// One day's conditions.
#[derive(Debug)]
pub(crate) struct Day {
    day: i32,
    /// All that are reported at some moment of the day, also those of the day before.
    pub(crate) incidents: Vec<Incident>,
    /// For each incident the segments within [`REPORT_RADIUS_M`] with the distance of their middle.
    pub(crate) near: Vec<Vec<(f64, SegmentId)>>,
    /// Sorted by segment.
    slowdowns: Vec<Slowdown>,
    /// Which segments have a slowdown at all, a bit for each.
    slow: Vec<u64>,
    road_weather: [OnceLock<Box<[u8]>>; ROAD_WEATHERS],
}

#[derive(Debug)]
struct Slowdown {
    segment: SegmentId,
    from_us: i64,
    to_us: i64,
    factor: f32,
}

impl Conditions {
    pub(crate) fn new(seed: Key, world: &World) -> Self {
        Self {
            seed,
            traffic: seed.of(For::Traffic),
            weather: Weather::new(seed),
            exposure: Exposure::new(world),
            days: Mutex::default(),
        }
    }

    /// The conditions of a day (days since the epoch).
    pub(crate) fn day(&self, world: &World, day: i32) -> Arc<Day> {
        let mut days = self.days.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = days.get(&day) {
            return Arc::clone(known);
        }
        while days.len() >= DAYS_MAX {
            days.pop_first();
        }
        let made = Arc::new(self.new_day(world, day));
        days.insert(day, Arc::clone(&made));
        made
    }

    /// The incidents reported on a day.
    pub(crate) fn incidents(&self, world: &World, day: i32) -> Vec<Incident> {
        incidents::of_day(self.seed, world, &self.exposure, &self.weather, day)
    }

    fn new_day(&self, world: &World, day: i32) -> Day {
        let from_us = i64::from(day) * DAY_US;
        let mut incidents = self.incidents(world, day - 1);
        incidents.retain(|incident| incident.reported_us >= from_us - LONGEST_US);
        incidents.retain(|incident| incident.resolved_us + incidents::AFTERMATH_US > from_us);
        incidents.extend(self.incidents(world, day));

        let mut slowdowns = Vec::new();
        for incident in &incidents {
            let mut slow = |segment, factor| {
                slowdowns.push(Slowdown {
                    segment,
                    from_us: incident.reported_us,
                    to_us: incident.resolved_us,
                    factor,
                });
            };
            let hard = [0.45, 0.28, 0.15][usize::from(incident.severity - 1)];
            slow(incident.segment, hard);
            // The queue grows back along the road, and the other side looks across.
            let (mut at, mut factor) = (incident.segment, hard);
            for _ in 0..incident.severity + 1 {
                factor = 1.0 - (1.0 - factor) * 0.6;
                let Some(before) = world.upstream(at) else { break };
                slow(before, factor);
                at = before;
            }
            slow(world.opposite(incident.segment), 0.85);
        }
        slowdowns.sort_by_key(|slowdown| (slowdown.segment, slowdown.from_us));
        let mut slow = vec![0_u64; world.segments.len() / 64 + 1];
        for slowdown in &slowdowns {
            slow[slowdown.segment as usize / 64] |= 1 << (slowdown.segment % 64);
        }
        Day {
            day,
            near: incidents
                .iter()
                .map(|incident| world.segments_near(incident.point, REPORT_RADIUS_M))
                .collect(),
            incidents,
            slowdowns,
            slow,
            road_weather: [const { OnceLock::new() }; ROAD_WEATHERS],
        }
    }

    /// Vehicles an hour on a segment, all traffic and not the fleet alone.
    #[inline]
    pub(crate) fn flow(&self, segment: &Segment, time_us: i64) -> f64 {
        let usual = f64::from(segment.daily) * demand::hourly(time_us) * 0.01;
        usual * demand::tide(segment.tide, time_us) * self.variation(segment.stretch, time_us)
    }

    /// A stretch of road is fuller on some days and at some moments than on others.
    fn variation(&self, stretch: u32, time_us: i64) -> f64 {
        const BLOCK_US: i64 = 20 * 60_000_000;
        let key = self.traffic.with(u64::from(stretch));
        let block = time_us.div_euclid(BLOCK_US);
        let part = time_us.rem_euclid(BLOCK_US) as f64 / BLOCK_US as f64;
        let at = |block: i64| key.with(block as u64).normal();
        let day = key.with(time_us.div_euclid(DAY_US) as u64 ^ 0xDA75).normal();
        let now = at(block) * (1.0 - part) + at(block + 1) * part;
        (1.0 + 0.10 * now + 0.07 * day).max(0.4)
    }

    /// What traffic leaves of the free speed.
    #[inline]
    pub(crate) fn traffic_factor(&self, segment: &Segment, time_us: i64) -> f64 {
        demand::speed_factor(self.flow(segment, time_us), f64::from(segment.capacity))
    }
}

impl Day {
    /// What incidents leave of the free speed.
    #[inline]
    fn incident_factor(&self, segment: SegmentId, time_us: i64) -> f32 {
        if self.slow[segment as usize / 64] & 1 << (segment % 64) == 0 {
            return 1.0;
        }
        let first = self.slowdowns.partition_point(|slowdown| slowdown.segment < segment);
        self.slowdowns[first..]
            .iter()
            .take_while(|slowdown| slowdown.segment == segment)
            .filter(|slowdown| (slowdown.from_us..slowdown.to_us).contains(&time_us))
            .map(|slowdown| slowdown.factor)
            .fold(1.0, f32::min)
    }

    fn road_weather_factor(&self, weather: &Weather, point: Point, time_us: i64) -> f32 {
        let bucket = (time_us.rem_euclid(DAY_US) / ROAD_WEATHER_US) as usize;
        let factors = self.road_weather[bucket].get_or_init(|| {
            let at = i64::from(self.day) * DAY_US + bucket as i64 * ROAD_WEATHER_US;
            Raster::new(weather, at).speed_factors()
        });
        Raster::speed_factor(factors, point)
    }
}

/// One thread's way to the conditions: remembers the days it has asked for last.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) world: Arc<World>,
    pub(crate) conditions: Arc<Conditions>,
    days: [Option<Arc<Day>>; 4],
}

/// What a driver finds on a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// Of the free speed: traffic and incidents.
    pub(crate) traffic: f32,
    /// Of any speed: wet or white roads.
    pub(crate) weather: f32,
}

impl View {
    pub(crate) fn new(world: Arc<World>, conditions: Arc<Conditions>) -> Self {
        Self {
            world,
            conditions,
            days: Default::default(),
        }
    }

    #[inline]
    pub(crate) fn day(&mut self, time_us: i64) -> &Day {
        let day = time_us.div_euclid(DAY_US) as i32;
        let slot = &mut self.days[day.rem_euclid(4) as usize];
        if slot.as_ref().is_none_or(|known| known.day != day) {
            *slot = Some(self.conditions.day(&self.world, day));
        }
        slot.as_ref().expect("just filled")
    }

    #[inline]
    pub(crate) fn found(&mut self, id: SegmentId, point: Point, time_us: i64) -> Found {
        self.day(time_us);
        let day = self.days[(time_us.div_euclid(DAY_US) as i32).rem_euclid(4) as usize]
            .as_ref()
            .expect("just asked for");
        let segment = self.world.segment(id);
        let traffic = self.conditions.traffic_factor(segment, time_us) as f32;
        Found {
            traffic: traffic.min(day.incident_factor(id, time_us)),
            weather: day.road_weather_factor(&self.conditions.weather, point, time_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incidents_slow_the_road_while_they_last() {
        let (seed, world) = (Key::new(7), Arc::new(World::new()));
        let conditions = Arc::new(Conditions::new(seed, &world));
        let mut view = View::new(Arc::clone(&world), Arc::clone(&conditions));
        let incidents = conditions.incidents(&world, 20_458);
        assert!(incidents.len() > 100);
        let mut freed = 0;
        for incident in &incidents {
            let mut traffic = |segment, time_us| view.found(segment, incident.point, time_us).traffic;
            let behind = world.upstream(incident.segment);
            let during = traffic(incident.segment, incident.reported_us);
            assert!(during <= 0.45, "{}: {during}", incident.id);
            if let Some(behind) = behind {
                assert!(traffic(behind, incident.reported_us) < 0.7, "{}", incident.id);
            }
            freed += usize::from(traffic(incident.segment, incident.resolved_us) > during + 0.1);
        }
        // Now and then another one is near.
        assert!(freed * 20 > incidents.len() * 19, "{freed} of {}", incidents.len());
    }
}
