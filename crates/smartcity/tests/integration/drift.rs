//! Fields that arrive before they are declared: counted, kept, and moved into their columns once they are.

use std::path::Path;
use std::time::Duration;

use crate::support::{broker, declaration, query, run, smartcity};
use kafka::{KafkaConfig, Message, Producer};
use serde_json::{Value, json};

const RECORDS: i64 = 500;

/// A stream's declaration, with more fields from the second one on.
const LATITUDE: &str = r#"
[[field]]
name = "latitude"
type = "double"
from = ["location[0]"]
doc = "Where."
"#;

const LANE: &str = r#"
[[field]]
name = "lane"
type = "integer"
nullable = true
min = 0
doc = "Which lane."
[[field]]
name = "altitude"
type = "double"
nullable = true
from = ["location[1]", "altitude"]
doc = "How high."
"#;

/// In `sloppy` every tenth lane is none.
fn message(stream: &str, number: i64) -> Value {
    let lane = match stream {
        "sloppy" if number % 10 == 0 => json!("left"),
        _ => json!(number % 4),
    };
    json!({"id": number, "at": "2026-01-01T00:00:00Z", "location": [51.5, number], "lane": lane, "note": "n"})
}

fn declare(dir: &Path, more: &str) -> std::path::PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    for name in ["neat", "sloppy"] {
        std::fs::write(
            dir.join(format!("{name}.toml")),
            declaration(name, &format!("{LATITUDE}{more}")),
        )
        .unwrap();
    }
    dir.to_owned()
}

#[test]
fn what_came_too_early_is_moved_into_its_column() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, address) = broker(dir.path());
    let lake = dir.path().join("lake");
    let smartcity_with = |streams: &Path, args: &[&str]| {
        let mut command = smartcity();
        command
            .args(args)
            .arg("--lake")
            .arg(&lake)
            .arg("--streams")
            .arg(streams);
        command
    };
    let produce = |numbers: std::ops::Range<i64>| {
        let producer = Producer::open(&KafkaConfig::new(&address), Duration::ZERO).unwrap();
        for (name, number) in ["neat", "sloppy"]
            .iter()
            .flat_map(|name| numbers.clone().map(move |number| (*name, number)))
        {
            let message = Message {
                key: Some(b"key"),
                value: Some(&message(name, number).to_string().into_bytes()),
                headers: &[],
            };
            producer.send(name, message).unwrap();
        }
        producer.flush(Duration::from_secs(20)).unwrap();
    };
    let land = |streams: &Path| {
        let args = ["ingest", "--until-caught-up", "--bootstrap-servers", &address];
        run(&mut smartcity_with(streams, &args));
    };

    let before = declare(&dir.path().join("before"), "");
    produce(0..RECORDS);
    land(&before);
    let status: Value = serde_json::from_str(&run(&mut smartcity_with(&before, &["status", "--json"]))).unwrap();
    for stream in status["streams"].as_array().unwrap() {
        assert_eq!(stream["rows"], RECORDS, "{status}");
        let expected = json!({"lane": RECORDS, "location[1]": RECORDS, "note": RECORDS});
        assert_eq!(stream["undeclared_fields"], expected, "{status}");
    }
    assert!(run(&mut smartcity_with(&before, &["status"])).contains("500 location[1]"));

    // More comes under the new declaration, which the moving leaves alone; `sloppy` has its letters then.
    let after = declare(&dir.path().join("after"), LANE);
    produce(RECORDS..2 * RECORDS);
    land(&after);
    let backfill = |args: &[&str]| -> Value {
        let args = [&["lake", "backfill", "--json"], args].concat();
        serde_json::from_str(&run(&mut smartcity_with(&after, &args))).unwrap()
    };
    let moved = |bad: i64, files: i64| json!({"rows": RECORDS - bad, "values": 2 * (RECORDS - bad), "bad": bad, "files": files});
    assert_eq!(
        backfill(&["--dry-run"])["streams"],
        json!({"neat": moved(0, 0), "sloppy": moved(50, 0)})
    );
    // Two at the same time share the work.
    let both = std::thread::scope(|scope| {
        [0, 1]
            .map(|_| scope.spawn(|| backfill(&[])))
            .map(|one| one.join().unwrap())
    });
    let sum = |stream: &str, count: &str| {
        both.iter()
            .map(|one| one["streams"][stream][count].as_i64().unwrap())
            .sum::<i64>()
    };
    assert_eq!(
        (sum("neat", "rows"), sum("neat", "values")),
        (RECORDS, 2 * RECORDS),
        "{both:?}"
    );
    assert_eq!(sum("sloppy", "rows"), RECORDS - 50, "{both:?}");
    assert_eq!(
        backfill(&[])["streams"]["neat"],
        json!({"rows": 0, "values": 0, "bad": 0, "files": 0})
    );

    let sums = "select count(*) as rows, sum(lane) as lanes, sum(altitude) as altitudes, min(_extra) as least, max(_extra) as \
                greatest, count(distinct event_date) as days from neat";
    let lanes: i64 = (0..2 * RECORDS).map(|number| number % 4).sum();
    let altitudes: f64 = (0..2 * RECORDS).map(|number| number as f64).sum();
    let note = r#"{"note":"n"}"#;
    let expected = json!({"rows": 2 * RECORDS, "lanes": lanes, "altitudes": altitudes, "least": note, "greatest": note, "days": 1});
    assert_eq!(query(&lake, sums)[0], expected);
    let left = query(
        &lake,
        "select count(*) as rows from sloppy where _extra like '%\"lane\":\"left\"%' and lane is null",
    );
    assert_eq!(left[0]["rows"], 50);
    // Each row is what its record would become today.
    let verify = [
        "lake",
        "verify",
        "--against-kafka",
        "--table",
        "neat",
        "--bootstrap-servers",
        &address,
    ];
    run(&mut smartcity_with(&after, &verify));
    run(&mut smartcity_with(&after, &["lake", "verify"]));
    broker.stop();
}

