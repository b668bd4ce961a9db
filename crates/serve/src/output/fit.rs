//! How wide the columns of a table are, given the room there is: a pure decision.

/// A text column is not made narrower than this, or than its longest text.
const TEXT_MIN: usize = 10;
/// A header over short values is cut down to this.
const HEADER_MIN: usize = 6;

/// What a column would take, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) header: usize,
    /// The widest value.
    pub(super) values: usize,
    /// Whether its values may be cut: a part of a text says something, a part of a number something wrong.
    pub(super) may_be_cut: bool,
}

impl Column {
    fn natural(self) -> usize {
        self.header.max(self.values)
    }

    fn minimum(self) -> usize {
        match self.may_be_cut {
            true => self.natural().min(TEXT_MIN),
            false => self.values.max(self.header.min(HEADER_MIN)),
        }
    }
}

/// How rows are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fit {
    /// Side by side, in columns of these widths.
    Columns(Vec<usize>),
    /// Each value on a line of its own: even the least widths are too wide together.
    Records,
}

/// Fits columns into `width` characters: the widest texts are cut first, all to the same width.
pub(super) fn fit(columns: &[Column], width: usize) -> Fit {
    // Each column has a space on both sides, and a bar to its left but for the first.
    let room = width.saturating_sub((3 * columns.len()).saturating_sub(1));
    let sum = |cap: usize| -> usize { columns.iter().map(|column| capped(*column, cap)).sum() };
    if sum(0) > room {
        return Fit::Records;
    }
    let widest = columns.iter().map(|column| column.natural()).max().unwrap_or(0);
    // The largest cap that fits; `sum` grows with it.
    let (mut fits, mut too_wide) = (0, widest + 1);
    while too_wide - fits > 1 {
        let cap = fits + (too_wide - fits) / 2;
        match sum(cap) <= room {
            true => fits = cap,
            false => too_wide = cap,
        }
    }
    Fit::Columns(columns.iter().map(|column| capped(*column, fits)).collect())
}

fn capped(column: Column, cap: usize) -> usize {
    column.natural().min(cap).max(column.minimum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(header: usize, values: usize) -> Column {
        Column {
            header,
            values,
            may_be_cut: true,
        }
    }

    fn number(header: usize, values: usize) -> Column {
        Column {
            header,
            values,
            may_be_cut: false,
        }
    }

    #[test]
    fn what_fits_keeps_its_width() {
        assert_eq!(fit(&[text(4, 20), number(5, 3)], 80), Fit::Columns(vec![20, 5]));
        assert_eq!(fit(&[text(4, 20), number(5, 3)], 30), Fit::Columns(vec![20, 5]));
        assert_eq!(fit(&[], 60), Fit::Columns(vec![]));
    }

    #[test]
    fn the_widest_texts_are_cut_and_numbers_are_not() {
        assert_eq!(
            fit(&[text(4, 80), text(4, 15), number(2, 24), text(4, 70)], 90),
            Fit::Columns(vec![20, 15, 24, 20])
        );
        // A long name over short numbers gives way too.
        assert_eq!(fit(&[number(30, 4), text(2, 40)], 60), Fit::Columns(vec![27, 27]));
        assert_eq!(fit(&[number(30, 4), text(2, 40)], 25), Fit::Columns(vec![10, 10]));
    }

    #[test]
    fn what_is_too_wide_all_the_same_becomes_records() {
        assert_eq!(fit(&[number(2, 20); 4], 80), Fit::Records);
        assert_eq!(fit(&[text(9, 80); 20], 80), Fit::Records);
        assert_eq!(fit(&[text(9, 80)], 5), Fit::Records);
    }

    #[test]
    fn nothing_is_wider_than_the_room() {
        for count in 1..12 {
            for width in 1..200 {
                let columns: Vec<Column> = (0..count).map(|at| text(at * 3, 7 * at + 2)).collect();
                if let Fit::Columns(widths) = fit(&columns, width) {
                    assert!(
                        widths.iter().sum::<usize>() + 3 * count - 1 <= width,
                        "{count} in {width}: {widths:?}"
                    );
                }
            }
        }
    }
}
