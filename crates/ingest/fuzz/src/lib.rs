//! The decoder, taken by its path, and the fuzz targets over it. The tests of `ingest` replay the targets' seeds and
//! finds against the decoder as it is built for use.

#[path = "../../src/decode/mod.rs"]
pub mod decode;
pub mod targets;
