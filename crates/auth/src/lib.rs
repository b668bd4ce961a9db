//! Who may connect, and over what: users and their passwords, SASL mechanisms, TLS for servers.
//!
//! One implementation for every server of the program. It knows no protocol: a server passes the bytes of a token or
//! of a connection and frames the answers itself. It promises that
//!
//! - a refused client cannot tell an unknown user from a wrong password, neither by the messages, nor by where the
//!   exchange ends, nor by the work that it takes;
//! - no `Debug` or `Display` of a public type shows a password, a key or what a client sent;
//! - every input has a limit: tokens, names, passwords, iterations, files;
//! - files of secrets that others may read are refused, and files that change are read again on [`Authenticator::reload`]
//!   and [`TlsServer::reload`], where a broken one leaves the former in force.
//!
//! `authenticator` checks passwords and runs a client's [`Exchange`] by one of the [`Mechanism`]s (`plain`, `scram`)
//! against `users` (the file of `credential`s). `tls` makes a server's TLS from PEM files. `secret_file` reads and
//! replaces files of secrets, `reload` notices that files have changed, `entropy` is where nonces and salts come from.

mod authenticator;
mod credential;
mod entropy;
mod error;
mod mechanism;
mod plain;
mod reload;
mod scram;
mod secret_file;
mod tls;
mod users;

pub use authenticator::{Authenticator, Exchange, Step, TOKEN_BYTES_MAX};
pub use credential::{ITERATIONS_MAX, ITERATIONS_MIN, PASSWORD_BYTES_MAX};
pub use entropy::{Entropy, SystemEntropy};
pub use error::{AuthError, Failure};
pub use mechanism::Mechanism;
pub use secret_file::{read_private, replace_private};
pub use tls::{ClientAuth, HandshakeError, TlsConfig, TlsServer};
pub use users::{NAME_BYTES_MAX, replace_user, user_entries};
