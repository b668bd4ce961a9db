//! The tables of a lake: one for each stream, and those of all streams together.

pub(crate) mod commits;
pub(crate) mod dead_letters;
pub(crate) mod erasures;
pub(crate) mod gaps;
mod lost_offsets;
pub(crate) mod rewrite;
pub(crate) mod starts;
pub(crate) mod stream;
