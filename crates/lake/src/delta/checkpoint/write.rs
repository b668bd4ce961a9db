//! Writes a classic checkpoint of a snapshot: previous checkpoint and commits pass through, a row group at a time, and
//! the list of files is never held. A table with V2 checkpoints may have classic ones of the V1 spec as well (PROTOCOL.md,
//! "Checkpoints": "Writers are always allowed").

use futures::TryStreamExt;
use object_store::buffered::BufWriter;
use object_store::{ObjectStoreExt, PutPayload};
use parquet::arrow::AsyncArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::columns::{batch, schema};
use super::read::Kinds;
use crate::LakeError;
use crate::delta::action::{Action, Txn};
use crate::delta::location::LastCheckpoint;
use crate::delta::snapshot::Snapshot;

/// Actions per row group: a reader holds one at a time.
const ROW_GROUP_ACTIONS: usize = 8192;

/// How long a tombstone stays where the table does not say (Delta's default: a week).
const RETENTION_MS: i64 = 7 * DAY_MS;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Writes the checkpoint and then the log's pointer to it. Tombstones that have expired by `now_ms` (milliseconds since
/// the epoch) are left out.
pub async fn write_checkpoint(snapshot: &Snapshot, now_ms: i64) -> Result<LastCheckpoint, LakeError> {
    let location = snapshot.location();
    let path = location.checkpoint_path(snapshot.version());
    let failed = |error: ParquetError| LakeError::parquet(location.table(), "write the checkpoint's", error);
    let arrow = |error| failed(ParquetError::from(error));
    let properties = WriterProperties::builder()
        .set_created_by(concat!("smartcity version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let file = BufWriter::new(location.store().clone(), path);
    let mut writer = AsyncArrowWriter::try_new(file, schema().map_err(arrow)?, Some(properties)).map_err(failed)?;
    let mut counted = Counted::default();
    let mut pending = table_actions(snapshot);
    let expired = now_ms.saturating_sub(retention_ms(snapshot));
    let mut pieces = snapshot.file_actions(Kinds::Files);
    loop {
        let piece = pieces.try_next().await?;
        let at_end = piece.is_none();
        pending.extend(piece.into_iter().flatten().filter(|action| stays(action, expired)));
        while pending.len() >= ROW_GROUP_ACTIONS || at_end && !pending.is_empty() {
            let group: Vec<Action> = pending.drain(..pending.len().min(ROW_GROUP_ACTIONS)).collect();
            counted.count(&group);
            writer.write(&batch(&group).map_err(arrow)?).await.map_err(failed)?;
            writer.flush().await.map_err(failed)?;
        }
        if at_end {
            break;
        }
    }
    writer.finish().await.map_err(failed)?;
    let written = LastCheckpoint {
        version: snapshot.version(),
        size: counted.actions,
        parts: None,
        size_in_bytes: i64::try_from(writer.bytes_written()).ok(),
        num_of_add_files: Some(counted.adds),
    };
    point_to(snapshot, &written).await?;
    Ok(written)
}

/// Lets the log's pointer name this checkpoint. Several writers may race here, and the older one may win: the pointer is
/// a hint, from which a reader goes on to the newest.
async fn point_to(snapshot: &Snapshot, written: &LastCheckpoint) -> Result<(), LakeError> {
    let location = snapshot.location();
    let path = location.last_checkpoint_path();
    let text = serde_json::to_vec(written).map_err(|error| LakeError::unusable(location.table(), error.to_string()))?;
    let put = location.store().put(&path, PutPayload::from(text)).await;
    put.map_err(|error| LakeError::store("write", path, error))?;
    Ok(())
}

#[derive(Default)]
struct Counted {
    actions: i64,
    adds: i64,
}

impl Counted {
    fn count(&mut self, group: &[Action]) {
        self.actions += group.len() as i64;
        self.adds += group.iter().filter(|action| matches!(action, Action::Add(_))).count() as i64;
    }
}

/// All but the files, so that a reader who wants no files finds them in the first row group.
fn table_actions(snapshot: &Snapshot) -> Vec<Action> {
    let mut actions = vec![
        Action::Protocol(snapshot.protocol().clone()),
        Action::Metadata(Box::new(snapshot.metadata().clone())),
    ];
    let mut txns: Vec<_> = snapshot.txns().collect();
    txns.sort_unstable_by_key(|(id, _)| *id);
    actions.extend(txns.into_iter().map(|(id, txn)| {
        Action::Txn(Txn {
            app_id: id.to_owned(),
            version: txn.version,
            last_updated: txn.last_updated,
            rest: serde_json::Map::new(),
        })
    }));
    actions.extend(snapshot.domain_metadata().cloned().map(Action::DomainMetadata));
    actions
}

fn stays(action: &Action, expired_ms: i64) -> bool {
    match action {
        Action::Remove(remove) => remove.deletion_timestamp.unwrap_or(0) > expired_ms,
        _ => true,
    }
}

/// `delta.deletedFileRetentionDuration`, in milliseconds.
fn retention_ms(snapshot: &Snapshot) -> i64 {
    let text = snapshot.metadata().property("delta.deletedFileRetentionDuration");
    text.and_then(interval_ms).unwrap_or(RETENTION_MS)
}

/// An interval as Spark writes it: `interval 1 week`, `interval 36 hours`.
fn interval_ms(text: &str) -> Option<i64> {
    let mut words = text.split_whitespace().peekable();
    words.next_if(|word| word.eq_ignore_ascii_case("interval"));
    let (count, unit) = (words.next()?.parse::<i64>().ok()?, words.next()?);
    let unit_ms = match unit.to_ascii_lowercase().trim_end_matches('s') {
        "millisecond" => 1,
        "second" => 1000,
        "minute" => 60 * 1000,
        "hour" => 60 * 60 * 1000,
        "day" => DAY_MS,
        "week" => 7 * DAY_MS,
        _ => return None,
    };
    words.next().is_none().then(|| count.checked_mul(unit_ms))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read_as_spark_writes_them() {
        for (text, ms) in [
            ("interval 1 week", Some(RETENTION_MS)),
            ("interval 36 hours", Some(36 * 60 * 60 * 1000)),
            ("2 days", Some(2 * DAY_MS)),
            ("interval 1 month", None),
            ("interval 1 day 2 hours", None),
            ("", None),
        ] {
            assert_eq!(interval_ms(text), ms, "{text}");
        }
    }
}
