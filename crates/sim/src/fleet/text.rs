//! Writing records: plain bytes into a buffer, numbers with a fixed count of decimals.

use crate::isoformat::isoformat;

#[inline]
pub(crate) fn put(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(text);
}

#[inline]
pub(crate) fn integer(out: &mut Vec<u8>, value: u64) {
    put(out, itoa::Buffer::new().format(value).as_bytes());
}

/// Writes a number with `DECIMALS` decimals, rounded to the nearest; always with a point, so that it reads as a double.
#[inline]
pub(crate) fn fixed<const DECIMALS: u32>(out: &mut Vec<u8>, value: f64) {
    let scale = const { 10_u64.pow(DECIMALS) };
    let scaled = (value.abs() * scale as f64 + 0.5) as u64;
    if value < 0.0 && scaled > 0 {
        out.push(b'-');
    }
    let (whole, part) = (scaled / scale, scaled % scale);
    integer(out, whole);
    // The part with a leading 1 in front of it keeps its zeros; the point takes the 1's place.
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(part + scale).as_bytes();
    out.push(b'.');
    put(out, &digits[1..]);
}

/// An id in the form of a UUID of version 7 (RFC 9562): the event time in milliseconds, the device, the stream and 47
/// bits that only the run's seed gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id {
    pub(crate) time_ms: u64,
    /// At most 24 bits.
    pub(crate) device: u32,
    pub(crate) stream: u8,
    /// 47 bits.
    pub(crate) mark: u64,
}

/// Bytes of an id as text.
pub(crate) const ID_BYTES: usize = 36;
const HEX: &[u8; 16] = b"0123456789abcdef";
const PAIRS: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [HEX[byte >> 4], HEX[byte & 15]];
        byte += 1;
    }
    pairs
};

impl Id {
    #[inline]
    pub(crate) fn to_text(self) -> [u8; ID_BYTES] {
        let free = u128::from(self.device) << 50 | u128::from(self.stream) << 47 | u128::from(self.mark);
        // 74 free bits: 12 before the variant, 62 after it.
        let bits =
            u128::from(self.time_ms) << 80 | 0x7 << 76 | (free >> 62) << 64 | 0b10 << 62 | (free & ((1 << 62) - 1));
        let bytes = bits.to_be_bytes();
        let mut text = [b'-'; ID_BYTES];
        let mut at = 0;
        for (index, byte) in bytes.into_iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                at += 1;
            }
            text[at..at + 2].copy_from_slice(&PAIRS[usize::from(byte)]);
            at += 2;
        }
        text
    }

    /// Reads what [`Self::to_text`] wrote; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() != ID_BYTES || !text.is_ascii() {
            return None;
        }
        let digits: String = text.chars().filter(|character| *character != '-').collect();
        let bits = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?;
        if bits >> 76 & 0xf != 7 || bits >> 62 & 0b11 != 0b10 {
            return None;
        }
        let free = (bits >> 64 & 0xfff) << 62 | (bits & ((1 << 62) - 1));
        let id = Self {
            time_ms: (bits >> 80) as u64,
            device: (free >> 50) as u32,
            stream: (free >> 47 & 7) as u8,
            mark: (free & ((1 << 47) - 1)) as u64,
        };
        (id.to_text() == text.as_bytes()).then_some(id)
    }
}

/// Bytes of a timestamp: `2026-01-05T08:00:00.000`, always with milliseconds, without a zone.
pub(crate) const TIMESTAMP_BYTES: usize = 23;

/// Writes timestamps; the next one is mostly of the same second.
#[derive(Debug, Clone)]
pub(crate) struct Timestamps {
    second: i64,
    text: [u8; TIMESTAMP_BYTES],
}

impl Timestamps {
    pub(crate) fn new() -> Self {
        Self {
            second: i64::MIN,
            text: [b'0'; TIMESTAMP_BYTES],
        }
    }

    /// The time in ISO 8601, UTC. Years 0001 to 9999.
    #[inline]
    pub(crate) fn text(&mut self, time_us: i64) -> [u8; TIMESTAMP_BYTES] {
        let second = time_us.div_euclid(1_000_000);
        if second != self.second {
            self.second = second;
            let text = isoformat(second * 1_000_000);
            let text = text.as_bytes();
            if text.len() == 19 {
                self.text[..19].copy_from_slice(text);
            }
            self.text[19] = b'.';
        }
        let ms = (time_us.rem_euclid(1_000_000) / 1000) as u16;
        self.text[20] = b'0' + (ms / 100) as u8;
        self.text[21] = b'0' + (ms / 10 % 10) as u8;
        self.text[22] = b'0' + (ms % 10) as u8;
        self.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fixed_text<const DECIMALS: u32>(value: f64) -> String {
        let mut out = Vec::new();
        fixed::<DECIMALS>(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_as_people_write_them() {
        assert_eq!(fixed_text::<6>(-0.1278), "-0.127800");
        assert_eq!(fixed_text::<6>(51.507_4), "51.507400");
        assert_eq!(fixed_text::<1>(112.66), "112.7");
        assert_eq!(fixed_text::<1>(0.0), "0.0");
        assert_eq!(fixed_text::<2>(-0.001), "0.00");
        assert_eq!(fixed_text::<2>(9.999), "10.00");
    }

    #[test]
    fn times_have_milliseconds() {
        let mut timestamps = Timestamps::new();
        assert_eq!(&timestamps.text(1_767_225_600_007_999), b"2026-01-01T00:00:00.007");
        assert_eq!(&timestamps.text(1_767_225_600_120_000), b"2026-01-01T00:00:00.120");
        assert_eq!(&timestamps.text(1_767_225_601_000_000), b"2026-01-01T00:00:01.000");
    }

    proptest! {
        #[test]
        fn fixed_numbers_are_near(value in -1e6_f64..1e6) {
            let read: f64 = fixed_text::<3>(value).parse().unwrap();
            prop_assert!((read - value).abs() <= 0.000_500_1);
        }

        #[test]
        fn ids_come_back(time_ms in 0_u64..1 << 48, device in 0_u32..1 << 24, stream in 0_u8..8, mark in 0_u64..1 << 47) {
            let id = Id { time_ms, device, stream, mark };
            let text = id.to_text();
            let text = std::str::from_utf8(&text).unwrap();
            prop_assert_eq!(Id::parse(text), Some(id));
            prop_assert_eq!(Id::parse(&text[1..]), None);
        }
    }
}
