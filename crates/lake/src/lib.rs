//! The lake: one Delta table per stream on an object store, written exactly once.
//!
//! Rows and the Kafka offsets they came from are one commit, so that a table always knows what it holds. This crate knows
//! Delta, Parquet and object stores; it knows topics and offsets by name alone and no Kafka client.
//!
//! A batch's way: [`FileWriter`] encodes, [`Table::upload`] stores, [`Table::commit`] makes it visible. A reader's:
//! [`Root::snapshot`]. Both stand on [`delta`], the one place that reads or writes a table's log.

pub mod delta;
mod error;
mod lake;
mod names;
mod pause;
mod store;
mod table;
pub mod verify;
mod write;

pub use delta::Snapshot;
pub use delta::append::CommitOutcome;
pub use delta::decide::{Decision, Mark, Recorded, decide, decide_letters};
pub use error::{LakeError, describe};
pub use lake::Lake;
pub use names::Names;
pub use pause::{Backoff, Pause};
pub use store::local::{Disk, DiskFile, Durability, LocalStore, SystemDisk};
pub use store::location::Location;
pub use store::root::Root;
pub use table::dead_letters::DeadLetters;
pub use table::erasures::{Erasure, Erasures};
pub use table::gaps::Gaps;
pub use table::rewrite::DataFile;
pub use table::starts::StartingOffset;
pub use table::stream::{ReplayedMessage, Table};
pub use write::encode::{EncodedFiles, FileWriter};
pub use write::parquet::ParquetProfile;
pub use write::upload::StagedFiles;
