//! What keeps a server from starting ([`AuthError`]), and why a client is refused ([`Failure`]).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A file or setting that cannot be used: mend it and start again.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
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
    /// A file is larger than anything of its kind.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit, in bytes.
        limit: u64,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A setting or an argument is out of its range.
    #[error("`{name}` {reason}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What it must be.
        reason: String,
    },
}

/// Names the path and the action of a failed file operation.
pub(crate) trait AtPath<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, AuthError>;
}

impl<T> AtPath<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, AuthError> {
        self.map_err(|source| AuthError::Io {
            action,
            path: path.to_path_buf(),
            source,
        })
    }
}

/// Why a client was refused, for the log. It never holds what the client sent. A server tells its client the same for
/// [`Failure::Credentials`] and [`Failure::Malformed`], in its protocol's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The user is unknown or the password is wrong.
    Credentials,
    /// The client asks to act for another user than the one who proves the password.
    OtherAuthorization,
    /// The client repeats its own nonce, as librdkafka before 2.6.1 does.
    RepeatedNonce,
    /// A token does not follow its specification; what it was.
    Malformed(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Credentials => f.write_str("unknown user or wrong password"),
            Failure::OtherAuthorization => f.write_str("asked to act for another user"),
            Failure::RepeatedNonce => f.write_str(
                "the client repeats its nonce, as librdkafka before 2.6.1 does and Kafka 4 refuses: use PLAIN or a newer one",
            ),
            Failure::Malformed(what) => write!(f, "{what} cannot be read"),
        }
    }
}

impl std::error::Error for Failure {}
