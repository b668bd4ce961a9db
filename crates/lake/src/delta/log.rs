//! What a writer knows of one table's log: its newest version, the metadata, and the offset each partition has reached.
//!
//! Read once from the newest checkpoint, then moved forward commit by commit. The commits are small files; the table's
//! list of data files is never held, so that the cost of a commit does not grow with the table.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use model::{Clock, TopicPartition};
use parking_lot::{RwLock, RwLockReadGuard};
use serde_json::Map;

use crate::delta::action::{Action, CommitInfo, Metadata, Protocol, parse_lines};
use crate::delta::checkpoint::read::Kinds;
use crate::delta::features::{self, clustering_columns};
use crate::delta::keeper::CommitKeeper;
use crate::delta::listing::Segment;
use crate::delta::location::TableLocation;
use crate::delta::replay::{RecordedTxn, Replay, TableState};
use crate::delta::schema::StructType;
use crate::delta::segment::find_segment;
use crate::delta::spec::{Declaration, TableSpec};
use crate::{LakeError, Mark, Names, Pause};

/// How long a view may go without having seen the end of the log before a commit looks for it. A log cleaned up in the
/// meantime no longer holds the commits that would tell us that the next version is taken; retention is days.
const FRESH_S: u64 = 600;

/// The metadata domain that says by which columns a table is clustered.
const CLUSTERING: &str = "delta.clustering";

/// Before `<application>/<topic>`: a table property that says that the topic's starts are recorded.
pub(crate) const STARTING_OFFSETS: &str = "smartcity.startingOffsets.";

/// The operation of a commit that adds rows and reads nothing, as Spark names it.
pub(crate) const APPEND: &str = "STREAMING UPDATE";

/// One table's log, shared by the clones of a handle.
pub(crate) struct Log {
    pub(crate) spec: TableSpec,
    /// "<application>/": keeps this application's offsets apart from another's in the same table.
    application: String,
    pub(crate) location: TableLocation,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) names: Names,
    pub(crate) pause: Pause,
    /// `None` for the table that keeps the commits of the others.
    pub(crate) keeper: Option<Arc<dyn CommitKeeper>>,
    /// The declaration properties as they were when this writer opened the table; `None` until then.
    held: Option<Vec<Option<String>>>,
    view: RwLock<View>,
    /// Held while the log is read forward or written: a process has one committer per table.
    pub(crate) commit_lock: tokio::sync::Mutex<()>,
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
    protocol: Option<Protocol>,
    metadata: Option<Metadata>,
    /// Columns of the metadata domain `delta.clustering`.
    clustered_by: Vec<String>,
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

    /// Whether there is one whose id begins like this.
    pub(crate) fn has_txn_of(&self, prefix: &str) -> bool {
        self.txns.keys().any(|id| id.starts_with(prefix))
    }

    pub(crate) fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }
}

impl Log {
    /// Of a table that nothing is known of yet: [`Log::load`] it, or create it.
    pub(crate) fn new(
        spec: TableSpec,
        application: &str,
        location: TableLocation,
        clock: Arc<dyn Clock>,
        names: Names,
        pause: Pause,
        keeper: Option<Arc<dyn CommitKeeper>>,
    ) -> Log {
        let view = View {
            version: -1,
            txns: HashMap::new(),
            protocol: None,
            metadata: None,
            clustered_by: Vec::new(),
            checked: false,
            seen_at: Instant::now(),
            seen_at_us: clock.now_us(),
        };
        Log {
            spec,
            application: application.to_owned(),
            location,
            clock,
            names,
            pause,
            keeper,
            held: None,
            view: RwLock::new(view),
            commit_lock: tokio::sync::Mutex::new(()),
            checkpoint: Arc::default(),
            checkpointed: Arc::default(),
        }
    }

    /// From now on this writer stops when its declarations in the table are replaced.
    pub(crate) fn hold_declarations(&mut self) {
        let held = {
            let view = self.view();
            let value = |declaration: &Declaration| declaration.value_in(view.metadata()?).map(str::to_owned);
            self.spec.declarations.iter().map(value).collect()
        };
        self.held = Some(held);
    }

    pub(crate) fn version(&self) -> i64 {
        self.view.read().version
    }

    pub(crate) fn view(&self) -> RwLockReadGuard<'_, View> {
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

