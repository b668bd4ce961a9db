//! The lake: one Delta table per stream on an object store, written exactly once.
//!
//! Rows and the Kafka offsets they came from are one commit, so that a table always knows what it holds. This crate knows
//! Delta, Parquet and object stores; it knows topics and offsets by name alone and no Kafka client.
//!
//! A batch's way: [`FileWriter`] encodes, [`Table::upload`] stores, [`Table::commit`] makes it visible; `log` is what we
//! know of a table's log, `decide` what a batch's fate is given that, `commit` does it.

mod commit;
mod dead_letters;
mod decide;
mod encode;
mod error;
mod gaps;
mod lake;
mod live_files;
mod log;
mod names;
mod pause;
mod prepared;
mod probe;
mod properties;
mod rewrite;
mod root;
mod s3;
mod schema;
mod stats;
mod table;
mod upload;
pub mod verify;

pub use commit::CommitOutcome;
pub use dead_letters::DeadLetters;
pub use decide::{Decision, Mark, Recorded, decide, decide_letters};
pub use encode::{EncodedFiles, FileWriter};
pub use error::LakeError;
pub use gaps::Gaps;
pub use lake::Lake;
pub use names::Names;
pub use pause::{Backoff, Pause};
pub use rewrite::DataFile;
pub use root::Root;
pub use table::Table;
pub use upload::StagedFiles;
