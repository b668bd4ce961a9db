//! Which statements are let through: those that read, one at a time.

use std::ops::ControlFlow;

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{self, Spanned, Visit, Visitor, visit_relations};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::error::{ErrorKind, Place, SqlError};

/// What the rows of a statement are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rows,
    /// The text of a plan.
    Plan,
}

/// Most operators of a statement. Each can be one more level of an expression, and DataFusion descends a stack frame or
/// more for each, when it plans and again when it computes: measured in an unoptimised build, a thread's usual 2 MiB
/// end between 500 and 700 levels.
const OPERATORS_MAX: usize = 400;

/// Most tables and subqueries of a statement, for joins nest in the same way.
const TABLES_MAX: usize = 100;

/// Reads exactly one statement.
pub(super) fn parse(sql: &str) -> Result<Statement, SqlError> {
    check_operators(sql)?;
    let statement = parse_one(sql)?;
    let tables = count_tables(&statement);
    if tables > TABLES_MAX {
        return Err(SqlError::new(
            ErrorKind::Usage,
            format!("the statement reads {tables} tables and subqueries, the most is {TABLES_MAX}"),
        ));
    }
    Ok(statement)
}

fn check_operators(sql: &str) -> Result<(), SqlError> {
    // What is no token at all is the parser's to report.
    let tokens = Tokenizer::new(&GenericDialect {}, sql)
        .tokenize_with_location()
        .unwrap_or_default();
    match tokens.iter().filter(|token| may_nest(&token.token)).nth(OPERATORS_MAX) {
        None => Ok(()),
        Some(token) => {
            let error = SqlError::new(
                ErrorKind::Usage,
                format!("the statement has more than {OPERATORS_MAX} operators"),
            )
            .with_hint("list values with IN (...), or compute in steps with WITH");
            Err(match Place::of(token.span) {
                Some(place) => error.at(sql, place),
                None => error,
            })
        }
    }
}

/// Whether a token can put what stands before it one level deeper. Parentheses and function calls are the parser's own
/// recursion, which it bounds itself.
fn may_nest(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::AT
                | Keyword::BETWEEN
                | Keyword::COLLATE
                | Keyword::DIV
                | Keyword::EXCEPT
                | Keyword::ILIKE
                | Keyword::IN
                | Keyword::INTERSECT
                | Keyword::IS
                | Keyword::LIKE
                | Keyword::MINUS
                | Keyword::NOT
                | Keyword::NOTNULL
                | Keyword::OR
                | Keyword::OVERLAPS
                | Keyword::REGEXP
                | Keyword::RLIKE
                | Keyword::SIMILAR
                | Keyword::UNION
                | Keyword::XOR
        ),
        Token::EOF
        | Token::Number(..)
        | Token::Char(_)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::Whitespace(_)
        | Token::Comma
        | Token::LParen
        | Token::RParen
        | Token::RBracket
        | Token::Period
        | Token::SemiColon => false,
        _ => true,
    }
}

fn count_tables(statement: &Statement) -> usize {
    struct Tables(usize);
    impl Visitor for Tables {
        type Break = ();

        fn pre_visit_table_factor(&mut self, _: &ast::TableFactor) -> ControlFlow<()> {
            self.0 += 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_query(&mut self, _: &ast::Query) -> ControlFlow<()> {
            self.0 += 1;
            ControlFlow::Continue(())
        }
    }
    let mut tables = Tables(0);
    match statement {
        Statement::Explain(explain) => return count_tables(&explain.statement),
        Statement::Statement(statement) => {
            let _ = statement.visit(&mut tables);
        }
        _ => {}
    }
    tables.0
}

fn parse_one(sql: &str) -> Result<Statement, SqlError> {
    let parsed: Result<_, DataFusionError> = DFParserBuilder::new(sql)
        .build()
        .and_then(|mut parser| parser.parse_statements());
    let mut statements = parsed.map_err(|error| SqlError::from_datafusion(&error, sql, &[]))?;
    match (statements.pop_front(), statements.pop_front()) {
        (Some(statement), None) => Ok(statement),
        (None, _) => Err(SqlError::new(ErrorKind::Usage, "no SQL statement given")
            .with_hint("try \"select count(*) from vehicle_data\" or \"show tables\"")),
        (Some(_), Some(second)) => {
            let error = SqlError::new(ErrorKind::Usage, "more than one statement").with_hint("give them one at a time");
            Err(match &second {
                Statement::Statement(second) => match Place::of(second.span()) {
                    Some(place) => error.at(sql, place),
                    None => error,
                },
                _ => error,
            })
        }
    }
}

/// Lets SELECT, WITH, VALUES, EXPLAIN of these, SHOW and DESCRIBE pass, and nothing else.
pub(super) fn check_read_only(statement: &Statement, sql: &str) -> Result<Kind, SqlError> {
    match statement {
        Statement::Explain(explain) => check_read_only(&explain.statement, sql).map(|_| Kind::Plan),
        Statement::Statement(inner) => check_sql_statement(inner, sql),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => Err(refused(statement, sql)),
    }
}

fn check_sql_statement(statement: &ast::Statement, sql: &str) -> Result<Kind, SqlError> {
    match statement {
        ast::Statement::Explain { statement, .. } => check_sql_statement(statement, sql).map(|_| Kind::Plan),
        ast::Statement::Query(_)
        | ast::Statement::ExplainTable { .. }
        | ast::Statement::ShowTables { .. }
        | ast::Statement::ShowColumns { .. }
        | ast::Statement::ShowFunctions { .. } => Ok(Kind::Rows),
        other => Err(refused(other, sql)),
    }
}

fn refused(statement: &impl ToString, sql: &str) -> SqlError {
    let text = statement.to_string();
    let mut words = text.split_whitespace();
    let verb = words.next().unwrap_or_default().to_uppercase();
    let name = match (verb.as_str(), words.next()) {
        ("CREATE" | "DROP" | "ALTER", Some(object)) => format!("{verb} {}", object.to_uppercase()),
        _ => verb,
    };
    refusal(&name).at(sql, Place::first_word(sql))
}

/// The error for a statement that is not among those that read.
pub(super) fn refusal(name: &str) -> SqlError {
    SqlError::new(
        ErrorKind::Usage,
        format!("{name} is refused: queries only read the lake"),
    )
    .with_hint("SELECT, WITH, VALUES, EXPLAIN, SHOW TABLES, SHOW COLUMNS and DESCRIBE are allowed")
}

/// Where a statement names `table` first.
pub(super) fn place_of_table(statement: &Statement, table: &str) -> Option<Place> {
    match statement {
        Statement::Explain(explain) => place_of_table(&explain.statement, table),
        Statement::Statement(statement) => {
            let found = visit_relations(statement.as_ref(), |name| {
                let last = name.0.last().and_then(|part| part.as_ident());
                match last.filter(|ident| ident.value.eq_ignore_ascii_case(table)) {
                    Some(ident) => ControlFlow::Break(Place::of(ident.span)),
                    None => ControlFlow::Continue(()),
                }
            });
            match found {
                ControlFlow::Break(place) => place,
                ControlFlow::Continue(()) => None,
            }
        }
        _ => None,
    }
}
