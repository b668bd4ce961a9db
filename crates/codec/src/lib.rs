//! Record values to record batches: each record of a chunk becomes one whole row or one dead letter, never half of
//! either. `docs/design/decoding.md` lists what becomes of every kind of bad record.
//!
//! A record's way, file by file: `decoder` takes a chunk; a format ([`json`]) reads a value into a `row`, by the stream's
//! `layout`; `validate` has the rules of the declaration, the same for every format; `columns` appends the row.
//!
//! Knows nothing of Kafka clients, tables and files.

mod columns;
mod decoder;
mod error;
mod error_class;
mod json;
mod layout;
mod row;
mod validate;

pub use decoder::{DecodeCounts, DecodeLimits, Decoder};
pub use error_class::ErrorClass;
pub use json::NESTING_MAX;
