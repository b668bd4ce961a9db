//! What lies in a log's folder: the commits with their times, and the checkpoints that are whole.

use std::collections::BTreeMap;

use object_store::ObjectMeta;
use object_store::path::Path;

/// The files of a log, by version. Holds a few words per commit that is still there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// By version, ascending.
    commits: Vec<Commit>,
    /// By version, ascending; one per version.
    checkpoints: Vec<Checkpoint>,
}

/// A commit file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    pub version: i64,
    /// Microseconds since the epoch: when the file was last modified, or its predecessor if that was later. So a later
    /// version is never older.
    pub committed_at_us: i64,
}

/// A checkpoint of which every file is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub version: i64,
    pub kind: CheckpointKind,
    /// One, or the parts of a multi-part checkpoint in their order. Sidecars are named within.
    pub files: Vec<Path>,
}

/// How a checkpoint is named, the preferred one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckpointKind {
    /// `n.checkpoint.parquet`, of the V1 or V2 spec.
    Classic,
    /// `n.checkpoint.<uuid>.parquet`, of the V2 spec.
    UuidParquet,
    /// `n.checkpoint.<uuid>.json`, of the V2 spec.
    UuidJson,
    /// `n.checkpoint.o.p.parquet`, `p` files.
    MultiPart,
}

/// From which files a version is read: a checkpoint, if there is one, and the commits after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub version: i64,
    pub checkpoint: Option<Checkpoint>,
}

impl Segment {
    /// The first version whose commit is read.
    pub fn first_commit(&self) -> i64 {
        self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.version + 1)
    }
}

/// Why a version cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// There is no table.
    NoTable,
    /// The version is not among those that can be read.
    NoVersion { oldest: i64, newest: i64 },
    /// A commit in between is gone.
    Missing { version: i64, newest: i64 },
    /// The first commits are gone, and no checkpoint holds what they said.
    NoCheckpoint { first: i64 },
}

impl Listing {
    /// From the files of the log's folder; those of other kinds are left out.
    pub fn from_files(files: impl IntoIterator<Item = ObjectMeta>) -> Listing {
        let mut commits = BTreeMap::new();
        let mut single = BTreeMap::new();
        let mut parts: BTreeMap<(i64, usize), BTreeMap<usize, Path>> = BTreeMap::new();
        for file in files {
            match Name::parse(file.location.filename().unwrap_or_default()) {
                Some(Name::Commit { version }) => {
                    commits.insert(version, file.last_modified.timestamp_micros());
                }
                Some(Name::Checkpoint { version, kind }) => {
                    single.insert((version, kind), file.location);
                }
                Some(Name::Part { version, part, of }) => {
                    parts.entry((version, of)).or_default().insert(part, file.location);
                }
                None => {}
            }
        }
        let single = single.into_iter().map(|((version, kind), path)| Checkpoint {
            version,
            kind,
            files: vec![path],
        });
        let whole = parts.into_iter().filter(|((_, of), found)| found.len() == *of);
        let multi_part = whole.map(|((version, _), found)| Checkpoint {
            version,
            kind: CheckpointKind::MultiPart,
            files: found.into_values().collect(),
        });
        let mut checkpoints: Vec<Checkpoint> = single.chain(multi_part).collect();
        checkpoints.sort_by_key(|checkpoint| (checkpoint.version, checkpoint.kind));
        checkpoints.dedup_by_key(|checkpoint| checkpoint.version);
        let mut latest_us = i64::MIN;
        let commits = commits.into_iter().map(|(version, modified_us)| {
            latest_us = latest_us.max(modified_us);
            Commit {
                version,
                committed_at_us: latest_us,
            }
        });
        Listing {
            commits: commits.collect(),
            checkpoints,
        }
    }

    /// Every commit that is there, ascending.
    pub fn commits(&self) -> &[Commit] {
        &self.commits
    }

    /// The whole checkpoints, ascending, one per version.
    pub fn checkpoints(&self) -> &[Checkpoint] {
        &self.checkpoints
    }

