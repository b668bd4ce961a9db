//! The fleet, from the outside: the same bytes whatever the threads and the pace; faults that arrive as the ledger says; a
//! city that goes on after a crash.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use crate::support::{broker, count, eventually, query, run, smartcity, up};
use serde_json::Value;

const TABLES: [&str; 5] = [
    "vehicle_data",
    "gps_data",
    "traffic_data",
    "weather_data",
    "emergency_data",
];

/// A printed run of a Monday's rush hour.
fn printed(arguments: &[&str]) -> String {
    let mut simulate = smartcity();
    simulate.args([
        "simulate",
        "--profile",
        "fleet",
        "--start",
        "2026-01-05T07:30:00",
        "--print",
    ]);
    run(simulate.args(arguments))
}

#[test]
fn threads_and_pace_change_no_byte() {
    // Two threads share the work by some thousand vehicles.
    let run = |threads: &str, pace: &str, dir: &Path| {
        let truth = dir.join(format!("truth-{threads}-{pace}"));
        let settings = ["--vehicles", "4200", "--duration", "3s", "--faults", "everything"];
        let printed = printed(&[&settings[..], &["--threads", threads, "--pace", pace]].concat());
        // The ledger of the same run.
        let mut again = smartcity();
        again.args([
            "simulate",
            "--profile",
            "fleet",
            "--start",
            "2026-01-05T07:30:00",
            "--print",
        ]);
        again
            .args(settings)
            .args(["--threads", threads, "--pace", pace, "--truth"]);
        assert_eq!(crate::support::run(again.arg(&truth)), printed);
        let ledger = ["faults", "incidents", "situations"]
            .map(|name| std::fs::read_to_string(truth.join(name).with_extension("ndjson")).unwrap());
        (printed, ledger)
    };
    let dir = tempfile::tempdir().unwrap();
    let alone = run("1", "max", dir.path());
    assert!(alone.0.lines().count() > 60_000 && alone.1.iter().all(|lines| !lines.is_empty()));
    for (threads, pace) in [("2", "max"), ("1", "4x"), ("2", "6x")] {
        assert!(
            run(threads, pace, dir.path()) == alone,
            "{threads} threads, pace {pace}"
        );
    }
}

/// What a table or the ledger holds, counted.
type Counts = BTreeMap<(String, String, String), i64>;

