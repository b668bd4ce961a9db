//! From which files of a log a version is read.

use crate::LakeError;
use crate::delta::listing::{Segment, Unreadable};
use crate::delta::location::TableLocation;

/// From which files to read a version. The log's pointer to its newest checkpoint saves listing what lies before it.
pub(crate) async fn find_segment(location: &TableLocation, at: Option<i64>) -> Result<Segment, LakeError> {
    let hint = location.last_checkpoint().await.map(|hint| hint.version);
    if let Some(hint) = hint.filter(|hint| at.is_none_or(|at| at >= *hint)) {
        let listing = location.list_from(hint).await?;
        if let Ok(segment) = listing.segment(at)
            && segment.checkpoint.is_some()
        {
            return Ok(segment);
        }
    }
    let listing = location.list().await?;
    listing.segment(at).map_err(|why| unreadable(location.table(), at, why))
}

fn unreadable(table: &str, at: Option<i64>, why: Unreadable) -> LakeError {
    match why {
        Unreadable::NoTable => LakeError::NoTable {
            table: table.to_owned(),
        },
        Unreadable::NoVersion { oldest, newest } => LakeError::NoVersion {
            table: table.to_owned(),
            version: at.unwrap_or(newest),
            oldest,
            newest,
        },
        Unreadable::Missing { version, newest } => LakeError::unusable(
            table,
            format!("version {version} is missing in its log, which goes on to {newest}"),
        ),
        Unreadable::NoCheckpoint { first } => LakeError::unusable(
            table,
            format!("its log starts at version {first} without a checkpoint; the commits before it are gone"),
        ),
    }
}
