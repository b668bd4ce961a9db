//! From a chunk of Kafka records to rows and offsets in one commit: decode, validate, batch, write, commit.

pub mod decode;

pub use decode::{DecodeCounts, DecodeLimits, Decoder, ErrorClass};
