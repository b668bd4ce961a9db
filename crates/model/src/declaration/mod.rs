//! Reading declarations: TOML text in, [`Stream`]s out, and all mistakes at once, each with its file, line and field.

mod field;
mod source;
#[cfg(test)]
mod tests;

use std::fmt;

use thiserror::Error;
use toml::de::DeTable;

use self::field::read_field;
use self::source::{Keys, Source, Table, Text};
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

/// All mistakes of some declaration files, by file and line; never none. Shows each on a line of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclarationErrors(Vec<DeclarationError>);

impl DeclarationErrors {
    pub fn iter(&self) -> std::slice::Iter<'_, DeclarationError> {
        self.0.iter()
    }
}

impl fmt::Display for DeclarationErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.0.iter().enumerate() {
            let line_break = if number > 0 { "\n" } else { "" };
            write!(f, "{line_break}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for DeclarationErrors {}

/// What a stream may declare: fields, places of all of them, and array elements up to those places. Far above any real
/// stream, far below what would hurt: a decoder numbers the places and what leads to them with 16 bits, and a JSON Schema
/// names every element of an array.
const FIELDS_MAX: usize = 1000;
const PLACES_MAX: usize = 4000;
const POSITIONS_MAX: usize = 1 << 19;
/// The most that `elements_max` may be.
const ELEMENTS_MAX_LIMIT: u32 = 1_000_000;

const STREAM_KEYS: Keys = Keys(&[
    "name",
    "description",
    "topic",
    "format",
    "elements",
    "elements_max",
    "key",
    "event_time",
    "field",
]);

impl Stream {
    /// Reads one declaration. `file` is its name for errors, and `<stream name>.toml` for a stream's own file.
    ///
    /// # Errors
    /// All mistakes in it.
    pub fn parse(file: &str, text: &str) -> Result<Self, DeclarationErrors> {
        let source = Source::new(file, text);
        let stream = source.parse().and_then(|table| read_stream(&source, &table));
        match (source.into_errors(), stream) {
            (errors, Some(stream)) if errors.is_empty() => Ok(stream),
            (errors, _) => Err(DeclarationErrors(errors)),
        }
    }
}

impl Streams {
    /// Reads a set of declarations, given as file name and text. Names and topics must differ.
    ///
    /// # Errors
    /// All mistakes in all of them.
    pub fn parse<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, DeclarationErrors> {
        let (mut streams, mut errors): (Vec<Stream>, Vec<DeclarationError>) = (Vec::new(), Vec::new());
        for (file, text) in files {
            let stream = match Stream::parse(file, text) {
                Ok(stream) => stream,
                Err(found) => {
                    errors.extend(found.0);
                    continue;
                }
            };
            let twin = streams
                .iter()
                .find(|known| known.name == stream.name || known.topic == stream.topic);
            if let Some(twin) = twin {
                let message = format!(
                    "stream `{}` on topic `{}` clashes with stream `{}` on topic `{}`",
                    stream.name, stream.topic, twin.name, twin.topic
                );
                errors.push(DeclarationError {
                    file: file.to_owned(),
                    line: 1,
                    field: None,
                    message,
                });
            }
            streams.push(stream);
        }
        if !errors.is_empty() {
            return Err(DeclarationErrors(errors));
        }
        streams.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Streams(streams))
    }
}

/// `None` only where there is an error.
fn read_stream(source: &Source<'_>, table: &DeTable<'_>) -> Option<Stream> {
    let table = Table::of_stream(source, table);
    table.check_keys(&STREAM_KEYS);
    let name = table.required("name");
    if let Some(name) = name {
        check_name(&table, name, "stream name");
        if is_reserved_table(name.text) {
            let message = format!("stream name `{}` belongs to a table that every lake has", name.text);
            table.error(name.at, message);
        }
    }
    let description = table.filled("description");
    let topic = table.text("topic").or(name);
    if let Some(topic) = table.text("topic") {
        check_topic(&table, topic);
    }
    let format = match table.text("format") {
        None => Some(Format::default()),
        Some(format) => table.checked(format.at, Format::parse(format.text)),
    };
    let elements = read_elements(&table);
    let tables = table.tables("field");
    if tables.len() > FIELDS_MAX {
        table.error(0, format!("{} fields, at most {FIELDS_MAX}", tables.len()));
        return None;
    }

    let mut plan = PathNode::root(elements.as_ref().map(|elements| &elements.path));
    let fields = read_fields(&tables, elements.as_ref(), &mut plan);
    if let (Some(elements), Some(text)) = (&elements, table.text("elements"))
        && fields.len() == tables.len()
        && !fields.iter().flat_map(|field| &field.from).any(Path::is_of_elements)
    {
        let message = format!("no field is found in the elements: none is `from` `{}`", elements.path);
        table.error(text.at, message);
    }
    let key = table.text("key");
    let event_time = table.text("event_time");
    for (name, role) in [(key, "key"), (event_time, "event_time")] {
        let is_declared = |name: Text<'_>| {
            let mut names = tables.iter().filter_map(|field| field.text("name"));
            names.any(|known| known.text == name.text)
        };
        if let Some(name) = name.filter(|name| !is_declared(*name)) {
            table.error_of(name.text, name.at, format!("named as {role}, but not declared"));
        }
    }
    if let Some(name) = event_time
        && let Some(field) = fields.iter().find(|field| field.name == name.text)
        && (field.field_type != FieldType::Timestamp || field.nullable)
    {
        let message = "the event time must be a timestamp that is not nullable";
        table.error_of(name.text, name.at, message);
    }
    Some(Stream {
        name: name?.text.to_owned(),
        topic: topic?.text.to_owned(),
        format: format?,
        description: description.map_or_else(String::new, |text| text.text.to_owned()),
        key: key.map(|key| key.text.to_owned()),
        event_time: event_time.map(|event_time| event_time.text.to_owned()),
        elements,
        fields,
        plan,
    })
}

