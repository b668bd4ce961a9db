//! What a partition knows of its producers: the last five batches of each, to recognise a repeated or a missing one
//! (KIP-98, KIP-360), and the open transactions.
//!
//! It follows from the batches alone, so it is rebuilt from the segments; a snapshot saves reading all of them.

use std::collections::{BTreeSet, HashMap, VecDeque};

use kafka_protocol::error::ResponseError;
use serde::{Deserialize, Serialize};

use super::aborted::AbortedTransaction;
use super::batch::{BatchHeader, sequence_after};
use super::error::LogError;
use super::records::control_commits;
use super::segment::Segment;

/// Kafka's clients keep at most five requests in flight with idempotence on.
const BATCHES_KEPT: usize = 5;
/// Beyond this many producers in one partition those silent for longest are forgotten.
const PRODUCERS_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct KeptBatch {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    timestamp: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Producer {
    epoch: i16,
    batches: VecDeque<KeptBatch>,
    transaction_start: Option<i64>,
    /// When it last wrote, by the records' own times or the broker's, whichever the batch had.
    last_timestamp: i64,
}

/// One producer as DescribeProducers shows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProducerView {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) last_sequence: i32,
    pub(crate) last_timestamp: i64,
    pub(crate) transaction_start: Option<i64>,
}

