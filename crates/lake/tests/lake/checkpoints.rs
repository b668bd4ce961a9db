//! Checkpoints go both ways: other people's readers take ours, and ours takes theirs. And a large one.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use futures::TryStreamExt;
use lake::delta::write_checkpoint;
use lake::{Lake, Names, Root};
use model::{ManualClock, Span};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value, json};

use crate::readers::python;
use crate::rows::{NOON_US, lake_on, land, vehicle_data};

fn run(python: &str, what: &str, path: &Path) -> Value {
    let script = include_str!("checkpoints.py");
    let output = Command::new(python)
        .args(["-c", script, what])
        .arg(path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn other_readers_take_our_checkpoint() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(NOON_US));
    let lake = Lake::open(folder.path().to_str().unwrap(), clock, Names::seeded(1))
        .await
        .unwrap();
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    for from in (0..50).step_by(10) {
        land(&table, 0, Span::new(from, from + 10)).await.unwrap();
    }
    // A tombstone among the files.
    let files = table.files_with("speed").await.unwrap();
    let mut rows = Vec::new();
    table
        .read(&files[0], |batch| {
            rows.push(batch);
            Ok(())
        })
        .await
        .unwrap();
    let mut writer = table.file_writer();
    rows.iter().for_each(|batch| writer.write(batch).unwrap());
    let by = table.upload(writer.finish().unwrap()).await.unwrap();
    table
        .replace(&files[0], &by, table.version(), "TEST")
        .await
        .unwrap()
        .unwrap();
    let snapshot = lake.root().snapshot("vehicle_data", None).await.unwrap();
    let written = write_checkpoint(&snapshot, NOON_US / 1000).await.unwrap();
    assert_eq!(
        (written.version, written.num_of_add_files, written.size),
        (6, Some(5), 3 + 5 + 1)
    );
    // As after a clean-up.
    let path = folder.path().join("data/vehicle_data");
    for version in 0..6 {
        std::fs::remove_file(path.join(format!("_delta_log/{version:020}.json"))).unwrap();
    }
    let seen = run(&python, "read", &path);
    let sums = json!([50, (0..50).sum::<i64>()]);
    for reader in ["deltalake", "polars", "duckdb"] {
        assert_eq!(seen[reader], sums, "{reader}");
    }
    assert_eq!((&seen["version"], &seen["txn"]), (&json!(6), &json!(50)));
    let mut columns: Vec<_> = snapshot
        .schema()
        .fields
        .iter()
        .map(|field| field.name.clone())
        .collect();
    columns.sort_unstable();
    assert_eq!(seen["columns"], json!(columns));
}

#[tokio::test]
async fn we_take_deltalakes_checkpoint() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/theirs");
    std::fs::create_dir_all(&path).unwrap();
    let wrote = run(&python, "write", &path);
    let root = Root::open(folder.path().to_str().unwrap(), []).unwrap();
    let newest = wrote["version"].as_i64().unwrap();
    for cleaned in [false, true] {
        if cleaned {
            for version in 0..newest - 1 {
                std::fs::remove_file(path.join(format!("_delta_log/{version:020}.json"))).unwrap();
            }
        }
        let snapshot = root.snapshot("theirs", None).await.unwrap();
        assert_eq!(snapshot.version(), newest);
        assert_eq!(snapshot.partition_columns(), ["day", "name"]);
        let adds: Vec<_> = snapshot.files(|_| true).try_collect().await.unwrap();
        let named: BTreeSet<_> = adds.iter().map(|add| add.path.as_str()).collect();
        assert_eq!(named.len(), wrote["files"].as_array().unwrap().len());
        for add in &adds {
            let path = snapshot.location().data_path(&add.path).unwrap();
            let found = root
                .store()
                .head(&path)
                .await
                .unwrap_or_else(|error| panic!("{}: {error}", add.path));
            assert_eq!(found.size as i64, add.size);
        }
        let bytes: i64 = adds.iter().map(|add| add.size).sum();
        let rows: u64 = adds
            .iter()
            .map(|add| {
                serde_json::from_str::<Value>(add.stats.as_deref().unwrap()).unwrap()["numRecords"]
                    .as_u64()
                    .unwrap()
            })
            .sum();
        assert_eq!(
            (json!(bytes), json!(rows)),
            (wrote["bytes"].clone(), wrote["rows"].clone())
        );
        let days: BTreeSet<_> = adds
            .iter()
            .map(|add| add.partition_values["day"].clone().unwrap())
            .collect();
        assert_eq!(json!(days), wrote["days"]);
        let names: BTreeSet<_> = adds.iter().map(|add| add.partition_values["name"].clone()).collect();
        assert!(
            names.contains(&None) && names.contains(&Some("c/d".to_owned())),
            "{names:?}"
        );
    }
}

/// Memory: `examples/snapshot_memory.rs` measures it; here only that a large log is never given in large pieces.
#[tokio::test]
async fn a_hundred_thousand_files_pass_by_in_pieces() {
    const FILES: usize = 100_000;
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let lake = lake_on(store.clone(), 1);
    lake.table(&vehicle_data(), "ingest").await.unwrap();
    let location = lake.root().location_of("vehicle_data");
    for commit in 0..FILES / 1000 {
        let add = |file: usize| {
            format!(
                r#"{{"add":{{"path":"f{file}","partitionValues":{{"event_date":"2026-01-01"}},"size":{file},"modificationTime":1,"dataChange":true,"stats":"{{\"numRecords\":1}}"}}}}"#
            )
        };
        let lines: Vec<String> = (commit * 1000..(commit + 1) * 1000).map(add).collect();
        store
            .put(&location.commit_path(commit as i64 + 1), lines.join("\n").into())
            .await
            .unwrap();
    }
    let snapshot = lake.root().snapshot("vehicle_data", None).await.unwrap();
    let written = write_checkpoint(&snapshot, 0).await.unwrap();
    assert_eq!(written.num_of_add_files, Some(FILES as i64));
    let snapshot = lake.root().snapshot("vehicle_data", None).await.unwrap();
    let sizes: Vec<usize> = snapshot
        .file_batches()
        .map_ok(|batch| batch.len())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(sizes.iter().sum::<usize>(), FILES);
    assert!(sizes.iter().all(|size| *size <= 1024), "{:?}", sizes.iter().max());
    let some: Vec<_> = snapshot
        .files(|add| add.size % 10_000 == 7)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(some.len(), FILES / 10_000);
}
