//! From a vehicle's true state to what its sensors send: the five records of one moment, written straight into the batch.

use crate::fleet::draw::{Key, mix, normal};
use crate::fleet::gps;
use crate::fleet::scene::Scene;
use crate::fleet::text::{Id, TIMESTAMP_BYTES, fixed, integer, put};
use crate::fleet::vehicle::{Catalogue, Fix, Vehicle};
use crate::fleet::world::{Segment, SegmentId, World};

pub(crate) const VEHICLE: usize = 0;
pub(crate) const GPS: usize = 1;
pub(crate) const TRAFFIC: usize = 2;
pub(crate) const WEATHER: usize = 3;
pub(crate) const EMERGENCY: usize = 4;

const DIRECTIONS: [&[u8]; 8] = [
    b"North",
    b"North-East",
    b"East",
    b"South-East",
    b"South",
    b"South-West",
    b"West",
    b"North-West",
];

/// Texts that many records share, made once.
#[derive(Debug)]
pub(crate) struct Texts {
    /// By kind and model: from after `direction` to before `year`.
    models: Vec<Vec<Vec<u8>>>,
    /// By kind and model: from after `year` to before `heading`.
    fuels: Vec<Vec<Vec<u8>>>,
    /// By kind: `vehicle_type` of the gps stream, with what stands around it.
    uses: Vec<Vec<u8>>,
    /// `road`, `road_class` and `speed_limit`; which of them a segment takes stands in `road_of`.
    roads: Vec<Vec<u8>>,
    road_of: Vec<u16>,
}

impl Texts {
    pub(crate) fn new(world: &World, catalogue: &Catalogue) -> Self {
        let by_model = |text: &dyn Fn(&crate::fleet::kinds::Kind, &crate::fleet::kinds::Model) -> String| {
            let of_kind = |kind: &crate::fleet::kinds::Kind| {
                kind.models.iter().map(|model| text(kind, model).into_bytes()).collect()
            };
            catalogue.kinds.iter().map(of_kind).collect::<Vec<Vec<Vec<u8>>>>()
        };
        let mut roads: Vec<Vec<u8>> = Vec::new();
        let mut known = std::collections::BTreeMap::new();
        let road_of = world.segments.iter().map(|segment| {
            let key = (segment.road, segment.class, segment.limit_kmh.to_bits());
            *known.entry(key).or_insert_with(|| {
                let name = &world.road_names[usize::from(segment.road)];
                let mut text = format!(
                    r#","road":"{name}","road_class":"{}","speed_limit":"#,
                    segment.class.as_str()
                )
                .into_bytes();
                fixed::<1>(&mut text, f64::from(segment.limit_kmh));
                roads.push(text);
                (roads.len() - 1) as u16
            })
        });
        let road_of = road_of.collect();
        Self {
            models: by_model(&|_, model| format!(r#"","make":"{}","model":"{}","year":"#, model.0, model.1)),
            fuels: by_model(&|kind, model| {
                format!(
                    r#","fuel_type":"{}","vehicle_type":"{}","heading":"#,
                    model.2, kind.name
                )
            }),
            uses: catalogue
                .kinds
                .iter()
                .map(|kind| format!(r#"","vehicle_type":"{}""#, kind.r#use).into_bytes())
                .collect(),
            roads,
            road_of,
        }
    }

    #[inline]
    fn road(&self, segment: SegmentId) -> &[u8] {
        &self.roads[usize::from(self.road_of[segment as usize])]
    }
}

/// Digits of a vehicle's number in its name.
const NUMBER_DIGITS: usize = 7;
/// The longest key.
pub(crate) const KEY_BYTES: usize = 8 + NUMBER_DIGITS + 1;

/// The name of a vehicle: its `device_id` and the records' key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name {
    text: [u8; KEY_BYTES],
    len: u8,
}

impl Name {
    pub(crate) fn new(number: u32) -> Self {
        let mut text = *b"Vehicle-00000000";
        if number == 0 {
            text.copy_from_slice(b"Vehicle-Adam0731");
            return Self { text, len: 16 };
        }
        // Seven digits, eight from ten million on.
        let digits = if number < 10_000_000 {
            NUMBER_DIGITS
        } else {
            NUMBER_DIGITS + 1
        };
        let mut left = number;
        for digit in text[8..8 + digits].iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        Self {
            text,
            len: 8 + digits as u8,
        }
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.len)]
    }

    /// The vehicle's number; `None` when it is the name of no vehicle.
    #[cfg(test)]
    pub(crate) fn number(name: &str) -> Option<u32> {
        match name {
            "Vehicle-Adam0731" => Some(0),
            _ => name.strip_prefix("Vehicle-")?.parse().ok().filter(|number| *number > 0),
        }
    }
}

/// One vehicle at one moment, and all that its records need.
pub(crate) struct Moment<'a> {
    pub(crate) scene: &'a Scene,
    pub(crate) texts: &'a Texts,
    pub(crate) vehicle: &'a Vehicle,
    pub(crate) segment: &'a Segment,
    pub(crate) name: Name,
    /// The device's clock, which may be wrong.
    pub(crate) timestamp: [u8; TIMESTAMP_BYTES],
    pub(crate) fix: Fix,
    /// GPS error east and north, in units of its standard deviation.
    pub(crate) gps_error: [f32; 2],
    /// A hash of seed, vehicle and time; each stream's draws come from it.
    pub(crate) draw: u64,
    /// The true time, milliseconds.
    pub(crate) time_ms: u64,
    pub(crate) sensors: Sensors,
}

