//! A partition's log: segment files of record batches as they came, their indexes, the producers' state, recovery.
//!
//! `batch` reads a batch's header and checks it, `segment` is one file and its index, `partition` is the log made of
//! them, `producers` knows each producer's last batches and open transaction, `aborted` which were aborted, `recovery`
//! opens all of it, `read` turns a place in the log into a range of a file without holding the log's lock. `retention`
//! decides which segments go, `cleaner` compacts, `names` says which files are the log, `upkeep` does the slow work beside
//! the appends.

mod aborted;
mod batch;
mod cleaner;
mod config;
mod error;
mod locate;
mod names;
mod pack;
mod partition;
mod producers;
mod read;
mod records;
mod recovery;
mod retention;
mod segment;
mod unpack;
mod upkeep;

#[cfg(any(test, fuzzing))]
mod fuzz;
#[cfg(test)]
mod tests;

pub(crate) use batch::{BatchFault, BatchHeader, HEADER_BYTES, control_batch};
pub(crate) use cleaner::{CleanJob, Cleaned};
pub(crate) use config::{CompactionConfig, LogConfig, TimestampType};
pub(crate) use error::LogError;
pub(crate) use partition::{Appended, PartitionLog};
pub(crate) use read::{Chunk, FileRange, Records, TimestampAnswer};
pub(crate) use records::{first_without_key, validate as validate_records};

#[cfg(any(test, fuzzing))]
pub(crate) use fuzz::{find_all, open_and_compare, seal_first};
#[cfg(test)]
pub(crate) use fuzz::{sample_batches, sample_segments};
