//! One file per command: its arguments and what it does.

pub(crate) mod broker;
pub(crate) mod config;
pub(crate) mod dlq;
pub(crate) mod ingest;
pub(crate) mod lake;
pub(crate) mod query;
pub(crate) mod simulate;
pub(crate) mod status;
pub(crate) mod up;
