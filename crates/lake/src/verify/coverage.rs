//! Which offsets are accounted for, and how often. Pure: offsets in, ranges out.
//!
//! Two bits for each offset, one for a row and one for a letter. A table of more offsets than the bound is swept in
//! several passes, each over a slice of every partition, so that a file, which holds the same time of all partitions,
//! is read in one pass or two.

use model::Span;

/// Offsets of one partition that a pass looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Index of the partition.
    pub(crate) partition: usize,
    pub(crate) span: Span,
}

/// Cuts the partitions' spans into passes of at most `offsets_max` offsets (and at least one for each partition).
pub(crate) fn plan(spans: &[Span], offsets_max: u64) -> Vec<Vec<Window>> {
    let length = |span: &Span| (span.to - span.from).unsigned_abs();
    let total: u64 = spans.iter().map(length).sum();
    let passes = total.div_ceil(offsets_max.max(1));
    let cut = |span: &Span, pass: u64| {
        // In 128 bits: lengths times passes may not fit.
        span.from + (u128::from(length(span)) * u128::from(pass) / u128::from(passes)) as i64
    };
    (0..passes)
        .map(|pass| {
            let windows = spans.iter().enumerate().map(|(partition, span)| Window {
                partition,
                span: Span::new(cut(span, pass), cut(span, pass + 1)),
            });
            windows.filter(|window| !window.span.is_empty()).collect()
        })
        .collect()
}

/// What is known of a window's offsets.
#[derive(Debug)]
pub(crate) struct Marks {
    pub(crate) span: Span,
    rows: Vec<u64>,
    letters: Vec<u64>,
    pub(crate) doubled: Ranges,
    pub(crate) doubled_letters: Ranges,
    pub(crate) both: Ranges,
}

impl Marks {
    pub(crate) fn new(span: Span) -> Self {
        let words = ((span.to - span.from) as usize).div_ceil(64);
        Self {
            span,
            rows: vec![0; words],
            letters: vec![0; words],
            doubled: Ranges::default(),
            doubled_letters: Ranges::default(),
            both: Ranges::default(),
        }
    }

    fn place(&self, offset: i64) -> Option<(usize, u64)> {
        (self.span.from..self.span.to).contains(&offset).then(|| {
            let at = (offset - self.span.from) as usize;
            (at / 64, 1 << (at % 64))
        })
    }

    pub(crate) fn row(&mut self, offset: i64) {
        let Some((word, bit)) = self.place(offset) else { return };
        if self.rows[word] & bit != 0 {
            self.doubled.add(offset);
        }
        self.rows[word] |= bit;
    }

    pub(crate) fn letter(&mut self, offset: i64) {
        let Some((word, bit)) = self.place(offset) else { return };
        if self.letters[word] & bit != 0 {
            self.doubled_letters.add(offset);
        }
        self.letters[word] |= bit;
    }

    pub(crate) fn has_row(&self, offset: i64) -> bool {
        self.place(offset).is_some_and(|(word, bit)| self.rows[word] & bit != 0)
    }

    pub(crate) fn has_letter(&self, offset: i64) -> bool {
        self.place(offset)
            .is_some_and(|(word, bit)| self.letters[word] & bit != 0)
    }

    /// Offsets of the span that have a row or a letter.
    pub(crate) fn present_in(&self, span: Span) -> u64 {
        let (from, to) = (span.from.max(self.span.from), span.to.min(self.span.to));
        let present = |offset: &i64| self.has_row(*offset) || self.has_letter(*offset);
        (from..to).filter(present).count() as u64
    }

