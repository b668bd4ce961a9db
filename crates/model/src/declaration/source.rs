//! A declaration file as TOML, read key by key: what is wrong with one key is noted with its line, and reading goes on.

use std::cell::RefCell;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::DeclarationError;

/// The keys that a table may have.
pub(super) struct Keys(pub(super) &'static [&'static str]);

/// The least similarity of a key that is suggested instead of an unknown one.
const SIMILAR: f64 = 0.5;

/// A file and the mistakes found in it so far.
pub(super) struct Source<'a> {
    file: &'a str,
    text: &'a str,
    errors: RefCell<Vec<DeclarationError>>,
}

/// A text and where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

/// A table of the file: the stream's, or a field's.
pub(super) struct Table<'a> {
    source: &'a Source<'a>,
    table: &'a DeTable<'a>,
    at: usize,
    /// The field whose table it is, by its name.
    field: Option<&'a str>,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self {
            file,
            text,
            errors: RefCell::default(),
        }
    }

    /// The file's table; `None` where it is not TOML.
    pub(super) fn parse(&self) -> Option<DeTable<'a>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            self.error(error.span().map_or(0, |span| span.start), None, error.message());
        }
        errors.is_empty().then(|| table.into_inner())
    }

    /// The mistakes, by line.
    pub(super) fn into_errors(self) -> Vec<DeclarationError> {
        let mut errors = self.errors.into_inner();
        errors.sort_by_key(|error| error.line);
        errors
    }

    fn error(&self, at: usize, field: Option<&str>, message: impl Into<String>) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let error = DeclarationError {
            file: self.file.to_owned(),
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            field: field.map(str::to_owned),
            message: message.into(),
        };
        let mut errors = self.errors.borrow_mut();
        // A key is looked at more than once.
        if !errors.contains(&error) {
            errors.push(error);
        }
    }
}

impl<'a> Table<'a> {
    pub(super) fn of_stream(source: &'a Source<'a>, table: &'a DeTable<'a>) -> Self {
        Self {
            source,
            table,
            at: 0,
            field: None,
        }
    }

    /// Where it begins.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Notes a mistake at a byte of the file.
    pub(super) fn error(&self, at: usize, message: impl Into<String>) {
        self.source.error(at, self.field, message);
    }

    /// The same about a field that has a table of its own.
    pub(super) fn error_of(&self, field: &str, at: usize, message: impl Into<String>) {
        self.source.error(at, Some(field), message);
    }

    /// The value, or its mistake noted.
    pub(super) fn checked<T>(&self, at: usize, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.error(at, message)).ok()
    }

    /// Notes the keys that no one knows, with the nearest known one.
    pub(super) fn check_keys(&self, known: &Keys) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if known.0.contains(&name) {
                continue;
            }
            let nearest = known
                .0
                .iter()
                .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
                .filter(|(similarity, _)| *similarity >= SIMILAR)
                .max_by(|one, other| one.0.total_cmp(&other.0));
            let hint = nearest.map_or_else(String::new, |(_, known)| format!(", did you mean `{known}`?"));
            self.error(
                key.span().start,
                format!("unknown key `{name}`{hint}; known are {}", known.0.join(", ")),
            );
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<Text<'a>> {
        self.value(key, "text in quotes", |value| value.as_str())
            .map(|(text, at)| Text { text, at })
    }

    /// A text that must be there.
    pub(super) fn required(&self, key: &str) -> Option<Text<'a>> {
        if !self.table.contains_key(key) {
            self.error(self.at, format!("`{key}` is missing"));
        }
        self.text(key)
    }

    /// A text that has something in it.
    pub(super) fn filled(&self, key: &str) -> Option<Text<'a>> {
        let text = self.text(key)?;
        if text.text.trim().is_empty() {
            self.error(text.at, format!("{key} is empty: write it or leave the line out"));
        }
        Some(text)
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        self.value(key, "true or false", DeValue::as_bool)
            .is_some_and(|(flag, _)| flag)
    }

    /// Where a flag stands that is set.
    pub(super) fn place_of_flag(&self, key: &str) -> Option<usize> {
        self.value(key, "true or false", DeValue::as_bool)
            .and_then(|(flag, at)| flag.then_some(at))
    }

    pub(super) fn integer(&self, key: &str) -> Option<(i64, usize)> {
        self.value(key, "a whole number", |value| {
            let integer = value.as_integer()?;
            i64::from_str_radix(integer.as_str(), integer.radix()).ok()
        })
    }

    pub(super) fn number(&self, key: &str) -> Option<(f64, usize)> {
        self.value(key, "a number", |value| match value {
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().parse().ok(),
            DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
                .ok()
                .map(|number| number as f64),
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => None,
        })
    }

    /// A list of texts; empty when there is none.
    pub(super) fn texts(&self, key: &str) -> Vec<Text<'a>> {
        const WHAT: &str = "a list of texts, as in [\"a\", \"b\"]";
        let Some((items, _)) = self.value(key, WHAT, |value| value.as_array()) else {
            return Vec::new();
        };
        let texts = items.iter().filter_map(|item| {
            let at = item.span().start;
            let text = item.get_ref().as_str();
            if text.is_none() {
                self.error(at, format!("`{key}` must be {WHAT}"));
            }
            Some(Text { text: text?, at })
        });
        texts.collect()
    }

    /// The tables of `[[key]]`.
    pub(super) fn tables(&self, key: &str) -> Vec<Table<'a>> {
        let Some((items, _)) = self.value(key, "tables, as in [[field]]", |value| value.as_array()) else {
            return Vec::new();
        };
        let tables = items.iter().filter_map(|item| {
            let table = item.get_ref().as_table();
            if table.is_none() {
                self.error(item.span().start, format!("`{key}` must be tables, as in [[{key}]]"));
            }
            let table = table?;
            let field = table.get("name").and_then(|name| name.get_ref().as_str());
            Some(Table {
                source: self.source,
                table,
                at: item.span().start,
                field,
            })
        });
        tables.collect()
    }

    /// A key's value, where it is what it must be.
    fn value<T>(&self, key: &str, what: &str, read: impl Fn(&'a DeValue<'a>) -> Option<T>) -> Option<(T, usize)> {
        let value: &'a Spanned<DeValue<'a>> = self.table.get(key)?;
        let at = value.span().start;
        let read = read(value.get_ref());
        if read.is_none() {
            self.error(at, format!("`{key}` must be {what}"));
        }
        Some((read?, at))
    }
}
