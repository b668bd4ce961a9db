//! What a commit to a folder costs with and without syncs: encoding, upload and commit of batches, one after the other.
//!
//!     cargo run --release -p lake --example commit_speed -- FOLDER [ROWS_PER_COMMIT] [COMMITS]
//!
//! Rounds of both durabilities take turns, so that a disk that gets slower slows both. Prints for each round the wall time
//! and the processor time of a commit, and the part of the wall time that was spent in syncs; then the best round of each.
//! Processor time is what a busy machine leaves comparable.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

#[path = "../tests/lake/plain.rs"]
mod plain;
#[path = "../tests/lake/rows.rs"]
mod rows;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use lake::{Disk, DiskFile, Durability, Lake, LocalStore, Names, SystemDisk};
use model::event_time::DAY_US;
use model::{ManualClock, Span};
use url::Url;

const ROUNDS: u64 = 5;

/// The system's files, and how many syncs took how long.
#[derive(Debug, Clone, Default)]
struct TimedDisk {
    syncs: Arc<AtomicU64>,
    nanoseconds: Arc<AtomicU64>,
}

struct TimedFile(TimedDisk, Box<dyn DiskFile>);

impl TimedDisk {
    fn timed(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let started = Instant::now();
        let result = sync();
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let took = u64::try_from(started.elapsed().as_nanos()).unwrap();
        self.nanoseconds.fetch_add(took, Ordering::Relaxed);
        result
    }
}

impl Disk for TimedDisk {
    fn create(&self, path: &Path, mode: u32) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(TimedFile(self.clone(), SystemDisk.create(path, mode)?)))
    }

    fn create_folder(&self, path: &Path, mode: u32) -> io::Result<()> {
        SystemDisk.create_folder(path, mode)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.timed(|| SystemDisk.sync_folder(path))
    }
}

impl DiskFile for TimedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.1.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.timed(|| self.1.sync())
    }
}

#[derive(Debug, Clone, Copy)]
struct Cost {
    wall_ms: f64,
    cpu_ms: f64,
    sync_ms: f64,
    syncs: f64,
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = Path::new(arguments.first().expect("FOLDER"));
    let number = |at: usize, default: i64| arguments.get(at).map_or(default, |text| text.parse().unwrap());
    let (rows, commits) = (number(1, 100_000), number(2, 20));
    // On two days, so that each commit has two files.
    let batches: Vec<RecordBatch> = (0..commits)
        .map(|at| Span::new(at * rows, at * rows + rows))
        .map(|span| rows::batch(&rows::vehicle_data(), 0, span, rows::NOON_US, DAY_US / rows))
        .collect();
    let durabilities = [Durability::Os, Durability::Fsync];
    let mut costs: [Vec<Cost>; 2] = Default::default();
    for round in 0..ROUNDS {
        for (at, durability) in durabilities.into_iter().enumerate() {
            let lake = folder.join(format!("{durability}-{round}"));
            let cost = write(&lake, durability, &batches, rows).await;
            println!(
                "{durability:<5} {:>8.2} ms wall, {:>8.2} ms processor, {:>7.2} ms in {:.1} syncs",
                cost.wall_ms, cost.cpu_ms, cost.sync_ms, cost.syncs
            );
            costs[at].push(cost);
            std::fs::remove_dir_all(&lake).unwrap();
        }
    }
    let best = |at: usize, of: fn(&Cost) -> f64| costs[at].iter().map(of).fold(f64::MAX, f64::min);
    for (what, of) in [
        ("wall", (|cost| cost.wall_ms) as fn(&Cost) -> f64),
        ("processor", |cost| cost.cpu_ms),
    ] {
        let (os, fsync) = (best(0, of), best(1, of));
        println!(
            "best {what}: os {os:.2} ms, fsync {fsync:.2} ms a commit of {rows} rows; {:+.1} %",
            (fsync / os - 1.0) * 100.0
        );
    }
}

/// Processor time of the process.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
    // Hundredths of a second, as on every Linux in use.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// By commit.
async fn write(folder: &Path, durability: Durability, batches: &[RecordBatch], rows: i64) -> Cost {
    let disk = TimedDisk::default();
    LocalStore::create_root(folder, &disk, durability).unwrap();
    let store = LocalStore::new(folder, Arc::new(disk.clone()), durability).unwrap();
    let clock = Arc::new(ManualClock::new(rows::NOON_US));
    let lake = Lake::with_store(
        Arc::new(store),
        Url::parse("memory:///").unwrap(),
        clock,
        Names::seeded(1),
    );
    let table = lake.table(&rows::vehicle_data(), "bench").await.unwrap();
    let (started, cpu) = (Instant::now(), processor_time());
    disk.syncs.store(0, Ordering::Relaxed);
    disk.nanoseconds.store(0, Ordering::Relaxed);
    for (at, batch) in batches.iter().enumerate() {
        let from = at as i64 * rows;
        let mut writer = table.file_writer();
        writer.write(batch).unwrap();
        let staged = table.upload(writer.finish().unwrap()).await.unwrap();
        let spans = [(rows::partition(0), Span::new(from, from + rows))];
        table.commit(vec![staged], &spans).await.unwrap();
    }
    let commits = batches.len() as f64;
    Cost {
        wall_ms: started.elapsed().as_secs_f64() * 1e3 / commits,
        cpu_ms: (processor_time() - cpu).as_secs_f64() * 1e3 / commits,
        sync_ms: disk.nanoseconds.load(Ordering::Relaxed) as f64 / 1e6 / commits,
        syncs: disk.syncs.load(Ordering::Relaxed) as f64 / commits,
    }
}
