//! Randomness by place instead of by sequence: each draw is a hash of what it is for, so that any vehicle, trip or second
//! can be drawn without the ones before it.
//!
//! The hash is SplitMix64's finaliser (Steele, Lea and Flood, 2014) over the words of the path; all of it is integer
//! arithmetic, the same on every machine.

/// A place in the tree of draws. Cheap to copy; a child is made by naming it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u64);

/// What a draw is for: the first word below a key, so that no two uses share their numbers.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub(crate) enum For {
    Profile = 1,
    Day,
    Trip,
    Cruise,
    Gps,
    Weather,
    Incident,
    Traffic,
    Camera,
    Streets,
    Fault,
    Skew,
    Silence,
    Stuck,
    Lag,
}

impl Key {
    pub(crate) fn new(seed: u64) -> Self {
        Key(mix(seed ^ 0x5EED_C17F_1EE7_0001))
    }

    #[inline]
    pub(crate) fn of(self, purpose: For) -> Self {
        self.with(purpose as u64)
    }

    #[inline]
    pub(crate) fn with(self, word: u64) -> Self {
        Key(mix(self.0 ^ mix(word.wrapping_add(0x9E37_79B9_7F4A_7C15))))
    }

    /// 64 bits.
    #[inline]
    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// In [0, 1).
    #[inline]
    pub(crate) fn unit(self) -> f64 {
        unit(self.0)
    }

    /// In `[low, high)`.
    #[inline]
    pub(crate) fn between(self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// In `[0, n)`; `n` is small, so the bias of the multiplication is not.
    #[inline]
    pub(crate) fn below(self, n: usize) -> usize {
        ((u128::from(self.0) * n as u128) >> 64) as usize
    }

    #[inline]
    pub(crate) fn happens(self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Mean 0, standard deviation 1: the sum of four uniform draws, so never beyond 3.47.
    #[inline]
    pub(crate) fn normal(self) -> f64 {
        normal(self.0)
    }

    /// Mean 1.
    pub(crate) fn exponential(self) -> f64 {
        -libm::log(1.0 - self.unit())
    }

    /// A draw from a Poisson distribution of mean `mean`: by inversion below 30, by the normal approximation above.
    pub(crate) fn poisson(self, mean: f64) -> u32 {
        if mean > 30.0 {
            return (mean + mean.sqrt() * self.normal()).max(0.0) as u32;
        }
        let (mut count, mut chance) = (0, libm::exp(-mean));
        let (mut below, drawn) = (chance, self.unit());
        while drawn >= below && count < 100 {
            count += 1;
            chance *= mean / f64::from(count);
            below += chance;
        }
        count
    }
}

#[inline]
pub(crate) fn unit(word: u64) -> f64 {
    (word >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
}

#[inline]
pub(crate) fn normal(word: u64) -> f64 {
    let sum = (word & 0xffff) + (word >> 16 & 0xffff) + (word >> 32 & 0xffff) + (word >> 48);
    // Four uniform draws on 0..=65535: mean 131070, variance 4 (2^32 - 1) / 12.
    (sum as f64 - 131_070.0) * (1.0 / 37_837.2)
}

#[inline]
pub(crate) fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_their_moments() {
        let key = Key::new(7).of(For::Gps);
        let n = 100_000;
        let normals: Vec<f64> = (0..n).map(|i| key.with(i).normal()).collect();
        let mean = normals.iter().sum::<f64>() / n as f64;
        let variance = normals.iter().map(|x| x * x).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        for expected in [0.3, 4.0, 80.0] {
            let sum: f64 = (0..n).map(|i| f64::from(key.with(i).poisson(expected))).sum();
            assert!((sum / n as f64 / expected - 1.0).abs() < 0.02, "{expected}");
        }
    }

    #[test]
    fn neighbours_are_strangers() {
        let key = Key::new(7);
        let mut agree = 0;
        for i in 0..10_000 {
            agree += (key.with(i).word() ^ key.with(i + 1).word()).count_zeros();
        }
        assert!((f64::from(agree) / 640_000.0 - 0.5).abs() < 0.005);
    }
}
