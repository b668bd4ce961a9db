//! CPython's `random.Random(seed)`, bit for bit, for the draws the simulator makes.
//!
//! The generator is MT19937 (Matsumoto and Nishimura, 1998) seeded by `init_by_array`; the distributions follow
//! CPython's `Lib/random.py` and `Modules/_randommodule.c`, unchanged in what they draw since Python 3.2. The order of
//! the floating-point operations is part of the contract: `uniform` must round where CPython rounds.

use std::fmt;

const STATE_WORDS: usize = 624;
const SHIFT_WORDS: usize = 397;

/// A Mersenne Twister that draws what `random.Random` of the same seed draws.
#[derive(Clone)]
pub struct Random {
    state: [u32; STATE_WORDS],
    next: usize,
}

impl Random {
    /// `random.Random(seed)`.
    pub fn new(seed: u64) -> Self {
        Self::from_words(&[seed as u32, (seed >> 32) as u32])
    }

    /// `random.Random(n)` for a non-negative integer of any size, given as its 32-bit words, least significant first.
    /// Leading zeros of the number (trailing zero words) do not matter; no words at all is the number 0.
    pub fn from_words(words: &[u32]) -> Self {
        let significant = words.iter().rposition(|&word| word != 0).map_or(0, |last| last + 1);
        let key = if significant == 0 {
            &[0][..]
        } else {
            &words[..significant]
        };
        Self {
            state: state_from_key(key),
            next: STATE_WORDS,
        }
    }

