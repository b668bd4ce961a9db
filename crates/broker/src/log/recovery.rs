//! What a start reads of a partition's files: segments by their indexes and by scanning what those do not tell of, the
//! producers' state by its snapshot and by replaying what came behind it.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use crate::files;

use super::aborted::{self, aborted_path};
use super::batch::BatchHeader;
use super::error::{LogError, StorageAt};
use super::names::{SegmentName, split_replaced};
use super::producers::{Producers, Snapshot};
use super::segment::{Scanner, Segment, index_path};

/// The segment files that are the log, in order. What the cleaner had replaced and could not delete any more goes, and what
/// it had begun.
pub(super) fn find_segments(dir: &Path) -> Result<Vec<SegmentName>, LogError> {
    let mut names = Vec::new();
    let mut beside = Vec::new();
    for entry in fs::read_dir(dir).at("list", dir)? {
        let file_name = entry.at("list", dir)?.file_name();
        let Some(file_name) = file_name.to_str() else { continue };
        match file_name.rsplit_once('.') {
            Some((_, "log")) => names.extend(SegmentName::parse(file_name)),
            Some((_, "cleaned" | "tmp")) => {
                let path = dir.join(file_name);
                files::remove_if_there(&path).at("delete", &path)?;
            }
            Some((stem, "index" | "aborted")) => beside.extend(SegmentName::parse(&format!("{stem}.log"))),
            _ => {}
        }
    }
    let (live, replaced) = split_replaced(names);
    let stray = beside.iter().filter(|name| !live.contains(name));
    for name in replaced.iter().chain(stray) {
        remove_segment(&name.path(dir)).at("delete", &name.path(dir))?;
    }
    Ok(live)
}

/// Deletes a segment's file and what stands beside it, which is ignored without it.
pub(super) fn remove_segment(path: &Path) -> std::io::Result<()> {
    files::remove_if_there(path)?;
    files::remove_if_there(&index_path(path))?;
    files::remove_if_there(&aborted_path(path))
}

/// The segments and the producers' state that follows from them, with a snapshot's help. `None` when the snapshot does
/// not fit what the files hold (a power cut, a file that was lost), and all must be read.
pub(super) fn open_segments(
    dir: &Path,
    names: &[SegmentName],
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
    let mut segments = Vec::with_capacity(names.len().max(1));
    for (i, &name) in names.iter().enumerate() {
        match open_segment(dir, name, i + 1 == names.len(), &mut known)? {
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
    /// The segment that `upto` lies in and its aborts before that; `None` without a snapshot, when all are noted again.
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

fn open_segment(dir: &Path, name: SegmentName, last: bool, known: &mut Known) -> Result<Option<Segment>, LogError> {
    let base_offset = name.base_offset;
    let empty = Segment::named(dir, name);
    let path = empty.path.clone();
    let file_len = fs::metadata(&path).at("read", &path)?.len();
    let mut segment = match Segment::from_index(dir, name, file_len) {
        Some(segment) => segment,
        None => {
            // One that does not fit now must not seem to later, when the log has grown.
            files::remove_if_there(&index_path(&path)).at("delete the index of", &path)?;
            empty
        }
    };
    replay_producers(&segment, known)?;
    // The cleaner may leave nothing of a segment that is not the last.
    if segment.len < file_len || (segment.len == 0 && last) {
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
            files::set_len(&file, &path, segment.len).at("truncate", &path)?;
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
