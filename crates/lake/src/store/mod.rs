//! Where a lake lies: its root, and the object stores that can hold it.

pub(crate) mod parquet;
pub(crate) mod probe;
pub(crate) mod root;
pub(crate) mod s3;
