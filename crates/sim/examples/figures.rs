//! The numbers behind the pictures of `docs/guide/simulator.md`, as one JSON object on stdout.
//!
//!     cargo run --release -p sim --example figures | python docs/guide/simulator/figures.py docs/guide/simulator
//!
//! `tests/fleet_statistics.rs` states what they must look like.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sim::fleet::{Fleet, Point, RoadClass, Settings};
use sim::{Batch, Profile};

const SECOND_US: i64 = 1_000_000;
const HOUR_US: i64 = 3600 * SECOND_US;
const DAY_US: i64 = 24 * HOUR_US;
/// Wednesday, 2026-01-07, at midnight.
const WEDNESDAY_US: i64 = 20_460 * DAY_US;
const SEED: u64 = 11;

fn fleet(vehicles: u32, start_us: i64) -> Fleet {
    let settings = Settings {
        vehicles,
        ..Settings::new(SEED, start_us)
    };
    Fleet::new(settings).expect("settings in range")
}

fn main() {
    let figures = json!({
        "roads": roads(),
        "vehicles": vehicles(1000, WEDNESDAY_US + 8 * HOUR_US),
        "many_vehicles": vehicles(30_000, WEDNESDAY_US + 8 * HOUR_US),
        "speeds": {
            "evening": speeds(WEDNESDAY_US + 20 * HOUR_US, WEDNESDAY_US + 22 * HOUR_US),
            "rush hour": speeds(WEDNESDAY_US + 7 * HOUR_US + HOUR_US / 2, WEDNESDAY_US + 9 * HOUR_US),
        },
        "gps": gps(),
        "headways": headways(),
        "under_way": { "Wednesday": under_way(WEDNESDAY_US), "Sunday": under_way(WEDNESDAY_US + 4 * DAY_US) },
        "weather": weather(),
        "incidents": incidents(),
    });
    println!("{figures}");
}

fn place(point: Point) -> Value {
    json!([round(point.longitude), round(point.latitude)])
}

fn round(degrees: f64) -> f64 {
    (degrees * 1e5).round() / 1e5
}

/// By class, both ends of each piece of road.
fn roads() -> Value {
    let mut classes: Map<String, Value> = Map::new();
    for (class, from, to) in fleet(1, WEDNESDAY_US).world().lines() {
        let lines = classes.entry(class.as_str()).or_insert_with(|| json!([]));
        lines
            .as_array_mut()
            .expect("made so")
            .push(json!([place(from), place(to)]));
    }
    classes.into()
}

/// Of each vehicle: place, speed in km/h, whether it is parked.
fn vehicles(count: u32, at_us: i64) -> Value {
    let mut found = Vec::new();
    fleet(count, at_us).fixes(at_us, |_, fix, _| {
        found.push(json!([
            round(fix.point.longitude),
            round(fix.point.latitude),
            fix.speed_kmh.round(),
            fix.parked
        ]));
    });
    found.into()
}

/// By road class, cars' mean speeds over a piece of road as parts of the limit, waits included.
fn speeds(from_us: i64, to_us: i64) -> Value {
    let mut by_class: BTreeMap<RoadClass, Vec<f64>> = BTreeMap::new();
    fleet(6000, from_us).passages(from_us, to_us, |passage| {
        if passage.kind == "car" {
            let part = passage.mean_speed_kmh() / f64::from(passage.limit_kmh);
            by_class
                .entry(passage.class)
                .or_default()
                .push((part * 1e3).round() / 1e3);
        }
    });
    by_class
        .into_iter()
        .map(|(class, parts)| (class.as_str().to_owned(), json!(parts)))
        .collect::<Map<_, _>>()
        .into()
}

