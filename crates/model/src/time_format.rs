//! Declared formats of timestamps, dates and times, in the notation of C's and Python's `strptime`.

use crate::event_time::{self, DAY_US};

/// A format such as `%d.%m.%Y %H:%M`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeFormat {
    text: String,
    items: Vec<Item>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Literal(u8),
    /// One space or more, or none.
    Space,
    Year,
    /// Two digits; 69 to 99 are of the last century, as POSIX has it.
    YearOfCentury,
    Month,
    MonthName,
    Day,
    DayOfYear,
    Hour,
    /// 1 to 12, with [`Item::Half`].
    HourOfHalf,
    Half,
    Minute,
    Second,
    Fraction,
    Zone,
}

/// What was read so far.
#[derive(Default)]
struct Read {
    year: i64,
    month: i64,
    day: i64,
    day_of_year: Option<i64>,
    hour: i64,
    is_afternoon: Option<bool>,
    minute: i64,
    second: i64,
    fraction_us: i64,
    zone_seconds: i64,
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

impl TimeFormat {
    /// # Errors
    /// What is wrong with the format, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut items = Vec::new();
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            items.push(match byte {
                b'%' => match bytes.next() {
                    Some(b'Y') => Item::Year,
                    Some(b'y') => Item::YearOfCentury,
                    Some(b'm') => Item::Month,
                    Some(b'b' | b'B') => Item::MonthName,
                    Some(b'd' | b'e') => Item::Day,
                    Some(b'j') => Item::DayOfYear,
                    Some(b'H') => Item::Hour,
                    Some(b'I') => Item::HourOfHalf,
                    Some(b'p') => Item::Half,
                    Some(b'M') => Item::Minute,
                    Some(b'S') => Item::Second,
                    Some(b'f') => Item::Fraction,
                    Some(b'z') => Item::Zone,
                    Some(b'%') => Item::Literal(b'%'),
                    _ => {
                        return Err(format!(
                            "format `{text}`: use %Y %y %m %b %d %j for dates, %H %I %p %M %S %f %z for times, %% for %"
                        ));
                    }
                },
                b' ' => Item::Space,
                byte => Item::Literal(byte),
            });
        }
        let format = Self {
            text: text.to_owned(),
            items,
        };
        if !format.has_date() && !format.has_time() {
            return Err(format!(
                "format `{text}` has neither a date (%Y with %m and %d, or %j) nor a time (%H)"
            ));
        }
        Ok(format)
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn has(&self, item: Item) -> bool {
        self.items.contains(&item)
    }

    /// Whether it has all of a date.
    pub(crate) fn has_date(&self) -> bool {
        let has_month = self.has(Item::Month) || self.has(Item::MonthName);
        (self.has(Item::Year) || self.has(Item::YearOfCentury))
            && (self.has(Item::DayOfYear) || has_month && self.has(Item::Day))
    }

    /// Whether it has a time of day.
    pub(crate) fn has_time(&self) -> bool {
        self.has(Item::Hour) || self.has(Item::HourOfHalf) && self.has(Item::Half)
    }

    /// Microseconds since the epoch; without a zone in the format the text is UTC, without a time it is midnight.
    pub fn timestamp(&self, text: &[u8]) -> Option<i64> {
        let read = self.read(text)?;
        let days = read.days()?;
        Some(i64::from(days) * DAY_US + read.of_day_us()? - read.zone_seconds * 1_000_000)
    }

    /// Days since the epoch.
    pub fn date(&self, text: &[u8]) -> Option<i32> {
        self.read(text)?.days()
    }

    /// Microseconds since midnight.
    pub fn time(&self, text: &[u8]) -> Option<i64> {
        self.read(text)?.of_day_us()
    }

    fn read(&self, mut text: &[u8]) -> Option<Read> {
        let mut read = Read::default();
        for item in &self.items {
            text = item.read(text, &mut read)?;
        }
        text.is_empty().then_some(read)
    }
}

impl Item {
    /// Reads the item at the front of `text`; what follows it.
    fn read<'a>(self, text: &'a [u8], read: &mut Read) -> Option<&'a [u8]> {
        match self {
            Item::Literal(byte) => return text.strip_prefix(&[byte]),
            Item::Space => return Some(text.trim_ascii_start()),
            Item::Year => {
                let (year, rest) = digits(text, 4, 4)?;
                read.year = year;
                return Some(rest);
            }
            Item::YearOfCentury => {
                let (year, rest) = digits(text, 2, 2)?;
                read.year = if year < 69 { 2000 + year } else { 1900 + year };
                return Some(rest);
            }
            Item::MonthName => return month_name(text, read),
            Item::DayOfYear => {
                let (day, rest) = digits(text, 1, 3)?;
                read.day_of_year = Some(day);
                return Some(rest);
            }
            Item::Half => {
                let (half, rest) = text.split_first_chunk::<2>()?;
                read.is_afternoon = Some(match half.to_ascii_lowercase().as_slice() {
                    b"am" => false,
                    b"pm" => true,
                    _ => return None,
                });
                return Some(rest);
            }
            Item::Fraction => {
                let (fraction_us, rest) = event_time::fraction_us(text)?;
                read.fraction_us = fraction_us;
                return Some(rest);
            }
            Item::Zone => {
                let len = text.iter().take_while(|byte| !byte.is_ascii_whitespace()).count();
                let (zone, rest) = text.split_at(len);
                read.zone_seconds = event_time::zone(zone).filter(|_| len > 0)?;
                return Some(rest);
            }
            Item::Month | Item::Day | Item::Hour | Item::HourOfHalf | Item::Minute | Item::Second => {}
        }
        let (number, rest) = digits(text, 1, 2)?;
        let target = match self {
            Item::Month => &mut read.month,
            Item::Day => &mut read.day,
            Item::Minute => &mut read.minute,
            Item::Second => &mut read.second,
            Item::HourOfHalf if !(1..=12).contains(&number) => return None,
            _ => &mut read.hour,
        };
        *target = number;
        Some(rest)
    }
}

