//! The tutorial's run: one vehicle drives from London to Birmingham and throws dice for its sensors.
//!
//! Everything is drawn from one generator in a fixed order (see [`Readings`]), so a seed gives the same values as the
//! Python original does with `random.Random(seed)`. Ids come from a second generator, `random.Random(seed + 2**64)`,
//! which no run of a 64-bit seed can share, and so disturb nothing.

use std::iter::FusedIterator;
use std::sync::Arc;

use serde::Serialize;

use crate::batch::{Batch, Profile};
use crate::isoformat::isoformat;
use crate::message::{Message, STREAMS};
use crate::random::Random;

/// Latitude and longitude in degrees.
const LONDON: [f64; 2] = [51.5074, -0.1278];
const BIRMINGHAM: [f64; 2] = [52.4862, -1.8904];
/// The straight line is cut into this many parts; the noise decides how many steps the run really takes.
const LEGS: f64 = 100.0;
const NOISE_DEGREES: f64 = 0.0005;

const DEVICE_ID: &str = "Vehicle-Adam0731";
const CAMERA_ID: &str = "Nikon-Camera123";
const DIRECTION: &str = "North-East";
const SNAPSHOT: &str = "Base64EncodedString";
const DESCRIPTION: &str = "Description of the incident";

const WEATHER_CONDITIONS: [&str; 4] = ["Sunny", "Cloudy", "Rainy", "Snowy"];
const EMERGENCY_TYPES: [&str; 5] = ["Accident", "Fire", "Medical", "Police", "None"];
const EMERGENCY_STATUSES: [&str; 2] = ["Active", "Resolved"];

const MICROSECONDS: i64 = 1_000_000;

/// The run of one seed, step by step, until the vehicle arrives (about a hundred steps).
#[derive(Debug, Clone)]
pub struct Classic {
    draws: Draws,
    start_us: i64,
    device_id: Arc<str>,
}

/// What the vehicle sends at one moment: one message per stream, all with the same timestamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Counted from 0.
    pub number: u32,
    /// Microseconds since the Unix epoch, UTC.
    pub event_time_us: i64,
    /// In the order of [`STREAMS`].
    pub messages: [Message; 5],
}

/// Where a message stands in the run of its seed, whenever that run started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The number of the message's step, counted from 0.
    pub step: u32,
    /// The step's event time less the run's start.
    pub elapsed_us: i64,
    /// Index into [`STREAMS`].
    pub stream: usize,
}

/// What it takes to go on with a run that was cut off: `Classic::new(seed, start_us)` is that run again, of which the
/// stream holds every message up to and including the one of `step`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// The start of the run that was cut off, in microseconds since the Unix epoch, UTC.
    pub start_us: i64,
    /// The number of the last step known to have been sent to this stream.
    pub step: u32,
    /// Index into [`STREAMS`].
    pub stream: usize,
}

impl Classic {
    /// The run of `seed`, whose clock stands at `start_us` (microseconds since the Unix epoch, UTC) before the first
    /// step. Starts that are not in the years 1 to 9999 give timestamps that are not ISO 8601.
    pub fn new(seed: u64, start_us: i64) -> Self {
        Self {
            draws: Draws::new(seed),
            start_us,
            device_id: DEVICE_ID.into(),
        }
    }

    /// Finds a message of the run of `seed` by its id; `None` when the id is not of that run. Ids depend on the seed
    /// alone, and a run is short enough to be drawn again.
    pub fn locate(seed: u64, id: &str) -> Option<Location> {
        Draws::new(seed).find_map(|readings| {
            let stream = readings.ids.iter().position(|candidate| candidate == id)?;
            Some(Location {
                step: readings.number,
                elapsed_us: readings.elapsed_us,
                stream,
            })
        })
    }

    /// From the last message of a stream (its id and its `timestamp` in microseconds since the Unix epoch) to the run
    /// that it belongs to. `None` when another seed, or something else altogether, wrote it.
    ///
    /// A run killed within a step has written that step to some streams and not to others, so each stream is asked for
    /// its own last message; all agree on `start_us`.
    pub fn resume(seed: u64, id: &str, event_time_us: i64) -> Option<Resume> {
        let Location {
            step,
            elapsed_us,
            stream,
        } = Self::locate(seed, id)?;
        Some(Resume {
            start_us: event_time_us.checked_sub(elapsed_us)?,
            step,
            stream,
        })
    }
}

impl Profile for Classic {
    fn fill(&mut self, batch: &mut Batch) -> bool {
        batch.clear();
        let Some(step) = self.next() else {
            return false;
        };
        for (stream, message) in step.messages.iter().enumerate() {
            batch.push_message(stream, message, u64::from(step.number), step.event_time_us);
        }
        true
    }

    fn stop(&mut self) {
        self.draws.arrived = true;
    }

    fn steps(&self) -> Option<u64> {
        Some(self.clone().count() as u64)
    }
}

