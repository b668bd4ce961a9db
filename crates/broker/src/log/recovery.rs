//! What a start reads of a partition's files: segments by their indexes and by scanning what those do not tell of, the
//! producers' state by its snapshot and by replaying what came behind it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::aborted;
use super::batch::BatchHeader;
use super::error::{LogError, StorageAt};
use super::producers::{Producers, Snapshot};
use super::segment::{Scanner, Segment, index_path};

/// The segments and the producers' state that follows from them, with a snapshot's help. `None` when the snapshot does
/// not fit what the files hold (a power cut, a file that was lost), and all must be read.
pub(super) fn open_segments(
    dir: &Path,
    bases: &[i64],
    snapshot: Option<Snapshot>,
) -> Result<Option<(Vec<Segment>, Producers)>, LogError> {
    let mut known = match snapshot {
        Some(snapshot) => Known {
            upto: snapshot.next_offset,
            aborted: Some(snapshot.aborted),
            producers: Producers::from_snapshot(snapshot),
        },
        None => Known {
            upto: i64::MIN,
            aborted: None,
            producers: Producers::default(),
        },
    };
    let mut segments = Vec::with_capacity(bases.len().max(1));
    for (i, &base) in bases.iter().enumerate() {
        match open_segment(dir, base, i + 1 == bases.len(), &mut known)? {
            Some(segment) => segments.push(segment),
            None => return Ok(None),
        }
    }
    let end = segments
        .last()
        .map_or(i64::MIN, |segment: &Segment| segment.next_offset);
    let fits = known.upto <= end || segments.is_empty();
    Ok(fits.then_some((segments, known.producers)))
}

/// What is known of the producers before the offset `upto`.
struct Known {
    upto: i64,
    /// The segment that `upto` lies in and its aborts before that; `None` without a snapshot, when all are noted anew.
    aborted: Option<(i64, u32)>,
    producers: Producers,
}

impl Known {
    fn replay(&mut self, header: &BatchHeader) {
        if header.base_offset >= self.upto {
            self.producers.appended(header, header.base_offset);
        }
    }
}

fn open_segment(dir: &Path, base_offset: i64, last: bool, known: &mut Known) -> Result<Option<Segment>, LogError> {
    let empty = Segment::empty(dir, base_offset);
    let path = empty.path.clone();
    let file_len = fs::metadata(&path).at("read", &path)?.len();
    let mut segment = match Segment::from_index(dir, base_offset, file_len) {
        Some(segment) => segment,
        None => {
            // One that does not fit now must not seem to later, when the log has grown.
            remove_if_there(&index_path(&path)).at("delete the index of", &path)?;
            empty
        }
    };
    replay_producers(&segment, known)?;
    if segment.len < file_len || segment.len == 0 {
        if known.upto > segment.next_offset {
            // The snapshot knows more than the index.
            segment.aborted = aborted::count_before(&path, known.upto);
            if known.aborted != Some((base_offset, segment.aborted)) {
                return Ok(None);
            }
        }
        let mut found = Vec::new();
        let scanned = segment.scan(|header, batch| {
            if header.base_offset >= known.upto {
                found.extend(known.producers.aborted_by(header, batch, header.base_offset));
            }
            known.replay(header);
        });
        segment = scanned.at("scan", &path)?;
        for entry in found {
            aborted::put(&path, segment.aborted, entry).at("note an abort of", &path)?;
            segment.aborted += 1;
        }
    }
    if last {
        segment.load_index().at("read the index of", &path)?;
    }
    if segment.len < file_len {
        let bytes = file_len - segment.len;
        if last {
            tracing::warn!(path = %path.display(), bytes, "cut a torn tail off the log");
            let file = OpenOptions::new().write(true).open(&path).at("open", &path)?;
            file.set_len(segment.len).at("truncate", &path)?;
        } else {
            // Later segments are whole, so their records stay; what cannot be read is left for a person to look at.
            tracing::error!(path = %path.display(), bytes, "records in the middle of the log cannot be read");
        }
    }
    Ok(Some(segment))
}

/// Replays the batch headers that the index tells of, as far as they are behind what is known.
fn replay_producers(segment: &Segment, known: &mut Known) -> Result<(), LogError> {
    if segment.next_offset <= known.upto || segment.len == 0 {
        return Ok(());
    }
    let position = segment
        .place_of_offset(known.upto)
        .at("read the index of", &segment.path)?;
    let file = File::open(&segment.path).at("open", &segment.path)?;
    let mut scanner = Scanner::new(&file, position, segment.len);
    while let Some((_, header, _)) = scanner.next(false).at("read", &segment.path)? {
        known.replay(&header);
    }
    Ok(())
}

pub(super) fn snapshot_path(dir: &Path) -> PathBuf {
    dir.join("producers.snapshot")
}

pub(super) fn read_snapshot(dir: &Path) -> Option<Snapshot> {
    serde_json::from_slice(&fs::read(snapshot_path(dir)).ok()?).ok()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
