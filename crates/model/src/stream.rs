//! A stream as declared in `streams/<name>.toml`: the single source of its schema, its decoder and its documentation.

use crate::{Format, Path, PathNode};

/// All streams of a run, in the order of their names.
#[derive(Debug, Clone, PartialEq)]
pub struct Streams(pub(crate) Vec<Stream>);

/// One stream: a Kafka topic and the table it lands in.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// The table's name, and the topic's unless `topic` says otherwise.
    pub name: String,
    pub topic: String,
    pub description: String,
    /// What its record values are written in.
    pub format: Format,
    /// The field that producers use as Kafka key.
    pub key: String,
    /// The field with the event time; its day partitions the table.
    pub event_time: String,
    /// Where a message holds the elements that become rows of their own; `None` when a message is one row.
    pub elements: Option<Elements>,
    pub fields: Vec<Field>,
    pub(crate) plan: PathNode,
}

/// An array in a message, each element of which becomes one row: the element's fields, and those of the message beside
/// the array (its envelope) repeated in each.
#[derive(Debug, Clone, PartialEq)]
pub struct Elements {
    /// Ends with `[*]`, its only one. `[*]` alone is a message that is an array of records.
    pub path: Path,
    /// Elements of one message, at most; a message with more is a dead letter.
    pub max: u32,
}

/// The default of [`Elements::max`].
pub const ELEMENTS_MAX: u32 = 10_000;

/// One column, and what a value must be to enter it.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub name: String,
    pub field_type: FieldType,
    pub unit: Option<String>,
    pub nullable: bool,
    /// Each value occurs about once (an id): no dictionary, no statistics.
    pub unique: bool,
    /// Inclusive bounds, numbers only.
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// The values allowed, strings only; empty means any.
    pub one_of: Vec<String>,
    /// Where it is found in a message; the first place that holds a value counts.
    pub from: Vec<Path>,
    pub doc: String,
}

/// The types a field may have, by the names of Delta's primitive types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// UTF-8 text.
    String,
    /// 32 bits, signed. A JSON number with a fraction or an exponent is a wrong type, also when it is whole.
    Integer,
    /// 64 bits, signed.
    Long,
    /// IEEE 754 binary64; any JSON number whose value is finite.
    Double,
    Boolean,
    /// Microseconds, UTC; [`crate::event_time::parse`] says which texts.
    Timestamp,
}

impl FieldType {
    pub const ALL: [FieldType; 6] = [
        FieldType::String,
        FieldType::Integer,
        FieldType::Long,
        FieldType::Double,
        FieldType::Boolean,
        FieldType::Timestamp,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            FieldType::String => "string",
            FieldType::Integer => "integer",
            FieldType::Long => "long",
            FieldType::Double => "double",
            FieldType::Boolean => "boolean",
            FieldType::Timestamp => "timestamp",
        }
    }

    /// Whether any value of this type is within the bounds. The casts saturate, so `i128` holds every bound that matters.
    pub(crate) fn has_value_in(self, min: Option<f64>, max: Option<f64>) -> bool {
        let of_type = match self {
            FieldType::Integer => (i128::from(i32::MIN), i128::from(i32::MAX)),
            FieldType::Long => (i128::from(i64::MIN), i128::from(i64::MAX)),
            _ => return true,
        };
        let min = min.map_or(of_type.0, |min| of_type.0.max(min.ceil() as i128));
        let max = max.map_or(of_type.1, |max| of_type.1.min(max.floor() as i128));
        min <= max
    }

    pub(crate) fn is_number(self) -> bool {
        matches!(self, FieldType::Integer | FieldType::Long | FieldType::Double)
    }
}

impl Stream {
    /// The decoder's plan: every place of every field, as one tree. The root is an object, or [`PathNode::Elements`] where
    /// the message itself is the array.
    pub fn plan(&self) -> &PathNode {
        &self.plan
    }

    /// The same fields, all of which may be null, and an event time of its own at the top-level key `event_time_key`: a
    /// stream that reads out of `_extra` what went there before it was declared. `_extra` is one row's, so it holds one
    /// element at most, and this stream has no elements.
    ///
    /// # Errors
    /// That key is a place of one of the fields.
    pub fn with_nullable_fields(&self, event_time_key: &str) -> Result<Stream, String> {
        let mut fields = self.fields.clone();
        for field in &mut fields {
            field.nullable = true;
            for place in &mut field.from {
                *place = place.in_the_only_element();
            }
        }
        fields.push(Field {
            name: event_time_key.to_owned(),
            from: vec![Path::parse(event_time_key)?],
            ..self.fields[self.event_time_index()].clone()
        });
        let mut plan = PathNode::root(None);
        for (index, field) in fields.iter().enumerate() {
            for (rank, path) in field.from.iter().enumerate() {
                plan.insert(path, index, rank)?;
            }
        }
        Ok(Stream {
            key: event_time_key.to_owned(),
            event_time: event_time_key.to_owned(),
            elements: None,
            fields,
            plan,
            ..self.clone()
        })
    }

    /// Position of a field by name.
    pub fn field_index(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    /// Position of the event-time field.
    pub fn event_time_index(&self) -> usize {
        self.field_index(&self.event_time).unwrap_or_default()
    }
}

impl Streams {
    pub fn iter(&self) -> std::slice::Iter<'_, Stream> {
        self.0.iter()
    }

    pub fn get(&self, name: &str) -> Option<&Stream> {
        self.0.iter().find(|stream| stream.name == name)
    }

    pub fn by_topic(&self, topic: &str) -> Option<&Stream> {
        self.0.iter().find(|stream| stream.topic == topic)
    }

    /// Reads a stream from another topic than the declared one. `false` when there is no stream of that name.
    #[must_use]
    pub fn set_topic(&mut self, name: &str, topic: &str) -> bool {
        let stream = self.0.iter_mut().find(|stream| stream.name == name);
        if let Some(stream) = stream {
            topic.clone_into(&mut stream.topic);
            return true;
        }
        false
    }

    /// Drops the streams that do not match.
    pub fn retain(&mut self, keep: impl FnMut(&Stream) -> bool) {
        self.0.retain(keep);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Streams {
    type Item = &'a Stream;
    type IntoIter = std::slice::Iter<'a, Stream>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
