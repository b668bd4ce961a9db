//! What is wrong with a query, and where: the line of the statement with a mark under the place, and a hint.

use std::fmt;

use arrow_schema::ArrowError;
use datafusion::common::{Diagnostic, SchemaError, Span};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser;
use lake::LakeError;
use object_store::Error as StoreError;

/// Longest part of a statement's line that is shown beside an error, in characters.
const SHOWN_CHARS_MAX: usize = 100;

/// Most names that a hint lists.
const LISTED_NAMES_MAX: usize = 12;

/// Who can do something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The statement or a setting is wrong: change it.
    Usage,
    /// The query was fine; reading the lake or a resource failed.
    Failed,
    /// The query was cancelled, or took longer than its session allows.
    Cancelled,
}

/// An error of a query. `Display` gives the message, the place as a line with a mark below it, and the hint, each on its
/// own line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SqlError {
    /// One short fact.
    pub message: String,
    /// Line of the statement, from 1.
    pub line: Option<u64>,
    /// Column in that line, in characters from 1.
    pub column: Option<u64>,
    /// A way out.
    pub hint: Option<String>,
    /// Who can do something about it.
    pub kind: ErrorKind,
    /// The statement's line and the mark below it.
    excerpt: Option<Box<Excerpt>>,
}

impl SqlError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> SqlError {
        SqlError {
            message: message.into(),
            line: None,
            column: None,
            hint: None,
            kind,
            excerpt: None,
        }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> SqlError {
        self.hint = Some(hint.into());
        self
    }

    /// The same error, pointing at a place of `sql`.
    pub(super) fn at(mut self, sql: &str, place: Place) -> SqlError {
        if let Some(excerpt) = Excerpt::cut(sql, place) {
            self.line = Some(place.line);
            self.column = Some(place.column);
            self.excerpt = Some(Box::new(excerpt));
        }
        self
    }

    /// Translates an error of the lake.
    pub(super) fn from_lake(error: LakeError) -> SqlError {
        let (kind, hint) = match &error {
            LakeError::Missing { .. } => (
                ErrorKind::Usage,
                Some("start one with `smartcity up`, or name another with --lake"),
            ),
            LakeError::Location { .. } => (ErrorKind::Usage, None),
            error => (ErrorKind::Failed, error.hint()),
        };
        let found = SqlError::new(kind, with_causes(&error));
        match hint {
            Some(hint) => found.with_hint(hint),
            None => found,
        }
    }

    /// Of the named table, which cannot be opened.
    pub(super) fn unreadable(table: &str, error: &LakeError) -> SqlError {
        let why = match error {
            LakeError::Unusable { why, .. } => why.clone(),
            error => with_causes(error),
        };
        let found = SqlError::new(ErrorKind::Failed, format!("table '{table}' cannot be read: {why}"));
        match error.hint() {
            Some(hint) => found.with_hint(hint),
            None => found,
        }
    }

    /// Of a table whose log or files cannot be read while a query is planned or runs.
    fn of_table(error: &LakeError) -> SqlError {
        match error {
            LakeError::Unusable { table, .. } => SqlError::unreadable(table, error),
            error => SqlError::new(ErrorKind::Failed, with_causes(error)),
        }
    }

