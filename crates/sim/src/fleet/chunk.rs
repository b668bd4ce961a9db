//! Some thousand vehicles that make their records together, step by step. Which thread does it makes no difference.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use crate::batch::{Batch, Head};
use crate::fleet::conditions::View;
use crate::fleet::draw::{Key, mix};
use crate::fleet::faults::{self, DELAY_MAX_US, Lottery, Outcome};
use crate::fleet::kinds::AMBULANCE;
use crate::fleet::record::{Moment, Name, Sensors, moment_draw};
use crate::fleet::scene::Scene;
use crate::fleet::text::Timestamps;
use crate::fleet::truth::{
    FAST_NEAR_INCIDENT_KMH, LastingFault, RecordFault, Seen, Situation, Situations, speeding_above_kmh,
};
use crate::fleet::vehicle::Vehicle;
use crate::fleet::{CHUNK_VEHICLES, Shared};
use crate::message::STREAMS;

/// What one thread needs beside its chunks.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    view: View,
    scene: Scene,
    timestamps: Timestamps,
    lottery: Lottery,
}

impl Worker {
    pub(super) fn new(shared: &Arc<Shared>, first_step: u64) -> Self {
        let mut view = shared.view();
        let time_us = shared.settings.time_us(first_step, 0);
        Self {
            scene: Scene::new(&mut view, shared.seed, shared.settings.snapshots, time_us),
            lottery: Lottery::new(&shared.settings.faults),
            shared: Arc::clone(shared),
            view,
            timestamps: Timestamps::new(),
        }
    }
}

/// A contiguous part of the fleet.
#[derive(Debug)]
pub(super) struct Chunk {
    vehicles: Vec<Vehicle>,
    situations: Situations,
    held: Held,
    /// Speeds that stuck sensors hold, by vehicle; with the start of the episode.
    stuck: HashMap<u32, (i64, f32)>,
    /// The last step made, and when its last report was due.
    last: (u64, i64),
}

impl Chunk {
    /// The chunk as it stands before a step.
    pub(super) fn new(worker: &mut Worker, number: u32, first_step: u64) -> Self {
        let shared = Arc::clone(&worker.shared);
        let settings = &shared.settings;
        let first = number * CHUNK_VEHICLES;
        let last = (first + CHUNK_VEHICLES).min(settings.vehicles);
        // What is held up, and what a sensor is stuck at, comes from before.
        let back = match settings.faults.any() {
            true => (DELAY_MAX_US / settings.interval_us) as u64 + 1,
            false => 0,
        };
        let begin = first_step.saturating_sub(back);
        let vehicles = (first..last).map(|number| {
            let time_us = settings.time_us(begin, number);
            let mut vehicle = Vehicle::new(shared.seed, number, &mut worker.view, &shared.catalogue, time_us);
            vehicle.advance(&mut worker.view, &shared.catalogue, time_us);
            vehicle
        });
        let mut chunk = Self {
            vehicles: vehicles.collect(),
            situations: Situations::default(),
            held: Held::default(),
            stuck: HashMap::new(),
            last: (begin, settings.time_us(begin, first)),
        };
        let mut unwanted = Batch::new();
        for step in begin..first_step {
            unwanted.clear();
            chunk.step(worker, step, &mut unwanted);
        }
        chunk
    }

