//! The lake: one Delta table per stream on an object store, written exactly once.
//!
//! Rows and the Kafka offsets they came from are one commit, so that a table always knows what it holds. This crate knows
//! Delta, Parquet and object stores; it knows topics and offsets by name alone and no Kafka client.

mod dead_letters;
mod decide;
mod encode;
mod error;
mod lake;
mod names;
mod table;

pub use dead_letters::DeadLetters;
pub use decide::{Decision, decide};
pub use encode::{EncodedFiles, FileWriter};
pub use error::LakeError;
pub use lake::Lake;
pub use names::Names;
pub use table::{CommitOutcome, StagedFiles, Table};
