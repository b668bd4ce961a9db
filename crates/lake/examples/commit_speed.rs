//! What a commit to a folder costs with and without syncs: encoding, upload and commit of batches, one after the other.
//!
//!     cargo run --release -p lake --example commit_speed -- FOLDER [ROWS_PER_COMMIT] [COMMITS]
//!
//! Rounds of both durabilities take turns, so that a disk that gets slower slows both. Prints wall time by commit, the
//! best round of each, and their ratio.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

#[path = "../tests/lake/plain.rs"]
mod plain;
#[path = "../tests/lake/rows.rs"]
mod rows;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use lake::{Durability, Lake, Names};
use model::event_time::DAY_US;
use model::{ManualClock, Span};

const ROUNDS: u64 = 5;

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
    let mut best = [Duration::MAX; 2];
    for round in 0..ROUNDS {
        for (at, durability) in [Durability::Os, Durability::Fsync].into_iter().enumerate() {
            let lake = folder.join(format!("{durability}-{round}"));
            let took = write(&lake, durability, &batches, rows).await;
            best[at] = best[at].min(took);
            println!("{durability:<5} {:>8.2} ms a commit", per_commit(took, commits));
            std::fs::remove_dir_all(&lake).unwrap();
        }
    }
    println!(
        "best: os {:.2} ms, fsync {:.2} ms a commit of {rows} rows; {:+.1} %",
        per_commit(best[0], commits),
        per_commit(best[1], commits),
        (best[1].as_secs_f64() / best[0].as_secs_f64() - 1.0) * 100.0
    );
}

fn per_commit(took: Duration, commits: i64) -> f64 {
    took.as_secs_f64() * 1e3 / commits as f64
}

async fn write(folder: &Path, durability: Durability, batches: &[RecordBatch], rows: i64) -> Duration {
    let clock = Arc::new(ManualClock::new(rows::NOON_US));
    let location = folder.to_str().unwrap().parse().unwrap();
    let lake = Lake::at(&location, durability, [], clock, Names::seeded(1))
        .await
        .unwrap();
    let table = lake.table(&rows::vehicle_data(), "bench").await.unwrap();
    let started = Instant::now();
    for (at, batch) in batches.iter().enumerate() {
        let from = at as i64 * rows;
        let mut writer = table.file_writer();
        writer.write(batch).unwrap();
        let staged = table.upload(writer.finish().unwrap()).await.unwrap();
        let spans = [(rows::partition(0), Span::new(from, from + rows))];
        table.commit(vec![staged], &spans).await.unwrap();
    }
    started.elapsed()
}
