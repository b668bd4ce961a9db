//! A stream as declared in `streams/<name>.toml`: the single source of its schema, its decoder and its documentation.

use crate::schema::position_after_declared;
use crate::{FieldType, Format, KAFKA_TIMESTAMP, Path, PathNode, Written};

/// All streams of a run, in the order of their names.
#[derive(Debug, Clone, PartialEq)]
pub struct Streams(pub(crate) Vec<Stream>);

/// One stream: a Kafka topic and the table it lands in.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// The table's name, and the topic's unless `topic` says otherwise.
    pub name: String,
    pub topic: String,
    /// Empty when none is declared.
    pub description: String,
    /// What its record values are written in.
    pub format: Format,
    /// The field that producers use as Kafka key; documentation alone.
    pub key: Option<String>,
    /// The field with the event time; its day partitions the table. `None`: Kafka's timestamp is the event time, or where a
    /// record has none, the time at which it was ingested.
    pub event_time: Option<String>,
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
    /// How values may be written beyond the usual form of the type.
    pub written: Written,
    /// Inclusive bounds, numbers only.
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// The values allowed, strings only; empty means any.
    pub one_of: Vec<String>,
    /// Where it is found in a message; the first place that holds a value counts.
    pub from: Vec<Path>,
    /// Empty when none is declared.
    pub doc: String,
}

impl Field {
    /// Whether its value is the whole message.
    pub fn is_message(&self) -> bool {
        self.from.iter().any(Path::is_message)
    }
}

impl Stream {
    /// The decoder's plan: every place of every field, as one tree. The root is an object, or [`PathNode::Elements`] where
    /// the message itself is the array.
    pub fn plan(&self) -> &PathNode {
        &self.plan
    }

    /// A stream that reads out of `_extra` what went there before it was declared: the same fields, all of which may be null,
    /// without an event time. A field that every row has takes anything, as what `_extra` holds in its place is no value for
    /// it. The whole message is not there. `_extra` is one row's, so it holds one element at most, and this stream has no
    /// elements.
    ///
    /// # Errors
    /// Two of the fields clash, in words.
    pub fn with_nullable_fields(&self) -> Result<Stream, String> {
        let mut fields: Vec<Field> = self
            .fields
            .iter()
            .filter(|field| !field.is_message())
            .cloned()
            .collect();
        let mut plan = PathNode::root(None);
        for (index, field) in fields.iter_mut().enumerate() {
            if !field.nullable {
                *field = Field {
                    field_type: FieldType::Json,
                    nullable: true,
                    written: Written::default(),
                    min: None,
                    max: None,
                    one_of: Vec::new(),
                    ..field.clone()
                };
            }
            for (rank, place) in field.from.iter_mut().enumerate() {
                *place = place.in_the_only_element();
                plan.insert(place, index, rank)?;
            }
        }
        Ok(Stream {
            key: None,
            event_time: None,
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

    /// Position of the event-time field; `None` when Kafka's timestamp is the event time.
    pub fn event_time_field(&self) -> Option<usize> {
        self.field_index(self.event_time.as_deref()?)
    }

    /// The column that holds the event time: the declared field's, or Kafka's timestamp, which a row may lack.
    pub fn event_time_column(&self) -> &str {
        self.event_time.as_deref().unwrap_or(KAFKA_TIMESTAMP)
    }

    /// Position of [`Self::event_time_column`] in [`Stream::arrow_schema`].
    pub fn event_time_index(&self) -> usize {
        self.event_time_field()
            .unwrap_or_else(|| self.fields.len() + position_after_declared(KAFKA_TIMESTAMP))
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