/// What of a producer's last writes the cleaner has to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastBatch {
    /// The batch at this offset: the producer's sequence follows from it.
    Data(i64),
    /// A marker with this epoch, which no batch has.
    Marker(i16),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Append,
    /// Already in the log, from this offset on, with this append time.
    Duplicate {
        base_offset: i64,
        timestamp: i64,
    },
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Producers {
    known: HashMap<i64, Producer>,
    /// First offset and producer of every open transaction.
    open: BTreeSet<(i64, i64)>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Snapshot {
    /// The state is that before this offset.
    pub(super) next_offset: i64,
    /// The segment that was being written, by its base offset, and how many aborted transactions it had.
    pub(super) aborted: (i64, u32),
    producers: Vec<(i64, Producer)>,
}

impl Producers {
    pub(super) fn check(&self, header: &BatchHeader) -> Result<Verdict, LogError> {
        let Some(producer) = self.known.get(&header.producer_id) else {
            return Ok(Verdict::Append);
        };
        if header.producer_epoch < producer.epoch {
            return Err(LogError::refused(
                ResponseError::InvalidProducerEpoch,
                format!(
                    "producer {} has epoch {}, the batch has {}",
                    header.producer_id, producer.epoch, header.producer_epoch
                ),
            ));
        }
        if header.is_control() {
            return Ok(Verdict::Append);
        }
        if producer.transaction_start.is_some() && !header.is_transactional() {
            return Err(LogError::refused(
                ResponseError::InvalidTxnState,
                format!(
                    "producer {} has a transaction open, the batch is of none",
                    header.producer_id
                ),
            ));
        }
        let out_of_order = |expected: i32| {
            Err(LogError::refused(
                ResponseError::OutOfOrderSequenceNumber,
                format!(
                    "producer {}: expected sequence {expected}, the batch starts at {}",
                    header.producer_id, header.base_sequence
                ),
            ))
        };
        if header.producer_epoch > producer.epoch {
            return if header.base_sequence == 0 {
                Ok(Verdict::Append)
            } else {
                out_of_order(0)
            };
        }
        let last_sequence = header.last_sequence();
        let seen = producer
            .batches
            .iter()
            .find(|kept| kept.first_sequence == header.base_sequence && kept.last_sequence == last_sequence);
        if let Some(kept) = seen {
            return Ok(Verdict::Duplicate {
                base_offset: kept.base_offset,
                timestamp: kept.timestamp,
            });
        }
        match producer.batches.back() {
            Some(last) if sequence_after(last.last_sequence, 1) != header.base_sequence => {
                out_of_order(sequence_after(last.last_sequence, 1))
            }
            _ => Ok(Verdict::Append),
        }
    }

    /// The transaction that this batch, written at `base_offset`, aborts.
    pub(super) fn aborted_by(
        &self,
        header: &BatchHeader,
        batch: &[u8],
        base_offset: i64,
    ) -> Option<AbortedTransaction> {
        if !header.is_control() || control_commits(batch) != Some(false) {
            return None;
        }
        let first_offset = self.known.get(&header.producer_id)?.transaction_start?;
        let next_open = self.open.iter().find(|&&(_, id)| id != header.producer_id);
        Some(AbortedTransaction {
            producer_id: header.producer_id,
            first_offset,
            last_offset: base_offset,
            stable_offset: next_open.map_or(base_offset + 1, |&(offset, _)| offset),
        })
    }

    /// Takes note of a batch that is now in the log at `base_offset`.
    pub(super) fn appended(&mut self, header: &BatchHeader, base_offset: i64) {
        if !header.has_producer() {
            return;
        }
        if self.known.len() >= PRODUCERS_MAX && !self.known.contains_key(&header.producer_id) {
            self.forget_oldest();
        }
        let producer = self.known.entry(header.producer_id).or_insert_with(|| Producer {
            epoch: header.producer_epoch,
            batches: VecDeque::with_capacity(BATCHES_KEPT),
            transaction_start: None,
            last_timestamp: header.max_timestamp,
        });
        if header.producer_epoch > producer.epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        producer.last_timestamp = header.max_timestamp;
        if header.is_control() {
            if let Some(start) = producer.transaction_start.take() {
                self.open.remove(&(start, header.producer_id));
            }
            return;
        }
        if producer.batches.len() == BATCHES_KEPT {
            producer.batches.pop_front();
        }
        producer.batches.push_back(KeptBatch {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset,
            timestamp: header.max_timestamp,
        });
        if header.is_transactional() && producer.transaction_start.is_none() {
            producer.transaction_start = Some(base_offset);
            self.open.insert((base_offset, header.producer_id));
        }
    }

    pub(super) fn first_open_offset(&self) -> Option<i64> {
        self.open.first().map(|&(offset, _)| offset)
    }

    pub(super) fn has_open_transaction(&self, producer_id: i64) -> bool {
        self.known
            .get(&producer_id)
            .is_some_and(|producer| producer.transaction_start.is_some())
    }

    /// The last batch of every producer that is known.
    pub(super) fn last_batches(&self) -> HashMap<i64, LastBatch> {
        let last = |producer: &Producer| match producer.batches.back() {
            Some(last) => LastBatch::Data(last.base_offset),
            None => LastBatch::Marker(producer.epoch),
        };
        self.known.iter().map(|(&id, producer)| (id, last(producer))).collect()
    }

    pub(super) fn views(&self) -> Vec<ProducerView> {
        let mut views: Vec<_> = self
            .known
            .iter()
            .map(|(&producer_id, producer)| ProducerView {
                producer_id,
                epoch: producer.epoch,
                last_sequence: producer.batches.back().map_or(-1, |last| last.last_sequence),
                last_timestamp: producer.last_timestamp,
                transaction_start: producer.transaction_start,
            })
            .collect();
        views.sort_by_key(|view| view.producer_id);
        views
    }

    pub(super) fn expire(&mut self, before_ms: i64) {
        self.known
            .retain(|_, producer| producer.transaction_start.is_some() || producer.last_timestamp >= before_ms);
    }

    pub(super) fn snapshot(&self, next_offset: i64, segment: &Segment) -> Snapshot {
        let mut producers: Vec<_> = self
            .known
            .iter()
            .map(|(&id, producer)| (id, producer.clone()))
            .collect();
        producers.sort_by_key(|&(id, _)| id);
        Snapshot {
            next_offset,
            aborted: (segment.base_offset, segment.aborted),
            producers,
        }
    }

    pub(super) fn from_snapshot(snapshot: Snapshot) -> Self {
        let known: HashMap<_, _> = snapshot.producers.into_iter().collect();
        let open = known
            .iter()
            .filter_map(|(&id, p): (&i64, &Producer)| Some((p.transaction_start?, id)))
            .collect();
        Self { known, open }
    }

    /// Makes room for a while: looking for the oldest takes a walk through all.
    fn forget_oldest(&mut self) {
        let idle = self.known.iter().filter(|(_, p)| p.transaction_start.is_none());
        let mut oldest: Vec<_> = idle.map(|(&id, p)| (p.last_timestamp, id)).collect();
        oldest.sort_unstable();
        for (_, id) in oldest.iter().take(PRODUCERS_MAX / 10) {
            self.known.remove(id);
        }
    }
}
