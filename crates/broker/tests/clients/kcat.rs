//! kcat, which Debian builds on librdkafka 2.0.2.

use std::io::Write;
use std::process::{Command, Stdio};

/// Runs kcat with these arguments and input; what it printed.
fn kcat(bootstrap: &str, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("kcat")
        // Cargo's is the path to our own librdkafka, which kcat would take for its own.
        .env_remove("LD_LIBRARY_PATH")
        .args(["-b", bootstrap])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kcat {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn run(bootstrap: &str) {
    let run = std::process::id();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        for settings in ["acks=all", "enable.idempotence=true"] {
            round_trip(
                bootstrap,
                codec,
                settings,
                &format!("kcat-{codec}-{}-{run}", settings.len()),
            );
        }
    }
    let topic = format!("kcat-records-{run}");
    // Made by asking for it; a real Kafka needs a moment.
    for _ in 0..50 {
        if kcat(bootstrap, &["-L", "-t", &topic], "").contains("with 4 partitions") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let to = [
        "-P", "-t", &topic, "-p", "1", "-Z", "-K", "\t", "-H", "a=1", "-H", "b=2",
    ];
    kcat(bootstrap, &to, "key\tvalue\n\tno key\ntombstone\t\n");
    let format = [
        "-C",
        "-t",
        &topic,
        "-p",
        "1",
        "-o",
        "beginning",
        "-e",
        "-q",
        "-f",
        "%o|%k|%K|%s|%S|%h\n",
    ];
    assert_eq!(
        kcat(bootstrap, &format, ""),
        "0|key|3|value|5|a=1,b=2\n1||-1|no key|6|a=1,b=2\n2|tombstone|9||-1|a=1,b=2\n"
    );
    // From the middle of the batch, by time, and as a group.
    let middle = ["-C", "-t", &topic, "-p", "1", "-o", "1", "-c", "1", "-q", "-f", "%o"];
    assert_eq!(kcat(bootstrap, &middle, ""), "1");
    let by_time = kcat(bootstrap, &["-Q", "-t", &format!("{topic}:1:1")], "");
    assert!(by_time.contains("[1] offset 0"), "{by_time}");
    let group = format!("{topic}-group");
    let reset = [
        "-G",
        &group,
        "-X",
        "auto.offset.reset=earliest",
        "-c",
        "3",
        "-q",
        "-f",
        "%o ",
        &topic,
    ];
    assert_eq!(kcat(bootstrap, &reset, ""), "0 1 2 ");
}

fn round_trip(bootstrap: &str, codec: &str, settings: &str, topic: &str) {
    let lines: String = (0..3000).map(|i| format!("line {i} of {codec}\n")).collect();
    kcat(bootstrap, &["-P", "-t", topic, "-z", codec, "-X", settings], &lines);
    let text = kcat(bootstrap, &["-C", "-t", topic, "-e", "-q"], "");
    let mut got: Vec<_> = text.lines().collect();
    let mut sent: Vec<_> = lines.lines().collect();
    got.sort_unstable();
    sent.sort_unstable();
    assert!(got == sent, "{codec}: {} of {} lines", got.len(), sent.len());
}
