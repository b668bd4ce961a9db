//! Incidents on the road: where, when, what, how bad, and what becomes of them.
//!
//! A day's incidents follow from the seed alone. Each hour has its candidates, spread over the network by length; what
//! makes an incident of a candidate is the traffic, the speed and the weather there and then.

use crate::fleet::demand;
use crate::fleet::draw::{For, Key};
use crate::fleet::geometry::Point;
use crate::fleet::weather::Weather;
use crate::fleet::world::{SegmentId, World};

const HOUR_US: i64 = 3_600_000_000;
const MINUTE_US: i64 = 60_000_000;
const CANDIDATES_PER_HOUR: u64 = 700;
/// How long a resolved incident is still reported.
pub(crate) const AFTERMATH_US: i64 = 5 * MINUTE_US;
/// No incident lasts longer, its aftermath included: how far back in time one must look.
pub(crate) const LONGEST_US: i64 = 4 * HOUR_US;
/// Vehicles within this distance report it.
pub const REPORT_RADIUS_M: f64 = 2000.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncidentKind {
    Accident,
    Fire,
    Medical,
    Police,
}

impl IncidentKind {
    /// The word of the emergency stream's `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            IncidentKind::Accident => "Accident",
            IncidentKind::Fire => "Fire",
            IncidentKind::Medical => "Medical",
            IncidentKind::Police => "Police",
        }
    }
}

/// One incident. Times are microseconds since the epoch, whole minutes.
#[derive(Debug, Clone)]
pub struct Incident {
    /// `INC-<date>-<number>`; unique within a seed.
    pub id: String,
    pub kind: IncidentKind,
    /// 1 slight, 2 serious, 3 grave.
    pub severity: u8,
    pub(crate) segment: SegmentId,
    pub point: Point,
    pub description: String,
    pub reported_us: i64,
    pub dispatched_us: i64,
    pub on_scene_us: i64,
    pub resolved_us: i64,
    /// Vehicles sent.
    pub units: u8,
}

impl Incident {
    /// How far it has come: the `phase` of the emergency stream.
    #[inline]
    pub fn phase(&self, time_us: i64) -> &'static str {
        match time_us {
            _ if time_us >= self.resolved_us => "Resolved",
            _ if time_us >= self.on_scene_us => "OnScene",
            _ if time_us >= self.dispatched_us => "Dispatched",
            _ => "Reported",
        }
    }

    #[inline]
    pub fn is_active(&self, time_us: i64) -> bool {
        (self.reported_us..self.resolved_us).contains(&time_us)
    }

    /// Active, or resolved a short while ago.
    #[inline]
    pub(crate) fn is_reported(&self, time_us: i64) -> bool {
        (self.reported_us..self.resolved_us + AFTERMATH_US).contains(&time_us)
    }
}

/// Chooses segments by their length.
#[derive(Debug)]
pub(crate) struct Exposure(Vec<f32>);

impl Exposure {
    pub(crate) fn new(world: &World) -> Self {
        let mut sum = 0.0;
        let running = |segment: &crate::fleet::world::Segment| {
            // Streets are many; most of what happens there stops no traffic.
            let in_town = if segment.limit_kmh < 60.0 { 0.4 } else { 1.0 };
            sum += f64::from(segment.length_m) * in_town;
            sum as f32
        };
        Self(world.segments.iter().map(running).collect())
    }

    fn pick(&self, key: Key) -> SegmentId {
        let at = key.unit() as f32 * self.0[self.0.len() - 1];
        self.0.partition_point(|sum| *sum <= at).min(self.0.len() - 1) as SegmentId
    }
}

/// The chance that a candidate at this place and time becomes an accident, as a part of the greatest one.
fn accident_chance(load: f64, speed_kmh: f64, rain: f64, snow: bool) -> f64 {
    let speed = speed_kmh / 112.7;
    let slippery = 1.0 + if snow { 2.5 } else { 1.4 } * (rain / 2.0).min(1.0);
    // Flow times flow: the more there are, the more each meets.
    (0.55 * load * (0.35 + 0.65 * load) * (0.15 + 0.85 * speed * speed) * slippery).min(1.0)
}

