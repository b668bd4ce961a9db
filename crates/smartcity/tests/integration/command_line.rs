//! Help, errors and exit codes, as they are printed.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::support::smartcity;

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
    insta::assert_snapshot!("help_broker_user", printed(&["broker", "user", "--help"]));
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
        ("key_without_certificate", &["broker", "--tls-key", "key.pem"]),
        ("no_password", &["broker", "user", "alice"]),
    ] {
        insta::assert_snapshot!(format!("error_{name}"), printed(arguments));
    }
}

/// Runs `broker user` with a password on stdin: exit code, stdout, stderr.
fn broker_user(arguments: &[&str], password: &str) -> (i32, String, String) {
    let mut command = smartcity();
    command.args(["broker", "user"]).args(arguments).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Who removes a user reads no password.
    let _ = writeln!(child.stdin.take().unwrap(), "{password}");
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn users_of_the_broker_are_kept_without_their_passwords() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("users");
    let users = path.to_str().unwrap();
    let (code, printed, _) = broker_user(&["alice"], "wonder");
    let lines: Vec<_> = printed.lines().collect();
    assert!(
        code == 0 && lines.len() == 2 && !printed.contains("wonder"),
        "{printed}"
    );
    assert!(lines[0].starts_with("alice:SCRAM-SHA-256$8192:") && lines[1].starts_with("alice:SCRAM-SHA-512$8192:"));
    for (name, password, entries) in [("alice", "wonder", 2), ("bob", "builder", 4), ("alice", "other", 4)] {
        let (code, _, told) = broker_user(&[name, "--users", users], password);
        assert!(code == 0 && !told.contains(password), "{told}");
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), entries);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(broker_user(&["alice", "--users", users, "--remove"], "").0, 0);
    assert!(!fs::read_to_string(&path).unwrap().contains("alice"));
    let (code, _, told) = broker_user(&["alice", "--users", users, "--remove"], "");
    assert!(code == 2 && told.contains("has no user `alice`"), "{told}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let (code, _, told) = broker_user(&["carol", "--users", users], "pw");
    assert!(code == 2 && told.contains("chmod 600"), "{told}");
}

#[test]
fn up_does_not_leave_open_what_is_meant_to_be_locked() {
    let output = smartcity()
        .arg("up")
        .env("SMARTCITY_BROKER_SASL_USERS", "users")
        .current_dir(std::env::temp_dir())
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(2) && told.contains("`smartcity broker`"),
        "{told}"
    );
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