    /// Translates an error of DataFusion. `tables` are the names that a misspelt one may have meant.
    pub(super) fn from_datafusion(error: &DataFusionError, sql: &str, tables: &[String]) -> SqlError {
        // A collection holds every mistake found in one statement; the first is shown, the next run shows the next.
        let error = error.iter().next().unwrap_or(error);
        let root = error.find_root();
        if let Some(error) = lake_error(root) {
            return SqlError::of_table(error);
        }
        let diagnostic = error.diagnostic();
        let (message, place) = match (root, diagnostic) {
            (DataFusionError::SQL(parser, _), diagnostic) => {
                let (message, place) = parser_message(parser);
                (
                    message,
                    diagnostic
                        .and_then(|diagnostic| diagnostic.span)
                        .map(Place::from)
                        .or(place),
                )
            }
            (_, Some(Diagnostic { message, span, .. })) => (message.clone(), span.map(Place::from)),
            (DataFusionError::SchemaError(schema, _), None) => schema_message(schema, sql),
            (root, None) => (plain_message(root), None),
        };
        let mut found = SqlError::new(kind_of(root), message);
        found.hint = hint_for(root, &found.message, diagnostic, tables);
        if let Some(place) = place {
            if sql_at(sql, place).is_some_and(|rest| rest.starts_with('"')) && found.message.starts_with("column") {
                found.hint = Some("a text stands in single quotes: 'Sunny'".to_owned());
            }
            found = found.at(sql, place);
        }
        found
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)?;
        if let (Some(excerpt), Some(line)) = (&self.excerpt, self.line) {
            let margin = line.to_string().len();
            write!(formatter, "\n {line} | {}", excerpt.text)?;
            let before = " ".repeat(excerpt.before);
            write!(formatter, "\n {:margin$} | {before}{}", "", "^".repeat(excerpt.marked))?;
        }
        if let Some(hint) = &self.hint {
            write!(formatter, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// A place in a statement: line and column from 1, columns in characters, `end_column` exclusive and on the same line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    line: u64,
    column: u64,
    end_column: u64,
}

impl Place {
    /// The first word of a statement.
    pub(super) fn first_word(sql: &str) -> Place {
        let word_at = sql.len() - sql.trim_start().len();
        let word = sql[word_at..].split(|char: char| !char.is_alphanumeric()).next();
        Place::at(sql, word_at, word.unwrap_or_default())
    }

    /// Of a word that begins at a byte of the statement.
    fn at(sql: &str, at: usize, word: &str) -> Place {
        let line_start = sql[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let column = sql[line_start..at].chars().count() as u64 + 1;
        Place {
            line: sql[..at].matches('\n').count() as u64 + 1,
            column,
            end_column: column + word.chars().count() as u64,
        }
    }

    pub(super) fn of(span: sqlparser::tokenizer::Span) -> Option<Place> {
        Span::try_from_sqlparser_span(span).map(Place::from)
    }
}

impl From<Span> for Place {
    fn from(span: Span) -> Place {
        let end_column = if span.end.line == span.start.line {
            span.end.column
        } else {
            0
        };
        Place {
            line: span.start.line,
            column: span.start.column,
            end_column,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Excerpt {
    text: String,
    /// Characters before the mark.
    before: usize,
    /// Characters marked, at least 1.
    marked: usize,
}

impl Excerpt {
    fn cut(sql: &str, place: Place) -> Option<Excerpt> {
        let line = sql.lines().nth(usize::try_from(place.line.checked_sub(1)?).ok()?)?;
        // Control characters would move the mark or the terminal.
        let line: Vec<char> = line
            .chars()
            .map(|char| if char.is_control() { ' ' } else { char })
            .collect();
        let before = usize::try_from(place.column.checked_sub(1)?).ok()?.min(line.len());
        let end = usize::try_from(place.end_column.saturating_sub(1))
            .ok()?
            .min(line.len());
        let marked = end.saturating_sub(before).max(1);
        if line.len() <= SHOWN_CHARS_MAX {
            return Some(Excerpt {
                text: line.iter().collect(),
                before,
                marked,
            });
        }
        let from = before
            .saturating_sub(SHOWN_CHARS_MAX / 2)
            .min(line.len() - SHOWN_CHARS_MAX);
        let to = from + SHOWN_CHARS_MAX;
        let (head, tail) = (if from > 0 { "…" } else { "" }, if to < line.len() { "…" } else { "" });
        let text: String = line[from..to].iter().collect();
        Some(Excerpt {
            text: format!("{head}{text}{tail}"),
            before: before - from + head.chars().count(),
            marked: marked.min(to - before.min(to)).max(1),
        })
    }
}

/// The rest of the statement's line from a place on.
fn sql_at(sql: &str, place: Place) -> Option<&str> {
    let line = sql.lines().nth(usize::try_from(place.line.checked_sub(1)?).ok()?)?;
    let column = usize::try_from(place.column.checked_sub(1)?).ok()?;
    let (at, _) = line.char_indices().nth(column)?;
    Some(&line[at..])
}

/// sqlparser ends its texts with ` at Line: 1, Column: 8`.
fn parser_message(error: &sqlparser::parser::ParserError) -> (String, Option<Place>) {
    use sqlparser::parser::ParserError;
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => "the statement is nested too deeply",
    };
    let place = text.rsplit_once(" at Line: ").and_then(|(message, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        let (line, column) = (line.trim().parse().ok()?, column.trim().parse().ok()?);
        Some((
            message,
            Place {
                line,
                column,
                end_column: 0,
            },
        ))
    });
    let (message, place) = match place {
        Some((message, place)) => (message, Some(place)),
        None => (text, None),
    };
    let message = message.trim_start_matches("sql parser error: ");
    (
        message
            .replacen("Expected: ", "expected ", 1)
            .replace("found: ", "found "),
        place,
    )
}

/// A name that the planner missed without saying where: the place is found again when it stands once in the statement.
fn schema_message(error: &SchemaError, sql: &str) -> (String, Option<Place>) {
    match error {
        SchemaError::FieldNotFound { field, .. } => (
            format!("column '{}' not found", field.flat_name()),
            only_place_of(&field.name, sql),
        ),
        SchemaError::AmbiguousReference { field } => (
            format!("column '{}' is in more than one table", field.name),
            only_place_of(&field.name, sql),
        ),
        error => (error.to_string(), None),
    }
}

fn only_place_of(name: &str, sql: &str) -> Option<Place> {
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    let mut places = sql
        .match_indices(name)
        .filter(|(at, _)| !sql[..*at].ends_with(is_word) && !sql[at + name.len()..].starts_with(is_word));
    let (Some((at, _)), None) = (places.next(), places.next()) else {
        return None;
    };
    Some(Place::at(sql, at, name))
}

/// An error and what caused it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(&format!(": {error}"));
        cause = error.source();
    }
    message
}

fn lake_error(root: &DataFusionError) -> Option<&LakeError> {
    match root {
        DataFusionError::External(error) => error.downcast_ref(),
        _ => None,
    }
}

/// Whether a file was not there.
fn is_missing_file(root: &DataFusionError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(root);
    while let Some(error) = cause {
        if matches!(error.downcast_ref(), Some(StoreError::NotFound { .. })) {
            return true;
        }
        cause = error.source();
    }
    // Reading a footer leaves only the text of the cause.
    let text = root.message();
    text.contains("Failed to fetch metadata for file") && text.contains(" not found")
}

fn plain_message(root: &DataFusionError) -> String {
    let text = match root {
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            ArrowError::CastError(text)
            | ArrowError::ComputeError(text)
            | ArrowError::ParseError(text)
            | ArrowError::InvalidArgumentError(text)
            | ArrowError::ArithmeticOverflow(text) => text.clone(),
            ArrowError::DivideByZero => "division by zero".to_owned(),
            error => error.to_string(),
        },
        DataFusionError::ResourcesExhausted(_) => "the query needs more memory than it may use".to_owned(),
        root => root.message().into_owned(),
    };
    // The first line is the fact; further ones are DataFusion's own hints and lists of candidates.
    text.lines().next().unwrap_or_default().trim_end_matches('.').to_owned()
}

fn kind_of(root: &DataFusionError) -> ErrorKind {
    match root {
        DataFusionError::SQL(..)
        | DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::Configuration(_) => ErrorKind::Usage,
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            ArrowError::CastError(_)
            | ArrowError::ComputeError(_)
            | ArrowError::ParseError(_)
            | ArrowError::InvalidArgumentError(_)
            | ArrowError::ArithmeticOverflow(_)
            | ArrowError::DivideByZero => ErrorKind::Usage,
            _ => ErrorKind::Failed,
        },
        _ => ErrorKind::Failed,
    }
}

fn hint_for(
    root: &DataFusionError,
    message: &str,
    diagnostic: Option<&Diagnostic>,
    tables: &[String],
) -> Option<String> {
    match root {
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let mut columns: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
                columns.dedup();
                nearest_or_list(&field.name, &columns, "the columns are")
            }
            SchemaError::AmbiguousReference { .. } => Some("put the table's name before it: t.column".to_owned()),
            _ => None,
        },
        DataFusionError::ResourcesExhausted(_) => {
            Some("ask for less at once (WHERE, LIMIT, fewer groups) or give the query more memory".to_owned())
        }
        root if is_missing_file(root) => {
            Some("the table's files changed while it was read; run the query again".to_owned())
        }
        DataFusionError::Plan(text) if message.starts_with("table '") => {
            let name = message
                .trim_start_matches("table '")
                .split('\'')
                .next()
                .unwrap_or_default();
            let name = name.rsplit('.').next().unwrap_or(name);
            if tables.is_empty() && text.ends_with("not found") {
                return Some("the lake has no tables yet".to_owned());
            }
            let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
            nearest_or_list(name, &tables, "the tables are")
        }
        DataFusionError::Plan(text) if text.contains("Did you mean '") => {
            let meant = text.rsplit("Did you mean '").next()?.split('\'').next()?;
            Some(format!("did you mean '{meant}'?"))
        }
        _ => {
            let diagnostic = diagnostic?;
            let helps = diagnostic.helps.iter().map(|help| help.message.as_str());
            let notes = diagnostic.notes.iter().map(|note| note.message.as_str());
            helps.chain(notes).next().map(str::to_owned)
        }
    }
}

