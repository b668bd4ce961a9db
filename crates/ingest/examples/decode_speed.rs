//! Records per second of the decoder on one core, for records like the simulator's `vehicle_data`.
//!
//!     cargo run --release -p ingest --example decode_speed

#![allow(clippy::unwrap_used, reason = "a measurement that cannot run should stop")]

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::Instant;

use ingest::decode::{DecodeLimits, Decoder};
use model::{Chunk, ChunkBuilder, Stream, TopicPartition};

const RECORDS: usize = 100_000;
const CHUNK: usize = 2_000;
const ROUNDS: usize = 15;
/// Rows of a batch before it is taken.
const BATCH: usize = 50_000;

fn main() {
    let stream = Stream::parse("vehicle_data.toml", include_str!("../../../streams/vehicle_data.toml")).unwrap();
    let plain = |n| vehicle(n, "", false);
    println!("one record, {} bytes: {}", plain(7).len(), plain(7));
    println!("CPU time of this thread, best of {ROUNDS} rounds of {RECORDS} records, batches of {BATCH} rows taken");
    let general = DecodeLimits {
        shapes_max: 0,
        ..DecodeLimits::default()
    };
    let planned = DecodeLimits::default();
    let extra = |n: usize| vehicle(n, r#", "mileage": 17342, "tyres": [2.1, 2.2, 2.1, 2.0]"#, false);
    let spaced = |n: usize| vehicle(n, "", true);
    let two = |n: usize| vehicle(n, "", n.is_multiple_of(2));
    let accents = |n: usize| plain(n).replace("Hybrid", "Hybridé");
    let escapes = |n: usize| plain(n).replace("Hybrid", "Hybrid\\u00e9");
    let broken = |n: usize| {
        if n.is_multiple_of(100) {
            plain(n)[..200].to_owned()
        } else {
            plain(n)
        }
    };
    let all_broken = |n: usize| plain(n)[..200].to_owned();
    measure("general", &stream, general, &plain);
    measure("planned", &stream, planned, &plain);
    measure("planned, other spacing", &stream, planned, &spaced);
    measure("planned, two shapes by turns", &stream, planned, &two);
    measure("planned, two undeclared fields", &stream, planned, &extra);
    measure("general, two undeclared fields", &stream, general, &extra);
    measure("planned, text beyond ASCII", &stream, planned, &accents);
    measure("planned, an escape", &stream, planned, &escapes);
    measure("planned, 1 in 100 cut off", &stream, planned, &broken);
    measure("planned, all cut off", &stream, planned, &all_broken);
}

fn measure(name: &str, stream: &Stream, limits: DecodeLimits, record: &dyn Fn(usize) -> String) {
    let chunks: Vec<Chunk> = (0..RECORDS).step_by(CHUNK).map(|first| chunk(first, record)).collect();
    let none = BTreeSet::new();
    let mut decoder = Decoder::with_limits(stream, limits);
    let mut best = f64::INFINITY;
    let (mut rows, mut by_shape) = (0, 0);
    for _ in 0..ROUNDS {
        (rows, by_shape) = (0, 0);
        let clock = CpuClock::start();
        for chunk in &chunks {
            let mut letters = Vec::new();
            let counts = decoder.decode(chunk, &none, 0, &mut letters);
            rows += counts.rows;
            by_shape += counts.by_shape;
            if decoder.rows() >= BATCH {
                black_box(decoder.take());
            }
            black_box(letters);
        }
        black_box(decoder.take());
        best = best.min(clock.seconds());
    }
    let per_second = RECORDS as f64 / best / 1e6;
    println!("{name:32} {per_second:6.2} M records/s   rows {rows}, by shape {by_shape}");
}

fn chunk(first: usize, record: &dyn Fn(usize) -> String) -> Chunk {
    let mut builder = ChunkBuilder::new(TopicPartition::new("vehicle_data", 0), first as i64);
    for n in first..first + CHUNK {
        let value = record(n);
        builder.push(
            n as i64,
            1_767_225_600_000,
            Some(b"Vehicle-Adam0731"),
            Some(value.as_bytes()),
            [],
        );
    }
    builder.finish((first + CHUNK) as i64)
}

/// A message as Python's json module writes it.
fn vehicle(n: usize, more: &str, compact: bool) -> String {
    let mut state = n as u64 + 1;
    let mut uniform = |from: f64, to: f64| {
        // splitmix64
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        from + (to - from) * ((bits ^ bits >> 31) >> 11) as f64 / (1_u64 << 53) as f64
    };
    let id = (uniform(0.0, 1e9) as u64) << 32 | uniform(0.0, 1e9) as u64;
    let (lat, lon, speed) = (uniform(51.5, 52.5), uniform(-1.9, -0.1), uniform(10.0, 40.0));
    let time = format!(
        "2026-01-{:02}T{:02}:{:02}:{:02}",
        1 + n / 86_400 % 28,
        n / 3600 % 24,
        n / 60 % 60,
        n % 60
    );
    let text = format!(
        r#"{{"id": "{:08x}-0000-4000-8000-{:012x}", "device_id": "Vehicle-Adam0731", "timestamp": "{time}", "location": [{lat}, {lon}], "speed": {speed}, "direction": "North-East", "make": "BMW", "model": "C500", "year": 2024, "fuel_type": "Hybrid"{more}}}"#,
        id >> 48,
        id & 0xFFFF_FFFF_FFFF,
    );
    if compact {
        text.replace(": ", ":").replace(", ", ",")
    } else {
        text
    }
}

/// CPU time of this thread where the system tells it, else time on the wall.
struct CpuClock {
    start: Instant,
    cpu_ns: Option<u64>,
}

impl CpuClock {
    fn start() -> Self {
        Self {
            start: Instant::now(),
            cpu_ns: thread_cpu_ns(),
        }
    }

    fn seconds(&self) -> f64 {
        match (self.cpu_ns, thread_cpu_ns()) {
            (Some(from), Some(to)) if to > from => (to - from) as f64 / 1e9,
            _ => self.start.elapsed().as_secs_f64(),
        }
    }
}

fn thread_cpu_ns() -> Option<u64> {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}
