//! A table's Delta log: what it says, and how a commit enters it.

pub(crate) mod commit;
pub(crate) mod decide;
pub(crate) mod live_files;
pub(crate) mod log;
pub(crate) mod prepared;
pub(crate) mod schema;
