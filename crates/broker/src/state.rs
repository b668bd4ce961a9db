//! Everything the broker holds, opened and closed in one place, and the upkeep that runs beside the requests.

use std::fs::{self, File, TryLockError};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use auth::TlsServer;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Now;
use crate::config::{BrokerConfig, Durability};
use crate::error::{AtPath, BrokerError, error_chain};
use crate::files::{self, write_atomically};
use crate::groups::Groups;
use crate::ids::{Ids, base64_id};
use crate::log::{CleanJob, Cleaned, LogError};
use crate::partition::Partition;
use crate::sasl::Sasl;
use crate::topics::Topics;
use crate::transactions::{Participants, Transactions};

/// Of the layout of the data folder. With 2 came segments that the cleaner has written; a version before it would not see
/// them.
const FORMAT: u32 = 2;
/// The one node.
pub(crate) const NODE_ID: i32 = 1;

const LOCK: &str = "lock";
const META: &str = "meta.json";
const CLEAN: &str = "clean-shutdown";

const LOOKUPS_MAX: usize = 2;
const FETCH_FILES_MAX: usize = 256;
const MEMBER_BYTES_MAX: usize = 64 << 20;
/// What each takes beside its bytes.
const MEMBER_BYTES_EACH: usize = 64;

const TICK: Duration = Duration::from_millis(50);
const LOG_UPKEEP: Duration = Duration::from_secs(1);
const GAUGES: Duration = Duration::from_secs(5);
const RELOAD: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: BrokerConfig,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) cluster_id: String,
    pub(crate) topics: Topics,
    pub(crate) groups: Groups,
    pub(crate) transactions: Transactions,
    pub(crate) ids: Ids,
    pub(crate) storage: Storage,
    /// Lookups by time that run at once: each may hold a decoder's window.
    pub(crate) lookups: Semaphore,
    /// Closed segments that answers to fetches hold open.
    pub(crate) fetch_files: Arc<Semaphore>,
    /// Bytes that members' metadata and assignments may still take, over all groups.
    member_bytes: Arc<Semaphore>,
    pub(crate) sasl: Option<Sasl>,
    pub(crate) tls: Option<TlsServer>,
    /// The broker stops: long work beside the requests ends at its next step.
    pub(crate) stops: AtomicBool,
    /// Held for as long as the broker runs.
    _lock: File,
}

/// Whether records can be written. A full disk is told once, not at each of a client's many tries; all are counted.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    failing: AtomicBool,
    error: Mutex<Option<String>>,
}

impl Storage {
    pub(crate) fn failed(&self, topic: &str, partition: i32, error: &LogError) {
        metrics::counter!("smartcity_broker_storage_errors").increment(1);
        if !self.failing.swap(true, Ordering::Relaxed) {
            let error = error_chain(error);
            tracing::error!(
                topic,
                partition,
                error,
                "records cannot be written; clients are told so until they can"
            );
            *self.error.lock() = Some(error);
        }
    }

    pub(crate) fn worked(&self) {
        if self.failing.load(Ordering::Relaxed) && self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("records can be written again");
            *self.error.lock() = None;
        }
    }

    /// Why the last write failed; `None` while all is well.
    pub(crate) fn error(&self) -> Option<String> {
        self.error.lock().clone()
    }
}

fn keep(room: &Arc<Semaphore>, name: &str, bytes: &[u8]) -> Option<Bytes> {
    struct Kept {
        bytes: Vec<u8>,
        _permit: OwnedSemaphorePermit,
    }
    impl AsRef<[u8]> for Kept {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    let size = u32::try_from(name.len() + bytes.len() + MEMBER_BYTES_EACH).ok()?;
    let permit = Arc::clone(room).try_acquire_many_owned(size).ok()?;
    Some(Bytes::from_owner(Kept {
        bytes: bytes.to_vec(),
        _permit: permit,
    }))
}

#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    format: u32,
    cluster_id: String,
}

