//! Foreign producers, one message in a hundred broken: every good one is a row, every bad one a dead letter with its
//! place, its reason and its bytes. Against the embedded broker and against a real Apache Kafka.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::time::Duration;

use crate::support::{Process, broker, python, real_kafka, run, smartcity};
use serde_json::Value;

const MESSAGES_PER_TOPIC: usize = 6_000;
const DLQ_TOPIC: &str = "city.dead_letters";
const TABLES: [&str; 5] = [
    "vehicle_data",
    "gps_data",
    "traffic_data",
    "weather_data",
    "emergency_data",
];

/// What each kind of broken message must become: stage, class, field.
fn fate(kind: &str, topic: &str) -> (&'static str, BTreeSet<&'static str>) {
    let (stage, classes): (_, &[_]) = match kind {
        "not_json" | "cut_off" => ("decode", &["not_json"]),
        "wrong_type" => ("schema", &["wrong_type"]),
        "missing_id" => ("schema", &["missing_field"]),
        "latitude_91" => ("validate", &["out_of_range"]),
        "empty" => ("decode", &["empty"]),
        "null_value" => ("decode", &["null_value"]),
        "junk" => ("decode", &["invalid_utf8"]),
        "invalid_utf8" => ("decode", &["invalid_utf8"]),
        "deep" => ("decode", &["too_deep"]),
        other => panic!("{other} in {topic}"),
    };
    (stage, classes.iter().copied().collect())
}

fn land(bootstrap_servers: &str, lake: &Path) -> Value {
    let mut ingest = smartcity();
    ingest.env("SMARTCITY_INGEST_DLQ_TOPIC", DLQ_TOPIC).args([
        "ingest",
        "--until-caught-up",
        "--json",
        "--bootstrap-servers",
        bootstrap_servers,
        "--lake",
    ]);
    serde_json::from_str(&run(ingest.arg(lake))).unwrap()
}

fn check(bootstrap_servers: &str, dir: &Path) {
    let Some(mut feed) = python("feed.py") else { return };
    let lake = dir.join("lake");
    let sent = run(feed.args([bootstrap_servers, &MESSAGES_PER_TOPIC.to_string(), "1"]));
    let sent: Value = serde_json::from_str(&sent).unwrap();

    let summary = land(bootstrap_servers, &lake);
    for table in TABLES {
        assert_eq!(
            summary["streams"][table]["rows"], sent["topics"][table]["good"],
            "{table}: {summary}"
        );
    }
    // Landing again finds nothing to do.
    let summary = land(bootstrap_servers, &lake);
    for table in TABLES {
        assert_eq!(summary["streams"][table]["rows"], 0, "{table}: {summary}");
    }

    let found = run(python("letters.py").unwrap().arg(&lake).args(TABLES));
    let found: Value = serde_json::from_str(&found).unwrap();
    for table in TABLES {
        let rows = found["rows"][table].as_array().unwrap();
        let ids: HashSet<_> = rows.iter().map(|row| row[0].as_str().unwrap()).collect();
        assert_eq!(
            ids.len() as u64,
            sent["topics"][table]["good"].as_u64().unwrap(),
            "{table}"
        );
        assert_eq!(rows.len(), ids.len(), "{table}");
    }
    let mut letters: BTreeMap<(String, i64, i64), &Value> = BTreeMap::new();
    for letter in found["letters"].as_array().unwrap() {
        let topic = letter["topic"].as_str().unwrap().to_owned();
        let place = (
            topic,
            letter["partition"].as_i64().unwrap(),
            letter["offset"].as_i64().unwrap(),
        );
        assert!(letters.insert(place.clone(), letter).is_none(), "{place:?} twice");
    }
    let mut bad = 0;
    for topic in TABLES {
        for sent in sent["topics"][topic]["bad"].as_array().unwrap() {
            bad += 1;
            let place = (topic.to_owned(), sent[0].as_i64().unwrap(), sent[1].as_i64().unwrap());
            let letter = letters
                .get(&place)
                .unwrap_or_else(|| panic!("{place:?} is not there: {sent:.200}"));
            let kind = sent[2].as_str().unwrap();
            let (stage, classes) = fate(kind, topic);
            assert_eq!(letter["stage"], stage, "{kind}: {letter:.600}");
            assert!(
                classes.contains(letter["error_class"].as_str().unwrap()),
                "{kind}: {letter:.600}"
            );
            assert!(!letter["error"].as_str().unwrap().is_empty(), "{kind}");
            assert_eq!(letter["value"], sent[3], "{kind}: the raw bytes differ");
            assert!(letter["key"].as_str().unwrap().starts_with("Vehicle-"), "{kind}");
            assert_eq!(letter["headers"], serde_json::json!([["trace", "0001"]]), "{kind}");
        }
    }
    assert_eq!(letters.len(), bad);
    the_topic_has_them_too(bootstrap_servers, &letters);
    assert_eq!(bad, TABLES.len() * MESSAGES_PER_TOPIC / 100);
    assert!(crate::support::foreign_readers_agree(
        &lake,
        &["vehicle_data", "weather_data", "gps_data", "dead_letters"]
    ));
    replay(&lake, dir, &letters);
}