    /// Appends the records of one step to the batch, and those held up until now.
    pub(super) fn step(&mut self, worker: &mut Worker, step: u64, batch: &mut Batch) {
        let shared = Arc::clone(&worker.shared);
        let settings = &shared.settings;
        let (any_faults, truth) = (settings.faults.any(), settings.truth);
        let mut time_us = self.last.1;
        for vehicle in &mut self.vehicles {
            time_us = settings.time_us(step, vehicle.number);
            worker.scene.turn_to(&mut worker.view, time_us);
            vehicle.advance(&mut worker.view, &shared.catalogue, time_us);
            let name = Name::new(vehicle.number);
            let gps_error = vehicle.gps_error(time_us);
            let fix = vehicle.fix(&shared.world, time_us);
            let mut device = Device::default();
            if any_faults {
                device = Device::at(&shared, vehicle.key(), name.as_bytes(), step, time_us, batch);
                device.stuck_kmh = device.stuck.map(|episode| {
                    let held = self
                        .stuck
                        .entry(vehicle.number)
                        .or_insert((episode.from_us, fix.speed_kmh));
                    if held.0 != episode.from_us {
                        *held = (episode.from_us, fix.speed_kmh);
                    }
                    held.1
                });
            }
            let time_ms = (time_us / 1000) as u64;
            let moment = Moment {
                scene: &worker.scene,
                texts: &shared.texts,
                segment: shared.world.segment(vehicle.segment),
                name,
                timestamp: worker.timestamps.text(time_us + device.skew_us),
                fix,
                gps_error,
                draw: moment_draw(vehicle.key(), time_ms),
                time_ms,
                sensors: Sensors {
                    speed_kmh: device.stuck_kmh,
                },
                vehicle,
            };
            if any_faults {
                let emit = Emit {
                    shared: &shared,
                    lottery: &worker.lottery,
                    moment: &moment,
                    step,
                    time_us,
                };
                emit.with_faults(&device, &mut self.held, batch);
            } else {
                emit(&moment, step, time_us, batch);
            }
            if truth {
                let situations = observe(&moment, &shared, &mut self.situations, time_us, &mut batch.situations);
                vehicle.situations = situations;
            }
        }
        self.held.release(time_us, time_us, step, batch);
        self.last = (step, time_us);
    }

    /// The run is over: hands out at once what is still held up, and closes the ledger.
    pub(super) fn drain(&mut self, batch: &mut Batch) {
        let (step, now_us) = self.last;
        self.held.release(i64::MAX, now_us, step, batch);
        self.situations.drain(&mut batch.situations);
    }
}

/// The records of a moment, in order, nothing wrong with them.
fn emit(moment: &Moment<'_>, step: u64, time_us: i64, batch: &mut Batch) {
    let key = put_key(moment, batch);
    for stream in 0..STREAMS.len() {
        if moment.speaks(stream) {
            let value = batch.at();
            moment.write(stream, &mut batch.bytes);
            let head = head(moment, stream, step, time_us, key.clone());
            let end = batch.at();
            batch.push(&head, Some(value..end), true);
        }
    }
}

fn put_key(moment: &Moment<'_>, batch: &mut Batch) -> std::ops::Range<u32> {
    let start = batch.at();
    batch.bytes.extend_from_slice(moment.name.as_bytes());
    start..batch.at()
}

fn head(moment: &Moment<'_>, stream: usize, step: u64, time_us: i64, key: std::ops::Range<u32>) -> Head {
    Head {
        stream,
        device: moment.vehicle.number,
        step,
        event_time_us: time_us,
        due_us: time_us,
        key,
    }
}

/// What is wrong with a device at a moment.
#[derive(Debug, Default)]
struct Device {
    skew_us: i64,
    silent_until_us: Option<i64>,
    stuck: Option<faults::Episode>,
    stuck_kmh: Option<f32>,
}