    /// The newest version; `None` when there is no table.
    pub fn newest(&self) -> Option<i64> {
        let commit = self.commits.last().map(|commit| commit.version);
        let checkpoint = self.checkpoints.last().map(|checkpoint| checkpoint.version);
        commit.max(checkpoint)
    }

    /// The oldest version that can be read: the first, or after a clean-up that of the oldest checkpoint.
    pub fn oldest_readable(&self) -> Option<i64> {
        match self.commits.first() {
            Some(first) if first.version == 0 => Some(0),
            _ => self.checkpoints.first().map(|checkpoint| checkpoint.version),
        }
    }

    /// The commits whose version can be read, ascending.
    pub fn readable(&self) -> &[Commit] {
        let oldest = self.oldest_readable().unwrap_or(i64::MAX);
        let from = self.commits.partition_point(|commit| commit.version < oldest);
        &self.commits[from..]
    }

    /// The last readable version committed at or before an instant (microseconds since the epoch).
    pub fn version_at(&self, instant_us: i64) -> Option<i64> {
        let readable = self.readable();
        let after = readable.partition_point(|commit| commit.committed_at_us <= instant_us);
        readable[..after].last().map(|commit| commit.version)
    }

    /// The newest whole checkpoint that is no newer than `version`.
    pub fn checkpoint_until(&self, version: i64) -> Option<&Checkpoint> {
        let after = self
            .checkpoints
            .partition_point(|checkpoint| checkpoint.version <= version);
        self.checkpoints[..after].last()
    }

    /// From which files to read a version, the newest when `at` is `None`.
    pub fn segment(&self, at: Option<i64>) -> Result<Segment, Unreadable> {
        let newest = self.newest().ok_or(Unreadable::NoTable)?;
        let oldest = self.oldest_readable().ok_or_else(|| Unreadable::NoCheckpoint {
            first: self.commits.first().map_or(0, |commit| commit.version),
        })?;
        let version = at.unwrap_or(newest);
        if !(oldest..=newest).contains(&version) {
            return Err(Unreadable::NoVersion { oldest, newest });
        }
        let checkpoint = self.checkpoint_until(version).cloned();
        let segment = Segment { version, checkpoint };
        let from = self
            .commits
            .partition_point(|commit| commit.version < segment.first_commit());
        let there = self.commits[from..].iter().map(|commit| commit.version);
        let mut expected = segment.first_commit()..=version;
        match expected.find({
            let mut there = there;
            move |wanted| there.next() != Some(*wanted)
        }) {
            Some(version) => Err(Unreadable::Missing { version, newest }),
            None => Ok(segment),
        }
    }
}

/// What a file's name says.
enum Name {
    Commit { version: i64 },
    Checkpoint { version: i64, kind: CheckpointKind },
    Part { version: i64, part: usize, of: usize },
}

impl Name {
    fn parse(name: &str) -> Option<Name> {
        let mut words = name.split('.');
        let version = number(words.next()?)?;
        Some(match words.collect::<Vec<_>>().as_slice() {
            ["json"] => Name::Commit { version },
            ["checkpoint", "parquet"] => Name::Checkpoint {
                version,
                kind: CheckpointKind::Classic,
            },
            ["checkpoint", _, "parquet"] => Name::Checkpoint {
                version,
                kind: CheckpointKind::UuidParquet,
            },
            ["checkpoint", _, "json"] => Name::Checkpoint {
                version,
                kind: CheckpointKind::UuidJson,
            },
            ["checkpoint", part, of, "parquet"] => Name::Part {
                version,
                part: usize::try_from(number(part)?).ok()?,
                of: usize::try_from(number(of)?).ok()?,
            },
            // `x.y.compacted.json` only repeats what the commits say; `.crc` and the rest are not needed.
            _ => return None,
        })
    }
}

