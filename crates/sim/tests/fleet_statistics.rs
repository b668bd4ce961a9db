//! What the simulated city must look like in numbers. `docs/guide/simulator.md` states the same expectations and shows
//! them as pictures (`examples/pictures.rs`).

use std::collections::BTreeMap;

use sim::fleet::{Fleet, Point, RoadClass, Settings};
use sim::{Batch, Profile};

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;
/// A Wednesday at midnight.
const WEDNESDAY_US: i64 = 20_460 * DAY_US;

fn fleet(vehicles: u32, start_us: i64) -> Fleet {
    let settings = Settings {
        vehicles,
        ..Settings::new(11, start_us)
    };
    Fleet::new(settings).expect("settings in range")
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    (values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / values.len() as f64).sqrt()
}

#[test]
fn speeds_are_those_of_their_roads() {
    // Cars' mean speed over a piece of road, waits included, as a part of the limit.
    let speeds = |from_us: i64, to_us: i64| {
        let mut by_class: BTreeMap<RoadClass, Vec<f64>> = BTreeMap::new();
        fleet(6000, from_us).passages(from_us, to_us, |passage| {
            if passage.kind == "car" {
                let part = passage.mean_speed_kmh() / f64::from(passage.limit_kmh);
                by_class.entry(passage.class).or_default().push(part);
            }
        });
        by_class
    };
    let evening = speeds(WEDNESDAY_US + 20 * HOUR_US, WEDNESDAY_US + 22 * HOUR_US);
    let rush = speeds(WEDNESDAY_US + 7 * HOUR_US + HOUR_US / 2, WEDNESDAY_US + 9 * HOUR_US);
    let means = |by_class: &BTreeMap<RoadClass, Vec<f64>>| -> Vec<(RoadClass, f64, f64)> {
        let row = |(class, parts): (&RoadClass, &Vec<f64>)| (*class, mean(parts), deviation(parts));
        by_class.iter().map(row).collect()
    };
    let (evening, rush) = (means(&evening), means(&rush));
    eprintln!("evening {evening:.3?}\nrush {rush:.3?}");
    // Free flow: a little below the limit between towns, with a spread of some 5 to 15 %; in towns one piece in four or five
    // ends in a stop, which is slower and spreads wider.
    for (class, low, high) in [
        (RoadClass::Motorway, 0.86, 0.97),
        (RoadClass::Trunk, 0.80, 0.96),
        (RoadClass::Primary, 0.80, 0.96),
        (RoadClass::Arterial, 0.70, 0.90),
        (RoadClass::Street, 0.70, 0.90),
    ] {
        let (_, found, spread) = evening.iter().find(|row| row.0 == class).expect("driven on");
        assert!((low..high).contains(found), "{class:?} {found}");
        assert!((0.03..0.35).contains(spread), "{class:?} {spread}");
        let (_, in_rush, _) = rush.iter().find(|row| row.0 == class).expect("driven on");
        assert!(
            *in_rush < found - 0.01,
            "{class:?}: {in_rush} at rush hour, {found} in the evening"
        );
    }
}

#[test]
fn a_few_speed() {
    let from_us = WEDNESDAY_US + 20 * HOUR_US;
    let (mut fast, mut all) = (0.0, 0.0);
    fleet(6000, from_us).passages(from_us, from_us + HOUR_US, |passage| {
        if passage.kind == "car" && passage.class == RoadClass::Motorway {
            all += 1.0;
            fast += f64::from(u8::from(
                passage.mean_speed_kmh() > f64::from(passage.limit_kmh) * 1.1 + 3.0,
            ));
        }
    });
    eprintln!("{fast} of {all}");
    assert!((0.003..0.04).contains(&(fast / all)), "{fast} of {all}");
}

