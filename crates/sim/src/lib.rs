//! A simulated city, as a pure function: (seed, settings) gives the same records on every machine and at every pace.
//!
//! Nothing here knows Kafka or the wall clock. The caller chooses the event time of the start, decides how fast to pull
//! steps and where the messages go.
//!
//! [`classic`] is the tutorial's run: one vehicle from London to Birmingham. [`random`] is the generator it draws from,
//! CPython's `random.Random` to the last bit, so that a run can be checked against the Python it comes from.

pub mod classic;
pub mod isoformat;
mod message;
pub mod random;

pub use message::{Message, STREAMS};
