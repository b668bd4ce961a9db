//! The fuzz targets over the decoder. The tests of `codec` replay the targets' seeds and finds.

pub mod targets;
