//! Encoded files into the store. Nothing is visible in a table until a commit names it.

use std::sync::Arc;
use std::time::Instant;

use futures::stream::{self, StreamExt, TryStreamExt};
use metrics::{counter, histogram};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::{Map, Value, json};
use tracing::warn;

use crate::delta::commit::describe;
use crate::delta::log::Log;
use crate::write::encode::EncodedFile;
use crate::{EncodedFiles, LakeError};

const TRIES_MAX: u32 = 8;
/// Files sent at the same time.
const AT_ONCE: usize = 4;

/// Files that lie in the store and wait for their commit. Cheap to clone, so that a commit may be tried again.
#[derive(Debug, Clone, Default)]
pub struct StagedFiles {
    files: Arc<[StagedFile]>,
}

#[derive(Debug)]
struct StagedFile {
    path: String,
    rows: u64,
    bytes: u64,
    /// The `add` action.
    add: Value,
}

impl StagedFiles {
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(crate) fn adds(&self) -> impl Iterator<Item = &Value> {
        self.files.iter().map(|file| &file.add)
    }

    pub(crate) fn first_path(&self) -> Option<&str> {
        self.files.first().map(|file| file.path.as_str())
    }
}

impl Log {
    pub(crate) async fn upload(&self, encoded: EncodedFiles) -> Result<StagedFiles, LakeError> {
        let started = Instant::now();
        let bytes = encoded.bytes();
        let now_ms = self.clock.now_us() / 1000;
        let sent = stream::iter(encoded.files).map(|file| self.upload_one(file, now_ms));
        let files: Vec<StagedFile> = sent.buffered(AT_ONCE).try_collect().await?;
        let table = &self.spec.name;
        counter!("smartcity_lake_upload_bytes_total", "table" => table.clone()).increment(bytes as u64);
        counter!("smartcity_lake_upload_files_total", "table" => table.clone()).increment(files.len() as u64);
        histogram!("smartcity_lake_upload_seconds").record(started.elapsed().as_secs_f64());
        Ok(StagedFiles { files: files.into() })
    }

    /// The name is unique, so a put may be repeated whatever became of the one before.
    async fn upload_one(&self, file: EncodedFile, now_ms: i64) -> Result<StagedFile, LakeError> {
        let path = Path::from_iter(self.path.parts().chain(Path::from(file.path.as_str()).parts()));
        let mut tries = 0;
        loop {
            tries += 1;
            let Err(error) = self.store.put(&path, file.bytes.clone().into()).await else {
                break;
            };
            let error = LakeError::store("upload", path.clone(), error);
            if tries >= TRIES_MAX || !error.is_retryable() {
                return Err(error);
            }
            counter!("smartcity_lake_upload_retries_total", "table" => self.spec.name.clone()).increment(1);
            warn!(table = %self.spec.name, path = %path, tries, error = %describe(&error), "upload failed, trying again");
            self.pause.wait(self.back_off(tries, 0)).await;
        }
        let partition_values: Map<String, Value> = file
            .partition
            .iter()
            .map(|(column, value)| (column.clone(), json!(value)))
            .collect();
        let add = json!({"add": {
            "path": file.path,
            "partitionValues": partition_values,
            "size": file.bytes.len(),
            "modificationTime": now_ms,
            "dataChange": true,
            "stats": file.stats,
            // For `verify`: a value that changes within the bounds of the statistics changes this.
            "tags": {"crc32c": format!("{:08x}", crc32c::crc32c(&file.bytes))},
        }});
        Ok(StagedFile {
            path: file.path,
            rows: file.rows,
            bytes: file.bytes.len() as u64,
            add,
        })
    }
}
