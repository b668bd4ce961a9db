//! What we know of one table's log: its newest version and the offset each partition has reached.
//!
//! Read once from the newest checkpoint, then moved forward commit by commit. The commits are small files; the table's
//! list of data files is never held, so that the cost of a commit does not grow with the table.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use deltalake_core::kernel::Snapshot;
use deltalake_core::logstore::LogStoreRef;
use futures::TryStreamExt;
use model::{Clock, TopicPartition};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};
use parking_lot::RwLock;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use tracing::info;
use url::Url;

use crate::store::root::log_store;
use crate::delta::schema::{Declaration, MetadataAction, ProtocolAction, TableSpec};
use crate::{LakeError, Mark, Names, Pause};

/// How long a view may go without having seen the end of the log before a commit looks for it. A log cleaned up in the
/// meantime no longer holds the commits that would tell us that the next version is taken; retention is days.
const FRESH_S: u64 = 600;

/// Puts of a declaration, of which others may take the version or the store may fail.
const ADOPT_TRIES_MAX: u32 = 20;

/// One table's log, shared by the clones of a handle.
pub(crate) struct Log {
    pub(crate) spec: TableSpec,
    /// "<application>/": keeps this application's offsets apart from another's in the same table.
    application: String,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) path: Path,
    pub(crate) url: Url,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) names: Names,
    pub(crate) pause: Pause,
    /// The table's words for this writer's declarations, from when it was opened.
    held: Option<Vec<Option<String>>>,
    view: RwLock<View>,
    /// Held while the log is read forward or written: a process has one committer per table.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// Held while one is written.
    pub(crate) checkpoint: Arc<tokio::sync::Mutex<()>>,
    /// The version from which the distance to the next one counts.
    pub(crate) checkpointed: Arc<AtomicI64>,
}

/// The log as far as it was read.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// -1 before the first commit was read.
    pub(crate) version: i64,
    txns: HashMap<String, Txn>,
    metadata: Option<MetadataAction>,
    /// [`Log::check`] has passed on this metadata.
    checked: bool,
    seen_at: Instant,
    seen_at_us: i64,
}

/// The newest `txn` action of one application id.
#[derive(Debug, Clone)]
pub(crate) struct Txn {
    pub(crate) offset: i64,
    /// The version that recorded it; of those read from a checkpoint, the checkpoint's.
    pub(crate) at: i64,
    pub(crate) commit_id: Option<String>,
}

impl Txn {
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            offset: self.offset,
            version: self.at,
        }
    }
}

impl View {
    pub(crate) fn txn(&self, id: &str) -> Option<&Txn> {
        self.txns.get(id)
    }
}

impl Log {
    #[allow(clippy::too_many_arguments, reason = "called once, by the lake")]
    pub(crate) async fn open(
        spec: TableSpec,
        application: &str,
        store: Arc<dyn ObjectStore>,
        path: Path,
        url: Url,
        clock: Arc<dyn Clock>,
        names: Names,
        pause: Pause,
    ) -> Result<Log, LakeError> {
        let view = View {
            version: -1,
            txns: HashMap::new(),
            metadata: None,
            checked: false,
            seen_at: Instant::now(),
            seen_at_us: clock.now_us(),
        };
        let mut log = Log {
            spec,
            application: application.to_owned(),
            store,
            path,
            url,
            clock,
            names,
            pause,
            held: None,
            view: RwLock::new(view),
            turn: tokio::sync::Mutex::new(()),
            checkpoint: Arc::default(),
            checkpointed: Arc::default(),
        };
        log.load().await?;
        if log.version() < 0 {
            log.create().await?;
        }
        log.adopt().await?;
        let held = log.declared(&log.view());
        log.held = Some(held);
        // Whoever should have written it may have died.
        log.checkpoint_when_due(log.version());
        Ok(log)
    }

    pub(crate) fn version(&self) -> i64 {
        self.view.read().version
    }

