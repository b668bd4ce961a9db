//! One file per command.

pub(crate) mod backfill;
pub(crate) mod broker;
pub(crate) mod broker_user;
pub(crate) mod config;
pub(crate) mod dlq;
pub(crate) mod ingest;
pub(crate) mod lake;
pub(crate) mod query;
pub(crate) mod simulate;
pub(crate) mod status;
pub(crate) mod up;
