//! Every command ends when it is told to, whatever does not answer, and `up` ends when one of its parts does.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::skip::skip;
use crate::support::{Process, broker, silence, smartcity};

/// What a test gives a command to stop, and what a busy machine may need on top.
const SHUTDOWN: &str = "2s";
const ENDS_WITHIN: Duration = Duration::from_secs(6);

/// `smartcity` with a short shutdown timeout.
fn command(arguments: &[&str]) -> Command {
    let mut command = smartcity();
    command.args(arguments).env("SMARTCITY_SHUTDOWN_TIMEOUT", SHUTDOWN);
    command
}

/// Sends SIGTERM: the exit code (`None` when the signal ended it) and all lines. Fails when it takes too long.
fn terminated(process: Process) -> (Option<i32>, String) {
    let asked = Instant::now();
    process.terminate();
    let ended = process.end(ENDS_WITHIN);
    eprintln!("ended {:?} after SIGTERM", asked.elapsed());
    ended
}

#[test]
fn what_has_not_begun_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let lake = dir.path().join("lake");
    let lake = lake.to_str().unwrap();
    let (_kafka, nowhere) = silence();
    for arguments in [
        &["ingest", "--lake", lake, "--bootstrap-servers", &nowhere][..],
        &[
            "ingest",
            "--until-caught-up",
            "--lake",
            lake,
            "--bootstrap-servers",
            &nowhere,
        ],
        &["simulate", "--bootstrap-servers", &nowhere],
    ] {
        let process = Process::start(&mut command(arguments));
        std::thread::sleep(Duration::from_millis(1500));
        let (code, lines) = terminated(process);
        assert_eq!(code, Some(0), "{arguments:?}: {lines}");
    }
}

#[test]
fn a_store_that_is_away_holds_nobody() {
    let (_store, nowhere) = silence();
    let (_kafka, no_kafka) = silence();
    for arguments in [
        &["ingest", "--bootstrap-servers", &no_kafka][..],
        &["query", "select 1"],
        &["status"],
        &["lake", "verify"],
        &["dlq", "replay"],
    ] {
        let mut command = command(arguments);
        command
            .args(["--lake", "s3://bucket/lake"])
            .env("AWS_ENDPOINT_URL", format!("http://{nowhere}"))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_ACCESS_KEY_ID", "a")
            .env("AWS_SECRET_ACCESS_KEY", "b")
            .env("AWS_REGION", "us-east-1");
        let process = Process::start(&mut command);
        std::thread::sleep(Duration::from_millis(1500));
        let (code, lines) = terminated(process);
        // A command that has nothing under way is ended by the signal.
        assert!(code.is_none() || code == Some(0), "{arguments:?}: {code:?} {lines}");
    }
}

#[test]
fn a_kafka_that_went_away_holds_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, address) = broker(dir.path());
    let lake = dir.path().join("lake");
    let lake = lake.to_str().unwrap();
    let mut simulate = Process::start(&mut command(&[
        "simulate",
        "--pace",
        "5ms",
        "--profile",
        "fleet",
        "--bootstrap-servers",
        &address,
    ]));
    let ingest = [
        "ingest",
        "--latency",
        "100ms",
        "--bootstrap-servers",
        &address,
        "--lake",
        lake,
    ];
    let mut ingest = Process::start(&mut command(&ingest));
    ingest.wait_for("committed", Duration::from_secs(60));
    broker.kill();
    std::thread::sleep(Duration::from_secs(8));
    // The same trouble is not reported at each try.
    let lines = ingest.lines().to_vec();
    let errors: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("kafka client error"))
        .collect();
    assert!((1..=4).contains(&errors.len()), "{errors:#?}");
    assert!(lines.len() < 200, "{} lines", lines.len());
    let told = simulate.lines().len();
    assert!(told < 20, "{told} lines of simulate");
    // What was sent and is not acknowledged is said.
    let (code, lines) = terminated(simulate);
    assert!(code == Some(1) || code == Some(0), "{code:?} {lines}");
    assert!(code == Some(0) || lines.contains("not acknowledged"), "{lines}");
    let (code, lines) = terminated(ingest);
    assert!(
        code == Some(0) || lines.contains("without having committed all that was read"),
        "{code:?} {lines}"
    );
}

