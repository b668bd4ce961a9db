//! The coordinator on a disk that fails, with a clock of the tests.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;
use tracing::field::{Field, Visit};
use tracing::span;

use crate::groups::Groups;
use crate::ids::Ids;
use crate::log::sample_batches;
use crate::topics::Topics;

use super::*;

const TOPIC: &str = "t";

/// A broker's data with one partition.
struct Bench {
    topics: Topics,
    groups: Groups,
    transactions: Transactions,
    dir: TempDir,
    now: Now,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let config = BrokerConfig::new(([127, 0, 0, 1], 0).into(), dir.path());
        let topics = Topics::open(&config).unwrap();
        topics.create(TOPIC, 1, Default::default(), &Ids::new(7), 0).unwrap();
        Self {
            topics,
            groups: Groups::open(&dir.path().join("groups.journal"), &config, &|_, bytes| {
                Some(Bytes::copy_from_slice(bytes))
            })
            .unwrap(),
            transactions: Transactions::open(&dir.path().join("transactions.journal"), &config).unwrap(),
            dir,
            now: Now {
                ms: 1_700_000_000_000,
                instant: Instant::now(),
            },
        }
    }

    fn to(&self) -> Participants<'_> {
        Participants {
            topics: &self.topics,
            groups: &self.groups,
            now: self.now,
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now.ms += ms as i64;
        self.now.instant += Duration::from_millis(ms);
        self.transactions.tick(self.to());
    }

    /// A transactional batch of a producer that no coordinator knows, or of one that it does.
    fn append(&self, producer_id: i64) {
        let (_, sample) = sample_batches()
            .into_iter()
            .find(|(name, _)| name == "transactional-0")
            .unwrap();
        let mut batch = sample.to_vec();
        batch[43..51].copy_from_slice(&producer_id.to_be_bytes());
        // Epoch and sequence.
        batch[51..57].fill(0);
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        let batch = Bytes::from(batch);
        let header = BatchHeader::check(&batch).unwrap();
        let partition = self.topics.partition(TOPIC, 0).unwrap();
        partition.log.lock().append(&header, &batch, self.now.ms).unwrap();
    }

    /// A file opened for reading alone refuses writes as a full disk does.
    fn fill_the_disk(&self) -> Arc<File> {
        let path = self.dir.path().join("topics/t/0/00000000000000000000.log");
        let partition = self.topics.partition(TOPIC, 0).unwrap();
        let read_only = Arc::new(File::open(path).unwrap());
        partition.log.lock().replace_file(read_only)
    }

    fn make_room(&self, writable: Arc<File>) {
        let partition = self.topics.partition(TOPIC, 0).unwrap();
        partition.log.lock().replace_file(writable);
    }

    /// Whether readers of committed records see all there is.
    fn is_stable(&self) -> bool {
        let partition = self.topics.partition(TOPIC, 0).unwrap();
        let log = partition.log.lock();
        log.last_stable_offset() == log.end_offset()
    }
}

/// Counts what is logged: errors, and lines that say that something was aborted.
#[derive(Debug, Clone, Default)]
struct Lines {
    errors: Arc<AtomicU64>,
    aborted: Arc<AtomicU64>,
}