    pub(crate) fn view(&self) -> parking_lot::RwLockReadGuard<'_, View> {
        self.view.read()
    }

    pub(crate) fn recorded(&self, topic_partition: &TopicPartition) -> Option<i64> {
        self.mark(topic_partition).map(|mark| mark.offset)
    }

    pub(crate) fn mark(&self, topic_partition: &TopicPartition) -> Option<Mark> {
        self.view.read().txn(&self.txn_id(topic_partition)).map(Txn::mark)
    }

    pub(crate) fn txn_id(&self, topic_partition: &TopicPartition) -> String {
        format!(
            "{}/{}/{}",
            self.application, topic_partition.topic, topic_partition.partition
        )
    }

    /// The topics of which the log records an offset of this partition, whichever application recorded it.
    pub(crate) fn topics_of(&self, partition: i32) -> BTreeSet<String> {
        let view = self.view.read();
        let places = view.txns.keys().filter_map(|id| {
            let mut parts = id.rsplitn(3, '/');
            let (number, topic, _application) = (parts.next()?, parts.next()?, parts.next()?);
            (number.parse() == Ok(partition)).then(|| topic.to_owned())
        });
        places.collect()
    }

    pub(crate) fn application(&self) -> &str {
        &self.application
    }

    pub(crate) async fn refresh(&self) -> Result<(), LakeError> {
        let _turn = self.turn.lock().await;
        self.ensure_fresh().await?;
        self.read_forward().await
    }

    /// Reads the commits after the view's version, one by one, until there is none, and sees that the table is still
    /// this writer's to write. The caller has the turn.
    pub(crate) async fn read_forward(&self) -> Result<(), LakeError> {
        loop {
            let version = self.version() + 1;
            match self.read_commit(version).await? {
                Some(bytes) => self.apply(version, &bytes)?,
                None => {
                    self.seen_the_end();
                    return self.check();
                }
            }
        }
    }

    /// A view that has not seen the log's end for long is compared with a listing, and read anew when commits between
    /// the two are gone. The caller has the turn.
    pub(crate) async fn ensure_fresh(&self) -> Result<(), LakeError> {
        let age_s = {
            let view = self.view.read();
            let wall_us = self.clock.now_us().saturating_sub(view.seen_at_us);
            view.seen_at.elapsed().as_secs().max(wall_us.unsigned_abs() / 1_000_000)
        };
        if age_s < FRESH_S {
            return Ok(());
        }
        self.read_forward().await?;
        let newest = self.list(Some(self.version())).await?.newest();
        if newest > self.version() {
            self.load().await?;
        }
        Ok(())
    }

    /// Records a commit of our own without reading it back.
    pub(crate) fn apply_own(&self, version: i64, commit_id: &str, moved: &[(String, i64)]) {
        let mut view = self.view.write();
        for (id, offset) in moved {
            view.txns.insert(
                id.clone(),
                Txn {
                    offset: *offset,
                    at: version,
                    commit_id: Some(commit_id.to_owned()),
                },
            );
        }
        view.version = version;
        drop(view);
        self.seen_the_end();
    }

    pub(crate) fn commit_path(&self, version: i64) -> Path {
        self.log_path().join(format!("{version:020}.json"))
    }

    /// The log as deltalake-core reads it.
    pub(crate) fn log_store(&self) -> LogStoreRef {
        log_store(&self.store, self.path.clone(), &self.url)
    }

    pub(crate) fn log_path(&self) -> Path {
        self.path.clone().join("_delta_log")
    }

    fn seen_the_end(&self) {
        let mut view = self.view.write();
        view.seen_at = Instant::now();
        view.seen_at_us = self.clock.now_us();
    }

    /// Version 0. When another was faster its table is read and checked instead.
    async fn create(&self) -> Result<(), LakeError> {
        let table_id = self.names.next().to_string();
        let mut actions = self
            .spec
            .create_actions(&table_id, self.clock.now_us() / 1000, &self.names)?;
        actions.push(self.commit_info("CREATE TABLE", &table_id, None));
        let mut tries = 0;
        loop {
            tries += 1;
            match self.put_commit(0, json_lines(&actions)).await {
                Ok(()) | Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                    return self.read_forward().await;
                }
                // Unknown outcome: the log tells.
                Err(error) => {
                    self.read_forward().await?;
                    if self.version() >= 0 {
                        return Ok(());
                    }
                    let error = LakeError::store("create", self.commit_path(0), error);
                    if tries >= 3 || !error.is_retryable() {
                        return Err(error);
                    }
                    self.pause.wait(self.back_off(tries, 0)).await;
                }
            }
        }
    }

    /// Puts what this writer's declarations add to the table's metadata into the log. From then on whoever judges records
    /// by another declaration finds that version taken, and stops.
    async fn adopt(&self) -> Result<(), LakeError> {
        self.change_metadata(|found| self.spec.adopt(found, &self.names)).await
    }

    /// Which of the topics that have had this name the table's rows come from: this one, and the log says so from now on,
    /// unless it names another.
    pub(crate) async fn bind_topic(&self, topic: &str, id: &str) -> Result<String, LakeError> {
        let property = format!("smartcity.topicId.{}/{topic}", self.application);
        let _turn = self.turn.lock().await;
        self.change_metadata(|found| Ok(found.with_absent_property(&property, id)))
            .await?;
        let view = self.view();
        let bound = view.metadata.as_ref().and_then(|metadata| metadata.property(&property));
        Ok(bound.unwrap_or(id).to_owned())
    }

    /// `change` gives the metadata as it should be; `None` when it is. The caller has the turn.
    async fn change_metadata(
        &self,
        change: impl Fn(&MetadataAction) -> Result<Option<MetadataAction>, LakeError>,
    ) -> Result<(), LakeError> {
        let mut tries = 0;
        loop {
            let changed = match &self.view().metadata {
                Some(metadata) => change(metadata)?,
                None => {
                    return Err(LakeError::unusable(
                        &self.spec.name,
                        "its log has no metadata".to_owned(),
                    ));
                }
            };
            let Some(metadata) = changed else { return Ok(()) };
            tries += 1;
            let version = self.version() + 1;
            let id = self.names.next().to_string();
            let info = self.commit_info("SET TBLPROPERTIES", &id, Some(version - 1));
            let put = self
                .put_commit(version, json_lines(&[info, json!({ "metaData": metadata })]))
                .await;
            // Whether it landed, or another's, or none: the log tells.
            self.read_forward().await?;
            match put {
                Ok(()) => info!(table = %self.spec.name, version, "the table's properties are new"),
                Err(_) if self.version() >= version && tries < ADOPT_TRIES_MAX => {}
                Err(error) => {
                    let error = LakeError::store("commit", self.commit_path(version), error);
                    if tries >= ADOPT_TRIES_MAX || !error.is_retryable() {
                        return Err(error);
                    }
                    self.pause.wait(self.back_off(tries, 0)).await;
                }
            }
        }
    }

    fn declared(&self, view: &View) -> Vec<Option<String>> {
        let value = |declaration: &Declaration| declaration.value_in(view.metadata.as_ref()?).map(str::to_owned);
        self.spec.declarations.iter().map(value).collect()
    }

    /// The files this writer makes are legal in the table, and nobody has opened it with other declarations since.
    pub(crate) fn check(&self) -> Result<(), LakeError> {
        let mut view = self.view.write();
        let (Some(held), Some(metadata), false) = (&self.held, &view.metadata, view.checked) else {
            return Ok(());
        };
        self.spec.check_metadata(metadata)?;
        let declarations = self.spec.declarations.iter().zip(held);
        for (declaration, held) in declarations {
            if declaration.value_in(metadata) != held.as_deref() {
                return Err(LakeError::Superseded {
                    table: self.spec.name.clone(),
                    stream: declaration.stream.clone(),
                    application: self.application.clone(),
                });
            }
        }
        view.checked = true;
        Ok(())
    }

    /// Everything from the newest checkpoint on. Leaves version -1 when there is no table.
    async fn load(&self) -> Result<(), LakeError> {
        let listing = self.list(None).await?;
        let checkpoint = listing.newest_checkpoint_until(i64::MAX);
        let mut txns = HashMap::new();
        let mut metadata = None;
        if let Some((version, paths)) = checkpoint {
            metadata = Some(self.metadata_of(version).await?);
            for path in paths {
                self.read_txns(path, version, &mut txns).await?;
            }
        } else if let Some(first) = listing.commits.iter().min()
            && *first > 0
        {
            return Err(LakeError::unusable(
                &self.spec.name,
                format!("its log starts at version {first} without a checkpoint; the commits before it are gone"),
            ));
        }
        let version = checkpoint.map_or(-1, |(version, _)| version);
        self.checkpointed.store(version.max(0), Ordering::Relaxed);
        {
            let mut view = self.view.write();
            view.version = version;
            view.txns = txns;
            view.metadata = metadata;
            view.checked = false;
        }
        self.read_forward().await?;
        if self.version() < listing.newest() {
            return Err(LakeError::unusable(
                &self.spec.name,
                format!(
                    "version {} is missing in its log, which goes on to {}",
                    self.version() + 1,
                    listing.newest()
                ),
            ));
        }
        Ok(())
    }

    /// The metadata as of a checkpointed version, whose protocol is one we know.
    async fn metadata_of(&self, version: i64) -> Result<MetadataAction, LakeError> {
        let log_store = self.log_store();
        let snapshot = Snapshot::try_new(log_store.as_ref(), Some(version as u64))
            .await
            .map_err(|error| LakeError::store("read", self.log_path(), error))?;
        let unreadable = |error: serde_json::Error| LakeError::unusable(&self.spec.name, error.to_string());
        let protocol = serde_json::to_value(snapshot.protocol()).and_then(serde_json::from_value);
        self.spec.check_protocol(&protocol.map_err(unreadable)?)?;
        let metadata = serde_json::to_value(snapshot.metadata()).and_then(serde_json::from_value);
        metadata.map_err(unreadable)
    }

    /// The `txn` actions of one checkpoint file.
    async fn read_txns(&self, path: &Path, version: i64, txns: &mut HashMap<String, Txn>) -> Result<(), LakeError> {
        self.read_columns(path, Some(&["txn.appId", "txn.version"]), |batch| {
            for (id, offset) in txns_of(&batch) {
                let txn = Txn {
                    offset,
                    at: version,
                    commit_id: None,
                };
                txns.insert(id, txn);
            }
            Ok(())
        })
        .await
    }

    pub(crate) async fn read_commit(&self, version: i64) -> Result<Option<Bytes>, LakeError> {
        let path = self.commit_path(version);
        let read = async { self.store.get(&path).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(LakeError::store("read", path, error)),
        }
    }

    /// Takes over one commit, unless it cannot be read or asks for features we do not know; then the view stays before it.
    fn apply(&self, version: i64, bytes: &[u8]) -> Result<(), LakeError> {
        let mut commit_id = None;
        let mut moved = Vec::new();
        let mut metadata = None;
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let action: Action = serde_json::from_slice(line).map_err(|error| {
                LakeError::unusable(&self.spec.name, format!("{}: {error}", self.commit_path(version)))
            })?;
            if let Some(protocol) = action.protocol {
                self.spec.check_protocol(&protocol)?;
            }
            metadata = action.meta_data.or(metadata);
            if let Some(info) = action.commit_info {
                commit_id = info.commit_id;
            }
            moved.extend(action.txn);
        }
        let mut view = self.view.write();
        for txn in moved {
            let newest = Txn {
                offset: txn.version,
                at: version,
                commit_id: commit_id.clone(),
            };
            view.txns.insert(txn.app_id, newest);
        }
        if metadata.is_some() {
            view.metadata = metadata;
            view.checked = false;
        }
        view.version = version;
        Ok(())
    }

    /// What lies in the log's folder after a version. One listing, no sub-folders.
    pub(crate) async fn list(&self, after: Option<i64>) -> Result<Listing, LakeError> {
        let prefix = self.log_path();
        let mut files = match after {
            Some(version) => self.store.list_with_offset(Some(&prefix), &self.commit_path(version)),
            None => self.store.list(Some(&prefix)),
        };
        let mut listing = Listing::default();
        loop {
            match files.try_next().await {
                Ok(Some(file)) => listing.take(file.location),
                Ok(None) | Err(StoreError::NotFound { .. }) => return Ok(listing),
                Err(error) => return Err(LakeError::store("list", prefix, error)),
            }
        }
    }
}

