//! How a vehicle drives along one segment: speed up or slow down, hold, brake. Closed form, so that any moment within a
//! segment costs the same and the sampling rate changes nothing.

/// No vehicle brakes harder, m/s².
pub(crate) const BRAKING_MAX: f32 = 4.5;
/// Speed ripples this much around the cruising speed, m/s at most.
const RIPPLE_MAX: f32 = 0.55;
/// About the length of one ripple, in seconds.
const RIPPLE_SECONDS: f32 = 24.0;

/// A plan for one segment; metres, m/s and seconds from entering it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Drive {
    enter: f32,
    hold: f32,
    leave: f32,
    /// m/s², of the first part; negative when it slows down.
    first: f32,
    /// m/s², of the last part, positive.
    brake: f32,
    /// When each part ends.
    first_end: f32,
    hold_end: f32,
    end: f32,
    length: f32,
    ripple: f32,
}

/// What a driver wants of a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) length: f32,
    /// Speed at entering; given.
    pub(crate) enter: f32,
    pub(crate) cruise: f32,
    /// At most this at its end.
    pub(crate) leave: f32,
    pub(crate) acceleration: f32,
    pub(crate) braking: f32,
}

impl Drive {
    /// The plan that comes nearest to the wish within the limits of acceleration. Where braking in time needs more than
    /// [`BRAKING_MAX`], the vehicle leaves faster than wished.
    pub(crate) fn new(wish: Wish) -> Self {
        let Wish {
            length,
            enter,
            cruise,
            acceleration,
            braking,
            ..
        } = wish;
        let cruise = cruise.max(1.0);
        let mut leave = wish.leave.min(cruise);
        let needed = (enter * enter - leave * leave) / (2.0 * length);
        if needed >= braking {
            let brake = needed.min(BRAKING_MAX);
            leave = (enter * enter - 2.0 * brake * length).max(leave * leave).sqrt();
            let seconds = 2.0 * length / (enter + leave);
            return Self {
                enter,
                hold: enter,
                leave,
                first: 0.0,
                brake: (enter - leave) / seconds,
                first_end: 0.0,
                hold_end: 0.0,
                end: seconds,
                length,
                ripple: 0.0,
            };
        }
        leave = leave.min((enter * enter + 2.0 * acceleration * length).sqrt());
        let (first, hold) = if enter <= cruise {
            // The highest speed from which there is still room to brake.
            let peak = (2.0 * acceleration * braking * length + braking * enter * enter + acceleration * leave * leave)
                / (acceleration + braking);
            (acceleration, cruise.min(peak.sqrt()).max(enter).max(leave))
        } else {
            (-braking, cruise)
        };
        let first_seconds = (hold - enter) / first;
        let first_length = (hold + enter) * 0.5 * first_seconds;
        let brake_seconds = (hold - leave) / braking;
        let brake_length = (hold + leave) * 0.5 * brake_seconds;
        let hold_seconds = (length - first_length - brake_length).max(0.0) / hold;
        Self {
            enter,
            hold,
            leave,
            first,
            brake: braking,
            first_end: first_seconds,
            hold_end: first_seconds + hold_seconds,
            end: first_seconds + hold_seconds + brake_seconds,
            length,
            ripple: 0.0,
        }
    }

    /// Lets the speed ripple while it is held; whole waves, so that time and distance stay as they are. `strength` is in
    /// [-1, 1].
    pub(crate) fn with_ripple(mut self, strength: f32) -> Self {
        let room = (self.hold * 0.03).min(RIPPLE_MAX);
        self.ripple = if self.hold_end - self.first_end > 10.0 {
            strength * room
        } else {
            0.0
        };
        self
    }

    pub(crate) fn seconds(&self) -> f32 {
        self.end
    }

    /// Speed at the end.
    pub(crate) fn leave(&self) -> f32 {
        self.leave
    }

    /// Metres from the segment's start, and m/s, after `seconds`; it stops at the end.
    #[inline]
    pub(crate) fn at(&self, seconds: f32) -> (f32, f32) {
        if seconds < self.first_end {
            let speed = self.enter + self.first * seconds;
            return ((self.enter + speed) * 0.5 * seconds, speed);
        }
        let first_length = (self.enter + self.hold) * 0.5 * self.first_end;
        if seconds < self.hold_end {
            let (since, whole) = (seconds - self.first_end, self.hold_end - self.first_end);
            let mut place = first_length + self.hold * since;
            let mut speed = self.hold;
            if self.ripple != 0.0 {
                let waves = (whole / RIPPLE_SECONDS + 0.5).max(1.0) as i32 as f32;
                let pace = std::f32::consts::TAU * waves / whole;
                let (sine, cosine) = libm::sincosf(pace * since);
                place += self.ripple / pace * (1.0 - cosine);
                speed += self.ripple * sine;
            }
            return (place, speed);
        }
        if seconds < self.end {
            let left = self.end - seconds;
            let speed = self.leave + self.brake * left;
            return (self.length - (self.leave + speed) * 0.5 * left, speed);
        }
        (self.length, 0.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn speed_is_the_change_of_place_and_never_jumps(
            length in 60.0_f32..2000.0, enter in 0.0_f32..35.0, cruise in 1.0_f32..40.0, leave in 0.0_f32..40.0,
            acceleration in 0.6_f32..3.0, braking in 1.2_f32..3.0, strength in -1.0_f32..1.0,
        ) {
            let drive = Drive::new(Wish { length, enter, cruise, leave, acceleration, braking }).with_ripple(strength);
            prop_assert!(drive.leave() <= leave.max(0.01) || enter > leave, "leaves at {}", drive.leave());
            let steps = 200;
            let step = drive.seconds() / steps as f32;
            let (mut place, mut speed) = drive.at(0.0);
            prop_assert!(place.abs() < 0.01 && (speed - enter).abs() < 0.01);
            for number in 1..steps {
                let (next_place, next_speed) = drive.at(number as f32 * step);
                prop_assert!(next_place >= place - 0.01 && next_speed >= -0.01);
                let hardest = braking.max(BRAKING_MAX).max(acceleration) + 0.3;
                prop_assert!((next_speed - speed).abs() <= hardest * step + 0.01);
                let mean = (next_place - place) / step;
                let (low, high) = (speed.min(next_speed), speed.max(next_speed));
                prop_assert!(mean > low - 1.0 && mean < high + 1.0, "{mean} outside {low}..{high}");
                (place, speed) = (next_place, next_speed);
            }
            prop_assert!(length - place < (speed + 1.0) * step * 1.5 + 0.1);
            prop_assert!((speed - drive.leave()).abs() < (BRAKING_MAX + 1.0) * step + 0.2);
        }
    }
}
