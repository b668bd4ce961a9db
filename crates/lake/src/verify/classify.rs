//! What holes and repetitions mean, given what the commits recorded. Pure.
//!
//! Kafka leaves offsets out: transaction markers, aborted and compacted records. A commit of ours records how many
//! records it was given in its spans. If that many rows and dead letters are there, its holes never were records; if
//! fewer, some of them were. Where a message holds several elements, the commit records how many rows and dead letters
//! they make, and these are counted.

use std::collections::{BTreeMap, BTreeSet};

use model::{Span, TopicPartition};
use roaring::RoaringTreemap;

use super::coverage::{Found, Marks, Ranges};
use super::finding::{Finding, Offsets};
use super::places::Extent;
use super::removed::{RemovedOffsets, RemovedRows};
use super::report::{Findings, PartitionReport};
use super::state::CommitRecord;
use crate::table::commits::CommitSpan;

/// A record, or a range of messages, that was removed on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Erased {
    pub(crate) span: Span,
    /// `None`: whole messages.
    pub(crate) element: Option<u32>,
}

/// What the lake says of one partition beside its rows.
/// Both in the order of their offsets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exceptions {
    pub(crate) gaps: Vec<Span>,
    pub(crate) erased: Vec<Erased>,
    /// Offsets of the longest erasure.
    pub(crate) erased_max: i64,
}

impl Exceptions {
    pub(crate) fn is_gap(&self, offset: i64) -> bool {
        self.gaps.iter().any(|gap| (gap.from..gap.to).contains(&offset))
    }

    /// Alone, or with its whole message.
    pub(crate) fn is_erased(&self, offset: i64, element: Option<u32>) -> bool {
        let starts = self.erased.partition_point(|erased| erased.span.from <= offset);
        let before = self.erased[..starts].iter().rev();
        let mut near = before.take_while(|erased| erased.span.from + self.erased_max > offset);
        near.any(|erased| erased.span.to > offset && (erased.element.is_none() || erased.element == element))
    }
}

/// A commit's span of the partition, with what was found of it.
struct Covered {
    span: Span,
    /// Index of the commit.
    commit: usize,
    found: Found,
    /// Messages of several elements were erased whole: how many records that were is not known.
    is_uncounted: bool,
}

/// Where reading of a partition started, by the commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// It is recorded.
    Recorded(i64),
    /// The partition is not among those that the topic had when its starts were recorded: it was added later, and is
    /// read from offset 0.
    New,
    /// A commit of an earlier release, which recorded none, or the commit that says is gone.
    Unknown,
}

impl Start {
    fn of(place: &TopicPartition, commits: &[CommitRecord]) -> Self {
        let names = |commit: &CommitRecord, of: fn(&TopicPartition, &TopicPartition) -> bool| {
            commit.spans.iter().any(|span| of(&span.place, place))
        };
        let is_of_topic = |span: &TopicPartition, place: &TopicPartition| span.topic == place.topic;
        let topic_starts = commits
            .iter()
            .find(|commit| commit.is_start && names(commit, is_of_topic));
        let first = commits.iter().find(|commit| names(commit, |span, place| span == place));
        match (topic_starts, first) {
            (Some(starts), Some(first)) if first.version > starts.version => Start::New,
            (Some(_), None) => Start::New,
            (_, Some(first)) if first.is_start => {
                let mut spans = first.spans.iter().filter(|span| span.place == *place);
                spans
                    .next()
                    .map_or(Start::Unknown, |span| Start::Recorded(span.span.from))
            }
            _ => Start::Unknown,
        }
    }
}

/// What is known of one partition.
pub(crate) struct Evidence {
    pub(crate) place: TopicPartition,
    /// What is swept.
    pub(crate) span: Span,
    pub(crate) recorded: i64,
    exceptions: Exceptions,
    erased_elements: BTreeSet<(i64, u32)>,
    /// What other programs took out.
    removed: Vec<RemovedOffsets>,
    /// Of them what is not there, by commit.
    missing_by: BTreeMap<usize, Ranges>,
    /// In the order of their offsets.
    commits: Vec<Covered>,
    start: Start,
    rows: Option<Extent>,
    report: PartitionReport,
    doubled: Ranges,
    doubled_dead_letters: Ranges,
    both: Ranges,
    in_gap: Ranges,
    still_there: Ranges,
    missing: Ranges,
    beyond_rows: Ranges,
    beyond_dead_letters: Ranges,
    holes: Vec<Span>,
}