impl State {
    pub(crate) fn open(config: BrokerConfig, address: SocketAddr) -> Result<Self, BrokerError> {
        let sasl = config
            .sasl
            .as_ref()
            .map(|sasl| Sasl::open(sasl, &config.entropy))
            .transpose()?;
        let tls = config.tls.as_ref().map(TlsServer::open).transpose()?;
        let started = Instant::now();
        let dir = config.data_dir.clone();
        files::create_dir_all(&dir).at("create", &dir)?;
        files::make_private(&dir).at("change the mode of", &dir)?;
        let lock = lock(&dir)?;
        let ids = Ids::new(config.clock.now_ms());
        let cluster_id = open_meta(&dir, &ids)?;
        let clean = dir.join(CLEAN);
        let was_clean = clean.exists();
        let topics = Topics::open(&config)?;
        let member_bytes = Arc::new(Semaphore::new(MEMBER_BYTES_MAX));
        let keep_in = Arc::clone(&member_bytes);
        let groups = Groups::open(&dir.join("groups.journal"), &config, &move |name, bytes| {
            keep(&keep_in, name, bytes)
        })?;
        let transactions = Transactions::open(&dir.join("transactions.journal"), &config)?;
        if was_clean {
            files::remove(&clean).at("delete", &clean)?;
        }
        let (host, port) = config
            .advertised
            .clone()
            .unwrap_or_else(|| (address.ip().to_string(), address.port()));
        let state = Self {
            config,
            host,
            port,
            cluster_id,
            topics,
            groups,
            transactions,
            ids,
            storage: Storage::default(),
            lookups: Semaphore::new(LOOKUPS_MAX),
            member_bytes,
            fetch_files: Arc::new(Semaphore::new(FETCH_FILES_MAX)),
            sasl,
            tls,
            stops: AtomicBool::new(false),
            _lock: lock,
        };
        state.transactions.recover(state.participants());
        let topics = state.topics.all().len();
        let elapsed_ms = started.elapsed().as_millis();
        tracing::info!(data_dir = %dir.display(), topics, was_clean, elapsed_ms, "broker data opened");
        Ok(state)
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.config.clock.now_ms()
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            ms: self.now_ms(),
            instant: Instant::now(),
        }
    }

    /// Where transactions are ended now.
    pub(crate) fn participants(&self) -> Participants<'_> {
        Participants {
            topics: &self.topics,
            groups: &self.groups,
            now: self.now(),
        }
    }

    /// A copy that groups keep under a name, both counted for as long as it lives; `None` when there is no room. (A
    /// slice of the request would keep all of it.)
    pub(crate) fn keep(&self, name: &str, bytes: &[u8]) -> Option<Bytes> {
        keep(&self.member_bytes, name, bytes)
    }

    /// Flushes everything and leaves the clean mark. The lock goes with `self`.
    pub(crate) fn close(&self) -> Result<(), BrokerError> {
        for (_, partition) in self.topics.partitions() {
            partition.log.lock().close().map_err(|error| match error {
                LogError::Storage { action, path, source } => BrokerError::Io { action, path, source },
                error => BrokerError::DataDir {
                    dir: self.config.data_dir.clone(),
                    reason: error.to_string(),
                },
            })?;
        }
        let dir = &self.config.data_dir;
        self.groups.sync().at("sync", &dir.join("groups.journal"))?;
        self.transactions.sync().at("sync", &dir.join("transactions.journal"))?;
        let clean = dir.join(CLEAN);
        write_atomically(&clean, b"").at("write", &clean)?;
        tracing::info!(data_dir = %dir.display(), "broker closed its data cleanly");
        Ok(())
    }

    pub(crate) fn log_upkeep(&self) {
        for (topic, partition) in self.topics.partitions() {
            let _maintenance = partition.maintenance.lock();
            let due = partition.log.lock().take_upkeep();
            let Some(due) = due else { continue };
            match due.run() {
                Ok(()) => partition.log.lock().upkeep_done(&due),
                Err(error) => tracing::warn!(topic, partition = partition.index, %error, "log upkeep failed"),
            }
        }
    }

    /// Log ends and group lags, for whoever reads the metrics.
    fn gauges(&self) {
        for (topic, partition) in self.topics.partitions() {
            let labels = [("topic", topic), ("partition", partition.index.to_string())];
            let (end, bytes) = {
                let log = partition.log.lock();
                (log.high_watermark(), log.size())
            };
            metrics::gauge!("smartcity_broker_log_end_offset", &labels).set(end as f64);
            metrics::gauge!("smartcity_broker_log_bytes", &labels).set(bytes as f64);
        }
        for (group, _, _) in self.groups.list() {
            for fetched in self.groups.fetch(&group, None) {
                let (topic, index) = fetched.place;
                let (Some(committed), Some(partition)) = (fetched.committed, self.topics.partition(&topic, index))
                else {
                    continue;
                };
                let lag = partition.log.lock().high_watermark().saturating_sub(committed.offset);
                let labels = [
                    ("group", group.clone()),
                    ("topic", topic),
                    ("partition", index.to_string()),
                ];
                metrics::gauge!("smartcity_broker_group_lag_records", &labels).set(lag as f64);
            }
        }
    }

    fn reload(&self) {
        if let Some(sasl) = &self.sasl {
            sasl.reload();
        }
        if let Some(tls) = &self.tls {
            tls.reload();
        }
    }

    /// Cleans the compacted logs that are due, those with most to clean first. One at a time: the memory for keys is taken
    /// once.
    fn clean(&self) {
        let now_ms = self.now_ms();
        let due = |(topic, partition): (String, Arc<Partition>)| {
            let job = partition.log.lock().plan_cleaning(now_ms)?;
            Some((job, topic, partition))
        };
        let mut jobs: Vec<_> = self.topics.partitions().into_iter().filter_map(due).collect();
        jobs.sort_by(|(a, ..), (b, ..)| b.dirty_ratio().total_cmp(&a.dirty_ratio()));
        metrics::gauge!("smartcity_broker_cleaner_due").set(jobs.len() as f64);
        for (job, topic, partition) in jobs {
            if self.stops.load(Ordering::Relaxed) {
                return;
            }
            match self.clean_one(&job, &partition) {
                Ok(cleaned) => tracing::info!(
                    topic,
                    partition = partition.index,
                    bytes_before = cleaned.bytes_before,
                    bytes_after = cleaned.bytes_after,
                    records_removed = cleaned.counts.records_removed,
                    upto = cleaned.upto,
                    is_complete = cleaned.is_complete,
                    "compacted a log"
                ),
                Err(error) if self.topics.partition(&topic, partition.index).is_none() => {
                    tracing::debug!(topic, %error, "a topic was deleted while it was compacted");
                }
                Err(error) => {
                    metrics::counter!("smartcity_broker_cleaner_errors").increment(1);
                    let error = error_chain(&error);
                    tracing::error!(
                        topic,
                        partition = partition.index,
                        error,
                        "a log could not be compacted"
                    );
                }
            }
        }
    }

    fn clean_one(&self, job: &CleanJob, partition: &Partition) -> Result<Cleaned, LogError> {
        let keys_bytes_max = self.config.limits.cleaner_keys_bytes_max;
        let cleaned = job.run(keys_bytes_max, &partition.log)?;
        partition.log.lock().cleaned(cleaned.upto)?;
        metrics::counter!("smartcity_broker_cleaner_records_removed").increment(cleaned.counts.records_removed);
        metrics::counter!("smartcity_broker_cleaner_read_bytes").increment(cleaned.bytes_before);
        metrics::counter!("smartcity_broker_cleaner_written_bytes").increment(cleaned.bytes_after);
        metrics::counter!("smartcity_broker_cleaner_unreadable_batches").increment(cleaned.counts.batches_unreadable);
        metrics::gauge!("smartcity_broker_cleaner_keys_bytes").set(cleaned.keys_bytes as f64);
        if !cleaned.is_complete {
            metrics::counter!("smartcity_broker_cleaner_keys_full").increment(1);
        }
        Ok(cleaned)
    }

    fn retain(&self) {
        let now_ms = self.now_ms();
        for (topic, partition) in self.topics.partitions() {
            let mut log = partition.log.lock();
            log.expire_producers(now_ms.saturating_sub(self.config.producer_expiry.as_millis() as i64));
            match log.retain(now_ms) {
                Ok(0) => {}
                Ok(segments) => {
                    let log_start = log.log_start();
                    tracing::info!(
                        topic,
                        partition = partition.index,
                        segments,
                        log_start,
                        "retention deleted segments"
                    );
                }
                Err(error) => tracing::warn!(topic, partition = partition.index, %error, "retention failed"),
            }
        }
        self.transactions.expire(now_ms);
        self.groups
            .expire(now_ms, self.config.offsets_retention.as_millis() as i64);
    }
}

