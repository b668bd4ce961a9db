//! The decoder from the outside.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod decode;
mod elements;
mod fuzz;
mod one;
mod properties;
mod serializers;
#[path = "../../../../tests/skip.rs"]
mod skip;
mod types;
mod written;
