//! Where unique names come from: files and commits are told apart by them, and a simulation must be able to repeat them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

/// A source of unique names. Cheap to clone; clones draw from the same source.
#[derive(Clone)]
pub struct Names(Arc<dyn Fn() -> Uuid + Send + Sync>);

impl Names {
    pub fn new(next: impl Fn() -> Uuid + Send + Sync + 'static) -> Self {
        Self(Arc::new(next))
    }

    /// Names from the machine's randomness: never the same twice, in any process.
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that draws names from the machine's randomness"
    )]
    pub fn random() -> Self {
        Self::new(Uuid::new_v4)
    }

    /// The same names for the same seed; for tests and simulations. Two writers on one lake need two seeds.
    pub fn seeded(seed: u64) -> Self {
        let drawn = AtomicU64::new(0);
        Self::new(move || {
            let count = drawn.fetch_add(1, Ordering::Relaxed);
            let high = split_mix(seed ^ split_mix(count));
            let low = split_mix(high ^ seed.rotate_left(32));
            uuid::Builder::from_random_bytes(((u128::from(high) << 64) | u128::from(low)).to_be_bytes()).into_uuid()
        })
    }

    pub fn next(&self) -> Uuid {
        (self.0)()
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Names")
    }
}

/// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014).
fn split_mix(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
