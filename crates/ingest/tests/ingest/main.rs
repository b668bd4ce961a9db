//! Ingest from the outside: the whole job, and a lake compared with its topic.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod job;
mod verify;
