//! Which offsets and elements are accounted for, and how often. Pure: places in, ranges out.
//!
//! Two bits for each offset, one for a row and one for a dead letter. Where messages hold several elements, each element
//! seen is one number of a list besides.

use model::Span;

/// What was found of a span.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Messages: offsets with a row or a dead letter.
    pub(crate) messages: u64,
    /// Rows and dead letters, each identity once.
    pub(crate) records: u64,
}

/// What is known of a window's offsets. Mark everything, call [`Marks::finish`], then ask.
#[derive(Debug)]
pub(crate) struct Marks {
    pub(crate) span: Span,
    rows: Vec<u64>,
    dead_letters: Vec<u64>,
    /// Offsets with elements; empty while there are none.
    with_elements: Vec<u64>,
    /// Distance from the window's start, element, and whether it is a dead letter, in one number: sorted when finished.
    elements: Vec<u64>,
    pub(crate) doubled: Ranges,
    pub(crate) doubled_dead_letters: Ranges,
    pub(crate) both: Ranges,
    /// Elements without row and dead letter before one of the same message that has.
    pub(crate) missing: Ranges,
}

/// An element of a message, with what it has.
struct Element {
    offset: i64,
    element: u32,
    rows: u64,
    dead_letters: u64,
}

impl Marks {
    pub(crate) fn new(span: Span) -> Self {
        let words = ((span.to - span.from) as usize).div_ceil(64);
        Self {
            span,
            rows: vec![0; words],
            dead_letters: vec![0; words],
            with_elements: Vec::new(),
            elements: Vec::new(),
            doubled: Ranges::default(),
            doubled_dead_letters: Ranges::default(),
            both: Ranges::default(),
            missing: Ranges::default(),
        }
    }

    /// Elements that were marked.
    pub(crate) fn elements(&self) -> usize {
        self.elements.len()
    }

    fn place(&self, offset: i64) -> Option<(usize, u64)> {
        (self.span.from..self.span.to).contains(&offset).then(|| {
            let at = (offset - self.span.from) as usize;
            (at / 64, 1 << (at % 64))
        })
    }

    pub(crate) fn row(&mut self, offset: i64, element: Option<u32>) {
        let Some((word, bit)) = self.place(offset) else { return };
        if let Some(element) = element {
            return self.element(offset, element, false);
        }
        if self.rows[word] & bit != 0 {
            self.doubled.add(offset);
        }
        self.rows[word] |= bit;
    }

    pub(crate) fn dead_letter(&mut self, offset: i64, element: Option<u32>) {
        let Some((word, bit)) = self.place(offset) else { return };
        if let Some(element) = element {
            return self.element(offset, element, true);
        }
        if self.dead_letters[word] & bit != 0 {
            self.doubled_dead_letters.add(offset);
        }
        self.dead_letters[word] |= bit;
    }

    fn element(&mut self, offset: i64, element: u32, is_dead_letter: bool) {
        let distance = (offset - self.span.from) as u64;
        self.elements
            .push(distance << 33 | u64::from(element) << 1 | u64::from(is_dead_letter));
    }

    /// Call when everything is marked: finds what is there more than once, and elements that are missing between others.
    /// `is_erased` tells elements that were removed on purpose; messages from `recorded` on may still be on their way.
    pub(crate) fn finish(&mut self, recorded: i64, is_erased: impl Fn(i64, u32) -> bool) {
        if self.elements.is_empty() {
            return;
        }
        self.elements.sort_unstable();
        self.with_elements = vec![0; self.rows.len()];
        let elements = std::mem::take(&mut self.elements);
        // The message that is looked at, and its element that should come next.
        let mut next = (self.span.from - 1, 0);
        for_each_element(&elements, self.span.from, |found| {
            let Element { offset, element, .. } = found;
            for _ in 1..found.rows {
                self.doubled.add_element(offset, element);
            }
            for _ in 1..found.dead_letters {
                self.doubled_dead_letters.add_element(offset, element);
            }
            if found.rows > 0 && found.dead_letters > 0 {
                self.both.add_element(offset, element);
            }
            if next.0 != offset {
                next = (offset, 0);
                let Some((word, bit)) = self.place(offset) else { return };
                self.with_elements[word] |= bit;
                if self.rows[word] & bit != 0 {
                    // The message as one row, and its elements as rows.
                    self.doubled.add(offset);
                } else if self.dead_letters[word] & bit != 0 {
                    self.both.add(offset);
                }
            }
            if offset < recorded {
                let missing = (next.1..element).filter(|element| !is_erased(offset, *element));
                missing
                    .take(RANGES_MAX)
                    .for_each(|element| self.missing.add_element(offset, element));
            }
            next.1 = element + 1;
        });
        self.elements = elements;
    }

    pub(crate) fn is_row(&self, offset: i64) -> bool {
        self.is_marked(&self.rows, offset) || self.any_element(offset, |element| element.rows > 0)
    }

