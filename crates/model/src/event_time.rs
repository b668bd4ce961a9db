//! Event time: microseconds since the Unix epoch, UTC, read from ISO 8601 text in plain integer arithmetic.

/// Microseconds in a day.
pub const DAY_US: i64 = 86_400_000_000;

/// Reads `YYYY-MM-DDTHH:MM[:SS[.fraction]][zone]` as microseconds since the epoch, UTC (ISO 8601 / RFC 3339).
///
/// `T` may be `t` or one space; the zone is `Z`, `±HH`, `±HHMM` or `±HH:MM` (up to 18 hours), and none means UTC. The
/// zone's name may follow in brackets (RFC 9557), as Java and JavaScript write it; the offset counts. A fraction has 1 to
/// 9 digits and is cut to microseconds. Years 0001 to 9999. `None` for anything else, leap seconds included.
#[inline]
pub fn parse(text: &[u8]) -> Option<i64> {
    let (day, rest) = text.split_first_chunk::<10>()?;
    let days = parse_date(day)?;
    let (separator, rest) = rest.split_first()?;
    if !matches!(separator, b'T' | b't' | b' ') {
        return None;
    }
    let (of_day_us, rest) = read_time(rest)?;
    Some(i64::from(days) * DAY_US + of_day_us - zone(rest)? * 1_000_000)
}

/// Reads `YYYY-MM-DD` as days since the epoch. Years 0001 to 9999.
#[inline]
pub fn parse_date(text: &[u8]) -> Option<i32> {
    let text: &[u8; 10] = text.try_into().ok()?;
    if text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    date(digits(&text[0..4])?, digits(&text[5..7])?, digits(&text[8..10])?)
}

/// Reads `HH:MM[:SS[.fraction]]` as microseconds since midnight; a fraction as in [`parse`].
pub fn parse_time(text: &[u8]) -> Option<i64> {
    read_time(text).filter(|(_, rest)| rest.is_empty()).map(|(us, _)| us)
}

/// The time at the front of `text`, and what follows it.
#[inline]
fn read_time(text: &[u8]) -> Option<(i64, &[u8])> {
    let (time, mut rest) = text.split_first_chunk::<5>()?;
    let (hour, minute) = (digits(&time[0..2])?, digits(&time[3..5])?);
    if time[2] != b':' {
        return None;
    }
    let (mut second, mut us) = (0, 0);
    if let Some((seconds, after)) = rest.split_first_chunk::<3>()
        && seconds[0] == b':'
    {
        second = digits(&seconds[1..3])?;
        rest = after;
        if let [b'.', after @ ..] = rest {
            (us, rest) = fraction_us(after)?;
        }
    }
    Some((of_day_us(hour, minute, second, us)?, rest))
}

/// The decimals of a second at the front of `text`, cut to microseconds, and what follows them.
#[inline]
pub(crate) fn fraction_us(text: &[u8]) -> Option<(i64, &[u8])> {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=9).contains(&len) {
        return None;
    }
    let kept = len.min(6);
    Some((digits(&text[..kept])? * 10_i64.pow(6 - kept as u32), &text[len..]))
}

/// Days since the epoch of a date of the Gregorian calendar, years 0001 to 9999; `None` where there is no such day.
#[inline]
pub fn date(year: i64, month: i64, day: i64) -> Option<i32> {
    let exists =
        (1..=9999).contains(&year) && (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    exists.then(|| days_from_civil(year, month, day) as i32)
}

/// Microseconds since midnight; `None` where there is no such time, leap seconds included.
#[inline]
pub fn of_day_us(hour: i64, minute: i64, second: i64, us: i64) -> Option<i64> {
    let exists = (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second)
        && (0..1_000_000).contains(&us);
    exists.then(|| (hour * 3600 + minute * 60 + second) * 1_000_000 + us)
}

/// `HH:MM:SS.ffffff` of a time of day in microseconds since midnight: the form in which `time` columns hold it.
pub fn time_text(of_day_us: i64) -> [u8; 15] {
    let mut text = *b"00:00:00.000000";
    let seconds = of_day_us / 1_000_000;
    let parts = [
        (0, 2, seconds / 3600),
        (3, 2, seconds / 60 % 60),
        (6, 2, seconds % 60),
        (9, 6, of_day_us % 1_000_000),
    ];
    for (at, len, mut number) in parts {
        for digit in text[at..at + len].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    text
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
pub(crate) fn zone(text: &[u8]) -> Option<i64> {
    let (sign, rest) = match text {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return named_zone(text),
    };
    let (hours, minutes) = match rest {
        [_, _] => (digits(rest)?, 0),
        [_, _, _, _] => (digits(&rest[0..2])?, digits(&rest[2..4])?),
        [_, _, b':', _, _] => (digits(&rest[0..2])?, digits(&rest[3..5])?),
        _ => return named_zone(text),
    };
    (hours <= 18 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// An offset with the zone's name behind it: `+01:00[Europe/Paris]`.
#[cold]
fn named_zone(text: &[u8]) -> Option<i64> {
    let offset_end = text.iter().position(|byte| *byte == b'[').filter(|at| *at > 0)?;
    let (offset, name) = text.split_at(offset_end);
    let [b'[', name @ .., b']'] = name else {
        return None;
    };
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"/_+-".contains(byte);
    (!name.is_empty() && name.iter().all(is_name)).then(|| zone(offset))?
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
            ("2026-01-01T01:00:00+01:00[Europe/Paris]", 1_767_225_600_000_000),
            ("2026-01-01T00:00Z[Etc/UTC]", 1_767_225_600_000_000),
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
            "2026-01-01T00:00:00[Europe/Paris]",
            "2026-01-01T00:00:00Z[]",
            "2026-01-01T00:00:00Z[UTC",
            "2026-01-01T00:00:00Z[a][b]",
            "1767225600",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn dates_and_times_alone() {
        assert_eq!(parse_date(b"1970-01-02"), Some(1));
        assert_eq!(parse_date(b"0001-01-01"), Some(-719_162));
        for text in [
            "1970-1-2",
            "1970-01-02T00:00",
            "1970-02-30",
            "0000-01-01",
            "19700102",
            "",
        ] {
            assert_eq!(parse_date(text.as_bytes()), None, "{text}");
        }
        for (text, us, shown) in [
            ("00:00", 0, "00:00:00.000000"),
            ("23:59:59.999999999", 86_399_999_999, "23:59:59.999999"),
            ("03:04:05.6", 11_045_600_000, "03:04:05.600000"),
        ] {
            assert_eq!(parse_time(text.as_bytes()), Some(us), "{text}");
            assert_eq!(time_text(us), shown.as_bytes());
        }
        for text in ["24:00", "1:00", "10:60", "10:00:60", "10:00Z", "10:00:00.", "10"] {
            assert_eq!(parse_time(text.as_bytes()), None, "{text}");
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
