//! What must be kept of commits before a checkpoint allows anyone to delete them.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use crate::LakeError;

/// Keeps what `verify` needs to know of commits beyond their JSON.
#[async_trait]
pub(crate) trait CommitKeeper: Send + Sync {
    /// Keeps the commits of a table up to a version. A checkpoint of that version is written only when this succeeds.
    async fn keep(&self, table: &str, table_id: &str, until: i64) -> Result<(), LakeError>;

    /// By partition of a topic, the offset after the last that the kept commits of an application cover. Partitions of
    /// which they cover none are left out.
    async fn kept_offsets(
        &self,
        table_id: &str,
        application: &str,
        topic: &str,
        partitions: &BTreeSet<i32>,
    ) -> Result<BTreeMap<i32, i64>, LakeError>;
}