impl Iterator for Classic {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let readings = self.draws.next()?;
        let event_time_us = self.start_us.saturating_add(readings.elapsed_us);
        let number = readings.number;
        Some(Step {
            number,
            event_time_us,
            messages: messages(readings, event_time_us, &self.device_id),
        })
    }
}

impl FusedIterator for Classic {}

/// All that is drawn for one step, in the order of drawing. Times are relative, so it depends on the seed alone.
#[derive(Debug, Clone)]
struct Readings {
    number: u32,
    location: [f64; 2],
    elapsed_us: i64,
    vehicle_speed: f64,
    gps_speed: f64,
    temperature: f64,
    weather_condition: &'static str,
    precipitation: f64,
    wind_speed: f64,
    humidity: i64,
    air_quality_index: f64,
    emergency_type: &'static str,
    emergency_status: &'static str,
    /// In the order of [`STREAMS`].
    ids: [String; 5],
    incident_id: String,
}

/// The random walk behind a run.
#[derive(Debug, Clone)]
struct Draws {
    random: Random,
    ids: Random,
    number: u32,
    location: [f64; 2],
    elapsed_us: i64,
    arrived: bool,
}

impl Draws {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            // seed + 2**64
            ids: Random::from_words(&[seed as u32, (seed >> 32) as u32, 1]),
            number: 0,
            location: LONDON,
            elapsed_us: 0,
            arrived: false,
        }
    }

    /// The noise stays in the position and adds up. Each sum rounds where the original's does.
    fn drive(&mut self) {
        for axis in 0..2 {
            self.location[axis] += (BIRMINGHAM[axis] - LONDON[axis]) / LEGS;
        }
        for axis in 0..2 {
            self.location[axis] += self.random.uniform(-NOISE_DEGREES, NOISE_DEGREES);
        }
    }

    fn has_arrived(&self) -> bool {
        self.location[0] >= BIRMINGHAM[0] && self.location[1] <= BIRMINGHAM[1]
    }
}

impl Iterator for Draws {
    type Item = Readings;

    fn next(&mut self) -> Option<Readings> {
        if self.arrived {
            return None;
        }
        self.drive();
        if self.has_arrived() {
            // The original draws this step's sensors before it looks; nothing comes after them, so they are left out.
            self.arrived = true;
            return None;
        }
        self.elapsed_us += self.random.randint(30, 60) * MICROSECONDS;

        // A struct expression evaluates its fields in the order written: this is the order of drawing.
        let random = &mut self.random;
        let readings = Readings {
            number: self.number,
            location: self.location,
            elapsed_us: self.elapsed_us,
            vehicle_speed: random.uniform(10.0, 40.0),
            gps_speed: random.uniform(0.0, 40.0),
            temperature: random.uniform(-5.0, 26.0),
            weather_condition: random.choice(&WEATHER_CONDITIONS),
            precipitation: random.uniform(0.0, 25.0),
            wind_speed: random.uniform(0.0, 100.0),
            humidity: random.randint(0, 100),
            air_quality_index: random.uniform(0.0, 500.0),
            emergency_type: random.choice(&EMERGENCY_TYPES),
            emergency_status: random.choice(&EMERGENCY_STATUSES),
            ids: std::array::from_fn(|_| uuid_v4(&mut self.ids)),
            incident_id: uuid_v4(&mut self.ids),
        };
        self.number += 1;
        Some(readings)
    }
}

/// `str(uuid.UUID(int=random.getrandbits(128), version=4))`: version and variant overwrite six of the bits (RFC 9562).
fn uuid_v4(random: &mut Random) -> String {
    let bits = random.getrandbits(128);
    let bits = (bits & !(0xf000 << 64)) | (0x4000 << 64);
    let bits = (bits & !(0xc000 << 48)) | (0x8000 << 48);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        bits >> 96,
        (bits >> 80) & 0xffff,
        (bits >> 64) & 0xffff,
        (bits >> 48) & 0xffff,
        bits & 0xffff_ffff_ffff
    )
}

#[derive(Serialize)]
struct Vehicle<'a> {
    id: &'a str,
    device_id: &'a str,
    timestamp: &'a str,
    location: [f64; 2],
    speed: f64,
    direction: &'a str,
    make: &'a str,
    model: &'a str,
    year: u16,
    fuel_type: &'a str,
}

#[derive(Serialize)]
struct Gps<'a> {
    id: &'a str,
    device_id: &'a str,
    timestamp: &'a str,
    speed: f64,
    direction: &'a str,
    vehicle_type: &'a str,
}

#[derive(Serialize)]
struct Traffic<'a> {
    id: &'a str,
    device_id: &'a str,
    camera_id: &'a str,
    location: [f64; 2],
    timestamp: &'a str,
    snapshot: &'a str,
}

