//! What holes and repetitions mean, given what the commits recorded. Pure.
//!
//! Kafka leaves offsets out: transaction markers, aborted and compacted records. A commit of ours records how many
//! records it was given in its spans. If that many rows and letters are there, its holes never were records; if fewer,
//! some of them were.

use model::{Span, TopicPartition};

use super::coverage::{Marks, Ranges};
use super::report::{Finding, Findings, Offsets, PartitionReport};
use super::state::{CommitRecord, TableState};

/// What is known of one partition.
pub(crate) struct Evidence {
    pub(crate) place: TopicPartition,
    /// What is swept.
    pub(crate) span: Span,
    start: i64,
    recorded: i64,
    gaps: Vec<Span>,
    /// The commits' spans of this partition in order: index of the commit, offsets with a row or letter.
    commits: Vec<(Span, usize, u64)>,
    rows: u64,
    letters: u64,
    gap_offsets: u64,
    doubled: Ranges,
    doubled_letters: Ranges,
    both: Ranges,
    in_gap: Ranges,
    beyond_rows: Ranges,
    beyond_letters: Ranges,
    holes: Vec<Span>,
}

impl Evidence {
    /// `rows`: least and greatest offset of the partition's rows and their number; `letters`: the same by file.
    pub(crate) fn new(
        place: TopicPartition,
        recorded: i64,
        rows: Option<(i64, i64, u64)>,
        letters: impl Iterator<Item = (i64, i64, u64)>,
        gaps: Vec<Span>,
        state: &TableState,
    ) -> Self {
        let mut commits = Vec::new();
        for (index, commit) in state.commits.iter().enumerate() {
            let spans = commit.spans.iter().filter(|(other, _)| *other == place);
            commits.extend(spans.map(|(_, span)| (*span, index, 0)));
        }
        commits.sort_by_key(|(span, ..)| (span.from, span.to));
        let is_whole = state.commits.first().is_some_and(|commit| commit.version <= 1);
        let (mut letters_from, mut letters_to) = (i64::MAX, i64::MIN);
        for (least, greatest, _) in letters {
            letters_from = letters_from.min(least);
            letters_to = letters_to.max(greatest + 1);
        }
        let rows_from = rows.map_or(i64::MAX, |(least, ..)| least);
        let rows_to = rows.map_or(i64::MIN, |(_, greatest, _)| greatest + 1);
        let committed = commits.first().map_or(i64::MAX, |(span, ..)| span.from);
        let gaps_from = gaps.iter().map(|gap| gap.from).min().unwrap_or(i64::MAX);
        // With the whole log at hand, the first commit says where the table begins; letters before it are of a table
        // that was there earlier.
        let start = match is_whole {
            true => committed.min(rows_from),
            false => committed.min(rows_from).min(letters_from).min(gaps_from),
        }
        .min(recorded);
        Self {
            span: Span::new(start, recorded.max(rows_to).max(letters_to)),
            place,
            start,
            recorded,
            gaps,
            commits,
            rows: rows.map_or(0, |(_, _, count)| count),
            letters: 0,
            gap_offsets: 0,
            doubled: Ranges::default(),
            doubled_letters: Ranges::default(),
            both: Ranges::default(),
            in_gap: Ranges::default(),
            beyond_rows: Ranges::default(),
            beyond_letters: Ranges::default(),
            holes: Vec::new(),
        }
    }

    /// Takes over what one pass has seen of a window.
    pub(crate) fn take(&mut self, marks: &mut Marks) {
        let window = marks.span;
        for offset in window.from.max(self.recorded)..window.to {
            if marks.has_row(offset) {
                self.beyond_rows.add(offset);
            } else if marks.has_letter(offset) {
                self.beyond_letters.add(offset);
            }
        }
        let holes = marks.holes();
        for (span, _, found) in &mut self.commits {
            *found += marks.present_in(*span);
        }
        self.letters += marks.letters();
        append(&mut self.doubled, &marks.doubled);
        append(&mut self.doubled_letters, &marks.doubled_letters);
        append(&mut self.both, &marks.both);
        for gap in &self.gaps {
            let (from, to) = (gap.from.max(window.from), gap.to.min(window.to));
            for offset in from..to {
                match marks.has_row(offset) || marks.has_letter(offset) {
                    true => self.in_gap.add(offset),
                    false => self.gap_offsets += 1,
                }
            }
        }
        for hole in holes.ranges {
            self.holes.extend(without(hole, &self.gaps));
        }
    }

