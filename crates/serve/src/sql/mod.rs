//! Read-only SQL over a lake: every Delta table below `<root>/data/` by its folder's name.
//!
//! A statement reads a catalog of its own: each table that it names is opened once, at its newest version (or where
//! [`TimeTravel`] says), so a statement sees everything that was committed before it began, sees one version of each
//! table wherever it names it, and costs nothing for the tables that it does not name.
//!
//! In the order of a statement's way: `session` takes it, `statement` parses and checks it, `catalog` opens its tables,
//! `plan` plans it on a thread of `planner_pool`, `result` streams its rows.

mod catalog;
mod engine;
mod environment;
mod error;
mod json;
mod limits;
mod literals;
mod plan;
mod planner_pool;
mod result;
mod session;
mod statement;
mod table;
mod version;

pub use datafusion::common::ScalarValue;

pub use self::engine::{DEFAULT_MEMORY_BYTES, Engine, EngineSettings};
pub use self::error::{ErrorKind, SqlError};
pub use self::result::QueryResult;
pub use self::session::{CancelHandle, Prepared, Session, SessionSettings};
pub use self::version::TimeTravel;
