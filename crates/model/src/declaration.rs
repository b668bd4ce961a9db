//! Reading declarations: TOML text in, [`Stream`]s out, and every mistake with its file, line and field.

use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

use crate::schema::{is_reserved, is_reserved_table};
use crate::{ELEMENTS_MAX, Elements, Field, FieldType, Format, Path, PathNode, Step, Stream, Streams};

/// A mistake in a declaration file; fix the file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{file}:{line}: {}{message}", field.as_ref().map(|field| format!("field `{field}`: ")).unwrap_or_default())]
pub struct DeclarationError {
    pub file: String,
    /// 1-based.
    pub line: usize,
    pub field: Option<String>,
    pub message: String,
}

/// What a stream may declare: fields, places of all of them, and array elements up to those places. Far above any real
/// stream, far below what would hurt: a decoder numbers the places and what leads to them with 16 bits, and a JSON Schema
/// names every element of an array.
const FIELDS_MAX: usize = 1000;
const PLACES_MAX: usize = 4000;
const POSITIONS_MAX: usize = 1 << 19;
/// The most that `elements_max` may be.
const ELEMENTS_MAX_LIMIT: u32 = 1_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStream {
    name: Spanned<String>,
    description: Spanned<String>,
    topic: Option<Spanned<String>>,
    format: Option<Spanned<String>>,
    elements: Option<Spanned<String>>,
    elements_max: Option<Spanned<i64>>,
    key: Spanned<String>,
    event_time: Spanned<String>,
    #[serde(default, rename = "field")]
    fields: Vec<Spanned<RawField>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawField {
    name: Spanned<String>,
    #[serde(rename = "type")]
    field_type: Spanned<String>,
    unit: Option<String>,
    #[serde(default)]
    nullable: bool,
    #[serde(default)]
    unique: bool,
    min: Option<Spanned<f64>>,
    max: Option<Spanned<f64>>,
    #[serde(default)]
    one_of: Vec<String>,
    #[serde(default)]
    from: Vec<Spanned<String>>,
    doc: Spanned<String>,
}

impl Stream {
    /// Reads one declaration. `file` is its name for errors, and `<stream name>.toml` for a stream's own file.
    pub fn parse(file: &str, text: &str) -> Result<Self, DeclarationError> {
        Reader { file, text }.stream()
    }
}

impl Streams {
    /// Reads a set of declarations, given as file name and text. Names and topics must differ.
    pub fn parse<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, DeclarationError> {
        let mut streams: Vec<Stream> = Vec::new();
        for (file, text) in files {
            let stream = Stream::parse(file, text)?;
            let twin = streams
                .iter()
                .find(|known| known.name == stream.name || known.topic == stream.topic);
            if let Some(twin) = twin {
                let message = format!(
                    "stream `{}` on topic `{}` clashes with stream `{}` on topic `{}`",
                    stream.name, stream.topic, twin.name, twin.topic
                );
                return Err(DeclarationError {
                    file: file.to_owned(),
                    line: 1,
                    field: None,
                    message,
                });
            }
            streams.push(stream);
        }
        streams.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Streams(streams))
    }
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
}

