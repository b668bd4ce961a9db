//! The job while Kafka does not answer, does not have the topics, or hangs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ingest::{FlushPolicy, IngestError, JobConfig, Progress, StartingOffsets, Until};
use kafka::{Event, KafkaError, PartitionOffsets, Source, TopicIds};
use lake::{Lake, Names};
use model::{ManualClock, Streams, TopicPartition};
use tokio_util::sync::CancellationToken;

use crate::job::{MemoryLog, STREAM, run_with};

/// A cluster that answers some calls late, or not.
struct Faulty {
    log: MemoryLog,
    /// Answers to assignments.
    answers: Arc<AtomicU32>,
    polls: Arc<Mutex<Vec<Instant>>>,
    /// Calls that fail before the first answer.
    failures: AtomicU32,
    /// How long a call hangs.
    hangs: Duration,
    /// Cancelled when a call begins to.
    hanging: CancellationToken,
}

impl Faulty {
    fn answer(&self) -> Result<(), KafkaError> {
        self.hanging.cancel();
        std::thread::sleep(self.hangs);
        let left = self.failures.load(Ordering::SeqCst);
        if left == 0 {
            return Ok(());
        }
        self.failures.store(left - 1, Ordering::SeqCst);
        Err(KafkaError::Unreachable {
            bootstrap_servers: "nowhere:9092".to_owned(),
            reason: "refused".to_owned(),
        })
    }
}

impl Source for Faulty {
    fn poll(&mut self, timeout: Duration, records: bool) -> Result<Vec<Event>, KafkaError> {
        self.polls.lock().unwrap().push(Instant::now());
        self.log.poll(timeout, records)
    }

    fn assign(&mut self, positions: &[(TopicPartition, i64)]) -> Result<(), KafkaError> {
        self.answers.fetch_add(1, Ordering::SeqCst);
        self.log.assign(positions)
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        self.log.pause(partitions)
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        self.log.resume(partitions)
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        self.log.unassign(partitions)
    }

    fn offsets(&mut self, partition: &TopicPartition) -> Result<PartitionOffsets, KafkaError> {
        self.answer()?;
        self.log.offsets(partition)
    }

    fn partition_counts(&mut self) -> Result<BTreeMap<String, i32>, KafkaError> {
        self.log.partition_counts()
    }

    fn topic_ids(&self) -> Result<Arc<dyn TopicIds>, KafkaError> {
        self.log.topic_ids()
    }

    fn high_watermark(&self, partition: &TopicPartition) -> Option<i64> {
        self.log.high_watermark(partition)
    }

    fn report_positions(&mut self, _: &[(TopicPartition, i64)]) {}
}

/// Runs with this source; stops when `stop_at` is cancelled.
async fn run(
    lake: &Path,
    source: Faulty,
    stop_at: Option<CancellationToken>,
) -> (Result<(), IngestError>, Vec<String>) {
    let streams = Streams::parse([("stream.toml", STREAM)]).unwrap();
    let clock = Arc::new(ManualClock::new(0));
    let lake = Lake::open(lake.to_str().unwrap(), clock.clone(), Names::seeded(1))
        .await
        .unwrap();
    let progress = Arc::new(Progress::new("test", "run", &streams, clock.clone()));
    let config = JobConfig {
        application: "test".to_owned(),
        flush: FlushPolicy {
            age_max: Duration::from_millis(20),
            ..FlushPolicy::default()
        },
        workers: 2,
        starting_offsets: StartingOffsets::Earliest,
        fail_on_data_loss: true,
        errors_tolerance: ingest::ErrorsTolerance::All,
        dlq_topic: None,
        migrated_topics: BTreeMap::new(),
        until: Until::CaughtUp,
        shutdown_timeout: Duration::from_millis(300),
    };
    let stop = CancellationToken::new();
    let job = ingest::run(
        &streams,
        Box::new(source),
        &lake,
        clock,
        &config,
        Arc::clone(&progress),
        stop.clone(),
    );
    let stopping = async {
        if let Some(stop_at) = stop_at {
            stop_at.cancelled().await;
            stop.cancel();
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = job => ended,
        () = stopping => unreachable!(),
    };
    (ended, progress.unready())
}

fn faulty(failures: u32, hangs: Duration) -> (Faulty, Arc<Mutex<Vec<Instant>>>) {
    let polls = Arc::new(Mutex::new(Vec::new()));
    let source = Faulty {
        log: MemoryLog::new(1),
        answers: Arc::default(),
        polls: Arc::clone(&polls),
        failures: AtomicU32::new(failures),
        hangs,
        hanging: CancellationToken::new(),
    };
    (source, polls)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_group_is_served_while_nobody_says_where_to_read_from() {
    let dir = tempfile::tempdir().unwrap();
    // Tries at 0, 0.1, 0.3, 0.7 and 1.5 s, more or less.
    let (source, polls) = faulty(4, Duration::ZERO);
    let started = Instant::now();
    let (ended, _) = run(dir.path(), source, None).await;
    ended.unwrap();
    assert!(
        started.elapsed() > Duration::from_millis(400),
        "{:?}",
        started.elapsed()
    );
    let polls = polls.lock().unwrap();
    let longest = polls.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    // The drain at the end is a pause as well.
    assert!(longest < Duration::from_millis(350), "{longest:?} without a poll");
    assert!(polls.len() > 20, "{} polls", polls.len());
    let rows = crate::job::offsets(&dir.path().join("data/readings"), "_partition", "_offset");
    assert!(rows.len() > 5_000, "{}", rows.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_kafka_hangs_ends_when_it_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (source, _) = faulty(0, Duration::from_secs(6));
    let hanging = source.hanging.clone();
    let started = Instant::now();
    let (ended, unready) = run(dir.path(), source, Some(hanging)).await;
    let error = ended.unwrap_err().to_string();
    assert!(
        error.starts_with("stopped after 0.3 s without having committed"),
        "{error}"
    );
    // The timeout, and what a failed job waits for its threads.
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert!(!unready.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_any_of_its_topics_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let without = |missing: &[&'static str]| {
        let mut log = MemoryLog::new(1);
        log.missing = missing.to_vec();
        log.events = [Event::Assigned(Vec::new())].into();
        log
    };
    let error = run_with(dir.path(), without(&["readings"]), 1, |_| {})
        .await
        .unwrap_err();
    assert!(
        matches!(&error, IngestError::NoTopics { topics } if topics.len() == 1),
        "{error}"
    );
    assert_eq!(error.to_string(), "there is no such topic in Kafka: readings");
    assert_eq!(run_with(dir.path(), without(&[]), 2, |_| {}).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_of_nothing_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (mut source, _) = faulty(0, Duration::ZERO);
    // As a member gets it that waits for another to let partitions go.
    source.log.events = [Event::Assigned(Vec::new())].into();
    let answers = Arc::clone(&source.answers);
    run(dir.path(), source, None).await.0.unwrap();
    assert_eq!(answers.load(Ordering::SeqCst), 1);
}