#[test]
fn gps_errors_have_their_size_and_their_memory() {
    let from_us = WEDNESDAY_US + 14 * HOUR_US;
    let settings = Settings {
        vehicles: 60,
        duration_us: Some(1200 * 1_000_000),
        interval_us: 5_000_000,
        ..Settings::new(11, from_us)
    };
    let mut fleet = Fleet::new(settings).expect("settings in range");
    let mut batch = Batch::new();
    // By vehicle the error north, step by step, in units of what the receiver says of itself.
    let mut errors: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    let mut truth = 0.0;
    while fleet.fill(&mut batch) {
        for record in batch.iter().filter(|record| record.stream < 2) {
            let value: serde_json::Value = serde_json::from_slice(record.value.expect("a value")).expect("JSON");
            let latitude = value["location"][0].as_f64().expect("degrees");
            match record.stream {
                0 => truth = latitude,
                _ => {
                    let sigma = value["accuracy"].as_f64().expect("metres") / 2.45;
                    let error = (latitude - truth) * 111_320.0 / sigma;
                    errors.entry(record.device).or_default().push(error);
                }
            }
        }
    }
    let all: Vec<f64> = errors.values().flatten().copied().collect();
    eprintln!("mean {:.3} deviation {:.3}", mean(&all), deviation(&all));
    assert!(mean(&all).abs() < 0.08 && (deviation(&all) - 1.0).abs() < 0.06);
    for lag in [1, 2, 4, 8, 12, 20] {
        let products = errors
            .values()
            .flat_map(|errors| errors.windows(lag + 1).map(|pair| pair[0] * pair[lag]));
        let found = mean(&products.collect::<Vec<_>>());
        let expected = sim::fleet::gps_autocorrelation(lag as f64 * 5e6 / sim::fleet::KNOT_US as f64);
        eprintln!("{} s: {found:.3}, expected {expected:.3}", lag * 5);
        assert!(
            (found - expected).abs() < 0.08,
            "{} s: {found}, expected {expected}",
            lag * 5
        );
    }
}

#[test]
fn headways_are_those_of_free_traffic() {
    // Vehicles of a fleet are few among all traffic and know nothing of each other, so that they pass a point as a Poisson
    // process: exponential headways, whose deviation equals their mean and of which 63 % are shorter than it.
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
    let headways: Vec<f64> = busiest
        .windows(2)
        .map(|pair| (pair[1] - pair[0]) as f64 / 1e6)
        .collect();
    let (mean, spread) = (mean(&headways), deviation(&headways));
    let short = headways.iter().filter(|headway| **headway < mean).count() as f64 / headways.len() as f64;
    eprintln!(
        "{} headways, mean {mean:.1} s, deviation {spread:.1} s, {short:.3} below the mean",
        headways.len()
    );
    assert!(headways.len() > 300);
    assert!((spread / mean - 1.0).abs() < 0.15, "{spread} / {mean}");
    assert!((short - 0.632).abs() < 0.06, "{short}");
}

#[test]
fn the_day_has_two_peaks_and_ends_at_home() {
    // Share of the fleet under way, by the half hour, of a working day and a Sunday.
    let vehicles = 3000;
    let shares = |day_us: i64| {
        let mut under_way = vec![0.0; 48];
        let mut seconds = BTreeMap::new();
        fleet(vehicles, day_us).passages(day_us, day_us + DAY_US, |passage| {
            let mut at = passage.enter_us;
            while at < passage.leave_us {
                let slot = (at - day_us).div_euclid(HOUR_US / 2);
                let end = passage.leave_us.min(day_us + (slot + 1) * HOUR_US / 2);
                if let Some(share) = under_way.get_mut(slot as usize) {
                    *share += (end - at) as f64 / (HOUR_US / 2) as f64 / f64::from(vehicles);
                }
                at = end;
            }
            let trip = seconds
                .entry((passage.kind.to_owned(), passage.vehicle, passage.trip))
                .or_insert(0.0);
            *trip += (passage.leave_us - passage.enter_us) as f64 / 6e7;
        });
        let mut by_kind: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for ((kind, _, _), minutes) in seconds {
            by_kind.entry(kind).or_default().push(minutes);
        }
        for (kind, minutes) in by_kind {
            eprintln!(
                "{kind}: {} trips, {:.1} min, longest {:.0}",
                minutes.len(),
                mean(&minutes),
                minutes.iter().copied().fold(0.0, f64::max)
            );
        }
        under_way
    };
    let working = shares(WEDNESDAY_US);
    let sunday = shares(WEDNESDAY_US + 4 * DAY_US);
    eprintln!("wednesday {working:.2?}\nsunday {sunday:.2?}");
    let at = |shares: &[f64], hour: f64| shares[(hour * 2.0) as usize];
    let (morning, noon, evening, night) = (
        at(&working, 8.5),
        at(&working, 11.5),
        at(&working, 17.5),
        at(&working, 3.0),
    );
    assert!(
        (0.58..0.85).contains(&morning) && (0.58..0.85).contains(&evening),
        "{morning} {evening}"
    );
    assert!(noon < morning - 0.06 && noon < evening - 0.06, "{noon}");
    assert!((0.03..0.15).contains(&night), "{night}");
    assert!(at(&sunday, 8.0) < morning - 0.12);
    assert!(mean(&sunday) < mean(&working));
}

