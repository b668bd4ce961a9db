//! `smartcity up`, from the outside: what a newcomer does and sees, and what a crash in mid-run leaves.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Process, count, eventually, get, python, query, run, smartcity, up};

const TABLES: [&str; 5] = [
    "emergency_data",
    "gps_data",
    "traffic_data",
    "vehicle_data",
    "weather_data",
];

fn has_steps(lake: &Path, steps: i64) {
    for table in TABLES {
        assert_eq!(count(lake, table), steps, "{table}");
        let ids = query(lake, &format!("select count(distinct id) as n from {table}"));
        assert_eq!(ids[0]["n"], steps, "{table}");
    }
    assert_eq!(count(lake, "dead_letters"), 0);
}

fn equals_cpython(lake: &Path, seed: u64, start: &str) {
    if let Some(mut python) = python("classic_in_lake.py") {
        run(python.arg(lake).arg(seed.to_string()).arg(start));
    }
}

#[test]
fn the_first_rows_are_there_soon_and_the_whole_run_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let lake = dir.path().join("lake");
    let started = Instant::now();
    let mut up = up(dir.path(), &["--seed", "7", "--pace", "20ms"]);
    eventually("rows in vehicle_data", Duration::from_secs(20), || {
        let sql = "select count(*) as n from vehicle_data";
        let output = smartcity()
            .args(["query", sql, "--format", "csv", "--lake"])
            .arg(&lake)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .nth(1)
            .is_some_and(|n| n != "0")
    });
    eprintln!("first rows after {:?}", started.elapsed());

    up.process.wait_for("the vehicle has arrived", Duration::from_secs(30));
    eventually("the last rows", Duration::from_secs(20), || {
        count(&lake, "weather_data") == 99
    });
    assert!(
        up.process.resident_bytes() < 200 << 20,
        "{} bytes",
        up.process.resident_bytes()
    );

    let (status, progress) = get(&up.http, "/api/progress");
    assert_eq!(status, "HTTP/1.1 200 OK");
    let progress: serde_json::Value = serde_json::from_str(&progress).unwrap();
    let vehicle = progress
        .as_array()
        .unwrap()
        .iter()
        .find(|stream| stream["name"] == "vehicle_data")
        .unwrap();
    assert_eq!(vehicle["totals"]["rows"], 99);
    assert_eq!(vehicle["totals"]["lag"], 0);
    assert_eq!(get(&up.http, "/health").0, "HTTP/1.1 200 OK");
    let metrics = get(&up.http, "/metrics").1;
    assert!(
        metrics.contains("smartcity_ingest_rows_total{stream=\"vehicle_data\"} 99"),
        "{metrics}"
    );

    up.process.stop();
    has_steps(&lake, 99);
    equals_cpython(&lake, 7, "any");
}

#[test]
fn killed_in_mid_run_it_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let lake = dir.path().join("lake");
    let arguments = [
        "--seed",
        "2024",
        "--pace",
        "30ms",
        "--latency",
        "100ms",
        "--start",
        "2026-01-01T00:00:00",
    ];
    for _ in 0..3 {
        let running = up(dir.path(), &arguments);
        std::thread::sleep(Duration::from_millis(700));
        running.process.kill();
    }
    let mut last = up(dir.path(), &arguments);
    last.process
        .wait_for("the vehicle has arrived", Duration::from_secs(30));
    last.process.stop();
    has_steps(&lake, 100);
    equals_cpython(&lake, 2024, "2026-01-01T00:00:00");

    // A vehicle that has arrived stays where it is.
    let mut again = up(dir.path(), &arguments);
    again
        .process
        .wait_for("the vehicle has arrived", Duration::from_secs(30));
    again.process.stop();
    has_steps(&lake, 100);
}

