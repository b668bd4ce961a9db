//! Where a lake is: the store, the place in it, and which tables are there. Reading alone; nothing is created.

use std::path::PathBuf;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore};
use url::Url;

use crate::LakeError;
use crate::delta::{Snapshot, TableLocation};
use crate::store::local::{Durability, LocalStore, SystemDisk};
use crate::store::location::{Location, Place};
use crate::store::s3;

/// Below the root; `output/` beside it is Athena's.
const DATA: &str = "data";

/// A lake's root, for those who only read it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Root {
    store: Arc<dyn ObjectStore>,
    /// Ends in a slash.
    url: Url,
    location: String,
    /// The root within the store.
    path: Path,
}

impl Root {
    /// [`Root::at`] a location that is still text.
    pub fn open(location: &str, variables: impl IntoIterator<Item = (String, String)>) -> Result<Root, LakeError> {
        Root::at(&location.parse()?, variables)
    }

    /// An existing folder, or a prefix in a bucket.
    ///
    /// `variables` are the process's (`std::env::vars()`): `AWS_*` name credentials and endpoint. What an S3 store holds
    /// is not looked at here.
    pub fn at(location: &Location, variables: impl IntoIterator<Item = (String, String)>) -> Result<Root, LakeError> {
        match location.place() {
            Place::Folder(folder) => {
                let missing = || LakeError::Missing {
                    location: std::path::absolute(folder)
                        .unwrap_or(folder.clone())
                        .display()
                        .to_string(),
                };
                let found = std::fs::canonicalize(folder).ok().filter(|folder| folder.is_dir());
                Self::folder(location, found.ok_or_else(missing)?, Durability::default())
            }
            Place::S3 { bucket, prefix } => Self::s3(bucket, prefix, variables),
        }
    }

    /// `folder` is an absolute path without links.
    pub(crate) fn folder(location: &Location, folder: PathBuf, durability: Durability) -> Result<Root, LakeError> {
        let unfit = |why: String| LakeError::location(location.as_str(), why);
        let url = Url::from_directory_path(&folder).map_err(|()| unfit("its path is not a URL".to_owned()))?;
        let store = LocalStore::new(&folder, Arc::new(SystemDisk), durability);
        Ok(Root {
            store: Arc::new(store.map_err(|error| unfit(error.to_string()))?),
            location: folder.display().to_string(),
            url,
            path: Path::ROOT,
        })
    }

    pub(crate) fn s3(
        bucket: &str,
        prefix: &Path,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Root, LakeError> {
        let unfit = |why: String| LakeError::location(&format!("s3://{bucket}/{prefix}"), why);
        let mut url = Url::parse(&format!("s3://{bucket}/")).map_err(|error| unfit(error.to_string()))?;
        extend(&mut url, prefix.parts().map(|part| part.as_ref().to_owned()));
        let store = s3::connect(&url, variables)?;
        Ok(Root {
            path: prefix.clone(),
            ..Self::with_store(Arc::new(store), url)
        })
    }

    pub(crate) fn with_store(store: Arc<dyn ObjectStore>, mut url: Url) -> Root {
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Root {
            // A URL's path is a legal one, percent signs included.
            path: Path::from_url_path(url.path()).unwrap_or_default(),
            location: url.to_string(),
            store,
            url,
        }
    }

    /// The folder, or the URL where it is none.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Every Delta table of the lake, in the order of the names.
    pub async fn table_names(&self) -> Result<Vec<String>, LakeError> {
        let data = self.path.clone().join(DATA);
        let failed = |error| LakeError::store("list", data.clone(), error);
        let listed = self.store.list_with_delimiter(Some(&data)).await;
        let folders = match listed {
            Ok(listed) => listed.common_prefixes,
            Err(StoreError::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for folder in folders {
            let log = folder.clone().join("_delta_log");
            let has_log = self.store.list(Some(&log)).try_next().await.map_err(failed)?.is_some();
            names.extend(folder.filename().filter(|_| has_log).map(str::to_owned));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Where a table is, or would be; ends in a slash.
    pub fn table_url(&self, name: &str) -> Url {
        let mut url = self.url.clone();
        extend(&mut url, [DATA.to_owned(), name.to_owned()]);
        url
    }

    /// The same within [`Root::store`].
    pub fn table_path(&self, name: &str) -> Path {
        self.path.clone().join(DATA).join(name)
    }

    /// A table's folder and log.
    pub fn location_of(&self, name: &str) -> TableLocation {
        TableLocation::new(Arc::clone(&self.store), self.table_path(name), self.table_url(name))
    }

    /// A table at a version, the newest when `at` is `None`.
    pub async fn snapshot(&self, table: &str, at: Option<i64>) -> Result<Snapshot, LakeError> {
        Snapshot::load(&self.location_of(table), at).await
    }

    /// The store, in which [`Root::table_path`] is a path.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Adds folders to a URL that has a path; it then ends in a slash.
fn extend(url: &mut Url, folders: impl IntoIterator<Item = String>) {
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(folders).push("");
    }
}
