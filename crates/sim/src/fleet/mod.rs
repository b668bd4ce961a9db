//! The fleet: vehicles on the roads of Great Britain's southern half, and all that their sensors see.
//!
//! Everything is a function of (seed, settings): the road network is data, trips follow from draws that are hashes of what
//! they are for ([`draw`]), motion along a segment is closed form ([`motion`]), weather and traffic are fields of place and
//! time ([`weather`], [`conditions`]). So the number of threads and the pace change nothing, and a run may begin at any
//! moment at the cost of walking each vehicle through its shift so far. `docs/guide/simulator.md` says what is modelled
//! and what is not.

mod chunk;
mod conditions;
mod demand;
mod draw;
mod faults;
mod geometry;
mod gps;
mod incidents;
mod kinds;
mod motion;
mod parallel;
mod record;
mod scene;
mod snapshot;
mod text;
mod truth;
mod vehicle;
mod weather;
mod world;

use std::sync::Arc;

use thiserror::Error;

pub use faults::Faults;
pub use geometry::Point;
pub use gps::{KNOT_US, autocorrelation as gps_autocorrelation};
pub use incidents::{Incident, IncidentKind, REPORT_RADIUS_M};
pub use truth::{FAST_NEAR_INCIDENT_KMH, speeding_above_kmh};
pub use vehicle::Fix;
pub use weather::Air;
pub use world::{RoadClass, World};

use crate::batch::{Batch, Profile};
use crate::message::STREAMS;
use chunk::{Chunk, Worker};
use conditions::{Conditions, View};
use draw::Key;
use parallel::Parallel;
use record::Texts;
use vehicle::Catalogue;

const DAY_US: i64 = 86_400_000_000;
/// Vehicles whose records make one batch.
const CHUNK_VEHICLES: u32 = 4096;
/// The numbers that an id has room for.
pub const VEHICLES_MAX: u32 = 1 << 24;
/// 0001-01-02 and 9999-12-30: timestamps have four digits for the year.
const TIME_RANGE_US: std::ops::Range<i64> = -62_135_510_400_000_000..253_402_128_000_000_000;

/// What a run of the fleet is.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub seed: u64,
    /// 1 to [`VEHICLES_MAX`].
    pub vehicles: u32,
    /// Event time of the first step, microseconds since the epoch; cut to milliseconds.
    pub start_us: i64,
    /// Time between two reports of a vehicle; whole milliseconds, at least one.
    pub interval_us: i64,
    /// How long the run lasts; `None` for ever.
    pub duration_us: Option<i64>,
    /// Threads that make records; 0 counts as 1. They change nothing but the speed.
    pub threads: usize,
    /// Whether cameras send pictures.
    pub snapshots: bool,
    pub faults: Faults,
    /// Whether batches carry the ledger's lines.
    pub truth: bool,
    /// What the ledger calls the streams' topics.
    pub topics: [String; 5],
}

impl Settings {
    /// 200 vehicles that report once a second, for ever.
    pub fn new(seed: u64, start_us: i64) -> Self {
        Self {
            seed,
            vehicles: 200,
            start_us,
            interval_us: 1_000_000,
            duration_us: None,
            threads: 1,
            snapshots: false,
            faults: Faults::default(),
            truth: false,
            topics: STREAMS.map(str::to_owned),
        }
    }

    fn check(&self) -> Result<(), SettingsError> {
        let wrong = |what: &str| Err(SettingsError(what.to_owned()));
        if !(1..=VEHICLES_MAX).contains(&self.vehicles) {
            return wrong("a fleet has 1 to 16777216 vehicles");
        }
        if self.interval_us < 1000 || self.interval_us % 1000 != 0 || self.interval_us > DAY_US {
            return wrong("vehicles report every 1 ms to 24 h, in whole milliseconds");
        }
        if self.duration_us.is_some_and(|duration| duration < 0) {
            return wrong("a run does not last less than no time");
        }
        let end_us = self.start_us.saturating_add(self.duration_us.unwrap_or_default());
        if !TIME_RANGE_US.contains(&self.start_us) || !TIME_RANGE_US.contains(&end_us) {
            return wrong("a run lies in the years 1 to 9999");
        }
        Ok(())
    }

    /// Steps that the run has; `None` for no end.
    fn steps(&self) -> Option<u64> {
        // A step that begins within the duration counts.
        let steps = |duration: i64| duration.div_euclid(self.interval_us) + i64::from(duration % self.interval_us > 0);
        self.duration_us.map(|duration| steps(duration) as u64)
    }

    /// How long after a step's start a vehicle reports: the reports are spread evenly over the interval, in the vehicles'
    /// order, so that the order of records is the order of time. Whole milliseconds.
    #[inline]
    pub fn phase_us(&self, vehicle: u32) -> i64 {
        let phase = i128::from(self.interval_us) * i128::from(vehicle) / i128::from(self.vehicles);
        phase as i64 / 1000 * 1000
    }

