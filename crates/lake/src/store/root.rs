//! Where a lake is: the store, the place in it, and which tables are there. Reading alone; nothing is created.

use std::path::PathBuf;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore};
use url::Url;

use crate::LakeError;
use crate::delta::{Snapshot, TableLocation};
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
    /// An existing folder (its path or `file://` URL), or `s3://bucket/prefix`.
    ///
    /// `variables` are the process's (`std::env::vars()`): `AWS_*` name credentials and endpoint. What an S3 store holds
    /// is not looked at here.
    pub fn open(location: &str, variables: impl IntoIterator<Item = (String, String)>) -> Result<Root, LakeError> {
        match Place::of(location)? {
            Place::Folder(folder) => {
                let missing = || LakeError::Missing {
                    location: std::path::absolute(&folder)
                        .unwrap_or(folder.clone())
                        .display()
                        .to_string(),
                };
                let found = std::fs::canonicalize(&folder).ok().filter(|folder| folder.is_dir());
                Self::folder(location, found.ok_or_else(missing)?)
            }
            Place::S3(url) => Self::s3(&url, variables),
        }
    }

    pub(crate) fn folder(location: &str, folder: PathBuf) -> Result<Root, LakeError> {
        let url =
            Url::from_directory_path(&folder).map_err(|()| LakeError::location(location, "its path is no URL"))?;
        let mut root = Self::with_store(Arc::new(LocalFileSystem::new()), url);
        root.location = folder.display().to_string();
        Ok(root)
    }

    pub(crate) fn s3(url: &Url, variables: impl IntoIterator<Item = (String, String)>) -> Result<Root, LakeError> {
        let store = s3::connect(url, variables)?;
        Ok(Self::with_store(Arc::new(store), url.clone()))
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
        url.set_path(&format!("{}{DATA}/{name}/", self.url.path()));
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

    /// The store, rooted as [`crate::Lake::with_store`] says: what a reader of [`Root::table_url`] needs.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// What a location names.
pub(crate) enum Place {
    Folder(PathBuf),
    S3(Url),
}

impl Place {
    pub(crate) fn of(location: &str) -> Result<Place, LakeError> {
        let unfit = |why: String| LakeError::location(location, why);
        let Some((scheme, rest)) = location.split_once("://") else {
            return Ok(Place::Folder(PathBuf::from(location)));
        };
        match scheme {
            "file" => Url::parse(location)
                .map_err(|error| unfit(error.to_string()))?
                .to_file_path()
                .map(Place::Folder)
                .map_err(|()| unfit("it names no local folder".to_owned())),
            // Hadoop's name for the same.
            "s3" | "s3a" => {
                let url = Url::parse(&format!("s3://{rest}")).map_err(|error| unfit(error.to_string()))?;
                if url.host_str().is_none_or(str::is_empty) {
                    return Err(unfit("it names no bucket; write s3://bucket/prefix".to_owned()));
                }
                Ok(Place::S3(url))
            }
            scheme => Err(unfit(format!("{scheme}:// is no scheme we know"))),
        }
    }
}
