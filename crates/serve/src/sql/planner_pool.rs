//! The threads on which statements are planned.
//!
//! Parsing, planning and optimizing descend one or more stack frames for each nested expression, in an unoptimised build
//! large ones, and a stack overflow ends the whole process. So they run on threads with a stack for the largest statement
//! that is let through (`statement`), and there is a bounded number of such threads.
//!
//! The threads are a Tokio runtime of their own: a plan that waits for the lake (the log of a table is read while
//! planning) occupies none of them, a panic ends one plan and no thread, and a caller who gives up ends the plan at its
//! next wait. `docs/design/sql.md` has what else was weighed.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::Instant;

use metrics::{gauge, histogram};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

/// Stack of a thread that plans. Only the pages that a statement touches cost memory.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Most threads that plan: planning is short, and the cores belong to those that run queries.
const THREADS_MAX: usize = 8;

/// Threads for the reads of local files while planning.
const FILE_THREADS_MAX: usize = 4;

/// Statements that are planned at the same time, those that wait for the lake included.
const PLANNED_AT_ONCE: usize = 64;

/// Statements that wait for their turn; what comes beyond is refused.
const WAITING_MAX: usize = 1000;

/// Why a statement was not planned.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlannerError {
    #[error("{WAITING_MAX} statements wait to be planned, which is the most")]
    QueueFull,
    #[error("the query could not be planned: the planner's threads do not start: {0}")]
    Threads(#[from] std::io::Error),
    #[error("the query could not be planned: the planner panicked")]
    Panicked,
    #[error("the query could not be planned: the engine was closed")]
    Closed,
}

pub(super) struct PlannerPool {
    /// Started by the first statement.
    runtime: Mutex<Option<Runtime>>,
    turns: Semaphore,
    waiting: AtomicUsize,
}

impl PlannerPool {
    pub(super) fn new() -> PlannerPool {
        PlannerPool {
            runtime: Mutex::new(None),
            turns: Semaphore::new(PLANNED_AT_ONCE),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Runs `planning` on a deep stack, after those that came before it. Dropping the returned future stops it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        planning: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, PlannerError> {
        let came = Instant::now();
        let _turn = {
            let _place = Place::take(&self.waiting)?;
            self.turns.acquire().await.map_err(|_| PlannerError::Closed)?
        };
        let began = Instant::now();
        histogram!("smartcity_serve_planning_wait_seconds").record(began - came);
        let planned = AbortOnDropHandle::new(self.threads()?.spawn(planning)).await;
        histogram!("smartcity_serve_planning_seconds").record(began.elapsed());
        planned.map_err(|error| match error.is_panic() {
            true => PlannerError::Panicked,
            false => PlannerError::Closed,
        })
    }

    fn threads(&self) -> Result<Handle, std::io::Error> {
        let mut runtime = self.runtime.lock();
        let runtime = match &mut *runtime {
            Some(runtime) => runtime,
            empty => empty.insert(start()?),
        };
        Ok(runtime.handle().clone())
    }
}

impl Drop for PlannerPool {
    fn drop(&mut self) {
        // An engine may be dropped by a task, where waiting for threads is not allowed.
        if let Some(runtime) = self.runtime.get_mut().take() {
            runtime.shutdown_background();
        }
    }
}

fn start() -> Result<Runtime, std::io::Error> {
    let cores = available_parallelism().map_or(1, NonZeroUsize::get);
    Builder::new_multi_thread()
        .thread_name("plan-query")
        .thread_stack_size(STACK_BYTES)
        .worker_threads(cores.min(THREADS_MAX))
        .max_blocking_threads(FILE_THREADS_MAX)
        .enable_all()
        .build()
}

/// One of the places of those that wait.
struct Place<'a>(&'a AtomicUsize);

impl Place<'_> {
    fn take(waiting: &AtomicUsize) -> Result<Place<'_>, PlannerError> {
        let taken = waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
            (waiting < WAITING_MAX).then_some(waiting + 1)
        });
        taken.map_err(|_| PlannerError::QueueFull)?;
        gauge!("smartcity_serve_planning_queue_length").increment(1);
        Ok(Place(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        gauge!("smartcity_serve_planning_queue_length").decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_panic_ends_one_plan_and_no_thread() {
        let pool = PlannerPool::new();
        for _ in 0..2 * THREADS_MAX {
            let planned = pool.run(async { panic!("on purpose") }).await;
            assert!(matches!(planned, Err::<(), _>(PlannerError::Panicked)));
        }
        assert_eq!(pool.run(async { 1 }).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn beyond_the_queue_statements_are_refused_and_places_come_back() {
        let pool = Arc::new(PlannerPool::new());
        let endless: Vec<_> = (0..PLANNED_AT_ONCE + WAITING_MAX)
            .map(|_| {
                let pool = Arc::clone(&pool);
                AbortOnDropHandle::new(tokio::spawn(async move { pool.run(pending::<()>()).await }))
            })
            .collect();
        while pool.waiting.load(Ordering::Relaxed) < WAITING_MAX {
            tokio::task::yield_now().await;
        }
        assert!(matches!(pool.run(async {}).await, Err(PlannerError::QueueFull)));
        drop(endless);
        tokio::time::timeout(Duration::from_secs(60), async {
            while pool.run(async {}).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn a_plan_that_nobody_waits_for_stops() {
        struct Held(Arc<()>);
        let pool = PlannerPool::new();
        let held = Arc::new(());
        let inside = Held(Arc::clone(&held));
        let planning = pool.run(async move {
            let _inside = inside.0;
            pending::<()>().await;
        });
        assert!(tokio::time::timeout(Duration::from_millis(50), planning).await.is_err());
        tokio::time::timeout(Duration::from_secs(60), async {
            while Arc::strong_count(&held) > 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap();
    }
}
