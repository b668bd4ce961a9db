//! From columns to files: Parquet in memory, its statistics, and the upload.

pub(crate) mod encode;
pub(crate) mod parquet;
pub(crate) mod stats;
pub(crate) mod upload;
