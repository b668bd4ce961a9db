//! Work that failed and is tried again beside the requests: when the next try is due, and which failures are logged.

use std::time::{Duration, Instant};

/// The first failure is tried again after this long, each further one after twice as long, up to the second: work that
/// can be done again waits no longer than that.
const DELAY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// A failure that lasts is logged this often.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// How one piece of work has gone so far.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    /// Since the last success.
    failures: u32,
    due: Option<Instant>,
    last_report: Option<Instant>,
    /// Whether a failure since the last success was logged.
    is_reported: bool,
}

impl Retry {
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| due <= now)
    }

    /// Notes a failure; whether it shall be logged.
    pub(crate) fn failed(&mut self, now: Instant) -> bool {
        let delay = DELAY.0.saturating_mul(1 << self.failures.min(16)).min(DELAY.1);
        self.failures = self.failures.saturating_add(1);
        self.due = Some(now + delay);
        let reports = self
            .last_report
            .is_none_or(|at| now.saturating_duration_since(at) >= REPORT_INTERVAL);
        if reports {
            self.last_report = Some(now);
            self.is_reported = true;
        }
        reports
    }

    /// Notes a success; whether it shall be logged, as the end of failures that were.
    pub(crate) fn worked(&mut self) -> bool {
        self.failures = 0;
        self.due = None;
        std::mem::take(&mut self.is_reported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_a_second_apart_at_most_and_logged_once_a_minute() {
        let (mut retry, start) = (Retry::default(), Instant::now());
        let (mut tries, mut reports) = (Vec::new(), 0);
        for ms in (0..600_000).step_by(50) {
            let now = start + Duration::from_millis(ms);
            if retry.is_due(now) {
                tries.push(ms);
                reports += usize::from(retry.failed(now));
            }
        }
        assert_eq!(tries[..6], [0, 50, 150, 350, 750, 1550]);
        assert!(tries.windows(2).all(|pair| pair[1] - pair[0] <= 1000));
        assert_eq!(reports, 10);
        assert!(retry.worked() && !retry.worked());
        // One that comes and goes is no reason to log more.
        let later = start + Duration::from_secs(601);
        assert!(retry.is_due(later) && retry.failed(later));
        assert!(retry.worked() && !retry.failed(later + Duration::from_secs(1)) && !retry.worked());
    }
}