/// Runs what is due beside the requests: session time-outs, indexes of closed segments, retention, compaction.
pub(crate) fn spawn_upkeep(state: Arc<State>, tasks: &TaskTracker, stop: CancellationToken) {
    let ticking = Arc::clone(&state);
    let stopping = stop.clone();
    tasks.spawn(async move {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            ticking.groups.tick(Instant::now());
            if ticking.config.durability == Durability::Os {
                ticking.transactions.tick(ticking.participants());
                continue;
            }
            // It may wait for the disk.
            let state = Arc::clone(&ticking);
            let tick = move || state.transactions.tick(state.participants());
            let _ = tokio::task::spawn_blocking(tick).await;
        }
        ticking.groups.dissolve();
    });
    spawn_periodic(tasks, &stop, LOG_UPKEEP, &state, State::log_upkeep);
    spawn_periodic(tasks, &stop, GAUGES, &state, State::gauges);
    spawn_periodic(tasks, &stop, state.config.retention_check, &state, State::retain);
    if state.sasl.is_some() || state.tls.is_some() {
        spawn_periodic(tasks, &stop, RELOAD, &state, State::reload);
    }
    spawn_periodic(tasks, &stop, state.config.cleaner_interval, &state, State::clean);
}

fn spawn_periodic(tasks: &TaskTracker, stop: &CancellationToken, every: Duration, state: &Arc<State>, act: fn(&State)) {
    let (stop, state) = (stop.clone(), Arc::clone(state));
    tasks.spawn(async move {
        while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
            let state = Arc::clone(&state);
            // File work, off the threads that answer requests.
            let _ = tokio::task::spawn_blocking(move || act(&state)).await;
        }
    });
}

