//! All of ingest wired together: reader -> workers -> committers, one bounded queue between each two.

use std::collections::HashMap;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use kafka::Source;
use lake::{Lake, LakeError};
use metrics::counter;
use model::{Clock, Streams};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::IngestError;
use crate::batch::FlushPolicy;
use crate::budget::Budget;
use crate::committer::Committer;
use crate::config::JobConfig;
use crate::dispatch::Dispatcher;
use crate::handoff::{LetterOffsets, SharedBinding};
use crate::progress::{Part, Phase, Progress};
use crate::reader::{Pending, Reader, ReaderStream};
use crate::tolerance::Breaker;
use crate::watch::Watch;
use crate::worker::{Lane, StreamWorker, Worker, WorkerError};

/// Chunks that may wait for one worker; with the chunk's own limit this bounds memory.
const WORK_QUEUE_CHUNKS: usize = 2;
/// Batches that may wait for one committer.
const COMMIT_QUEUE_BATCHES: usize = 1;
/// Closed batches of full size that all committers together may hold; what is beyond waits with the workers.
const CLOSED_BATCHES: usize = 2;

/// How long a thread may take to end once the job has failed. One that waits longer, for a cluster that is away, is left
/// behind.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// Ingests `streams` from `source` to `lake` until done or `stop` is cancelled; then everything read is committed.
///
/// Threads and tasks all end before it returns, but for what hangs in a call to Kafka. The first error stops the rest, and
/// what was not committed is read again by the next run.
///
/// # Errors
/// [`IngestError::ShutdownTimeout`] when something does not answer for `config.shutdown_timeout` after `stop`.
pub async fn run(
    streams: &Streams,
    source: Box<dyn Source>,
    lake: &Lake,
    clock: Arc<dyn Clock>,
    config: &JobConfig,
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Result<(), IngestError> {
    let abort = CancellationToken::new();
    let failure = Failure {
        first: Arc::default(),
        abort: abort.clone(),
    };
    let letter_offsets = LetterOffsets::default();
    let (control_sender, control) = std::sync::mpsc::channel();
    let topic_ids = source.topic_ids()?;
    progress.set_phase(Phase::Starting("opening tables"));
    let letters = || lake.dead_letters(streams, &config.application);
    let Some(dead_letters) = open("dead_letters", lake, &progress, &stop, letters).await? else {
        return Ok(());
    };

    let mut committers = JoinSet::new();
    let mut reader_streams = Vec::new();
    for (index, stream) in streams.iter().enumerate() {
        let table = || lake.table(stream, &config.application);
        let Some(table) = open(&stream.name, lake, &progress, &stop, table).await? else {
            return Ok(());
        };
        let binding = SharedBinding::default();
        let (commits, commits_receiver) = mpsc::channel(COMMIT_QUEUE_BATCHES);
        let committer = Committer {
            stream: index,
            name: stream.name.as_str().into(),
            topic: stream.topic.clone(),
            table: table.clone(),
            dead_letters: dead_letters.clone(),
            letter_offsets: Arc::clone(&letter_offsets),
            binding: Arc::clone(&binding),
            topic_ids: Arc::clone(&topic_ids),
            outlives_topic: !config.fail_on_data_loss,
            dlq_topic: config.dlq_topic.clone(),
            progress: Arc::clone(&progress),
            control: control_sender.clone(),
            lake: lake.clone(),
            abort: abort.clone(),
        };
        let failure = failure.clone();
        committers.spawn(async move { failure.keep(committer.run(commits_receiver).await) });
        reader_streams.push(ReaderStream {
            name: stream.name.clone(),
            topic: stream.topic.clone(),
            recorded_topic: stream.topic.as_str().into(),
            table,
            commits,
            epoch: 0,
            binding,
            stopped: None,
        });
    }

    let breakers: Vec<_> = (0..reader_streams.len())
        .map(|_| Arc::new(Breaker::new(config.errors_tolerance)))
        .collect();
    let closed = Budget::new(CLOSED_BATCHES * config.flush.bytes_max, "smartcity_ingest_closed_bytes");
    let (mut workers, mut threads) = (Vec::new(), Vec::new());
    for number in 0..config.workers.max(1) {
        let (sender, work) = sync_channel(WORK_QUEUE_CHUNKS);
        let lanes = streams.iter().zip(&reader_streams).zip(&breakers);
        let lanes = lanes.map(|((stream, state), breaker)| Lane {
            worker: StreamWorker::new(stream, state.table.clone()),
            commits: state.commits.clone(),
            breaker: Arc::clone(breaker),
        });
        let worker = Worker::new(
            lanes.collect(),
            control_sender.clone(),
            FlushPolicy {
                open_bytes_max: config.flush.open_bytes_max / config.workers.max(1),
                ..config.flush
            },
            closed.clone(),
            Arc::clone(&clock),
        );
        let worker_failure = failure.clone();
        let run = move || match worker.run(&work) {
            // The committer keeps its own error.
            Ok(()) | Err(WorkerError::CommitterGone) => {}
            Err(WorkerError::Lake { stream, source }) => {
                worker_failure.keep(Err(IngestError::Lake {
                    stream: stream.to_string(),
                    source,
                }));
            }
        };
        threads.push(spawn(&format!("ingest-{number}"), &failure, run));
        workers.push(sender);
    }

    let bindings = reader_streams.iter();
    let watch = Watch {
        topics: bindings
            .map(|state| (state.topic.clone(), Arc::clone(&state.binding)))
            .collect(),
        topic_ids: Arc::clone(&topic_ids),
        lake: lake.clone(),
        progress: Arc::clone(&progress),
        control: control_sender,
        outlives_topic: !config.fail_on_data_loss,
    };
    let reader = Reader {
        source,
        topic_ids,
        streams: reader_streams,
        dead_letters,
        letter_offsets,
        dispatcher: Dispatcher::new(workers),
        control,
        progress: Arc::clone(&progress),
        runtime: Handle::current(),
        starting_offsets: config.starting_offsets,
        fail_on_data_loss: config.fail_on_data_loss,
        migrated_topics: config.migrated_topics.clone(),
        lake: lake.clone(),
        application: config.application.clone(),
        until: config.until,
        stop: stop.clone(),
        abort: abort.clone(),
        partitions: HashMap::new(),
        pending: Pending::new(lake),
        knows_topics: false,
    };
    let reader_failure = failure.clone();
    threads.insert(
        0,
        spawn("ingest-reader", &failure, move || reader_failure.keep(reader.run())),
    );

    // Each stage ends when the one before it has hung up: the reader, the workers, the committers.
    let threads = tokio::task::spawn_blocking(move || join_all(threads));
    let joined = async {
        let all_ended = matches!(threads.await, Ok(true));
        while let Some(ended) = committers.join_next().await {
            if ended.is_err() {
                failure.keep(Err(IngestError::Lost("a committer")));
            }
        }
        if !all_ended {
            failure.keep(Err(IngestError::Lost("a thread")));
        }
    };
    let watched = async {
        failure.keep(watch.run().await);
        std::future::pending().await
    };
    let overdue = async {
        stop.cancelled().await;
        progress.set_phase(Phase::Stopping);
        tokio::time::sleep(config.shutdown_timeout).await;
        failure.keep(Err(IngestError::ShutdownTimeout {
            timeout: config.shutdown_timeout,
            outages: progress.outages(),
        }));
        std::future::pending().await
    };
    let aborted = async {
        abort.cancelled().await;
        tokio::time::sleep(ABORT_GRACE).await;
    };
    tokio::select! {
        () = joined => {}
        () = watched => {}
        () = overdue => {}
        () = aborted => debug!("a thread hangs and is left behind"),
    }
    let first = failure.first.lock().unwrap_or_else(PoisonError::into_inner).take();
    first.map_or(Ok(()), Err)
}

/// Opens a table as soon as the lake answers; `None` when the job is stopped before.
async fn open<T, F: Future<Output = Result<T, LakeError>>>(
    stream: &str,
    lake: &Lake,
    progress: &Progress,
    stop: &CancellationToken,
    attempt: impl Fn() -> F,
) -> Result<Option<T>, IngestError> {
    let mut backoff = lake.backoff();
    loop {
        let opened = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(None),
            opened = attempt() => opened,
        };
        match opened {
            Ok(opened) => {
                progress.answered(Part::Lake);
                return Ok(Some(opened));
            }
            Err(error) if error.is_retryable() => {
                progress.failed(Part::Lake, "opening tables", &error);
                counter!("smartcity_ingest_retries_total", "stream" => stream.to_owned(), "what" => "open")
                    .increment(1);
                tokio::select! {
                    () = stop.cancelled() => return Ok(None),
                    () = backoff.wait() => {}
                }
            }
            Err(source) => {
                return Err(IngestError::Lake {
                    stream: stream.to_owned(),
                    source,
                });
            }
        }
    }
}

