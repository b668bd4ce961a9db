//! A simulated city, as a pure function: (seed, settings) gives the same records on every machine and at every pace.
//!
//! Nothing here knows Kafka or the wall clock. The caller chooses the event time of the start, decides how fast to pull
//! steps and where the messages go.
//!
//! Every run is a [`Profile`] that fills one [`Batch`] after the other with records in the order they are due.
//!
//! [`fleet`] is a city worth analysing: vehicles of several kinds on real roads, with traffic, weather and incidents.
//! [`classic`] is the tutorial's run: one vehicle from London to Birmingham. [`random`] is the generator it draws from,
//! CPython's `random.Random` to the last bit, so that a run can be checked against the Python it comes from.

mod batch;
pub mod classic;
pub mod fleet;
pub mod isoformat;
mod message;
pub mod random;

pub use batch::{Batch, Profile, Record};
pub use message::{Message, STREAMS};
