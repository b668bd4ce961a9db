//! Event time: microseconds since the Unix epoch, UTC, read from ISO 8601 text in plain integer arithmetic.

/// Microseconds in a day.
pub const DAY_US: i64 = 86_400_000_000;

/// Reads `YYYY-MM-DDTHH:MM[:SS[.fraction]][zone]` as microseconds since the epoch, UTC (ISO 8601 / RFC 3339).
///
/// `T` may be `t` or one space; the zone is `Z`, `±HH`, `±HHMM` or `±HH:MM` (up to 18 hours), and none means UTC. A
/// fraction has 1 to 9 digits and is cut to microseconds. Years 0001 to 9999. `None` for anything else, leap seconds
/// included.
#[inline]
pub fn parse(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_first_chunk::<10>()?;
    let year = digits(&date[0..4])?;
    let (month, day) = (digits(&date[5..7])?, digits(&date[8..10])?);
    if date[4] != b'-' || date[7] != b'-' || year == 0 || !(1..=12).contains(&month) {
        return None;
    }
    if day == 0 || day > days_in_month(year, month) {
        return None;
    }
    let (separator, rest) = rest.split_first()?;
    let (time, mut rest) = rest.split_first_chunk::<5>()?;
    let (hour, minute) = (digits(&time[0..2])?, digits(&time[3..5])?);
    if !matches!(separator, b'T' | b't' | b' ') || time[2] != b':' || hour > 23 || minute > 59 {
        return None;
    }
    let (mut second, mut fraction_us) = (0, 0);
    if let Some((seconds, after)) = rest.split_first_chunk::<3>()
        && seconds[0] == b':'
    {
        second = digits(&seconds[1..3]).filter(|second| *second < 60)?;
        rest = after;
        if let [b'.', after @ ..] = rest {
            let len = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=9).contains(&len) {
                return None;
            }
            let kept = len.min(6);
            fraction_us = digits(&after[..kept])? * 10_i64.pow(6 - kept as u32);
            rest = &after[len..];
        }
    }
    let seconds = (days_from_civil(year, month, day) * 24 + hour) * 3600 + minute * 60 + second - zone(rest)?;
    Some(seconds * 1_000_000 + fraction_us)
}

/// Days since the epoch of the day that holds this instant: the value of `event_date`.
#[inline]
pub fn days(event_time_us: i64) -> i32 {
    event_time_us.div_euclid(DAY_US) as i32
}

/// Year, month and day of a number of days since the epoch (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
pub fn civil_from_days(days: i32) -> (i32, u32, u32) {
    let shifted = i64::from(days) + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as i32, month as u32, day as u32)
}

/// Days since the epoch of a proleptic Gregorian date; the inverse of [`civil_from_days`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Seconds east of UTC.
fn zone(text: &[u8]) -> Option<i64> {
    let (sign, rest) = match text {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match rest {
        [_, _] => (digits(rest)?, 0),
        [_, _, _, _] => (digits(&rest[0..2])?, digits(&rest[2..4])?),
        [_, _, b':', _, _] => (digits(&rest[0..2])?, digits(&rest[3..5])?),
        _ => return None,
    };
    (hours <= 18 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn digits(text: &[u8]) -> Option<i64> {
    let mut value = 0;
    for byte in text {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(byte - b'0');
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_instants() {
        for (text, us) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-01-01T00:00:00", 1_767_225_600_000_000),
            ("2026-01-01 00:00", 1_767_225_600_000_000),
            ("2026-01-01T01:30:00+01:30", 1_767_225_600_000_000),
            ("2025-12-31T19:00:00.5-0500", 1_767_225_600_500_000),
            ("2025-12-31T19:00:00-05", 1_767_225_600_000_000),
            ("1969-12-31T23:59:59.999999", -1),
            ("2024-02-29T00:00:00.123456789Z", 1_709_164_800_123_456),
            ("9999-12-31T23:59:59.999999", 253_402_300_799_999_999),
            ("0001-01-01T00:00:00", -62_135_596_800_000_000),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(us), "{text}");
        }
    }

    #[test]
    fn what_is_no_timestamp() {
        for text in [
            "",
            "2026-01-01",
            "2026-01-01T",
            "2026-02-29T00:00:00",
            "2026-13-01T00:00:00",
            "2026-00-01T00:00:00",
            "2026-01-00T00:00:00",
            "0000-01-01T00:00:00",
            "2026-01-01T24:00:00",
            "2026-01-01T23:60:00",
            "2026-01-01T23:59:60",
            "2026-01-01T00:00:00.",
            "2026-01-01T00:00:00.1234567890",
            "2026-01-01T00:00:00+19:00",
            "2026-01-01T00:00:00 UTC",
            "2026-01-01T00:00:00Zx",
            "+026-01-01T00:00:00",
            "2026-1-1T00:00:00",
            "1767225600",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn dates_survive_the_round_trip(days in -719_162..2_932_896_i32) {
            let (year, month, day) = civil_from_days(days);
            let text = format!("{year:04}-{month:02}-{day:02}T00:00:00");
            prop_assert_eq!(parse(text.as_bytes()), Some(i64::from(days) * DAY_US));
            prop_assert_eq!(super::days(i64::from(days) * DAY_US + 1), days);
            prop_assert_eq!(super::days(i64::from(days) * DAY_US - 1), days - 1);
        }

        #[test]
        fn nothing_makes_it_panic(text in prop::collection::vec(any::<u8>(), 0..40)) {
            parse(&text);
        }
    }
}
