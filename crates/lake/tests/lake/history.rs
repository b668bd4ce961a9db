//! What a table's history tells of each version, ours and other writers'.

use std::path::Path;
use std::sync::Arc;

use lake::delta::history;
use lake::{Lake, LakeError, Names};
use model::{ManualClock, Span};
use serde_json::{Value, json};

use crate::rows::{NOON_US, land, vehicle_data};

async fn filled(folder: &Path) -> Lake {
    let clock = Arc::new(ManualClock::new(NOON_US));
    let lake = Lake::open(folder.to_str().unwrap(), clock, Names::seeded(1))
        .await
        .unwrap();
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    for commit in 0..3 {
        land(&table, 0, Span::new(commit * 10, commit * 10 + 10)).await.unwrap();
    }
    lake
}

fn commit(folder: &Path, version: u64) -> std::path::PathBuf {
    folder.join(format!("data/vehicle_data/_delta_log/{version:020}.json"))
}

#[tokio::test]
async fn each_version_tells_its_rows_and_what_made_it() {
    let folder = tempfile::tempdir().unwrap();
    let lake = filled(folder.path()).await;
    let location = lake.root().location_of("vehicle_data");
    let all = history(&location, 100).await.unwrap();
    let of = |entry: &lake::delta::HistoryEntry| (entry.version, entry.rows, entry.rows_added, entry.rows_removed);
    assert_eq!(
        all.iter().map(of).collect::<Vec<_>>(),
        [
            (3, Some(30), Some(10), Some(0)),
            (2, Some(20), Some(10), Some(0)),
            (1, Some(10), Some(10), Some(0)),
            (0, Some(0), Some(0), Some(0))
        ]
    );
    assert_eq!(all[0].operation.as_deref(), Some("STREAMING UPDATE"));
    assert!(all[0].engine.as_deref().unwrap().starts_with("smartcity/"));
    assert!(
        all.windows(2)
            .all(|pair| pair[0].committed_at_us >= pair[1].committed_at_us)
    );
    let newest = history(&location, 2).await.unwrap();
    assert_eq!(newest, all[..2]);
    let none = history(&lake.root().location_of("nothing"), 2).await.unwrap_err();
    assert!(matches!(none, LakeError::NoTable { .. }), "{none}");
}

/// Another writer may leave out how many rows a file has, when it adds one and when it removes one.
#[tokio::test]
async fn what_a_commit_does_not_say_is_counted_or_left_open() {
    let folder = tempfile::tempdir().unwrap();
    let lake = filled(folder.path()).await;
    let location = lake.root().location_of("vehicle_data");
    let lines = |version| -> Vec<Value> {
        let text = std::fs::read_to_string(commit(folder.path(), version)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let first = lines(1).into_iter().find(|action| action.get("add").is_some()).unwrap()["add"].clone();
    let removed = json!({"remove": {"path": first["path"], "deletionTimestamp": 0, "dataChange": true}});
    std::fs::write(commit(folder.path(), 4), format!("{removed}\n")).unwrap();
    let entries = history(&location, 100).await.unwrap();
    let rows: Vec<_> = entries.iter().map(|entry| (entry.rows, entry.rows_removed)).collect();
    assert_eq!(rows[..2], [(Some(20), None), (Some(30), Some(0))]);
    assert_eq!(entries[0].operation, None);

    let mut added = first;
    added["path"] = json!("more.parquet");
    added.as_object_mut().unwrap().remove("stats");
    std::fs::write(commit(folder.path(), 5), format!("{}\n", json!({"add": added}))).unwrap();
    let entries = history(&location, 100).await.unwrap();
    let rows: Vec<_> = entries.iter().map(|entry| entry.rows).collect();
    assert_eq!(rows[..4], [None, Some(20), Some(30), Some(20)]);

    std::fs::write(commit(folder.path(), 6), "{").unwrap();
    let error = history(&location, 100).await.unwrap_err().to_string();
    assert!(error.contains("version 6 is damaged"), "{error}");
}