fn lock(dir: &Path) -> Result<File, BrokerError> {
    let path = dir.join(LOCK);
    let file = files::open_write(&path).at("open", &path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BrokerError::DataDirInUse { dir: dir.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(source).at("lock", &path),
    }
}

/// The cluster id, from the directory's description or a new one.
fn open_meta(dir: &Path, ids: &Ids) -> Result<String, BrokerError> {
    let path = dir.join(META);
    let fault = |reason: String| BrokerError::DataDir {
        dir: dir.to_path_buf(),
        reason,
    };
    if path.exists() {
        let bytes = fs::read(&path).at("read", &path)?;
        let meta: Meta =
            serde_json::from_slice(&bytes).map_err(|error| fault(format!("{META} cannot be understood: {error}")))?;
        if meta.format > FORMAT {
            return Err(fault(format!(
                "its format is {}, this version knows up to {FORMAT}: use the version that wrote it",
                meta.format
            )));
        }
        if meta.format < FORMAT {
            write_meta(&path, &meta.cluster_id)?;
        }
        return Ok(meta.cluster_id);
    }
    for entry in fs::read_dir(dir).at("list", dir)? {
        let name = entry.at("list", dir)?.file_name();
        if name != LOCK && name != "meta.tmp" {
            return Err(fault(format!(
                "it has no {META} but holds other files, such as {}",
                name.display()
            )));
        }
    }
    let cluster_id = base64_id(ids.uuid());
    write_meta(&path, &cluster_id)?;
    Ok(cluster_id)
}

fn write_meta(path: &Path, cluster_id: &str) -> Result<(), BrokerError> {
    let meta = Meta {
        format: FORMAT,
        cluster_id: cluster_id.to_owned(),
    };
    let bytes = serde_json::to_vec_pretty(&meta).map_err(std::io::Error::from);
    bytes.and_then(|bytes| write_atomically(path, &bytes)).at("write", path)
}
