//! The built binary from the outside. One binary of tests, for each would link all of it again.

#![allow(clippy::unwrap_used)]

mod command_line;
mod drift;
mod feed;
mod fleet;
mod kafka_faults;
mod lifecycle;
mod outages;
mod parking;
mod places;
mod readers;
mod s3;
#[path = "../../../../tests/skip.rs"]
mod skip;
mod support;
mod terminal;
mod up;
mod workspace;