impl Evidence {
    /// `rows` and `dead_letters`: where the partition's lie.
    pub(crate) fn new(
        place: TopicPartition,
        recorded: i64,
        rows: Option<Extent>,
        dead_letters: Option<Extent>,
        exceptions: Exceptions,
        removed: Vec<RemovedOffsets>,
        all_commits: &[CommitRecord],
    ) -> Self {
        let mut commits: Vec<Covered> = Vec::new();
        for (index, commit) in all_commits.iter().enumerate() {
            let covered = commit.spans.iter().filter(|span| span.place == place);
            commits.extend(covered.filter(|span| !span.is_replayed()).map(|span| Covered {
                span: span.span,
                commit: index,
                found: Found::default(),
                is_uncounted: false,
            }));
        }
        commits.sort_by_key(|covered| (covered.span.from, covered.span.to));
        let is_whole = all_commits.first().is_some_and(|commit| commit.version <= 1);
        let (rows_from, rows_to) = bounds(rows);
        let (dead_from, dead_to) = bounds(dead_letters);
        let committed = commits.first().map_or(i64::MAX, |covered| covered.span.from);
        let gaps_from = exceptions.gaps.iter().map(|gap| gap.from).min().unwrap_or(i64::MAX);
        let start_of_reading = Start::of(&place, all_commits);
        // With the whole log at hand, or a recorded start, the first commit says where the table begins; dead letters
        // before it are of a table that was there earlier.
        let start = match start_of_reading {
            Start::New => 0,
            Start::Recorded(from) => from.min(committed).min(rows_from),
            Start::Unknown if is_whole => committed.min(rows_from),
            Start::Unknown => committed.min(rows_from).min(dead_from).min(gaps_from),
        }
        .min(recorded);
        let elements = exceptions
            .erased
            .iter()
            .filter_map(|erased| Some((erased.span, erased.element?)));
        Self {
            span: Span::new(start, recorded.max(rows_to).max(dead_to)),
            report: PartitionReport::new(&place, start, recorded),
            recorded,
            erased_elements: elements.map(|(span, element)| (span.from, element)).collect(),
            exceptions,
            removed,
            missing_by: BTreeMap::new(),
            commits,
            start: start_of_reading,
            rows,
            place,
            doubled: Ranges::default(),
            doubled_dead_letters: Ranges::default(),
            both: Ranges::default(),
            in_gap: Ranges::default(),
            still_there: Ranges::default(),
            missing: Ranges::default(),
            beyond_rows: Ranges::default(),
            beyond_dead_letters: Ranges::default(),
            holes: Vec::new(),
        }
    }

    /// Takes over what one pass has seen of a window.
    pub(crate) fn take(&mut self, marks: &mut Marks) {
        marks.finish(self.recorded, |offset, element| {
            self.erased_elements.contains(&(offset, element)) || self.is_removed(offset, Some(element))
        });
        let window = marks.span;
        for offset in window.from.max(self.recorded)..window.to {
            if marks.is_row(offset) {
                self.beyond_rows.add(offset);
            } else if marks.is_there(offset) {
                self.beyond_dead_letters.add(offset);
            }
        }
        let holes = marks.holes();
        for covered in &mut self.commits {
            let found = marks.found_in(covered.span);
            covered.found.messages += found.messages;
            covered.found.records += found.records;
        }
        self.report.messages += marks.found_in(window).messages;
        self.report.letters += marks.dead_letters();
        self.doubled.append(&marks.doubled);
        self.doubled_dead_letters.append(&marks.doubled_dead_letters);
        self.both.append(&marks.both);
        self.missing.append(&marks.missing);
        for gap in &self.exceptions.gaps {
            for offset in gap.from.max(window.from)..gap.to.min(window.to) {
                match marks.is_there(offset) {
                    true => self.in_gap.add(offset),
                    false => self.report.gap_offsets += 1,
                }
            }
        }
        self.take_erased(marks);
        self.take_removed(marks);
        let whole: Vec<Span> = self
            .exceptions
            .erased
            .iter()
            .filter(|erased| erased.element.is_none())
            .map(|erased| erased.span)
            .collect();
        for (hole, _) in holes.ranges {
            let left = without(hole, &self.exceptions.gaps);
            let left = left.into_iter().flat_map(|part| without(part, &whole));
            let left: Vec<Span> = left.flat_map(|part| self.without_removed(part)).collect();
            self.holes.extend(left);
        }
    }

