//! The lake from the outside: what lands, what a store's faults and other writers can do to it, and who can read it.

#![allow(clippy::unwrap_used)]

mod commit;
mod dead_letters;
mod erasures;
mod faults;
mod files;
mod open;
mod readers;
mod rows;
mod s3;
mod s3_server;
mod verify;
mod verify_elements;
mod verify_ledger;
mod verify_topics;
