//! What we know of one table's log: its newest version and the offset each partition has reached.
//!
//! Read once from the newest checkpoint, then moved forward commit by commit. The commits are small files; the table's
//! list of data files is never held, so that the cost of a commit does not grow with the table.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use model::{Clock, TopicPartition};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore};
use parking_lot::RwLock;
use serde_json::json;
use tracing::info;
use url::Url;

use crate::delta::Kinds;
use crate::delta::action::{Action, Metadata, parse_lines};
use crate::delta::listing::Segment;
use crate::delta::location::TableLocation;
use crate::delta::replay::{RecordedTxn, Replay, TableState};
use crate::delta::schema::StructType;
use crate::delta::snapshot::find_segment;
use crate::delta::spec::{Declaration, TableSpec};
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
    pub(crate) location: TableLocation,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) path: Path,
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
    txns: HashMap<String, RecordedTxn>,
    metadata: Option<Metadata>,
    /// [`Log::check`] has passed on this metadata.
    checked: bool,
    seen_at: Instant,
    seen_at_us: i64,
}

impl RecordedTxn {
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            offset: self.version,
            version: self.recorded_in,
        }
    }
}

impl View {
    pub(crate) fn txn(&self, id: &str) -> Option<&RecordedTxn> {
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
            location: TableLocation::new(Arc::clone(&store), path.clone(), url),
            store,
            path,
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
        self.view
            .read()
            .txn(&self.txn_id(topic_partition))
            .map(RecordedTxn::mark)
    }

    pub(crate) fn txn_id(&self, topic_partition: &TopicPartition) -> String {
        format!(
            "{}/{}/{}",
            self.application, topic_partition.topic, topic_partition.partition
        )
    }

    /// The table's schema, with the ids of its columns.
    pub(crate) fn schema(&self) -> Result<StructType, LakeError> {
        match &self.view().metadata {
            Some(metadata) => self.spec.schema_of(metadata),
            None => Err(LakeError::unusable(&self.spec.name, "its log has no metadata")),
        }
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
        let newest = self.location.list_from(self.version()).await?.newest();
        if newest.is_some_and(|newest| newest > self.version()) {
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
                RecordedTxn {
                    version: *offset,
                    last_updated: None,
                    recorded_in: version,
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
        let created = self
            .spec
            .create_actions(&table_id, self.clock.now_us() / 1000, &self.names)?;
        let mut actions = values(&created);
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
        self.change_metadata(|found| Ok(with_absent_property(found, &property, id)))
            .await?;
        let view = self.view();
        let bound = view.metadata.as_ref().and_then(|metadata| metadata.property(&property));
        Ok(bound.unwrap_or(id).to_owned())
    }

    /// `change` gives the metadata as it should be; `None` when it is. The caller has the turn.
    async fn change_metadata(
        &self,
        change: impl Fn(&Metadata) -> Result<Option<Metadata>, LakeError>,
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
        let segment = match find_segment(&self.location, None).await {
            Ok(segment) => segment,
            Err(LakeError::NoTable { .. }) => return self.read_forward().await,
            Err(error) => return Err(error),
        };
        let state = self.replay(&segment).await?;
        let checkpointed = segment.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.version);
        self.checkpointed.store(checkpointed, Ordering::Relaxed);
        {
            let mut view = self.view.write();
            view.version = segment.version;
            view.txns = state.txns;
            view.metadata = state.metadata;
            view.checked = false;
        }
        self.read_forward().await
    }

    async fn replay(&self, segment: &Segment) -> Result<TableState, LakeError> {
        let mut replay = Replay::strict(&self.location, segment, Kinds::Table);
        let mut state = TableState::default();
        while let Some(piece) = replay.next().await? {
            for action in &piece.actions {
                if let Action::Protocol(protocol) = action {
                    self.spec.check_protocol(protocol)?;
                }
            }
            state.take(&piece);
        }
        Ok(state)
    }

    pub(crate) async fn read_commit(&self, version: i64) -> Result<Option<Bytes>, LakeError> {
        self.location.read_commit(version).await
    }

    /// Takes over one commit, unless it cannot be read or asks for features we do not know; then the view stays before it.
    fn apply(&self, version: i64, bytes: &[u8]) -> Result<(), LakeError> {
        let actions = parse_lines(bytes)
            .map_err(|error| LakeError::unusable(&self.spec.name, format!("{}: {error}", self.commit_path(version))))?;
        let mut commit_id = None;
        let (mut txns, mut metadata) = (Vec::new(), None);
        for action in actions {
            match action {
                Action::Protocol(protocol) => self.spec.check_protocol(&protocol)?,
                Action::Metadata(found) => metadata = Some(*found),
                Action::CommitInfo(info) => commit_id = info.commit_id,
                Action::Txn(txn) => txns.push(txn),
                _ => {}
            }
        }
        let mut view = self.view.write();
        for txn in txns {
            let recorded = RecordedTxn::new(&txn, version, commit_id.clone());
            view.txns.insert(txn.app_id, recorded);
        }
        if metadata.is_some() {
            view.metadata = metadata;
            view.checked = false;
        }
        view.version = version;
        Ok(())
    }
}

/// With the property, when it has none of this name.
fn with_absent_property(found: &Metadata, name: &str, value: &str) -> Option<Metadata> {
    if found.configuration.contains_key(name) {
        return None;
    }
    let mut changed = found.clone();
    changed.configuration.insert(name.to_owned(), value.to_owned());
    Some(changed)
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

fn values(actions: &[Action]) -> Vec<serde_json::Value> {
    actions
        .iter()
        .filter_map(|action| serde_json::to_value(action).ok())
        .collect()
}
