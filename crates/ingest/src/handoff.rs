//! What the stages hand each other: reader -> workers -> committers, and back to the reader when it must begin again.

use std::collections::{BTreeSet, HashMap};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};

use lake::Mark;
use model::{Chunk, OffsetElement, TopicPartition};
use tokio::sync::oneshot;

use crate::batch::Batch;
use crate::tolerance::Excess;

/// What the reader hands a worker.
pub(crate) enum Work {
    Chunk {
        stream: usize,
        epoch: u64,
        chunk: Chunk,
        /// What the table calls the chunk's topic.
        recorded_topic: Arc<str>,
        /// Records and elements of this partition that are dead letters already.
        dead_lettered: Arc<BTreeSet<OffsetElement>>,
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

/// By partition, where its dead letters were when it was assigned or its letters last landed.
pub(crate) type LetterOffsets = Arc<Mutex<HashMap<TopicPartition, LetterOffset>>>;

/// How far a partition's dead letters had come when we last looked; another value in the table means another writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LetterOffset {
    /// The stream's epoch that read it. A batch of another knows of other letters.
    pub(crate) epoch: u64,
    pub(crate) mark: Option<Mark>,
}

/// Which topic a stream is read from since an epoch. What was read before is void.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) epoch: u64,
    /// Kafka's id of the topic, where it gives one: rows of these epoch's batches come from no other.
    pub(crate) topic_id: Option<String>,
}

/// Set by the reader, looked at by the committer and the watch.
pub(crate) type SharedBinding = Arc<Mutex<Binding>>;

/// What the committers ask of the reader.
pub(crate) enum Control {
    /// Drop what this stream has in flight and read again from what its table records, as this epoch or a later one.
    Rewind { stream: usize, epoch: u64 },
    /// Read no more of this stream: too much of it is broken.
    Stop { stream: usize, excess: Excess },
}
