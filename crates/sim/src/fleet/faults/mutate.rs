//! Making a good record a bad one, in place.

use super::Kind;
use crate::fleet::record::{EMERGENCY, GPS, TRAFFIC, VEHICLE, WEATHER};
use crate::fleet::text::{ID_BYTES, fixed};

/// What a fault has made of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fleet) enum Outcome {
    /// The record has nothing that this fault could hit; it is as it was.
    Unharmed,
    /// Bytes, and whether they are one JSON object.
    Value { is_json: bool },
    /// No value at all.
    Null,
}

/// Objects and arrays beyond what a JSON reader is asked to nest.
const TOO_DEEP: usize = 140;

/// Spoils the value that stands at `start` to the end of the buffer; kinds that concern delivery leave it as it is.
pub(in crate::fleet) fn mutate(kind: Kind, stream: usize, out: &mut Vec<u8>, start: usize) -> Outcome {
    let json = |changed: bool| {
        if changed {
            Outcome::Value { is_json: true }
        } else {
            Outcome::Unharmed
        }
    };
    match kind {
        Kind::Late | Kind::OutOfOrder | Kind::Duplicate => Outcome::Value { is_json: true },
        Kind::NullValue => {
            out.truncate(start);
            Outcome::Null
        }
        Kind::Empty => {
            out.truncate(start);
            Outcome::Value { is_json: false }
        }
        Kind::InvalidUtf8 => {
            // Within the id's text.
            out[start + ID_START + 2] = 0xff;
            Outcome::Value { is_json: false }
        }
        Kind::NotJson => {
            let half = (out.len() - start) / 2;
            out.truncate(start + half);
            Outcome::Value { is_json: false }
        }
        Kind::NotAnObject => {
            out.insert(start, b'[');
            out.push(b']');
            Outcome::Value { is_json: true }
        }
        Kind::TooDeep => {
            let nested = [&b"["[..]; TOO_DEEP].concat();
            let closed = [&b"]"[..]; TOO_DEEP].concat();
            json(append(out, &[&br#""nested":"#[..], &nested, &closed].concat()))
        }
        Kind::LoneSurrogate => json(append(out, br#""note":"\ud83d""#)),
        Kind::DuplicateKey => json(append(out, br#""device_id":"Vehicle-9999999""#)),
        Kind::MissingField => {
            // `"id":"...",`
            out.drain(start + 1..start + ID_START + ID_BYTES + 2);
            Outcome::Value { is_json: true }
        }
        Kind::WrongType => {
            out.splice(start + ID_START - 1..start + ID_START + ID_BYTES + 1, *b"31415");
            Outcome::Value { is_json: true }
        }
        Kind::NotFinite => json(replace(out, start, first_number(stream), |_| b"1e400".to_vec())),
        Kind::OutOfRange => json(replace(out, start, first_number(stream), |_| b"1234.5".to_vec())),
        Kind::BadTimestamp => json(replace(out, start, b"\"timestamp\":", |_| {
            br#""2026-02-30T25:61:00Z""#.to_vec()
        })),
        Kind::NotInSet => json(replace(out, start, b"\"status\":", |_| b"\"Ongoing\"".to_vec())),
        Kind::RenamedField => {
            let (name, other): (&[u8], &[u8]) = match stream {
                VEHICLE | TRAFFIC => (b"\"road\":", b"\"road_name\":"),
                GPS => (b"\"heading\":", b"\"course\":"),
                WEATHER => (b"\"wind_direction\":", b"\"wind_dir\":"),
                _ => (b"\"phase\":", b"\"stage\":"),
            };
            json(rename(out, start, name, other))
        }
        Kind::ExtraField => json(append(out, br#""firmware":"4.2.1""#)),
        Kind::WrongUnit => {
            // Metres a second for km/h, miles for kilometres an hour, kilometres for metres.
            let (name, factor): (&[u8], f64) = match stream {
                VEHICLE | GPS => (b"\"speed\":", 1.0 / 3.6),
                TRAFFIC => (b"\"mean_speed\":", 1.0 / 1.609_344),
                WEATHER => (b"\"wind_speed\":", 1.0 / 3.6),
                _ => (b"\"distance\":", 0.001),
            };
            json(replace(out, start, name, |number| {
                let value: f64 = std::str::from_utf8(number)
                    .ok()
                    .and_then(|text| text.parse().ok())
                    .unwrap_or_default();
                let mut text = Vec::new();
                fixed::<2>(&mut text, value * factor);
                text
            }))
        }
    }
}

/// Where the text of the id begins: after `{"id":"`.
const ID_START: usize = 7;

/// A number that must not be anything: what stands before it.
fn first_number(stream: usize) -> &'static [u8] {
    match stream {
        VEHICLE | GPS => b"\"speed\":",
        TRAFFIC | WEATHER | EMERGENCY => b"\"location\":[",
        _ => b"",
    }
}

/// Adds a field at the object's end.
fn append(out: &mut Vec<u8>, field: &[u8]) -> bool {
    out.pop();
    out.push(b',');
    out.extend_from_slice(field);
    out.push(b'}');
    true
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

/// Replaces the number or the text that follows `before`.
fn replace(out: &mut Vec<u8>, start: usize, before: &[u8], with: impl FnOnce(&[u8]) -> Vec<u8>) -> bool {
    let Some(found) = find(&out[start..], before) else {
        return false;
    };
    let from = start + found + before.len();
    let length = if out[from] == b'"' {
        // No text of ours holds an escaped quote.
        find(&out[from + 1..], b"\"").map(|end| end + 2)
    } else {
        out[from..].iter().position(|byte| matches!(byte, b',' | b'}' | b']'))
    };
    let Some(length) = length else {
        return false;
    };
    let new = with(&out[from..from + length]);
    out.splice(from..from + length, new);
    true
}

fn rename(out: &mut Vec<u8>, start: usize, name: &[u8], other: &[u8]) -> bool {
    let Some(found) = find(&out[start..], name) else {
        return false;
    };
    out.splice(start + found..start + found + name.len(), other.iter().copied());
    true
}