#[test]
fn weather_changes_with_distance() {
    let fleet = fleet(1, WEDNESDAY_US);
    let from = Point {
        latitude: 51.75,
        longitude: -1.9,
    };
    let mut last = (1.0, 1.0);
    for (kilometres, temperature, rain) in [
        (10.0, 0.95, 0.85),
        (50.0, 0.75, 0.35),
        (150.0, 0.2, -0.1),
        (230.0, -0.3, -0.3),
    ] {
        let to = Point {
            latitude: 51.75,
            longitude: from.longitude + kilometres / (111.32 * 0.619),
        };
        // Anomalies: what season and hour do is common to both. Every three hours of two years.
        let (mut warm, mut wet) = (Vec::new(), Vec::new());
        for step in 0..2 * 365 * 8 {
            let at_us = WEDNESDAY_US + step * 3 * HOUR_US;
            let (here, there) = (fleet.air(from, at_us), fleet.air(to, at_us));
            warm.push((f64::from(here.temperature), f64::from(there.temperature)));
            wet.push((f64::from(here.precipitation), f64::from(there.precipitation)));
        }
        let (temperature_found, rain_found) = (anomaly_correlation(&warm), anomaly_correlation(&wet));
        eprintln!("{kilometres} km: temperature {temperature_found:.2}, rain {rain_found:.2}");
        assert!(
            temperature_found > temperature && rain_found > rain,
            "{kilometres} km: {temperature_found} {rain_found}"
        );
        assert!(temperature_found < last.0 && rain_found < last.1);
        last = (temperature_found, rain_found);
    }
    assert!(last.0 < 0.65 && last.1 < 0.35, "{last:?}");
}

/// Correlation after the mean of the same hour over the 15 days before and after is taken away.
fn anomaly_correlation(pairs: &[(f64, f64)]) -> f64 {
    let window = 15 * 8;
    let anomalies: Vec<(f64, f64)> = (window..pairs.len() - window)
        .map(|at| {
            let same_hour = (at - window..=at + window)
                .step_by(8)
                .map(|other| (pairs[other].0, pairs[other].1));
            let (mut sum, mut count) = ((0.0, 0.0), 0.0);
            for (one, other) in same_hour {
                sum = (sum.0 + one, sum.1 + other);
                count += 1.0;
            }
            (pairs[at].0 - sum.0 / count, pairs[at].1 - sum.1 / count)
        })
        .collect();
    let (one, other): (Vec<f64>, Vec<f64>) = anomalies.into_iter().unzip();
    let (mean_one, mean_other) = (mean(&one), mean(&other));
    let shared: Vec<f64> = one
        .iter()
        .zip(&other)
        .map(|(one, other)| (one - mean_one) * (other - mean_other))
        .collect();
    mean(&shared) / (deviation(&one) * deviation(&other))
}

