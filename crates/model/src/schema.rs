//! The Arrow schema of a stream's table; the Delta schema follows from it type by type.

use std::sync::Arc;

use arrow_schema::{DataType, Field as ArrowField, Schema, SchemaRef, TimeUnit};

use crate::{FieldType, Stream};

/// The day of the event time (UTC); partitions the table.
pub const EVENT_DATE: &str = "event_date";
/// The Kafka partition of the record.
pub const PARTITION: &str = "_partition";
/// The Kafka offset of the record.
pub const OFFSET: &str = "_offset";
/// Kafka's timestamp; null when the record has none.
pub const KAFKA_TIMESTAMP: &str = "_kafka_timestamp";
/// When the record was decoded.
pub const INGESTED_AT: &str = "_ingested_at";
/// JSON text of what the message held and no one declared; null when there was nothing.
pub const EXTRA: &str = "_extra";
/// The Kafka topic of the record; null in rows that were written before this column was.
pub const TOPIC: &str = "_topic";
/// Position of the element in its message; null in streams without `elements`.
pub const ELEMENT: &str = "_element";

/// Columns that every table has, after the declared ones, in this order.
static EVERY_TABLE: [(&str, FieldType, bool, &str); 8] = [
    (EVENT_DATE, FieldType::Date, false, "Day of the event time, UTC."),
    (PARTITION, FieldType::Integer, false, "Kafka partition of the record."),
    (OFFSET, FieldType::Long, false, "Kafka offset of the record."),
    (
        KAFKA_TIMESTAMP,
        FieldType::Timestamp,
        true,
        "Kafka's timestamp of the record.",
    ),
    (INGESTED_AT, FieldType::Timestamp, false, "When the record was decoded."),
    (
        EXTRA,
        FieldType::String,
        true,
        "JSON text of the fields that no one declared.",
    ),
    (TOPIC, FieldType::String, true, "Kafka topic of the record."),
    (
        ELEMENT,
        FieldType::Integer,
        true,
        "Position of the element in its message, from 0; null where a message is one row.",
    ),
];

/// The table of the records that became no rows, in every lake.
pub const DEAD_LETTERS: &str = "dead_letters";
/// The table of the offsets that were lost before they were read, in every lake.
pub const GAPS: &str = "gaps";
/// The table of the records that were removed on purpose, in every lake.
pub const ERASURES: &str = "erasures";
/// The table of the commits of all other tables, in every lake: what stays of them when their logs are cleaned up.
pub const COMMITS: &str = "commits";

/// Whether a lake uses this name for a table of its own.
pub fn is_reserved_table(name: &str) -> bool {
    [DEAD_LETTERS, GAPS, ERASURES, COMMITS].contains(&name)
}

pub(crate) fn is_reserved(name: &str) -> bool {
    EVERY_TABLE.iter().any(|(reserved, ..)| *reserved == name)
}

/// Position of one of these columns among them.
pub(crate) fn position_after_declared(name: &str) -> usize {
    EVERY_TABLE
        .iter()
        .position(|(known, ..)| *known == name)
        .unwrap_or_default()
}

/// Names of the unnamed parts of arrays and maps, as Delta and Parquet have them.
const PART_ELEMENT: &str = "element";
const PART_ENTRIES: &str = "key_value";
const PART_KEY: &str = "key";
const PART_VALUE: &str = "value";

impl FieldType {
    /// The Arrow type of a column. Every part of a nested value may be null, but for the keys of maps.
    pub fn arrow(&self) -> DataType {
        match self {
            FieldType::String | FieldType::Time | FieldType::Json => DataType::Utf8,
            FieldType::Integer => DataType::Int32,
            FieldType::Long => DataType::Int64,
            FieldType::Double => DataType::Float64,
            FieldType::Boolean => DataType::Boolean,
            FieldType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            // At most 38, which an i8 holds.
            FieldType::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale as i8),
            FieldType::Date => DataType::Date32,
            FieldType::Binary => DataType::Binary,
            FieldType::Array(element) => DataType::List(Arc::new(ArrowField::new(PART_ELEMENT, element.arrow(), true))),
            FieldType::Map(value) => {
                let key = ArrowField::new(PART_KEY, DataType::Utf8, false);
                let value = ArrowField::new(PART_VALUE, value.arrow(), true);
                let entries = DataType::Struct(vec![key, value].into());
                DataType::Map(Arc::new(ArrowField::new(PART_ENTRIES, entries, false)), false)
            }
            FieldType::Struct(members) => DataType::Struct(
                members
                    .iter()
                    .map(|member| ArrowField::new(&member.name, member.field_type.arrow(), true))
                    .collect(),
            ),
        }
    }
}

impl Stream {
    /// The declared fields in their order, then `event_date, _partition, _offset, _kafka_timestamp, _ingested_at,
    /// _extra, _topic, _element`. Each field carries its documentation as `comment` and its unit as `unit`, where declared.
    pub fn arrow_schema(&self) -> SchemaRef {
        let declared = self.fields.iter().map(|field| {
            let comment = Some(&field.doc).filter(|doc| !doc.is_empty());
            let comment = comment.map(|doc| ("comment".to_owned(), doc.clone()));
            let unit = field.unit.iter().map(|unit| ("unit".to_owned(), unit.clone()));
            ArrowField::new(&field.name, field.field_type.arrow(), field.nullable)
                .with_metadata(comment.into_iter().chain(unit).collect())
        });
        let every = EVERY_TABLE.iter().map(|(name, data_type, nullable, doc)| {
            ArrowField::new(*name, data_type.arrow(), *nullable)
                .with_metadata([("comment".to_owned(), (*doc).to_owned())].into())
        });
        Arc::new(Schema::new(declared.chain(every).collect::<Vec<_>>()))
    }
}