impl Device {
    /// Looks, and writes what begins now into the ledger.
    fn at(shared: &Shared, key: Key, name: &[u8], step: u64, time_us: i64, batch: &mut Batch) -> Self {
        let (faults, interval_us) = (&shared.settings.faults, shared.settings.interval_us);
        let (silence, stuck) = (
            faults::silence(faults, key, time_us),
            faults::stuck_sensor(faults, key, time_us),
        );
        let skew_us = faults::clock_skew_us(faults, key);
        let mut tell = |kind, during: Option<faults::Episode>, skew_us| {
            if shared.settings.truth {
                let fault = LastingFault {
                    kind,
                    partition: None,
                    key: Some(name),
                    during_us: during.map(|episode| (episode.from_us, episode.to_us)),
                    skew_us,
                };
                fault.write(&mut batch.faults);
            }
        };
        if step == 0 && skew_us != 0 {
            tell("clock_skew", None, skew_us);
        }
        for (kind, episode) in [("silence", silence), ("stuck_sensor", stuck)] {
            if episode.is_some_and(|episode| step == 0 || episode.begins(time_us, interval_us)) {
                tell(kind, episode, 0);
            }
        }
        Self {
            skew_us,
            silent_until_us: silence.map(|episode| episode.to_us),
            stuck,
            stuck_kmh: None,
        }
    }
}

/// One vehicle's records of one moment, where things may go wrong.
struct Emit<'a> {
    shared: &'a Shared,
    lottery: &'a Lottery,
    moment: &'a Moment<'a>,
    step: u64,
    time_us: i64,
}

impl Emit<'_> {
    fn with_faults(&self, device: &Device, held: &mut Held, batch: &mut Batch) {
        let settings = &self.shared.settings;
        let key = put_key(self.moment, batch);
        for (stream, name) in STREAMS.into_iter().enumerate() {
            if !self.moment.speaks(stream) {
                continue;
            }
            let (id, draw) = self.moment.id(stream);
            let draw = Key::new(mix(draw));
            let start = batch.at();
            self.moment.write(stream, &mut batch.bytes);
            let kind = self.lottery.draw(draw);
            let mut outcome = Outcome::Value { is_json: true };
            let (mut delay_us, mut copies) = (0, 1);
            if let Some(kind) = kind {
                outcome = faults::mutate(kind, stream, &mut batch.bytes, start as usize);
                delay_us = faults::delay_us(kind, draw);
                copies = if kind == faults::Kind::Duplicate { 2 } else { 1 };
                if settings.truth && outcome != Outcome::Unharmed {
                    let fault = RecordFault {
                        kind: kind.as_str(),
                        stream: name,
                        topic: &settings.topics[stream],
                        key: self.moment.name.as_bytes(),
                        id: &id.to_text(),
                        event_time_us: self.time_us,
                        class: kind.is_malformed().then_some(kind.as_str()),
                        copies,
                        delay_us,
                    };
                    fault.write(&mut batch.faults);
                }
            }

            let stalled_until_us = self.stall(stream, batch);
            let ready_us = self
                .time_us
                .max(device.silent_until_us.unwrap_or(i64::MIN))
                .max(stalled_until_us);
            let (value, is_json) = match outcome {
                Outcome::Null => (None, true),
                Outcome::Value { is_json } => (Some(start..batch.at()), is_json),
                Outcome::Unharmed => (Some(start..batch.at()), true),
            };
            let head = head(self.moment, stream, self.step, self.time_us, key.clone());
            // The first copy of a doubled record is not late.
            let delays = if copies == 2 {
                [Some(0), Some(delay_us)]
            } else {
                [Some(delay_us), None]
            };
            let mut kept = false;
            for delay_us in delays.into_iter().flatten() {
                let release_us = ready_us.max(self.time_us + delay_us);
                if release_us <= self.time_us {
                    batch.push(&head, value.clone(), is_json);
                    kept = true;
                } else {
                    let value = value
                        .clone()
                        .map(|value| batch.bytes[value.start as usize..value.end as usize].into());
                    held.hold(release_us, &head, self.moment.name.as_bytes(), value, is_json);
                }
            }
            if !kept {
                batch.bytes.truncate(start as usize);
            }
        }
    }

    /// Until when the record's partition stalls; writes into the ledger what begins now.
    fn stall(&self, stream: usize, batch: &mut Batch) -> i64 {
        let settings = &self.shared.settings;
        let name = self.moment.name.as_bytes();
        let Some((partition, episode)) =
            faults::partition_stall(&settings.faults, self.shared.seed, stream, name, self.time_us)
        else {
            return i64::MIN;
        };
        // The first device on it, in the order of devices, tells of it.
        let begins = self.step == 0 || episode.begins(self.time_us, settings.interval_us);
        if settings.truth && begins && self.shared.tells_of_partition(self.moment.vehicle.number, partition) {
            let fault = LastingFault {
                kind: "lagging_partition",
                partition: Some((STREAMS[stream], &settings.topics[stream], partition)),
                key: None,
                during_us: Some((episode.from_us, episode.to_us)),
                skew_us: 0,
            };
            fault.write(&mut batch.faults);
        }
        episode.to_us
    }
}

