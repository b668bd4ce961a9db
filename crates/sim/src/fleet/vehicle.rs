//! One vehicle: who it is, its day of trips, and where it is at any moment.
//!
//! A vehicle's life is cut into shifts of a day, each beginning and ending parked at home. Within a shift trips follow from
//! draws and from how long the trips before took, so the state at any moment costs at most the walk from the shift's start:
//! some hundred segments. What other vehicles of the fleet do has no influence; their traffic is part of the flow that
//! [`super::conditions`] knows.

use crate::fleet::conditions::View;
use crate::fleet::demand;
use crate::fleet::draw::{For, Key};
use crate::fleet::geometry::{Offset, Point, turn_deg};
use crate::fleet::gps::Gps;
use crate::fleet::kinds::{AMBULANCE, BUS, CAR, Kind, LORRY};
use crate::fleet::motion::{Drive, Wish};
use crate::fleet::world::{Legs, NodeId, RoadClass, SegmentId, World};

const SECOND_US: i64 = 1_000_000;
const MINUTE_US: i64 = 60 * SECOND_US;
const HOUR_US: i64 = 60 * MINUTE_US;
const DAY_US: i64 = 24 * HOUR_US;
const NO_SEGMENT: SegmentId = SegmentId::MAX;
/// The towns between which the first vehicle of every fleet drives.
const CLASSIC: [&str; 2] = ["London", "Birmingham"];
/// A trip is only begun when the way home fits into the shift `SLACK` times, with `SPARE_US` to spare.
const SLACK: f32 = 3.0;
const SPARE_US: i64 = 30 * MINUTE_US;

/// What all vehicles share.
#[derive(Debug)]
pub(crate) struct Catalogue {
    pub(crate) kinds: Vec<Kind>,
    /// Cumulative chances of a home town.
    homes: Vec<f64>,
    /// The two ends of the classic route.
    classic: [NodeId; 2],
}

impl Catalogue {
    pub(crate) fn new(world: &World) -> Self {
        // Less than by population: small towns have vehicles too.
        let weights: Vec<f64> = world.cities.iter().map(|city| city.population.sqrt()).collect();
        let sum: f64 = weights.iter().sum();
        let mut running = 0.0;
        let homes = weights
            .iter()
            .map(|weight| {
                running += weight / sum;
                running
            })
            .collect();
        let classic = CLASSIC.map(|name| {
            let number = world.cities.iter().position(|city| city.name == name).expect(name);
            let centre = world.cities[number].centre;
            let distance = |node: &NodeId| world.point(*node).rough_distance_m(centre);
            let nodes = world.city_nodes(number as u16).iter();
            *nodes.min_by(|a, b| distance(a).total_cmp(&distance(b))).expect(name)
        });
        Self {
            kinds: Kind::read_all(),
            homes,
            classic,
        }
    }

    fn home_city(&self, draw: f64) -> u16 {
        self.homes
            .partition_point(|chance| *chance <= draw)
            .min(self.homes.len() - 1) as u16
    }
}

/// The state of one vehicle. A million of them fit a small machine: the size is tested.
#[derive(Debug, Clone)]
pub(crate) struct Vehicle {
    key: Key,
    pub(crate) number: u32,
    home: NodeId,
    place: NodeId,
    /// Days since the epoch of the shift's start.
    shift: i32,
    /// When shifts begin, microseconds after midnight.
    shift_offset_us: i64,
    /// Of the present activity: a segment (with the wait at its end), or a stop.
    from_us: i64,
    until_us: i64,
    /// Where the segment begins, on the vehicle's side of the road, and degrees for each metre along it.
    latitude: f64,
    longitude: f64,
    latitude_per_m: f32,
    longitude_per_m: f32,
    drive: Drive,
    legs: Legs,
    gps: Gps,
    pub(crate) segment: SegmentId,
    next: SegmentId,
    /// Segments since the trip's start.
    step: u32,
    pub(crate) temper: f32,
    pub(crate) trip: u16,
    pub(crate) year: u16,
    pub(crate) kind: u8,
    pub(crate) model: u8,
    leg: u8,
    pub(crate) parked: bool,
    /// Bits of [`super::truth::Situation`]: those under way.
    pub(crate) situations: u8,
}

