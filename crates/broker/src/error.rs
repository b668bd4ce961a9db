//! What can keep the broker from starting or ending well. What goes wrong later is answered to the client with Kafka's
//! own error codes.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use auth::AuthError;

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
    /// The users, the certificate or its key cannot be used.
    #[error(transparent)]
    Auth(#[from] AuthError),
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

/// An error and what caused it, for a field of the log.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
