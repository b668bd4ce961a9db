//! How long a writer waits between two tries, and how: an argument, so that a simulation need not wait in real time.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tracing::debug;
use uuid::Uuid;

use crate::{LakeError, Names};

/// Waits for a time. Cheap to clone.
#[derive(Clone)]
pub struct Pause(Arc<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>);

impl Pause {
    pub fn new(pause: impl Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(pause))
    }

    /// Real time, on the async runtime.
    pub fn real() -> Self {
        Self::new(|duration| Box::pin(tokio::time::sleep(duration)))
    }

    pub fn wait(&self, duration: Duration) -> BoxFuture<'static, ()> {
        (self.0)(duration)
    }
}

impl std::fmt::Debug for Pause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pause")
    }
}

/// The pauses of one writer while Kafka or the lake is away, doubling from 100 ms to 10 s. Tries have no end, pauses have.
#[derive(Debug)]
pub struct Backoff {
    pause: Pause,
    names: Names,
    full: Duration,
}

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

impl Backoff {
    pub(crate) fn new(pause: Pause, names: Names) -> Self {
        let full = FIRST;
        Self { pause, names, full }
    }

    /// How long to wait before the next try.
    pub fn pause(&mut self) -> Duration {
        let pause = jittered(self.full, self.names.next());
        self.full = (self.full * 2).min(LONGEST);
        pause
    }

    /// Waits that long.
    pub fn wait(&mut self) -> BoxFuture<'static, ()> {
        let duration = self.pause();
        self.pause.wait(duration)
    }
}

/// Tries of one request out of many, before all of them begin again.
const REQUEST_TRIES: u32 = 6;

/// Requests that are tried a few times each. To open a table takes many of them, and to start over because one has failed
/// may never come to an end.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    pause: Pause,
    names: Names,
}

impl Patience {
    pub(crate) fn new(pause: Pause, names: Names) -> Self {
        Self { pause, names }
    }

    /// Waits before this try of something, counted from 1.
    pub(crate) async fn pause(&self, tries: u32) {
        let full = (FIRST * 2_u32.pow(tries.saturating_sub(1).min(8))).min(LONGEST);
        self.pause.wait(jittered(full, self.names.next())).await;
    }

    /// The answer, or the error of the last try. An error that trying again cannot mend is the last one.
    pub(crate) async fn request<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, LakeError>
    where
        F: Future<Output = Result<T, LakeError>>,
    {
        for tries in 1..REQUEST_TRIES {
            match attempt().await {
                Err(error) if error.is_retryable() => {
                    debug!(%error, tries, "a request has failed; trying it again");
                    self.pause(tries).await;
                }
                result => return result,
            }
        }
        attempt().await
    }
}

/// Half of a pause is left to chance, so that writers which fail together do not come back together.
pub(crate) fn jittered(full: Duration, chance: Uuid) -> Duration {
    let half_us = full.as_micros() as u64 / 2;
    Duration::from_micros(half_us + chance.as_u64_pair().1 % (half_us + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_differ_between_writers() {
        let pauses = |seed| {
            let mut backoff = Backoff::new(Pause::real(), Names::seeded(seed));
            (0..20).map(|_| backoff.pause()).collect::<Vec<_>>()
        };
        let one = pauses(1);
        for (tried, pause) in one.iter().enumerate() {
            let full = (FIRST * 2_u32.pow(tried as u32)).min(LONGEST);
            assert!((full / 2..=full).contains(pause), "{tried}: {pause:?}");
        }
        assert_ne!(one, pauses(2));
    }
}
