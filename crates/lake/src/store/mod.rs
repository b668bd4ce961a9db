//! Where a lake is: how its location is written, its root, and the stores that can hold it.

pub(crate) mod local;
pub(crate) mod location;
pub(crate) mod parquet;
pub(crate) mod probe;
pub(crate) mod root;
pub(crate) mod s3;