/// Readings that a broken sensor holds on to, in place of what it should see.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sensors {
    pub(crate) speed_kmh: Option<f32>,
}

impl Moment<'_> {
    /// The record's id, and 64 bits for its noise.
    #[inline]
    pub(crate) fn id(&self, stream: usize) -> (Id, u64) {
        let draw = mix(self.draw ^ (stream as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let id = Id {
            time_ms: self.time_ms,
            device: self.vehicle.number,
            stream: stream as u8,
            mark: draw >> 17,
        };
        (id, draw)
    }

    /// Whether the stream has anything to say: under a roof a GPS receiver has not.
    #[inline]
    pub(crate) fn speaks(&self, stream: usize) -> bool {
        stream != GPS || !self.segment.tunnel || self.vehicle.parked
    }

    /// Appends the value of a stream's record.
    #[inline]
    pub(crate) fn write(&self, stream: usize, out: &mut Vec<u8>) {
        let (id, draw) = self.id(stream);
        put(out, br#"{"id":""#);
        put(out, &id.to_text());
        put(out, br#"","device_id":""#);
        put(out, self.name.as_bytes());
        // The noise of a record comes from another word than its id.
        let noise = mix(draw);
        match stream {
            VEHICLE => self.vehicle(out),
            GPS => self.gps(out, noise),
            TRAFFIC => self.traffic(out),
            WEATHER => self.weather(out, noise),
            _ => self.emergency(out),
        }
    }

    /// Wheels measure speed to half a percent, each vehicle's to one side.
    #[inline]
    fn wheel_speed_kmh(&self) -> f32 {
        let bias = 1.0 + 0.004 * normal(self.vehicle.key().word()) as f32;
        self.sensors.speed_kmh.unwrap_or(self.fix.speed_kmh * bias)
    }

    #[inline]
    fn vehicle(&self, out: &mut Vec<u8>) {
        let (kind, model) = (usize::from(self.vehicle.kind), usize::from(self.vehicle.model));
        put(out, br#"","timestamp":""#);
        put(out, &self.timestamp);
        put(out, br#"Z","location":["#);
        fixed::<6>(out, self.fix.point.latitude);
        out.push(b',');
        fixed::<6>(out, self.fix.point.longitude);
        put(out, br#"],"speed":"#);
        fixed::<1>(out, f64::from(self.wheel_speed_kmh()));
        put(out, br#","direction":""#);
        put(out, direction(self.fix.heading_deg));
        put(out, &self.texts.models[kind][model]);
        integer(out, u64::from(self.vehicle.year));
        put(out, &self.texts.fuels[kind][model]);
        fixed::<1>(out, f64::from(self.fix.heading_deg));
        put(out, self.texts.road(self.vehicle.segment));
        put(out, br#","trip_id":"#);
        if self.fix.parked {
            put(out, b"null}");
        } else {
            out.push(b'"');
            integer(out, u64::from(self.vehicle.number));
            out.push(b'-');
            integer(out, self.vehicle.shift_day().unsigned_abs().into());
            out.push(b'-');
            integer(out, u64::from(self.vehicle.trip));
            put(out, br#""}"#);
        }
    }

    #[inline]
    fn gps(&self, out: &mut Vec<u8>, noise: u64) {
        let sigma = gps::sigma_m(self.segment.built_up);
        let metres = self.gps_error.map(|error| f64::from(error * sigma));
        let (latitude, longitude) = (
            self.fix.point.latitude + metres[1] * (1.0 / 111_320.0),
            self.fix.point.longitude + metres[0] * (1.0 / (111_320.0 * 0.617)),
        );
        let drift = normal(noise) as f32;
        let speed = (self.fix.speed_kmh + 0.35 * drift).max(0.0);
        let turn = normal(mix(noise)) as f32 * (24.0 / (12.0 + self.fix.speed_kmh));
        let heading = within_circle(self.fix.heading_deg + turn);
        put(out, br#"","timestamp":""#);
        put(out, &self.timestamp);
        put(out, br#"Z","speed":"#);
        fixed::<1>(out, f64::from(speed));
        put(out, br#","direction":""#);
        put(out, direction(heading));
        put(out, &self.texts.uses[usize::from(self.vehicle.kind)]);
        put(out, br#","location":["#);
        fixed::<6>(out, latitude);
        out.push(b',');
        fixed::<6>(out, longitude);
        put(out, br#"],"heading":"#);
        fixed::<1>(out, f64::from(heading));
        put(out, br#","accuracy":"#);
        fixed::<1>(out, f64::from(sigma * 2.45));
        put(out, br#","satellites":"#);
        integer(out, (13.5 - 7.0 * self.segment.built_up + 0.8 * drift) as u64);
        out.push(b'}');
    }

    #[inline]
    fn traffic(&self, out: &mut Vec<u8>) {
        let camera = self.scene.camera(self.segment);
        put(out, &camera.head);
        put(out, &self.timestamp);
        put(out, &camera.tail);
    }

    #[inline]
    fn weather(&self, out: &mut Vec<u8>, noise: u64) {
        let air = self.scene.air(self.fix.point);
        let small = normal(noise) as f32;
        let bias = 0.3 * normal(mix(self.vehicle.key().word())) as f32;
        let temperature = air.temperature + bias + 0.05 * small;
        let quality = self.scene.air_quality(self.segment) * (1.0 + 0.02 * small);
        put(out, br#"","location":["#);
        fixed::<6>(out, self.fix.point.latitude);
        out.push(b',');
        fixed::<6>(out, self.fix.point.longitude);
        put(out, br#"],"timestamp":""#);
        put(out, &self.timestamp);
        put(out, br#"Z","temperature":"#);
        fixed::<1>(out, f64::from(temperature));
        put(out, br#","weather_condition":""#);
        put(out, air.condition(self.scene.daylight).as_bytes());
        put(out, br#"","precipitation":"#);
        fixed::<1>(
            out,
            f64::from(if air.precipitation > 0.05 {
                air.precipitation
            } else {
                0.0
            }),
        );
        put(out, br#","wind_speed":"#);
        fixed::<1>(out, f64::from((air.wind_kmh() + 1.2 * small).max(0.0)));
        put(out, br#","humidity":"#);
        integer(out, (air.humidity + 0.5) as u64);
        put(out, br#","airQualityIndex":"#);
        fixed::<1>(out, f64::from(quality.max(0.0)));
        put(out, br#","wind_direction":"#);
        fixed::<1>(out, f64::from(wind_direction(air.wind_east, air.wind_north)));
        out.push(b'}');
    }

    #[inline]
    fn emergency(&self, out: &mut Vec<u8>) {
        match self.scene.incident(self.vehicle.segment) {
            None => {
                put(out, br#"","incident_id":"none","type":"None","timestamp":""#);
                put(out, &self.timestamp);
                put(out, br#"Z","location":["#);
                fixed::<6>(out, self.fix.point.latitude);
                out.push(b',');
                fixed::<6>(out, self.fix.point.longitude);
                put(out, br#"],"status":"Resolved","description":"No incident nearby"}"#);
            }
            Some(report) => {
                put(out, &report.head);
                put(out, &self.timestamp);
                put(out, &report.tail);
                fixed::<1>(out, self.fix.point.rough_distance_m(report.point));
                out.push(b'}');
            }
        }
    }
}

#[inline]
fn direction(heading_deg: f32) -> &'static [u8] {
    DIRECTIONS[((heading_deg + 22.5) * (1.0 / 45.0)) as usize % 8]
}

#[inline]
fn within_circle(degrees: f32) -> f32 {
    let turned = if degrees < 0.0 { degrees + 360.0 } else { degrees };
    if turned >= 359.95 { 0.0 } else { turned }
}

/// Where the wind comes from, as weather reports tell it; to about a degree, without an arc tangent.
#[inline]
fn wind_direction(east: f32, north: f32) -> f32 {
    let (x, y) = (-north, -east);
    let (low, high) = (x.abs().min(y.abs()), x.abs().max(y.abs()));
    if high == 0.0 {
        return 0.0;
    }
    let ratio = low / high;
    let eighth = ratio * (45.0 + (1.0 - ratio) * (14.02 + 3.79 * ratio));
    let quarter = if y.abs() > x.abs() { 90.0 - eighth } else { eighth };
    let half = if x < 0.0 { 180.0 - quarter } else { quarter };
    within_circle(if y < 0.0 { 360.0 - half } else { half })
}

/// The draw behind a vehicle's records at a time.
#[inline]
pub(crate) fn moment_draw(vehicle: Key, time_ms: u64) -> u64 {
    mix(vehicle.word() ^ mix(time_ms ^ 0x1D5E_C0DE))
}

/// Reads an id that a run of this seed gave: device, event time in milliseconds, stream. `None` for any other text.
pub(crate) fn locate(seed: Key, id: &str) -> Option<(u32, u64, usize)> {
    let id = Id::parse(id)?;
    let vehicle = seed.with(u64::from(id.device));
    let draw = mix(moment_draw(vehicle, id.time_ms) ^ (u64::from(id.stream) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    (draw >> 17 == id.mark && id.stream < 5).then_some((id.device, id.time_ms, usize::from(id.stream)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_read_back() {
        for number in [0, 1, 731, 9_999_999, 10_000_000, 16_777_215] {
            let name = Name::new(number);
            let text = std::str::from_utf8(name.as_bytes()).unwrap();
            assert_eq!(Name::number(text), Some(number), "{text}");
        }
    }

    #[test]
    fn compass_points() {
        for (degrees, word) in [
            (0.0, "North"),
            (22.4, "North"),
            (22.6, "North-East"),
            (180.0, "South"),
            (359.0, "North"),
        ] {
            assert_eq!(direction(degrees), word.as_bytes(), "{degrees}");
        }
        for step in 0..360 {
            let degrees = step as f32;
            let (sine, cosine) = (libm::sinf(degrees.to_radians()), libm::cosf(degrees.to_radians()));
            // The wind blows towards where it does not come from.
            let found = wind_direction(-sine, -cosine);
            let off = (found - degrees).abs();
            assert!(off.min(360.0 - off) < 0.5, "{degrees}: {found}");
        }
    }

    #[test]
    fn strangers_are_not_located() {
        assert_eq!(locate(Key::new(1), "00000000-0000-0000-0000-000000000000"), None);
    }
}
