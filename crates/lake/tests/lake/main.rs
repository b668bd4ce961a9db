//! The lake from the outside: what lands, what a store's faults and other writers can do to it, and who can read it.

#![allow(clippy::unwrap_used)]

mod checkpoints;
mod commit;
mod cut_disk;
mod dead_letters;
mod erasures;
mod every_reader;
mod faults;
mod features;
mod field_ids;
mod files;
mod golden;
mod history;
mod locations;
mod lost_offsets;
mod open;
mod plain;
mod power_cut;
mod readers;
mod rows;
mod s3;
mod s3_server;
#[path = "../../../../tests/skip.rs"]
mod skip;
mod snapshot;
#[path = "../../../../tests/spark/spark.rs"]
mod spark;
mod verify;
mod verify_elements;
mod verify_foreign;
mod verify_ledger;
mod verify_starts;
mod verify_topics;
