//! Every offset of every partition of a table: rows, dead letters, gaps and erasures together, pass by pass.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::ControlFlow;

use arrow_array::RecordBatch;
use model::{DEAD_LETTERS, Span, TopicPartition};

use super::attribution::Attribution;
use super::classify::{Evidence, classify};
use super::coverage::Marks;
use super::exceptions::AllExceptions;
use super::passes::{Window, halves, passes, plan};
use super::places::{Extent, Kind, Place, Places, Summary};
use super::removed::RemovedRows;
use super::report::{Findings, PartitionReport};
use super::state::TableState;
use super::{Checked, VerifyOptions};
use crate::{LakeError, Root};

/// What a sweep looks at.
pub(super) struct Sweep<'a> {
    pub(super) root: &'a Root,
    pub(super) options: &'a VerifyOptions,
    pub(super) table: &'a str,
    pub(super) state: &'a TableState,
    pub(super) summaries: &'a BTreeMap<String, Summary>,
    pub(super) attribution: &'a Attribution,
    pub(super) removed: &'a RemovedRows,
    pub(super) dead_letters: Option<&'a Checked>,
    pub(super) exceptions: &'a AllExceptions,
}

impl Sweep<'_> {
    /// Sweeps the partitions that can be checked; returns their reports, and how many messages held no element.
    pub(super) async fn run(&self, findings: &mut Findings) -> Result<(Vec<PartitionReport>, u64), LakeError> {
        let mut all: Vec<Evidence> = Vec::new();
        let mut elements = 0;
        for (place, recorded) in &self.attribution.checkable {
            let rows = self.attribution.rows_of(place);
            let dead_letters = self.extent_of_dead_letters(place);
            let owns_unnamed = self.attribution.owns_unnamed(place);
            elements += rows
                .iter()
                .chain(&dead_letters)
                .map(|extent| extent.elements)
                .sum::<u64>();
            all.push(Evidence::new(
                place.clone(),
                *recorded,
                rows,
                dead_letters,
                self.exceptions.get(place).cloned().unwrap_or_default(),
                self.removed.of(place, owns_unnamed).cloned().collect(),
                &self.state.commits,
            ));
        }
        let spans: Vec<Span> = all.iter().map(|evidence| evidence.span).collect();
        let bounds = (self.options.offsets_per_pass, self.options.elements_per_pass);
        let mut todo = VecDeque::from(plan(&spans, passes(&spans, elements, bounds.0, bounds.1)));
        while let Some(pass) = todo.pop_front() {
            let halves = halves(&pass);
            // Elements are not spread evenly; one message is always read whole.
            let elements_max = halves.as_ref().map_or(usize::MAX, |_| bounds.1 as usize);
            match (self.pass(&pass, &all, elements_max).await?, halves) {
                (Some(marks), _) => marks
                    .into_iter()
                    .for_each(|(index, mut marks)| all[index].take(&mut marks)),
                (None, Some([first, second])) => {
                    todo.push_front(second);
                    todo.push_front(first);
                }
                (None, None) => unreachable!("a pass that cannot be halved has no bound"),
            }
        }
        Ok(classify(all, &self.state.commits, self.removed, findings))
    }

    fn extent_of_dead_letters(&self, place: &TopicPartition) -> Option<Extent> {
        let files = self.dead_letters?.summaries.values().flat_map(Summary::extents);
        let of_place =
            files.filter(|(topic, partition, _)| *topic == Some(&*place.topic) && *partition == place.partition);
        of_place.map(|(_, _, extent)| extent).reduce(|mut all, extent| {
            all.merge(extent);
            all
        })
    }

    /// What there is of a pass's offsets; `None` when it holds more elements than that.
    async fn pass(
        &self,
        pass: &[Window],
        all: &[Evidence],
        elements_max: usize,
    ) -> Result<Option<BTreeMap<usize, Marks>>, LakeError> {
        let mut marking = Marking::new(pass, all, self.attribution, elements_max);
        let location = self.root.location_of(self.table);
        for (path, summary) in self.summaries {
            let Some(file) = self.state.files.get(path).filter(|_| marking.overlaps(summary)) else {
                continue;
            };
            let columns = Kind::Rows.columns();
            let read = self
                .state
                .read_rows(&location, file, Some(&columns), |batch| marking.take(batch, Kind::Rows));
            read.await?;
            if marking.is_full() {
                return Ok(None);
            }
        }
        let Some(dead_letters) = self.dead_letters else {
            return Ok(Some(marking.marks));
        };
        let location = self.root.location_of(DEAD_LETTERS);
        for (path, summary) in &dead_letters.summaries {
            let Some(file) = dead_letters.state.files.get(path).filter(|_| marking.overlaps(summary)) else {
                continue;
            };
            let columns = Kind::DeadLetters.columns();
            let state = &dead_letters.state;
            let read = state.read_rows(&location, file, Some(&columns), |batch| {
                marking.take(batch, Kind::DeadLetters)
            });
            read.await?;
            if marking.is_full() {
                return Ok(None);
            }
        }
        Ok(Some(marking.marks))
    }
}

/// The marks of a pass, by index of the partition.
struct Marking<'a> {
    marks: BTreeMap<usize, Marks>,
    /// By partition: topic, and index.
    indices: HashMap<i32, Vec<(&'a str, usize)>>,
    attribution: &'a Attribution,
    elements_max: usize,
}

impl<'a> Marking<'a> {
    fn new(pass: &[Window], all: &'a [Evidence], attribution: &'a Attribution, elements_max: usize) -> Self {
        let mut indices: HashMap<i32, Vec<(&str, usize)>> = HashMap::new();
        for window in pass {
            let place = &all[window.partition].place;
            let topics = indices.entry(place.partition).or_default();
            topics.push((&place.topic, window.partition));
        }
        let marks = pass.iter().map(|window| (window.partition, Marks::new(window.span)));
        Self {
            marks: marks.collect(),
            indices,
            attribution,
            elements_max,
        }
    }

    fn overlaps(&self, summary: &Summary) -> bool {
        let mut topics = self.indices.iter().flat_map(|(partition, topics)| {
            let of_partition = topics.iter();
            of_partition.map(|(topic, index)| (*partition, *topic, *index))
        });
        topics.any(|(partition, topic, index)| {
            let marks = self.marks.get(&index);
            marks.is_some_and(|marks| summary.overlaps(topic, partition, marks.span.from, marks.span.to))
        })
    }

    fn is_full(&self) -> bool {
        self.marks.values().map(Marks::elements).sum::<usize>() > self.elements_max
    }

    fn take(&mut self, batch: &RecordBatch, kind: Kind) -> ControlFlow<()> {
        let Some(places) = Places::of(batch, kind) else {
            return ControlFlow::Continue(());
        };
        for place in places.iter() {
            let Some(marks) = self.index_of(&place).and_then(|index| self.marks.get_mut(&index)) else {
                continue;
            };
            match kind {
                Kind::DeadLetters => marks.dead_letter(place.offset, place.element),
                _ => marks.row(place.offset, place.element),
            }
        }
        match self.is_full() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn index_of(&self, place: &Place<'_>) -> Option<usize> {
        let topics = self.indices.get(&place.partition)?;
        let topic = self.attribution.topic_of(place)?;
        let (_, index) = topics.iter().find(|(of, _)| *of == topic)?;
        Some(*index)
    }
}
