//! JSON numbers: checked, read into a decimal once, and made into binary64 exactly.

use crate::error::Fault;
use crate::error_class::ErrorClass;

/// A number: `mantissa * 10^exponent`, its sign aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) start: u32,
    pub(super) end: u32,
    /// All digits as one integer; meaningless unless `fits`.
    mantissa: u64,
    exponent: i32,
    negative: bool,
    /// Written without fraction and exponent.
    whole: bool,
    /// The digits fit `mantissa`.
    fits: bool,
}

/// As many digits always fit 64 bits.
const DIGITS_MAX: u32 = 19;
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// Reads the number at `at`, which is at a digit or a minus.
#[inline(always)]
pub(super) fn read_number(bytes: &[u8], at: &mut usize) -> Result<Number, Fault> {
    let start = *at;
    let negative = bytes.get(start) == Some(&b'-');
    *at += usize::from(negative);
    let mut mantissa = 0;
    let mut digits = 0;
    match bytes.get(*at) {
        Some(b'0') => {
            *at += 1;
            digits = 1;
        }
        Some(b'1'..=b'9') => digits += read_few_digits(bytes, at, &mut mantissa),
        _ => return Err(no_digit(bytes, *at)),
    }
    let mut whole = true;
    let mut exponent = 0;
    if bytes.get(*at) == Some(&b'.') {
        *at += 1;
        whole = false;
        let fraction = read_digits(bytes, at, &mut mantissa);
        if fraction == 0 {
            return Err(no_digit(bytes, *at));
        }
        digits = digits.saturating_add(fraction);
        exponent = 0_i32.saturating_sub_unsigned(fraction);
    }
    if let Some(b'e' | b'E') = bytes.get(*at) {
        whole = false;
        *at += 1;
        exponent = exponent.saturating_add(read_exponent(bytes, at)?);
    }
    let (start, end) = (start as u32, *at as u32);
    Ok(Number {
        start,
        end,
        mantissa,
        exponent,
        negative,
        whole,
        fits: digits <= DIGITS_MAX,
    })
}

#[cold]
fn no_digit(bytes: &[u8], at: usize) -> Fault {
    let what = if at >= bytes.len() {
        "cut off"
    } else {
        "a number lacks a digit"
    };
    Fault::at(ErrorClass::NotJson, at, what)
}

/// Appends the digits at `at` to `mantissa` (which wraps when there are too many); how many there were.
#[inline]
fn read_digits(bytes: &[u8], at: &mut usize, mantissa: &mut u64) -> u32 {
    let start = *at;
    while let Some(word) = bytes.get(*at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*word);
        // A digit's difference to '0' is at most 9; adding 0x76 to more than that sets the byte's high bit.
        let values = word ^ ZEROS;
        let others = (((values & 0x7F7F_7F7F_7F7F_7F7F) + 0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080;
        let count = others.trailing_zeros() / 8;
        if count == 8 {
            *mantissa = mantissa.wrapping_mul(100_000_000).wrapping_add(eight_digits(values));
            *at += 8;
            continue;
        }
        if count > 0 {
            // The digits move to the top, zeros follow below: leading zeros of the block of eight.
            let block = eight_digits(values << (64 - 8 * count));
            *mantissa = mantissa.wrapping_mul(POWERS_OF_TEN[count as usize]).wrapping_add(block);
            *at += count as usize;
        }
        return (*at - start) as u32;
    }
    read_few_digits(bytes, at, mantissa);
    (*at - start) as u32
}

/// As [`read_digits`], one by one: before a decimal point there are few.
#[inline]
fn read_few_digits(bytes: &[u8], at: &mut usize, mantissa: &mut u64) -> u32 {
    let start = *at;
    while let Some(digit @ b'0'..=b'9') = bytes.get(*at) {
        *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        *at += 1;
    }
    (*at - start) as u32
}

const POWERS_OF_TEN: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];

/// The number that eight digits' values make, the first in the lowest byte: pairs, then fours, then all.
#[inline]
fn eight_digits(values: u64) -> u64 {
    let pairs = (values * 10) + (values >> 8);
    let low = (pairs & 0x0000_00FF_0000_00FF).wrapping_mul(0x000F_4240_0000_0064);
    let high = (pairs >> 16 & 0x0000_00FF_0000_00FF).wrapping_mul(0x0000_2710_0000_0001);
    low.wrapping_add(high) >> 32
}