#[derive(Default)]
pub(crate) struct Listing {
    pub(crate) commits: Vec<i64>,
    /// By version: the parts found and how many there must be.
    checkpoints: HashMap<i64, (Vec<Path>, usize)>,
}

impl Listing {
    pub(crate) fn take(&mut self, path: Path) {
        let Some(name) = path.filename() else { return };
        let mut parts = name.split('.');
        let Some(version) = parts.next().and_then(|digits| digits.parse::<i64>().ok()) else {
            return;
        };
        match parts.collect::<Vec<_>>().as_slice() {
            ["json"] => self.commits.push(version),
            ["checkpoint", "parquet"] => {
                self.checkpoints.insert(version, (vec![path], 1));
            }
            ["checkpoint", _, of, "parquet"] => {
                let Ok(of) = of.parse::<usize>() else { return };
                let (paths, count) = self.checkpoints.entry(version).or_insert((Vec::new(), of));
                // A whole checkpoint of the same version is enough.
                if *count == of && of > 1 {
                    paths.push(path);
                }
            }
            _ => {}
        }
    }

    fn newest(&self) -> i64 {
        self.commits.iter().copied().max().unwrap_or(-1)
    }

    /// The newest whole one that is no newer than `version`.
    pub(crate) fn newest_checkpoint_until(&self, version: i64) -> Option<(i64, &[Path])> {
        self.checkpoints
            .iter()
            .filter(|(at, (paths, count))| **at <= version && paths.len() == *count)
            .max_by_key(|(version, _)| **version)
            .map(|(version, (paths, _))| (*version, paths.as_slice()))
    }
}

