//! A checkpoint of another writer has dropped recorded offsets (`delta.setTransactionRetentionDuration`): no partition is
//! read from its start again.

use std::path::PathBuf;

use arrow_array::{Array, BooleanArray};
use arrow_select::filter::filter_record_batch;
use lake::delta::write_checkpoint;
use lake::{LakeError, StartingOffset, Table};
use model::Span;
use serde_json::{Value, json};

use crate::rows::{NOON_US, partition, vehicle_data};
use crate::verify::{Planted, rewrite};

const TOPIC: &str = "vehicle_data";

fn at(partition: i32) -> StartingOffset {
    StartingOffset {
        partition,
        first: 1000,
        earliest: 0,
    }
}

async fn table(planted: &Planted, application: &str, seed: u64) -> Table {
    let lake = Planted::open(planted.folder.path(), seed);
    lake.table(&vehicle_data(), application).await.unwrap()
}

/// A table whose partition 0 has rows up to 5 and dead letters up to 8, whose partition 1 was started at offset 60 and is
/// quiet, and whose partition 2 has rows up to 30.
async fn planted() -> Planted {
    let planted = Planted::empty();
    let table = table(&planted, "ingest", 1).await;
    let starts = [0, 0, 20]
        .into_iter()
        .zip([0, 1, 2])
        .map(|(earliest, partition)| StartingOffset {
            partition,
            first: [0, 60, 20][partition as usize],
            earliest,
        });
    table
        .record_starts(TOPIC, "latest", &starts.collect::<Vec<_>>())
        .await
        .unwrap();
    planted.land(&table, 0, Span::new(0, 8), |offset| offset < 5).await;
    planted.land(&table, 2, Span::new(20, 30), |_| true).await;
    planted
}

