//! What a partition knows of its producers: the last five batches of each, to recognise a repeated or a missing one
//! (KIP-98, KIP-360), the open transactions, and those that were aborted.
//!
//! It follows from the batches alone, so it is rebuilt from the segments; a snapshot saves reading all of them.

use std::collections::{BTreeSet, HashMap, VecDeque};

use kafka_protocol::error::ResponseError;
use serde::{Deserialize, Serialize};

use super::LogError;
use super::batch::{BatchHeader, control_commits, sequence_after};

/// Kafka's clients keep at most five requests in flight with idempotence on.
const BATCHES_KEPT: usize = 5;
/// Beyond this many producers in one partition the one silent for longest is forgotten.
const PRODUCERS_MAX: usize = 50_000;

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

/// A transaction that ended in an abort: its records lie in `[first_offset, last_offset]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AbortedTransaction {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
    /// The marker's offset.
    pub(crate) last_offset: i64,
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
    /// In the order of their markers.
    aborted: Vec<AbortedTransaction>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Snapshot {
    /// The state is that before this offset.
    pub(super) next_offset: i64,
    producers: Vec<(i64, Producer)>,
    aborted: Vec<AbortedTransaction>,
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

    /// Takes note of a batch that is now in the log at `base_offset`.
    pub(super) fn appended(&mut self, header: &BatchHeader, batch: &[u8], base_offset: i64) {
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
                if control_commits(batch) == Some(false) {
                    self.aborted.push(AbortedTransaction {
                        producer_id: header.producer_id,
                        first_offset: start,
                        last_offset: base_offset,
                    });
                }
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

    /// Aborted transactions with records in `[from, to)`.
    pub(super) fn aborted_in(&self, from: i64, to: i64) -> Vec<AbortedTransaction> {
        let first = self.aborted.partition_point(|aborted| aborted.last_offset < from);
        self.aborted[first..]
            .iter()
            .filter(|aborted| aborted.first_offset < to)
            .copied()
            .collect()
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

    /// Forgets aborted transactions that lie wholly before the log's start.
    pub(super) fn log_starts_at(&mut self, offset: i64) {
        let gone = self.aborted.partition_point(|aborted| aborted.last_offset < offset);
        self.aborted.drain(..gone);
    }

    pub(super) fn expire(&mut self, before_ms: i64) {
        self.known
            .retain(|_, producer| producer.transaction_start.is_some() || producer.last_timestamp >= before_ms);
    }

    pub(super) fn snapshot(&self, next_offset: i64) -> Snapshot {
        let mut producers: Vec<_> = self
            .known
            .iter()
            .map(|(&id, producer)| (id, producer.clone()))
            .collect();
        producers.sort_by_key(|&(id, _)| id);
        Snapshot {
            next_offset,
            producers,
            aborted: self.aborted.clone(),
        }
    }

    pub(super) fn from_snapshot(snapshot: Snapshot) -> Self {
        let known: HashMap<_, _> = snapshot.producers.into_iter().collect();
        let open = known
            .iter()
            .filter_map(|(&id, p): (&i64, &Producer)| Some((p.transaction_start?, id)))
            .collect();
        Self {
            known,
            open,
            aborted: snapshot.aborted,
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .known
            .iter()
            .filter(|(_, producer)| producer.transaction_start.is_none())
            .min_by_key(|(_, producer)| producer.last_timestamp)
            .map(|(&id, _)| id);
        if let Some(id) = oldest {
            self.known.remove(&id);
        }
    }
}
