//! Nothing is skipped at a start: "latest" is decided once, and partitions that come later are read from their beginning.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ingest::{IngestError, JobConfig, StartingOffsets, Until};
use kafka::Event;
use lake::Table;
use lake::verify::{Verifier, VerifyOptions};
use model::{Span, Stream, TopicPartition};

use crate::job::{MemoryLog, PARTITIONS, STREAM, offsets, run_stopped_after, run_with};
use crate::open_lake;

/// A log whose partitions end here.
fn log(ends: &[i64]) -> MemoryLog {
    let mut log = MemoryLog::new(1);
    log.ends = (0..).zip(ends.iter().copied()).collect();
    log
}

async fn run(lake: &Path, log: MemoryLog, names: u64) -> Result<u64, IngestError> {
    run_with(lake, log, names, latest).await
}

fn latest(config: &mut JobConfig) {
    config.starting_offsets = StartingOffsets::Latest;
}

fn place(partition: i32) -> TopicPartition {
    TopicPartition::new("readings", partition)
}

async fn table(lake: &Path) -> Table {
    let stream = Stream::parse("stream.toml", STREAM).unwrap();
    open_lake(lake).await.table(&stream, "test").await.unwrap()
}

/// Of each partition: the offsets that are there, each once, as a row or a dead letter.
fn landed(lake: &Path) -> BTreeMap<i32, Vec<i64>> {
    let rows = offsets(&lake.join("data/readings"), "_partition", "_offset");
    let letters = offsets(&lake.join("data/dead_letters"), "partition", "offset");
    let mut landed: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for ((partition, offset), count) in rows.into_iter().chain(letters) {
        assert_eq!(count, 1, "partition {partition}, offset {offset}");
        landed.entry(partition).or_default().push(offset);
    }
    landed.values_mut().for_each(|offsets| offsets.sort_unstable());
    landed
}

fn expected(spans: &[(i32, Span)]) -> BTreeMap<i32, Vec<i64>> {
    let offsets = |(partition, span): &(i32, Span)| (*partition, (span.from..span.to).collect());
    spans.iter().map(offsets).collect()
}