    /// Applications but this one of which the log records that they have read the topic.
    pub(crate) fn other_applications(&self, topic: &str) -> BTreeSet<String> {
        let view = self.view.read();
        let of_txn = |id: &str| {
            let mut parts = id.rsplitn(3, '/');
            let (_partition, of, application) = (parts.next()?, parts.next()?, parts.next()?);
            (of == topic).then(|| application.to_owned())
        };
        let of_property = |name: &str| {
            let (application, of) = name.strip_prefix(STARTING_OFFSETS)?.rsplit_once('/')?;
            (of == topic).then(|| application.to_owned())
        };
        let txns = view.txns.keys().filter_map(|id| of_txn(id));
        let properties = view.metadata.iter().flat_map(|metadata| metadata.configuration.keys());
        let mut found: BTreeSet<String> = txns.chain(properties.filter_map(|name| of_property(name))).collect();
        found.remove(&self.application);
        found
    }

    /// By partition, the offsets that the table of commits has kept of this application's commits.
    pub(crate) async fn kept_offsets(
        &self,
        topic: &str,
        partitions: &BTreeSet<i32>,
    ) -> Result<BTreeMap<i32, i64>, LakeError> {
        let table_id = self.view().metadata().map(|metadata| metadata.id.clone());
        match self.keeper.as_ref().zip(table_id) {
            Some((keeper, table_id)) => {
                keeper
                    .kept_offsets(&table_id, &self.application, topic, partitions)
                    .await
            }
            None => Ok(BTreeMap::new()),
        }
    }

    pub(crate) fn application(&self) -> &str {
        &self.application
    }

    /// The table's schema, with the ids of its columns.
    pub(crate) fn schema(&self) -> Result<StructType, LakeError> {
        match self.view().metadata() {
            Some(metadata) => self.spec.schema_of(metadata),
            None => Err(LakeError::unusable(&self.spec.name, "its log has no metadata")),
        }
    }

