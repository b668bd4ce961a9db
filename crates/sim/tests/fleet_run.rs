//! A run of the fleet as its caller sees it: the same bytes however they are made, from any moment on, and a ledger that
//! tells the truth.

use std::collections::{BTreeMap, BTreeSet};

use sim::fleet::{Faults, Fleet, Settings};
use sim::{Batch, Profile, STREAMS};

/// Monday, 2026-01-05, 08:00.
const START_US: i64 = 1_767_600_000_000_000;
const SECOND_US: i64 = 1_000_000;

fn settings(vehicles: u32, seconds: i64) -> Settings {
    Settings {
        vehicles,
        duration_us: Some(seconds * SECOND_US),
        ..Settings::new(7, START_US)
    }
}

fn fleet(settings: Settings) -> Fleet {
    Fleet::new(settings).expect("settings in range")
}

/// One record, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned {
    stream: usize,
    step: u64,
    event_time_us: i64,
    due_us: i64,
    key: String,
    value: Option<Vec<u8>>,
}

#[derive(Default)]
struct Made {
    records: Vec<Owned>,
    faults: Vec<serde_json::Value>,
    situations: Vec<serde_json::Value>,
}

fn make(mut run: Fleet) -> Made {
    let (mut batch, mut made) = (Batch::new(), Made::default());
    while run.fill(&mut batch) {
        made.records.extend(batch.iter().map(|record| Owned {
            stream: record.stream,
            step: record.step,
            event_time_us: record.event_time_us,
            due_us: record.due_us,
            key: String::from_utf8(record.key.to_vec()).expect("a name"),
            value: record.value.map(<[u8]>::to_vec),
        }));
        let lines = |bytes: &[u8]| -> Vec<serde_json::Value> {
            let text = std::str::from_utf8(bytes).expect("the ledger is text");
            text.lines()
                .map(|line| serde_json::from_str(line).expect("a line is JSON"))
                .collect()
        };
        made.faults.extend(lines(batch.faults()));
        made.situations.extend(lines(batch.situations()));
    }
    made
}

/// FNV-1a of all that a run hands out, in order.
fn hash(mut run: Fleet) -> u64 {
    let (mut batch, mut hash) = (Batch::new(), 0xcbf2_9ce4_8422_2325_u64);
    let mut take = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    };
    while run.fill(&mut batch) {
        for record in batch.iter() {
            take(&[record.stream as u8, u8::from(record.value.is_some())]);
            take(&record.due_us.to_le_bytes());
            take(record.key);
            take(record.value.unwrap_or_default());
        }
        take(batch.faults());
        take(batch.situations());
    }
    hash
}

#[test]
fn threads_make_no_difference() {
    let run = |threads: usize, faults: &str| {
        fleet(Settings {
            threads,
            truth: true,
            faults: Faults::preset(faults).expect(faults),
            // Three chunks, the last one not full.
            ..settings(9000, 3)
        })
    };
    for faults in ["none", "everything"] {
        let alone = hash(run(1, faults));
        for threads in [2, 3] {
            assert_eq!(hash(run(threads, faults)), alone, "{threads} threads, faults {faults}");
        }
    }
}

#[test]
fn a_run_may_begin_in_its_middle() {
    let whole = make(fleet(settings(300, 90)));
    let later: Vec<Owned> = whole
        .records
        .iter()
        .filter(|record| record.step >= 60)
        .cloned()
        .collect();
    assert!(!later.is_empty());
    assert_eq!(make(fleet(settings(300, 90)).from_step(60)).records, later);

    // The same city, asked at a later time: only the steps are counted from there.
    let asked = make(fleet(Settings {
        start_us: START_US + 60 * SECOND_US,
        ..settings(300, 30)
    }));
    let counted = asked.records.into_iter().map(|record| Owned {
        step: record.step + 60,
        ..record
    });
    assert!(counted.eq(later));
}