/// Where a vehicle is and how it moves; the truth, before any sensor.
#[derive(Debug, Clone, Copy)]
pub struct Fix {
    pub point: Point,
    pub speed_kmh: f32,
    /// Degrees clockwise from north.
    pub heading_deg: f32,
    pub parked: bool,
}

impl Vehicle {
    /// The vehicle at the start of the shift that holds `time_us`; [`Self::advance`] it to that time.
    pub(crate) fn new(seed: Key, number: u32, view: &mut View, catalogue: &Catalogue, time_us: i64) -> Self {
        let key = seed.with(u64::from(number));
        let draw = |salt| key.of(For::Profile).with(salt);
        let (kind, home) = if number == 0 {
            (CAR, catalogue.classic[0])
        } else {
            let percent = draw(1).unit() * 100.0;
            let mut sum = 0.0;
            let kind = catalogue.kinds.iter().position(|kind| {
                sum += kind.share;
                percent < sum
            });
            let nodes = view.world.city_nodes(catalogue.home_city(draw(2).unit()));
            (kind.unwrap_or_default() as u8, nodes[draw(3).below(nodes.len())])
        };
        let spec = &catalogue.kinds[usize::from(kind)];
        let model = if number == 0 {
            7
        } else {
            draw(4).below(spec.models.len())
        };
        let years = &spec.models[model];
        let night = [0.06, 0.12, 0.38, 0.15, 0.04, 0.5][usize::from(kind)];
        let shift_offset_us = if number != 0 && draw(6).happens(night) {
            (draw(7).between(13.0, 15.5) * HOUR_US as f64) as i64
        } else {
            (draw(7).between(3.4, 4.9) * HOUR_US as f64) as i64
        };
        // Most keep a little below the limit; one in sixty does not care.
        let temper = match draw(8).happens(1.0 / 60.0) {
            true if kind != LORRY && kind != BUS => draw(9).between(1.16, 1.38),
            _ => 0.945 + 0.055 * draw(9).normal(),
        };
        let mut vehicle = Self {
            key,
            number,
            home,
            place: home,
            shift: (time_us - shift_offset_us).div_euclid(DAY_US) as i32,
            shift_offset_us,
            from_us: 0,
            until_us: 0,
            latitude: 0.0,
            longitude: 0.0,
            latitude_per_m: 0.0,
            longitude_per_m: 0.0,
            drive: Drive::default(),
            legs: Legs::NONE,
            gps: Gps::new(),
            segment: NO_SEGMENT,
            next: NO_SEGMENT,
            step: 0,
            temper: temper as f32,
            trip: 0,
            year: years.3 + draw(5).below(usize::from(years.4 - years.3) + 1) as u16,
            kind,
            model: model as u8,
            leg: 0,
            parked: true,
            situations: 0,
        };
        vehicle.begin_shift(view, catalogue);
        vehicle
    }

    pub(crate) fn key(&self) -> Key {
        self.key
    }

    /// The GPS error east and north, in units of its standard deviation.
    #[inline]
    pub(crate) fn gps_error(&mut self, time_us: i64) -> [f32; 2] {
        self.gps.error(self.key, time_us)
    }

    fn shift_start_us(&self) -> i64 {
        i64::from(self.shift) * DAY_US + self.shift_offset_us
    }

    fn shift_end_us(&self) -> i64 {
        self.shift_start_us() + DAY_US
    }

    /// Days since the epoch of the shift, which names its trips.
    pub(crate) fn shift_day(&self) -> i32 {
        self.shift
    }

    /// Brings the vehicle to a time, which must not lie before the last one.
    #[inline]
    pub(crate) fn advance(&mut self, view: &mut View, catalogue: &Catalogue, time_us: i64) {
        while self.until_us <= time_us {
            self.go_on(view, catalogue);
        }
    }

