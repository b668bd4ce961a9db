//! The time, as an argument.

use std::fmt::Debug;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The wall clock. Retention, log-append times and commit times read it.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Milliseconds since 1970, UTC.
    fn now_ms(&self) -> i64;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    // The one place of this crate that reads the wall clock; everything else takes a `Clock`.
    #[allow(clippy::disallowed_methods)]
    fn now_ms(&self) -> i64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_millis() as i64)
    }
}

/// One moment: by the wall clock for what is written down, by the monotonic one for time-outs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) ms: i64,
    pub(crate) instant: Instant,
}
