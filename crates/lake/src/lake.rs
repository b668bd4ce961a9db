//! A lake to write: where its tables are and how they are opened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use model::{COMMITS, Clock, Stream};
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};
use parquet::basic::Compression;
use url::Url;

use crate::delta::keeper::CommitKeeper;
use crate::delta::log::Log;
use crate::delta::open::open;
use crate::delta::spec::TableSpec;
use crate::store::local::{Durability, LocalStore, SystemDisk};
use crate::store::location::{Location, Place};
use crate::store::probe::check_conditional_put;
use crate::table::commits::{self, Commits};
use crate::write::parquet::ParquetSettings;
use crate::{Backoff, DeadLetters, Erasures, Gaps, LakeError, Names, ParquetProfile, Pause, Root, Table};

/// A folder of Delta tables on an object store. Cheap to clone.
#[derive(Clone)]
pub struct Lake {
    root: Root,
    clock: Arc<dyn Clock>,
    names: Names,
    pause: Pause,
    parquet: ParquetSettings,
}

impl Lake {
    /// [`Lake::at`] a location that is still text, as durable as it can be, with the environment's `AWS_*`.
    pub async fn open(location: &str, clock: Arc<dyn Clock>, names: Names) -> Result<Lake, LakeError> {
        Self::open_with(location, std::env::vars(), clock, names).await
    }

    /// The same with other variables than the process's.
    pub async fn open_with(
        location: &str,
        variables: impl IntoIterator<Item = (String, String)>,
        clock: Arc<dyn Clock>,
        names: Names,
    ) -> Result<Lake, LakeError> {
        Self::at(&location.parse()?, Durability::default(), variables, clock, names).await
    }

    /// A folder, which is created when it is absent, for its owner alone; or a prefix in a bucket, which must exist.
    ///
    /// `durability` is about folders: an object store answers when it holds an object for good. On S3 the store must take
    /// a conditional PUT, without which two writers could both believe to have committed; one that does not is refused.
    pub async fn at(
        location: &Location,
        durability: Durability,
        variables: impl IntoIterator<Item = (String, String)>,
        clock: Arc<dyn Clock>,
        names: Names,
    ) -> Result<Lake, LakeError> {
        let root = match location.place() {
            Place::S3 { bucket, prefix } => {
                let root = Root::s3(bucket, prefix, variables)?;
                check_conditional_put(&root, &names).await?;
                root
            }
            Place::Folder(folder) => {
                let failed = |error: std::io::Error| {
                    let source = Box::new(error);
                    let error = StoreError::Generic {
                        store: "LocalFileSystem",
                        source,
                    };
                    LakeError::store("create", folder.display().to_string(), error)
                };
                let path = folder.clone();
                let created = tokio::task::spawn_blocking(move || {
                    LocalStore::create_root(&path, &SystemDisk, durability)?;
                    path.canonicalize()
                });
                let folder = created.await.map_err(std::io::Error::from).flatten().map_err(failed)?;
                Root::folder(location, folder, durability)?
            }
        };
        Ok(Lake {
            root,
            clock,
            names,
            pause: Pause::real(),
            parquet: ParquetSettings::default(),
        })
    }

    /// A lake on any store, which is rooted where the URL's path starts; the lake lies at that path.
    pub fn with_store(store: Arc<dyn ObjectStore>, url: Url, clock: Arc<dyn Clock>, names: Names) -> Lake {
        Lake {
            root: Root::with_store(store, url),
            clock,
            names,
            pause: Pause::real(),
            parquet: ParquetSettings::default(),
        }
    }

    /// Waits between two tries in another way than real time.
    pub fn with_pause(mut self, pause: Pause) -> Lake {
        self.pause = pause;
        self
    }

    /// Encodes files in another way than [`ParquetProfile::Compatible`]; a table's own properties win.
    pub fn with_parquet_profile(mut self, profile: ParquetProfile) -> Lake {
        self.parquet.profile = profile;
        self
    }

    /// Compresses files by this codec, whatever profile and table say.
    pub fn with_compression(mut self, compression: Compression) -> Lake {
        self.parquet.compression = Some(compression);
        self
    }

