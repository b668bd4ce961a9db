//! Records per second of the decoder on one core, for records like the simulator's `vehicle_data`.
//!
//!     cargo run --release -p codec --example decode_speed

#![allow(clippy::unwrap_used, reason = "a measurement that cannot run should stop")]

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::Instant;

use codec::{DecodeLimits, Decoder};
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
    let all_broken = |n: usize| plain(n)[..200].to_owned();
    measure("general", &stream, general, &plain);
    measure("planned", &stream, planned, &plain);
    measure("planned, other spacing", &stream, planned, &spaced);
    measure("planned, two shapes by turns", &stream, planned, &two);
    measure("planned, two undeclared fields", &stream, planned, &extra);
    measure("general, two undeclared fields", &stream, general, &extra);
    measure("planned, text beyond ASCII", &stream, planned, &accents);
    measure("planned, an escape", &stream, planned, &escapes);
    measure("planned, all cut off", &stream, planned, &all_broken);
    println!("1 record in 100 broken, rows and letters beside the clean run's, measured by turns:");
    for (name, broken) in BROKEN {
        compare(name, &stream, &|n| broken(&plain(n)));
    }
    compare("each kind by turns", &stream, &|n| {
        BROKEN[n / 100 % BROKEN.len()].1(&plain(n))
    });
    let junk: Vec<u8> = (0..1_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let megabytes: Vec<Chunk> = (0..20).map(|n| chunk(n, 1, &|_| Some(junk.clone()))).collect();
    let mut run = Run::new(&stream, planned, megabytes);
    for _ in 0..ROUNDS {
        run.round();
    }
    println!("{:32} {:6.1} us each", "1 MB of junk", run.best / 20.0 * 1e6);
}

/// A bad record made of a good one; `None` is a null value.
type Break = fn(&str) -> Option<Vec<u8>>;

const BROKEN: [(&str, Break); 10] = [
    ("not JSON", |_| Some(b"not json".to_vec())),
    ("cut off", |good| Some(good[..200].into())),
    ("a wrong type", |good| Some(good.replace("2024", "\"2024\"").into())),
    ("no id", |good| Some(good.replacen("\"id\"", "\"di\"", 1).into())),
    ("latitude 91", |good| Some(good.replacen("[5", "[9", 1).into())),
    ("empty", |_| Some(Vec::new())),
    ("null value", |_| None),
    ("invalid UTF-8", |good| {
        Some([&good.as_bytes()[..150], b"\xff", &good.as_bytes()[150..]].concat())
    }),
    ("nested 200 deep", |good| nested(good, 200)),
    ("nested 10,000 deep", |good| nested(good, 10_000)),
];

fn nested(good: &str, levels: usize) -> Option<Vec<u8>> {
    let deep = format!("{}{}}}", "[".repeat(levels), "]".repeat(levels));
    Some(format!("{}, \"x\": {deep}", good.trim_end_matches('}')).into())
}

fn measure(name: &str, stream: &Stream, limits: DecodeLimits, record: &dyn Fn(usize) -> String) {
    let mut run = Run::new(stream, limits, chunks(&|n| Some(record(n).into_bytes())));
    for _ in 0..ROUNDS {
        run.round();
    }
    let (per_second, rows, by_shape) = (RECORDS as f64 / run.best / 1e6, run.rows, run.by_shape);
    println!("{name:32} {per_second:6.2} M records/s   rows {rows}, by shape {by_shape}");
}

/// Measures by turns, so that whatever else the machine does slows both down alike.
fn compare(name: &str, stream: &Stream, broken: &dyn Fn(usize) -> Option<Vec<u8>>) {
    let clean = chunks(&|n| Some(vehicle(n, "", false).into_bytes()));
    let mixed = chunks(&|n| match n % 100 {
        50 => broken(n),
        _ => Some(vehicle(n, "", false).into_bytes()),
    });
    let mut clean = Run::new(stream, DecodeLimits::default(), clean);
    let mut mixed = Run::new(stream, DecodeLimits::default(), mixed);
    for _ in 0..ROUNDS {
        clean.round();
        mixed.round();
    }
    assert_eq!((clean.rows, mixed.rows), (RECORDS, RECORDS / 100 * 99));
    let per_second = RECORDS as f64 / mixed.best / 1e6;
    let ratio = clean.best / mixed.best;
    let each_us = (mixed.best - clean.best * 0.99) / (RECORDS / 100) as f64 * 1e6;
    println!("{name:32} {per_second:6.2} M records/s   {ratio:4.2} of the clean speed, {each_us:5.1} us each");
}

/// The same chunks decoded again and again.
struct Run {
    chunks: Vec<Chunk>,
    decoder: Decoder,
    /// Seconds of the fastest round.
    best: f64,
    rows: usize,
    by_shape: usize,
}

impl Run {
    fn new(stream: &Stream, limits: DecodeLimits, chunks: Vec<Chunk>) -> Self {
        Self {
            chunks,
            decoder: Decoder::with_limits(stream, limits),
            best: f64::INFINITY,
            rows: 0,
            by_shape: 0,
        }
    }

    fn round(&mut self) {
        let none = BTreeSet::new();
        (self.rows, self.by_shape) = (0, 0);
        let clock = CpuClock::start();
        for chunk in &self.chunks {
            let mut letters = Vec::new();
            let counts = self.decoder.decode(chunk, &none, 0, &mut letters);
            self.rows += counts.rows;
            self.by_shape += counts.by_shape;
            if self.decoder.rows() >= BATCH {
                black_box(self.decoder.take());
            }
            black_box(letters);
        }
        black_box(self.decoder.take());
        self.best = self.best.min(clock.seconds());
    }
}

fn chunks(record: &dyn Fn(usize) -> Option<Vec<u8>>) -> Vec<Chunk> {
    let firsts = (0..RECORDS).step_by(CHUNK);
    firsts.map(|first| chunk(first, CHUNK, record)).collect()
}

fn chunk(first: usize, records: usize, record: &dyn Fn(usize) -> Option<Vec<u8>>) -> Chunk {
    let mut builder = ChunkBuilder::new(TopicPartition::new("vehicle_data", 0), first as i64);
    for n in first..first + records {
        let value = record(n);
        builder.push(
            n as i64,
            1_767_225_600_000,
            Some(b"Vehicle-Adam0731"),
            value.as_deref(),
            [],
        );
    }
    builder.finish((first + records) as i64)
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