#[test]
fn incidents_follow_traffic_speed_and_rain() {
    let fleet = fleet(1, WEDNESDAY_US);
    let incidents = fleet.incidents(WEDNESDAY_US, WEDNESDAY_US + 28 * DAY_US);
    let days = 28.0;
    let per_hour = |hours: std::ops::Range<i64>| {
        let count = incidents.iter().filter(|incident| {
            let (day, hour) = (
                incident.reported_us.div_euclid(DAY_US),
                incident.reported_us.rem_euclid(DAY_US) / HOUR_US,
            );
            (day + 3).rem_euclid(7) < 5 && hours.contains(&hour)
        });
        count.count() as f64 / (days * 5.0 / 7.0) / (hours.end - hours.start) as f64
    };
    let (morning, noon, evening, night) = (per_hour(7..9), per_hour(11..14), per_hour(16..18), per_hour(1..5));
    eprintln!(
        "{:.0} a day; an hour: morning {morning:.1}, noon {noon:.1}, evening {evening:.1}, night {night:.2}",
        incidents.len() as f64 / days
    );
    assert!((100.0..1500.0).contains(&(incidents.len() as f64 / days)));
    assert!(morning > 1.4 * noon && evening > 1.4 * noon && noon > 4.0 * night);

    let accidents: Vec<_> = incidents
        .iter()
        .filter(|incident| incident.kind.as_str() == "Accident")
        .collect();
    let in_rain =
        |incident: &&&sim::fleet::Incident| fleet.air(incident.point, incident.reported_us).precipitation > 0.5;
    let wet = accidents.iter().filter(in_rain).count() as f64 / accidents.len() as f64;
    // How often it rains where and when others drive: the incidents that care for no weather.
    let others: Vec<_> = incidents
        .iter()
        .filter(|incident| incident.kind.as_str() != "Accident")
        .collect();
    let usual = others.iter().filter(in_rain).count() as f64 / others.len() as f64;
    eprintln!("rain at {wet:.3} of accidents, at {usual:.3} of others");
    assert!(wet > 1.25 * usual, "{wet} {usual}");

    for incident in &incidents {
        assert!(incident.reported_us < incident.dispatched_us && incident.dispatched_us < incident.on_scene_us);
        assert!(
            incident.on_scene_us < incident.resolved_us && incident.resolved_us - incident.reported_us < 4 * HOUR_US
        );
    }
    let ids: std::collections::BTreeSet<&str> = incidents.iter().map(|incident| incident.id.as_str()).collect();
    assert_eq!(ids.len(), incidents.len());
}

/// Every record of a run: stream, device, event time, value.
fn records(settings: Settings, mut each: impl FnMut(usize, u32, i64, &[u8])) {
    let mut fleet = Fleet::new(settings).expect("settings in range");
    let mut batch = Batch::new();
    while fleet.fill(&mut batch) {
        for record in batch.iter() {
            let value = record.value.expect("a value");
            each(record.stream, record.device, record.event_time_us, value);
        }
    }
}

fn json(value: &[u8]) -> serde_json::Value {
    serde_json::from_slice(value).expect("JSON")
}

