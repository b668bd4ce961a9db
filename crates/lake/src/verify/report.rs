//! What a check found of a table, summed up.

use std::collections::BTreeMap;

use model::TopicPartition;
use serde::Serialize;

use super::finding::{Finding, Severity};

/// Findings of one kind that are told one by one.
const TOLD_MAX: u64 = 20;

/// Findings, of each kind the first few; the others are counted.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Findings {
    list: Vec<Finding>,
    counts: BTreeMap<&'static str, u64>,
    #[serde(skip)]
    worst: Option<Severity>,
}

impl Findings {
    pub fn add(&mut self, finding: Finding) {
        self.worst = self.worst.max(Some(finding.severity()));
        let count = self.counts.entry(finding.kind()).or_default();
        *count += 1;
        if *count <= TOLD_MAX {
            self.list.push(finding);
        }
    }

    pub fn told(&self) -> &[Finding] {
        &self.list
    }

    /// How many there are of each kind.
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// Those of each kind that are not told.
    pub fn untold(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let more = self
            .counts
            .iter()
            .map(|(kind, count)| (*kind, count.saturating_sub(TOLD_MAX)));
        more.filter(|(_, more)| *more > 0)
    }

    pub fn worst(&self) -> Option<Severity> {
        self.worst
    }

    /// Whether nothing was found that a check must not pass.
    pub fn passes(&self) -> bool {
        self.worst.is_none_or(Severity::passes)
    }

    pub fn has(&self, kind: &str) -> bool {
        self.counts.contains_key(kind)
    }
}

/// What a check of one table has found.
#[derive(Debug, Clone, Serialize)]
pub struct TableReport {
    pub table: String,
    pub version: i64,
    pub files: u64,
    pub bytes: u64,
    pub rows: u64,
    /// Files whose bytes were compared with the checksum in the log; the others have none (written by others).
    pub checksums: u64,
    /// Messages that hold no element, by the commits' counts.
    pub empty_messages: u64,
    pub partitions: Vec<PartitionReport>,
    pub findings: Findings,
}

/// How one partition of a topic is covered.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionReport {
    pub topic: String,
    pub partition: i32,
    /// The first offset that the table accounts for.
    pub start: i64,
    /// The next offset to land.
    pub recorded: i64,
    pub rows: u64,
    pub letters: u64,
    /// Messages: offsets with a row or a dead letter.
    pub messages: u64,
    pub gap_offsets: u64,
    /// Records that were removed on purpose: offsets, and single elements.
    pub erased: u64,
    /// Records that another program took out of the table, and no erasure records it.
    pub removed: u64,
    /// Offsets without anything that the commits' counts explain: Kafka never handed them out (transaction markers,
    /// aborted or compacted records), or the message held no element.
    pub skipped: u64,
    /// Offsets without anything, of which nothing tells whether they ever were records.
    pub unexplained: u64,
    pub lost: u64,
    pub doubled: u64,
    /// Records compared one to one with Kafka; `None` when that was not asked.
    pub compared: Option<u64>,
}

impl PartitionReport {
    pub(super) fn new(place: &TopicPartition, start: i64, recorded: i64) -> Self {
        Self {
            topic: place.topic.to_string(),
            partition: place.partition,
            start,
            recorded,
            rows: 0,
            letters: 0,
            messages: 0,
            gap_offsets: 0,
            erased: 0,
            removed: 0,
            skipped: 0,
            unexplained: 0,
            lost: 0,
            doubled: 0,
            compared: None,
        }
    }
}