    /// Brings the vehicle to a time and tells of each segment that it enters before then, with the times of entering and of
    /// leaving.
    pub(crate) fn passages(
        &mut self,
        view: &mut View,
        catalogue: &Catalogue,
        to_us: i64,
        mut each: impl FnMut(&Self, i64, i64),
    ) {
        loop {
            if self.parked {
                if self.until_us > to_us {
                    return;
                }
            } else {
                if self.from_us >= to_us {
                    return;
                }
                // Setting out is no time on a segment.
                if self.until_us > self.from_us {
                    each(self, self.from_us, self.until_us);
                }
            }
            self.go_on(view, catalogue);
        }
    }

    /// From one activity to the next.
    fn go_on(&mut self, view: &mut View, catalogue: &Catalogue) {
        let now = self.until_us;
        if now >= self.shift_end_us() {
            debug_assert!(
                self.parked && self.place == self.home,
                "vehicle {} is not home in time",
                self.number
            );
            self.shift += 1;
            self.begin_shift(view, catalogue);
        } else if self.parked {
            self.depart(view, now);
        } else if self.next != NO_SEGMENT {
            let (segment, leave) = (self.next, self.drive.leave());
            // A wait at the segment's end was a stop.
            self.enter(view, catalogue, segment, leave, now);
        } else {
            self.park(view, now);
            self.plan(view, catalogue, now);
        }
    }

    fn begin_shift(&mut self, view: &mut View, catalogue: &Catalogue) {
        self.trip = 0;
        self.place = self.home;
        self.segment = view.world.out(self.home).start;
        let start = self.shift_start_us();
        self.park(view, start);
        self.plan(view, catalogue, start);
    }

    /// Stops beside the road at `self.place`.
    fn park(&mut self, view: &View, now: i64) {
        let draw = self.key.of(For::Day).with(self.shift as u64).with(u64::from(self.trip));
        let aside = Offset {
            east: draw.with(1).between(-14.0, 14.0),
            north: draw.with(2).between(-14.0, 14.0),
        };
        let point = view.world.point(self.place).plus(aside);
        (self.latitude, self.longitude) = (point.latitude, point.longitude);
        (self.latitude_per_m, self.longitude_per_m) = (0.0, 0.0);
        self.parked = true;
        self.from_us = now;
    }

    /// Chooses the next trip, or the wait for the end of the shift.
    fn plan(&mut self, view: &mut View, catalogue: &Catalogue, now: i64) {
        let world = &*view.world;
        let end = self.shift_end_us();
        let kind = &catalogue.kinds[usize::from(self.kind)];
        let draw = self
            .key
            .of(For::Trip)
            .with(self.shift as u64)
            .with(u64::from(self.trip));
        let home = world.legs(self.place, self.home);
        // Buses and ambulances have a turn-around; others stay as long as they like.
        let ready = now + (kind.dwell_min * draw.with(1).between(1.0, 1.6) * MINUTE_US as f64) as i64;
        let time_for = |legs: &Legs| (legs.seconds * SLACK) as i64 * SECOND_US;
        let latest = end - SPARE_US - time_for(&home);
        let departure = if self.number == 0 {
            Some(ready)
        } else {
            next_departure(draw.with(2), kind, ready, end)
        };

        let away = self.place != self.home;
        let (departure, legs) = match departure {
            Some(departure) if departure <= latest || !away => {
                let to = self.destination(world, catalogue, draw);
                let legs = world.legs(self.place, to);
                let back = world.legs(to, self.home);
                let fits = departure + time_for(&legs) + time_for(&back) + SPARE_US < end;
                match fits && to != self.place {
                    true => (departure, legs),
                    // The day is too short for it. At home it thinks again then; away it goes home.
                    false if away => (departure, home),
                    false => (departure, Legs::NONE),
                }
            }
            _ if away => (latest.max(ready).min(end - 1), home),
            _ => (end, Legs::NONE),
        };
        self.legs = legs;
        self.until_us = departure.min(end);
    }

