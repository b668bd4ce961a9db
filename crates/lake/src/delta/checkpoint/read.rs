//! Checkpoint files in, actions out, a piece at a time: of all three namings, of both specs, and of sidecars.

use futures::TryStreamExt;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::rows::actions;
use crate::LakeError;
use crate::delta::action::{Action, Sidecar, parse_lines};
use crate::delta::listing::{Checkpoint, CheckpointKind};
use crate::delta::location::TableLocation;
use crate::store::parquet::StoreFile;

/// The actions of one file.
type Pieces = BoxStream<'static, Result<Vec<Action>, ParquetError>>;

/// Rows that are turned into actions at a time.
const BATCH_ROWS: usize = 1024;

/// Which actions a reader of a checkpoint wants; the columns of the others are not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    /// Protocol, metadata, transactions and domains, and what a V2 checkpoint says of itself.
    Table,
    /// The files that are part of the table.
    Adds,
    /// Those, and the tombstones of the others.
    Files,
    All,
}

impl Kinds {
    fn has_table(self) -> bool {
        matches!(self, Kinds::Table | Kinds::All)
    }

    pub(crate) fn has_files(self) -> bool {
        self != Kinds::Table
    }

    fn has_tombstones(self) -> bool {
        matches!(self, Kinds::Files | Kinds::All)
    }

    /// Whether an action is of these kinds; Parquet is asked for the columns, JSON is sorted out afterwards.
    fn wants(self, action: &Action) -> bool {
        match action {
            Action::Add(_) => self.has_files(),
            Action::Remove(_) => self.has_tombstones(),
            Action::Sidecar(_) => true,
            _ => self.has_table(),
        }
    }

    /// Each with a leaf that is filled in every row that holds such an action.
    fn columns(self) -> Vec<(&'static str, &'static str)> {
        let mut columns = vec![("sidecar", "sidecar.path")];
        if self.has_table() {
            columns.extend([
                ("metaData", "metaData.id"),
                ("protocol", "protocol.minReaderVersion"),
                ("txn", "txn.appId"),
                ("domainMetadata", "domainMetadata.domain"),
                ("checkpointMetadata", "checkpointMetadata.version"),
            ]);
        }
        if self.has_files() {
            columns.push(("add", "add.path"));
        }
        if self.has_tombstones() {
            columns.push(("remove", "remove.path"));
        }
        columns
    }
}

/// A checkpoint's actions in pieces, those in its sidecars last. Sidecars are given as well, so that a caller sees
/// which files the checkpoint is made of.
pub(crate) fn checkpoint_actions(
    location: TableLocation,
    checkpoint: &Checkpoint,
    kinds: Kinds,
) -> BoxStream<'static, Result<Vec<Action>, LakeError>> {
    let files = checkpoint.files.clone();
    let is_json = checkpoint.kind == CheckpointKind::UuidJson;
    let state = Reading {
        location,
        kinds,
        files: files.into_iter().rev().map(|path| (path, is_json)).collect(),
        sidecars: Vec::new(),
        open: None,
    };
    stream::try_unfold(state, |mut state| async move {
        let piece = state.next().await?;
        Ok(piece.map(|piece| (piece, state)))
    })
    .boxed()
}

/// The files of a checkpoint still to be read, the next one last.
struct Reading {
    location: TableLocation,
    kinds: Kinds,
    /// Path, and whether it is JSON.
    files: Vec<(Path, bool)>,
    sidecars: Vec<Sidecar>,
    open: Option<(Path, Pieces)>,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Vec<Action>>, LakeError> {
        loop {
            if let Some((path, open)) = &mut self.open {
                match open
                    .try_next()
                    .await
                    .map_err(|error| unreadable(&self.location, path, error))?
                {
                    Some(piece) => {
                        let sidecars = piece.iter().filter_map(|action| match action {
                            Action::Sidecar(sidecar) => Some(sidecar.clone()),
                            _ => None,
                        });
                        self.sidecars.extend(sidecars);
                        return Ok(Some(piece));
                    }
                    None => self.open = None,
                }
            }
            let Some((path, is_json)) = self.files.pop() else {
                let Some(sidecar) = self.sidecars.pop() else {
                    return Ok(None);
                };
                if self.kinds.has_files() {
                    self.files.push((self.sidecar_path(&sidecar)?, false));
                }
                continue;
            };
            self.open = Some((path.clone(), open(&self.location, &path, is_json, self.kinds).await?));
        }
    }

