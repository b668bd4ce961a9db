//! A bound on bytes that several hold together.

use std::sync::Arc;

use futures::executor::block_on;
use metrics::{Gauge, gauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Cheap to clone; clones share the bytes.
#[derive(Clone)]
pub(crate) struct Budget {
    all_kib: u32,
    free: Arc<Semaphore>,
    held: Gauge,
}

/// A part of a budget, until it is dropped.
pub(crate) struct Held {
    permit: OwnedSemaphorePermit,
    held: Gauge,
}

impl Budget {
    /// The gauge tells how many of the bytes are held.
    pub(crate) fn new(bytes_max: usize, gauge_name: &'static str) -> Self {
        let all_kib = kib(bytes_max);
        Self {
            all_kib,
            free: Arc::new(Semaphore::new(all_kib as usize)),
            held: gauge!(gauge_name),
        }
    }

    /// Waits until so many are free. More than there are wait for all of them.
    pub(crate) fn take(&self, bytes: usize) -> Held {
        let kib = kib(bytes).min(self.all_kib);
        let permit = block_on(Arc::clone(&self.free).acquire_many_owned(kib));
        let permit = permit.expect("it is never closed");
        self.held.increment(f64::from(kib) * 1024.0);
        Held {
            permit,
            held: self.held.clone(),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held.decrement(self.permit.num_permits() as f64 * 1024.0);
    }
}

/// Rounded up.
fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn who_comes_late_waits_for_what_is_given_back() {
        let budget = Budget::new(10 << 10, "test");
        let first = budget.take(6 << 10);
        let (sender, taken) = channel();
        let late = budget.clone();
        let thread = std::thread::spawn(move || sender.send(late.take(1 << 30)).unwrap());
        assert!(taken.recv_timeout(Duration::from_millis(50)).is_err());
        drop(first);
        let all = taken.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(budget.free.available_permits(), 0);
        drop(all);
        assert_eq!(budget.free.available_permits(), 10);
        thread.join().unwrap();
    }
}
