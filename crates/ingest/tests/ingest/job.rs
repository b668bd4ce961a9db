//! The whole job over a log in memory and a lake on disk: every offset becomes one row or one letter, whoever else writes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ingest::{ErrorsTolerance, FlushPolicy, JobConfig, Progress, StartingOffsets, Until};
use kafka::{Event, KafkaError, PartitionOffsets, Source, TopicIds};
use lake::{Lake, Names};
use model::{ChunkBuilder, ManualClock, Streams, TopicPartition};
use tokio_util::sync::CancellationToken;

pub(crate) const STREAM: &str = r#"
    name = "readings"
    description = "d"
    key = "id"
    event_time = "at"
    [[field]]
    name = "id"
    type = "long"
    min = 0
    doc = "i"
    [[field]]
    name = "at"
    type = "timestamp"
    doc = "t"
"#;
pub(crate) const PARTITIONS: i32 = 3;
const RECORDS: i64 = 2_000;
/// Every so many records one is broken.
const BROKEN: i64 = 50;

/// Three partitions of as many records for each topic, handed out in chunks of changing size.
pub(crate) struct MemoryLog {
    positions: BTreeMap<TopicPartition, i64>,
    pub(crate) events: VecDeque<Event>,
    seed: u64,
    topics: &'static [&'static str],
    /// Offsets below this are gone.
    pub(crate) low: i64,
    pub(crate) high: i64,
    /// Of partitions that end elsewhere.
    pub(crate) ends: BTreeMap<i32, i64>,
    topic_id: Option<&'static str>,
    /// Topics that Kafka does not have at the start.
    pub(crate) missing: Vec<&'static str>,
    /// From this offset on it is another topic of the same name.
    pub(crate) recreated_at: i64,
    is_recreated: Arc<AtomicBool>,
}

struct MemoryIds {
    topic_id: Option<&'static str>,
    is_recreated: Arc<AtomicBool>,
}

impl TopicIds for MemoryIds {
    fn topic_id(&self, _: &str, _: Duration) -> Result<Option<String>, KafkaError> {
        let id = match self.is_recreated.load(Ordering::SeqCst) {
            true => Some("recreated"),
            false => self.topic_id,
        };
        Ok(id.map(str::to_owned))
    }
}

impl MemoryLog {
    pub(crate) fn new(seed: u64) -> Self {
        Self::of(&["readings"], seed)
    }

    fn of(topics: &'static [&'static str], seed: u64) -> Self {
        let partitions_of = |topic: &&str| {
            (0..PARTITIONS)
                .map(|partition| TopicPartition::new(*topic, partition))
                .collect::<Vec<_>>()
        };
        let partitions = topics.iter().flat_map(partitions_of).collect();
        Self {
            positions: BTreeMap::new(),
            events: [Event::Assigned(partitions)].into(),
            seed,
            topics,
            low: 0,
            high: RECORDS,
            ends: BTreeMap::new(),
            topic_id: None,
            missing: Vec::new(),
            recreated_at: i64::MAX,
            is_recreated: Arc::default(),
        }
    }

    fn end(&self, partition: &TopicPartition) -> i64 {
        self.ends.get(&partition.partition).copied().unwrap_or(self.high)
    }

    fn chance(&mut self, below: u64) -> u64 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }
}