/// Errors of 240 receivers every 5 seconds: of one the track in metres, of all the autocorrelation of the error north in
/// units of its deviation, found and expected, and the errors themselves in those units.
fn gps() -> Value {
    let settings = Settings {
        vehicles: 240,
        duration_us: Some(1200 * SECOND_US),
        interval_us: 5 * SECOND_US,
        ..Settings::new(SEED, WEDNESDAY_US + 14 * HOUR_US)
    };
    let mut fleet = Fleet::new(settings).expect("settings in range");
    let mut batch = Batch::new();
    let mut errors: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    let (mut track, mut truth) = (Vec::new(), [0.0; 2]);
    while fleet.fill(&mut batch) {
        for record in batch.iter().filter(|record| record.stream < 2) {
            let value: Value = serde_json::from_slice(record.value.expect("a value")).expect("JSON");
            let place = [0, 1].map(|axis| value["location"][axis].as_f64().expect("degrees"));
            if record.stream == 0 {
                truth = place;
                continue;
            }
            let north_m = (place[0] - truth[0]) * 111_320.0;
            let east_m = (place[1] - truth[1]) * 111_320.0 * place[0].to_radians().cos();
            let sigma_m = value["accuracy"].as_f64().expect("metres") / 2.45;
            errors.entry(record.device).or_default().push(north_m / sigma_m);
            if record.device == 1 {
                track.push(json!([round(east_m), round(north_m)]));
            }
        }
    }
    let lags = (0..=24).map(|lag| {
        let products = errors
            .values()
            .flat_map(|errors| errors.windows(lag + 1).map(|pair| pair[0] * pair[lag]));
        let products: Vec<f64> = products.collect();
        let found = products.iter().sum::<f64>() / products.len() as f64;
        let expected = sim::fleet::gps_autocorrelation(lag as f64 * 5e6 / sim::fleet::KNOT_US as f64);
        json!([lag * 5, round(found), round(expected)])
    });
    let lags: Vec<Value> = lags.collect();
    let all: Vec<f64> = errors.into_values().flatten().map(round).collect();
    json!({ "track_m": track, "autocorrelation": lags, "errors": all })
}

/// Seconds between vehicles of the fleet on the busiest piece of motorway.
fn headways() -> Value {
    let from_us = WEDNESDAY_US + 12 * HOUR_US;
    let mut passes: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
    fleet(12_000, from_us).passages(from_us, from_us + 2 * HOUR_US, |passage| {
        if passage.class == RoadClass::Motorway {
            passes.entry(passage.segment).or_default().push(passage.enter_us);
        }
    });
    let mut busiest = passes
        .into_values()
        .max_by_key(Vec::len)
        .expect("motorways are driven on");
    busiest.sort_unstable();
    json!(
        busiest
            .windows(2)
            .map(|pair| (pair[1] - pair[0]) as f64 / 1e6)
            .collect::<Vec<f64>>()
    )
}

/// Share of the fleet under way in each half hour of a day.
fn under_way(day_us: i64) -> Value {
    let vehicles = 3000;
    let mut shares = vec![0.0; 48];
    fleet(vehicles, day_us).passages(day_us, day_us + DAY_US, |passage| {
        let mut at = passage.enter_us;
        while at < passage.leave_us {
            let slot = (at - day_us).div_euclid(HOUR_US / 2);
            let end = passage.leave_us.min(day_us + (slot + 1) * HOUR_US / 2);
            if let Some(share) = shares.get_mut(slot as usize) {
                *share += (end - at) as f64 / (HOUR_US / 2) as f64 / f64::from(vehicles);
            }
            at = end;
        }
    });
    json!(shares)
}

/// Temperature and rain over the map at three moments, three hours apart; a year at one place; and how alike two places
/// are by their distance.
fn weather() -> Value {
    let fleet = fleet(1, WEDNESDAY_US);
    let grid = |at_us: i64| {
        let row = |row: i32| {
            let column = |column: i32| {
                let point = Point {
                    latitude: 50.6 + f64::from(row) * 0.04,
                    longitude: -3.6 + f64::from(column) * 0.065,
                };
                let air = fleet.air(point, at_us);
                json!([round(air.temperature.into()), round(air.precipitation.into())])
            };
            (0..80).map(column).collect::<Vec<Value>>()
        };
        (0..66).map(row).collect::<Vec<Vec<Value>>>()
    };
    // The wettest moment of a fortnight.
    let oxford = Point {
        latitude: 51.75,
        longitude: -1.26,
    };
    let rain = |hour: i64| fleet.air(oxford, WEDNESDAY_US + hour * HOUR_US).precipitation;
    let wettest = (0..14 * 24)
        .max_by(|a, b| rain(*a).total_cmp(&rain(*b)))
        .unwrap_or_default();
    let moments: Vec<i64> = [-3, 0, 3]
        .map(|hours| WEDNESDAY_US + (wettest + hours) * HOUR_US)
        .to_vec();
    let year: Vec<f64> = (0..365 * 4)
        .map(|step| round(fleet.air(oxford, WEDNESDAY_US + step * 6 * HOUR_US).temperature.into()))
        .collect();
    json!({
        "moments": moments.iter().map(|at_us| json!({ "hours": (at_us - WEDNESDAY_US) / HOUR_US, "grid": grid(*at_us) })).collect::<Vec<Value>>(),
        "year": year,
        "correlation": correlation(&fleet),
    })
}

