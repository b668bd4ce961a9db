//! How a writer waits between two tries: an argument, so that a simulation need not wait in real time.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

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