    /// The pauses between tries that have no end.
    pub fn backoff(&self) -> Backoff {
        Backoff::new(self.pause.clone(), self.names.clone())
    }

    /// The folder, or the URL where it is none.
    pub fn location(&self) -> &str {
        self.root.location()
    }

    /// The lake as a reader sees it.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// A handle on the stream's table, which is created when absent. One that lacks nullable columns of the declaration
    /// gets them; any other difference is refused. Writers of the same application that opened it with another
    /// declaration are stopped ([`LakeError::Superseded`]). Each call gives a handle of its own; clone one to share it.
    pub async fn table(&self, stream: &Stream, application: &str) -> Result<Table, LakeError> {
        let log = self.log(Table::spec(stream, application)?, application).await?;
        Table::new(stream, log, self.parquet)
    }

    /// A handle on the dead letters of these streams. Stops writers as [`Lake::table`] does.
    pub async fn dead_letters<'a>(
        &self,
        streams: impl IntoIterator<Item = &'a Stream>,
        application: &str,
    ) -> Result<DeadLetters, LakeError> {
        let log = self.log(DeadLetters::spec(streams, application)?, application).await?;
        DeadLetters::new(log, self.parquet)
    }

    /// A handle on the gaps of all streams, whose table is created when absent: open it when there is one to record.
    pub async fn gaps(&self, application: &str) -> Result<Gaps, LakeError> {
        Gaps::new(self.log(Gaps::spec()?, application).await?, self.parquet)
    }

    /// A handle on the erasures of all streams, whose table is created when absent: open it when there is one to record.
    pub async fn erasures(&self, application: &str) -> Result<Erasures, LakeError> {
        Erasures::new(self.log(Erasures::spec()?, application).await?, self.parquet)
    }

    /// Keeps what `verify` needs to know of a table's commits up to a version in the table `commits`, each once. Every
    /// checkpoint does so first; do so before commits are deleted for another reason.
    pub async fn record_commits(&self, table: &str, until: i64) -> Result<(), LakeError> {
        let snapshot = self.root.snapshot(table, None).await?;
        let until = until.min(snapshot.version());
        self.keep(table, &snapshot.metadata().id, until).await
    }

    /// Asks the store for something small, which need not be there: whether it answers.
    pub async fn ping(&self) -> Result<(), LakeError> {
        let path = self.root.path().clone().join("_probe").join("ping");
        match self.root.store().head(&path).await {
            Ok(_) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(LakeError::store("look at", path, error)),
        }
    }

    /// Every Delta table of the lake, in the order of the names.
    pub async fn table_names(&self) -> Result<Vec<String>, LakeError> {
        self.root.table_names().await
    }

    /// Where a table is, or would be; ends in a slash.
    pub fn table_url(&self, name: &str) -> Url {
        self.root.table_url(name)
    }

    /// The store, in which [`Root::table_path`] is a path.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        self.root.store()
    }

    async fn log(&self, spec: TableSpec, application: &str) -> Result<Log, LakeError> {
        let location = self.root.location_of(&spec.name);
        let (clock, names, pause) = (self.clock.clone(), self.names.clone(), self.pause.clone());
        let keeper: Option<Arc<dyn CommitKeeper>> = match spec.name == COMMITS {
            true => None,
            false => Some(Arc::new(self.clone())),
        };
        open(spec, application, location, clock, names, pause, keeper).await
    }
}

#[async_trait]
impl CommitKeeper for Lake {
    async fn keep(&self, table: &str, table_id: &str, until: i64) -> Result<(), LakeError> {
        let log = self.log(Commits::spec()?, &Commits::application(table)).await?;
        let commits = Commits::new(log, table, table_id, self.parquet)?;
        commits.record(&self.root.location_of(table), until).await
    }

    async fn kept_offsets(
        &self,
        table_id: &str,
        application: &str,
        topic: &str,
        partitions: &BTreeSet<i32>,
    ) -> Result<BTreeMap<i32, i64>, LakeError> {
        match self.root.snapshot(COMMITS, None).await {
            Ok(snapshot) => commits::kept_offsets(&snapshot, table_id, application, topic, partitions).await,
            Err(LakeError::NoTable { .. }) => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        }
    }
}
