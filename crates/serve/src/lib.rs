//! What reads the lake: SQL over its tables, the shapes a result is written in, and the HTTP face of a running process.
//!
//! This crate sees the lake alone. It knows no Kafka, and it never writes a table: every statement that would is refused
//! before it is planned.

pub mod http;
pub mod output;
pub mod sql;
