//! Binary values from their text.

use model::Encoding;

use super::Violation;
use crate::error_class::ErrorClass;
use crate::layout::FieldRule;
use crate::row::{Scratch, Value};

const NO_BASE64: Violation = (ErrorClass::BadBinary, "is no base64");
const NO_HEX: Violation = (ErrorClass::BadBinary, "is no hexadecimal");

/// Decodes a text by the field's encoding.
pub(super) fn decode(text: &[u8], rule: &FieldRule, scratch: &mut Scratch) -> Result<Value, Violation> {
    let encoding = rule
        .written
        .as_ref()
        .map_or(Encoding::default(), |written| written.encoding);
    let before = scratch.bytes.len();
    let decoded = match encoding {
        Encoding::Base64 => base64(text, &mut scratch.bytes).ok_or(NO_BASE64),
        Encoding::Hex => hex(text, &mut scratch.bytes).ok_or(NO_HEX),
    };
    if let Err(violation) = decoded {
        scratch.bytes.truncate(before);
        return Err(violation);
    }
    Ok(Value::Unescaped {
        start: before as u32,
        end: scratch.bytes.len() as u32,
    })
}

/// RFC 4648: either alphabet, padding or none. Bits that are left over must be zero, so that each value has one text.
fn base64(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let digits = &text[..text.len() - padding];
    if padding > 0 && (padding > 2 || !text.len().is_multiple_of(4)) {
        return None;
    }
    let (mut bits, mut count) = (0_u32, 0);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    (count < 6 && bits == 0).then_some(())
}

fn hex(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    for pair in pairs {
        let [high, low] = pair.map(|digit| (digit as char).to_digit(16));
        out.push((high? * 16 + low?) as u8);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_length_and_alphabet() {
        for (text, bytes) in [
            ("", Some(b"".as_slice())),
            ("AA==", Some(b"\x00".as_slice())),
            ("AA", Some(b"\x00".as_slice())),
            ("AAE=", Some(b"\x00\x01".as_slice())),
            ("AAEC", Some(b"\x00\x01\x02".as_slice())),
            ("+/+/", Some(b"\xfb\xff\xbf".as_slice())),
            ("-_-_", Some(b"\xfb\xff\xbf".as_slice())),
            ("A", None),
            ("AAAAA", None),
            ("AB==", None),
            ("AA=", None),
            ("AA===", None),
            ("=", None),
            ("A=A=", None),
            ("AA AA", None),
        ] {
            let mut out = Vec::new();
            let decoded = base64(text.as_bytes(), &mut out).map(|()| out.as_slice());
            assert_eq!(decoded, bytes, "{text}");
        }
    }

    #[test]
    fn hexadecimal() {
        let mut out = Vec::new();
        assert_eq!(hex(b"00fFa0", &mut out), Some(()));
        assert_eq!(out, [0, 0xff, 0xa0]);
        for text in ["0", "0g", "0x00"] {
            assert_eq!(hex(text.as_bytes(), &mut Vec::new()), None, "{text}");
        }
    }
}