/// `up` on free ports with settings of its own.
fn up(dir: &Path, settings: &str, arguments: &[&str]) -> Command {
    let file = dir.join("settings.toml");
    std::fs::write(&file, settings).unwrap();
    let mut command = command(&["up", "--kafka-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
    command.arg("--config").arg(file).args(arguments);
    command
}

#[test]
fn a_ledger_that_cannot_be_written_ends_up() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let settings = format!("[simulator]\ntruth = {:?}\n", file.join("truth"));
    let mut command = up(dir.path(), &settings, &[]);
    let process = Process::start(command.arg("--data-dir").arg(dir.path().join("data")));
    let (code, lines) = process.end(Duration::from_secs(20));
    assert_eq!(code, Some(1), "{lines}");
    assert!(lines.contains("error: cannot write the ledger in"), "{lines}");
    assert!(lines.lines().count() < 10, "{lines}");
}

#[test]
fn a_full_disk_ends_up_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mount = "mount -t tmpfs -o size=12m none \"$0\"";
    let can = Command::new("unshare")
        .args(["-rm", "sh", "-c", mount])
        .arg(&data)
        .stderr(Stdio::null())
        .status();
    if !can.is_ok_and(|status| status.success()) {
        return skip("a mount of our own (unshare -rm), for a disk that is full,");
    }
    let inner = up(dir.path(), "", &["--pace", "max", "--vehicles", "500"]);
    let mut outer = Command::new("unshare");
    outer
        .args(["-rm", "sh", "-c", &format!("{mount} && exec \"$@\" --data-dir \"$0\"")])
        .arg(&data)
        .arg(inner.get_program())
        .args(inner.get_args())
        .env("SMARTCITY_SHUTDOWN_TIMEOUT", SHUTDOWN);
    let mut process = Process::start(&mut outer);
    process.wait_for("stopping: a part has failed", Duration::from_secs(120));
    let failed = Instant::now();
    let (code, lines) = process.end(Duration::from_secs(20));
    // Two, and one for a busy machine.
    assert!(failed.elapsed() < Duration::from_secs(3), "{:?}", failed.elapsed());
    assert_eq!(code, Some(1), "{lines}");
    let error = lines.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(
        error.to_lowercase().contains("space") || error.contains("cannot write"),
        "{lines}"
    );
    assert!(lines.lines().count() < 60, "{lines}");
}

#[test]
fn up_ends_while_it_starts() {
    for wait in [50, 300, 800] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = up(dir.path(), "", &[]);
        let process = Process::start(command.arg("--data-dir").arg(dir.path().join("data")));
        std::thread::sleep(Duration::from_millis(wait));
        let (code, lines) = terminated(process);
        // Before the first line of it the signal has its usual meaning.
        assert!(code.is_none() || code == Some(0), "{code:?} {lines}");
    }
}

#[test]
fn a_log_gets_plain_lines_and_a_narrow_terminal_short_ones() {
    let dir = tempfile::tempdir().unwrap();
    let settings = "[up]\nlog_interval = \"300ms\"\n";
    let mut logged = up(dir.path(), settings, &["--vehicles", "20"]);
    let mut process = Process::start(logged.arg("--data-dir").arg(dir.path().join("data")));
    process.wait_for("smartcity is up", Duration::from_secs(30));
    let line = process.wait_for(" · lag ", Duration::from_secs(20));
    let (time, figures) = line.split_once(' ').unwrap();
    assert!(time.ends_with('Z') && time.len() == 20, "{line}");
    assert!(
        figures.contains("dead letters") && figures.contains("vehicle ") && figures.contains("weather "),
        "{line}"
    );
    assert!(!line.contains('\u{1b}'), "{line:?}");
    terminated(process);

    let Ok(true) = Command::new("script")
        .arg("--version")
        .output()
        .map(|output| output.status.success())
    else {
        return skip("script (util-linux), for a terminal,");
    };
    let inner = up(dir.path(), "", &["--vehicles", "20"]);
    let mut words = vec![inner.get_program().to_str().unwrap().to_owned()];
    words.extend(inner.get_args().map(|word| word.to_str().unwrap().to_owned()));
    let data = dir.path().join("data");
    let script = format!(
        "stty cols 60 rows 24; timeout -s INT 12 {} --data-dir {}",
        words.join(" "),
        data.display()
    );
    let output = Command::new("script")
        .args(["-qec", &script, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // Each redrawing is one of these; colours and cursor movements take no columns.
    let plain = |line: &str| {
        let mut kept = String::new();
        let mut letters = line.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '\u{1b}' => drop(letters.by_ref().find(|letter| letter.is_ascii_alphabetic())),
                letter => kept.push(letter),
            }
        }
        kept.trim().to_owned()
    };
    let lines: Vec<String> = text.split(['\r', '\n']).map(plain).collect();
    let figures: Vec<_> = lines.iter().filter(|line| line.contains(" · lag ")).collect();
    assert!(!figures.is_empty(), "{text}");
    for line in figures {
        assert!(line.chars().count() <= 60, "{line}");
        assert!(line.contains("dead letters") && line.contains("streams"), "{line}");
    }
}