/// Where each partition starts and ends by `lake verify`, which finds nothing.
async fn verified(lake: &Path) -> Vec<(i64, i64)> {
    let root = lake::Root::open(lake.to_str().unwrap(), []).unwrap();
    let verifier = Verifier::open(&root, &[], VerifyOptions::default(), &|_, _, _| {});
    let report = verifier.await.unwrap().table("readings").await.unwrap().report;
    assert!(report.findings.told().is_empty(), "{:?}", report.findings.told());
    let partitions = report.partitions.iter();
    partitions
        .map(|partition| (partition.start, partition.recorded))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_between_two_runs_is_read() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(dir.path(), log(&[3, 0, 60]), 1).await.unwrap(), 0);
    assert_eq!(verified(dir.path()).await, [(3, 3), (0, 0), (60, 60)]);
    // Partition 2 stays quiet in between.
    assert_eq!(run(dir.path(), log(&[8, 5, 60]), 2).await.unwrap(), 10);
    assert_eq!(run(dir.path(), log(&[8, 5, 62]), 3).await.unwrap(), 2);
    let all = [(0, Span::new(3, 8)), (1, Span::new(0, 5)), (2, Span::new(60, 62))];
    assert_eq!(landed(dir.path()), expected(&all));
    assert_eq!(verified(dir.path()).await, [(3, 8), (0, 5), (60, 62)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_added_is_read_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    // Under a running job, which hears of it when it holds 40 records; and between two runs.
    let mut running = log(&[10, 10, 10, 40]);
    running.events.push_back(Event::Assigned(vec![place(PARTITIONS)]));
    assert_eq!(run(dir.path(), running, 1).await.unwrap(), 40);
    let mut later = log(&[10, 10, 11, 40, 30]);
    let added = vec![place(PARTITIONS), place(PARTITIONS + 1)];
    later.events.push_back(Event::Assigned(added));
    assert_eq!(run(dir.path(), later, 2).await.unwrap(), 31);
    let all = [(2, Span::new(10, 11)), (3, Span::new(0, 40)), (4, Span::new(0, 30))];
    assert_eq!(landed(dir.path()), expected(&all));
    assert_eq!(
        verified(dir.path()).await,
        [(10, 10), (10, 10), (10, 11), (0, 40), (0, 30)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kafka_has_deleted_of_a_new_partition_is_data_loss() {
    let dir = tempfile::tempdir().unwrap();
    let added = |low| {
        let mut log = log(&[20, 20, 20, 40]);
        log.low = low;
        log.events.push_back(Event::Assigned(vec![place(PARTITIONS)]));
        log
    };
    run(dir.path(), log(&[20, 20, 20]), 1).await.unwrap();
    let error = run(dir.path(), added(7), 2).await.unwrap_err().to_string();
    assert!(
        error.contains("readings[3]: offsets 0 to 6 are gone from Kafka"),
        "{error}"
    );
    let may_lose = |config: &mut JobConfig| {
        latest(config);
        config.fail_on_data_loss = false;
    };
    assert_eq!(run_with(dir.path(), added(7), 3, may_lose).await.unwrap(), 33);
    let gaps = offsets(&dir.path().join("data/gaps"), "partition", "to_offset");
    assert_eq!(gaps, [((3, 7), 1)].into());
    assert_eq!(landed(dir.path()), expected(&[(3, Span::new(7, 40))]));
    assert_eq!(verified(dir.path()).await, [(20, 20), (20, 20), (20, 20), (0, 40)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_an_earlier_release_skips_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // It recorded an offset of the partitions with rows alone.
    let spans = [(place(0), Span::new(0, 5))];
    let table = table(dir.path()).await;
    table.commit_counted(Vec::new(), &spans, Some(0), None).await.unwrap();
    run(dir.path(), log(&[12, 7, 0]), 2).await.unwrap();
    let all = [(0, Span::new(5, 12)), (1, Span::new(0, 7))];
    assert_eq!(landed(dir.path()), expected(&all));
    // From then on it is as any other.
    run(dir.path(), log(&[12, 7, 3]), 3).await.unwrap();
    assert_eq!(verified(dir.path()).await, [(0, 12), (0, 7), (0, 3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_was_recorded_and_never_read_from_holds() {
    let dir = tempfile::tempdir().unwrap();
    // As after a crash between the commit and the first batch.
    let starts: Vec<_> = (0..PARTITIONS)
        .map(|partition| lake::StartingOffset {
            partition,
            first: 4,
            earliest: 0,
        })
        .collect();
    let table = table(dir.path()).await;
    table.record_starts("readings", "latest", &starts).await.unwrap();
    assert_eq!(run(dir.path(), log(&[6, 6, 6]), 2).await.unwrap(), 6);
    assert_eq!(verified(dir.path()).await, [(4, 6); 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_created_after_the_start_is_read_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    // It does not exist when the job starts; under it, and while no job runs, it is created and records are sent.
    let mut missing = log(&[0, 0, 0]);
    missing.missing = vec!["readings"];
    missing.events = [Event::Assigned(Vec::new())].into();
    // A run that ends by itself says so, and decides all the same.
    let error = run(dir.path(), missing, 1).await.unwrap_err();
    assert!(matches!(error, IngestError::NoTopics { .. }), "{error}");
    let mut created = log(&[7, 0, 3]);
    created.missing = vec!["readings"];
    assert_eq!(run_until_stopped(dir.path(), created).await, 10);
    let all = [(0, Span::new(0, 7)), (2, Span::new(0, 3))];
    assert_eq!(landed(dir.path()), expected(&all));
    assert_eq!(verified(dir.path()).await, [(0, 7), (0, 0), (0, 3)]);
    // From then on it is as any other.
    assert_eq!(run(dir.path(), log(&[9, 1, 3]), 3).await.unwrap(), 3);
}

/// A run that goes on when it has caught up, as in a group: the records that it read.
async fn run_until_stopped(lake: &Path, log: MemoryLog) -> u64 {
    let settings = |config: &mut JobConfig| {
        latest(config);
        config.until = Until::Stopped;
    };
    run_stopped_after(lake, log, 2, Duration::from_secs(2), settings)
        .await
        .unwrap()
}
