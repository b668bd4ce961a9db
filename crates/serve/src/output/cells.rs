//! Values as short texts for a person: printable, measured and cut by the columns that a terminal gives them.

use arrow_array::{Array as _, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::ArrowError;
use unicode_width::UnicodeWidthChar;

use super::readable;

/// What stands for a null.
pub(super) const NULL: &str = "NULL";

/// Calls `row` with the texts of each row; a null is `None`.
pub(super) fn for_each_row(
    batch: &RecordBatch,
    mut row: impl FnMut(&[Option<String>]) -> Result<(), super::OutputError>,
    format: super::Format,
) -> Result<(), super::OutputError> {
    let encode = |source: ArrowError| super::encode_error(format, source);
    let batch = readable::for_text(batch).map_err(encode)?;
    let options = FormatOptions::new();
    let formatters = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
    let formatters = formatters.collect::<Result<Vec<_>, _>>().map_err(encode)?;
    let mut texts = Vec::with_capacity(formatters.len());
    for index in 0..batch.num_rows() {
        texts.clear();
        for (column, formatter) in batch.columns().iter().zip(&formatters) {
            texts.push(match column.is_null(index) || column.data_type().is_null() {
                true => None,
                false => Some(formatter.value(index).try_to_string().map_err(encode)?),
            });
        }
        row(&texts)?;
    }
    Ok(())
}

/// Columns of a terminal.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(|char| char.width().unwrap_or(0)).sum()
}

/// Control characters as escapes: a cell must not break the table, nor command the terminal.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            safe.extend(char.escape_default());
        } else {
            safe.push(char);
        }
    }
    safe
}

/// The text escaped, no wider than this; `…` stands for what was cut off. Looks no further than it has to.
pub(super) fn cut(text: &str, width_max: usize) -> String {
    let mut safe = String::new();
    let (mut wide, mut fits) = (0, 0);
    for char in text.chars() {
        match char.is_control() {
            true => safe.extend(char.escape_default()),
            false => safe.push(char),
        }
        wide += match char.is_control() {
            true => char.escape_default().len(),
            false => char.width().unwrap_or(0),
        };
        if wide > width_max {
            safe.truncate(fits);
            safe.push('…');
            return safe;
        }
        if wide < width_max {
            fits = safe.len();
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_by_the_columns_they_take() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abcde…");
        assert_eq!(cut("東京東京", 8), "東京東京");
        assert_eq!(cut("東京東京", 7), "東京東…");
        assert_eq!(cut("東京東京", 6), "東京…");
        assert_eq!(cut("a\nb", 4), "a\\nb");
        assert_eq!(cut("a\nbc", 4), "a\\n…");
        assert_eq!(cut("ab\nc", 3), "ab…");
        assert_eq!(cut("abc", 1), "…");
        // A combining accent takes none.
        assert_eq!(cut("e\u{301}e\u{301}", 2), "e\u{301}e\u{301}");
    }
}
