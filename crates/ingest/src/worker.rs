//! The CPU's share: chunks in, decoded and encoded on the spot, closed batches out. One thread per core; a partition
//! always goes to the same one, which keeps its order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use arrow_array::{Array, RecordBatch, TimestampMicrosecondArray};
use codec::{DecodeCounts, Decoder};
use lake::{FileWriter, LakeError, Table};
use metrics::counter;
use model::{Chunk, Clock, DeadLetter, OffsetElement, Stream};
use tokio::sync::mpsc;

use crate::batch::{Batch, BatchFigures, ClassCounts, FlushPolicy, Spans};
use crate::budget::Budget;
use crate::handoff::{Commit, Control, Work};
use crate::tolerance::Breaker;

/// Rows that are decoded before they are encoded: few enough to be still in the cache, and each stream of each worker
/// keeps as many in its columns.
const ROWS_PER_WRITE: usize = 8_192;

pub(crate) struct Worker {
    lanes: Vec<Lane>,
    control: Sender<Control>,
    policy: FlushPolicy,
    /// What the closed batches of all workers may hold.
    closed: Budget,
    clock: Arc<dyn Clock>,
}

/// One stream with its way out.
pub(crate) struct Lane {
    pub(crate) worker: StreamWorker,
    pub(crate) commits: mpsc::Sender<Commit>,
    pub(crate) breaker: Arc<Breaker>,
}

/// One stream's open batch and what fills it.
pub(crate) struct StreamWorker {
    name: Arc<str>,
    event_time_column: usize,
    decoder: Decoder,
    has_elements: bool,
    table: Table,
    open: Option<Open>,
    is_first: bool,
}

/// The batch that is being filled.
struct Open {
    epoch: u64,
    is_first: bool,
    since: Instant,
    writer: FileWriter,
    dead_letters: Vec<DeadLetter>,
    dead_letter_bytes: usize,
    classes: ClassCounts,
    spans: Spans,
    figures: BatchFigures,
}

/// Why a worker ends before its input does.
pub(crate) enum WorkerError {
    /// The committer is gone; it has said why.
    CommitterGone,
    Lake {
        stream: Arc<str>,
        source: LakeError,
    },
}

impl Worker {
    pub(crate) fn new(
        lanes: Vec<Lane>,
        control: Sender<Control>,
        policy: FlushPolicy,
        closed: Budget,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            lanes,
            control,
            policy,
            closed,
            clock,
        }
    }

    /// Works until the reader hangs up, then closes what is open.
    pub(crate) fn run(mut self, work: &Receiver<Work>) -> Result<(), WorkerError> {
        loop {
            match work.recv_timeout(self.next_deadline()) {
                Ok(Work::Chunk {
                    stream,
                    epoch,
                    chunk,
                    recorded_topic,
                    dead_lettered,
                }) => {
                    let chunk = match chunk.topic_partition().topic == recorded_topic {
                        true => chunk,
                        false => chunk.of_topic(recorded_topic),
                    };
                    self.take(stream, epoch, &chunk, &dead_lettered)?;
                }
                Ok(Work::Flush(done)) => {
                    self.flush(|_, _| true)?;
                    // Whoever asked may have given up waiting.
                    done.send(()).ok();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.flush(|_, _| true),
            }
            let policy = self.policy;
            self.flush(|worker, open| {
                open.figures.records >= policy.records_max
                    || worker.bytes() >= policy.bytes_max
                    || open.since.elapsed() >= policy.age_max(open.is_first)
            })?;
            self.flush_beyond(policy.open_bytes_max)?;
        }
    }

    /// Closes the largest batches until all that are open hold no more than this.
    fn flush_beyond(&mut self, bytes_max: usize) -> Result<(), WorkerError> {
        loop {
            let sizes = self.lanes.iter().map(|lane| lane.worker.bytes());
            if sizes.clone().sum::<usize>() <= bytes_max {
                return Ok(());
            }
            let largest = sizes.max().unwrap_or_default();
            self.flush(|worker, _| worker.bytes() >= largest)?;
        }
    }

    fn take(
        &mut self,
        stream: usize,
        epoch: u64,
        chunk: &Chunk,
        dead_lettered: &BTreeSet<OffsetElement>,
    ) -> Result<(), WorkerError> {
        let Lane { worker, breaker, .. } = &mut self.lanes[stream];
        // What is left of a stream that was stopped is read again by the next run.
        if breaker.is_open() {
            return Ok(());
        }
        let counts = worker.take(epoch, chunk, dead_lettered, self.clock.now_us())?;
        if let Err(excess) = breaker.count(counts.elements() as u64, counts.dead_letters as u64) {
            worker.discard();
            // Without a reader the job has ended.
            self.control.send(Control::Stop { stream, excess }).ok();
        }
        Ok(())
    }

    fn next_deadline(&self) -> Duration {
        let open = self.lanes.iter().filter_map(|lane| lane.worker.open.as_ref());
        let left = open.map(|open| self.policy.age_max(open.is_first).saturating_sub(open.since.elapsed()));
        left.min().unwrap_or(self.policy.age_max)
    }

    fn flush(&mut self, is_due: impl Fn(&StreamWorker, &Open) -> bool) -> Result<(), WorkerError> {
        for lane in &mut self.lanes {
            let worker = &lane.worker;
            if !worker.open.as_ref().is_some_and(|open| is_due(worker, open)) {
                continue;
            }
            let bytes = worker.bytes();
            if let Some(mut batch) = lane.worker.close()? {
                batch.held = Some(self.closed.take(bytes));
                lane.commits
                    .blocking_send(Commit::Batch(batch))
                    .map_err(|_| WorkerError::CommitterGone)?;
            }
        }
        Ok(())
    }
}

