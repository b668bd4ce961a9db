//! The words every other crate shares: stream declarations, records and their place in Kafka, event time, the clock.
//!
//! Pure data. Nothing here opens a file or a socket, writes Arrow arrays or runs asynchronously; reading the declaration
//! files from disk is the caller's.

mod chunk;
mod clock;
mod dead_letter;
pub mod decimal;
mod declaration;
pub mod event_time;
mod field_type;
mod fingerprint;
mod format;
mod json_schema;
mod nearest;
mod path;
mod record_id;
mod recreated;
mod schema;
mod span;
mod stream;
mod time_format;
mod written;

pub use chunk::{Chunk, ChunkBuilder, Record};
pub use clock::{Clock, ManualClock, SystemClock};
pub use dead_letter::{DeadLetter, Stage};
pub use declaration::{DeclarationError, DeclarationErrors};
pub use field_type::{FieldType, Member, decimal_bounds};
pub use format::Format;
pub use nearest::nearest;
pub use path::{Path, PathNode, Step};
pub use record_id::{OffsetElement, RecordId};
pub use recreated::{kafka_topic, recreated_topic};
pub use schema::{
    COMMITS, DEAD_LETTERS, ELEMENT, ERASURES, EVENT_DATE, EXTRA, GAPS, INGESTED_AT, KAFKA_TIMESTAMP, OFFSET, PARTITION,
    TOPIC, is_reserved_table,
};
pub use span::{Span, TopicPartition};
pub use stream::{ELEMENTS_MAX, Elements, Field, Stream, Streams};
pub use time_format::TimeFormat;
pub use written::{Encoding, EpochUnit, Written};
