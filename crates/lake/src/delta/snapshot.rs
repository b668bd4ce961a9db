//! A table at one version, for readers.
//!
//! Loading reads the commits after the newest checkpoint and the few rows of the checkpoint that are no files. The files
//! are streamed when they are asked for, so that nothing a snapshot holds grows with the table.

use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::LakeError;
use crate::delta::action::{Action, Add, CommitInfo, DomainMetadata, Metadata, Protocol};
use crate::delta::arrow::{to_arrow, to_physical_arrow};
use crate::delta::checkpoint::read::Kinds;
use crate::delta::listing::Segment;
use crate::delta::location::TableLocation;
use crate::delta::replay::{FileReconciler, RecordedTxn, Replay, TableState, missing, read_commits};
use crate::delta::schema::{ColumnMapping, StructType};
use crate::delta::segment::find_segment;

/// Commits after the checkpoint are held up to this size, so that the files need not fetch them again.
const HELD_BYTES_MAX: usize = 16 << 20;

/// A table at one version. Cheap to clone.
#[derive(Clone)]
pub struct Snapshot {
    location: TableLocation,
    inner: Arc<Inner>,
}

struct Inner {
    segment: Segment,
    /// The bytes of the segment's commits, newest first; `None` when they are too large to hold.
    held: Option<Vec<Bytes>>,
    state: TableState,
    protocol: Protocol,
    metadata: Metadata,
    schema: StructType,
    arrow_schema: SchemaRef,
    column_mapping: ColumnMapping,
}

impl Snapshot {
    /// The version `at`, or the newest. A table that asks for a reader feature which this program lacks is refused, and
    /// the error names the feature.
    pub async fn load(location: &TableLocation, at: Option<i64>) -> Result<Snapshot, LakeError> {
        let segment = find_segment(location, at).await?;
        let held = hold(location, (segment.first_commit()..=segment.version).rev().collect()).await?;
        let mut replay = replay(location, &segment, held.as_deref(), Kinds::Table);
        let mut state = TableState::default();
        while let Some(piece) = replay.next().await? {
            state.take(&piece);
        }
        Self::new(location.clone(), segment, held, state)
    }

    /// The newest version, from what this snapshot knows: costs one listing of what is new, and the new commits.
    pub async fn refresh(&self) -> Result<Snapshot, LakeError> {
        let version = self.version();
        let listing = self.location.list_from(version).await?;
        let newest = match listing.newest() {
            Some(newest) if newest > version => newest,
            Some(newest) if newest == version => return Ok(self.clone()),
            // Nothing of this version is left: the table is another, or its log was cleaned up to somewhere later.
            _ => return Self::load(&self.location, None).await,
        };
        // A newer checkpoint makes for fewer commits to hold.
        let has_checkpoint = listing
            .checkpoint_until(newest)
            .is_some_and(|found| found.version > version);
        let new: Vec<i64> = listing
            .commits()
            .iter()
            .map(|commit| commit.version)
            .filter(|new| *new > version)
            .collect();
        if has_checkpoint || !new.iter().copied().eq(version + 1..=newest) {
            return Self::load(&self.location, None).await;
        }
        let Some(bodies) = hold(&self.location, new.into_iter().rev().collect()).await? else {
            return Self::load(&self.location, None).await;
        };
        let mut state = TableState::default();
        let only_new = Segment {
            version: newest,
            checkpoint: None,
        };
        let mut replay = Replay::held(&self.location, &only_new, Kinds::Table, &bodies);
        while let Some(piece) = replay.next().await? {
            state.take(&piece);
        }
        state.take_older(&self.inner.state);
        let segment = Segment {
            version: newest,
            checkpoint: self.inner.segment.checkpoint.clone(),
        };
        let held = self.inner.held.as_ref().map(|older| {
            let mut held = bodies;
            held.extend(older.iter().cloned());
            held
        });
        let held = held.filter(|held| held.iter().map(Bytes::len).sum::<usize>() <= HELD_BYTES_MAX);
        Self::new(self.location.clone(), segment, held, state)
    }

    fn new(
        location: TableLocation,
        segment: Segment,
        held: Option<Vec<Bytes>>,
        state: TableState,
    ) -> Result<Snapshot, LakeError> {
        let unusable = |why: String| LakeError::unusable(location.table(), why);
        let absent = |what: &str| unusable(format!("its log has no {what} up to version {}", segment.version));
        let protocol = state.protocol.clone().ok_or_else(|| absent("protocol"))?;
        protocol.check_readable().map_err(unusable)?;
        let metadata = state.metadata.clone().ok_or_else(|| absent("metadata"))?;
        if metadata.format.provider != "parquet" {
            return Err(unusable(format!(
                "its files are `{}`, not Parquet",
                metadata.format.provider
            )));
        }
        let column_mapping = protocol.column_mapping(&metadata).map_err(unusable)?;
        let schema: StructType = serde_json::from_str(&metadata.schema_string)
            .map_err(|error| unusable(format!("its schema cannot be read: {error}")))?;
        let arrow_schema = Arc::new(to_arrow(&schema));
        let inner = Inner {
            segment,
            held,
            state,
            protocol,
            metadata,
            schema,
            arrow_schema,
            column_mapping,
        };
        Ok(Snapshot {
            location,
            inner: Arc::new(inner),
        })
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        self.location.table()
    }

