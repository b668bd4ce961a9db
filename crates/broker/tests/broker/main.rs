//! The broker from the outside: starting and stopping, who may connect, compacted topics, a disk that is full. What needs the process for
//! itself is in `bounds`, and every client library in `clients`.

#![allow(clippy::unwrap_used)]

mod auth;
#[cfg(target_os = "linux")]
mod compaction;
#[cfg(target_os = "linux")]
mod full_disk;
#[cfg(target_os = "linux")]
mod pipeline;
mod server;
#[path = "../../../../tests/skip.rs"]
mod skip;
#[cfg(target_os = "linux")]
#[path = "../support/mod.rs"]
mod support;
