//! A partition of a topic: its log, the fetches that wait for records, and the syncs that acknowledgements wait for.
//!
//! Syncs are group commits. A partition has one under way at a time, and the next one takes along all that was appended
//! meanwhile, whoever waits for it. Different partitions sync side by side, which most file systems make one write of.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::error::error_chain;
use crate::log::{LogConfig, LogError, PartitionLog};

#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) index: i32,
    pub(crate) log: Mutex<PartitionLog>,
    /// Fetches that wait for records here.
    waiting: Mutex<Vec<Arc<Notify>>>,
    /// Held while files are synced: who comes later waits for what is under way.
    syncing: Mutex<()>,
    background: Mutex<Background>,
    /// Held while files are written beside the segments, and while the topic's folder is moved away.
    pub(crate) maintenance: Mutex<()>,
    /// Notified when a sync has ended, well or not.
    sync_ended: Notify,
}

/// The sync that no one blocks for.
#[derive(Debug, Default)]
struct Background {
    is_running: bool,
    /// Something was appended since it began.
    runs_again: bool,
}

impl Partition {
    pub(crate) fn open(dir: &Path, index: i32, config: LogConfig, now_ms: i64) -> Result<Self, LogError> {
        let log = PartitionLog::open(&dir.join(index.to_string()), config, now_ms)?;
        Ok(Self {
            index,
            log: Mutex::new(log),
            waiting: Mutex::default(),
            syncing: Mutex::default(),
            background: Mutex::default(),
            maintenance: Mutex::default(),
            sync_ended: Notify::new(),
        })
    }

    /// Returns when all that was appended before is on the disk. Blocks for as long as that takes.
    ///
    /// # Errors
    /// It could not be synced, now or ever since a sync failed.
    pub(crate) fn sync(&self) -> Result<(), LogError> {
        let _turn = self.syncing.lock();
        let (unsynced, upto) = {
            let mut log = self.log.lock();
            log.check_writable()?;
            let (unsynced, upto) = log.take_unsynced();
            if unsynced.is_empty() {
                log.synced(upto);
                return Ok(());
            }
            (unsynced, upto)
        };
        let started = Instant::now();
        let synced = unsynced.iter().try_for_each(|file| file.sync());
        metrics::histogram!("smartcity_broker_sync_seconds").record(started.elapsed().as_secs_f64());
        match synced {
            Ok(()) => self.log.lock().synced(upto),
            Err(_) => self.log.lock().sync_failed(),
        }
        self.sync_ended.notify_waiters();
        self.wake();
        synced
    }

    /// Starts a sync beside the requests, unless one runs already: then it does another round.
    pub(crate) fn begin_sync(self: &Arc<Self>) {
        {
            let mut background = self.background.lock();
            if background.is_running {
                background.runs_again = true;
                return;
            }
            background.is_running = true;
        }
        let partition = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            loop {
                if let Err(error) = partition.sync() {
                    let (partition, error) = (partition.index, error_chain(&error));
                    tracing::error!(partition, error, "records could not be synced");
                }
                let mut background = partition.background.lock();
                if !background.runs_again {
                    background.is_running = false;
                    return;
                }
                background.runs_again = false;
            }
        });
    }

    /// Waits until what lies before `offset` is on the disk; false when that cannot be said any more.
    pub(crate) async fn on_disk(self: &Arc<Self>, offset: i64) -> bool {
        loop {
            let ended = self.sync_ended.notified();
            tokio::pin!(ended);
            // From here on none is missed.
            ended.as_mut().enable();
            {
                let log = self.log.lock();
                if log.synced_offset() >= offset {
                    return true;
                }
                if log.has_failed() {
                    return false;
                }
            }
            self.begin_sync();
            ended.await;
        }
    }

    /// Wakes every fetch that waits here.
    pub(crate) fn wake(&self) {
        for notify in self.waiting.lock().iter() {
            notify.notify_one();
        }
    }

    pub(crate) fn wait_with(&self, notify: &Arc<Notify>) {
        self.waiting.lock().push(Arc::clone(notify));
    }

    pub(crate) fn stop_waiting(&self, notify: &Arc<Notify>) {
        self.waiting.lock().retain(|waiting| !Arc::ptr_eq(waiting, notify));
    }
}