#[test]
fn a_faulty_run_may_begin_in_its_middle() {
    let settings = Settings {
        faults: Faults::preset("everything").expect("known"),
        interval_us: 10 * SECOND_US,
        ..settings(100, 2400)
    };
    let mut whole = make(fleet(settings.clone())).records;
    let later = make(fleet(settings).from_step(200)).records;
    whole.retain(|record| record.step >= 200);
    assert_eq!(later.len(), whole.len());
    assert!(later == whole);
}

#[test]
fn records_come_in_the_order_of_time_and_each_has_its_place() {
    let made = make(fleet(settings(50, 20)));
    assert!(made.records.windows(2).all(|pair| pair[0].due_us <= pair[1].due_us));
    let mut ids = BTreeSet::new();
    for record in &made.records {
        let value: serde_json::Value = serde_json::from_slice(record.value.as_ref().expect("a value")).expect("JSON");
        let id = value["id"].as_str().expect("an id");
        assert!(ids.insert(id.to_owned()), "{id} twice");
        let (vehicle, event_time_us, stream) = Fleet::locate(7, id).expect("an id of this seed");
        assert_eq!((event_time_us, stream), (record.event_time_us, record.stream));
        assert_eq!(Fleet::device_id(vehicle), record.key);
        assert_eq!(value["device_id"], record.key.as_str());
        assert_eq!(Fleet::locate(8, id), None);
        let timestamp = value["timestamp"].as_str().expect("a timestamp");
        assert_eq!(
            model::event_time::parse(timestamp.as_bytes()),
            Some(record.event_time_us)
        );
    }
    // Every vehicle reports in all streams at every step, but for GPS in tunnels.
    assert!(made.records.len() > 50 * 20 * 5 - 100, "{}", made.records.len());
}

#[test]
fn declared_fields_stand_first_and_in_their_order() {
    let declared = STREAMS.map(|name| {
        let path = format!("../../streams/{name}.toml");
        model::Stream::parse(name, &std::fs::read_to_string(path).expect("a declaration")).expect("a declaration")
    });
    for record in make(fleet(settings(50, 2))).records {
        let value: serde_json::Value = serde_json::from_slice(&record.value.expect("a value")).expect("JSON");
        let fields = value.as_object().expect("an object");
        let stream = &declared[record.stream];
        for field in fields.keys() {
            let known = stream.fields.iter().any(|known| {
                known
                    .from
                    .iter()
                    .any(|path| path.to_string().starts_with(field.as_str()))
            });
            assert!(known, "{} does not declare {field}", stream.name);
        }
    }
}

#[test]
fn stopped_runs_hand_out_what_is_held_up() {
    let mut run = fleet(Settings {
        faults: Faults::parse("late = 0.5").expect("a rate"),
        duration_us: None,
        ..settings(50, 0)
    });
    let (mut batch, mut ids, mut steps) = (Batch::new(), 0, BTreeSet::new());
    for _ in 0..3 {
        assert!(run.fill(&mut batch));
        ids += batch.len();
        steps.extend(batch.iter().map(|record| record.step));
    }
    run.stop();
    while run.fill(&mut batch) {
        ids += batch.len();
    }
    assert_eq!(steps.len(), 3);
    assert!((50 * 3 * 5 - 20..=50 * 3 * 5).contains(&ids), "{ids}");
}