impl StreamWorker {
    pub(crate) fn new(stream: &Stream, table: Table) -> Self {
        Self {
            name: stream.name.as_str().into(),
            event_time_column: stream.event_time_index(),
            decoder: Decoder::new(stream),
            has_elements: stream.elements.is_some(),
            table,
            open: None,
            is_first: true,
        }
    }

    /// Decodes a chunk into the open batch; its span must follow what the batch holds of the partition. What became of
    /// the records.
    pub(crate) fn take(
        &mut self,
        epoch: u64,
        chunk: &Chunk,
        dead_lettered: &BTreeSet<OffsetElement>,
        now_us: i64,
    ) -> Result<DecodeCounts, WorkerError> {
        if self.open.as_ref().is_some_and(|open| open.epoch != epoch) {
            // The stream was rewound: what is open will be read again.
            self.discard();
        }
        let table = &self.table;
        let open = self
            .open
            .get_or_insert_with(|| Open::new(epoch, self.is_first, table.file_writer()));
        let joined = open.spans.extend(chunk.topic_partition(), chunk.span());
        assert!(
            joined,
            "{}: {} does not follow {:?}",
            chunk.topic_partition(),
            chunk.span(),
            open.spans
        );

        let mut counts = DecodeCounts::default();
        // In more than one go only where few bytes make many rows.
        while counts.records < chunk.len() {
            counts.add(self.decode(counts.records, chunk, dead_lettered, now_us));
            if self.decoder.rows() >= ROWS_PER_WRITE {
                self.write()?;
            }
        }
        Ok(counts)
    }

    /// Decodes the chunk's records from the `first`th on, as far as the decoder goes, into the open batch.
    fn decode(
        &mut self,
        first: usize,
        chunk: &Chunk,
        dead_lettered: &BTreeSet<OffsetElement>,
        now_us: i64,
    ) -> DecodeCounts {
        let Some(open) = &mut self.open else {
            return DecodeCounts::default();
        };
        let started = Instant::now();
        let before = open.dead_letters.len();
        let counts = self
            .decoder
            .decode_from(first, chunk, dead_lettered, now_us, &mut open.dead_letters);
        open.figures.add(BatchFigures {
            records: counts.records as u64,
            elements: self.has_elements.then(|| counts.elements() as u64),
            rows: counts.rows as u64,
            dead_letters: counts.dead_letters as u64,
            decode: started.elapsed(),
            ..BatchFigures::default()
        });
        for letter in &open.dead_letters[before..] {
            open.dead_letter_bytes +=
                letter.key.as_ref().map_or(0, Vec::len) + letter.value.as_ref().map_or(0, Vec::len);
            open.classes.add(letter);
        }
        counts
    }

    /// Bytes that the open batch holds.
    fn bytes(&self) -> usize {
        let encoded = |open: &Open| open.writer.bytes() + open.dead_letter_bytes;
        self.open.as_ref().map_or(0, encoded) + self.decoder.bytes()
    }

    /// Drops the open batch: its records will be read again.
    fn discard(&mut self) {
        self.open = None;
        self.decoder.take();
    }

    /// Encodes the rows decoded so far.
    fn write(&mut self) -> Result<(), WorkerError> {
        if let (Some(open), Some(rows)) = (&mut self.open, self.decoder.take()) {
            let started = Instant::now();
            open.figures.add(BatchFigures {
                event_time_us: event_time_range(&rows, self.event_time_column),
                ..BatchFigures::default()
            });
            open.writer
                .write(&rows)
                .map_err(|source| lake_error(&self.name, source))?;
            open.figures.encode += started.elapsed();
        }
        Ok(())
    }

    /// The open batch, if there is one.
    pub(crate) fn close(&mut self) -> Result<Option<Batch>, WorkerError> {
        self.write()?;
        let Some(mut open) = self.open.take() else {
            return Ok(None);
        };
        self.is_first = false;
        let started = Instant::now();
        let files = match open.writer.is_empty() {
            true => None,
            false => Some(open.writer.finish().map_err(|source| lake_error(&self.name, source))?),
        };
        open.figures.encode += started.elapsed();
        for (stage, class, count) in open.classes.iter() {
            counter!(
                "smartcity_ingest_dead_letters_total",
                "stream" => Arc::clone(&self.name), "stage" => stage, "class" => class
            )
            .increment(count);
        }
        Ok(Some(Batch {
            epoch: open.epoch,
            files,
            dead_letters: open.dead_letters,
            spans: open.spans,
            figures: open.figures,
            held: None,
        }))
    }
}

impl Open {
    fn new(epoch: u64, is_first: bool, writer: FileWriter) -> Self {
        Self {
            epoch,
            is_first,
            since: Instant::now(),
            writer,
            dead_letters: Vec::new(),
            dead_letter_bytes: 0,
            classes: ClassCounts::default(),
            spans: Spans::default(),
            figures: BatchFigures::default(),
        }
    }
}

fn lake_error(stream: &Arc<str>, source: LakeError) -> WorkerError {
    WorkerError::Lake {
        stream: Arc::clone(stream),
        source,
    }
}

fn event_time_range(rows: &RecordBatch, column: usize) -> Option<(i64, i64)> {
    let times = rows
        .column(column)
        .as_any()
        .downcast_ref::<TimestampMicrosecondArray>()?;
    if times.null_count() > 0 {
        // Kafka's timestamps, which a record may lack.
        let values = || times.iter().flatten();
        return Some((values().min()?, values().max()?));
    }
    let values = times.values();
    Some((*values.iter().min()?, *values.iter().max()?))
}
