//! What the stages hand each other: reader -> workers -> committers, and back to the reader when it must begin again.

use std::collections::{BTreeSet, HashMap};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};

use model::{Chunk, TopicPartition};
use tokio::sync::oneshot;

use crate::batch::Batch;

/// What the reader hands a worker.
pub(crate) enum Work {
    Chunk {
        stream: usize,
        epoch: u64,
        chunk: Chunk,
        /// Offsets of this partition that are dead letters already.
        already_dead: Arc<BTreeSet<i64>>,
    },
    /// Close every batch now, then say so.
    Flush(SyncSender<()>),
}

/// What a committer is asked to do.
pub(crate) enum Commit {
    Batch(Batch),
    /// Answer when everything sent before has landed.
    Barrier(oneshot::Sender<()>),
}

/// How far the dead letters of each partition had come when we last looked; another value means another writer.
pub(crate) type LetterOffsets = Arc<Mutex<HashMap<TopicPartition, Option<i64>>>>;

/// What the committers ask of the reader.
pub(crate) enum Control {
    /// Drop what this stream has in flight and read again from what its table records.
    Rewind { stream: usize, epoch: u64 },
}