#[test]
fn the_ledger_counts_what_was_done() {
    let clean = make(fleet(settings(400, 60)));
    let faulty = make(fleet(Settings {
        faults: Faults::preset("everything").expect("known"),
        truth: true,
        ..settings(400, 60)
    }));
    let of_kind = |kind: &str| faulty.faults.iter().filter(|fault| fault["kind"] == kind).count();
    let copies: u64 = faulty
        .faults
        .iter()
        .filter_map(|fault| fault["copies"].as_u64())
        .map(|copies| copies - 1)
        .sum();
    assert_eq!(faulty.records.len(), clean.records.len() + copies as usize);
    assert_eq!(
        of_kind("null_value"),
        faulty.records.iter().filter(|record| record.value.is_none()).count()
    );
    for kind in [
        "late",
        "duplicate",
        "not_json",
        "wrong_type",
        "extra_field",
        "wrong_unit",
        "clock_skew",
    ] {
        assert!(of_kind(kind) > 0, "no {kind}");
    }
    // What the ledger does not name is as it was.
    let named: BTreeSet<&str> = faulty.faults.iter().filter_map(|fault| fault["id"].as_str()).collect();
    let skewed: BTreeSet<&str> = faulty
        .faults
        .iter()
        .filter(|fault| fault["kind"] == "clock_skew" || fault["kind"] == "stuck_sensor")
        .filter_map(|fault| fault["key"].as_str())
        .collect();
    let by_id = |made: &Made| -> BTreeMap<String, Vec<u8>> {
        let values = made.records.iter().filter_map(|record| record.value.clone());
        let id = |value: &[u8]| Some(std::str::from_utf8(value.get(7..43)?).ok()?.to_owned());
        values.filter_map(|value| Some((id(&value)?, value))).collect()
    };
    let (before, after) = (by_id(&clean), by_id(&faulty));
    let mut changed = 0;
    for (id, value) in &before {
        let (vehicle, ..) = Fleet::locate(7, id).expect("an id of this seed");
        if named.contains(id.as_str()) || skewed.contains(Fleet::device_id(vehicle).as_str()) {
            changed += 1;
        } else {
            assert_eq!(after.get(id), Some(value), "{id}");
        }
    }
    assert!(changed > 0);
}

#[test]
fn situations_are_those_of_the_records() {
    let made = make(fleet(Settings {
        truth: true,
        ..settings(4000, 30)
    }));
    let kinds: BTreeSet<&str> = made
        .situations
        .iter()
        .filter_map(|situation| situation["kind"].as_str())
        .collect();
    assert!(
        kinds.contains("speeding") && kinds.contains("fast_near_incident"),
        "{kinds:?}"
    );
    // From the records alone: who drives fast past an active incident.
    let (mut speeds, mut seen) = (BTreeMap::new(), BTreeSet::new());
    for record in &made.records {
        let value: serde_json::Value = serde_json::from_slice(record.value.as_ref().expect("a value")).expect("JSON");
        match STREAMS[record.stream] {
            "vehicle_data" => {
                speeds.insert(record.key.clone(), value["speed"].as_f64().expect("a speed"));
            }
            // The wheels measure to half a percent; what lies between is left out.
            "emergency_data" if value["status"] == "Active" && speeds[&record.key] > 31.0 => {
                let incident = value["incident_id"].as_str().expect("an id").to_owned();
                seen.insert((record.key.clone(), incident));
            }
            _ => {}
        }
    }
    let reported: BTreeSet<(String, String)> = made
        .situations
        .iter()
        .filter(|situation| situation["kind"] == "fast_near_incident")
        .map(|situation| {
            let word = |name: &str| situation[name].as_str().expect("a word").to_owned();
            (word("key"), word("incident_id"))
        })
        .collect();
    assert!(seen.is_subset(&reported), "{:?}", seen.difference(&reported).next());
    assert!(
        reported.len() as f64 <= seen.len() as f64 * 1.2 + 2.0,
        "{} reported, {} seen",
        reported.len(),
        seen.len()
    );
}

#[test]
fn a_vehicle_is_small() {
    assert!(Fleet::bytes_per_vehicle() < 300, "{} bytes", Fleet::bytes_per_vehicle());
}

#[test]
fn settings_out_of_range_are_refused() {
    let refused = |settings: Settings| Fleet::new(settings).err().expect("refused").to_string();
    let good = || Settings::new(1, START_US);
    assert!(refused(Settings { vehicles: 0, ..good() }).contains("vehicles"));
    assert!(
        refused(Settings {
            interval_us: 1500,
            ..good()
        })
        .contains("whole milliseconds")
    );
    assert!(
        refused(Settings {
            start_us: i64::MAX,
            ..good()
        })
        .contains("years")
    );
}