/// The first error of any stage; it stops all the others.
#[derive(Clone)]
struct Failure {
    first: Arc<Mutex<Option<IngestError>>>,
    abort: CancellationToken,
}

impl Failure {
    fn keep(&self, result: Result<(), IngestError>) {
        if let Err(error) = result {
            if matches!(error, IngestError::Ending) {
                // It follows from another one.
                return self.abort.cancel();
            }
            // The caller reports the first; the others mostly follow from it.
            debug!(%error, "ingest stops");
            self.first
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(error);
            self.abort.cancel();
        }
    }
}

/// Waits for all of them, also when one has panicked. Whether none has.
fn join_all(threads: Vec<thread::JoinHandle<()>>) -> bool {
    // `all` would stop at the first that has.
    let panicked = threads.into_iter().filter_map(|thread| thread.join().err());
    panicked.count() == 0
}

/// A named thread whose panic stops the job instead of leaving it waiting.
fn spawn(name: &str, failure: &Failure, run: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    struct AbortOnPanic(CancellationToken);
    impl Drop for AbortOnPanic {
        fn drop(&mut self) {
            if thread::panicking() {
                self.0.cancel();
            }
        }
    }
    let guard = AbortOnPanic(failure.abort.clone());
    let builder = thread::Builder::new().name(name.to_owned());
    #[allow(
        clippy::expect_used,
        reason = "a system that cannot start a thread cannot run this program"
    )]
    builder
        .spawn(move || {
            let _guard = guard;
            run();
        })
        .expect("a thread starts")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_panic_leaves_no_thread_behind() {
        let failure = Failure {
            first: Arc::default(),
            abort: CancellationToken::new(),
        };
        let ended = Arc::new(AtomicBool::new(false));
        let panics = spawn("panics", &failure, || panic!("on purpose"));
        let abort = failure.abort.clone();
        let last = Arc::clone(&ended);
        let goes_on = spawn("goes-on", &failure, move || {
            while !abort.is_cancelled() {
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_millis(50));
            last.store(true, Ordering::SeqCst);
        });
        assert!(!join_all(vec![panics, goes_on]));
        assert!(ended.load(Ordering::SeqCst), "it was still running");
    }
}
