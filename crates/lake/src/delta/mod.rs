//! A table's Delta log: its actions, what is in it, a table at a version, and how a commit enters it.
//!
//! The one place of the program that reads or writes the log. A reader's way: [`Listing`] finds the files, [`Replay`] goes
//! through them from the newest back, [`Snapshot`] is what they add up to. A writer's: `log` holds what it knows, `decide`
//! and `conflict` say what may be committed, `commit` does it, `checkpoint` shortens the way for the next reader.

pub mod action;
pub(crate) mod append;
pub mod arrow;
pub(crate) mod change;
pub(crate) mod checkpoint;
mod checkpointer;
pub(crate) mod commit;
pub mod conflict;
pub(crate) mod data_file;
pub(crate) mod decide;
pub mod deletion_vector;
pub(crate) mod features;
pub(crate) mod field_ids;
mod history;
pub(crate) mod keeper;
pub mod listing;
pub(crate) mod live_files;
pub mod location;
pub(crate) mod log;
pub(crate) mod open;
mod prepared;
mod protocol;
pub mod replay;
pub mod schema;
mod segment;
mod snapshot;
pub(crate) mod spec;

pub use action::{Action, Add, CommitInfo, CommitSpan, FileKey, Metadata, Protocol, Remove, Txn};
pub use checkpoint::read::Kinds;
pub use checkpoint::write::write_checkpoint;
pub use deletion_vector::DeletionVector;
pub use history::{HistoryEntry, history};
pub use listing::Listing;
pub use location::{LastCheckpoint, TableLocation};
pub use replay::{Damage, FileReconciler, Origin, Piece, RecordedTxn, Replay, TableState};
pub use schema::{ColumnMapping, DataType, PrimitiveType, StructField, StructType};
pub use snapshot::Snapshot;
