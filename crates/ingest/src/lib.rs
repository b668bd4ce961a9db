//! From a chunk of Kafka records to rows and offsets in one commit. A record's way, file by file: `reader`, `decode`,
//! `batch`, `worker`, `committer`; `job` wires them.
//!
//! Knows nothing of object stores and SQL: it hands encoded rows and their offsets to `lake`.

mod batch;
mod committer;
pub mod decode;
mod error;
mod job;
mod progress;
mod reader;
mod worker;

pub use batch::FlushPolicy;
pub use error::IngestError;
pub use job::{JobConfig, StartingOffsets, Until, run};
pub use progress::{Progress, StreamProgress, Totals};