/// The good ones among the fields, with their places in `plan`.
fn read_fields(tables: &[Table<'_>], elements: Option<&Elements>, plan: &mut PathNode) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::with_capacity(tables.len());
    let (mut places, mut positions) = (0, 0);
    for table in tables {
        let Some(field) = read_field(table) else {
            continue;
        };
        let name_at = table.text("name").map_or(table.at(), |name| name.at);
        if is_reserved(&field.name) {
            table.error(name_at, "this name belongs to a column that every table has");
        }
        if fields.iter().any(|known| known.name == field.name) {
            table.error(name_at, "declared twice");
        }
        let declared = table.texts("from");
        for (rank, path) in field.from.iter().enumerate() {
            let at = declared.get(rank).map_or(table.at(), |from| from.at);
            places += 1;
            positions += path.positions();
            if places > PLACES_MAX || positions > POSITIONS_MAX {
                let message = format!(
                    "with it the stream has {places} places and {positions} array elements up to them, at most \
                     {PLACES_MAX} and {POSITIONS_MAX}"
                );
                table.error(at, message);
                return fields;
            }
            let inserted = match path.is_message() {
                true => check_message(&field, &fields),
                false => check_place(path, elements).and_then(|()| plan.insert(path, fields.len(), rank)),
            };
            table.checked(at, inserted);
        }
        fields.push(field);
    }
    fields
}

/// The whole message is one field's alone, and JSON.
fn check_message(field: &Field, others: &[Field]) -> Result<(), String> {
    if field.field_type != FieldType::Json {
        return Err(format!(
            "`from` place `$` is the whole message: it needs type json, not {}",
            field.field_type
        ));
    }
    if field.from.len() > 1 {
        return Err("`from` place `$` is the whole message: no other place can stand beside it".to_owned());
    }
    match others.iter().find(|other| other.is_message()) {
        None => Ok(()),
        Some(other) => Err(format!("`from` place `$` is field `{}` already", other.name)),
    }
}

/// Where the elements are, and how many a message may have.
fn read_elements(table: &Table<'_>) -> Option<Elements> {
    let max = match (table.integer("elements_max"), table.text("elements")) {
        (None, _) => ELEMENTS_MAX,
        (Some((_, at)), None) => {
            table.error(at, "elements_max needs `elements`, which says where they are");
            return None;
        }
        (Some((max, at)), Some(_)) => match u32::try_from(max) {
            Ok(number @ 1..=ELEMENTS_MAX_LIMIT) => number,
            _ => {
                table.error(at, format!("elements_max {max}: use 1 to {ELEMENTS_MAX_LIMIT}"));
                ELEMENTS_MAX
            }
        },
    };
    let text = table.text("elements")?;
    let parsed = Path::parse(text.text).map_err(|message| format!("elements: {message}"));
    let path = table.checked(text.at, parsed)?;
    let array = path.steps().split_last().map(|(_, array)| array).unwrap_or_default();
    let is_array_at_keys = array.iter().all(|step| matches!(step, Step::Key(_)));
    if !is_array_at_keys || path.steps().last() != Some(&Step::Each) {
        table.error(
            text.at,
            format!("elements `{path}`: name the array by its keys and end with `[*]`, as in `readings[*]`"),
        );
        return None;
    }
    Some(Elements { path, max })
}

/// `[*]` stands in a field's place where the elements are, and nowhere else.
fn check_place(path: &Path, elements: Option<&Elements>) -> Result<(), String> {
    let Some(each) = path.steps().iter().position(|step| *step == Step::Each) else {
        return match elements {
            // It would read one element and leave out the others.
            Some(elements) if path.starts_with_array_of(&elements.path) => Err(format!(
                "`from` place `{path}` lies in the array of the elements: write `{}` there",
                elements.path
            )),
            _ => Ok(()),
        };
    };
    let steps = path.steps();
    Err(match elements {
        None => format!("`from` place `{path}`: `[*]` needs a line `elements = \"...[*]\"` above the fields"),
        Some(elements) if steps[..=each] != *elements.path.steps() => {
            format!("`from` place `{path}`: the elements are at `{}`", elements.path)
        }
        Some(_) if steps[each + 1..].contains(&Step::Each) => {
            format!("`from` place `{path}`: only one `[*]`, that of the elements")
        }
        Some(_) if each == 0 && !matches!(steps.get(1), Some(Step::Key(_))) => {
            format!("`from` place `{path}`: elements of an array of records are objects, as in `[*].value`")
        }
        Some(_) => return Ok(()),
    })
}

/// A name is a path on disk, a column and an SQL identifier at once, so it is what all three take without quotes.
fn check_name(table: &Table<'_>, name: Text<'_>, what: &str) {
    let text = name.text.as_bytes();
    let starts_well = text.first().is_some_and(u8::is_ascii_lowercase);
    let goes_well = text
        .iter()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_');
    if !starts_well || !goes_well || text.len() > 64 {
        let message = format!(
            "{what} `{}`: use a to z, 0 to 9 and _, a letter first, at most 64",
            name.text
        );
        table.error(name.at, message);
    }
}

/// Kafka's rule for topic names.
fn check_topic(table: &Table<'_>, topic: Text<'_>) {
    let text = topic.text;
    let legal = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if !legal || !(1..=249).contains(&text.len()) || text == "." || text == ".." {
        let message = format!("invalid Kafka topic name `{text}`: use letters, digits, `.`, `_` and `-`, at most 249");
        table.error(topic.at, message);
    }
}
