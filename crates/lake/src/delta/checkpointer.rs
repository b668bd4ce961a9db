//! When a writer writes a checkpoint: every N versions, beside the commits and without holding them up, and after what
//! must be kept of the commits was.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use metrics::{counter, histogram};
use tracing::warn;

use crate::delta::checkpoint::write::write_checkpoint;
use crate::delta::features::checkpoint_interval;
use crate::delta::log::Log;
use crate::delta::snapshot::Snapshot;
use crate::delta::spec::CHECKPOINT_INTERVAL;
use crate::error::describe;

/// After a checkpoint failed, versions until it is tried again.
const RETRY: i64 = 10;

impl Log {
    /// Starts writing one when the newest is as old as the table's interval, of [`CHECKPOINT_INTERVAL`] versions where it
    /// says none, and none is being written. A failure costs the next reader some time and nothing else. Where the table
    /// asks for checkpoints in another form they are left to other writers.
    pub(crate) fn checkpoint_when_due(&self, version: i64) {
        let interval = self
            .view()
            .metadata()
            .map(|metadata| checkpoint_interval(metadata, CHECKPOINT_INTERVAL));
        let Some(Some(interval)) = interval else { return };
        if version - self.checkpointed.load(Ordering::Relaxed) < interval {
            return;
        }
        let Ok(running) = Arc::clone(&self.checkpoint).try_lock_owned() else {
            return;
        };
        let location = self.location.clone();
        let table = self.spec.name.clone();
        let checkpointed = Arc::clone(&self.checkpointed);
        let table_id = self.view().metadata().map(|metadata| metadata.id.clone());
        let keeper = self.keeper.clone().zip(table_id);
        let now_ms = self.clock.now_us() / 1000;
        tokio::spawn(async move {
            let _running = running;
            let started = Instant::now();
            // Another writer may have been faster.
            let newest = location.last_checkpoint().await.map_or(0, |last| last.version);
            if version - newest < interval {
                checkpointed.store(newest, Ordering::Relaxed);
                return;
            }
            let write = async {
                if let Some((keeper, table_id)) = keeper {
                    keeper.keep(&table, &table_id, version).await?;
                }
                let snapshot = Snapshot::load(&location, Some(version)).await?;
                write_checkpoint(&snapshot, now_ms).await
            };
            let outcome = match write.await {
                Ok(_) => {
                    checkpointed.store(version, Ordering::Relaxed);
                    "written"
                }
                Err(error) => {
                    warn!(table, version, error = %describe(&error), "no checkpoint written; a later version will do");
                    checkpointed.store(version - interval + RETRY.min(interval), Ordering::Relaxed);
                    "failed"
                }
            };
            counter!("smartcity_lake_checkpoints_total", "table" => table, "outcome" => outcome).increment(1);
            histogram!("smartcity_lake_checkpoint_seconds").record(started.elapsed().as_secs_f64());
        });
    }
}