    /// Whether the message has a row or a dead letter, whole or of an element.
    pub(crate) fn is_there(&self, offset: i64) -> bool {
        [&self.rows, &self.dead_letters, &self.with_elements]
            .iter()
            .any(|marks| self.is_marked(marks, offset))
    }

    pub(crate) fn is_element_there(&self, offset: i64, element: u32) -> bool {
        self.any_element(offset, |found| found.element == element)
    }

    fn is_marked(&self, marks: &[u64], offset: i64) -> bool {
        self.place(offset)
            .is_some_and(|(word, bit)| marks.get(word).is_some_and(|marks| marks & bit != 0))
    }

    fn any_element(&self, offset: i64, is: impl Fn(&Element) -> bool) -> bool {
        if !self.is_marked(&self.with_elements, offset) {
            return false;
        }
        let mut any = false;
        for_each_element(self.elements_in(offset, offset + 1), self.span.from, |element| {
            any |= is(&element);
        });
        any
    }

    fn elements_in(&self, from: i64, to: i64) -> &[u64] {
        let distance = |offset: i64| (offset.max(self.span.from) - self.span.from) as u64;
        let start = self.elements.partition_point(|element| element >> 33 < distance(from));
        let end = self.elements.partition_point(|element| element >> 33 < distance(to));
        &self.elements[start..end.max(start)]
    }

    /// What is there of a span.
    pub(crate) fn found_in(&self, span: Span) -> Found {
        let (from, to) = (span.from.max(self.span.from), span.to.min(self.span.to));
        let mut found = Found::default();
        if from >= to {
            return found;
        }
        for offset in from..to {
            let is_whole = self.is_marked(&self.rows, offset) || self.is_marked(&self.dead_letters, offset);
            found.records += u64::from(is_whole);
            found.messages += u64::from(is_whole || self.is_marked(&self.with_elements, offset));
        }
        for_each_element(self.elements_in(from, to), self.span.from, |_| found.records += 1);
        found
    }

    /// Dead letters of the window, each identity once.
    pub(crate) fn dead_letters(&self) -> u64 {
        let whole: u64 = self.dead_letters.iter().map(|word| u64::from(word.count_ones())).sum();
        let mut elements = 0;
        for_each_element(&self.elements, self.span.from, |element| {
            elements += u64::from(element.dead_letters > 0);
        });
        whole + elements
    }

    /// Finds messages that are both a row and a dead letter, and gives those that are neither.
    pub(crate) fn holes(&mut self) -> Ranges {
        let mut holes = Ranges::default();
        for word in 0..self.rows.len() {
            let (rows, dead) = (self.rows[word], self.dead_letters[word]);
            let elements = self.with_elements.get(word).copied().unwrap_or_default();
            if rows & dead == 0 && rows | dead | elements == u64::MAX {
                continue;
            }
            let first = self.span.from + word as i64 * 64;
            for at in 0..64.min(self.span.to - first) {
                let bit = 1 << at;
                if rows & dead & bit != 0 {
                    self.both.add(first + at);
                }
                if (rows | dead | elements) & bit == 0 {
                    holes.add(first + at);
                }
            }
        }
        holes
    }
}

/// Each element of a sorted list, with its rows and dead letters counted.
fn for_each_element(elements: &[u64], from: i64, mut each: impl FnMut(Element)) {
    for same in elements.chunk_by(|one, other| one >> 1 == other >> 1) {
        let dead_letters = same.iter().filter(|element| **element & 1 == 1).count() as u64;
        each(Element {
            offset: from + (same[0] >> 33) as i64,
            element: (same[0] >> 1) as u32,
            rows: same.len() as u64 - dead_letters,
            dead_letters,
        });
    }
}

/// Ranges that are kept one by one; beyond it offsets are only counted.
const RANGES_MAX: usize = 10_000;

/// Offsets as ranges, as long as they come in order; repetitions start a new one, and so does each element.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    pub(crate) ranges: Vec<(Span, Option<u32>)>,
    /// Records in them, and in those that were only counted.
    pub(crate) records: u64,
}

impl Ranges {
    pub(crate) fn add(&mut self, offset: i64) {
        self.records += 1;
        match self.ranges.last_mut() {
            Some((last, None)) if last.to == offset => last.to += 1,
            _ => self.push(offset, None),
        }
    }

    pub(crate) fn add_element(&mut self, offset: i64, element: u32) {
        self.records += 1;
        self.push(offset, Some(element));
    }

    fn push(&mut self, offset: i64, element: Option<u32>) {
        if self.ranges.len() < RANGES_MAX {
            self.ranges.push((Span::new(offset, offset + 1), element));
        }
    }