/// The parts of a line of a commit that bind a writer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Action {
    txn: Option<TxnAction>,
    protocol: Option<ProtocolAction>,
    meta_data: Option<MetadataAction>,
    commit_info: Option<CommitInfo>,
    #[allow(dead_code, reason = "read over without building it")]
    add: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TxnAction {
    app_id: String,
    version: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CommitInfo {
    commit_id: Option<String>,
}

/// One line of JSON per action, as a commit file holds them.
pub(crate) fn json_lines(actions: &[serde_json::Value]) -> Bytes {
    let mut text = String::new();
    for action in actions {
        text.push_str(&action.to_string());
        text.push('\n');
    }
    text.into()
}

fn txns_of(batch: &RecordBatch) -> Vec<(String, i64)> {
    let Some(txn) = batch.column_by_name("txn").and_then(|column| column.as_struct_opt()) else {
        return Vec::new();
    };
    let ids = txn
        .column_by_name("appId")
        .and_then(|column| column.as_string_opt::<i32>());
    let versions = txn
        .column_by_name("version")
        .and_then(|column| column.as_primitive_opt::<Int64Type>());
    let (Some(ids), Some(versions)) = (ids, versions) else {
        return Vec::new();
    };
    let filled = (0..txn.len()).filter(|row| txn.is_valid(*row) && ids.is_valid(*row) && versions.is_valid(*row));
    filled
        .map(|row| (ids.value(row).to_owned(), versions.value(row)))
        .collect()
}
