//! A table as GitHub Flavored Markdown has it (its specification, section "Tables").

use std::io::Write;

use arrow_schema::Schema;

use super::OutputError;
use super::cells::{NULL, escaped};

/// The two lines above the rows; numbers are set to the right.
pub(super) fn write_header(schema: &Schema, out: &mut impl Write) -> Result<(), OutputError> {
    let names = schema.fields().iter().map(|field| Some(field.name().as_str()));
    write_row(names, out)?;
    let mut rule = String::from("|");
    for field in schema.fields() {
        rule.push_str(if field.data_type().is_numeric() {
            " ---: |"
        } else {
            " --- |"
        });
    }
    rule.push('\n');
    Ok(out.write_all(rule.as_bytes())?)
}

pub(super) fn write_row<'a>(
    values: impl Iterator<Item = Option<&'a str>>,
    out: &mut impl Write,
) -> Result<(), OutputError> {
    let mut line = String::from("|");
    for value in values {
        line.push(' ');
        line.push_str(&value.map_or_else(|| NULL.to_owned(), literal));
        line.push_str(" |");
    }
    line.push('\n');
    Ok(out.write_all(line.as_bytes())?)
}

/// Text that shows as it is: what Markdown gives a meaning is escaped, a line break is one.
fn literal(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for (at, line) in text.split('\n').enumerate() {
        if at > 0 {
            safe.push_str("<br>");
        }
        for (at, char) in escaped(line).char_indices() {
            let is_markup = matches!(char, '|' | '*' | '`' | '<' | '&' | '~' | '[') || char == '_' && at == 0;
            // A backslash before a letter is one; before punctuation it would hide the punctuation's escape.
            if is_markup || char == '\\' {
                safe.push('\\');
            }
            safe.push(char);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_shows_as_it_is() {
        for (text, shown) in [
            ("plain_name", "plain_name"),
            ("_offset", "\\_offset"),
            ("a|b", "a\\|b"),
            (
                "*x* `y` <b> &amp; ~~z~~ [l](m)",
                "\\*x\\* \\`y\\` \\<b> \\&amp; \\~\\~z\\~\\~ \\[l](m)",
            ),
            ("one\ntwo", "one<br>two"),
            ("c:\\d", "c:\\\\d"),
        ] {
            assert_eq!(literal(text), shown);
        }
    }
}