    /// A record that was removed on purpose counts as found.
    fn take_erased(&mut self, marks: &Marks) {
        let window = marks.span;
        for erased in &self.exceptions.erased {
            for offset in erased.span.from.max(window.from)..erased.span.to.min(window.to) {
                let is_there = match erased.element {
                    None => marks.is_there(offset),
                    Some(element) => marks.is_element_there(offset, element),
                };
                if is_there {
                    match erased.element {
                        None => self.still_there.add(offset),
                        Some(element) => self.still_there.add_element(offset, element),
                    }
                    continue;
                }
                self.report.erased += 1;
                let after = self.commits.partition_point(|covered| covered.span.to <= offset);
                let covered = self.commits.get_mut(after);
                if let Some(covered) = covered.filter(|covered| covered.span.from <= offset) {
                    covered.found.records += 1;
                    covered.is_uncounted |= erased.element.is_none();
                }
            }
        }
    }

    /// A row that another program took out is accounted for, and reported as such.
    fn take_removed(&mut self, marks: &Marks) {
        let window = marks.span;
        for removed in std::mem::take(&mut self.removed) {
            for offset in within(&removed.offsets, window) {
                let is_there = match removed.element {
                    None => marks.is_there(offset),
                    Some(element) => marks.is_element_there(offset, element),
                };
                if is_there || self.exceptions.is_erased(offset, removed.element) {
                    continue;
                }
                self.report.removed += 1;
                let missing = self.missing_by.entry(removed.by).or_default();
                match removed.element {
                    None => missing.add(offset),
                    Some(element) => missing.add_element(offset, element),
                }
                if let Some(covered) = self.covered_mut(offset) {
                    covered.found.records += 1;
                }
            }
            self.removed.push(removed);
        }
    }

    /// The commit's span that an offset lies in.
    fn covered_mut(&mut self, offset: i64) -> Option<&mut Covered> {
        let after = self.commits.partition_point(|covered| covered.span.to <= offset);
        let covered = self.commits.get_mut(after);
        covered.filter(|covered| covered.span.from <= offset)
    }

    fn is_removed(&self, offset: i64, element: Option<u32>) -> bool {
        let mut removed = self.removed.iter().filter(|removed| removed.element == element);
        u64::try_from(offset).is_ok_and(|offset| removed.any(|removed| removed.offsets.contains(offset)))
    }

    /// What is left of a hole when messages are left out of which rows were removed.
    fn without_removed(&self, hole: Span) -> Vec<Span> {
        let removed = self.removed.iter();
        let spans =
            removed.flat_map(|removed| within(&removed.offsets, hole).map(|offset| Span::new(offset, offset + 1)));
        let mut spans: Vec<Span> = spans.collect();
        spans.sort_unstable_by_key(|span| span.from);
        let (mut left, mut at) = (Vec::new(), hole.from);
        for span in spans {
            if at < span.from {
                left.push(Span::new(at, span.from));
            }
            at = at.max(span.to);
        }
        if at < hole.to {
            left.push(Span::new(at, hole.to));
        }
        left
    }

    fn offsets(&self, span: Span) -> Offsets {
        Offsets::of(&self.place, span)
    }
}

fn bounds(extent: Option<Extent>) -> (i64, i64) {
    extent.map_or((i64::MAX, i64::MIN), |extent| (extent.least, extent.greatest + 1))
}