/// The incidents reported on one day, in order of time.
pub(crate) fn of_day(seed: Key, world: &World, exposure: &Exposure, weather: &Weather, day: i32) -> Vec<Incident> {
    let key = seed.of(For::Incident).with(day as u64);
    let day_us = i64::from(day) * 24 * HOUR_US;
    let mut incidents = Vec::new();
    for candidate in 0..24 * CANDIDATES_PER_HOUR {
        let key = key.with(candidate);
        let hour = (candidate / CANDIDATES_PER_HOUR) as i64;
        let time_us = day_us + hour * HOUR_US + key.with(1).below(60) as i64 * MINUTE_US;
        // Most candidates fail by traffic alone: look at it first, as it costs least.
        let drawn = key.with(2).unit();
        let hourly = demand::shape(time_us);
        if drawn > hourly {
            continue;
        }
        let id = exposure.pick(key.with(3));
        let segment = world.segment(id);
        let load = (f64::from(segment.daily / segment.capacity) * 0.08 * hourly).min(1.2);
        let point = world.middle(id);
        let kind = match key.with(4).unit() {
            draw if draw < 0.72 => IncidentKind::Accident,
            draw if draw < 0.80 => IncidentKind::Fire,
            draw if draw < 0.90 => IncidentKind::Medical,
            _ => IncidentKind::Police,
        };
        let chance = match kind {
            IncidentKind::Accident => {
                let air = weather.at(point, time_us);
                accident_chance(
                    load,
                    f64::from(segment.limit_kmh),
                    f64::from(air.precipitation),
                    air.is_snow(),
                )
            }
            // These follow people rather than speed.
            _ => 0.10 * load.sqrt(),
        };
        if drawn < 0.35 * chance {
            incidents.push(incident(key, kind, id, point, time_us, world));
        }
    }
    incidents.sort_by_key(|incident| incident.reported_us);
    let (year, month, date) = model::event_time::civil_from_days(day);
    for (number, incident) in (1..).zip(&mut incidents) {
        incident.id = format!("INC-{year:04}{month:02}{date:02}-{number:04}");
    }
    incidents
}

fn incident(key: Key, kind: IncidentKind, segment: SegmentId, point: Point, time_us: i64, world: &World) -> Incident {
    let severity = match key.with(5).unit() {
        draw if draw < 0.62 => 1,
        draw if draw < 0.92 => 2,
        _ => 3_u8,
    };
    let minutes = |salt, low: f64, high: f64| key.with(salt).between(low, high) as i64 * MINUTE_US;
    let dispatched_us = time_us + minutes(6, 1.0, 6.0);
    let on_scene_us = dispatched_us + minutes(7, 4.0, 14.0);
    let resolved_us = on_scene_us + minutes(8, 8.0, 28.0) * i64::from(severity) + minutes(9, 1.0, 20.0);
    let road = &world.road_names[usize::from(world.segment(segment).road)];
    let what = match (kind, severity) {
        (IncidentKind::Accident, 1) => "Collision, no one hurt",
        (IncidentKind::Accident, 2) => "Collision with injuries",
        (IncidentKind::Accident, _) => "Collision of several vehicles, road blocked",
        (IncidentKind::Fire, 1) => "Smoke from a vehicle",
        (IncidentKind::Fire, _) => "Vehicle on fire",
        (IncidentKind::Medical, _) => "Driver taken ill",
        (IncidentKind::Police, 1) => "Object on the road",
        (IncidentKind::Police, _) => "Police operation",
    };
    Incident {
        id: String::new(),
        kind,
        severity,
        segment,
        point,
        description: format!("{what}, {road}"),
        reported_us: time_us,
        dispatched_us,
        on_scene_us,
        resolved_us,
        units: severity + (key.with(10).below(2) as u8),
    }
}
