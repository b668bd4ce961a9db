//! How much memory a reader of a large table's log holds, and how long it takes.
//!
//!     cargo run --release -p lake --example snapshot_memory -- write DIR FILES
//!     cargo run --release -p lake --example snapshot_memory -- files DIR
//!     cargo run --release -p lake --example snapshot_memory -- checkpoint DIR
//!
//! A run each, because the peak of a process (VmHWM) would hold what the run before took. `write` makes a log of FILES
//! live files that do not exist, a thousand per commit.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use futures::TryStreamExt;
use lake::Snapshot;
use lake::delta::{TableLocation, write_checkpoint};
use object_store::local::LocalFileSystem;
use url::Url;

const FILES_PER_COMMIT: usize = 1000;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let started = Instant::now();
    std::fs::create_dir_all(&arguments[1]).unwrap();
    let folder = std::fs::canonicalize(&arguments[1]).unwrap();
    let path = object_store::path::Path::from_absolute_path(&folder).unwrap();
    let url = Url::from_directory_path(&folder).unwrap();
    let location = TableLocation::new(Arc::new(LocalFileSystem::new()), path, url);
    match arguments[0].as_str() {
        "write" => write(&folder, arguments[2].parse().unwrap()),
        "files" => {
            let snapshot = Snapshot::load(&location, None).await.unwrap();
            let loaded_s = started.elapsed().as_secs_f64();
            let (mut files, mut bytes) = (0_u64, 0);
            let mut adds = snapshot.files(|_| true);
            while let Some(add) = adds.try_next().await.unwrap() {
                files += 1;
                bytes += add.size;
            }
            println!(
                "version {}, {files} files, {bytes} bytes, loaded in {loaded_s:.3} s",
                snapshot.version()
            );
        }
        _ => {
            let snapshot = Snapshot::load(&location, None).await.unwrap();
            println!("{:?}", write_checkpoint(&snapshot, 0).await.unwrap());
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    println!("{:.2} s, {peak}", started.elapsed().as_secs_f64());
}

fn write(folder: &Path, files: usize) {
    let log = folder.join("_delta_log");
    std::fs::create_dir_all(&log).unwrap();
    let put = |version: usize, lines: String| std::fs::write(log.join(format!("{version:020}.json")), lines).unwrap();
    let schema = r#"{\"type\":\"struct\",\"fields\":[{\"name\":\"speed\",\"type\":\"double\",\"nullable\":true,\"metadata\":{}}]}"#;
    put(
        0,
        format!(
            "{}\n{{\"metaData\":{{\"id\":\"i\",\"format\":{{\"provider\":\"parquet\",\"options\":{{}}}},\"schemaString\":\"{schema}\",\
             \"partitionColumns\":[\"event_date\"],\"configuration\":{{}}}}}}\n",
            r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#
        ),
    );
    for commit in 0..files / FILES_PER_COMMIT {
        let mut lines = String::new();
        for file in commit * FILES_PER_COMMIT..(commit + 1) * FILES_PER_COMMIT {
            let day = 1 + file % 28;
            lines.push_str(&format!(
                "{{\"add\":{{\"path\":\"event_date=2026-01-{day:02}/part-00000-{file:08x}-6f64-4d1c-9c3e-0b4f7b1f{file:04x}.zstd.parquet\",\
                 \"partitionValues\":{{\"event_date\":\"2026-01-{day:02}\"}},\"size\":{},\"modificationTime\":1767225600000,\
                 \"dataChange\":true,\"stats\":\"{{\\\"numRecords\\\":{file},\\\"minValues\\\":{{\\\"speed\\\":0.{file}}},\
                 \\\"maxValues\\\":{{\\\"speed\\\":{file}.5}},\\\"nullCount\\\":{{\\\"speed\\\":0}}}}\",\
                 \"tags\":{{\"crc32c\":\"{file:08x}\"}}}}}}\n",
                1000 + file
            ));
        }
        put(commit + 1, lines);
    }
}