#[test]
fn vehicles_move_as_they_say() {
    let settings = Settings {
        vehicles: 400,
        duration_us: Some(120 * 1_000_000),
        ..Settings::new(11, WEDNESDAY_US + 8 * HOUR_US)
    };
    let mut last: BTreeMap<u32, (f64, f64, f64, f64)> = BTreeMap::new();
    let (mut moves, mut astray) = (0, 0);
    records(settings, |stream, device, _, value| {
        if stream != 0 {
            return;
        }
        let value = json(value);
        let number = |name: &str| value[name].as_f64().expect("a number");
        let [latitude, longitude] = [0, 1].map(|axis| value["location"][axis].as_f64().expect("degrees"));
        let (speed, heading) = (number("speed") / 3.6, number("heading"));
        if let Some((latitude_before, longitude_before, speed_before, heading_before)) =
            last.insert(device, (latitude, longitude, speed, heading))
        {
            // Braking in an emergency, and the reading's last digit.
            assert!(
                (speed - speed_before).abs() < 4.7,
                "{device}: {speed_before} m/s, then {speed}"
            );
            let north = (latitude - latitude_before) * 111_320.0;
            let east = (longitude - longitude_before) * 111_320.0 * latitude.to_radians().cos();
            let metres = north.hypot(east);
            // From one lane into another, or from the kerb.
            assert!(
                metres < speed.max(speed_before) + 35.0,
                "{device}: {metres} m at {speed} m/s"
            );
            let turn = |one: f64, other: f64| ((one - other + 540.0).rem_euclid(360.0) - 180.0).abs();
            if speed > 8.0 && turn(heading, heading_before) < 1.0 {
                moves += 1;
                let way = east.atan2(north).to_degrees();
                astray += usize::from(turn(way, heading) > 10.0 || (metres - (speed + speed_before) / 2.0).abs() > 4.0);
            }
        }
    });
    eprintln!("{astray} of {moves} moves astray");
    assert!(moves > 10_000 && astray * 50 < moves, "{astray} of {moves}");
}

#[test]
fn gps_is_silent_in_tunnels_alone() {
    let settings = Settings {
        vehicles: 4000,
        duration_us: Some(60 * 1_000_000),
        interval_us: 10_000_000,
        ..Settings::new(11, WEDNESDAY_US + 8 * HOUR_US)
    };
    let mut silent: BTreeMap<(u32, i64), (f64, f64)> = BTreeMap::new();
    records(settings, |stream, device, time_us, value| match stream {
        0 => {
            let value = json(value);
            let [latitude, longitude] = [0, 1].map(|axis| value["location"][axis].as_f64().expect("degrees"));
            silent.insert((device, time_us), (latitude, longitude));
        }
        1 => drop(silent.remove(&(device, time_us))),
        _ => {}
    });
    eprintln!("{} reports without GPS", silent.len());
    assert!((5..200).contains(&silent.len()), "{}", silent.len());
    // Holmesdale, Bell Common, Dartford, Hatfield, Hindhead: within their length of their middle.
    let tunnels = [
        (51.679, -0.059, 500.0),
        (51.687, 0.092, 500.0),
        (51.4655, 0.259, 900.0),
        (51.756, -0.235, 700.0),
        (51.116, -0.737, 1500.0),
    ];
    for (latitude, longitude) in silent.into_values() {
        let here = Point { latitude, longitude };
        let is_within = |(latitude, longitude, metres): (f64, f64, f64)| {
            let north = (latitude - here.latitude) * 111_320.0;
            let east = (longitude - here.longitude) * 69_000.0;
            north.hypot(east) < metres
        };
        assert!(tunnels.into_iter().any(is_within), "{here:?}");
    }
}

#[test]
fn town_air_is_worst_at_rush_hour() {
    let mean_quality = |hour: i64| {
        let settings = Settings {
            vehicles: 1500,
            duration_us: Some(1),
            ..Settings::new(11, WEDNESDAY_US + hour * HOUR_US)
        };
        let (mut town, mut country) = (Vec::new(), Vec::new());
        let mut road = String::new();
        records(settings, |stream, _, _, value| match stream {
            0 => json(value)["road_class"]
                .as_str()
                .expect("a class")
                .clone_into(&mut road),
            3 => {
                let quality = json(value)["airQualityIndex"].as_f64().expect("a number");
                match road.as_str() {
                    "arterial" | "street" => town.push(quality),
                    _ => country.push(quality),
                }
            }
            _ => {}
        });
        (mean(&town), mean(&country))
    };
    let (rush, night) = (mean_quality(8), mean_quality(3));
    eprintln!("town and country: rush hour {rush:.0?}, night {night:.0?}");
    assert!(rush.0 > 1.3 * night.0 && rush.0 > 1.3 * rush.1, "{rush:?} {night:?}");
}