/// Kilometres; correlation of temperature and of rain, both without what season and hour do.
fn correlation(fleet: &Fleet) -> Value {
    let from = Point {
        latitude: 51.75,
        longitude: -2.4,
    };
    let at_distance = |kilometres: i32| {
        let to = Point {
            longitude: from.longitude + f64::from(kilometres) / (111.32 * 0.619),
            ..from
        };
        let airs: Vec<_> = (0..2 * 365 * 8)
            .map(|step| WEDNESDAY_US + step * 3 * HOUR_US)
            .map(|at_us| (fleet.air(from, at_us), fleet.air(to, at_us)))
            .collect();
        let warm: Vec<_> = airs
            .iter()
            .map(|(one, other)| (one.temperature, other.temperature))
            .collect();
        let wet: Vec<_> = airs
            .iter()
            .map(|(one, other)| (one.precipitation, other.precipitation))
            .collect();
        json!([kilometres, round(anomalies_alike(&warm)), round(anomalies_alike(&wet))])
    };
    (0..=28)
        .map(|step| at_distance(step * 10))
        .collect::<Vec<Value>>()
        .into()
}

/// Correlation after the mean of the same hour over the 15 days before and after is taken away.
fn anomalies_alike(pairs: &[(f32, f32)]) -> f64 {
    const WINDOW: usize = 15 * 8;
    let without_mean = |at: usize, get: fn(&(f32, f32)) -> f32| {
        let same_hour: Vec<f64> = pairs[at - WINDOW..=at + WINDOW]
            .iter()
            .step_by(8)
            .map(|pair| f64::from(get(pair)))
            .collect();
        f64::from(get(&pairs[at])) - same_hour.iter().sum::<f64>() / same_hour.len() as f64
    };
    let (mut both, mut one, mut other) = (0.0, 0.0, 0.0);
    for at in WINDOW..pairs.len() - WINDOW {
        let (a, b) = (without_mean(at, |pair| pair.0), without_mean(at, |pair| pair.1));
        (both, one, other) = (both + a * b, one + a * a, other + b * b);
    }
    both / (one * other).sqrt()
}

/// Of a year of working days, incidents an hour by the hour; and of accidents and of others how many met so much rain.
fn incidents() -> Value {
    let fleet = fleet(1, WEDNESDAY_US);
    let days = 84;
    let found = fleet.incidents(WEDNESDAY_US, WEDNESDAY_US + days * DAY_US);
    let mut hours = vec![0.0; 24];
    let mut rain: BTreeMap<&str, [u32; 4]> = BTreeMap::new();
    for incident in &found {
        let day = incident.reported_us.div_euclid(DAY_US);
        if (day + 3).rem_euclid(7) < 5 {
            let hour = incident.reported_us.rem_euclid(DAY_US) / HOUR_US;
            hours[hour as usize] += 1.0 / (days as f64 * 5.0 / 7.0);
        }
        let wet = fleet.air(incident.point, incident.reported_us).precipitation;
        let class = match wet {
            wet if wet <= 0.05 => 0,
            wet if wet <= 1.0 => 1,
            wet if wet <= 2.0 => 2,
            _ => 3,
        };
        let kind = if incident.kind.as_str() == "Accident" {
            "accidents"
        } else {
            "others"
        };
        rain.entry(kind).or_default()[class] += 1;
    }
    let places: Vec<Value> = found.iter().take(2000).map(|incident| place(incident.point)).collect();
    json!({ "per_hour": hours, "by_rain": rain, "places": places })
}
