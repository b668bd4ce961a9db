//! A Kafka broker of one node, in the process: what lets someone run the pipeline with nothing installed.
//!
//! It speaks the Kafka protocol to any client and keeps each partition's record batches in segment files as they
//! came. It promises that an acknowledged record has been written to the file, so a killed process loses nothing
//! that it acknowledged, and on to the disk where [`Durability`] says so. It replicates nothing: a city's production
//! points at a real cluster.
//!
//! `server` (sockets, limits) reads frames of a `stream`, encrypted where that is configured, and `send` writes answers;
//! `sasl` says who may ask; `protocol` decodes and dispatches to `api` (the versions spoken, and one file per family of
//! requests), which act on `topics` and `log` (segments, index, recovery, producers' state), `groups` and `transactions`.

mod api;
mod buffers;
mod clock;
mod config;
mod error;
mod files;
#[cfg(fuzzing)]
#[allow(missing_docs)]
pub mod fuzz;
#[cfg(all(test, not(fuzzing)))]
#[allow(unreachable_pub)]
mod fuzz;
mod groups;
mod ids;
mod journal;
mod log;
mod partition;
mod peer;
#[cfg(test)]
mod power_cut_tests;
mod protocol;
mod retry;
mod sasl;
mod send;
mod server;
mod settings;
mod state;
mod stream;
mod topics;
mod transactions;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use clock::{Clock, SystemClock};
pub use config::{BrokerConfig, Durability, Limits};
pub use error::BrokerError;
pub use sasl::SaslConfig;

use state::State;

/// A running broker. Dropping it stops it without the clean end that [`Broker::shutdown`] makes; nothing acknowledged
/// is lost then, the next start only takes longer.
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    state: Arc<State>,
    tasks: TaskTracker,
    stop: DropGuard,
}

impl Broker {
    /// Locks the data directory, recovers what is in it and listens. The broker answers when this returns.
    ///
    /// Needs a tokio runtime with its time and network drivers on.
    ///
    /// # Errors
    /// The address cannot be had, the data directory is in use by another process or is no data directory of ours,
    /// or a file cannot be read or written.
    pub async fn start(config: BrokerConfig) -> Result<Broker, BrokerError> {
        config.check()?;
        let listener = server::bind(&config).await?;
        let address = listener.local_addr().map_err(|source| BrokerError::Listen {
            address: config.listen,
            source,
        })?;
        let state = tokio::task::spawn_blocking(move || State::open(config, address))
            .await
            .map_err(|_| BrokerError::Stopped)??;
        let state = Arc::new(state);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        server::spawn(listener, Arc::clone(&state), &tasks, stop.clone());
        state::spawn_upkeep(Arc::clone(&state), &tasks, stop.clone());
        tracing::info!(%address, data_dir = %state.config.data_dir.display(), "broker listens");
        Ok(Broker {
            address,
            state,
            tasks,
            stop: stop.drop_guard(),
        })
    }

    /// Where it listens; with port 0 in the configuration, the port that was free.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The offset that the next record of this partition will get, or `None` when there is no such partition.
    pub fn high_watermark(&self, topic: &str, partition: i32) -> Option<i64> {
        Some(
            self.state
                .topics
                .partition(topic, partition)?
                .log
                .lock()
                .high_watermark(),
        )
    }

    /// Why records cannot be written, such as a full disk; `None` while they can. Reading goes on meanwhile.
    pub fn storage_error(&self) -> Option<String> {
        self.state.storage.error()
    }

    /// Closes the connections, flushes every file, and leaves the mark that lets the next start skip recovery.
    ///
    /// # Errors
    /// A file could not be flushed or written; what was acknowledged is in the files all the same.
    pub async fn shutdown(self) -> Result<(), BrokerError> {
        self.state.stops.store(true, Ordering::Relaxed);
        drop(self.stop);
        self.tasks.close();
        self.tasks.wait().await;
        let state = self.state;
        tokio::task::spawn_blocking(move || state.close())
            .await
            .map_err(|_| BrokerError::Stopped)?
    }
}