/// What an ideal observer sees of a moment; the situations that hold, as bits.
fn observe(moment: &Moment<'_>, shared: &Shared, open: &mut Situations, time_us: i64, out: &mut Vec<u8>) -> u8 {
    let vehicle = moment.vehicle;
    let speed_kmh = moment.fix.speed_kmh;
    let report = moment.scene.incident(vehicle.segment).filter(|report| report.active);
    let mut bits = 0;
    for situation in Situation::ALL {
        let holds = match situation {
            Situation::Speeding => {
                vehicle.kind != AMBULANCE && speed_kmh > speeding_above_kmh(moment.segment.limit_kmh)
            }
            Situation::FastNearIncident => report.is_some() && speed_kmh > FAST_NEAR_INCIDENT_KMH,
        };
        if holds {
            bits |= situation.bit();
            let seen = Seen {
                vehicle: vehicle.number,
                key: moment.name.as_bytes(),
                time_us,
                speed_kmh,
                road: &shared.world.road_names[usize::from(moment.segment.road)],
                incident: report
                    .filter(|_| situation == Situation::FastNearIncident)
                    .map(|report| report.id.as_str()),
            };
            open.holds(situation, &seen, out);
        } else if vehicle.situations & situation.bit() != 0 {
            open.ends(situation, vehicle.number, out);
        }
    }
    bits
}

/// Records that wait: for a silent device, for a stalled partition, or because they are late. Bounded by the rates of the
/// faults and by [`DELAY_MAX_US`].
#[derive(Debug, Default)]
struct Held {
    queue: BinaryHeap<Reverse<Waiting>>,
    /// Orders what is released at one time as it came.
    number: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    release_us: i64,
    number: u64,
    stream: usize,
    device: u32,
    step: u64,
    event_time_us: i64,
    key: Box<[u8]>,
    value: Option<Box<[u8]>>,
    is_json: bool,
}

impl Held {
    fn hold(&mut self, release_us: i64, head: &Head, key: &[u8], value: Option<Box<[u8]>>, is_json: bool) {
        self.number += 1;
        self.queue.push(Reverse(Waiting {
            release_us,
            number: self.number,
            stream: head.stream,
            device: head.device,
            step: head.step,
            event_time_us: head.event_time_us,
            key: key.into(),
            value,
            is_json,
        }));
    }

    /// Appends what was to be released until a time, and is due now at the latest.
    fn release(&mut self, until_us: i64, now_us: i64, step: u64, batch: &mut Batch) {
        while self
            .queue
            .peek()
            .is_some_and(|Reverse(waiting)| waiting.release_us <= until_us)
        {
            let Some(Reverse(waiting)) = self.queue.pop() else {
                return;
            };
            let start = batch.at();
            batch.bytes.extend_from_slice(&waiting.key);
            let key = start..batch.at();
            if let Some(value) = &waiting.value {
                batch.bytes.extend_from_slice(value);
            }
            let head = Head {
                stream: waiting.stream,
                device: waiting.device,
                step,
                event_time_us: waiting.event_time_us,
                due_us: now_us.min(waiting.release_us),
                key: key.clone(),
            };
            let value = waiting.value.is_some().then_some(key.end..batch.at());
            batch.push(&head, value, waiting.is_json);
        }
    }
}