/// Valid JSON that no number type and no careless parser takes.
#[test]
fn odd_values_of_undeclared_fields_stop_no_command() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, address) = broker(dir.path());
    let (lake, streams) = (dir.path().join("lake"), declare(&dir.path().join("streams"), ""));
    let producer = Producer::open(&KafkaConfig::new(&address), Duration::ZERO).unwrap();
    let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
    let odd = ["1e999", "-1e-999", &"7".repeat(400), &deep, r#""\u0000 \ud83d\ude00""#];
    for (number, value) in odd.iter().enumerate() {
        let message =
            format!(r#"{{"id":{number},"at":"2026-01-01T00:00:00Z","location":[51.5],"odd":{value}}}"#).into_bytes();
        let message = Message {
            key: Some(b"key"),
            value: Some(&message),
            headers: &[],
        };
        producer.send("neat", message).unwrap();
    }
    producer.flush(Duration::from_secs(20)).unwrap();
    let of_lake = |args: &[&str]| {
        let mut command = smartcity();
        command
            .args(args)
            .arg("--lake")
            .arg(&lake)
            .arg("--streams")
            .arg(&streams);
        run(&mut command)
    };
    of_lake(&[
        "ingest",
        "--until-caught-up",
        "--only",
        "neat",
        "--bootstrap-servers",
        &address,
    ]);
    let status: Value = serde_json::from_str(&of_lake(&["status", "--json"])).unwrap();
    let neat = &status["streams"][0];
    assert_eq!(
        (&neat["rows"], &neat["unreadable_rows"]),
        (&json!(5), &json!(0)),
        "{status}"
    );
    assert_eq!(neat["undeclared_fields"]["odd"], 4, "{status}");
    for command in [
        &["status"][..],
        &["lake", "verify"],
        &[
            "lake",
            "verify",
            "--against-kafka",
            "--table",
            "neat",
            "--bootstrap-servers",
            &address,
        ],
        &["lake", "backfill", "--dry-run"],
        &["lake", "backfill"],
    ] {
        of_lake(command);
    }
    let extra = query(&lake, "select _extra from neat order by id");
    let texts: Vec<&str> = extra.iter().map(|row| row["_extra"].as_str().unwrap()).collect();
    for (text, value) in texts.iter().zip(odd) {
        assert_eq!(*text, format!(r#"{{"odd":{value}}}"#));
    }
    broker.stop();
}