    pub fn location(&self) -> &TableLocation {
        &self.location
    }

    pub fn version(&self) -> i64 {
        self.inner.segment.version
    }

    pub fn protocol(&self) -> &Protocol {
        &self.inner.protocol
    }

    pub fn metadata(&self) -> &Metadata {
        &self.inner.metadata
    }

    pub fn schema(&self) -> &StructType {
        &self.inner.schema
    }

    /// The rows' schema by the columns' names, partition columns included.
    pub fn arrow_schema(&self) -> &SchemaRef {
        &self.inner.arrow_schema
    }

    /// The same by the names that the files use, partition columns included, which lie in no file.
    pub fn physical_arrow_schema(&self) -> Schema {
        to_physical_arrow(&self.inner.schema, self.inner.column_mapping)
    }

    /// By the columns' names, in their order in paths.
    pub fn partition_columns(&self) -> &[String] {
        &self.inner.metadata.partition_columns
    }

    /// How files, statistics and partition values name the columns.
    pub fn column_mapping(&self) -> ColumnMapping {
        self.inner.column_mapping
    }

    /// The name of a column in partition values and statistics; the column's own where there is no such column.
    pub fn physical_name<'a>(&'a self, column: &'a str) -> &'a str {
        let field = self.inner.schema.field(column);
        field.map_or(column, |field| field.physical_name(self.inner.column_mapping))
    }

    /// What an application last recorded.
    pub fn txn(&self, app_id: &str) -> Option<&RecordedTxn> {
        self.inner.state.txns.get(app_id)
    }

    /// By application id, in no order.
    pub fn txns(&self) -> impl Iterator<Item = (&str, &RecordedTxn)> {
        self.inner.state.txns.iter().map(|(id, txn)| (id.as_str(), txn))
    }

    pub fn domain_metadata(&self) -> impl Iterator<Item = &DomainMetadata> {
        self.inner.state.domains()
    }

    /// What the commit of this version says of itself; `None` when it says nothing or its log entry is gone.
    pub fn commit_info(&self) -> Option<&CommitInfo> {
        self.inner.state.commit_info(self.version())
    }

    /// The files of this version that pass the filter, newest commits first. Holds one piece of the log at a time and the
    /// keys of the files named after the checkpoint.
    pub fn files<'a>(&self, filter: impl Fn(&Add) -> bool + Send + 'a) -> BoxStream<'a, Result<Add, LakeError>> {
        let filtered = move |mut adds: Vec<Add>| {
            adds.retain(|add| filter(add));
            stream::iter(adds.into_iter().map(Ok))
        };
        self.file_batches().map_ok(filtered).try_flatten().boxed()
    }

    /// All files, about a thousand at a time.
    pub fn file_batches(&self) -> BoxStream<'static, Result<Vec<Add>, LakeError>> {
        let actions = self.file_actions(Kinds::Adds);
        let adds = |actions: Vec<Action>| {
            let adds = actions.into_iter().filter_map(|action| match action {
                Action::Add(add) => Some(*add),
                _ => None,
            });
            adds.collect::<Vec<_>>()
        };
        actions
            .map_ok(adds)
            .try_filter(|adds| std::future::ready(!adds.is_empty()))
            .boxed()
    }

    /// The files, and with [`Kinds::Files`] the tombstones, in pieces.
    pub(crate) fn file_actions(&self, kinds: Kinds) -> BoxStream<'static, Result<Vec<Action>, LakeError>> {
        let replay = replay(&self.location, &self.inner.segment, self.inner.held.as_deref(), kinds);
        let state = (replay, FileReconciler::default());
        stream::try_unfold(state, |(mut replay, mut files)| async move {
            let piece = replay.next().await?;
            Ok(piece.map(|piece| (files.keep(piece), (replay, files))))
        })
        .boxed()
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("table", &self.table())
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

fn replay(location: &TableLocation, segment: &Segment, held: Option<&[Bytes]>, kinds: Kinds) -> Replay {
    match held {
        Some(bodies) => Replay::held(location, segment, kinds, bodies),
        None => Replay::strict(location, segment, kinds),
    }
}

/// The bytes of these commits; `None` when they are too large to hold.
async fn hold(location: &TableLocation, versions: Vec<i64>) -> Result<Option<Vec<Bytes>>, LakeError> {
    let mut held = Vec::with_capacity(versions.len());
    let mut bytes = 0;
    let mut commits = read_commits(location, versions);
    while let Some((version, body)) = commits.try_next().await? {
        let body = body.ok_or_else(|| missing(location, version))?;
        bytes += body.len();
        if bytes > HELD_BYTES_MAX {
            return Ok(None);
        }
        held.push(body);
    }
    Ok(Some(held))
}
