//! Where a table lies in an object store, and the files of its log.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::LakeError;
use crate::delta::listing::Listing;

/// One table's folder. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TableLocation {
    store: Arc<dyn ObjectStore>,
    path: Path,
    url: Url,
    name: Arc<str>,
}

/// `_last_checkpoint`: a hint at the newest checkpoint (PROTOCOL.md, "Last Checkpoint File Schema").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastCheckpoint {
    pub version: i64,
    /// Actions in it.
    pub size: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_in_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_of_add_files: Option<i64>,
}

impl TableLocation {
    /// The table at `path` of a store; `url` names the same folder.
    pub fn new(store: Arc<dyn ObjectStore>, path: Path, url: Url) -> Self {
        let name = path.filename().unwrap_or_default().into();
        Self { store, path, url, name }
    }

    /// The folder's name.
    pub fn table(&self) -> &str {
        &self.name
    }

    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Within the store.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `_delta_log` within the store.
    pub fn log_path(&self) -> Path {
        self.path.clone().join("_delta_log")
    }

    pub fn commit_path(&self, version: i64) -> Path {
        self.log_path().join(format!("{version:020}.json"))
    }

    /// Of a checkpoint in one file.
    pub fn checkpoint_path(&self, version: i64) -> Path {
        self.log_path().join(format!("{version:020}.checkpoint.parquet"))
    }

    pub(crate) fn last_checkpoint_path(&self) -> Path {
        self.log_path().join("_last_checkpoint")
    }

    /// Where a file of the log's actions lies in the store. The log names it by a URI relative to the table, or by an
    /// absolute one, which must lie in the same store; of a local lake that is the lake's folder. The error says why it
    /// has no place there.
    pub fn data_path(&self, logged: &str) -> Result<Path, String> {
        if !logged.contains("://") {
            let below = Path::from_url_path(logged).map_err(|error| format!("{logged}: {error}"))?;
            return Ok(self.path.parts().chain(below.parts()).collect());
        }
        let url = Url::parse(logged).map_err(|error| format!("{logged}: {error}"))?;
        // Hadoop has two more names for s3.
        let scheme = |url: &Url| url.scheme().trim_end_matches(['a', 'n']).to_owned();
        if (scheme(&url), url.host_str()) != (scheme(&self.url), self.url.host_str()) {
            return Err(format!("it lies in another store: {logged}"));
        }
        match url.scheme() {
            "file" => self.local_path(&url),
            _ => Path::from_url_path(url.path()).map_err(|error| format!("{logged}: {error}")),
        }
    }

    /// The path of a local file. The store's root is where the table's folder is, less the table's path in the store.
    fn local_path(&self, url: &Url) -> Result<Path, String> {
        let folder_of = |url: &Url| {
            url.to_file_path()
                .map_err(|()| format!("it does not name a local file: {url}"))
        };
        let (table, file) = (folder_of(&self.url)?, folder_of(url)?);
        let root = table.ancestors().nth(self.path.parts_count());
        let below = root.and_then(|root| file.strip_prefix(root).ok());
        let below = below.ok_or_else(|| format!("it lies outside of the lake: {url}"))?;
        let below = below.to_str().ok_or_else(|| format!("its path is not UTF-8: {url}"))?;
        Path::parse(below).map_err(|error| format!("{url}: {error}"))
    }

    /// The bytes of a commit; `None` when there is no such version.
    pub async fn read_commit(&self, version: i64) -> Result<Option<Bytes>, LakeError> {
        self.read(&self.commit_path(version)).await
    }

    /// A small file of the log; `None` when it is not there.
    pub(crate) async fn read(&self, path: &Path) -> Result<Option<Bytes>, LakeError> {
        let read = async { self.store.get(path).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(LakeError::store("read", path.clone(), error)),
        }
    }

    /// The log's own pointer to its newest checkpoint. A hint: one that cannot be read is as good as none.
    pub async fn last_checkpoint(&self) -> Option<LastCheckpoint> {
        let bytes = self.read(&self.last_checkpoint_path()).await.ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    /// Lists the whole log.
    pub async fn list(&self) -> Result<Listing, LakeError> {
        self.listing(None).await
    }

    /// Lists what belongs to this version and later ones.
    pub async fn list_from(&self, version: i64) -> Result<Listing, LakeError> {
        self.listing(Some(version)).await
    }

    /// The log's folder, without folders below it.
    async fn listing(&self, from: Option<i64>) -> Result<Listing, LakeError> {
        let prefix = self.log_path();
        let mut files = match from {
            // Everything of a version sorts behind its bare number.
            Some(version) => {
                let offset = prefix.clone().join(format!("{version:020}"));
                self.store.list_with_offset(Some(&prefix), &offset)
            }
            None => self.store.list(Some(&prefix)),
        };
        let mut found = Vec::new();
        loop {
            match files.try_next().await {
                Ok(Some(file)) if is_directly_in(&file.location, &prefix) => found.push(file),
                Ok(Some(_)) => {}
                Ok(None) | Err(StoreError::NotFound { .. }) => return Ok(Listing::from_files(found)),
                Err(error) => return Err(LakeError::store("list", prefix, error)),
            }
        }
    }
}

fn is_directly_in(path: &Path, folder: &Path) -> bool {
    path.prefix_match(folder).is_some_and(|below| below.count() == 1)
}