    pub(crate) fn append(&mut self, other: &Ranges) {
        self.records += other.records;
        let room = RANGES_MAX.saturating_sub(self.ranges.len());
        self.ranges.extend(other.ranges.iter().take(room));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Counts = BTreeMap<(i64, Option<u32>), u64>;

    fn count(of: &[(i64, Option<u32>)], window: Span) -> Counts {
        let within = of
            .iter()
            .filter(|(offset, _)| (window.from..window.to).contains(offset));
        within.fold(BTreeMap::new(), |mut counts: Counts, place| {
            *counts.entry(*place).or_default() += 1;
            counts
        })
    }

    proptest! {
        /// Against counting each place in a map, for plain messages, elements, and both mixed in one partition.
        #[test]
        fn marks_agree_with_counting(
            from in -3_i64..100,
            length in 1_i64..200,
            rows in prop::collection::vec((-10_i64..250, prop::option::of(0_u32..4)), 0..400),
            dead_letters in prop::collection::vec((-10_i64..250, prop::option::of(0_u32..4)), 0..150),
            (inner_from, inner_length) in (-3_i64..250, 0_i64..100),
        ) {
            let span = Span::new(from, from + length);
            let mut marks = Marks::new(span);
            rows.iter().for_each(|(offset, element)| marks.row(*offset, *element));
            dead_letters.iter().for_each(|(offset, element)| marks.dead_letter(*offset, *element));
            marks.finish(i64::MAX, |_, _| false);
            let holes = marks.holes();
            let (rows, dead) = (count(&rows, span), count(&dead_letters, span));
            let in_rows = |place: &(i64, Option<u32>)| rows.get(place).copied().unwrap_or(0);
            let in_dead = |place: &(i64, Option<u32>)| dead.get(place).copied().unwrap_or(0);
            let mut all: Vec<_> = rows.keys().chain(dead.keys()).copied().collect();
            all.sort_unstable();
            all.dedup();
            let mut offsets: Vec<i64> = all.iter().map(|(offset, _)| *offset).collect();
            offsets.dedup();
            let has_elements = |offset: i64| all.iter().any(|(other, element)| *other == offset && element.is_some());
            prop_assert_eq!(holes.records, (length as usize - offsets.len()) as u64);
            let in_ranges: u64 = holes.ranges.iter().map(|(range, _)| (range.to - range.from) as u64).sum();
            prop_assert_eq!(in_ranges, holes.records);
            // A message that is a row as a whole and in parts is there twice.
            let whole_and_parts = |is: &dyn Fn(i64) -> bool| {
                offsets.iter().filter(|offset| has_elements(**offset) && is(**offset)).count() as u64
            };
            let row_and_parts = whole_and_parts(&|offset| in_rows(&(offset, None)) > 0);
            let dead_and_parts =
                whole_and_parts(&|offset| in_rows(&(offset, None)) == 0 && in_dead(&(offset, None)) > 0);
            prop_assert_eq!(
                marks.doubled.records,
                rows.values().map(|count| count - 1).sum::<u64>() + row_and_parts
            );
            prop_assert_eq!(marks.doubled_dead_letters.records, dead.values().map(|count| count - 1).sum::<u64>());
            let both = all.iter().filter(|place| in_rows(place) > 0 && in_dead(place) > 0).count() as u64;
            prop_assert_eq!(marks.both.records, both + dead_and_parts);
            let missing: u64 = offsets.iter().map(|offset| {
                let elements: Vec<u32> = all.iter().filter(|(other, _)| other == offset).filter_map(|(_, e)| *e).collect();
                elements.last().map_or(0, |last| u64::from(*last) + 1 - elements.len() as u64)
            }).sum();
            prop_assert_eq!(marks.missing.records, missing);
            prop_assert_eq!(marks.dead_letters(), dead.len() as u64);
            let inner = Span::new(inner_from, inner_from + inner_length);
            let within = |offset: &i64| (inner.from..inner.to).contains(offset);
            prop_assert_eq!(marks.found_in(inner), Found {
                messages: offsets.iter().filter(|offset| within(offset)).count() as u64,
                records: all.iter().filter(|(offset, _)| within(offset)).count() as u64,
            });
            for offset in span.from..span.to {
                prop_assert_eq!(marks.is_there(offset), offsets.contains(&offset));
                prop_assert_eq!(marks.is_row(offset), rows.keys().any(|(other, _)| *other == offset));
                prop_assert_eq!(marks.is_element_there(offset, 2), all.contains(&(offset, Some(2))));
            }
        }
    }

    #[test]
    fn elements_that_were_erased_or_are_on_their_way_are_not_missing() {
        let mut marks = Marks::new(Span::new(0, 10));
        for offset in [3, 7] {
            marks.row(offset, Some(0));
            marks.row(offset, Some(4));
        }
        marks.finish(7, |offset, element| (offset, element) == (3, 2));
        assert_eq!(
            marks.missing.ranges,
            [1, 3].map(|element| (Span::new(3, 4), Some(element)))
        );
    }
}
