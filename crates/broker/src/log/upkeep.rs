//! Slow work that is done without the log's lock: syncs, indexes of closed segments, checkpoints.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use crate::files::{self, write_rebuildable};

use super::aborted;
use super::error::{LogError, StorageAt};
use super::producers::Snapshot;
use super::recovery::snapshot_path;
use super::segment::{Boot, Segment};

/// What was due when it was taken from the log.
#[derive(Debug)]
pub(crate) struct Upkeep {
    pub(super) dir: PathBuf,
    pub(super) closed: Vec<Segment>,
    /// The segment being written, as it is, for a start after a kill to go on from.
    pub(super) checkpoint: Option<Segment>,
    pub(super) snapshot: Option<Snapshot>,
}

impl Upkeep {
    pub(crate) fn run(&self) -> Result<(), LogError> {
        for segment in &self.closed {
            match File::open(&segment.path) {
                Ok(file) => files::sync(&file, &segment.path).at("sync", &segment.path)?,
                // Retention was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).at("open", &segment.path),
            }
            if segment.aborted > 0 {
                aborted::sync(&segment.path).at("sync the aborted transactions of", &segment.path)?;
            }
            segment.write_index(Boot::Any).at("write the index of", &segment.path)?;
        }
        if let Some(segment) = &self.checkpoint {
            let written = segment.write_index(Boot::this());
            written.at("write the index of", &segment.path)?;
        }
        if let Some(snapshot) = &self.snapshot {
            let path = snapshot_path(&self.dir);
            let bytes = serde_json::to_vec(snapshot)
                .map_err(io::Error::from)
                .at("encode", &path)?;
            write_rebuildable(&path, &bytes).at("write", &path)?;
        }
        Ok(())
    }
}