fn read_exponent(bytes: &[u8], at: &mut usize) -> Result<i32, Fault> {
    let negative = bytes.get(*at) == Some(&b'-');
    *at += usize::from(matches!(bytes.get(*at), Some(b'+' | b'-')));
    let start = *at;
    let mut exponent: i32 = 0;
    while let Some(digit @ b'0'..=b'9') = bytes.get(*at) {
        exponent = exponent.saturating_mul(10).saturating_add(i32::from(digit - b'0'));
        *at += 1;
    }
    if *at == start {
        return Err(no_digit(bytes, *at));
    }
    Ok(if negative { -exponent } else { exponent })
}

/// The exact doubles among the powers of ten.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// 5^27 is the last power of five below 2^63.
const FIVES_MAX: usize = 27;

/// A power of five `5^k`, shifted so that its top bit is set, and `2^127` divided by that.
#[derive(Clone, Copy)]
struct Five {
    normal: u64,
    shift: u32,
    reciprocal: u64,
}

const FIVES: [Five; FIVES_MAX + 1] = {
    let mut fives = [Five {
        normal: 0,
        shift: 0,
        reciprocal: 0,
    }; FIVES_MAX + 1];
    let mut power: u64 = 1;
    let mut k = 1;
    while k <= FIVES_MAX {
        power *= 5;
        let shift = power.leading_zeros();
        let normal = power << shift;
        fives[k] = Five {
            normal,
            shift,
            reciprocal: ((1_u128 << 127) / normal as u128) as u64,
        };
        k += 1;
    }
    fives
};

impl Number {
    /// The value of a number written without fraction and exponent, as almost all integers are; `None` when it is written
    /// in another way, or is no 64-bit integer.
    #[inline]
    pub(super) fn as_i64(&self) -> Option<i64> {
        if !self.whole || !self.fits {
            return None;
        }
        match self.negative {
            true => 0_i64.checked_sub_unsigned(self.mantissa),
            false => i64::try_from(self.mantissa).ok(),
        }
    }

    /// Its text; `bytes` is the record it was read from.
    pub(super) fn text<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// The nearest double, ties to even; infinite when there is none. `bytes` is the record it was read from.
    #[inline]
    pub(super) fn as_f64(&self, bytes: &[u8]) -> f64 {
        let decimals = self.exponent.unsigned_abs() as usize;
        let magnitude = if !self.fits {
            return self.as_f64_by_std(bytes);
        } else if self.mantissa <= 1 << 53 && decimals < EXACT_POWERS.len() {
            // Both operands are exact, so IEEE 754 rounds once.
            match self.exponent > 0 {
                true => self.mantissa as f64 * EXACT_POWERS[decimals],
                false => self.mantissa as f64 / EXACT_POWERS[decimals],
            }
        } else if self.mantissa != 0 && self.exponent < 0 && decimals <= FIVES_MAX {
            divide(self.mantissa, decimals)
        } else {
            return self.as_f64_by_std(bytes);
        };
        if self.negative { -magnitude } else { magnitude }
    }

    #[cold]
    fn as_f64_by_std(&self, bytes: &[u8]) -> f64 {
        let text = std::str::from_utf8(self.text(bytes)).unwrap_or_default();
        // Rust's grammar of floats holds JSON's.
        text.parse().unwrap_or(f64::NAN)
    }
}