/// Only `readings` has broken records.
fn message(topic: &str, offset: i64) -> Vec<u8> {
    match offset % BROKEN {
        7 if topic == "readings" => format!(r#"{{"id":{offset},"at":"#).into_bytes(),
        _ => format!(r#"{{"id":{offset},"at":"2026-01-0{}T00:00:00Z"}}"#, 1 + offset % 2).into_bytes(),
    }
}

impl Source for MemoryLog {
    fn poll(&mut self, _: Duration, records: bool) -> Result<Vec<Event>, KafkaError> {
        let mut events: Vec<_> = self.events.drain(..).collect();
        std::thread::sleep(Duration::from_micros(self.chance(3_000)));
        for (partition, from) in self.positions.clone().into_iter().filter(|_| records) {
            let to = self.end(&partition).min(from + self.chance(200) as i64);
            if from < to {
                // Before anyone can have read of it.
                if to > self.recreated_at {
                    self.is_recreated.store(true, Ordering::SeqCst);
                }
                let mut chunk = ChunkBuilder::new(partition.clone(), from);
                (from..to)
                    .for_each(|offset| chunk.push(offset, offset, None, Some(&message(&partition.topic, offset)), []));
                events.push(Event::Chunk(chunk.finish(to)));
                self.positions.insert(partition, to);
            }
        }
        Ok(events)
    }

    fn assign(&mut self, positions: &[(TopicPartition, i64)]) -> Result<(), KafkaError> {
        self.positions.extend(positions.iter().cloned());
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        self.unassign(partitions)
    }

    fn resume(&mut self, _: &[TopicPartition]) -> Result<(), KafkaError> {
        Ok(())
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        self.positions.retain(|partition, _| !partitions.contains(partition));
        Ok(())
    }

    fn offsets(&mut self, partition: &TopicPartition) -> Result<PartitionOffsets, KafkaError> {
        Ok(PartitionOffsets {
            low: self.low,
            high: self.end(partition),
        })
    }

    fn partition_counts(&mut self) -> Result<BTreeMap<String, i32>, KafkaError> {
        // They are created right after someone has asked.
        let missing = std::mem::take(&mut self.missing);
        let topics = self.topics.iter().filter(|topic| !missing.contains(topic));
        Ok(topics.map(|topic| ((*topic).to_owned(), PARTITIONS)).collect())
    }

    fn topic_ids(&self) -> Result<Arc<dyn TopicIds>, KafkaError> {
        Ok(Arc::new(MemoryIds {
            topic_id: self.topic_id,
            is_recreated: Arc::clone(&self.is_recreated),
        }))
    }

    fn high_watermark(&self, partition: &TopicPartition) -> Option<i64> {
        Some(self.end(partition))
    }

    fn report_positions(&mut self, _: &[(TopicPartition, i64)]) {}
}

async fn run(lake: &Path, log: MemoryLog, names: u64, batch_records_max: u64) -> Result<u64, ingest::IngestError> {
    let settings = |config: &mut JobConfig| config.flush.records_max = batch_records_max;
    run_with(lake, log, names, settings).await
}

pub(crate) async fn run_with(
    lake: &Path,
    log: MemoryLog,
    names: u64,
    settings: impl FnOnce(&mut JobConfig),
) -> Result<u64, ingest::IngestError> {
    run_stopped_after(lake, log, names, Duration::MAX, settings).await
}

pub(crate) async fn run_stopped_after(
    lake: &Path,
    log: MemoryLog,
    names: u64,
    stop_after: Duration,
    settings: impl FnOnce(&mut JobConfig),
) -> Result<u64, ingest::IngestError> {
    let declarations: Vec<_> = log
        .topics
        .iter()
        .map(|topic| STREAM.replace("readings", topic))
        .collect();
    let streams = declarations
        .iter()
        .map(|declaration| ("stream.toml", declaration.as_str()));
    let streams = Streams::parse(streams).unwrap();
    let clock = Arc::new(ManualClock::new(0));
    let lake = Lake::open(lake.to_str().unwrap(), clock.clone(), Names::seeded(names))
        .await
        .unwrap();
    let progress = Arc::new(Progress::new("test", "run", &streams, clock.clone()));
    let mut config = JobConfig {
        application: "test".to_owned(),
        flush: FlushPolicy {
            age_max: Duration::from_millis(20),
            ..FlushPolicy::default()
        },
        workers: 2,
        starting_offsets: StartingOffsets::Earliest,
        fail_on_data_loss: true,
        errors_tolerance: ErrorsTolerance::All,
        dlq_topic: None,
        migrated_topics: BTreeMap::new(),
        until: Until::CaughtUp,
        shutdown_timeout: Duration::from_secs(30),
    };
    settings(&mut config);
    let source = Box::new(log);
    let stop = CancellationToken::new();
    let job = ingest::run(
        &streams,
        source,
        &lake,
        clock,
        &config,
        Arc::clone(&progress),
        stop.clone(),
    );
    let stopping = async {
        tokio::time::sleep(stop_after).await;
        stop.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = job => ended?,
        () = stopping => unreachable!("it waits for ever"),
    }
    Ok(progress.totals().iter().map(|(_, totals)| totals.records).sum())
}

/// Every batch of a table's files.
fn each_batch(table: &Path, mut each: impl FnMut(&arrow_array::RecordBatch)) {
    let log: BTreeSet<_> = std::fs::read_dir(table.join("_delta_log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    for commit in log
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
    {
        for line in std::fs::read_to_string(commit).unwrap().lines() {
            let action: serde_json::Value = serde_json::from_str(line).unwrap();
            let Some(path) = action["add"]["path"].as_str() else {
                continue;
            };
            let file = std::fs::File::open(table.join(path)).unwrap();
            let rows = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 1024).unwrap();
            rows.map(Result::unwrap).for_each(|batch| each(&batch));
        }
    }
}

/// How often each offset of each partition stands in a table's live files.
pub(crate) fn offsets(table: &Path, partition: &str, offset: &str) -> HashMap<(i32, i64), usize> {
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::{Int32Type, Int64Type};

    let mut counts = HashMap::new();
    each_batch(table, |batch| {
        let partitions = batch.column_by_name(partition).unwrap().as_primitive::<Int32Type>();
        let offsets = batch.column_by_name(offset).unwrap().as_primitive::<Int64Type>();
        for (partition, offset) in partitions.values().iter().zip(offsets.values()) {
            *counts.entry((*partition, *offset)).or_default() += 1;
        }
    });
    counts
}

fn everything_landed_once(lake: &Path) {
    let rows = offsets(&lake.join("data/readings"), "_partition", "_offset");
    let letters = offsets(&lake.join("data/dead_letters"), "partition", "offset");
    for partition in 0..PARTITIONS {
        for offset in 0..RECORDS {
            let is_broken = offset % BROKEN == 7;
            let found = |counts: &HashMap<_, usize>| counts.get(&(partition, offset)).copied().unwrap_or_default();
            let wanted = (usize::from(!is_broken), usize::from(is_broken));
            assert_eq!(
                (found(&rows), found(&letters)),
                wanted,
                "partition {partition}, offset {offset}"
            );
        }
    }
}

/// `lake verify` agrees, and its commits' counts leave nothing unexplained.
async fn verify_finds_nothing(lake: &Path) {
    use lake::verify::{Verifier, VerifyOptions};

    let root = lake::Root::open(lake.to_str().unwrap(), []).unwrap();
    let verifier = Verifier::open(&root, &[], VerifyOptions::default(), &|_, _, _| {})
        .await
        .unwrap();
    for name in ["dead_letters", "readings"] {
        let report = verifier.table(name).await.unwrap().report;
        let orphans = |finding: &&lake::verify::Finding| finding.kind() != "orphans";
        let found: Vec<_> = report.findings.told().iter().filter(orphans).collect();
        assert!(found.is_empty(), "{name}: {found:?}");
        assert!(report.partitions.iter().all(|partition| partition.recorded == RECORDS));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_offset_lands_once_and_a_second_run_finds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let all = (i64::from(PARTITIONS) * RECORDS) as u64;
    assert_eq!(run(dir.path(), MemoryLog::new(1), 1, 500).await.unwrap(), all);
    assert_eq!(run(dir.path(), MemoryLog::new(2), 2, 500).await.unwrap(), 0);
    everything_landed_once(dir.path());
    verify_finds_nothing(dir.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_jobs_on_the_same_partitions_lose_nothing_and_double_nothing() {
    let mut both_wrote = false;
    // On a busy machine one may be done before the other has begun.
    for seed in 0..50 {
        if seed >= 5 && both_wrote {
            break;
        }
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = tokio::join!(
            run(dir.path(), MemoryLog::new(seed), 2 * seed, 150),
            run(dir.path(), MemoryLog::new(seed + 100), 2 * seed + 1, 170),
        );
        let landed = (one.unwrap(), other.unwrap());
        assert_eq!(
            landed.0 + landed.1,
            (i64::from(PARTITIONS) * RECORDS) as u64,
            "seed {seed}: {landed:?}"
        );
        everything_landed_once(dir.path());
        verify_finds_nothing(dir.path()).await;
        both_wrote |= landed.0 > 0 && landed.1 > 0;
    }
    assert!(both_wrote, "they never met");
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_kafka_dropped_stop_the_job() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = MemoryLog::new(1);
    log.low = 10;
    run(dir.path(), log, 1, 500).await.unwrap();
    let mut log = MemoryLog::new(1);
    log.low = RECORDS + 5;
    let error = run(dir.path(), log, 2, 500).await.unwrap_err().to_string();
    assert!(error.contains("offsets 2000 to 2004 are gone from Kafka"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_recreated_stops_the_job() {
    let dir = tempfile::tempdir().unwrap();
    let log = |topic_id, high| MemoryLog {
        high,
        topic_id,
        ..MemoryLog::new(1)
    };
    // A table that is older than our asking for ids takes the first it hears of.
    run(dir.path(), log(None, 500), 1, 500).await.unwrap();
    run(dir.path(), log(Some("one"), 1_000), 2, 500).await.unwrap();
    run(dir.path(), log(Some("one"), 1_500), 3, 500).await.unwrap();
    let error = run(dir.path(), log(Some("other"), RECORDS), 4, 500).await.unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("topic with the id one") && error.contains("id other"),
        "{error}"
    );
    let rows = offsets(&dir.path().join("data/readings"), "_partition", "_offset");
    assert!(rows.keys().all(|(_, offset)| *offset < 1_500));

    // A cluster was migrated: the same records, and whoever knows so says it. Only of this id.
    let migrated = |id: &'static str| {
        move |config: &mut JobConfig| {
            config.migrated_topics = [("readings".to_owned(), id.to_owned())].into();
        }
    };
    let error = run_with(dir.path(), log(Some("other"), RECORDS), 5, migrated("third")).await;
    assert!(error.unwrap_err().to_string().contains("id other"));
    run_with(dir.path(), log(Some("other"), RECORDS), 6, migrated("other"))
        .await
        .unwrap();
    everything_landed_once(dir.path());
    run(dir.path(), log(Some("other"), RECORDS), 7, 500).await.unwrap();
    assert!(run(dir.path(), log(Some("one"), RECORDS), 8, 500).await.is_err());
}

/// How many rows and dead letters there are of each topic's offset.
fn by_topic(lake: &Path) -> BTreeMap<(String, i32, i64), usize> {
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::{Int32Type, Int64Type};

    let mut counts = BTreeMap::new();
    for (table, topic, partition, offset) in [
        ("readings", "_topic", "_partition", "_offset"),
        ("dead_letters", "topic", "partition", "offset"),
    ] {
        each_batch(&lake.join("data").join(table), |batch| {
            let topics = batch.column_by_name(topic).unwrap().as_string::<i32>();
            let partitions = batch.column_by_name(partition).unwrap().as_primitive::<Int32Type>();
            let offsets = batch.column_by_name(offset).unwrap().as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                let record = (topics.value(row).to_owned(), partitions.value(row), offsets.value(row));
                *counts.entry(record).or_default() += 1;
            }
        });
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_recreated_goes_on_where_that_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let log = |topic_id, high| MemoryLog {
        high,
        topic_id: Some(topic_id),
        ..MemoryLog::new(1)
    };
    let may_lose = |config: &mut JobConfig| {
        config.fail_on_data_loss = false;
        // What was decided for the first topic is not decided for the second.
        config.starting_offsets = StartingOffsets::Latest;
    };
    run(dir.path(), log("one", 500), 1, 500).await.unwrap();
    // The new one has grown past the old one's end, or not: its records are others.
    assert_eq!(
        run_with(dir.path(), log("ot/h+r", 300), 2, may_lose).await.unwrap(),
        900
    );
    assert_eq!(
        run_with(dir.path(), log("ot/h+r", 800), 3, may_lose).await.unwrap(),
        1_500
    );
    // From then on it is the table's topic, whatever the settings.
    assert_eq!(run(dir.path(), log("ot/h+r", 900), 4, 500).await.unwrap(), 300);
    assert!(run(dir.path(), log("third", 900), 5, 500).await.is_err());
    let offsets_of = |topic: &str, to: i64| {
        (0..PARTITIONS)
            .flat_map(move |partition| {
                let topic = topic.to_owned();
                (0..to)
                    .map(move |offset| ((topic.clone(), partition, offset), 1))
                    .collect::<Vec<_>>()
            })
            .collect::<Vec<_>>()
    };
    let expected: BTreeMap<_, _> = [offsets_of("readings", 500), offsets_of("readings#ot_h-r", 900)]
        .concat()
        .into_iter()
        .collect();
    assert_eq!(by_topic(dir.path()), expected);

    // The same under a running job.
    for seed in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let log = MemoryLog {
            topic_id: Some("one"),
            recreated_at: 700,
            ..MemoryLog::new(seed)
        };
        let settings = |config: &mut JobConfig| {
            config.fail_on_data_loss = false;
            config.flush.records_max = 50;
        };
        run_with(dir.path(), log, seed, settings).await.unwrap();
        let found = by_topic(dir.path());
        assert!(found.values().all(|count| *count == 1), "seed {seed}");
        let of = |topic: &str| {
            found
                .keys()
                .filter(|(of, ..)| of == topic)
                .map(|(.., offset)| *offset)
                .collect::<Vec<_>>()
        };
        assert!(of("readings").iter().all(|offset| *offset < 700), "seed {seed}");
        assert_eq!(
            of("readings#recreated").len() as i64,
            i64::from(PARTITIONS) * RECORDS,
            "seed {seed}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_record_of_a_topic_that_is_recreated_while_it_is_read_becomes_a_row() {
    for seed in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let log = MemoryLog {
            topic_id: Some("one"),
            recreated_at: 700,
            ..MemoryLog::new(seed)
        };
        // Small batches, so that many are on their way when it happens.
        let error = run(dir.path(), log, seed, 50).await.unwrap_err().to_string();
        assert!(error.contains("readings was recreated"), "seed {seed}: {error}");
        let rows = offsets(&dir.path().join("data/readings"), "_partition", "_offset");
        let letters = offsets(&dir.path().join("data/dead_letters"), "partition", "offset");
        let last = rows.keys().chain(letters.keys()).map(|(_, offset)| *offset).max();
        assert!(
            last < Some(700),
            "seed {seed}: offset {last:?} was read of another topic"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_kafka_dropped_are_gaps_where_that_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let log = |low, high| MemoryLog {
        low,
        high,
        ..MemoryLog::new(1)
    };
    let may_lose = |config: &mut JobConfig| config.fail_on_data_loss = false;
    run(dir.path(), log(0, 1_000), 1, 500).await.unwrap();
    let landed = run_with(dir.path(), log(1_200, RECORDS), 2, may_lose).await.unwrap();
    assert_eq!(landed, 3 * 800);
    // Another writer, and then retention again, find nothing more to record.
    for low in [1_200, RECORDS] {
        assert_eq!(run_with(dir.path(), log(low, RECORDS), 3, may_lose).await.unwrap(), 0);
    }
    let gaps = offsets(&dir.path().join("data/gaps"), "partition", "from_offset");
    let expected: HashMap<_, _> = (0..PARTITIONS).map(|partition| ((partition, 1_000), 1)).collect();
    assert_eq!(gaps, expected);
    let ends = offsets(&dir.path().join("data/gaps"), "partition", "to_offset");
    assert!(ends.keys().all(|(_, to)| *to == 1_200), "{ends:?}");
    let rows = offsets(&dir.path().join("data/readings"), "_partition", "_offset");
    assert!(rows.keys().all(|(_, offset)| !(1_000..1_200).contains(offset)));
    verify_finds_nothing(dir.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_mostly_broken_stops_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = |seed| MemoryLog::of(&["others", "readings"], seed);
    for (seed, tolerance, what) in [
        (1, ErrorsTolerance::NONE, "more than 0 % of 1"),
        (
            2,
            ErrorsTolerance::Share {
                percent: 1.5,
                window: 1_000,
            },
            "more than 1.5 % of 1000",
        ),
    ] {
        let settings = |config: &mut JobConfig| config.errors_tolerance = tolerance;
        let error = run_with(dir.path(), log(seed), seed, settings)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("stream readings was stopped: ") && error.contains(what),
            "{error}"
        );
        let others = offsets(&dir.path().join("data/others"), "_partition", "_offset");
        assert_eq!(others.len() as i64, i64::from(PARTITIONS) * RECORDS);
        let rows = offsets(&dir.path().join("data/readings"), "_partition", "_offset");
        assert!((rows.len() as i64) < i64::from(PARTITIONS) * RECORDS, "{}", rows.len());
    }
    // What is tolerated lands, and so does everything once nothing is refused.
    let settings = |config: &mut JobConfig| {
        config.errors_tolerance = ErrorsTolerance::Share {
            percent: 50.0,
            window: 1_000,
        }
    };
    run_with(dir.path(), log(3), 3, settings).await.unwrap();
    everything_landed_once(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_hold_no_more_than_one() {
    let commits_with = |open_bytes_max| async move {
        let dir = tempfile::tempdir().unwrap();
        let settings = |config: &mut JobConfig| {
            config.flush.age_max = Duration::from_secs(60);
            config.flush.first_age_max = Duration::from_secs(60);
            config.flush.open_bytes_max = open_bytes_max;
        };
        let log = MemoryLog::of(&["others", "readings"], 1);
        run_with(dir.path(), log, 1, settings).await.unwrap();
        everything_landed_once(dir.path());
        std::fs::read_dir(dir.path().join("data/others/_delta_log"))
            .unwrap()
            .count()
    };
    let (bounded, unbounded) = (commits_with(20_000).await, commits_with(usize::MAX).await);
    assert!(bounded > 2 * unbounded, "{bounded} commits and {unbounded}");
}
