//! From a chunk of Kafka records to rows and offsets in one commit. A record's way, file by file: `reader` (from where:
//! `assignment`), the crate `codec`, `batch`, `worker`, `committer`; `job` wires them.
//!
//! Knows nothing of object stores and SQL: it hands encoded rows and their offsets to `lake`.

mod assignment;
pub mod backfill;
mod batch;
mod budget;
mod committer;
mod config;
mod dispatch;
mod dlq_topic;
pub mod drift;
mod error;
mod handoff;
mod job;
mod progress;
mod reader;
pub mod replay;
#[cfg(test)]
mod simulation;
mod tolerance;
mod topics;
pub mod verify;
mod watch;
mod worker;

pub use batch::FlushPolicy;
pub use config::{JobConfig, StartingOffsets, Until};
pub use dlq_topic::DlqTopic;
pub use error::{IngestError, MissingTopic};
pub use job::run;
pub use progress::{Progress, StreamProgress, Totals};
pub use tolerance::{ErrorsTolerance, Excess};
