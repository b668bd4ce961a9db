//! A GPS receiver's error: it wanders, slowly, and more between houses than under open sky.
//!
//! The error is a stationary Gaussian process that any time can be asked of: independent normal draws at knots
//! [`KNOT_US`] apart, joined by a quarter wave of sine and cosine, whose squares add up to 1, so that the spread is the same
//! at every moment. Its autocorrelation falls from 1 to 0 over two knots.

use crate::fleet::draw::{For, Key};

/// Time between two knots.
pub const KNOT_US: i64 = 40_000_000;

/// Standard deviation of the error along each axis, metres: open sky and narrow streets.
const SIGMA_OPEN_M: f32 = 2.2;
const SIGMA_BUILT_UP_M: f32 = 7.5;

/// The knots around the present, of one receiver, in units of the standard deviation.
#[derive(Debug, Clone)]
pub(crate) struct Gps {
    knot: i64,
    before: [f32; 2],
    after: [f32; 2],
}

impl Gps {
    pub(crate) fn new() -> Self {
        Self {
            knot: i64::MIN,
            before: [0.0; 2],
            after: [0.0; 2],
        }
    }

    /// The error east and north in units of its standard deviation.
    #[inline]
    pub(crate) fn error(&mut self, vehicle: Key, time_us: i64) -> [f32; 2] {
        let knot = time_us.div_euclid(KNOT_US);
        if knot != self.knot {
            let draw = |knot: i64| {
                let key = vehicle.of(For::Gps).with(knot as u64);
                [key.normal() as f32, key.with(1).normal() as f32]
            };
            self.before = if knot == self.knot + 1 { self.after } else { draw(knot) };
            self.after = draw(knot + 1);
            self.knot = knot;
        }
        let part = time_us.rem_euclid(KNOT_US) as f32 * (1.0 / KNOT_US as f32);
        let (sine, cosine) = libm::sincosf(part * std::f32::consts::FRAC_PI_2);
        [0, 1].map(|axis| cosine * self.before[axis] + sine * self.after[axis])
    }
}

/// Standard deviation along each axis in metres.
#[inline]
pub(crate) fn sigma_m(built_up: f32) -> f32 {
    SIGMA_OPEN_M + (SIGMA_BUILT_UP_M - SIGMA_OPEN_M) * built_up
}

/// What the autocorrelation of the error is, `lag` knots apart, over all phases.
pub fn autocorrelation(lag: f64) -> f64 {
    // Mean over the phase u of the product of the two moments' weights on the knots they share.
    let steps = 2000;
    let weights = |at: f64| {
        let (knot, part) = (at.floor() as i64, (at - at.floor()) * std::f64::consts::FRAC_PI_2);
        [(knot, libm::cos(part)), (knot + 1, libm::sin(part))]
    };
    let product = |u: f64| {
        let shared = weights(u).into_iter().flat_map(|(knot, one)| {
            let other = weights(u + lag).into_iter().find(|(other, _)| *other == knot);
            other.map(|(_, other)| one * other)
        });
        shared.sum::<f64>()
    };
    (0..steps)
        .map(|step| product(f64::from(step) / f64::from(steps)))
        .sum::<f64>()
        / f64::from(steps)
}
