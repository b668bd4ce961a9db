//! Decimal numbers read exactly from their text: no binary fraction in between, so `0.1` is a tenth.

/// Digits that a decimal of Delta and Parquet holds at most.
pub const PRECISION_MAX: u8 = 38;

/// Why a text is no whole multiple of the wanted unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It is no decimal number.
    NotANumber,
    /// It has digits below the unit; `floor` is the next multiple below it, in units.
    Inexact { floor: i128 },
    /// It has more than 38 digits.
    TooLarge,
}

/// Reads a decimal number as a multiple of `10^-scale`: `12.5` is 1250 with scale 2. Zeros at the end do not count, so
/// `2024.00` and `2.024e3` are 2024 with scale 0.
///
/// Takes JSON's numbers, and beyond them a leading `+`, leading zeros, and a point at either end (`.5`, `5.`).
pub fn scaled(text: &[u8], scale: i32) -> Result<i128, Unfit> {
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let mut digits = Digits::default();
    let mut rest = digits.read(rest);
    let mut decimals = 0;
    if let [b'.', fraction @ ..] = rest {
        let after = digits.read(fraction);
        decimals = fraction.len() - after.len();
        rest = after;
    }
    if digits.count == 0 {
        return Err(Unfit::NotANumber);
    }
    let exponent = match rest {
        [] => 0,
        [b'e' | b'E', exponent @ ..] => read_exponent(exponent).ok_or(Unfit::NotANumber)?,
        _ => return Err(Unfit::NotANumber),
    };
    let Some(mantissa) = digits.mantissa else {
        return Err(Unfit::TooLarge);
    };
    if mantissa == 0 {
        return Ok(0);
    }
    let mantissa = if negative { -mantissa } else { mantissa };
    let shift = exponent
        .saturating_add(digits.zeros)
        .saturating_sub(i64::try_from(decimals).unwrap_or(i64::MAX))
        .saturating_add(i64::from(scale));
    let power = u32::try_from(shift.unsigned_abs())
        .ok()
        .and_then(|shift| 10_i128.checked_pow(shift));
    match (shift >= 0, power) {
        (true, Some(power)) => mantissa.checked_mul(power).ok_or(Unfit::TooLarge),
        (true, None) => Err(Unfit::TooLarge),
        // The mantissa does not end with a zero, so something remains.
        (false, Some(power)) => Err(Unfit::Inexact {
            floor: mantissa.div_euclid(power),
        }),
        (false, None) => Err(Unfit::Inexact {
            floor: if negative { -1 } else { 0 },
        }),
    }
}

/// Whether a text is a number that [`scaled`] reads, of any size.
pub fn is_number(text: &[u8]) -> bool {
    scaled(text, 0) != Err(Unfit::NotANumber)
}

/// The digits of a number, zeros at its end set apart.
struct Digits {
    /// `None` once there are too many.
    mantissa: Option<i128>,
    /// Zeros after the mantissa's last digit.
    zeros: i64,
    count: usize,
}

impl Default for Digits {
    fn default() -> Self {
        Self {
            mantissa: Some(0),
            zeros: 0,
            count: 0,
        }
    }
}

impl Digits {
    /// Takes the digits at the front of `text`; what follows them.
    fn read<'a>(&mut self, mut text: &'a [u8]) -> &'a [u8] {
        while let [digit @ b'0'..=b'9', rest @ ..] = text {
            self.count += 1;
            match digit {
                b'0' => self.zeros += 1,
                digit => {
                    self.mantissa = self.append(digit - b'0');
                    self.zeros = 0;
                }
            }
            text = rest;
        }
        text
    }

    fn append(&self, digit: u8) -> Option<i128> {
        let mantissa = self.mantissa?;
        if mantissa == 0 {
            return Some(digit.into());
        }
        let power = 10_i128.checked_pow(u32::try_from(self.zeros + 1).ok()?)?;
        mantissa.checked_mul(power)?.checked_add(digit.into())
    }
}

fn read_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let exponent = digits.iter().fold(0_i64, |exponent, digit| {
        exponent.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    Some(if negative { -exponent } else { exponent })
}

/// The text of `units * 10^-scale`, with all its decimals.
pub fn text(units: i128, scale: u8) -> String {
    let scale = usize::from(scale);
    let digits = format!("{:0>width$}", units.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if units < 0 { "-" } else { "" };
    match fraction {
        "" => format!("{sign}{whole}"),
        fraction => format!("{sign}{whole}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_numbers() {
        for (number, scale, units) in [
            ("12.5", 2, Ok(1250)),
            ("-12.5", 2, Ok(-1250)),
            ("2024.0", 0, Ok(2024)),
            ("2.024e3", 0, Ok(2024)),
            ("2024000e-3", 0, Ok(2024)),
            ("-0.0", 0, Ok(0)),
            ("0e999999999999999999999", 0, Ok(0)),
            ("+007", 0, Ok(7)),
            (".5", 1, Ok(5)),
            ("5.", 1, Ok(50)),
            ("1500", -3, Err(Unfit::Inexact { floor: 1 })),
            ("12.345", 2, Err(Unfit::Inexact { floor: 1234 })),
            ("-12.345", 2, Err(Unfit::Inexact { floor: -1235 })),
            ("1e-400", 2, Err(Unfit::Inexact { floor: 0 })),
            ("-1e-400", 2, Err(Unfit::Inexact { floor: -1 })),
            ("1e400", 0, Err(Unfit::TooLarge)),
            ("99999999999999999999999999999999999999", 0, Ok(10_i128.pow(38) - 1)),
            ("1.00000000000000000000000000000000000000000000000000", 2, Ok(100)),
            ("1111111111111111111111111111111111111111", 0, Err(Unfit::TooLarge)),
            ("", 0, Err(Unfit::NotANumber)),
            (".", 0, Err(Unfit::NotANumber)),
            ("1,5", 0, Err(Unfit::NotANumber)),
            ("1e", 0, Err(Unfit::NotANumber)),
            ("--1", 0, Err(Unfit::NotANumber)),
            ("0x10", 0, Err(Unfit::NotANumber)),
            ("NaN", 0, Err(Unfit::NotANumber)),
        ] {
            assert_eq!(scaled(number.as_bytes(), scale), units, "{number}");
        }
    }

    proptest! {
        #[test]
        fn texts_come_back(units in -(10_i128.pow(38) - 1)..10_i128.pow(38), scale in 0..=38_u8) {
            prop_assert_eq!(scaled(text(units, scale).as_bytes(), scale.into()), Ok(units));
        }

        #[test]
        fn nothing_makes_it_panic(text in "[-+.eE0-9]{0,60}", scale in -60..60) {
            let _ = scaled(text.as_bytes(), scale);
        }
    }
}
