//! Help, errors and exit codes, as they are printed.
#![allow(clippy::unwrap_used)]

mod support;

use support::smartcity;

/// What a command prints, with its exit code.
fn printed(arguments: &[&str]) -> String {
    let output = smartcity()
        .args(arguments)
        .env("COLUMNS", "100")
        .current_dir(std::env::temp_dir())
        .output()
        .unwrap();
    format!(
        "exit code {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().unwrap(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn help() {
    for command in ["up", "simulate", "ingest", "query", "lake", "broker", "config"] {
        insta::assert_snapshot!(format!("help_{command}"), printed(&[command, "--help"]));
    }
    insta::assert_snapshot!("help_lake_verify", printed(&["lake", "verify", "--help"]));
    insta::assert_snapshot!("help", printed(&["--help"]));
}

#[test]
fn errors() {
    for (name, arguments) in [
        ("no_command", &[][..]),
        ("misspelt_command", &["ingets"]),
        ("misspelt_flag", &["ingest", "--latancy", "1s"]),
        ("bad_latency", &["ingest", "--latency", "soon"]),
        ("bad_pace", &["simulate", "--pace", "fast", "--print"]),
        ("bad_start", &["simulate", "--start", "noon", "--print"]),
        ("unknown_stream", &["ingest", "--only", "gps_dta"]),
        ("no_streams_folder", &["ingest", "--streams", "/nonexistent"]),
        (
            "no_bucket",
            &["ingest", "--lake", "s3:///lake", "--bootstrap-servers", "127.0.0.1:1"],
        ),
        ("verify_no_tables", &["lake", "verify", "--lake", "/usr"]),
        ("verify_no_lake", &["lake", "verify", "--lake", "/nonexistent"]),
        ("no_lake", &["query", "select 1 from t", "--lake", "/nonexistent"]),
        (
            "not_loopback",
            &[
                "broker",
                "--listen",
                "0.0.0.0:9092",
                "--data-dir",
                "/tmp/smartcity-never",
            ],
        ),
    ] {
        insta::assert_snapshot!(format!("error_{name}"), printed(arguments));
    }
}

#[test]
fn defaults_are_printed_as_they_stand() {
    let printed = printed(&["config", "show", "--default"]);
    assert!(
        printed.contains("# Every setting of smartcity") && printed.contains("latency = \"10s\""),
        "{printed}"
    );
    assert!(self::printed(&["config", "show"]).contains("[ingest]"));
}