#[derive(Serialize)]
struct Weather<'a> {
    id: &'a str,
    device_id: &'a str,
    location: [f64; 2],
    timestamp: &'a str,
    temperature: f64,
    weather_condition: &'a str,
    precipitation: f64,
    wind_speed: f64,
    humidity: i64,
    #[serde(rename = "airQualityIndex")]
    air_quality_index: f64,
}

#[derive(Serialize)]
struct Emergency<'a> {
    id: &'a str,
    device_id: &'a str,
    incident_id: &'a str,
    r#type: &'a str,
    timestamp: &'a str,
    location: [f64; 2],
    status: &'a str,
    description: &'a str,
}

fn messages(readings: Readings, event_time_us: i64, device: &Arc<str>) -> [Message; 5] {
    let timestamp = isoformat(event_time_us);
    let (timestamp, device_id, location) = (timestamp.as_str(), &**device, readings.location);
    let [vehicle_id, gps_id, traffic_id, weather_id, emergency_id] = &readings.ids;
    let values = [
        json(&Vehicle {
            id: vehicle_id,
            device_id,
            timestamp,
            location,
            speed: readings.vehicle_speed,
            direction: DIRECTION,
            make: "BMW",
            model: "C500",
            year: 2024,
            fuel_type: "Hybrid",
        }),
        json(&Gps {
            id: gps_id,
            device_id,
            timestamp,
            speed: readings.gps_speed,
            direction: DIRECTION,
            vehicle_type: "private",
        }),
        json(&Traffic {
            id: traffic_id,
            device_id,
            camera_id: CAMERA_ID,
            location,
            timestamp,
            snapshot: SNAPSHOT,
        }),
        json(&Weather {
            id: weather_id,
            device_id,
            location,
            timestamp,
            temperature: readings.temperature,
            weather_condition: readings.weather_condition,
            precipitation: readings.precipitation,
            wind_speed: readings.wind_speed,
            humidity: readings.humidity,
            air_quality_index: readings.air_quality_index,
        }),
        json(&Emergency {
            id: emergency_id,
            device_id,
            incident_id: &readings.incident_id,
            r#type: readings.emergency_type,
            timestamp,
            location,
            status: readings.emergency_status,
            description: DESCRIPTION,
        }),
    ];
    let mut parts = STREAMS.into_iter().zip(values).zip(readings.ids);
    std::array::from_fn(|_| {
        let ((stream, value), id) = parts.next().expect("five of each");
        Message {
            stream,
            key: Arc::clone(device),
            value,
            id,
        }
    })
}

fn json(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("strings and finite numbers always serialise")
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_US: i64 = 1_767_225_600 * MICROSECONDS; // 2026-01-01T00:00:00

    #[test]
    fn runs_have_the_published_lengths() {
        for (seed, steps) in [(1, 99), (7, 99), (2024, 100)] {
            assert_eq!(Classic::new(seed, START_US).count(), steps, "seed {seed}");
        }
    }

    #[test]
    fn every_seed_arrives_and_stays_there() {
        for seed in 0..500 {
            let mut run = Classic::new(seed, START_US);
            let steps = run.by_ref().take(1000).count();
            assert!((95..=106).contains(&steps), "seed {seed}: {steps} steps");
            assert!(run.next().is_none(), "seed {seed}");
        }
    }

    #[test]
    fn steps_are_numbered_and_half_a_minute_to_a_minute_apart() {
        let mut before = START_US;
        for (number, step) in Classic::new(7, START_US).enumerate() {
            assert_eq!(step.number as usize, number);
            assert!((30..=60).contains(&((step.event_time_us - before) / MICROSECONDS)));
            before = step.event_time_us;
        }
    }

    #[test]
    fn values_do_not_depend_on_the_start() {
        for (one, other) in Classic::new(3, START_US).zip(Classic::new(3, START_US + 1)) {
            assert_eq!(other.event_time_us, one.event_time_us + 1);
            for (one, other) in one.messages.iter().zip(&other.messages) {
                assert_eq!((one.stream, &one.key, &one.id), (other.stream, &other.key, &other.id));
            }
        }
    }

    #[test]
    fn any_message_tells_where_its_run_was() {
        for seed in [0, 7, u64::MAX] {
            for step in Classic::new(seed, START_US) {
                for (stream, message) in step.messages.iter().enumerate() {
                    assert_eq!(message.stream, STREAMS[stream]);
                    assert_eq!(
                        Classic::resume(seed, &message.id, step.event_time_us),
                        Some(Resume {
                            start_us: START_US,
                            step: step.number,
                            stream
                        })
                    );
                }
            }
        }
    }

    #[test]
    fn strangers_are_not_located() {
        let first = Classic::new(1, START_US).next().expect("a first step");
        assert_eq!(Classic::locate(2, &first.messages[0].id), None);
        assert_eq!(Classic::locate(1, ""), None);
        assert_eq!(Classic::resume(1, &first.messages[0].id, i64::MIN), None);
    }
}