#[test]
fn what_is_taken_is_named_with_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let running = up(dir.path(), &[]);
    let refused = |arguments: &[&str], dir: &Path| {
        let output = smartcity()
            .arg("up")
            .args(arguments)
            .arg("--data-dir")
            .arg(dir)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let other = tempfile::tempdir().unwrap();
    let free = "127.0.0.1:0";
    let error = refused(&["--kafka-listen", &running.kafka, "--http-listen", free], other.path());
    assert!(
        error.contains(&running.kafka) && error.contains("in use") && error.contains("port"),
        "{error}"
    );
    let error = refused(&["--kafka-listen", free, "--http-listen", &running.http], other.path());
    assert!(
        error.contains(&running.http) && error.contains("in use") && error.contains("port"),
        "{error}"
    );
    let error = refused(&["--kafka-listen", free, "--http-listen", free], dir.path());
    assert!(
        error.contains("in use by another process") && error.contains("another directory"),
        "{error}"
    );
}

/// `up` on free ports with settings of its own, from its first line on.
fn start(dir: &Path, settings: &str, arguments: &[&str]) -> Process {
    let file = dir.join("settings.toml");
    std::fs::write(&file, settings).unwrap();
    // It may hold a password.
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, private).unwrap();
    let mut command = smartcity();
    command.args(["up", "--kafka-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
    command.arg("--data-dir").arg(dir).arg("--config").arg(file);
    Process::start(command.args(arguments))
}

#[test]
fn when_the_simulator_refuses_all_of_it_ends_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let (code, lines) = start(dir.path(), "", &["--vehicles", "0"]).end(Duration::from_secs(20));
    assert_eq!(code, Some(2), "{lines}");
    let error = lines.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(error.contains("vehicles"), "{lines}");
    assert!(lines.lines().count() < 20, "{lines}");
}

#[test]
fn when_a_part_fails_in_mid_run_all_of_it_ends_within_two_seconds() {
    let dir = tempfile::tempdir().unwrap();
    // A ledger on a full disk.
    let truth = dir.path().join("truth");
    std::fs::create_dir(&truth).unwrap();
    for name in ["faults", "situations", "incidents"] {
        std::os::unix::fs::symlink("/dev/full", truth.join(format!("{name}.ndjson"))).unwrap();
    }
    let settings = format!("[simulator]\nfaults = \"everything\"\ntruth = {truth:?}\n");
    let mut up = start(dir.path(), &settings, &["--pace", "max", "--vehicles", "500"]);
    up.wait_for("stopping: a part has failed", Duration::from_secs(60));
    let failed = Instant::now();
    let (code, lines) = up.end(Duration::from_secs(20));
    // And a second for a machine that is busy with other tests.
    assert!(failed.elapsed() < Duration::from_secs(3), "{:?}", failed.elapsed());
    assert_eq!(code, Some(1), "{lines}");
    assert!(lines.contains("error: cannot write the ledger"), "{lines}");
}

#[test]
fn when_ingest_fails_all_of_it_ends_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("lake"), "no folder").unwrap();
    let (code, lines) = start(dir.path(), "", &["--profile", "classic"]).end(Duration::from_secs(20));
    assert!(code == Some(1) || code == Some(2), "{code:?}: {lines}");
    let error = lines.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(error.contains("lake"), "{lines}");
}

#[test]
fn properties_of_kafkas_clients_are_applied_or_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let ends = |properties: &str| {
        let settings = format!("[kafka.properties]\n{properties}\n");
        start(dir.path(), &settings, &["--profile", "classic"]).end(Duration::from_secs(20))
    };
    let (code, lines) = ends("\"security.protocol\" = \"SASL_SSL\"\n\"sasl.password\" = \"hunter2\"");
    assert_eq!(code, Some(2), "{lines}");
    assert!(
        lines.contains("sasl.password, security.protocol") && !lines.contains("hunter2"),
        "{lines}"
    );
    // One that librdkafka does not know is refused by it, so it was given to it.
    let (code, lines) = ends("\"no.such.property\" = \"1\"");
    assert!(code != Some(0) && lines.contains("no.such.property"), "{lines}");
    let settings = "[kafka.properties]\n\"socket.keepalive.enable\" = \"true\"\n";
    let mut up = start(dir.path(), settings, &["--profile", "classic"]);
    up.wait_for("smartcity is up", Duration::from_secs(30));
    up.stop();
}
