//! What is the same for all vehicles during one minute: the weather's raster, the cameras' readings, the incidents and the
//! air of towns, each in the form in which a record takes it.

use std::sync::Arc;

use crate::fleet::conditions::View;
use crate::fleet::demand;
use crate::fleet::draw::{For, Key};
use crate::fleet::geometry::Point;
use crate::fleet::snapshot;
use crate::fleet::text;
use crate::fleet::weather::{Air, Raster};
use crate::fleet::world::{NO_CITY, Segment, World};

pub(crate) const MINUTE_US: i64 = 60_000_000;

#[derive(Debug)]
pub(crate) struct Scene {
    minute: i64,
    raster: Raster,
    /// By segment: 1 + the index in `reports` of the incident nearest to it; 0 for none.
    near: Vec<u16>,
    /// Metres to that incident, where there is one.
    near_m: Vec<f32>,
    reports: Vec<Report>,
    cameras: Vec<CameraText>,
    /// Air quality index by town, and in the country.
    town_air: Vec<f32>,
    country_air: f32,
    pub(crate) daylight: bool,
    key: Key,
    snapshots: bool,
}

/// An incident in the form of the emergency stream.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) point: Point,
    pub(crate) id: String,
    pub(crate) active: bool,
    /// From after `device_id` to before the timestamp.
    pub(crate) head: Vec<u8>,
    /// From after the timestamp to before the distance.
    pub(crate) tail: Vec<u8>,
}

/// A camera's readings in the form of the traffic stream.
#[derive(Debug, Default)]
pub(crate) struct CameraText {
    pub(crate) head: Vec<u8>,
    pub(crate) tail: Vec<u8>,
}

impl Scene {
    pub(crate) fn new(view: &mut View, seed: Key, snapshots: bool, time_us: i64) -> Self {
        let world = Arc::clone(&view.world);
        let mut scene = Self {
            minute: i64::MIN,
            raster: Raster::new(&view.conditions.weather, time_us),
            near: vec![0; world.segments.len()],
            near_m: vec![0.0; world.segments.len()],
            reports: Vec::new(),
            cameras: world.cameras.iter().map(|_| CameraText::default()).collect(),
            town_air: vec![0.0; world.cities.len()],
            country_air: 0.0,
            daylight: false,
            key: seed,
            snapshots,
        };
        scene.turn_to(view, time_us);
        scene
    }

    /// Makes it the scene of the minute that holds this time.
    #[inline]
    pub(crate) fn turn_to(&mut self, view: &mut View, time_us: i64) {
        let minute = time_us.div_euclid(MINUTE_US);
        if minute != self.minute {
            self.minute = minute;
            self.make(view);
        }
    }

    fn make(&mut self, view: &mut View) {
        let time_us = self.minute * MINUTE_US;
        let world = Arc::clone(&view.world);
        self.raster = Raster::new(&view.conditions.weather, time_us);
        self.daylight = is_daylight(time_us);
        self.tell_incidents(view, time_us);
        self.read_cameras(view, &world, time_us);
        let busy = demand::shape(time_us);
        for (air, city) in self.town_air.iter_mut().zip(&world.cities) {
            *air = town_air(city.population, busy, &self.raster.at(city.centre));
        }
        self.country_air = 12.0 + 8.0 * busy as f32;
    }

