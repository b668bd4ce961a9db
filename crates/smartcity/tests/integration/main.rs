//! The built binary from the outside. One binary of tests, for each would link all of it again.

#![allow(clippy::unwrap_used)]

mod command_line;
mod drift;
mod feed;
mod fleet;
mod kafka_faults;
mod parking;
mod places;
mod readers;
mod s3;
mod support;
mod terminal;
mod up;
mod workspace;
