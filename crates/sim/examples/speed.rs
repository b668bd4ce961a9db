//! How fast the fleet's records are made: generated and serialised, thrown away.
//!
//!     cargo run --release -p sim --example speed -- [vehicles] [steps] [threads]
//!
//! Prints records per second of processor time, bytes per record, the memory of the process by vehicle, and what the start
//! cost: building the world and walking every vehicle through its shift so far.

use std::time::Instant;

use sim::fleet::{Fleet, Settings};
use sim::{Batch, Profile};

fn main() {
    let numbers: Vec<u64> = std::env::args()
        .skip(1)
        .map(|word| word.parse().expect("a number"))
        .collect();
    let number = |at: usize, default: u64| numbers.get(at).copied().unwrap_or(default);
    let (vehicles, steps, threads) = (number(0, 100_000), number(1, 60), number(2, 1));
    // A Monday at half past seven.
    let settings = Settings {
        vehicles: vehicles as u32,
        duration_us: Some(steps as i64 * 1_000_000),
        threads: threads as usize,
        ..Settings::new(7, 1_767_598_200_000_000)
    };
    let started = Instant::now();
    let mut fleet = Fleet::new(settings).expect("settings in range");
    let mut batch = Batch::new();
    let (mut records, mut bytes) = (0_u64, 0_u64);
    assert!(fleet.fill(&mut batch), "a first batch");
    let (start_s, start_cpu_s, start_bytes) = (started.elapsed().as_secs_f64(), cpu_seconds(), batch.bytes());
    let running = Instant::now();
    while fleet.fill(&mut batch) {
        records += batch.len() as u64;
        bytes += batch.bytes() as u64;
    }
    let (wall_s, cpu_s) = (running.elapsed().as_secs_f64(), cpu_seconds() - start_cpu_s);
    let figures = serde_json::json!({
        "vehicles": vehicles,
        "steps": steps,
        "threads": threads,
        "start_seconds": start_s,
        "start_cpu_seconds": start_cpu_s,
        "first_batch_bytes": start_bytes,
        "records": records,
        "seconds": wall_s,
        "cpu_seconds": cpu_s,
        "records_per_core_second": (records as f64 / cpu_s).round(),
        "bytes_per_record": (bytes as f64 / records as f64).round(),
        "state_bytes_per_vehicle": Fleet::bytes_per_vehicle(),
        "peak_memory_mb": peak_bytes() >> 20,
        "peak_bytes_per_vehicle": peak_bytes() / vehicles,
    });
    println!("{figures}");
}

/// Processor time of this process, all threads, from /proc.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = stat.rsplit(')').next().expect("a name in brackets");
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|word| word.parse::<u64>().ok())
        .sum();
    ticks as f64 / 100.0
}

fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    line.split_whitespace()
        .nth(1)
        .and_then(|kilobytes| kilobytes.parse::<u64>().ok())
        .unwrap_or_default()
        * 1024
}
