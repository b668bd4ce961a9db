//! A lake's root: where its tables are and how they are opened.

use std::sync::Arc;

use futures::TryStreamExt;
use model::{Clock, Stream};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore};
use url::Url;

use crate::log::Log;
use crate::schema::TableSpec;
use crate::{DeadLetters, LakeError, Names, Pause, Table};

/// Below the root; `output/` beside it is Athena's.
const DATA: &str = "data";

/// A folder of Delta tables on an object store. Cheap to clone.
#[derive(Clone)]
pub struct Lake {
    store: Arc<dyn ObjectStore>,
    /// Ends in a slash.
    url: Url,
    location: String,
    /// The root within the store.
    path: Path,
    clock: Arc<dyn Clock>,
    names: Names,
    pause: Pause,
}

impl Lake {
    /// A folder's path or `file://` URL; the folder is made when it is absent.
    pub async fn open(location: &str, clock: Arc<dyn Clock>, names: Names) -> Result<Lake, LakeError> {
        let unfit = |why: String| LakeError::Location {
            location: location.to_owned(),
            why,
        };
        let folder = match location.split_once("://") {
            None => std::path::PathBuf::from(location),
            Some(("file", _)) => Url::parse(location)
                .map_err(|error| unfit(error.to_string()))?
                .to_file_path()
                .map_err(|()| unfit("it names no local folder".to_owned()))?,
            Some((scheme @ ("s3" | "s3a"), _)) => {
                return Err(unfit(format!("{scheme}:// lakes are not supported yet")));
            }
            Some((scheme, _)) => return Err(unfit(format!("{scheme}:// is no scheme we know"))),
        };
        let failed = |error: std::io::Error| {
            LakeError::store(
                "create",
                folder.display().to_string(),
                StoreError::Generic {
                    store: "LocalFileSystem",
                    source: Box::new(error),
                },
            )
        };
        tokio::fs::create_dir_all(&folder).await.map_err(failed)?;
        let folder = tokio::fs::canonicalize(&folder).await.map_err(failed)?;
        let url = Url::from_directory_path(&folder).map_err(|()| unfit("its path is no URL".to_owned()))?;
        let mut lake = Self::with_store(Arc::new(LocalFileSystem::new()), url, clock, names);
        lake.location = folder.display().to_string();
        Ok(lake)
    }

    /// A lake on any store, which is rooted where the URL's path starts; the lake lies at that path.
    pub fn with_store(store: Arc<dyn ObjectStore>, mut url: Url, clock: Arc<dyn Clock>, names: Names) -> Lake {
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Lake {
            // A URL's path is a legal one, percent signs included.
            path: Path::from_url_path(url.path()).unwrap_or_default(),
            location: url.to_string(),
            store,
            url,
            clock,
            names,
            pause: Pause::real(),
        }
    }

    /// Waits between two tries in another way than real time.
    pub fn with_pause(mut self, pause: Pause) -> Lake {
        self.pause = pause;
        self
    }

    /// How writers wait between two tries.
    pub fn pause(&self) -> &Pause {
        &self.pause
    }

    /// The folder, or the URL where it is none.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// A handle on the stream's table, which is created when absent and checked against the declaration when not. Each
    /// call gives a handle of its own; clone one to share it.
    pub async fn table(&self, stream: &Stream, application: &str) -> Result<Table, LakeError> {
        let log = self.log(Table::spec(stream)?, application).await?;
        Table::new(stream, log)
    }

    /// A handle on the dead letters of all streams.
    pub async fn dead_letters(&self, application: &str) -> Result<DeadLetters, LakeError> {
        let log = self.log(DeadLetters::spec()?, application).await?;
        DeadLetters::new(log)
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

    /// The store, rooted as [`Lake::with_store`] says: what a reader of [`Lake::table_url`] needs.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    async fn log(&self, spec: TableSpec, application: &str) -> Result<Log, LakeError> {
        let path = self.path.clone().join(DATA).join(spec.name.as_str());
        let url = self.table_url(&spec.name);
        Log::open(
            spec,
            application,
            self.store.clone(),
            path,
            url,
            self.clock.clone(),
            self.names.clone(),
            self.pause.clone(),
        )
        .await
    }
}