fn word(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

#[test]
fn every_fault_arrives_as_the_ledger_says() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, truth) = (dir.path().join("lake"), dir.path().join("truth"));
    let (broker, address) = broker(dir.path());

    let settings = ["--vehicles", "300", "--duration", "40s", "--pace", "max"];
    let mut simulate = smartcity();
    simulate.args([
        "simulate",
        "--profile",
        "fleet",
        "--start",
        "2026-01-05T07:30:00",
        "--json",
    ]);
    simulate.args(["--faults", "everything", "--bootstrap-servers", &address, "--truth"]);
    run(simulate.arg(&truth).args(settings));
    let mut ingest = smartcity();
    ingest.args(["ingest", "--until-caught-up", "--bootstrap-servers", &address, "--lake"]);
    run(ingest.arg(&lake));

    // The same run without faults says which records there are.
    let mut due: HashMap<String, (String, i64)> = HashMap::new();
    for line in printed(&settings).lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let place = (word(&record, "topic"), 1);
        assert!(due.insert(word(&record["value"], "id"), place).is_none());
    }
    // The ledger says which of them become dead letters, and which come twice.
    let mut letters_due = Counts::new();
    let mut with_extra_due = Counts::new();
    let faults = std::fs::read_to_string(truth.join("faults.ndjson")).unwrap();
    let mut kinds: BTreeMap<String, i64> = BTreeMap::new();
    for line in faults.lines() {
        let fault: Value = serde_json::from_str(line).unwrap();
        let (kind, topic) = (word(&fault, "kind"), word(&fault, "topic"));
        *kinds.entry(kind.clone()).or_default() += 1;
        let Some(copies) = fault["copies"].as_i64() else {
            continue;
        };
        let id = word(&fault, "id");
        let (of, times) = due.get_mut(&id).unwrap_or_else(|| panic!("{line}: no such record"));
        assert_eq!(*of, topic);
        if fault["outcome"] == "dead_letter" {
            *times = 0;
            let class = word(&fault, "error_class");
            *letters_due.entry((topic, class, word(&fault, "key"))).or_default() += copies;
        } else {
            *times = copies;
            if kind == "renamed_field" || kind == "extra_field" {
                *with_extra_due.entry((topic, String::new(), id)).or_default() += 1;
            }
        }
    }
    eprintln!("{kinds:?}");
    assert!(kinds.len() >= 21, "{kinds:?}");

    let counted = |sql: &str| -> Counts {
        let rows = query(&lake, sql).into_iter();
        let place = |row: &Value| (word(row, "topic"), word(row, "class"), word(row, "name"));
        rows.map(|row| (place(&row), row["n"].as_i64().unwrap())).collect()
    };
    let letters = counted(
        "select topic, error_class as class, cast(key as varchar) as name, count(*) as n from dead_letters group by 1, 2, 3",
    );
    assert_eq!(letters, letters_due);

    let mut rows = Counts::new();
    let mut with_extra = Counts::new();
    for table in TABLES {
        rows.extend(counted(&format!(
            "select '{table}' as topic, '' as class, id as name, count(*) as n from {table} group by id"
        )));
        with_extra.extend(counted(&format!(
            "select '{table}' as topic, '' as class, id as name, count(*) as n from {table} where _extra is not null \
             group by id"
        )));
    }
    let rows_due: Counts = due
        .into_iter()
        .filter(|(_, (_, times))| *times > 0)
        .map(|(id, (topic, times))| ((topic, String::new(), id), times))
        .collect();
    assert_eq!(rows.len(), rows_due.len());
    assert!(
        rows == rows_due,
        "{:?}",
        rows.iter().find(|row| rows_due.get(row.0) != Some(row.1))
    );
    assert!(with_extra == with_extra_due);
    let mut verify = smartcity();
    verify.args([
        "lake",
        "verify",
        "--against-kafka",
        "--bootstrap-servers",
        &address,
        "--lake",
    ]);
    run(verify.arg(&lake));
    broker.stop();
}

#[test]
fn a_killed_city_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let lake = dir.path().join("lake");
    let arguments = [
        "--profile",
        "fleet",
        "--vehicles",
        "40",
        "--rate",
        "2",
        "--latency",
        "100ms",
        "--pace",
        "20x",
    ];
    for _ in 0..3 {
        let running = up(dir.path(), &arguments);
        std::thread::sleep(Duration::from_millis(1500));
        running.process.kill();
    }
    let last = up(dir.path(), &arguments);
    let before = count(&lake, "vehicle_data");
    eventually("more rows", Duration::from_secs(20), || {
        count(&lake, "vehicle_data") > before + 400
    });
    last.process.stop();
    assert_eq!(count(&lake, "dead_letters"), 0);
    // No report is missing, none is there twice: every vehicle reports twice a second.
    for table in ["vehicle_data", "traffic_data", "weather_data", "emergency_data"] {
        let sql = format!(
            "select count(distinct device_id) as devices, count(*) - count(distinct id) as doubled, \
             count(*) filter (where gap <> interval '500 milliseconds') as gaps from (select device_id, id, \
             timestamp - lag(timestamp) over (partition by device_id order by timestamp) as gap from {table})"
        );
        let row = &query(&lake, &sql)[0];
        assert_eq!(
            (&row["devices"], &row["doubled"], &row["gaps"]),
            (&40.into(), &0.into(), &0.into()),
            "{table}: {row}"
        );
    }
}
