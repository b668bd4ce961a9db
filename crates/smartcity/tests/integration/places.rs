//! A lake's location is one place for every command, whatever characters it has; what is written there is its owner's.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::{Process, broker, count, declaration, run, smartcity};
use kafka::{KafkaConfig, Message, Producer};
use serde_json::Value;

/// A stream `neat`, its declaration, and a broker that has records of it; the last one has no time.
pub(crate) struct Neat {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) address: String,
    _broker: Process,
}

impl Neat {
    pub(crate) fn new() -> Neat {
        let dir = tempfile::tempdir().unwrap();
        let (broker, address) = broker(dir.path());
        std::fs::create_dir(dir.path().join("streams")).unwrap();
        std::fs::write(dir.path().join("streams/neat.toml"), declaration("neat", "")).unwrap();
        Neat {
            dir,
            address,
            _broker: broker,
        }
    }

    pub(crate) fn produce(&self, good: i64, bad: i64) {
        let producer = Producer::open(&KafkaConfig::new(&self.address), Duration::ZERO).unwrap();
        for number in 0..good + bad {
            let value = match number < good {
                true => format!(r#"{{"id":{number},"at":"2026-01-01T00:00:00Z","note":"n"}}"#),
                false => format!(r#"{{"id":{number}}}"#),
            };
            let message = Message {
                key: Some(b"key"),
                value: Some(value.as_bytes()),
                headers: &[],
            };
            producer.send("neat", message).unwrap();
        }
        producer.flush(Duration::from_secs(20)).unwrap();
    }

    pub(crate) fn ingest(&self, lake: &str) {
        run(self.command(
            &["ingest", "--until-caught-up", "--bootstrap-servers", &self.address],
            lake,
        ));
    }

    pub(crate) fn command(&self, arguments: &[&str], lake: &str) -> &'static mut Command {
        let mut command = smartcity();
        command.args(arguments).args(["--lake", lake]);
        if !matches!(
            arguments[..],
            ["query", ..] | ["dlq", "list" | "show", ..] | ["lake", "history", ..]
        ) {
            command.arg("--streams").arg(self.dir.path().join("streams"));
        }
        Box::leak(Box::new(command))
    }
}

#[test]
fn every_command_means_the_same_place() {
    let neat = Neat::new();
    neat.produce(3, 1);
    let json = |arguments: &[&str], lake: &str| -> Value {
        let printed = run(neat.command(arguments, lake));
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {printed}"))
    };
    // A lake beside it where a name that is decoded once too often leads to.
    let decoy = neat.dir.path().join("a b");
    neat.ingest(decoy.to_str().unwrap());
    neat.produce(2, 1);
    for name in ["a%20b", "x%20y", "a\\b", "a\tb", "a\nb", "a#1", "a?b"] {
        let folder = neat.dir.path().join(name);
        let lake = folder.to_str().unwrap();
        neat.ingest(lake);
        assert!(folder.join("data/neat/_delta_log").is_dir(), "{name:?}");
        assert_eq!(count(&folder, "neat"), 5, "{name:?}");
        assert_eq!(json(&["status", "--json"], lake)["streams"][0]["rows"], 5, "{name:?}");
        let listed = run(neat.command(&["dlq", "list"], lake));
        assert!(
            listed.contains("(1 row)") && listed.contains("missing_field"),
            "{name:?}: {listed}"
        );
        let shown = run(neat.command(&["dlq", "show"], lake));
        assert_eq!(shown.matches("missing_field").count(), 2, "{name:?}: {shown}");
        let replayed = json(&["dlq", "replay", "--json"], lake);
        assert_eq!(replayed["streams"]["neat"]["bad"], 2, "{name:?}: {replayed}");
        let verified = json(
            &[
                "lake",
                "verify",
                "--json",
                "--against-kafka",
                "--bootstrap-servers",
                &neat.address,
            ],
            lake,
        );
        assert_eq!(verified["faulty_tables"], 0, "{name:?}");
        assert_eq!(
            Path::new(verified["lake"].as_str().unwrap()),
            folder.canonicalize().unwrap()
        );
        let filled = json(&["lake", "backfill", "--json"], lake);
        assert_eq!(filled["streams"]["neat"]["rows"], 0, "{name:?}: {filled}");
        let history = json(&["lake", "history", "--json", "--table", "neat"], lake);
        assert_eq!(history["tables"]["neat"][0]["rows"], 5, "{name:?}: {history}");
    }
    assert_eq!(count(&decoy, "neat"), 3);
    // Nothing was made anywhere else.
    let mut made: Vec<PathBuf> = std::fs::read_dir(neat.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    made.sort();
    assert_eq!(made.len(), 8 + ["streams", "broker"].len(), "{made:?}");
}

#[test]
fn what_cannot_be_told_apart_is_refused_by_every_command() {
    let neat = Neat::new();
    for location in [
        "s3://bucket/a#b",
        "s3://bucket/a?b",
        "s3://bucket/a//b",
        "s3://bucket/a%20b",
        "file:///tmp/a#b",
        "",
    ] {
        for arguments in [
            &["ingest", "--until-caught-up", "--bootstrap-servers", &neat.address][..],
            &["status"],
            &["query", "select 1"],
            &["dlq", "list"],
            &["dlq", "show"],
            &["dlq", "replay"],
            &["lake", "verify"],
            &["lake", "history"],
            &["lake", "backfill"],
        ] {
            let output = neat.command(arguments, location).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            let says = format!("cannot use `{location}` as a lake");
            assert!(
                output.status.code() == Some(2) && error.contains(&says),
                "{arguments:?}: {error}"
            );
        }
    }
}

#[test]
fn only_the_owner_reads_a_lake_and_a_ledger() {
    let neat = Neat::new();
    neat.produce(3, 1);
    let home = neat.dir.path().join("home");
    neat.ingest(home.join("lake").to_str().unwrap());
    // A folder that was there is not changed; what is put into it is private all the same.
    let open = neat.dir.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
    neat.ingest(open.to_str().unwrap());
    let truth = home.join("truth");
    let simulate = [
        "simulate",
        "--print",
        "--profile",
        "fleet",
        "--duration",
        "2s",
        "--pace",
        "max",
        "--truth",
    ];
    run(smartcity().args(simulate).arg(&truth));
    let (mut files, mut folders) = (0, 0);
    let mut left = vec![home, open.join("data")];
    while let Some(path) = left.pop() {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        if path.is_dir() {
            folders += 1;
            assert_eq!(mode, 0o700, "{}", path.display());
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files += 1;
            assert_eq!(mode, 0o600, "{}", path.display());
        }
    }
    assert!(files > 10 && folders > 10, "{files} files in {folders} folders");
    assert_eq!(std::fs::metadata(&open).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn durability_is_a_setting_and_a_flag() {
    let neat = Neat::new();
    neat.produce(3, 0);
    for (number, durability) in ["fsync", "os"].iter().enumerate() {
        let lake = neat.dir.path().join(durability);
        let ingest = [
            "ingest",
            "--until-caught-up",
            "--durability",
            durability,
            "--bootstrap-servers",
            &neat.address,
        ];
        let ingest = neat.command(&ingest, lake.to_str().unwrap());
        run(ingest);
        assert_eq!(count(&lake, "neat"), 3, "{number}");
        let shown = run(smartcity()
            .args(["config", "show"])
            .env("SMARTCITY_LAKE_DURABILITY", durability));
        assert!(shown.contains(&format!("durability = \"{durability}\"")), "{shown}");
    }
    let output = smartcity().args(["ingest", "--durability", "always"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(2) && error.contains("fsync, os"),
        "{error}"
    );
    let output = smartcity()
        .arg("ingest")
        .env("SMARTCITY_LAKE_DURABILITY", "always")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(2) && error.contains("`always` is not a durability"),
        "{error}"
    );
}
