//! What stays of one batch when a log is cleaned.
//!
//! The rules are Kafka's. Of each key the last record stays. A tombstone stays until `delete.retention.ms` after it was
//! first cleaned; that time, the delete horizon, is written into its batch (KIP-534). Records of aborted transactions go.
//! A transaction's marker stays as long as a batch of the transaction was there, and then for a delete horizon of its own,
//! because readers that saw the batch need it. The last batch of a producer stays, empty if it must be: what the log knows
//! of the producer's sequence follows from it. Offsets never change, nor the span that a batch tells of.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::super::batch::{BatchHeader, Rewrite, rewritten};
use super::super::pack::pack;
use super::super::producers::LastBatch;
use super::super::records::{each, unpacked};
use super::keys::KeyMap;

/// What a pass over a log knows when it comes to a batch.
pub(super) struct Retention<'a> {
    pub(super) keys: &'a KeyMap,
    pub(super) last_batches: &'a HashMap<i64, LastBatch>,
    pub(super) now_ms: i64,
    pub(super) delete_retention_ms: i64,
    /// Producers with a batch of a transaction whose marker is still to come.
    observed: HashSet<i64>,
    /// A batch that could not be unpacked may hold older records of any key: no tombstone behind it may go, or they
    /// would be back.
    tombstones_stay: bool,
    pub(super) counts: Counts,
}

/// What a pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) records: u64,
    pub(crate) records_removed: u64,
    /// Records without a key, which a topic can have from before it was compacted.
    pub(crate) without_key: u64,
    pub(crate) batches_unreadable: u64,
}

/// What becomes of a batch.
#[derive(Debug, PartialEq)]
pub(super) enum Retained {
    Whole,
    Rewritten(Bytes),
    Nothing,
}

impl<'a> Retention<'a> {
    pub(super) fn new(
        keys: &'a KeyMap,
        last_batches: &'a HashMap<i64, LastBatch>,
        now_ms: i64,
        delete_retention_ms: i64,
    ) -> Self {
        Self {
            keys,
            last_batches,
            now_ms,
            delete_retention_ms,
            observed: HashSet::new(),
            tombstones_stay: false,
            counts: Counts::default(),
        }
    }

    /// Decides about the next batch of the log; batches come in their order from the log's first.
    pub(super) fn batch(&mut self, header: &BatchHeader, batch: &[u8], is_aborted: bool) -> Retained {
        if header.is_control() {
            return self.marker(header, batch);
        }
        if header.is_transactional() {
            self.observed.insert(header.producer_id);
        }
        match self.data(header, batch, is_aborted) {
            Ok(retained) => retained,
            Err(reason) => {
                tracing::warn!(
                    offset = header.base_offset,
                    reason,
                    "a batch is left as it is: it cannot be read"
                );
                self.counts.batches_unreadable += 1;
                self.tombstones_stay = true;
                Retained::Whole
            }
        }
    }

    fn marker(&mut self, header: &BatchHeader, batch: &[u8]) -> Retained {
        let is_needed = self.observed.remove(&header.producer_id) || self.is_last_of_producer(header);
        match header.delete_horizon() {
            _ if is_needed => Retained::Whole,
            Some(horizon) if horizon <= self.now_ms => Retained::Nothing,
            Some(_) => Retained::Whole,
            None => self.with_horizon(header, batch).unwrap_or(Retained::Whole),
        }
    }

