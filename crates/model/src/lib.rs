//! The words every other crate shares: stream declarations, records and their place in Kafka, event time, the clock.
//!
//! Pure data. Nothing here opens a file or a socket, writes Arrow arrays or runs asynchronously; reading the declaration
//! files from disk is the caller's.

mod chunk;
mod clock;
mod dead_letter;
mod declaration;
pub mod event_time;
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

pub use chunk::{Chunk, ChunkBuilder, Record};
pub use clock::{Clock, ManualClock, SystemClock};
pub use dead_letter::{DeadLetter, Stage};
pub use declaration::DeclarationError;
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
pub use stream::{ELEMENTS_MAX, Elements, Field, FieldType, Stream, Streams};
