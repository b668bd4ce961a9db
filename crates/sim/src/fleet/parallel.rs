//! Several threads make the chunks of each step; the caller gets them in the order one thread would have made them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::batch::Batch;
use crate::fleet::Shared;
use crate::fleet::chunk::{Chunk, Worker};

/// Batches that each thread may be ahead: memory is bounded by this.
const AHEAD_MAX: usize = 2;

pub(super) struct Parallel {
    threads: Vec<Thread>,
    chunks: usize,
    /// The step and chunk to hand out next.
    step: u64,
    chunk: usize,
    /// The step that is not made any more.
    end: Arc<AtomicU64>,
}

struct Thread {
    batches: Receiver<Batch>,
    /// Batches on their way back, to be filled again.
    spare: SyncSender<Batch>,
    _handle: JoinHandle<()>,
}

impl Parallel {
    /// Chunk `c` belongs to thread `c % threads`.
    pub(super) fn start(shared: &Arc<Shared>, threads: usize, first_step: u64) -> Self {
        let end = Arc::new(AtomicU64::new(shared.settings.steps().unwrap_or(u64::MAX)));
        let start = |number: usize| {
            let (sender, batches) = sync_channel(AHEAD_MAX);
            let (spare, spares) = sync_channel(AHEAD_MAX + 1);
            let work = Work {
                shared: Arc::clone(shared),
                chunks: (number..shared.chunks() as usize).step_by(threads).collect(),
                first_step,
                end: Arc::clone(&end),
                batches: sender,
                spares,
            };
            Thread {
                batches,
                spare,
                _handle: std::thread::spawn(move || work.run()),
            }
        };
        Self {
            threads: (0..threads).map(start).collect(),
            chunks: shared.chunks() as usize,
            step: first_step,
            chunk: 0,
            end,
        }
    }

    /// Puts the next batch in place of `batch`; `false` at the end.
    pub(super) fn fill(&mut self, batch: &mut Batch) -> bool {
        let thread = &self.threads[self.chunk % self.threads.len()];
        // A thread that has ended has handed out all it had.
        let Ok(next) = thread.batches.recv() else {
            return false;
        };
        // One buffer too many, or one whose thread has ended, is let go.
        thread.spare.try_send(std::mem::replace(batch, next)).ok();
        self.chunk += 1;
        if self.chunk == self.chunks {
            (self.chunk, self.step) = (0, self.step + 1);
        }
        true
    }

    /// Ends the run at a step that no thread has begun: what they are ahead is handed out still.
    pub(super) fn stop(&mut self) {
        self.end.fetch_min(self.step + AHEAD_MAX as u64 + 2, Ordering::Relaxed);
    }
}

/// One thread's part.
struct Work {
    shared: Arc<Shared>,
    chunks: Vec<usize>,
    first_step: u64,
    end: Arc<AtomicU64>,
    batches: SyncSender<Batch>,
    spares: Receiver<Batch>,
}

impl Work {
    fn run(self) {
        let mut worker = Worker::new(&self.shared, self.first_step);
        let numbers = self.chunks.iter().map(|number| *number as u32);
        let mut chunks: Vec<Chunk> = numbers
            .map(|number| Chunk::new(&mut worker, number, self.first_step))
            .collect();
        let mut step = self.first_step;
        while step < self.end.load(Ordering::Relaxed) {
            for chunk in &mut chunks {
                if !self.hand_out(|batch| chunk.step(&mut worker, step, batch)) {
                    return;
                }
            }
            step += 1;
        }
        for chunk in &mut chunks {
            if !self.hand_out(|batch| chunk.drain(batch)) {
                return;
            }
        }
    }

    /// `false` when nobody takes it any more: the run has been dropped.
    fn hand_out(&self, fill: impl FnOnce(&mut Batch)) -> bool {
        let mut batch = self.spares.try_recv().unwrap_or_default();
        batch.clear();
        fill(&mut batch);
        self.batches.send(batch).is_ok()
    }
}