    fn destination(&self, world: &World, catalogue: &Catalogue, draw: Key) -> NodeId {
        if self.number == 0 {
            return catalogue.classic[usize::from(self.place == catalogue.classic[0])];
        }
        let kind = &catalogue.kinds[usize::from(self.kind)];
        let city = world.nodes[self.place as usize].city;
        let away = city != world.nodes[self.home as usize].city;
        let somewhere_in = |city: u16| {
            let nodes = world.city_nodes(city);
            nodes[draw.with(4).below(nodes.len())]
        };
        // Within a town one of two places: the nearer, as most trips are short, or the farther.
        let of_two = |key: Key, farther: bool| {
            let nodes = world.city_nodes(city);
            let here = world.point(self.place);
            let [one, other] = [1, 2].map(|salt| nodes[key.with(salt).below(nodes.len())]);
            let distance = |node: NodeId| world.point(node).rough_distance_m(here);
            if (distance(one) <= distance(other)) != farther {
                one
            } else {
                other
            }
        };
        match self.kind {
            BUS if self.place == self.home => {
                // The other terminus: the same for every trip of this bus.
                of_two(self.key.of(For::Profile).with(20), true)
            }
            BUS => self.home,
            AMBULANCE if self.place != self.home => self.home,
            _ if away && draw.with(5).happens(0.5) => self.home,
            _ if draw.with(6).happens(kind.local) => of_two(draw.with(9), false),
            _ => {
                let destinations = &world.cities[usize::from(city)].destinations;
                let mut drawn = draw.with(7).unit();
                if self.kind == LORRY {
                    // Freight goes far: the farther half of what a draw would give.
                    drawn = drawn.max(draw.with(8).unit());
                }
                let at = destinations.partition_point(|(chance, _)| *chance <= drawn);
                somewhere_in(destinations[at.min(destinations.len() - 1)].1)
            }
        }
    }

    fn depart(&mut self, view: &mut View, now: i64) {
        self.trip += 1;
        self.step = 0;
        self.leg = 0;
        self.drive = Drive::default();
        let first = following(&view.world, self.place, &self.legs, &mut self.leg);
        self.parked = false;
        self.from_us = now;
        self.until_us = now;
        // No way, or nowhere to go: the trip is over before it begins.
        self.next = first.unwrap_or(NO_SEGMENT);
    }

    /// Enters a segment at a speed (m/s) and plans it to its end.
    fn enter(&mut self, view: &mut View, catalogue: &Catalogue, id: SegmentId, speed: f32, now: i64) {
        let world = std::sync::Arc::clone(&view.world);
        let segment = world.segment(id);
        self.place = segment.to;
        self.segment = id;
        self.step += 1;
        let next = following(&world, segment.to, &self.legs, &mut self.leg);
        self.next = next.unwrap_or(NO_SEGMENT);

        let found = view.found(id, segment.start, now);
        let kind = &catalogue.kinds[usize::from(self.kind)];
        let draw = self.key.of(For::Cruise).with(now as u64);
        let on_call = self.kind == AMBULANCE && self.trip % 2 == 1;
        let free_kmh = |segment: &super::world::Segment| {
            let own = kind.limit_kmh(segment.class) as f32;
            if on_call {
                return (segment.limit_kmh * 1.25).min(own);
            }
            // In thick traffic temper is of no use.
            let temper = 1.0 + (self.temper - 1.0) * found.traffic;
            let wanted = segment.limit_kmh.min(own) * temper;
            if self.kind == LORRY { wanted.min(own) } else { wanted }
        };
        let ease = found.weather * found.traffic;
        let wobble = 1.0 + 0.03 * draw.normal() as f32;
        let cruise = (free_kmh(segment) * ease * wobble / 3.6).max(1.5);

        let crossing = &world.nodes[segment.to as usize];
        let waits = crossing.signals && !on_call;
        let stop = match next {
            None => true,
            Some(_) => waits && draw.with(1).happens(0.22 + 0.16 * demand::shape(now)),
        };
        let bus_stop = self.kind == BUS && crossing.signals && draw.with(2).happens(0.4);
        let mut wait_us = 0;
        let leave = match next {
            _ if stop || bus_stop => {
                wait_us = if next.is_some() {
                    (draw.with(3).between(5.0, 34.0) * 1e6) as i64
                } else {
                    0
                };
                0.0
            }
            None => 0.0,
            Some(next) => {
                let next = world.segment(next);
                let turn = turn_deg(segment.heading_deg, next.heading_deg);
                (free_kmh(next) * ease / 3.6).min(turn_speed(turn, segment.class, next.class))
            }
        };
        let wish = Wish {
            length: segment.length_m,
            enter: speed,
            cruise,
            leave,
            acceleration: kind.acceleration as f32 * (0.8 + 0.4 * self.temper.clamp(0.8, 1.4) - 0.3),
            braking: kind.braking as f32,
        };
        self.drive = Drive::new(wish).with_ripple(draw.with(4).between(-1.0, 1.0) as f32);
        self.from_us = now;
        self.until_us = now + (self.drive.seconds() * 1e6) as i64 + 1 + wait_us;

        (self.latitude, self.longitude) = (segment.start.latitude, segment.start.longitude);
        (self.latitude_per_m, self.longitude_per_m) = (segment.latitude_per_m, segment.longitude_per_m);
    }