impl Read {
    fn days(&self) -> Option<i32> {
        let Some(day) = self.day_of_year else {
            return event_time::date(self.year, self.month, self.day);
        };
        let first = event_time::date(self.year, 1, 1)?;
        let last = event_time::date(self.year, 12, 31)?;
        let day = first.checked_add(i32::try_from(day).ok()? - 1)?;
        (first..=last).contains(&day).then_some(day)
    }

    fn of_day_us(&self) -> Option<i64> {
        let hour = match self.is_afternoon {
            None => self.hour,
            Some(is_afternoon) => self.hour % 12 + if is_afternoon { 12 } else { 0 },
        };
        event_time::of_day_us(hour, self.minute, self.second, self.fraction_us)
    }
}

/// A number of `min` to `max` digits, as many as there are.
fn digits(text: &[u8], min: usize, max: usize) -> Option<(i64, &[u8])> {
    let len = text.iter().take(max).take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at(len);
    (len >= min).then(|| {
        (
            number.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')),
            rest,
        )
    })
}

/// An English name, or its first three letters.
fn month_name<'a>(text: &'a [u8], read: &mut Read) -> Option<&'a [u8]> {
    let len = text.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let (name, rest) = text.split_at(len);
    let position = MONTHS.iter().position(|month| {
        [month, &month[..3]]
            .iter()
            .any(|known| known.as_bytes().eq_ignore_ascii_case(name))
    })?;
    read.month = position as i64 + 1;
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_by_their_formats() {
        for (format, text, iso) in [
            ("%d.%m.%Y %H:%M", "31.01.2026 12:05", "2026-01-31T12:05"),
            ("%d.%m.%Y %H:%M", "1.1.2026 2:05", "2026-01-01T02:05"),
            ("%Y-%m-%d", "2026-01-31", "2026-01-31T00:00"),
            ("%Y%m%d%H%M%S", "20260131120501", "2026-01-31T12:05:01"),
            ("%m/%d/%y %I:%M %p", "01/31/26 12:05 am", "2026-01-31T00:05"),
            ("%m/%d/%y %I:%M %p", "01/31/69 1:05 PM", "1969-01-31T13:05"),
            ("%d %b %Y", "31 Jan 2026", "2026-01-31T00:00"),
            ("%B %d, %Y", "february 01, 2026", "2026-02-01T00:00"),
            ("%Y-%j", "2024-366", "2024-12-31T00:00"),
            (
                "%d/%b/%Y:%H:%M:%S %z",
                "31/Jan/2026:12:05:01 +0130",
                "2026-01-31T10:35:01",
            ),
            (
                "%Y-%m-%d %H:%M:%S,%f",
                "2026-01-31 12:05:01,123",
                "2026-01-31T12:05:01.123",
            ),
            ("100%% %Y-%m-%d", "100% 2026-01-31", "2026-01-31T00:00"),
        ] {
            let read = TimeFormat::parse(format).unwrap().timestamp(text.as_bytes());
            assert!(read.is_some(), "{format} {text}");
            assert_eq!(read, event_time::parse(iso.as_bytes()), "{format} {text}");
        }
        let time = TimeFormat::parse("%H.%M").unwrap();
        assert_eq!(time.time(b"23.59"), Some(86_340_000_000));
        assert_eq!(time.date(b"23.59"), None);
    }

    #[test]
    fn texts_that_do_not_fit() {
        for (format, text) in [
            ("%d.%m.%Y", "31.02.2026"),
            ("%d.%m.%Y", "01.01.26"),
            ("%d.%m.%Y", "01.01.2026 "),
            ("%d.%m.%Y", "01-01-2026"),
            ("%Y-%m-%d %H:%M", "2026-01-01 24:00"),
            ("%Y-%j", "2025-366"),
            ("%Y-%j", "2025-0"),
            ("%d %b %Y", "31 Jänner 2026"),
            ("%d %b %Y", "31 Ja 2026"),
            ("%H:%M %z", "10:00 CET"),
            ("%Y-%m-%d %I:%M %p", "2026-01-01 13:00 pm"),
        ] {
            let format = TimeFormat::parse(format).unwrap();
            assert_eq!(format.timestamp(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn bad_formats_say_what_is_wrong() {
        for (format, says) in [
            ("%Q", "use %Y"),
            ("%", "use %Y"),
            ("%d.%m.", "neither a date"),
            ("now", "neither a date"),
            ("%I:%M", "nor a time"),
        ] {
            let error = TimeFormat::parse(format).unwrap_err();
            assert!(error.contains(says), "{format}: {error}");
        }
    }
}
