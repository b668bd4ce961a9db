//! A stream more is a file more.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::support::{broker, query, root, run, smartcity};

const PARKING: &str = r#"
name = "parking_data"
description = "Free places in car parks."
key = "device_id"
event_time = "counted_at"

[[field]]
name = "device_id"
type = "string"
doc = "The car park."

[[field]]
name = "counted_at"
type = "timestamp"
doc = "When it was counted."

[[field]]
name = "free"
type = "integer"
unit = "places"
min = 0
from = ["places.free", "free"]
doc = "Free places."
"#;

#[test]
fn a_sixth_stream_lands_by_its_declaration_alone() {
    let dir = tempfile::tempdir().unwrap();
    let streams = dir.path().join("streams");
    run(Command::new("cp").arg("-r").arg(root().join("streams")).arg(&streams));
    std::fs::write(streams.join("parking_data.toml"), PARKING).unwrap();

    let (broker, address) = broker(dir.path());

    let produce = ["-P", "-b", &address, "-t", "parking_data", "-K", "|"];
    let Ok(mut kcat) = Command::new("kcat").args(produce).stdin(Stdio::piped()).spawn() else {
        crate::skip::skip("kcat");
        return;
    };
    let messages = concat!(
        "p1|{\"device_id\":\"p1\",\"counted_at\":\"2026-01-01T10:00:00Z\",\"places\":{\"free\":12,\"of\":80}}\n",
        "p2|{\"device_id\":\"p2\",\"counted_at\":\"2026-01-01T10:00:05+01:00\",\"free\":0}\n",
        "p3|{\"device_id\":\"p3\",\"counted_at\":\"2026-01-01T10:00:07Z\",\"free\":-1}\n",
    );
    kcat.stdin.take().unwrap().write_all(messages.as_bytes()).unwrap();
    assert!(kcat.wait().unwrap().success());

    let lake = dir.path().join("lake");
    let mut ingest = smartcity();
    ingest
        .args([
            "ingest",
            "--until-caught-up",
            "--bootstrap-servers",
            &address,
            "--streams",
        ])
        .arg(&streams);
    run(ingest.arg("--lake").arg(&lake));
    broker.stop();

    let rows = query(
        &lake,
        "select device_id, counted_at, free, _extra from parking_data order by device_id",
    );
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!((&rows[0]["free"], &rows[1]["free"]), (&12.into(), &0.into()));
    assert_eq!(rows[0]["_extra"], r#"{"places":{"of":80}}"#);
    assert!(
        rows[1]["counted_at"]
            .as_str()
            .unwrap()
            .starts_with("2026-01-01T09:00:05"),
        "{rows:?}"
    );
    let letters = query(&lake, "select stage, field, error_class from dead_letters");
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (&letters[0]["field"], &letters[0]["stage"]),
        (&"free".into(), &"validate".into())
    );
}