/// Nothing was tried twice here, so each letter is in the topic once.
fn the_topic_has_them_too(bootstrap_servers: &str, letters: &BTreeMap<(String, i64, i64), &Value>) {
    let printed = run(python("dlq_topic.py").unwrap().args([bootstrap_servers, DLQ_TOPIC]));
    let mut places = BTreeSet::new();
    for line in printed.lines() {
        let copy: Value = serde_json::from_str(line).unwrap();
        let header = |name: &str| copy["headers"][format!("__connect.errors.{name}")].as_str().unwrap();
        let number = |name: &str| header(name).parse::<i64>().unwrap();
        let place = (header("topic").to_owned(), number("partition"), number("offset"));
        let letter = letters[&place];
        assert_eq!(
            (&copy["key"], &copy["headers"]["trace"]),
            (&letter["key"], &Value::from("\u{0}\u{1}"))
        );
        assert_eq!(header("exception.class.name"), letter["error_class"]);
        assert_eq!(header("exception.message"), letter["error"]);
        // The longest is too long for a client's default.
        if copy["headers"].get("smartcity.value").is_none() {
            assert_eq!(copy["value"], letter["value"], "{place:?}");
        }
        assert!(places.insert(place), "{line}");
    }
    assert_eq!(places.len(), letters.len());
}

/// A declaration that allows latitude 91: these letters become rows, once, though two replays run at the same time.
fn replay(lake: &Path, dir: &Path, letters: &BTreeMap<(String, i64, i64), &Value>) {
    let streams = dir.join("streams");
    std::fs::create_dir(&streams).unwrap();
    for file in std::fs::read_dir("../../streams").unwrap() {
        let file = file.unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        std::fs::write(streams.join(file.file_name()), text.replace("max = 90", "max = 91")).unwrap();
    }
    let dlq = |args: &[&str]| {
        let mut command = smartcity();
        command.arg("dlq").args(args).arg("--lake").arg(lake);
        command
    };
    let listed = || -> u64 {
        let printed = run(&mut dlq(&["list", "--json"]));
        let lines = printed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| line["letters"].as_u64().unwrap()).sum()
    };
    assert_eq!(listed(), letters.len() as u64);
    let curable = letters.values().filter(|letter| letter["field"] == "latitude").count() as u64;
    assert!(curable > 0);
    let shown = run(&mut dlq(&["show", "--where", "field = 'latitude'", "--limit", "1"]));
    assert!(
        shown.contains("validate / out_of_range") && shown.contains('^'),
        "{shown}"
    );

    let rows = |printed: &str| -> u64 {
        let told: Value = serde_json::from_str(printed).unwrap();
        let streams = told["streams"].as_object().unwrap();
        streams.values().map(|of| of["rows"].as_u64().unwrap()).sum()
    };
    let replaying = |args: &[&str]| {
        let mut command = dlq(&["replay", "--json"]);
        command.args(args).arg("--streams").arg(&streams);
        command
    };
    assert_eq!(rows(&run(&mut replaying(&["--dry-run"]))), curable);
    assert_eq!(listed(), letters.len() as u64, "a dry run writes nothing");
    let replayed: u64 = std::thread::scope(|scope| {
        let both = [0, 1].map(|_| scope.spawn(|| rows(&run(&mut replaying(&[])))));
        both.into_iter().map(|replay| replay.join().unwrap()).sum()
    });
    assert_eq!(replayed, curable);
    assert_eq!(listed(), letters.len() as u64 - curable);
    assert_eq!(rows(&run(&mut replaying(&[]))), 0);
    run(smartcity()
        .args(["lake", "verify", "--lake"])
        .arg(lake)
        .arg("--streams")
        .arg(&streams));
}

#[test]
fn every_message_has_its_fate_embedded_broker() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, address) = broker(dir.path());
    check(&address, dir.path());
    broker.stop();
}

#[test]
fn every_message_has_its_fate_real_kafka() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_kafka, address)) = real_kafka(&dir.path().join("kafka")) else {
        return;
    };
    check(&address, dir.path());
    simulate_and_land(&address, dir.path());
}

/// The classic run through a real Kafka, by `simulate` and a running `ingest`.
fn simulate_and_land(bootstrap_servers: &str, dir: &Path) {
    let lake = dir.join("classic");
    let environment = TABLES.map(|table| {
        (
            table.trim_end_matches("_data").to_uppercase() + "_TOPIC",
            format!("classic.{table}"),
        )
    });
    let mut ingest = smartcity();
    ingest
        .envs(environment.clone())
        .env("KAFKA_BOOTSTRAP_SERVERS", bootstrap_servers);
    ingest.args(["ingest", "--latency", "200ms", "--lake"]).arg(&lake);
    let mut simulate = smartcity();
    simulate.envs(environment).args([
        "simulate",
        "--seed",
        "1",
        "--start",
        "2026-01-01T00:00:00",
        "--pace",
        "max",
    ]);
    simulate.args(["--json", "--bootstrap-servers", bootstrap_servers]);
    let summary: Value = serde_json::from_str(&run(&mut simulate)).unwrap();
    assert_eq!((&summary["steps"], &summary["records"]), (&99.into(), &495.into()));
    let ingest = Process::start(&mut ingest);
    crate::support::eventually("99 rows in weather_data", Duration::from_secs(40), || {
        lake.join("data/weather_data").exists() && TABLES.iter().all(|table| crate::support::count(&lake, table) == 99)
    });
    ingest.stop();
    if let Some(mut compare) = python("classic_in_lake.py") {
        run(compare.arg(&lake).args(["1", "2026-01-01T00:00:00"]));
    }
}
