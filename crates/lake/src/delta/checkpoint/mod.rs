//! Checkpoints: the state of a table at a version in Parquet, so that a reader need not read the log from its start
//! (PROTOCOL.md, "Checkpoints").

mod columns;
mod parsed_stats;
pub(crate) mod read;
mod rows;
pub(crate) mod write;