    #[inline]
    fn time_us(&self, step: u64, vehicle: u32) -> i64 {
        self.start_us + step as i64 * self.interval_us + self.phase_us(vehicle)
    }
}

/// Settings that no fleet can have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct SettingsError(String);

/// What all threads of a run share.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    seed: Key,
    world: Arc<World>,
    conditions: Arc<Conditions>,
    catalogue: Catalogue,
    texts: Texts,
    /// By partition the first vehicle on it, which tells the ledger of what befalls it.
    partition_firsts: Vec<u32>,
}

impl Shared {
    fn view(&self) -> View {
        View::new(Arc::clone(&self.world), Arc::clone(&self.conditions))
    }

    fn tells_of_partition(&self, vehicle: u32, partition: u32) -> bool {
        self.partition_firsts.get(partition as usize) == Some(&vehicle)
    }

    fn chunks(&self) -> u32 {
        self.settings.vehicles.div_ceil(CHUNK_VEHICLES)
    }
}

/// A run of the fleet.
pub struct Fleet {
    shared: Arc<Shared>,
    first_step: u64,
    state: State,
}

enum State {
    /// Nothing has been asked for yet.
    New,
    Alone(Box<Alone>),
    Parallel(Parallel),
    Done,
}

impl Fleet {
    /// # Errors
    /// [`SettingsError`] when the settings are out of range.
    pub fn new(mut settings: Settings) -> Result<Self, SettingsError> {
        settings.check()?;
        settings.start_us = settings.start_us.div_euclid(1000) * 1000;
        let world = Arc::new(World::new());
        let seed = Key::new(settings.seed);
        let catalogue = Catalogue::new(&world);
        Ok(Self {
            shared: Arc::new(Shared {
                partition_firsts: partition_firsts(&settings),
                seed,
                conditions: Arc::new(Conditions::new(seed, &world)),
                texts: Texts::new(&world, &catalogue),
                catalogue,
                world,
                settings,
            }),
            first_step: 0,
            state: State::New,
        })
    }

    /// The same run from a later step on: its records are those that the whole run has from there.
    #[must_use]
    pub fn from_step(mut self, step: u64) -> Self {
        self.first_step = step;
        self.state = State::New;
        self
    }

    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    pub fn world(&self) -> &World {
        &self.shared.world
    }

    /// The incidents that are reported at some moment of `[from_us, to_us)`, in order of time.
    pub fn incidents(&self, from_us: i64, to_us: i64) -> Vec<Incident> {
        let days = (from_us - incidents::LONGEST_US).div_euclid(DAY_US)..=(to_us - 1).div_euclid(DAY_US);
        let mut found = Vec::new();
        for day in days {
            found.extend(self.shared.conditions.incidents(&self.shared.world, day as i32));
        }
        found.retain(|incident| {
            incident.reported_us < to_us && incident.resolved_us + incidents::AFTERMATH_US > from_us
        });
        found
    }

    /// The air at a place and time.
    pub fn air(&self, point: Point, time_us: i64) -> Air {
        self.shared.conditions.weather.at(point, time_us)
    }