impl Reader<'_> {
    fn stream(&self) -> Result<Stream, DeclarationError> {
        let raw: RawStream = toml::from_str(self.text)
            .map_err(|error| self.error(error.span().map_or(0, |span| span.start), None, error.message()))?;
        self.check_name(&raw.name, None, "stream name")?;
        if is_reserved_table(raw.name.get_ref()) {
            let message = format!(
                "stream name `{}` belongs to a table that every lake has",
                raw.name.get_ref()
            );
            return Err(self.error(raw.name.span().start, None, message));
        }
        self.check_filled(&raw.description, None, "description")?;
        if raw.fields.len() > FIELDS_MAX {
            return Err(self.error(0, None, format!("{} fields, at most {FIELDS_MAX}", raw.fields.len())));
        }

        let mut fields: Vec<Field> = Vec::with_capacity(raw.fields.len());
        let elements = self.elements(&raw)?;
        let mut plan = PathNode::root(elements.as_ref().map(|elements| &elements.path));
        let (mut places, mut positions) = (0, 0);
        for raw in &raw.fields {
            let field = self.field(raw)?;
            if fields.iter().any(|known| known.name == field.name) {
                return Err(self.error(raw.get_ref().name.span().start, Some(&field.name), "declared twice"));
            }
            for (rank, path) in field.from.iter().enumerate() {
                let at = raw
                    .get_ref()
                    .from
                    .get(rank)
                    .map_or(raw.span().start, |from| from.span().start);
                places += 1;
                positions += path.positions();
                if places > PLACES_MAX || positions > POSITIONS_MAX {
                    let message = format!(
                        "with it the stream has {places} places and {positions} array elements up to them, at most \
                         {PLACES_MAX} and {POSITIONS_MAX}"
                    );
                    return Err(self.error(at, Some(&field.name), message));
                }
                self.check_place(path, elements.as_ref(), at, &field.name)?;
                plan.insert(path, fields.len(), rank)
                    .map_err(|message| self.error(at, Some(&field.name), message))?;
            }
            fields.push(field);
        }

        if let (Some(elements), Some(raw)) = (&elements, &raw.elements)
            && !fields.iter().flat_map(|field| &field.from).any(Path::is_of_elements)
        {
            let message = format!("no field is found in the elements: none is `from` `{}`", elements.path);
            return Err(self.error(raw.span().start, None, message));
        }

        let find = |name: &Spanned<String>, role: &str| {
            fields
                .iter()
                .find(|field| field.name == *name.get_ref())
                .ok_or_else(|| {
                    self.error(
                        name.span().start,
                        Some(name.get_ref()),
                        format!("named as {role}, but not declared"),
                    )
                })
        };
        find(&raw.key, "key")?;
        let event_time = find(&raw.event_time, "event_time")?;
        if event_time.field_type != FieldType::Timestamp || event_time.nullable {
            let message = "the event time must be a timestamp that is not nullable";
            return Err(self.error(raw.event_time.span().start, Some(&event_time.name), message));
        }

        let topic = match raw.topic {
            Some(topic) => self.check_topic(&topic).map(|()| topic.into_inner())?,
            None => raw.name.get_ref().clone(),
        };
        let format = match &raw.format {
            Some(format) => {
                Format::parse(format.get_ref()).map_err(|message| self.error(format.span().start, None, message))?
            }
            None => Format::default(),
        };
        Ok(Stream {
            name: raw.name.into_inner(),
            topic,
            format,
            description: raw.description.into_inner(),
            key: raw.key.into_inner(),
            event_time: raw.event_time.into_inner(),
            elements,
            fields,
            plan,
        })
    }

    /// Where the elements are, and how many a message may have.
    fn elements(&self, raw: &RawStream) -> Result<Option<Elements>, DeclarationError> {
        let max = match (&raw.elements_max, &raw.elements) {
            (None, _) => ELEMENTS_MAX,
            (Some(max), None) => {
                let message = "elements_max needs `elements`, which says where they are";
                return Err(self.error(max.span().start, None, message));
            }
            (Some(max), Some(_)) => match u32::try_from(*max.get_ref()) {
                Ok(number @ 1..=ELEMENTS_MAX_LIMIT) => number,
                _ => {
                    let message = format!("elements_max {}: use 1 to {ELEMENTS_MAX_LIMIT}", max.get_ref());
                    return Err(self.error(max.span().start, None, message));
                }
            },
        };
        let Some(elements) = &raw.elements else {
            return Ok(None);
        };
        let fail = |message: String| Err(self.error(elements.span().start, None, message));
        let path = match Path::parse(elements.get_ref()) {
            Ok(path) => path,
            Err(message) => return fail(format!("elements: {message}")),
        };
        let array = path.steps().split_last().map(|(_, array)| array).unwrap_or_default();
        let is_array_at_keys = array.iter().all(|step| matches!(step, Step::Key(_)));
        if !is_array_at_keys || path.steps().last() != Some(&Step::Each) {
            return fail(format!(
                "elements `{path}`: name the array by its keys and end with `[*]`, as in `readings[*]`"
            ));
        }
        Ok(Some(Elements { path, max }))
    }

    /// `[*]` stands in a field's place where the elements are, and nowhere else.
    fn check_place(
        &self,
        path: &Path,
        elements: Option<&Elements>,
        at: usize,
        field: &str,
    ) -> Result<(), DeclarationError> {
        let Some(each) = path.steps().iter().position(|step| *step == Step::Each) else {
            return match elements {
                // It would read one element and leave out the others.
                Some(elements) if path.starts_with_array_of(&elements.path) => {
                    let message = format!(
                        "`from` place `{path}` lies in the array of the elements: write `{}` there",
                        elements.path
                    );
                    Err(self.error(at, Some(field), message))
                }
                _ => Ok(()),
            };
        };
        let message = match elements {
            None => format!("`from` place `{path}`: `[*]` needs a line `elements = \"...[*]\"` above the fields"),
            Some(elements) if path.steps()[..=each] != *elements.path.steps() => {
                format!("`from` place `{path}`: the elements are at `{}`", elements.path)
            }
            Some(_) if path.steps()[each + 1..].contains(&Step::Each) => {
                format!("`from` place `{path}`: only one `[*]`, that of the elements")
            }
            Some(_) if each == 0 && !matches!(path.steps().get(1), Some(Step::Key(_))) => {
                format!("`from` place `{path}`: elements of an array of records are objects, as in `[*].value`")
            }
            Some(_) => return Ok(()),
        };
        Err(self.error(at, Some(field), message))
    }

    fn field(&self, raw: &Spanned<RawField>) -> Result<Field, DeclarationError> {
        let raw = raw.get_ref();
        let name = raw.name.get_ref();
        let fail = |at: usize, message: String| Err(self.error(at, Some(name), message));
        self.check_name(&raw.name, Some(name), "field name")?;
        self.check_filled(&raw.doc, Some(name), "doc")?;
        if is_reserved(name) {
            return fail(
                raw.name.span().start,
                "this name belongs to a column that every table has".to_owned(),
            );
        }

        let type_name = raw.field_type.get_ref();
        let Some(field_type) = FieldType::ALL.into_iter().find(|known| known.as_str() == type_name) else {
            let known = FieldType::ALL.map(FieldType::as_str).join(", ");
            return fail(
                raw.field_type.span().start,
                format!("unknown type `{type_name}`; known are {known}"),
            );
        };
        for bound in [&raw.min, &raw.max].into_iter().flatten() {
            if !field_type.is_number() || !bound.get_ref().is_finite() {
                return fail(
                    bound.span().start,
                    format!("a bound needs a finite number and a number type, not {type_name}"),
                );
            }
        }
        if let (Some(min), Some(max)) = (&raw.min, &raw.max)
            && min.get_ref() > max.get_ref()
        {
            return fail(
                min.span().start,
                format!("min {} is above max {}", min.get_ref(), max.get_ref()),
            );
        }
        let (min, max) = (raw.min.as_ref(), raw.max.as_ref());
        if !field_type.has_value_in(min.map(|min| *min.get_ref()), max.map(|max| *max.get_ref())) {
            let at = min.or(max).map_or(raw.name.span().start, |bound| bound.span().start);
            return fail(at, format!("no {type_name} is within these bounds"));
        }
        if !raw.one_of.is_empty() && field_type != FieldType::String {
            return fail(
                raw.field_type.span().start,
                format!("one_of needs type string, not {type_name}"),
            );
        }

        let from = match raw.from.as_slice() {
            [] => vec![Path::parse(name).map_err(|message| self.error(raw.name.span().start, Some(name), message))?],
            places => places
                .iter()
                .map(|place| {
                    Path::parse(place.get_ref()).map_err(|message| self.error(place.span().start, Some(name), message))
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(Field {
            name: name.clone(),
            field_type,
            unit: raw.unit.clone(),
            nullable: raw.nullable,
            unique: raw.unique,
            min: raw.min.as_ref().map(|min| *min.get_ref()),
            max: raw.max.as_ref().map(|max| *max.get_ref()),
            one_of: raw.one_of.clone(),
            from,
            doc: raw.doc.get_ref().clone(),
        })
    }

    /// A name is a path on disk, a column and an SQL identifier at once, so it is what all three take without quotes.
    fn check_name(&self, name: &Spanned<String>, field: Option<&str>, what: &str) -> Result<(), DeclarationError> {
        let text = name.get_ref().as_bytes();
        let starts_well = text.first().is_some_and(u8::is_ascii_lowercase);
        let goes_well = text
            .iter()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_');
        if starts_well && goes_well && text.len() <= 64 {
            return Ok(());
        }
        let message = format!(
            "{what} `{}`: use a to z, 0 to 9 and _, a letter first, at most 64",
            name.get_ref()
        );
        Err(self.error(name.span().start, field, message))
    }

    /// Kafka's rule for topic names.
    fn check_topic(&self, topic: &Spanned<String>) -> Result<(), DeclarationError> {
        let text = topic.get_ref();
        let legal = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if legal && (1..=249).contains(&text.len()) && text != "." && text != ".." {
            return Ok(());
        }
        Err(self.error(
            topic.span().start,
            None,
            format!("`{text}` is no legal Kafka topic name"),
        ))
    }

    fn check_filled(&self, text: &Spanned<String>, field: Option<&str>, what: &str) -> Result<(), DeclarationError> {
        if text.get_ref().trim().is_empty() {
            return Err(self.error(text.span().start, field, format!("{what} is empty")));
        }
        Ok(())
    }

    fn error(&self, at: usize, field: Option<&str>, message: impl Into<String>) -> DeclarationError {
        let before = self.text.get(..at).unwrap_or(self.text);
        DeclarationError {
            file: self.file.to_owned(),
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            field: field.map(str::to_owned),
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"name = "parking_data"
description = "Free places."
key = "device_id"
event_time = "timestamp"

[[field]]
name = "device_id"
type = "string"
doc = "The car park."

[[field]]
name = "timestamp"
type = "timestamp"
doc = "When it was counted."

[[field]]
name = "free"
type = "integer"
min = 0
max = 5000
from = ["free", "places.free"]
doc = "Free places."
"#;

    #[test]
    fn a_good_declaration() {
        let stream = Stream::parse("parking_data.toml", GOOD).unwrap();
        assert_eq!((stream.topic.as_str(), stream.fields.len()), ("parking_data", 3));
        assert_eq!(stream.fields[2].from[1].to_string(), "places.free");
        assert_eq!(stream.event_time_index(), 1);
    }

    #[test]
    fn every_mistake_names_its_place() {
        for (from, to, says) in [
            (
                r#"type = "integer""#,
                r#"type = "int""#,
                "p.toml:18: field `free`: unknown type `int`; known are string",
            ),
            (
                "min = 0",
                "min = 9000",
                "p.toml:19: field `free`: min 9000 is above max 5000",
            ),
            ("min = 0", "minimum = 0", "p.toml:19: unknown field `minimum`"),
            (
                r#""places.free""#,
                r#""places..free""#,
                "p.toml:21: field `free`: path `places..free`: a key is empty",
            ),
            (
                r#""places.free""#,
                r#""timestamp""#,
                "p.toml:21: field `free`: `from` place `timestamp` is already taken",
            ),
            (
                r#"event_time = "timestamp""#,
                r#"event_time = "time""#,
                "p.toml:4: field `time`: named as event_time",
            ),
            (
                r#"key = "device_id""#,
                "format = \"jason\"\nkey = \"device_id\"",
                "p.toml:3: unknown format `jason`, did you mean `json`?; known are json",
            ),
            (r#"key = "device_id""#, "", "p.toml:1: missing field `key`"),
            (
                r#"name = "free""#,
                r#"name = "Free""#,
                "p.toml:17: field `Free`: field name `Free`: use a to z",
            ),
            (
                r#"name = "free""#,
                r#"name = "event_date""#,
                "p.toml:17: field `event_date`: this name belongs to",
            ),
            (
                r#"name = "free""#,
                r#"name = "device_id""#,
                "p.toml:17: field `device_id`: declared twice",
            ),
            (
                r#"doc = "Free places.""#,
                r#"doc = " ""#,
                "p.toml:22: field `free`: doc is empty",
            ),
            ("max = 5000", "max = ", "p.toml:20: "),
            (
                "min = 0\nmax = 5000",
                "min = 0.2\nmax = 0.8",
                "p.toml:19: field `free`: no integer is within these bounds",
            ),
            (
                "max = 5000",
                "max = -2147483649\n",
                "p.toml:19: field `free`: min 0 is above max",
            ),
            (
                "min = 0\nmax = 5000",
                "min = 2147483648",
                "p.toml:19: field `free`: no integer is within these bounds",
            ),
            (
                r#"name = "parking_data""#,
                r#"name = "dead_letters""#,
                "p.toml:1: stream name `dead_letters` belongs to a table that every lake has",
            ),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from} is not there");
            let error = Stream::parse("p.toml", &text).unwrap_err().to_string();
            assert!(error.starts_with(says), "wanted {says}\n   got {error}");
        }
    }

    const ELEMENTS: &str = r#"name = "meter_data"
description = "Readings."
key = "device_id"
event_time = "timestamp"
elements = "readings[*]"

[[field]]
name = "device_id"
type = "string"
doc = "The meter."

[[field]]
name = "timestamp"
type = "timestamp"
from = ["readings[*].at", "sent"]
doc = "When it was read."

[[field]]
name = "energy"
type = "double"
from = ["readings[*].energy"]
doc = "Energy."
"#;

    #[test]
    fn a_stream_with_elements() {
        let stream = Stream::parse("m.toml", ELEMENTS).unwrap();
        let elements = stream.elements.as_ref().unwrap();
        assert_eq!(
            (elements.path.to_string().as_str(), elements.max),
            ("readings[*]", ELEMENTS_MAX)
        );
        let flat = stream.with_nullable_fields("__t").unwrap();
        assert_eq!(
            (flat.elements, flat.fields[2].from[0].to_string().as_str()),
            (None, "readings[0].energy")
        );
        let records = ELEMENTS
            .replace("readings[*]", "[*]")
            .replace("from = [\"[*].at\", \"sent\"]", "from = [\"[*].at\"]")
            .replace(
                "name = \"device_id\"\n",
                "name = \"device_id\"\nfrom = [\"[*].device_id\"]\n",
            );
        let records = Stream::parse("m.toml", &records).unwrap();
        assert!(matches!(records.plan(), PathNode::Elements(_)));
        assert_eq!(
            records.with_nullable_fields("__t").unwrap().fields[2].from[0].to_string(),
            "energy"
        );
    }

    #[test]
    fn every_mistake_about_elements_names_its_place() {
        for (from, to, says) in [
            (
                "readings[*]\"\n\n",
                "readings\"\n\n",
                "m.toml:5: elements `readings`: name the array by its keys and end with `[*]`",
            ),
            (
                "readings[*]\"\n\n",
                "a[*].b[*]\"\n\n",
                "m.toml:5: elements `a[*].b[*]`: name the array by its keys and end",
            ),
            (
                "readings[*]\"\n\n",
                "a[\"\n\n",
                "m.toml:5: elements: path `a[`: write an array index",
            ),
            (
                "readings[*]\"\n\n",
                "values[*]\"\n\n",
                "m.toml:15: field `timestamp`: `from` place `readings[*].at`: the elements are at `values[*]`",
            ),
            (
                "elements = \"readings[*]\"\n",
                "",
                "m.toml:14: field `timestamp`: `from` place `readings[*].at`: `[*]` needs a line `elements",
            ),
            (
                "readings[*].energy",
                "readings[0].energy",
                "m.toml:21: field `energy`: `from` place `readings[0].energy` lies in the array of the elements: write `readings[*]`",
            ),
            (
                "readings[*].energy",
                "readings.energy",
                "m.toml:21: field `energy`: `from` place `readings.energy` lies in",
            ),
            (
                "readings[*].energy",
                "readings",
                "m.toml:21: field `energy`: `from` place `readings` lies in",
            ),
            (
                "readings[*].energy",
                "readings[*].at",
                "m.toml:21: field `energy`: `from` place `readings[*].at` is already taken",
            ),
            (
                "readings[*].energy",
                "readings[*].a[*]",
                "m.toml:21: field `energy`: `from` place `readings[*].a[*]`: only one `[*]`",
            ),
            (
                "\"\n\n[[field]]\nname = \"device_id\"",
                "\"\nelements_max = 0\n\n[[field]]\nname = \"device_id\"",
                "m.toml:6: elements_max 0: use 1 to 1000000",
            ),
            (
                "elements = \"readings[*]\"",
                "elements_max = 5",
                "m.toml:5: elements_max needs `elements`",
            ),
        ] {
            let text = ELEMENTS.replacen(from, to, 1);
            assert_ne!(text, ELEMENTS, "{from} is not there");
            let error = Stream::parse("m.toml", &text).unwrap_err().to_string();
            assert!(error.starts_with(says), "wanted {says}\n   got {error}");
        }
        let envelope = GOOD.replacen("key =", "elements = \"readings[*]\"\nkey =", 1);
        let error = Stream::parse("p.toml", &envelope).unwrap_err().to_string();
        assert_eq!(
            error,
            "p.toml:3: no field is found in the elements: none is `from` `readings[*]`"
        );
    }

    #[test]
    fn bounds_of_a_long_beyond_its_type() {
        let long = GOOD.replacen(r#"type = "integer""#, r#"type = "long""#, 1);
        let bounded = |bounds: &str| Stream::parse("p.toml", &long.replacen("min = 0\nmax = 5000", bounds, 1));
        for bounds in ["min = 1e300", "max = -1e300", "min = 9223372036854775808.0"] {
            let error = bounded(bounds).unwrap_err();
            assert_eq!(error.message, "no long is within these bounds", "{bounds}");
        }
        for bounds in [
            "max = 1e300",
            "min = -1e300",
            "min = -9223372036854775808",
            "min = 9223372036854774784",
        ] {
            assert!(bounded(bounds).is_ok(), "{bounds}");
        }
    }

    #[test]
    fn places_have_a_limit() {
        let with = |places: Vec<String>| {
            let places = format!("from = [{}]", places.join(", "));
            Stream::parse(
                "p.toml",
                &GOOD.replacen(r#"from = ["free", "places.free"]"#, &places, 1),
            )
        };
        let keys = |count: usize| (0..count).map(|number| format!("\"k{number}\"")).collect::<Vec<_>>();
        // The other two fields have one each.
        assert!(with(keys(PLACES_MAX - 2)).is_ok());
        let error = with(keys(PLACES_MAX - 1)).unwrap_err();
        assert_eq!((error.line, error.field.as_deref()), (21, Some("free")));
        assert!(error.message.contains("4001 places"), "{error}");
        let far = |count: usize| {
            (0..count)
                .map(|number| format!("\"k[1023][{number}]\""))
                .collect::<Vec<_>>()
        };
        assert!(with(far(400)).is_ok());
        let error = with(far(500)).unwrap_err();
        assert!(error.message.contains("array elements"), "{error}");
    }

    #[test]
    fn two_streams_do_not_share_a_topic() {
        let other = GOOD.replacen("parking_data\"", "parking_more\"\ntopic = \"parking_data\"", 1);
        let error = Streams::parse([("a.toml", GOOD), ("b.toml", &other)])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("b.toml:1: stream `parking_more` on topic `parking_data` clashes"),
            "{error}"
        );
    }
}
