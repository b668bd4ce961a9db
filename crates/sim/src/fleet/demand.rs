//! How traffic goes by the hour: the shape of a day, and what it makes of a road's load.

/// Hours of a day by their part of the day's traffic, the first from midnight UTC. The shape is that of traffic counts
/// on Great Britain's roads: two peaks on a working day, one broad hill at the weekend.
const WORKING_DAY: [f64; 24] = [
    0.9, 0.6, 0.5, 0.6, 1.1, 2.6, 5.0, 7.3, 7.6, 6.0, 5.3, 5.3, 5.4, 5.5, 5.8, 6.7, 7.7, 8.0, 6.2, 4.3, 3.1, 2.4, 1.8,
    1.3,
];
const WEEKEND: [f64; 24] = [
    1.5, 1.0, 0.8, 0.7, 0.8, 1.3, 2.0, 3.0, 4.4, 5.9, 7.1, 7.6, 7.6, 7.4, 7.2, 7.1, 6.9, 6.5, 5.7, 4.6, 3.6, 2.9, 2.3,
    1.8,
];
/// The fullest hour of a working day, in percent of the day.
const FULLEST: f64 = 8.0;
const HOUR_US: i64 = 3_600_000_000;

/// 0 Monday to 6 Sunday. Day 0 of the epoch was a Thursday.
pub(crate) fn weekday(day: i32) -> i32 {
    (day + 3).rem_euclid(7)
}

/// Percent of a working day's traffic in the hour around this moment, between hours by straight lines.
#[inline]
pub(crate) fn hourly(time_us: i64) -> f64 {
    let day = time_us.div_euclid(24 * HOUR_US) as i32;
    let of_day = time_us.rem_euclid(24 * HOUR_US);
    // An hour's count stands at its middle.
    let at = of_day as f64 / HOUR_US as f64 - 0.5;
    let (before, part) = if at < 0.0 {
        (23, at + 1.0)
    } else {
        (at as usize, at - at.floor())
    };
    let table = if weekday(day) < 5 { &WORKING_DAY } else { &WEEKEND };
    table[before] * (1.0 - part) + table[(before + 1) % 24] * part
}

/// The same, 1 at the fullest hour of a working day.
#[inline]
pub(crate) fn shape(time_us: i64) -> f64 {
    (hourly(time_us) / FULLEST).min(1.0)
}

/// How the tide stands: above 1 into towns in the morning, out of them in the evening.
#[inline]
pub(crate) fn tide(direction: f32, time_us: i64) -> f64 {
    let hour = time_us.rem_euclid(24 * HOUR_US) as f64 / HOUR_US as f64;
    let swing = match hour {
        6.0..11.0 => 1.0 - (hour - 8.5).abs() / 2.5,
        15.0..20.0 => (hour - 17.5).abs() / 2.5 - 1.0,
        _ => 0.0,
    };
    1.0 + 0.22 * f64::from(direction) * swing
}

/// What is left of a road's free speed when `flow` vehicles an hour meet a capacity: a curve of the form that the Bureau of
/// Public Roads published, steeper, so that a road near its capacity is felt.
#[inline]
pub(crate) fn speed_factor(flow: f64, capacity: f64) -> f64 {
    let load = flow / capacity;
    let load2 = load * load;
    (1.0 / (1.0 + 0.5 * load2 * load2 * load)).max(0.3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_whole() {
        for table in [WORKING_DAY, WEEKEND] {
            let sum: f64 = table.iter().sum();
            assert!((sum - 100.0).abs() < 1.5, "{sum}");
        }
        assert_eq!(weekday(0), 3);
        // 2026-01-05 was a Monday: day 20458.
        assert_eq!(weekday(20_458), 0);
    }

    #[test]
    fn between_hours_nothing_jumps() {
        let day = 20_458_i64 * 24 * HOUR_US;
        for minute in 0..24 * 60 {
            let at = day + minute * 60_000_000;
            assert!((hourly(at + 60_000_000) - hourly(at)).abs() < 0.2, "minute {minute}");
        }
        assert!((hourly(day + HOUR_US / 2) - 0.9).abs() < 1e-9);
        assert!((hourly(day + 17 * HOUR_US + HOUR_US / 2) - 8.0).abs() < 1e-9);
    }

    #[test]
    fn full_roads_are_slow() {
        assert_eq!(speed_factor(0.0, 1000.0), 1.0);
        assert!(speed_factor(700.0, 1000.0) > 0.9);
        assert!((0.6..0.7).contains(&speed_factor(1000.0, 1000.0)));
        assert!(speed_factor(9000.0, 1000.0) >= 0.3);
        assert!(tide(1.0, 8 * HOUR_US) > 1.1 && tide(1.0, 18 * HOUR_US) < 0.9 && tide(0.0, 0) == 1.0);
    }
}