    /// Offsets of the window that have a letter.
    pub(crate) fn letters(&self) -> u64 {
        self.letters.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Call when all is marked: finds offsets that are both, and gives those that are neither.
    pub(crate) fn holes(&mut self) -> Ranges {
        let mut holes = Ranges::default();
        for word in 0..self.rows.len() {
            let (rows, letters) = (self.rows[word], self.letters[word]);
            if rows & letters == 0 && rows | letters == u64::MAX {
                continue;
            }
            let first = self.span.from + word as i64 * 64;
            for at in 0..64.min(self.span.to - first) {
                let bit = 1 << at;
                match (rows & bit != 0, letters & bit != 0) {
                    (true, true) => self.both.add(first + at),
                    (false, false) => holes.add(first + at),
                    _ => {}
                }
            }
        }
        holes
    }
}

/// Ranges that are kept one by one; beyond it offsets are only counted.
const RANGES_MAX: usize = 10_000;

/// Offsets as ranges, as long as they come in order; repetitions start a new one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    pub(crate) ranges: Vec<Span>,
    pub(crate) offsets: u64,
}

impl Ranges {
    pub(crate) fn add(&mut self, offset: i64) {
        self.offsets += 1;
        let has_room = self.ranges.len() < RANGES_MAX;
        match self.ranges.last_mut() {
            Some(last) if last.to == offset => last.to += 1,
            _ if has_room => self.ranges.push(Span::new(offset, offset + 1)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn passes_cover_each_offset_once_and_keep_the_bound() {
        let spans = [Span::new(5, 105), Span::new(0, 0), Span::new(1 << 40, (1 << 40) + 7)];
        for bound in [1, 7, 50, 107, 1000] {
            let passes = plan(&spans, bound);
            for (partition, span) in spans.iter().enumerate() {
                let mut at = span.from;
                for window in passes.iter().flatten().filter(|window| window.partition == partition) {
                    assert_eq!(window.span.from, at);
                    at = window.span.to;
                }
                assert_eq!(at, span.to, "bound {bound}");
            }
            for pass in &passes {
                let offsets: i64 = pass.iter().map(|window| window.span.to - window.span.from).sum();
                assert!(offsets as u64 <= bound + spans.len() as u64, "{offsets} > {bound}");
            }
        }
    }

    proptest! {
        #[test]
        fn marks_agree_with_counting(
            from in -3_i64..200,
            length in 1_i64..300,
            rows in prop::collection::vec(-10_i64..500, 0..300),
            letters in prop::collection::vec(-10_i64..500, 0..100),
        ) {
            let span = Span::new(from, from + length);
            let mut marks = Marks::new(span);
            rows.iter().for_each(|offset| marks.row(*offset));
            letters.iter().for_each(|offset| marks.letter(*offset));
            let count = |of: &[i64]| of.iter().fold(BTreeMap::new(), |mut counts: BTreeMap<i64, u64>, offset| {
                *counts.entry(*offset).or_default() += 1;
                counts
            });
            let (rows, letters) = (count(&rows), count(&letters));
            let holes = marks.holes();
            let expected = |is: &dyn Fn(u64, u64) -> u64| (span.from..span.to)
                .map(|offset| is(rows.get(&offset).copied().unwrap_or(0), letters.get(&offset).copied().unwrap_or(0)))
                .sum::<u64>();
            prop_assert_eq!(holes.offsets, expected(&|rows, letters| u64::from(rows + letters == 0)));
            prop_assert_eq!(marks.both.offsets, expected(&|rows, letters| u64::from(rows > 0 && letters > 0)));
            prop_assert_eq!(marks.doubled.offsets, expected(&|rows, _| rows.saturating_sub(1)));
            prop_assert_eq!(marks.doubled_letters.offsets, expected(&|_, letters| letters.saturating_sub(1)));
            prop_assert_eq!(marks.present_in(span), expected(&|rows, letters| (rows + letters).min(1)));
            prop_assert_eq!(marks.letters(), expected(&|_, letters| letters.min(1)));
            let in_ranges: u64 = holes.ranges.iter().map(|range| (range.to - range.from) as u64).sum();
            prop_assert_eq!(in_ranges, holes.offsets);
        }
    }
}