    /// Sidecars lie in one folder, whatever path a writer wrote before their names.
    fn sidecar_path(&self, sidecar: &Sidecar) -> Result<Path, LakeError> {
        let unfit =
            |why: String| LakeError::unusable(self.location.table(), format!("sidecar {}: {why}", sidecar.path));
        let name = sidecar.path.rsplit('/').next().unwrap_or_default();
        let name = Path::from_url_path(name).map_err(|error| unfit(error.to_string()))?;
        let name = name.filename().ok_or_else(|| unfit("it has no name".to_owned()))?;
        Ok(self.location.log_path().join("_sidecars").join(name))
    }
}

async fn open(location: &TableLocation, path: &Path, is_json: bool, kinds: Kinds) -> Result<Pieces, LakeError> {
    if is_json {
        let missing = || LakeError::unusable(location.table(), format!("its checkpoint {path} is gone"));
        let bytes = location.read(path).await?.ok_or_else(missing)?;
        let mut actions =
            parse_lines(&bytes).map_err(|error| LakeError::unusable(location.table(), format!("{path}: {error}")))?;
        actions.retain(|action| kinds.wants(action));
        return Ok(stream::iter([Ok(actions)]).boxed());
    }
    let file = StoreFile::new(location.store().clone(), path.clone());
    let builder = file.open().await.map_err(|error| unreadable(location, path, error))?;
    parquet_actions(builder, kinds).map_err(|error| unreadable(location, path, error))
}

fn unreadable(location: &TableLocation, path: &Path, error: ParquetError) -> LakeError {
    match LakeError::parquet(location.table(), "read", error) {
        LakeError::Parquet { source, .. } => LakeError::unusable(
            location.table(),
            format!("its checkpoint {path} cannot be read: {source}"),
        ),
        store => store,
    }
}

fn parquet_actions(builder: ParquetRecordBatchStreamBuilder<StoreFile>, kinds: Kinds) -> Result<Pieces, ParquetError> {
    let metadata = builder.metadata().clone();
    let columns = kinds.columns();
    let groups = metadata.row_groups().iter().enumerate();
    let wanted = groups.filter(|(_, group)| columns.iter().any(|(_, leaf)| may_be_filled(group, leaf)));
    let groups = wanted.map(|(at, _)| at).collect();
    let mask = projection(&metadata, &columns);
    let batches = builder
        .with_row_groups(groups)
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build()?;
    Ok(batches
        .map(|batch| actions(&batch?).map_err(ParquetError::General))
        .boxed())
}

/// The wanted columns without those that only repeat others in another form. Parsed statistics are read where the file
/// has no others.
fn projection(metadata: &ParquetMetaData, columns: &[(&str, &str)]) -> ProjectionMask {
    let schema = metadata.file_metadata().schema_descr();
    let has_text = metadata
        .row_groups()
        .iter()
        .all(|group| !may_be_filled(group, "add.path") || may_be_filled(group, "add.stats"));
    let leaves = schema.columns().iter().enumerate().filter(|(_, leaf)| {
        let path = leaf.path().parts();
        let is_wanted = columns
            .iter()
            .any(|(column, _)| path.first().is_some_and(|first| first == column));
        is_wanted
            && match path.get(1).map(String::as_str) {
                Some("partitionValues_parsed") => false,
                Some("stats_parsed") => !has_text,
                _ => true,
            }
    });
    ProjectionMask::leaves(schema, leaves.map(|(at, _)| at))
}

/// Whether a leaf has a value in a row group, as far as its statistics tell; false where there is no such leaf.
fn may_be_filled(group: &RowGroupMetaData, leaf: &str) -> bool {
    let column = group
        .columns()
        .iter()
        .find(|column| column.column_path().string() == leaf);
    column.is_some_and(|column| {
        let nulls = column.statistics().and_then(|statistics| statistics.null_count_opt());
        nulls != Some(column.num_values() as u64)
    })
}