    fn with_horizon(&self, header: &BatchHeader, batch: &[u8]) -> Result<Retained, &'static str> {
        let base_timestamp = self.horizon();
        let unpacked = unpacked(header, batch)?;
        let mut records = Vec::with_capacity(unpacked.len() + 8);
        for record in each(header, &unpacked) {
            let record = record?;
            let timestamp = header.base_timestamp.saturating_add(record.timestamp_delta);
            record.put_with(timestamp.saturating_sub(base_timestamp), &mut records);
        }
        let rewrite = Rewrite {
            record_count: header.record_count,
            base_timestamp,
            max_timestamp: header.max_timestamp,
            has_horizon: true,
            records: &pack(header.compression(), &records)?,
        };
        Ok(Retained::Rewritten(rewritten(batch, &rewrite)))
    }

    fn data(&mut self, header: &BatchHeader, batch: &[u8], is_aborted: bool) -> Result<Retained, &'static str> {
        if is_aborted {
            self.counts.records += header.record_count as u64;
            self.counts.records_removed += header.record_count as u64;
            return Ok(self.emptied(header, batch));
        }
        let unpacked = unpacked(header, batch)?;
        let mut kept = Vec::new();
        let (mut without_key, mut has_tombstone) = (0, false);
        for record in each(header, &unpacked) {
            let record = record?;
            let offset = header.base_offset.saturating_add(i64::from(record.offset_delta));
            if offset > self.keys.latest_offset() {
                kept.push(record);
                continue;
            }
            let Some(key) = record.key else {
                without_key += 1;
                continue;
            };
            let is_last = self.keys.get(key).is_none_or(|last| offset >= last);
            if is_last && (record.has_value || self.keeps_tombstones(header)) {
                has_tombstone |= !record.has_value;
                kept.push(record);
            }
        }
        self.counts.records += header.record_count as u64;
        self.counts.records_removed += header.record_count as u64 - kept.len() as u64;
        self.counts.without_key += without_key;
        if kept.is_empty() {
            return Ok(self.emptied(header, batch));
        }
        let needs_horizon = has_tombstone && header.delete_horizon().is_none();
        if kept.len() == header.record_count as usize && !needs_horizon {
            return Ok(Retained::Whole);
        }
        let base_timestamp = if needs_horizon {
            self.horizon()
        } else {
            header.base_timestamp
        };
        let mut records = Vec::new();
        let mut max_timestamp = i64::MIN;
        for record in &kept {
            let timestamp = header.base_timestamp.saturating_add(record.timestamp_delta);
            max_timestamp = max_timestamp.max(timestamp);
            if needs_horizon {
                record.put_with(timestamp.saturating_sub(base_timestamp), &mut records);
            } else {
                records.extend_from_slice(record.bytes);
            }
        }
        if header.is_log_append_time() {
            max_timestamp = header.max_timestamp;
        }
        let rewrite = Rewrite {
            record_count: kept.len() as i32,
            base_timestamp,
            max_timestamp,
            has_horizon: needs_horizon,
            records: &pack(header.compression(), &records)?,
        };
        Ok(Retained::Rewritten(rewritten(batch, &rewrite)))
    }

    fn horizon(&self) -> i64 {
        self.now_ms.saturating_add(self.delete_retention_ms)
    }

    fn keeps_tombstones(&self, header: &BatchHeader) -> bool {
        let is_due = header.delete_horizon().is_some_and(|horizon| horizon <= self.now_ms);
        self.tombstones_stay || !is_due
    }

    /// A batch without records, where its producer's sequence must not be forgotten.
    fn emptied(&self, header: &BatchHeader, batch: &[u8]) -> Retained {
        if !self.is_last_of_producer(header) {
            return Retained::Nothing;
        }
        if header.record_count == 0 {
            return Retained::Whole;
        }
        let rewrite = Rewrite {
            record_count: 0,
            base_timestamp: header.base_timestamp,
            max_timestamp: header.max_timestamp,
            has_horizon: false,
            records: &[],
        };
        Retained::Rewritten(rewritten(batch, &rewrite))
    }

    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        match self.last_batches.get(&header.producer_id) {
            Some(LastBatch::Data(base_offset)) => header.base_offset == *base_offset,
            // Its marker alone tells of its epoch.
            Some(LastBatch::Marker(epoch)) => header.is_control() && header.producer_epoch == *epoch,
            None => false,
        }
    }
}