    /// The next 32 bits of the generator.
    pub fn next_u32(&mut self) -> u32 {
        if self.next == STATE_WORDS {
            self.twist();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// `random()`: a multiple of 2^-53 in [0, 1).
    pub fn random(&mut self) -> f64 {
        let high = f64::from(self.next_u32() >> 5);
        let low = f64::from(self.next_u32() >> 6);
        (high * 67_108_864.0 + low) * (1.0 / 9_007_199_254_740_992.0)
    }

    /// `uniform(a, b)`: a number between `a` and `b`; the ends may come out through rounding.
    pub fn uniform(&mut self, a: f64, b: f64) -> f64 {
        a + (b - a) * self.random()
    }

    /// `randint(a, b)`: an integer in `[a, b]`, both ends included.
    ///
    /// # Panics
    /// When `a > b`, where CPython raises `ValueError`.
    pub fn randint(&mut self, a: i64, b: i64) -> i64 {
        assert!(a <= b, "randint: empty range {a}..={b}");
        let width = i128::from(b) - i128::from(a) + 1;
        let drawn = self.randbelow(width as u128) as i128;
        // In range: at most `b`.
        (i128::from(a) + drawn) as i64
    }

    /// `choice(options)`.
    ///
    /// # Panics
    /// When there is nothing to choose from, where CPython raises `IndexError`.
    pub fn choice<T: Copy>(&mut self, options: &[T]) -> T {
        assert!(!options.is_empty(), "choice: no options");
        options[self.randbelow(options.len() as u128) as usize]
    }

    /// `getrandbits(k)`: an integer of `k` random bits. Zero bits draw nothing.
    ///
    /// # Panics
    /// When `k` is above 128.
    pub fn getrandbits(&mut self, k: u32) -> u128 {
        assert!(k <= 128, "getrandbits: {k} bits do not fit 128");
        let mut bits = 0;
        let mut filled = 0;
        while filled < k {
            let wanted = (k - filled).min(32);
            // A partial word keeps its upper bits, and comes last, so it is the most significant.
            bits |= u128::from(self.next_u32() >> (32 - wanted)) << filled;
            filled += wanted;
        }
        bits
    }

    /// `_randbelow(n)`: an integer in `[0, n)` by rejection. The width is that of `n` and not of `n - 1`, as in
    /// CPython, so a power of two rejects half of its draws.
    fn randbelow(&mut self, n: u128) -> u128 {
        let k = u128::BITS - n.leading_zeros();
        loop {
            let drawn = self.getrandbits(k);
            if drawn < n {
                return drawn;
            }
        }
    }

    fn twist(&mut self) {
        for i in 0..STATE_WORDS {
            let joined = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % STATE_WORDS] & 0x7fff_ffff);
            let folded = if joined & 1 == 0 { 0 } else { 0x9908_b0df };
            self.state[i] = self.state[(i + SHIFT_WORDS) % STATE_WORDS] ^ (joined >> 1) ^ folded;
        }
        self.next = 0;
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Random")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// MT19937's `init_by_array`; the key is not empty.
fn state_from_key(key: &[u32]) -> [u32; STATE_WORDS] {
    let mut state = [0_u32; STATE_WORDS];
    state[0] = 19_650_218;
    for i in 1..STATE_WORDS {
        state[i] = mixed(state[i - 1]).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
    }

    let mut i = 1;
    for round in 0..STATE_WORDS.max(key.len()) {
        let j = round % key.len();
        state[i] = (state[i] ^ mixed(state[i - 1]).wrapping_mul(1_664_525))
            .wrapping_add(key[j])
            .wrapping_add(j as u32);
        i = following(i, &mut state);
    }
    for _ in 1..STATE_WORDS {
        state[i] = (state[i] ^ mixed(state[i - 1]).wrapping_mul(1_566_083_941)).wrapping_sub(i as u32);
        i = following(i, &mut state);
    }
    state[0] = 0x8000_0000;
    state
}

fn mixed(word: u32) -> u32 {
    word ^ (word >> 30)
}

/// The index after `i`. Going round skips word 0, which takes the last word's value as the predecessor of word 1.
fn following(i: usize, state: &mut [u32; STATE_WORDS]) -> usize {
    if i + 1 < STATE_WORDS {
        return i + 1;
    }
    state[0] = state[STATE_WORDS - 1];
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_draws_are_those_of_cpython() {
        // python3 -c 'import random; print(random.Random(42).random())', and so on.
        assert_eq!(Random::new(0).random().to_bits(), 0.8444218515250481_f64.to_bits());
        assert_eq!(Random::new(42).random().to_bits(), 0.6394267984578837_f64.to_bits());
    }

    #[test]
    fn the_reference_key_gives_the_reference_output() {
        // First numbers of `mt19937ar.out`, published with the reference implementation.
        let mut random = Random::from_words(&[0x123, 0x234, 0x345, 0x456]);
        let first: Vec<u32> = (0..5).map(|_| random.next_u32()).collect();
        assert_eq!(
            first,
            [1_067_595_299, 955_945_823, 477_289_528, 4_107_218_783, 4_228_976_476]
        );
    }

    #[test]
    fn leading_zeros_of_the_seed_do_not_matter() {
        assert_eq!(Random::from_words(&[]).next_u32(), Random::new(0).next_u32());
        assert_eq!(Random::from_words(&[7, 0, 0]).next_u32(), Random::new(7).next_u32());
        assert_ne!(Random::from_words(&[7, 0, 1]).next_u32(), Random::new(7).next_u32());
    }

    #[test]
    fn the_widest_range_has_room() {
        let mut random = Random::new(1);
        let drawn: Vec<i64> = (0..64).map(|_| random.randint(i64::MIN, i64::MAX)).collect();
        assert!(drawn.iter().any(|&x| x < i64::MIN / 2) && drawn.iter().any(|&x| x > i64::MAX / 2));
    }

    proptest! {
        #[test]
        fn random_is_a_fraction_of_53_bits(seed: u64) {
            let drawn = Random::new(seed).random();
            prop_assert!((0.0..1.0).contains(&drawn));
            prop_assert_eq!((drawn * 9_007_199_254_740_992.0).fract(), 0.0);
        }

        #[test]
        fn randint_stays_within_its_ends(seed: u64, a: i64, b: i64) {
            let (low, high) = (a.min(b), a.max(b));
            let drawn = Random::new(seed).randint(low, high);
            prop_assert!((low..=high).contains(&drawn));
        }

        #[test]
        fn randint_reaches_both_ends(seed: u64, a in -1000_i64..1000, width in 0_i64..4) {
            let mut random = Random::new(seed);
            let drawn: Vec<i64> = (0..200).map(|_| random.randint(a, a + width)).collect();
            prop_assert!(drawn.contains(&a) && drawn.contains(&(a + width)));
        }

        #[test]
        fn uniform_stays_within_its_ends(seed: u64, a in -1e6_f64..1e6, width in 0.0_f64..1e6) {
            let drawn = Random::new(seed).uniform(a, a + width);
            prop_assert!(a <= drawn && drawn <= a + width);
        }

        #[test]
        fn getrandbits_keeps_to_its_width(seed: u64, k in 0_u32..=128) {
            let drawn = Random::new(seed).getrandbits(k);
            prop_assert!(k == 128 || drawn >> k == 0);
        }

        #[test]
        fn choice_draws_what_randint_draws(seed: u64, count in 1_usize..50) {
            let options: Vec<i64> = (0..count as i64).collect();
            prop_assert_eq!(Random::new(seed).choice(&options), Random::new(seed).randint(0, count as i64 - 1));
        }
    }
}