    fn tell_incidents(&mut self, view: &mut View, time_us: i64) {
        self.near.fill(0);
        self.reports.clear();
        let day = view.day(time_us);
        let reported = day.incidents.iter().zip(&day.near);
        for (incident, near) in reported.filter(|(incident, _)| incident.is_reported(time_us)) {
            let mut report = Report {
                point: incident.point,
                id: incident.id.clone(),
                active: incident.is_active(time_us),
                head: Vec::new(),
                tail: Vec::new(),
            };
            text::put(
                &mut report.head,
                format!(
                    r#"","incident_id":"{}","type":"{}","timestamp":""#,
                    incident.id,
                    incident.kind.as_str()
                )
                .as_bytes(),
            );
            text::put(&mut report.tail, br#"Z","location":["#);
            text::fixed::<6>(&mut report.tail, incident.point.latitude);
            report.tail.push(b',');
            text::fixed::<6>(&mut report.tail, incident.point.longitude);
            let status = if report.active { "Active" } else { "Resolved" };
            let rest = format!(
                r#"],"status":"{status}","description":"{}","phase":"{}","severity":{},"units":{},"distance":"#,
                incident.description,
                incident.phase(time_us),
                incident.severity,
                if time_us >= incident.dispatched_us {
                    incident.units
                } else {
                    0
                },
            );
            text::put(&mut report.tail, rest.as_bytes());
            self.reports.push(report);
            let number = self.reports.len() as u16;
            for (distance, segment) in near {
                let (at, distance) = (*segment as usize, *distance as f32);
                if self.near[at] == 0 || distance < self.near_m[at] {
                    (self.near[at], self.near_m[at]) = (number, distance);
                }
            }
        }
    }

    fn read_cameras(&mut self, view: &mut View, world: &World, time_us: i64) {
        let minute = self.minute;
        for (number, (text, camera)) in self.cameras.iter_mut().zip(&world.cameras).enumerate() {
            let segment = world.segment(camera.segment);
            let found = view.found(camera.segment, camera.point, time_us);
            let per_minute = view.conditions.flow(segment, time_us) * f64::from(found.traffic.max(0.3)) / 60.0;
            let key = self.key.of(For::Camera).with(number as u64).with(minute as u64);
            let count = key.poisson(per_minute);
            let spread = 1.0 + 0.03 * key.with(1).normal();
            let speed = f64::from(segment.limit_kmh * found.traffic * found.weather) * 0.95 * spread;
            text.head.clear();
            text.tail.clear();
            text::put(
                &mut text.head,
                format!(r#"","camera_id":"{}","location":["#, camera.name).as_bytes(),
            );
            text::fixed::<6>(&mut text.head, camera.point.latitude);
            text.head.push(b',');
            text::fixed::<6>(&mut text.head, camera.point.longitude);
            text::put(&mut text.head, br#"],"timestamp":""#);
            text::put(&mut text.tail, br#"Z","snapshot":""#);
            if self.snapshots {
                snapshot::write(count, self.daylight, key.with(2), &mut text.tail);
            }
            let road = &world.road_names[usize::from(segment.road)];
            text::put(
                &mut text.tail,
                format!(r#"","road":"{road}","vehicle_count":{count},"mean_speed":"#).as_bytes(),
            );
            text::fixed::<1>(&mut text.tail, speed);
            text.tail.push(b'}');
        }
    }

    #[inline]
    pub(crate) fn air(&self, point: Point) -> Air {
        self.raster.at(point)
    }

    /// The incident that a vehicle on this segment reports.
    #[inline]
    pub(crate) fn incident(&self, segment: u32) -> Option<&Report> {
        match self.near[segment as usize] {
            0 => None,
            number => Some(&self.reports[usize::from(number) - 1]),
        }
    }

    #[inline]
    pub(crate) fn camera(&self, segment: &Segment) -> &CameraText {
        &self.cameras[usize::from(segment.camera)]
    }

    /// 0 is clean.
    #[inline]
    pub(crate) fn air_quality(&self, segment: &Segment) -> f32 {
        match segment.city {
            NO_CITY => self.country_air + 10.0 * (segment.daily / segment.capacity * 0.08).min(1.0),
            city => self.town_air[usize::from(city)],
        }
    }
}

/// Traffic fouls the air, wind and rain clean it.
fn town_air(population: f64, busy: f64, air: &Air) -> f32 {
    let sources = 9.0 * population.sqrt().sqrt() as f32 * (0.25 + 0.75 * busy as f32);
    let washed = 1.0 - 0.3 * (air.precipitation / 2.0).min(1.0);
    14.0 + sources * washed / (0.6 + air.wind_kmh() / 22.0)
}

/// The sun over the middle of the map, by the season to a quarter of an hour.
fn is_daylight(time_us: i64) -> bool {
    const DAY_US: i64 = 86_400_000_000;
    let days = time_us as f64 / DAY_US as f64;
    let season = -libm::cos((days + 10.0) / 365.2425 * std::f64::consts::TAU);
    let half_day_h = 12.1 / 2.0 + 2.2 * season;
    let hour = time_us.rem_euclid(DAY_US) as f64 / 3.6e9;
    (hour - 12.1).abs() < half_day_h
}
