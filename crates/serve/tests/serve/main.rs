//! The crate from outside: small lakes on disk, statements in, texts out; HTTP through a raw socket.
#![allow(clippy::unwrap_used)]

mod concurrency;
mod http;
mod lake;
mod output;
mod sessions;
mod speed;
mod sql;
mod table;
