//! What can keep the broker from starting or ending well. What goes wrong later is answered to the client with Kafka's
//! own error codes.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Why the broker could not start or stop.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Another program listens there: choose another port, or stop that program.
    #[error("address {address} is already in use: choose another port or stop the program that listens there")]
    AddressInUse {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Without authentication and encryption the broker keeps to the loopback.
    #[error(
        "refusing to listen on {address}: without {missing} the broker listens on the loopback only (127.0.0.1 or [::1])"
    )]
    NotLoopback {
        /// The address that was asked for.
        address: SocketAddr,
        /// What is not configured: TLS, SASL or both.
        missing: &'static str,
    },
    /// Others than its owner may read a file of secrets.
    #[error("{} can be read by others (mode {mode:o}): chmod 600 it", path.display())]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file of users is not understood.
    #[error("{} is no file of users: {reason}", path.display())]
    Users {
        /// The file.
        path: PathBuf,
        /// Where and what; never the content.
        reason: String,
    },
    /// A certificate or key cannot be used.
    #[error("{} cannot be used for TLS: {reason}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process holds the data directory: stop it or choose another directory.
    #[error("data directory {} is in use by another process: stop it or choose another directory", dir.display())]
    DataDirInUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory holds something that this version cannot read.
    #[error("{} is not a data directory that this broker can use: {reason}", dir.display())]
    DataDir {
        /// The directory.
        dir: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A setting is out of its range.
    #[error("broker setting `{name}`: {reason}")]
    Config {
        /// The setting.
        name: &'static str,
        /// What it must be.
        reason: String,
    },
    /// The runtime went away while the broker was starting or stopping.
    #[error("the runtime stopped before the broker was done")]
    Stopped,
}

/// Names the path and the action of a failed file operation.
pub(crate) trait AtPath<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, BrokerError>;
}

impl<T> AtPath<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, BrokerError> {
        self.map_err(|source| BrokerError::Io {
            action,
            path: path.to_path_buf(),
            source,
        })
    }
}