    /// Where the fleet is at a time, before any sensor: every vehicle in order, with the road it is on.
    pub fn fixes(&self, time_us: i64, mut each: impl FnMut(u32, Fix, RoadView<'_>)) {
        let mut view = self.shared.view();
        for number in 0..self.shared.settings.vehicles {
            let mut vehicle =
                vehicle::Vehicle::new(self.shared.seed, number, &mut view, &self.shared.catalogue, time_us);
            vehicle.advance(&mut view, &self.shared.catalogue, time_us);
            let world = &self.shared.world;
            let segment = world.segment(vehicle.segment);
            let road = RoadView {
                name: &world.road_names[usize::from(segment.road)],
                class: segment.class,
                limit_kmh: segment.limit_kmh,
                kind: &self.shared.catalogue.kinds[usize::from(vehicle.kind)].name,
            };
            each(number, vehicle.fix(world, time_us), road);
        }
    }

    /// Every piece of road that a vehicle enters between two times, vehicle by vehicle.
    pub fn passages(&self, from_us: i64, to_us: i64, mut each: impl FnMut(Passage<'_>)) {
        let (shared, mut view) = (&*self.shared, self.shared.view());
        for number in 0..shared.settings.vehicles {
            let mut vehicle = vehicle::Vehicle::new(shared.seed, number, &mut view, &shared.catalogue, from_us);
            vehicle.advance(&mut view, &shared.catalogue, from_us);
            vehicle.passages(&mut view, &shared.catalogue, to_us, |vehicle, enter_us, leave_us| {
                let segment = shared.world.segment(vehicle.segment);
                each(Passage {
                    vehicle: number,
                    kind: &shared.catalogue.kinds[usize::from(vehicle.kind)].name,
                    trip: (vehicle.shift_day(), vehicle.trip),
                    segment: vehicle.segment,
                    road: &shared.world.road_names[usize::from(segment.road)],
                    class: segment.class,
                    limit_kmh: segment.limit_kmh,
                    length_m: segment.length_m,
                    enter_us,
                    leave_us,
                });
            });
        }
    }

    /// Reads an id that a run of this seed gave: vehicle, event time in microseconds, index into [`crate::STREAMS`].
    /// `None` for any other text.
    pub fn locate(seed: u64, id: &str) -> Option<(u32, i64, usize)> {
        let (device, time_ms, stream) = record::locate(Key::new(seed), id)?;
        Some((device, time_ms as i64 * 1000, stream))
    }

    /// The name of a vehicle, its records' key.
    pub fn device_id(vehicle: u32) -> String {
        String::from_utf8_lossy(record::Name::new(vehicle).as_bytes()).into_owned()
    }

    /// Bytes that a vehicle takes while the run is under way.
    pub const fn bytes_per_vehicle() -> usize {
        size_of::<vehicle::Vehicle>()
    }
}

fn partition_firsts(settings: &Settings) -> Vec<u32> {
    let partitions = settings.faults.partitions();
    let mut firsts = vec![u32::MAX; partitions as usize];
    if settings.faults.lagging_partition > 0.0 {
        // Some thousand vehicles are on all of them, but for a number of partitions beyond any use.
        for vehicle in (0..settings.vehicles).take(1 << 16) {
            let name = record::Name::new(vehicle);
            let first = &mut firsts[faults::murmur2_partition(name.as_bytes(), partitions) as usize];
            *first = vehicle.min(*first);
        }
    }
    firsts
}

/// The road under a vehicle.
#[derive(Debug, Clone, Copy)]
pub struct RoadView<'a> {
    pub name: &'a str,
    pub class: RoadClass,
    pub limit_kmh: f32,
    /// The kind of the vehicle.
    pub kind: &'a str,
}

/// A vehicle on one piece of road.
#[derive(Debug, Clone, Copy)]
pub struct Passage<'a> {
    pub vehicle: u32,
    /// The kind of the vehicle.
    pub kind: &'a str,
    /// The shift's day and the trip's number in it.
    pub trip: (i32, u16),
    /// Names the piece and the direction.
    pub segment: u32,
    pub road: &'a str,
    pub class: RoadClass,
    pub limit_kmh: f32,
    pub length_m: f32,
    /// Microseconds since the epoch; a wait at the end is part of it.
    pub enter_us: i64,
    pub leave_us: i64,
}

impl Passage<'_> {
    pub fn mean_speed_kmh(&self) -> f64 {
        f64::from(self.length_m) * 3.6e6 / (self.leave_us - self.enter_us) as f64
    }
}

impl Profile for Fleet {
    fn fill(&mut self, batch: &mut Batch) -> bool {
        batch.clear();
        if matches!(self.state, State::New) {
            self.state = self.begin();
        }
        let more = match &mut self.state {
            State::New | State::Done => false,
            State::Parallel(parallel) => parallel.fill(batch),
            State::Alone(alone) => alone.fill(&self.shared.settings, batch),
        };
        if !more {
            self.state = State::Done;
        }
        more
    }

    fn stop(&mut self) {
        match &mut self.state {
            State::New => self.state = State::Done,
            State::Done => {}
            State::Parallel(parallel) => parallel.stop(),
            State::Alone(alone) => alone.stopped = true,
        }
    }

    fn steps(&self) -> Option<u64> {
        self.shared
            .settings
            .steps()
            .map(|steps| steps.saturating_sub(self.first_step))
    }
}

impl Fleet {
    fn begin(&self) -> State {
        let chunks = self.shared.chunks() as usize;
        let threads = self.shared.settings.threads.clamp(1, chunks.max(1));
        if threads > 1 {
            return State::Parallel(Parallel::start(&self.shared, threads, self.first_step));
        }
        let mut worker = Worker::new(&self.shared, self.first_step);
        let chunks = (0..chunks as u32).map(|number| Chunk::new(&mut worker, number, self.first_step));
        State::Alone(Box::new(Alone {
            chunks: chunks.collect(),
            worker,
            step: self.first_step,
            chunk: 0,
            drained: 0,
            stopped: false,
        }))
    }
}

/// A run on the caller's thread.
struct Alone {
    worker: Worker,
    chunks: Vec<Chunk>,
    step: u64,
    /// The chunk to come in this step.
    chunk: usize,
    /// Chunks that have handed out what they held back, at the end.
    drained: usize,
    stopped: bool,
}

impl Alone {
    fn fill(&mut self, settings: &Settings, batch: &mut Batch) -> bool {
        let over = settings.steps().is_some_and(|steps| self.step >= steps);
        // A run that is asked to stop ends its step first, so that no vehicle is a step behind.
        if over || (self.stopped && self.chunk == 0) {
            let Some(chunk) = self.chunks.get_mut(self.drained) else {
                return false;
            };
            chunk.drain(batch);
            self.drained += 1;
            return true;
        }
        self.chunks[self.chunk].step(&mut self.worker, self.step, batch);
        self.chunk += 1;
        if self.chunk == self.chunks.len() {
            (self.chunk, self.step) = (0, self.step + 1);
        }
        true
    }
}
