//! Timestamps as Python's naive `datetime.isoformat()` writes them. `model::event_time::parse` reads them back.

use model::event_time::{DAY_US, civil_from_days, days};

/// `YYYY-MM-DDTHH:MM:SS`, with `.ffffff` only when there are microseconds to show, and no zone.
///
/// `event_time_us` counts microseconds since the Unix epoch, UTC. Years outside 1 to 9999, which Python refuses, are
/// written with as many digits (and the sign) as they need.
pub fn isoformat(event_time_us: i64) -> String {
    let (year, month, day) = civil_from_days(days(event_time_us));
    let of_day_us = event_time_us.rem_euclid(DAY_US);
    let (of_day_s, fraction_us) = (of_day_us / 1_000_000, of_day_us % 1_000_000);
    let (hour, minute, second) = (of_day_s / 3600, of_day_s / 60 % 60, of_day_s % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if fraction_us != 0 {
        text.push_str(&format!(".{fraction_us:06}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use model::event_time::parse;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_instants() {
        for (us, text) in [
            (0, "1970-01-01T00:00:00"),
            (-1, "1969-12-31T23:59:59.999999"),
            (1_767_225_600_000_000, "2026-01-01T00:00:00"),
            (1_709_164_800_000_120, "2024-02-29T00:00:00.000120"),
            (-62_135_596_800_000_000, "0001-01-01T00:00:00"),
            (253_402_300_799_999_999, "9999-12-31T23:59:59.999999"),
        ] {
            assert_eq!(isoformat(us), text);
        }
    }

    #[test]
    fn the_ends_of_the_type_do_not_panic() {
        isoformat(i64::MIN);
        isoformat(i64::MAX);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(us in -62_135_596_800_000_000_i64..=253_402_300_799_999_999) {
            prop_assert_eq!(parse(isoformat(us).as_bytes()), Some(us));
        }
    }
}