fn nearest_or_list(name: &str, known: &[&str], list: &str) -> Option<String> {
    let wanted = name.to_lowercase();
    let nearest = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&wanted, &known.to_lowercase()), known))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, known)| *distance <= (known.len().max(wanted.len()) / 3).max(1));
    if let Some((_, nearest)) = nearest {
        return Some(format!("did you mean '{nearest}'?"));
    }
    if known.is_empty() {
        return None;
    }
    let shown = known[..known.len().min(LISTED_NAMES_MAX)].join(", ");
    let more = known.len().saturating_sub(LISTED_NAMES_MAX);
    Some(if more > 0 {
        format!("{list} {shown} and {more} more")
    } else {
        format!("{list} {shown}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_while_running_is_no_wrong_usage() {
        let kind = |error: DataFusionError| SqlError::from_datafusion(&error, "select 1", &[]).kind;
        assert_eq!(
            kind(DataFusionError::Execution("a file is damaged".to_owned())),
            ErrorKind::Failed
        );
        assert_eq!(
            kind(DataFusionError::Plan("no such function".to_owned())),
            ErrorKind::Usage
        );
        let divided = DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None);
        assert_eq!(kind(divided), ErrorKind::Usage);
    }

    #[test]
    fn the_mark_stands_under_the_place() {
        let sql = "select\n  \tgrüße, x from t";
        let error = SqlError::new(ErrorKind::Usage, "wrong").at(
            sql,
            Place {
                line: 2,
                column: 11,
                end_column: 12,
            },
        );
        assert_eq!(error.to_string(), "wrong\n 2 |    grüße, x from t\n   |           ^");
        assert_eq!((error.line, error.column), (Some(2), Some(11)));
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let sql = format!("select {} wrong {}", "a, ".repeat(100), "b, ".repeat(100));
        let column = sql.find("wrong").unwrap() as u64 + 1;
        let place = Place {
            line: 1,
            column,
            end_column: column + 5,
        };
        let text = SqlError::new(ErrorKind::Usage, "no").at(&sql, place).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].chars().count() < SHOWN_CHARS_MAX + 10);
        let at = lines[1].chars().collect::<Vec<_>>();
        let mark = lines[2].chars().position(|char| char == '^').unwrap();
        assert_eq!(at[mark..mark + 5].iter().collect::<String>(), "wrong");
        assert!(lines[2].ends_with("^^^^^") && !lines[2].ends_with("^^^^^^"));
    }

    #[test]
    fn a_place_past_the_end_is_marked_after_it() {
        let error = SqlError::new(ErrorKind::Usage, "end").at(
            "select",
            Place {
                line: 1,
                column: 40,
                end_column: 0,
            },
        );
        assert_eq!(error.to_string(), "end\n 1 | select\n   |       ^");
    }

    #[test]
    fn the_nearest_name_is_offered_or_all_are_listed() {
        let known = ["gps_data", "vehicle_data"];
        let hint = |name| nearest_or_list(name, &known, "the tables are");
        assert_eq!(hint("vehicles_data").as_deref(), Some("did you mean 'vehicle_data'?"));
        assert_eq!(hint("GPS_data").as_deref(), Some("did you mean 'gps_data'?"));
        assert_eq!(hint("x").as_deref(), Some("the tables are gps_data, vehicle_data"));
    }
}