    /// Where it is at a time that [`Self::advance`] has brought it to.
    #[inline]
    pub(crate) fn fix(&self, world: &World, time_us: i64) -> Fix {
        let heading_deg = world.segment(self.segment).heading_deg;
        if self.parked {
            return Fix {
                point: Point::new(self.latitude, self.longitude),
                speed_kmh: 0.0,
                heading_deg,
                parked: true,
            };
        }
        let (metres, speed) = self.drive.at((time_us - self.from_us) as f32 * 1e-6);
        Fix {
            point: Point::new(
                self.latitude + f64::from(self.latitude_per_m * metres),
                self.longitude + f64::from(self.longitude_per_m * metres),
            ),
            speed_kmh: speed * 3.6,
            heading_deg,
            parked: false,
        }
    }
}

/// The segment that follows a node on a trip; steps to the next leg where one ends.
fn following(world: &World, node: NodeId, legs: &Legs, leg: &mut u8) -> Option<SegmentId> {
    while let Some(present) = legs.get(*leg) {
        if let Some(segment) = world.next_segment(node, present) {
            return Some(segment);
        }
        *leg += 1;
    }
    None
}

/// How fast a bend or a turn is taken, m/s.
fn turn_speed(turn_deg: f32, from: RoadClass, to: RoadClass) -> f32 {
    let slip_road = from <= RoadClass::Trunk || to <= RoadClass::Trunk;
    let kmh = match turn_deg {
        turn if turn < 18.0 => 300.0,
        turn if slip_road => 75.0 - (turn - 18.0).min(90.0) * 0.35,
        turn if turn < 45.0 => 46.0,
        turn if turn < 110.0 => 24.0,
        _ => 14.0,
    };
    kmh / 3.6
}

/// When a parked vehicle sets out: a hazard that would keep the wanted share of its kind under way, integrated by quarter
/// hours until it meets an exponential draw. `None` when that is not before `end`.
fn next_departure(draw: Key, kind: &Kind, ready: i64, end: i64) -> Option<i64> {
    const STEP_US: i64 = 15 * MINUTE_US;
    let mut wanted = draw.exponential();
    let mut at = ready;
    while at < end {
        let busy = kind.busy_night + (kind.busy_day - kind.busy_night) * demand::shape(at + STEP_US / 2);
        let per_us = busy / (1.0 - busy) / (kind.trip_min() * MINUTE_US as f64);
        let step = per_us * STEP_US as f64;
        if wanted < step {
            let departure = at + (wanted / per_us) as i64;
            return (departure < end).then_some(departure);
        }
        wanted -= step;
        at += STEP_US;
    }
    None
}