/// `mantissa / 10^k`, rounded once. `mantissa` is not zero, `k` in `1..=FIVES_MAX`.
///
/// An exact long division by `5^k` with 62 bits or more of quotient and the knowledge whether anything remains; the
/// remaining factor `2^-k` is exact. Sixteen to nineteen digits, as in a double's shortest text, are the usual case,
/// and the standard library takes three times as long for them.
#[inline]
fn divide(mantissa: u64, k: usize) -> f64 {
    let five = FIVES[k];
    let lead = mantissa.leading_zeros();
    let mantissa = mantissa << lead;
    // The reciprocal is cut and so is the product: the estimate is at most 2 too small.
    let mut quotient = ((u128::from(mantissa) * u128::from(five.reciprocal)) >> 64) as u64;
    let mut remainder = (u128::from(mantissa) << 63) - u128::from(quotient) * u128::from(five.normal);
    while remainder >= u128::from(five.normal) {
        remainder -= u128::from(five.normal);
        quotient += 1;
    }
    // Nine bits or more are rounded away, so the lowest may stand for all that remains.
    let sticky = quotient >> 1 | quotient & 1 | u64::from(remainder != 0);
    let power = 1023 + 1 + i64::from(five.shift) - i64::from(lead) - 63 - k as i64;
    sticky as i64 as f64 * f64::from_bits((power as u64) << 52)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<Number> {
        let mut at = 0;
        let number = read_number(text.as_bytes(), &mut at).ok()?;
        (at == text.len()).then_some(number)
    }

    fn double(text: &str) -> f64 {
        read(text).unwrap().as_f64(text.as_bytes())
    }

    #[test]
    fn what_is_no_number() {
        for text in [
            "", "-", "01", "-01", "1.", "1.e5", ".5", "+1", "1e", "1e+", "1E-", "0x1", "1_0", "--1", "1.2.3",
            "Infinity",
        ] {
            assert!(text.starts_with(['.', '+', 'I']) || read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn integers() {
        for (text, value) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("18446744073709551616", None),
            ("1234567812345678", Some(1_234_567_812_345_678)),
            ("1.0", None),
            ("1e3", None),
        ] {
            assert_eq!(read(text).unwrap().as_i64(), value, "{text}");
        }
    }

    #[test]
    fn doubles_equal_the_standard_library() {
        for text in [
            "0",
            "-0",
            "0.0",
            "-0.0",
            "1E5",
            "1e-5",
            "1.5e300",
            "5e-324",
            "2.4703282292062327e-324",
            "1e400",
            "-1e400",
            "1e-400",
            "0e999999999999",
            "0e-25",
            "0e-99",
            "1e99999999999999",
            "123456789012345678901234567890",
            "9007199254740993",
            "9007199254740993.0",
            "51.507356543210986",
            "-0.12781234567890123",
            "0.000000000000000000000000000123",
            "18446744073709551615",
            "1844674407370955161.5",
            "0.1000000000000000055",
            "1.7976931348623157e308",
        ] {
            assert_eq!(double(text).to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn any_decimal_equals_the_standard_library(
            negative: bool, whole in 0..1_000_000_000_000_u64, fraction in 0..10_000_000_000_000_000_u64, cut in 1..17_usize,
            exponent in prop::option::of(-340..340_i32),
        ) {
            let fraction = format!("{fraction:016}");
            let sign = if negative { "-" } else { "" };
            let exponent = exponent.map(|exponent| format!("e{exponent}")).unwrap_or_default();
            let text = format!("{sign}{whole}.{}{exponent}", &fraction[..cut]);
            prop_assert_eq!(double(&text).to_bits(), text.parse::<f64>().unwrap().to_bits(), "{}", text);
        }

        #[test]
        fn shortest_texts_of_doubles_come_back(bits in any::<u64>(), small in -1000.0..1000.0_f64) {
            let any = f64::from_bits(bits);
            for value in [any, small] {
                if value.is_finite() {
                    let text = format!("{value:e}");
                    prop_assert_eq!(double(&text).to_bits(), value.to_bits());
                    let text = format!("{value}");
                    prop_assert_eq!(double(&text).to_bits(), value.to_bits());
                }
            }
        }

        #[test]
        fn division_rounds_once(mantissa in 1..u64::MAX, k in 1..=FIVES_MAX) {
            let text = format!("{mantissa}e-{k}");
            prop_assert_eq!(divide(mantissa, k).to_bits(), text.parse::<f64>().unwrap().to_bits(), "{}", text);
        }

        #[test]
        fn integers_of_any_length(value: i64) {
            let text = value.to_string();
            prop_assert_eq!(read(&text).unwrap().as_i64(), Some(value));
            let padded = format!("{text},        ");
            let mut at = 0;
            prop_assert_eq!(read_number(padded.as_bytes(), &mut at).unwrap().as_i64(), Some(value));
            prop_assert_eq!(at, text.len());
        }
    }
}