/// Digits alone: `parse` would take a sign as well.
fn number(digits: &str) -> Option<i64> {
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(files: &[(&str, i64)]) -> Listing {
        Listing::from_files(files.iter().map(|(name, modified_us)| ObjectMeta {
            location: Path::from(format!("t/_delta_log/{name}")),
            last_modified: chrono_time(*modified_us),
            size: 1,
            e_tag: None,
            version: None,
        }))
    }

    fn chrono_time(us: i64) -> chrono::DateTime<chrono::Utc> {
        chrono::DateTime::from_timestamp_micros(us).unwrap()
    }

    fn commit(version: i64) -> String {
        format!("{version:020}.json")
    }

    #[test]
    fn an_instant_means_the_last_version_at_or_before_it_and_times_never_fall() {
        let names: Vec<String> = (0..4).map(commit).collect();
        let times = [100, 300, 200, 400];
        let files: Vec<(&str, i64)> = names.iter().map(String::as_str).zip(times).collect();
        let listing = listing(&files);
        let instants: Vec<i64> = listing.commits().iter().map(|commit| commit.committed_at_us).collect();
        assert_eq!(instants, [100, 300, 300, 400]);
        for (us, version) in [
            (99, None),
            (100, Some(0)),
            (299, Some(0)),
            (300, Some(2)),
            (1 << 50, Some(3)),
        ] {
            assert_eq!(listing.version_at(us), version, "{us}");
        }
    }

    #[test]
    fn a_cleaned_log_begins_at_its_oldest_checkpoint() {
        let (ten, eleven, twelve) = (commit(10), commit(11), commit(12));
        let part = |part: i64, of: i64| format!("{:020}.checkpoint.{part:010}.{of:010}.parquet", 11);
        let (one, two, odd) = (part(1, 2), part(2, 2), part(1, 3));
        let files = [
            (&*ten, 1),
            (&*eleven, 2),
            (&*twelve, 3),
            (&*one, 4),
            (&*two, 5),
            (&*odd, 6),
        ];
        let found = listing(&files);
        assert_eq!((found.oldest_readable(), found.newest()), (Some(11), Some(12)));
        assert_eq!(found.readable().len(), 2);
        assert_eq!(
            found.segment(Some(10)),
            Err(Unreadable::NoVersion { oldest: 11, newest: 12 })
        );
        let segment = found.segment(None).unwrap();
        assert_eq!((segment.version, segment.first_commit()), (12, 12));
        let checkpoint = segment.checkpoint.unwrap();
        assert_eq!(
            (checkpoint.kind, checkpoint.files.len()),
            (CheckpointKind::MultiPart, 2)
        );
        // Half of a checkpoint is none.
        assert_eq!(
            listing(&files[..4]).segment(None),
            Err(Unreadable::NoCheckpoint { first: 10 })
        );
    }

    #[test]
    fn the_preferred_checkpoint_of_a_version_is_taken_and_other_files_are_not() {
        let base = format!("{:020}", 3);
        let names = [
            commit(3),
            format!("{base}.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json"),
            format!("{base}.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.parquet"),
            format!("{base}.{base}.compacted.json"),
            format!("{base}.crc"),
            "_last_checkpoint".to_owned(),
            format!("{base}.json.tmp"),
            "+3.json".to_owned(),
        ];
        let files: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 0)).collect();
        let found = listing(&files);
        assert_eq!(found.commits().len(), 1);
        assert_eq!(found.checkpoints().len(), 1);
        assert_eq!(found.checkpoints()[0].kind, CheckpointKind::UuidParquet);
    }

    #[test]
    fn a_hole_is_named() {
        let names = [commit(0), commit(1), commit(3)];
        let files: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 0)).collect();
        let found = listing(&files);
        assert_eq!(found.segment(None), Err(Unreadable::Missing { version: 2, newest: 3 }));
        assert_eq!(found.segment(Some(1)).map(|segment| segment.version), Ok(1));
        assert_eq!(Listing::default().segment(None), Err(Unreadable::NoTable));
    }
}
