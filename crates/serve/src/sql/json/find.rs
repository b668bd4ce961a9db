//! A value in JSON text by its path, straight from the text: no tree is built, numbers stay as they are written, and depth
//! is no matter.

use std::borrow::Cow;
use std::fmt;

use model::decimal::scaled;
use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A step into an object or an array.
pub(super) enum Step<'a> {
    Key(&'a str),
    /// From 0.
    Position(usize),
}

/// A value that was found.
pub(super) struct Found<'j>(&'j str);

/// The value at the end of the path; `None` where there is none, or the text is not JSON.
pub(super) fn find<'j>(json: &'j str, path: &[Step<'_>]) -> Option<Found<'j>> {
    let whole: &RawValue = serde_json::from_str(json).ok()?;
    let value = path.iter().try_fold(whole, |value, step| {
        let mut deserializer = serde_json::Deserializer::from_str(value.get());
        match (value.get().as_bytes().first()?, step) {
            (b'{', Step::Key(key)) => deserializer.deserialize_map(Member(key)).ok()?,
            (b'[', Step::Position(position)) => deserializer.deserialize_seq(Element(*position)).ok()?,
            _ => None,
        }
    })?;
    Some(Found(value.get()))
}

impl<'j> Found<'j> {
    pub(super) fn json(&self) -> &'j str {
        self.0
    }

    pub(super) fn is_null(&self) -> bool {
        self.0 == "null"
    }

    pub(super) fn text(&self) -> Option<Cow<'j, str>> {
        if !self.0.starts_with('"') {
            return None;
        }
        let plain = self.0.trim_matches('"');
        match plain.contains('\\') {
            false => Some(Cow::Borrowed(plain)),
            true => serde_json::from_str(self.0).ok().map(Cow::Owned),
        }
    }

    /// A number whose value is an integer.
    pub(super) fn integer(&self) -> Option<i64> {
        scaled(self.0.as_bytes(), 0)
            .ok()
            .and_then(|value| i64::try_from(value).ok())
    }

    pub(super) fn float(&self) -> Option<f64> {
        let is_number = self.0.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        let number = is_number.then(|| self.0.parse().ok())?;
        number.filter(|number: &f64| number.is_finite())
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// Elements of an array, members of an object.
    pub(super) fn len(&self) -> Option<i64> {
        let mut deserializer = serde_json::Deserializer::from_str(self.0);
        match self.0.as_bytes().first()? {
            b'{' => deserializer.deserialize_map(Count).ok(),
            b'[' => deserializer.deserialize_seq(Count).ok(),
            _ => None,
        }
    }
}

/// Finds an object's member; of several with the key the last, as other readers of JSON do.
struct Member<'k>(&'k str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = members.next_key_seed(IsKey(self.0))? {
            match is_it {
                true => found = Some(members.next_value()?),
                false => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// Whether a key is this one, without a copy of it.
struct IsKey<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for IsKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

struct Element(usize);

impl<'de> Visitor<'de> for Element {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let mut position = 0;
        while let Some(element) = elements.next_element()? {
            if position == self.0 {
                found = Some(element);
            }
            position += 1;
        }
        Ok(found)
    }
}

struct Count;

impl<'de> Visitor<'de> for Count {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array or an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<i64, A::Error> {
        let mut count = 0;
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<i64, A::Error> {
        let mut count = 0;
        while elements.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_by_their_paths() {
        let json = r#"{"a":{"b":[1,{"c":"x\"y"}],"":null},"a\u0062":2.0,"big":1e999,"twice":1,"twice":2,"n":12345678901234567890}"#;
        let json_of = |path: &[Step<'_>]| find(json, path).map(|found| found.json());
        use Step::{Key, Position};
        assert_eq!(json_of(&[Key("a"), Key("b"), Position(0)]), Some("1"));
        assert_eq!(json_of(&[Key("a"), Key("")]), Some("null"));
        assert_eq!(json_of(&[Key("ab")]), Some("2.0"));
        assert_eq!(json_of(&[Key("big")]), Some("1e999"));
        assert_eq!(json_of(&[Key("twice")]), Some("2"));
        for path in [
            &[Key("b")][..],
            &[Key("a"), Position(0)],
            &[Key("a"), Key("b"), Position(2)],
            &[Key("a"), Key("b"), Key("0")],
            &[Key("big"), Key("x")],
        ] {
            assert_eq!(json_of(path), None);
        }
        let found = |key| find(json, &[Key(key)]).unwrap();
        let text = find(json, &[Key("a"), Key("b"), Position(1), Key("c")]).unwrap();
        assert_eq!(text.text().as_deref(), Some("x\"y"));
        assert_eq!((found("ab").integer(), found("ab").float()), (Some(2), Some(2.0)));
        assert_eq!((found("big").integer(), found("big").float()), (None, None));
        assert_eq!(
            (found("n").integer(), found("n").float()),
            (None, Some(12_345_678_901_234_567_890.0))
        );
        assert_eq!((found("a").len(), found("n").len()), (Some(2), None));
        assert!(find("{", &[]).is_none() && find("", &[]).is_none() && find("1 2", &[]).is_none());
        let deep = format!("{}1{}", r#"{"a":"#.repeat(500), "}".repeat(500));
        let path: Vec<_> = (0..500).map(|_| Key("a")).collect();
        assert_eq!(find(&deep, &path).map(|found| found.json()), Some("1"));
    }
}
