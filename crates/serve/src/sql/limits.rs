//! When a statement has to stop before its end: cancelled by its client, or out of time.

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::error::{ErrorKind, SqlError};

/// The limits of one statement, from its start on.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    cancelled: CancellationToken,
    timeout: Option<(Duration, Instant)>,
}

impl Limits {
    pub(super) fn new(cancelled: CancellationToken, timeout: Option<Duration>) -> Limits {
        // A timeout beyond what the clock can express is none.
        let timeout = timeout.and_then(|timeout| Some((timeout, Instant::now().checked_add(timeout)?)));
        Limits { cancelled, timeout }
    }

    /// Ends when the statement has to stop, with the reason.
    pub(super) async fn reached(self) -> SqlError {
        let timed_out = async {
            match self.timeout {
                Some((timeout, at)) => {
                    sleep_until(at).await;
                    timeout
                }
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.cancelled.cancelled() => SqlError::new(ErrorKind::Cancelled, "the query was cancelled"),
            timeout = timed_out => SqlError::new(
                ErrorKind::Cancelled,
                format!("the query took longer than the statement timeout of {} ms", timeout.as_millis()),
            ),
        }
    }
}