/// What a commit's count says, when every pass is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    /// As many as it was given, or more.
    Agrees,
    Short,
    /// It recorded none, or it cannot be compared.
    Unknown,
}

/// Findings and figures of all partitions, when every pass is over, and how many messages held no element.
pub(crate) fn classify(
    all: Vec<Evidence>,
    commits: &[CommitRecord],
    removed: &RemovedRows,
    findings: &mut Findings,
) -> (Vec<PartitionReport>, u64) {
    let (counts, empty) = compare_counts(&all, commits, findings);
    let reports = all
        .into_iter()
        .map(|evidence| report(evidence, &counts, commits, removed, findings));
    (reports.collect(), empty)
}

/// Each commit's count, and the messages that the counts say held no element.
fn compare_counts(all: &[Evidence], commits: &[CommitRecord], findings: &mut Findings) -> (Vec<Count>, u64) {
    let mut found = vec![Found::default(); commits.len()];
    let mut spans_seen = vec![0; commits.len()];
    let mut is_uncounted = vec![false; commits.len()];
    for covered in all.iter().flat_map(|evidence| &evidence.commits) {
        found[covered.commit].records += covered.found.records;
        found[covered.commit].messages += covered.found.messages;
        spans_seen[covered.commit] += 1;
        // A message that is one record is counted by its erasure; of others nobody knows how many they were.
        is_uncounted[covered.commit] |= covered.is_uncounted && commits[covered.commit].elements.is_some();
    }
    let replayed = replayed(all, commits);
    let (mut counts, mut empty) = (Vec::with_capacity(commits.len()), 0);
    for (index, commit) in commits.iter().enumerate() {
        let is_seen_whole = spans_seen[index] == commit.spans.iter().filter(|span| !span.is_replayed()).count();
        let count = match commit.elements.or(commit.records) {
            Some(recorded) if is_seen_whole && !is_uncounted[index] => {
                let recorded = recorded.saturating_add_signed(replayed[index]);
                if found[index].records < recorded {
                    findings.add(Finding::CommitShort {
                        version: commit.version,
                        recorded,
                        found: found[index].records,
                    });
                    Count::Short
                } else {
                    Count::Agrees
                }
            }
            Some(_) if !is_uncounted[index] => Count::Agrees,
            _ => Count::Unknown,
        };
        if let (Count::Agrees, true, Some(records), Some(_)) = (count, is_seen_whole, commit.records, commit.elements) {
            empty += records.saturating_sub(found[index].messages);
        }
        counts.push(count);
    }
    (counts, empty)
}

/// By how many records a later replay changed each commit's count: a message that was one dead letter became the rows of
/// its elements.
fn replayed(all: &[Evidence], commits: &[CommitRecord]) -> Vec<i64> {
    let mut changes = vec![0; commits.len()];
    let spans = commits.iter().flat_map(|commit| &commit.spans);
    for CommitSpan { place, span, elements } in spans {
        let (Some(elements), Some(evidence)) = (elements, all.iter().find(|evidence| evidence.place == *place)) else {
            continue;
        };
        let after = evidence.commits.partition_point(|covered| covered.span.to <= span.from);
        if let Some(covered) = evidence
            .commits
            .get(after)
            .filter(|covered| covered.span.from <= span.from)
        {
            changes[covered.commit] += i64::try_from(*elements).unwrap_or(i64::MAX) - 1;
        }
    }
    changes
}