    /// What every commit of this writer says of itself.
    pub(crate) fn commit_info(&self, operation: &str, commit_id: &str, read_version: Option<i64>) -> CommitInfo {
        let parameters = [("outputMode", "Append"), ("queryId", self.application())];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.into()));
        CommitInfo {
            timestamp: Some(self.clock.now_us() / 1000),
            operation: Some(operation.to_owned()),
            operation_parameters: Some(Map::from_iter(parameters)),
            read_version,
            isolation_level: Some("Serializable".to_owned()),
            is_blind_append: Some(operation == APPEND),
            engine_info: Some(concat!("smartcity/", env!("CARGO_PKG_VERSION")).to_owned()),
            commit_id: Some(commit_id.to_owned()),
            ..CommitInfo::default()
        }
    }

    pub(crate) async fn refresh(&self) -> Result<(), LakeError> {
        let _lock = self.commit_lock.lock().await;
        self.ensure_fresh().await?;
        self.read_forward().await
    }

    /// Reads the commits after the view's version, one by one, until there is none, and sees that the table is still
    /// this writer's to write. The caller holds `commit_lock`.
    pub(crate) async fn read_forward(&self) -> Result<(), LakeError> {
        self.read_forward_with(|_, _| ()).await
    }

    /// The same, and shows each commit that it took over.
    pub(crate) async fn read_forward_with(&self, mut saw: impl FnMut(i64, &[Action])) -> Result<(), LakeError> {
        loop {
            let version = self.version() + 1;
            let Some(bytes) = self.location.read_commit(version).await? else {
                self.saw_the_end();
                return self.check();
            };
            let actions = parse_lines(&bytes).map_err(|error| self.unreadable(version, &error))?;
            self.take_over(version, &actions)?;
            saw(version, &actions);
        }
    }

    /// A view that has not seen the log's end for long is compared with a listing, and read again when commits between
    /// the two are gone. The caller holds `commit_lock`.
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

    /// Everything from the newest checkpoint on. Leaves version -1 when there is no table.
    pub(crate) async fn load(&self) -> Result<(), LakeError> {
        let segment = match find_segment(&self.location, None).await {
            Ok(segment) => segment,
            Err(LakeError::NoTable { .. }) => return self.read_forward().await,
            Err(error) => return Err(error),
        };
        let mut state = self.replay(&segment).await?;
        let domain = state.domains().find(|domain| domain.domain == CLUSTERING);
        let clustered_by = domain.map_or_else(Vec::new, |domain| clustering_columns(&domain.configuration));
        self.check_features(state.protocol.as_ref(), state.metadata.as_ref(), &clustered_by)?;
        let checkpointed = segment.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.version);
        self.checkpointed.store(checkpointed, Ordering::Relaxed);
        {
            let mut view = self.view.write();
            // A checkpoint may have left out what has expired; an offset that is known stays known.
            if view.metadata.as_ref().map(|known| &known.id) == state.metadata.as_ref().map(|found| &found.id) {
                for (id, txn) in view.txns.drain() {
                    state.txns.entry(id).or_insert(txn);
                }
            }
            view.version = segment.version;
            view.clustered_by = clustered_by;
            view.txns = state.txns;
            view.protocol = state.protocol;
            view.metadata = state.metadata;
            view.checked = false;
        }
        self.read_forward().await
    }

    async fn replay(&self, segment: &Segment) -> Result<TableState, LakeError> {
        let mut replay = Replay::strict(&self.location, segment, Kinds::Table);
        let mut state = TableState::default();
        while let Some(piece) = replay.next().await? {
            state.take(&piece);
        }
        Ok(state)
    }

    /// Takes over one commit, unless it asks for what this writer does not do; then the view stays before it.
    pub(crate) fn take_over(&self, version: i64, actions: &[Action]) -> Result<(), LakeError> {
        let commit_id = actions.iter().rev().find_map(|action| match action {
            Action::CommitInfo(info) => info.commit_id.clone(),
            _ => None,
        });
        let mut view = self.view.write();
        let (mut protocol, mut metadata, mut clustered_by) = (None, None, None);
        for action in actions {
            match action {
                Action::Protocol(changed) => protocol = Some(changed.clone()),
                Action::Metadata(changed) => metadata = Some((**changed).clone()),
                Action::DomainMetadata(domain) if domain.domain == CLUSTERING => {
                    let columns = clustering_columns(&domain.configuration);
                    clustered_by = Some(if domain.removed { Vec::new() } else { columns });
                }
                _ => {}
            }
        }
        if protocol.is_some() || metadata.is_some() || clustered_by.is_some() {
            self.check_features(
                protocol.as_ref().or(view.protocol.as_ref()),
                metadata.as_ref().or(view.metadata.as_ref()),
                clustered_by.as_ref().unwrap_or(&view.clustered_by),
            )?;
        }
        view.checked &= metadata.is_none();
        view.protocol = protocol.or_else(|| view.protocol.take());
        view.metadata = metadata.or_else(|| view.metadata.take());
        view.clustered_by = clustered_by.unwrap_or_else(|| std::mem::take(&mut view.clustered_by));
        for action in actions {
            if let Action::Txn(txn) = action {
                let recorded = RecordedTxn::new(txn, version, commit_id.clone());
                view.txns.insert(txn.app_id.clone(), recorded);
            }
        }
        view.version = version;
        Ok(())
    }

    pub(crate) fn saw_the_end(&self) {
        let mut view = self.view.write();
        view.seen_at = Instant::now();
        view.seen_at_us = self.clock.now_us();
    }

    fn check_features(
        &self,
        protocol: Option<&Protocol>,
        metadata: Option<&Metadata>,
        clustered_by: &[String],
    ) -> Result<(), LakeError> {
        match (protocol, metadata) {
            (Some(protocol), Some(metadata)) => self.spec.check_features(protocol, metadata, clustered_by),
            // A version 0 without one of them is no table; whoever needs it says so.
            _ => Ok(()),
        }
    }

    /// Whether rows may be changed or removed, as far as the log was read.
    pub(crate) fn check_rewritable(&self) -> Result<(), LakeError> {
        let view = self.view();
        let (Some(protocol), Some(metadata)) = (&view.protocol, &view.metadata) else {
            return Ok(());
        };
        features::check_rewritable(protocol, metadata).map_err(|why| LakeError::unusable(&self.spec.name, why))
    }

    /// Whether a checkpoint of another writer may have left out offsets that were recorded.
    pub(crate) fn lets_offsets_expire(&self) -> bool {
        self.view().metadata().is_some_and(features::lets_txns_expire)
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

    pub(crate) fn unreadable(&self, version: i64, error: &serde_json::Error) -> LakeError {
        LakeError::unusable(
            &self.spec.name,
            format!("{}: {error}", self.location.commit_path(version)),
        )
    }
}
