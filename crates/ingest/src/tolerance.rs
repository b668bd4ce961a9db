//! The circuit breaker: a stream whose input is mostly broken stops before it fills the lake with dead letters.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use thiserror::Error;

/// How much of a stream's input may be broken: Kafka Connect's `errors.tolerance`, with shares between its two values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ErrorsTolerance {
    /// Each broken record is a dead letter, however many there are.
    All,
    /// The stream stops when more than `percent` of `window` records are broken among the last so many.
    Share { percent: f64, window: u64 },
}

impl ErrorsTolerance {
    /// The first broken record stops its stream.
    pub const NONE: Self = Self::Share {
        percent: 0.0,
        window: 1,
    };
}

/// What a stream was stopped by.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[error("{broken} of the last {records} records are broken, more than {percent} % of {window}")]
pub struct Excess {
    broken: u64,
    records: u64,
    percent: f64,
    window: u64,
}

/// Counts one stream's broken records. All its workers share it.
#[derive(Debug)]
pub(crate) struct Breaker {
    tolerance: ErrorsTolerance,
    is_open: AtomicBool,
    last: Mutex<Window>,
}

/// Records and how many of them were broken, in slices of a window; the oldest slice goes when the others fill it.
#[derive(Debug, Default)]
struct Window {
    slices: VecDeque<Slice>,
    total: Slice,
}

#[derive(Debug, Default, Clone, Copy)]
struct Slice {
    records: u64,
    broken: u64,
}

/// Slices in a window: it is exact to one of them.
const SLICES: u64 = 20;

impl Breaker {
    pub(crate) fn new(tolerance: ErrorsTolerance) -> Self {
        Self {
            tolerance,
            is_open: AtomicBool::new(false),
            last: Mutex::default(),
        }
    }

    /// Whether the stream is stopped: nothing of it is to be read or landed any more.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Counts records in the order they were read. Says what is too much, each time that it is.
    pub(crate) fn count(&self, records: u64, broken: u64) -> Result<(), Excess> {
        let ErrorsTolerance::Share { percent, window } = self.tolerance else {
            return Ok(());
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.push(Slice { records, broken }, window);
        let Slice { records, broken } = last.total;
        // Of the whole window, not of what has come so far: one broken record at the start is not a share of 100 %.
        if broken as f64 * 100.0 > percent * window as f64 {
            self.is_open.store(true, Ordering::Relaxed);
            return Err(Excess {
                broken,
                records,
                percent,
                window,
            });
        }
        Ok(())
    }
}

impl Window {
    fn push(&mut self, new: Slice, window: u64) {
        self.total.add(new);
        match self.slices.back_mut() {
            Some(slice) if slice.records < window / SLICES => slice.add(new),
            _ => self.slices.push_back(new),
        }
        while let Some(oldest) = self.slices.front()
            && self.total.records - oldest.records >= window
        {
            self.total.records -= oldest.records;
            self.total.broken -= oldest.broken;
            self.slices.pop_front();
        }
    }
}

impl Slice {
    fn add(&mut self, other: Slice) {
        self.records += other.records;
        self.broken += other.broken;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker(percent: f64) -> Breaker {
        Breaker::new(ErrorsTolerance::Share { percent, window: 1_000 })
    }

    #[test]
    fn a_share_counts_within_the_window_alone() {
        let breaker = breaker(5.0);
        // As many as are tolerated, again and again, each time in a window of its own.
        for _ in 0..10 {
            assert_eq!(breaker.count(50, 50), Ok(()));
            for _ in 0..100 {
                assert_eq!(breaker.count(10, 0), Ok(()));
            }
        }
        assert_eq!(breaker.count(500, 25), Ok(()));
        assert!(!breaker.is_open());
        let excess = breaker.count(500, 26).unwrap_err();
        assert!(breaker.is_open());
        assert_eq!(
            excess.to_string(),
            "51 of the last 1000 records are broken, more than 5 % of 1000"
        );
    }

    #[test]
    fn a_storm_at_the_start_is_stopped_at_the_limit() {
        let breaker = breaker(5.0);
        for _ in 0..50 {
            assert_eq!(breaker.count(1, 1), Ok(()));
        }
        assert!(breaker.count(1, 1).is_err());
    }

    #[test]
    fn none_stops_at_the_first_and_all_never() {
        let none = Breaker::new(ErrorsTolerance::NONE);
        assert_eq!(none.count(1_000, 0), Ok(()));
        assert!(none.count(1, 1).is_err());
        let all = Breaker::new(ErrorsTolerance::All);
        assert_eq!(all.count(1_000, 1_000), Ok(()));
    }

    #[test]
    fn small_chunks_do_not_pile_up() {
        let breaker = breaker(100.0);
        for _ in 0..100_000 {
            assert_eq!(breaker.count(1, 0), Ok(()));
        }
        let slices = breaker.last.lock().unwrap().slices.len();
        assert!(slices <= SLICES as usize + 1, "{slices}");
    }
}