    fn offsets(&self, span: Span) -> Offsets {
        Offsets {
            topic: self.place.topic.to_string(),
            partition: self.place.partition,
            from: span.from,
            to: span.to,
            element: None,
        }
    }
}

/// Findings and figures of all partitions, when every pass is over.
pub(crate) fn classify(all: Vec<Evidence>, commits: &[CommitRecord], findings: &mut Findings) -> Vec<PartitionReport> {
    let mut found = vec![0; commits.len()];
    let mut seen_whole = vec![0; commits.len()];
    for (_, index, count) in all.iter().flat_map(|evidence| &evidence.commits) {
        found[*index] += count;
        seen_whole[*index] += 1;
    }
    let short: Vec<bool> = commits
        .iter()
        .zip(found.iter().zip(&seen_whole))
        .map(|(commit, (found, spans))| {
            *spans == commit.spans.len() && commit.records.is_some_and(|records| *found < records)
        })
        .collect();
    for (commit, (found, short)) in commits.iter().zip(found.iter().zip(&short)) {
        if let (Some(recorded), true) = (commit.records, *short) {
            findings.add(Finding::CommitShort {
                version: commit.version,
                recorded,
                found: *found,
            });
        }
    }
    all.into_iter()
        .map(|evidence| report(&evidence, commits, &short, findings))
        .collect()
}

fn report(evidence: &Evidence, commits: &[CommitRecord], short: &[bool], findings: &mut Findings) -> PartitionReport {
    let (mut skipped, mut unexplained, mut lost) = (0, 0, 0);
    for hole in &evidence.holes {
        // Beyond the recorded offset nothing is missing.
        let hole = Span {
            from: hole.from,
            to: hole.to.min(evidence.recorded),
        };
        let mut at = hole.from;
        while at < hole.to {
            let after = evidence.commits.partition_point(|(span, ..)| span.to <= at);
            let (to, meaning) = match evidence.commits.get(after) {
                Some((span, index, _)) if span.from <= at => {
                    let told = commits[*index].records.is_some();
                    (
                        span.to,
                        if short[*index] {
                            Some(true)
                        } else {
                            told.then_some(false)
                        },
                    )
                }
                Some((span, ..)) => (span.from, None),
                None => (hole.to, None),
            };
            let part = Span::new(at, to.min(hole.to));
            let count = (part.to - part.from) as u64;
            match meaning {
                Some(true) => {
                    lost += count;
                    findings.add(Finding::Lost(evidence.offsets(part)));
                }
                Some(false) => skipped += count,
                None => {
                    unexplained += count;
                    findings.add(Finding::Unexplained(evidence.offsets(part)));
                }
            }
            at = part.to;
        }
    }
    for (ranges, finding) in [
        (&evidence.doubled, Finding::Doubled as fn(Offsets) -> Finding),
        (&evidence.doubled_letters, Finding::DoubledLetters),
        (&evidence.both, Finding::RowAndLetter),
        (&evidence.in_gap, Finding::RowInGap),
        (&evidence.beyond_rows, Finding::BeyondRecorded),
        (&evidence.beyond_letters, Finding::LettersAhead),
    ] {
        for span in &ranges.ranges {
            findings.add(finding(evidence.offsets(*span)));
        }
    }
    PartitionReport {
        topic: evidence.place.topic.to_string(),
        partition: evidence.place.partition,
        start: evidence.start,
        recorded: evidence.recorded,
        rows: evidence.rows,
        letters: evidence.letters,
        gap_offsets: evidence.gap_offsets,
        skipped,
        unexplained,
        lost,
        doubled: evidence.doubled.offsets,
        compared: None,
    }
}

/// What is left of a hole when the gaps are taken out.
fn without(hole: Span, gaps: &[Span]) -> Vec<Span> {
    let mut left = vec![hole];
    for gap in gaps {
        left = left
            .into_iter()
            .flat_map(|part| [(part.from, part.to.min(gap.from)), (part.from.max(gap.to), part.to)])
            .filter(|(from, to)| from < to)
            .map(|(from, to)| Span::new(from, to))
            .collect();
        left.dedup();
    }
    left
}

fn append(to: &mut Ranges, from: &Ranges) {
    to.offsets += from.offsets;
    to.ranges.extend(&from.ranges);
}