/// As Spark: a checkpoint of the newest version without any transactions, and no commit before it.
async fn expire(planted: &Planted, of: &str, keep_commits: bool) {
    let snapshot = planted.lake.root().snapshot(of, None).await.unwrap();
    write_checkpoint(&snapshot, NOON_US / 1000).await.unwrap();
    let version = snapshot.version();
    let log: PathBuf = planted.folder.path().join(format!("data/{of}/_delta_log"));
    rewrite(&log.join(format!("{version:020}.checkpoint.parquet")), |batch| {
        let txns = &batch["txn"];
        let stays: BooleanArray = (0..batch.num_rows()).map(|row| Some(txns.is_null(row))).collect();
        filter_record_batch(&batch, &stays).unwrap()
    });
    for version in (0..version).filter(|_| !keep_commits) {
        std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    // The newest commit stays, as it does in every log, and the checkpoint holds what it said.
    let newest = planted.commit_file(of, version as u64);
    if !keep_commits {
        let text = std::fs::read_to_string(&newest).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with("{\"txn\""));
        std::fs::write(&newest, lines.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }
}

/// Sets a property by a commit of another program.
fn set_property(planted: &Planted, version: u64, name: &str, value: &str) {
    let mut metadata: Option<Value> = None;
    for earlier in 0..version {
        let found = planted
            .actions(earlier)
            .into_iter()
            .find(|action| action.get("metaData").is_some());
        metadata = found.or(metadata);
    }
    let mut metadata = metadata.unwrap();
    metadata["metaData"]["configuration"][name] = json!(value);
    planted.set_actions(version, &[metadata]);
}

async fn recovered(planted: &Planted, partitions: &[i32]) -> Result<Vec<Option<i64>>, LakeError> {
    let table = table(planted, "ingest", 2).await;
    for number in partitions {
        assert_eq!(table.recorded(&partition(*number)), None, "the offset was not dropped");
    }
    assert!(!table.has_starts(TOPIC, partitions.iter().copied()));
    let starts: Vec<_> = partitions.iter().map(|partition| at(*partition)).collect();
    table.record_starts(TOPIC, "latest", &starts).await?;
    Ok(partitions
        .iter()
        .map(|number| table.recorded(&partition(*number)))
        .collect())
}

#[tokio::test]
async fn offsets_are_recovered_from_the_commits_that_are_there() {
    let planted = planted().await;
    set_property(&planted, 4, "delta.setTransactionRetentionDuration", "interval 1 hour");
    expire(&planted, TOPIC, true).await;
    assert_eq!(
        recovered(&planted, &[0, 1, 2]).await.unwrap(),
        [Some(8), Some(60), Some(30)]
    );
    // What is read from then on is read once.
    let table = table(&planted, "ingest", 3).await;
    planted.land(&table, 0, Span::new(8, 12), |_| true).await;
    let report = planted.check(TOPIC).await;
    assert!(report.findings.told().is_empty(), "{:?}", report.findings.told());
}

#[tokio::test]
async fn offsets_are_recovered_from_the_table_of_commits() {
    let planted = planted().await;
    set_property(&planted, 4, "delta.setTransactionRetentionDuration", "interval 1 hour");
    planted.lake.record_commits(TOPIC, 4).await.unwrap();
    expire(&planted, TOPIC, false).await;
    assert_eq!(
        recovered(&planted, &[0, 1, 2]).await.unwrap(),
        [Some(8), Some(60), Some(30)]
    );
}

#[tokio::test]
async fn offsets_are_recovered_from_the_rows() {
    let planted = planted().await;
    expire(&planted, TOPIC, false).await;
    // Nothing tells of the dead letters behind the last row, nor of the quiet partition: `dead_letters` knows the first.
    assert_eq!(
        recovered(&planted, &[0, 2, 3]).await.unwrap(),
        [Some(5), Some(30), Some(0)]
    );
    let dead_letters = planted.lake.dead_letters([&vehicle_data()], "ingest").await.unwrap();
    let known = dead_letters.offsets_from(&partition(0), 5).await.unwrap();
    assert_eq!(known, [5, 6, 7].map(|offset| (offset, None)).into());
}

#[tokio::test]
async fn dead_letters_without_a_recorded_offset_are_found_by_their_rows() {
    let planted = planted().await;
    // The dead letters are one commit and its declaration.
    let version = planted
        .lake
        .root()
        .snapshot("dead_letters", None)
        .await
        .unwrap()
        .version();
    let metadata = std::fs::read_to_string(planted.commit_file("dead_letters", 0)).unwrap();
    let mut metadata: Value =
        serde_json::from_str(metadata.lines().find(|line| line.contains("metaData")).unwrap()).unwrap();
    metadata["metaData"]["configuration"]["delta.setTransactionRetentionDuration"] = json!("interval 1 hour");
    let next = planted.commit_file("dead_letters", version as u64 + 1);
    std::fs::write(next, format!("{metadata}\n")).unwrap();
    expire(&planted, "dead_letters", false).await;
    let dead_letters = planted.lake.dead_letters([&vehicle_data()], "ingest").await.unwrap();
    assert_eq!(dead_letters.recorded(&partition(0)), None);
    let known = dead_letters.offsets_from(&partition(0), 6).await.unwrap();
    assert_eq!(known, [6, 7].map(|offset| (offset, None)).into());
}

#[tokio::test]
async fn rows_that_may_be_another_applications_stop_the_writer() {
    let planted = planted().await;
    let other = table(&planted, "other", 4).await;
    other.record_starts(TOPIC, "earliest", &[at(0)]).await.unwrap();
    // For the other one it was the first start, and the rows are not its own.
    assert_eq!(other.recorded(&partition(0)), Some(1000));
    expire(&planted, TOPIC, false).await;
    let error = recovered(&planted, &[0]).await.unwrap_err();
    assert!(!error.is_retryable());
    let error = error.to_string();
    assert!(
        error.contains("vehicle_data[0] up to offset 4") && error.contains("`other`"),
        "{error}"
    );
}

#[tokio::test]
async fn what_a_writer_knows_stays_known_when_it_loads_a_checkpoint() {
    let planted = planted().await;
    let clock = std::sync::Arc::new(model::ManualClock::new(NOON_US));
    let url = url::Url::from_directory_path(planted.folder.path().canonicalize().unwrap()).unwrap();
    let store = std::sync::Arc::new(object_store::local::LocalFileSystem::new());
    let lake = lake::Lake::with_store(store, url, clock.clone(), lake::Names::seeded(9));
    let running = lake.table(&vehicle_data(), "ingest").await.unwrap();
    // Another writer goes on meanwhile, and the log is cleaned up behind it.
    let other = table(&planted, "ingest", 5).await;
    planted.land(&other, 0, Span::new(8, 9), |_| true).await;
    planted.land(&other, 0, Span::new(9, 10), |_| true).await;
    expire(&planted, TOPIC, false).await;
    clock.advance(86_400_000_000 * 31);
    running.refresh().await.unwrap();
    assert_eq!(running.recorded(&partition(2)), Some(30));
}

#[tokio::test]
async fn the_table_of_commits_recovers_its_own_offset() {
    let planted = planted().await;
    planted.lake.record_commits(TOPIC, 1).await.unwrap();
    expire(&planted, "commits", false).await;
    planted.lake.record_commits(TOPIC, 3).await.unwrap();
    let report = planted.check(TOPIC).await;
    assert!(report.findings.told().is_empty(), "{:?}", report.findings.told());
}
