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
const EVERY_TABLE: [(&str, FieldTypeOrDate, bool, &str); 8] = [
    (EVENT_DATE, FieldTypeOrDate::Date, false, "Day of the event time, UTC."),
    (
        PARTITION,
        FieldTypeOrDate::Field(FieldType::Integer),
        false,
        "Kafka partition of the record.",
    ),
    (
        OFFSET,
        FieldTypeOrDate::Field(FieldType::Long),
        false,
        "Kafka offset of the record.",
    ),
    (
        KAFKA_TIMESTAMP,
        FieldTypeOrDate::Field(FieldType::Timestamp),
        true,
        "Kafka's timestamp of the record.",
    ),
    (
        INGESTED_AT,
        FieldTypeOrDate::Field(FieldType::Timestamp),
        false,
        "When the record was decoded.",
    ),
    (
        EXTRA,
        FieldTypeOrDate::Field(FieldType::String),
        true,
        "JSON text of the fields that no one declared.",
    ),
    (
        TOPIC,
        FieldTypeOrDate::Field(FieldType::String),
        true,
        "Kafka topic of the record.",
    ),
    (
        ELEMENT,
        FieldTypeOrDate::Field(FieldType::Integer),
        true,
        "Position of the element in its message, from 0; null where a message is one row.",
    ),
];

#[derive(Clone, Copy)]
enum FieldTypeOrDate {
    Field(FieldType),
    Date,
}

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

impl FieldType {
    pub fn arrow(self) -> DataType {
        match self {
            FieldType::String => DataType::Utf8,
            FieldType::Integer => DataType::Int32,
            FieldType::Long => DataType::Int64,
            FieldType::Double => DataType::Float64,
            FieldType::Boolean => DataType::Boolean,
            FieldType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }
}

impl Stream {
    /// The declared fields in their order, then `event_date, _partition, _offset, _kafka_timestamp, _ingested_at,
    /// _extra, _topic, _element`. Each field carries its documentation as `comment` and its unit as `unit`.
    pub fn arrow_schema(&self) -> SchemaRef {
        let declared = self.fields.iter().map(|field| {
            let comment = [("comment".to_owned(), field.doc.clone())];
            let unit = field.unit.iter().map(|unit| ("unit".to_owned(), unit.clone()));
            ArrowField::new(&field.name, field.field_type.arrow(), field.nullable)
                .with_metadata(comment.into_iter().chain(unit).collect())
        });
        let every = EVERY_TABLE.iter().map(|(name, data_type, nullable, doc)| {
            let data_type = match data_type {
                FieldTypeOrDate::Field(field_type) => field_type.arrow(),
                FieldTypeOrDate::Date => DataType::Date32,
            };
            ArrowField::new(*name, data_type, *nullable)
                .with_metadata([("comment".to_owned(), (*doc).to_owned())].into())
        });
        Arc::new(Schema::new(declared.chain(every).collect::<Vec<_>>()))
    }
}
