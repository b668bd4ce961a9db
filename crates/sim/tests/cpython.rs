//! The classic run against the real CPython: every field of every message, floats to the last bit.
//!
//! `SMARTCITY_PYTHON` names the interpreter (default `python3`). Without one the live tests say so and pass, except
//! under `CI`, and the golden file, which CPython wrote, still holds one seed in place.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::process::Command;

use model::event_time;
use serde::de::IgnoredAny;
use sim::classic::Classic;
use sim::random::Random;

#[path = "../../../tests/skip.rs"]
mod skip;

const SCRIPT: &str = "tests/classic.py";
const GOLDEN: &str = include_str!("golden/classic-7.ndjson");

#[test]
fn the_golden_run() {
    let lines = run_lines(7, "2026-01-01T00:00:00");
    assert_same_lines("seed 7", &lines, &GOLDEN.lines().collect::<Vec<_>>());
    // No number of this run needs an exponent, the one thing that Python and Rust write in different ways.
    assert!(
        lines.iter().map(String::as_str).eq(GOLDEN.lines()),
        "the golden run differs in its bytes"
    );
}

#[test]
fn runs_equal_those_of_cpython() {
    let mut seeds = vec![
        2024,
        u64::from(u32::MAX),
        1 << 32,
        (1 << 32) + 1,
        1 << 63,
        u64::MAX - 1,
        u64::MAX,
    ];
    seeds.extend(0..20);
    let mut scattered = Random::new(3);
    seeds.extend((0..8).map(|_| scattered.getrandbits(64) as u64));

    // The second start has microseconds and runs over midnight into a leap day.
    for start in ["2026-01-01T00:00:00", "2024-02-28T23:30:00.000120"] {
        let mut arguments = vec!["runs".to_owned(), start.to_owned()];
        arguments.extend(seeds.iter().map(u64::to_string));
        let Some(output) = cpython(&arguments) else { return };
        let mut theirs = output.lines();
        for &seed in &seeds {
            let ours = run_lines(seed, start);
            let header = theirs.next().expect("a header for each seed");
            assert_eq!(header, format!(r#"{{"seed":{seed},"steps":{}}}"#, ours.len() / 5));
            let theirs: Vec<&str> = theirs.by_ref().take(ours.len()).collect();
            assert_same_lines(&format!("seed {seed}, start {start}"), &ours, &theirs);
        }
        assert_eq!(theirs.next(), None);
    }
}

#[test]
fn raw_draws_equal_those_of_cpython() {
    let mut seeds: Vec<Vec<u32>> = (0..20).map(|seed| vec![seed]).collect();
    seeds.extend([
        vec![u32::MAX],
        vec![0, 1],
        vec![u32::MAX, u32::MAX],
        vec![0, 0, 1],
        vec![7, 0, 1],
        vec![u32::MAX, u32::MAX, 1],
        (1..=40).collect(),
        (1..=623).collect(),
        (1..=624).collect(),
        // A key longer than the generator's state.
        (1..=700).collect(),
    ]);
    let mut arguments = vec!["draws".to_owned()];
    arguments.extend(seeds.iter().map(|words| hexadecimal(words)));
    let Some(output) = cpython(&arguments) else { return };

    let theirs: Vec<Vec<String>> = output
        .lines()
        .map(|line| serde_json::from_str(line).expect("a list of draws"))
        .collect();
    assert_eq!(theirs.len(), seeds.len());
    for (seed, theirs) in seeds.iter().zip(theirs) {
        assert_eq!(
            draws(&mut Random::from_words(seed)),
            theirs,
            "seed {}",
            hexadecimal(seed)
        );
    }
}

/// The draws of `classic.py draws`, in its notation.
fn draws(random: &mut Random) -> Vec<String> {
    let mut drawn = Vec::new();
    for k in 1..=128_u32 {
        let end = f64::from(k);
        let options: Vec<u32> = (0..k).collect();
        drawn.push(float_hex(random.random()));
        drawn.push(float_hex(random.uniform(-end, end / 3.0)));
        drawn.push(format!("{:#x}", random.getrandbits(k)));
        drawn.push(format!(
            "{:#x}",
            random.randint(-i64::from(k), i64::from(k)) + i64::from(k)
        ));
        drawn.push(format!(
            "{:#x}",
            i128::from(random.randint(i64::MIN, i64::MAX)) - i128::from(i64::MIN)
        ));
        drawn.push(format!("{:#x}", random.choice(&options)));
    }
    drawn
}

/// Python's `float.hex()` of a normal number or zero.
fn float_hex(value: f64) -> String {
    let sign = if value.is_sign_negative() { "-" } else { "" };
    if value == 0.0 {
        return format!("{sign}0x0.0p+0");
    }
    let fraction = value.to_bits() & ((1 << 52) - 1);
    let exponent = (value.to_bits() >> 52 & 0x7ff) as i32 - 1023;
    format!("{sign}0x1.{fraction:013x}p{exponent:+}")
}

fn hexadecimal(words: &[u32]) -> String {
    words.iter().rev().fold("0x".to_owned(), |mut text, word| {
        write!(text, "{word:08x}").expect("a string takes all");
        text
    })
}

fn run_lines(seed: u64, start: &str) -> Vec<String> {
    let start_us = event_time::parse(start.as_bytes()).expect("a valid start");
    Classic::new(seed, start_us)
        .flat_map(|step| step.messages)
        .map(|message| message.to_print_line(message.stream))
        .collect()
}

/// The output of `classic.py`, or `None` with a loud word when there is no Python to run it.
fn cpython(arguments: &[String]) -> Option<String> {
    let python = std::env::var("SMARTCITY_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    // Isolated: nobody's PYTHON* variables or user packages.
    let output = match Command::new(&python).args(["-I", SCRIPT]).args(arguments).output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skip::skip("a CPython 3 to compare with (set SMARTCITY_PYTHON)");
            return None;
        }
        Err(error) => panic!("cannot run {python}: {error}"),
    };
    assert!(
        output.status.success(),
        "{python} {SCRIPT} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8(output.stdout).expect("classic.py writes ASCII"))
}

fn assert_same_lines(run: &str, ours: &[String], theirs: &[&str]) {
    assert_eq!(ours.len(), theirs.len(), "{run}: messages");
    for (number, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        serde_json::from_str::<IgnoredAny>(ours).expect("our message is JSON");
        assert!(
            same_json(ours, theirs),
            "{run}, message {number}:\nours   {ours}\ntheirs {theirs}"
        );
    }
}

/// Equality of two compact JSON texts: same fields in the same order, strings and integers as written, floats by their
/// bits. Done on the text because serde_json's own float reader may miss the last bit.
fn same_json(ours: &str, theirs: &str) -> bool {
    let (ours, theirs) = (tokens(ours), tokens(theirs));
    ours.len() == theirs.len() && ours.iter().zip(&theirs).all(|(ours, theirs)| same_token(ours, theirs))
}

fn same_token(ours: &str, theirs: &str) -> bool {
    match (float(ours), float(theirs)) {
        (Some(ours), Some(theirs)) => ours.to_bits() == theirs.to_bits(),
        _ => ours == theirs,
    }
}

/// A JSON number that is written as a float; 50 and 50.0 are different things to a reader of types.
fn float(token: &str) -> Option<f64> {
    if token.starts_with('"') || !token.contains(['.', 'e', 'E']) {
        return None;
    }
    token.parse().ok()
}

/// Strings, punctuation marks and everything between them. The messages' strings hold no escapes.
fn tokens(json: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '"' => rest[1..].find('"').expect("a closed string") + 2,
            '{' | '}' | '[' | ']' | ',' | ':' => 1,
            _ => rest.find(['{', '}', '[', ']', ',', ':', '"']).unwrap_or(rest.len()),
        };
        tokens.push(&rest[..len]);
        rest = &rest[len..];
    }
    tokens
}

#[test]
fn the_comparison_sees_differences() {
    assert!(same_json(r#"{"a":[0.00001,1],"b":"x"}"#, r#"{"a":[1e-05,1],"b":"x"}"#));
    assert!(!same_json(r#"{"a":0.1}"#, r#"{"a":0.10000000000000002}"#));
    assert!(!same_json(r#"{"a":50}"#, r#"{"a":50.0}"#));
    assert!(!same_json(r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#));
    assert!(!same_json(r#"{"a":0.0}"#, r#"{"a":-0.0}"#));
}