impl Lines {
    fn counts(&self) -> (u64, u64) {
        (
            self.errors.load(Ordering::Relaxed),
            self.aborted.load(Ordering::Relaxed),
        )
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        if *event.metadata().level() == tracing::Level::ERROR {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        if message.0.starts_with("aborted") {
            self.aborted.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Runs a test with its log lines counted.
fn counted(test: impl FnOnce(&Lines)) {
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || test(&lines));
}

#[test]
fn an_abandoned_transaction_is_aborted_once_the_disk_takes_it() {
    counted(|lines| {
        let mut bench = Bench::new();
        bench.append(77);
        let writable = bench.fill_the_disk();
        bench.transactions.recover(bench.to());
        for _ in 0..12_000 {
            bench.pass(50);
        }
        assert!(!bench.is_stable());
        // Ten minutes: one line a minute, and none of what has not been done.
        let (errors, aborted) = lines.counts();
        assert!((10..=11).contains(&errors) && aborted == 0, "{errors}, {aborted}");
        bench.make_room(writable);
        for _ in 0..21 {
            bench.pass(50);
        }
        assert!(
            bench.is_stable(),
            "readers wait no longer than a second more than the fault lasts"
        );
        assert_eq!(lines.counts(), (errors, 1));
    });
}

#[test]
fn a_producer_begins_nothing_before_its_abandoned_transaction_is_aborted() {
    let mut bench = Bench::new();
    let (id, epoch) = bench.transactions.init(bench.to(), "x", 1000, None).unwrap();
    bench.append(id);
    let writable = bench.fill_the_disk();
    bench.transactions.recover(bench.to());
    let begin = |bench: &Bench| {
        let claim = Claim {
            transactional_id: "x",
            producer_id: id,
            epoch,
        };
        bench.transactions.add(claim, bench.now, |transaction| {
            transaction.partitions.insert((TOPIC.to_owned(), 0))
        })
    };
    assert_eq!(begin(&bench), Err(Code::ConcurrentTransactions));
    bench.make_room(writable);
    bench.pass(1000);
    assert_eq!(begin(&bench), Ok(()));
    assert!(bench.is_stable());
}

#[test]
fn a_decided_transaction_ends_as_decided_whatever_a_start_finds() {
    let mut bench = Bench::new();
    let (id, epoch) = bench.transactions.init(bench.to(), "x", 1000, None).unwrap();
    let claim = Claim {
        transactional_id: "x",
        producer_id: id,
        epoch,
    };
    let joins = |transaction: &mut Transaction| transaction.partitions.insert((TOPIC.to_owned(), 0));
    bench.transactions.add(claim, bench.now, joins).unwrap();
    bench.append(id);
    let writable = bench.fill_the_disk();
    // The client is told that it is committed: the decision is in the journal.
    assert_eq!(bench.transactions.end(bench.to(), claim, true), Ok(()));
    let config = BrokerConfig::new(([127, 0, 0, 1], 0).into(), bench.dir.path());
    bench.transactions = Transactions::open(&bench.dir.path().join("transactions.journal"), &config).unwrap();
    bench.transactions.recover(bench.to());
    assert!(!bench.is_stable());
    bench.make_room(writable);
    bench.pass(1000);
    assert!(bench.is_stable());
    let partition = bench.topics.partition(TOPIC, 0).unwrap();
    assert!(partition.log.lock().aborted_in(0, i64::MAX).unwrap().is_empty());
}

#[test]
fn an_overdue_transaction_is_said_to_be_aborted_when_it_is() {
    counted(|lines| {
        let mut bench = Bench::new();
        let (id, epoch) = bench.transactions.init(bench.to(), "x", 1000, None).unwrap();
        let claim = Claim {
            transactional_id: "x",
            producer_id: id,
            epoch,
        };
        let joins = |transaction: &mut Transaction| transaction.partitions.insert((TOPIC.to_owned(), 0));
        bench.transactions.add(claim, bench.now, joins).unwrap();
        bench.append(id);
        let read_only = File::open(bench.dir.path().join("transactions.journal")).unwrap();
        let writable = bench.transactions.registry.lock().replace_journal_file(read_only);
        for _ in 0..12_000 {
            bench.pass(50);
        }
        let (errors, aborted) = lines.counts();
        assert!(errors <= 11 && aborted == 0, "{errors}, {aborted}");
        bench.transactions.registry.lock().replace_journal_file(writable);
        for _ in 0..21 {
            bench.pass(50);
        }
        assert!(bench.is_stable());
        assert_eq!(lines.counts().1, 1);
    });
}
