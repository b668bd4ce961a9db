//! Names of segment files. They say which files are the log: a start reads the folder and nothing else.
//!
//! `<base offset>.log` is a segment as it was appended to. `<base offset>-<end offset>-<generation>.log` is what the
//! cleaner made of all older files whose base offsets lie in `[base, end)`: the rename that gives it this name replaces
//! all of them in one step, and what is still there of them is deleted, now or at the next start.

use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentName {
    pub(super) base_offset: i64,
    /// Behind the offsets that the file stands for, whether or not it still has records there.
    pub(super) end_offset: i64,
    /// 0 for what was appended; each pass of the cleaner has a later one.
    pub(super) generation: u64,
}

impl SegmentName {
    pub(super) fn appended(base_offset: i64) -> Self {
        Self {
            base_offset,
            end_offset: base_offset.saturating_add(1),
            generation: 0,
        }
    }

    pub(super) fn parse(file_name: &str) -> Option<Self> {
        let stem = file_name.strip_suffix(".log")?;
        let mut words = stem.split('-');
        let base_offset = words.next()?.parse().ok().filter(|&base: &i64| base >= 0)?;
        let Some(end) = words.next() else {
            return Some(Self::appended(base_offset));
        };
        let (end_offset, generation) = (end.parse().ok()?, words.next()?.parse().ok()?);
        let is_whole = words.next().is_none() && generation > 0 && end_offset > base_offset;
        is_whole.then_some(Self {
            base_offset,
            end_offset,
            generation,
        })
    }

    pub(super) fn path(&self, dir: &Path) -> PathBuf {
        let Self {
            base_offset,
            end_offset,
            generation,
        } = self;
        dir.join(match generation {
            0 => format!("{base_offset:020}.log"),
            _ => format!("{base_offset:020}-{end_offset:020}-{generation}.log"),
        })
    }

    fn replaces(&self, other: &Self) -> bool {
        self.generation > other.generation && (self.base_offset..self.end_offset).contains(&other.base_offset)
    }
}

/// The files that are the log, by base offset, and those that have been replaced.
pub(super) fn split_replaced(names: Vec<SegmentName>) -> (Vec<SegmentName>, Vec<SegmentName>) {
    let cleaned: Vec<_> = names.iter().copied().filter(|name| name.generation > 0).collect();
    let (mut live, replaced): (Vec<_>, Vec<_>) = names
        .into_iter()
        .partition(|name| !cleaned.iter().any(|other| other.replaces(name)));
    live.sort_unstable();
    (live, replaced)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let cleaned = SegmentName {
            base_offset: 7,
            end_offset: 90,
            generation: 12,
        };
        for name in [SegmentName::appended(0), SegmentName::appended(i64::MAX / 4), cleaned] {
            let path = name.path(Path::new("d"));
            assert_eq!(
                SegmentName::parse(path.file_name().unwrap().to_str().unwrap()),
                Some(name)
            );
        }
        for other in [
            "x.log",
            "1-2.log",
            "1-2-0.log",
            "2-2-1.log",
            "1-2-3-4.log",
            "-1.log",
            "1.index",
            "1-2-3.cleaned",
        ] {
            assert_eq!(SegmentName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_later_generation_replaces_what_it_was_made_of_and_nothing_else() {
        let cleaned = |base_offset, end_offset, generation| SegmentName {
            base_offset,
            end_offset,
            generation,
        };
        let first = [cleaned(0, 30, 1), SegmentName::appended(30)];
        let old = [
            SegmentName::appended(0),
            SegmentName::appended(10),
            SegmentName::appended(20),
        ];
        let (live, replaced) = split_replaced([first.as_slice(), &old].concat());
        assert_eq!((live, replaced), (first.to_vec(), old.to_vec()));
        let second = [cleaned(0, 40, 2), SegmentName::appended(40)];
        let (live, mut replaced) = split_replaced([&[SegmentName::appended(40)], &first[..], &second[..1]].concat());
        replaced.sort_unstable();
        assert_eq!((live, replaced), (second.to_vec(), first.to_vec()));
    }
}
