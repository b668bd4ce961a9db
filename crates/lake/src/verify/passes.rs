//! How a table is cut into passes, so that what is held of each stays within bounds. Pure.

use model::Span;

/// Offsets of one partition that a pass looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Index of the partition.
    pub(crate) partition: usize,
    pub(crate) span: Span,
}

/// Offsets of a window at most, so that an offset within it and an element fit one number.
const WINDOW_OFFSETS_MAX: u64 = 1 << 31;

/// How many passes keep both bounds, if elements are spread evenly.
pub(crate) fn passes(spans: &[Span], elements: u64, offsets_max: u64, elements_max: u64) -> u64 {
    let total: u64 = spans.iter().map(length).sum();
    let longest = spans.iter().map(length).max().unwrap_or_default();
    let by_offsets = total.div_ceil(offsets_max.max(1));
    let by_window = longest.div_ceil(WINDOW_OFFSETS_MAX);
    let by_elements = match total {
        0 => 0,
        // A pass of one offset holds its elements, however many.
        total => elements.div_ceil(elements_max.max(1)).min(total),
    };
    by_offsets.max(by_window).max(by_elements)
}

/// Cuts the partitions' spans into passes.
pub(crate) fn plan(spans: &[Span], passes: u64) -> Vec<Vec<Window>> {
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

/// A pass in two, the earlier offsets first; `None` when it holds one offset of each partition.
pub(crate) fn halves(pass: &[Window]) -> Option<[Vec<Window>; 2]> {
    if pass.iter().all(|window| length(&window.span) <= 1) {
        return None;
    }
    let half = |window: &Window, is_second: bool| {
        let middle = window.span.from + (length(&window.span).div_ceil(2)) as i64;
        Window {
            partition: window.partition,
            span: match is_second {
                false => Span::new(window.span.from, middle),
                true => Span::new(middle, window.span.to),
            },
        }
    };
    let halves = |is_second: bool| -> Vec<Window> {
        let windows = pass.iter().map(|window| half(window, is_second));
        windows.filter(|window| !window.span.is_empty()).collect()
    };
    Some([halves(false), halves(true)])
}

fn length(span: &Span) -> u64 {
    (span.to - span.from).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_cover_each_offset_once_and_keep_the_bound() {
        let spans = [Span::new(5, 105), Span::new(0, 0), Span::new(1 << 40, (1 << 40) + 7)];
        for bound in [1, 7, 50, 107, 1000] {
            let passes = plan(&spans, passes(&spans, 0, bound, 1));
            assert_covered(&spans, passes.iter().flatten());
            for pass in &passes {
                let offsets: i64 = pass.iter().map(|window| window.span.to - window.span.from).sum();
                assert!(offsets as u64 <= bound + spans.len() as u64, "{offsets} > {bound}");
            }
        }
    }

    #[test]
    fn elements_count_as_well_and_windows_stay_short() {
        let spans = [Span::new(0, 100), Span::new(0, 20)];
        assert_eq!(passes(&spans, 5000, 1000, 1000), 5);
        assert_eq!(passes(&spans, 5000, 10, 1000), 12);
        // No more passes than offsets.
        assert_eq!(passes(&spans, u64::MAX, 1000, 1), 120);
        assert_eq!(passes(&[], 7, 1000, 1000), 0);
        assert_eq!(passes(&[Span::new(0, 1 << 33)], 0, u64::MAX, 1), 4);
    }

    #[test]
    fn halves_cover_the_whole_until_single_offsets_are_left() {
        let spans = [Span::new(3, 10), Span::new(40, 41)];
        let mut todo = plan(&spans, 1);
        let mut whole = Vec::new();
        while let Some(pass) = todo.pop() {
            match halves(&pass) {
                Some([first, second]) => todo.extend([second, first]),
                None => whole.extend(pass),
            }
        }
        assert_eq!(whole.len(), 8);
        assert_covered(&spans, whole.iter());
    }

    fn assert_covered<'a>(spans: &[Span], windows: impl Iterator<Item = &'a Window> + Clone) {
        for (partition, span) in spans.iter().enumerate() {
            let mut at = span.from;
            for window in windows.clone().filter(|window| window.partition == partition) {
                assert_eq!(window.span.from, at);
                at = window.span.to;
            }
            assert_eq!(at, span.to);
        }
    }
}