fn report(
    mut evidence: Evidence,
    counts: &[Count],
    commits: &[CommitRecord],
    removed: &RemovedRows,
    findings: &mut Findings,
) -> PartitionReport {
    explain_holes(&mut evidence, counts, findings);
    follow_chain(&evidence, commits, findings);
    let ranges = [
        (&evidence.doubled, Finding::Doubled as fn(Offsets) -> Finding),
        (&evidence.doubled_dead_letters, Finding::DoubledLetters),
        (&evidence.both, Finding::RowAndLetter),
        (&evidence.in_gap, Finding::RowInGap),
        (&evidence.still_there, Finding::ErasedPresent),
        (&evidence.missing, Finding::Lost),
        (&evidence.beyond_rows, Finding::BeyondRecorded),
        (&evidence.beyond_dead_letters, Finding::LettersAhead),
    ];
    for (ranges, finding) in ranges {
        for (span, element) in &ranges.ranges {
            let mut offsets = evidence.offsets(*span);
            offsets.element = *element;
            findings.add(finding(offsets));
        }
    }
    for (by, ranges) in &evidence.missing_by {
        let removal = removed.commit(*by);
        for (span, element) in &ranges.ranges {
            let mut offsets = evidence.offsets(*span);
            offsets.element = *element;
            findings.add(Finding::RemovedRows {
                offsets,
                version: removal.version,
                operation: removal.operation.clone(),
                by: removal.by.clone(),
            });
        }
    }
    let mut report = evidence.report;
    report.rows = evidence.rows.map_or(0, |rows| rows.records);
    report.lost += evidence.missing.records;
    report.doubled = evidence.doubled.records;
    report
}

/// Each hole by the count of the commit whose span it lies in.
fn explain_holes(evidence: &mut Evidence, counts: &[Count], findings: &mut Findings) {
    for hole in std::mem::take(&mut evidence.holes) {
        // Beyond the recorded offset nothing is missing.
        let to = hole.to.min(evidence.recorded);
        let mut at = hole.from;
        while at < to {
            let after = evidence.commits.partition_point(|covered| covered.span.to <= at);
            let (end, count) = match evidence.commits.get(after) {
                Some(covered) if covered.span.from <= at => (covered.span.to, counts[covered.commit]),
                Some(covered) => (covered.span.from, Count::Unknown),
                None => (to, Count::Unknown),
            };
            let part = Span::new(at, end.min(to));
            let offsets = (part.to - part.from) as u64;
            match count {
                Count::Short => {
                    evidence.report.lost += offsets;
                    findings.add(Finding::Lost(evidence.offsets(part)));
                }
                Count::Agrees => evidence.report.skipped += offsets,
                Count::Unknown => {
                    evidence.report.unexplained += offsets;
                    findings.add(Finding::Unexplained(evidence.offsets(part)));
                }
            }
            at = part.to;
        }
    }
}

/// Each commit starts where the one before it ended, and the first where reading started: the commit decision demands it,
/// so what breaks it was not committed by it.
fn follow_chain(evidence: &Evidence, commits: &[CommitRecord], findings: &mut Findings) {
    let is_link = |covered: &&Covered| !covered.span.is_empty() || commits[covered.commit].is_start;
    let mut ended = match evidence.start {
        Start::Recorded(from) => Some(from),
        Start::New => Some(0),
        Start::Unknown => None,
    };
    for covered in evidence.commits.iter().filter(is_link) {
        if let Some(expected) = ended.filter(|ended| *ended != covered.span.from) {
            findings.add(Finding::BrokenChain {
                topic: evidence.place.topic.to_string(),
                partition: evidence.place.partition,
                version: commits[covered.commit].version,
                expected,
                found: covered.span.from,
            });
        }
        ended = Some(covered.span.to);
    }
}

/// The offsets of a set in a span.
fn within(offsets: &RoaringTreemap, span: Span) -> impl Iterator<Item = i64> + '_ {
    let mut all = offsets.iter();
    all.advance_to(span.from.max(0) as u64);
    let until = span.to.max(0) as u64;
    all.take_while(move |offset| *offset < until)
        .map(|offset| offset as i64)
}

/// What is left of a hole when these are taken out.
fn without(hole: Span, taken: &[Span]) -> Vec<Span> {
    let mut left = vec![hole];
    for taken in taken
        .iter()
        .filter(|taken| taken.from < hole.to && taken.to > hole.from)
    {
        left = left
            .into_iter()
            .flat_map(|part| [(part.from, part.to.min(taken.from)), (part.from.max(taken.to), part.to)])
            .filter(|(from, to)| from < to)
            .map(|(from, to)| Span::new(from, to))
            .collect();
        left.dedup();
    }
    left
}
