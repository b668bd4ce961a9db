//! Where partitions start: recorded once whoever races, and a check that finds what was skipped after that.

use std::sync::Arc;

use lake::verify::Severity;
use lake::{StartingOffset, Table};
use model::Span;
use object_store::memory::InMemory;
use serde_json::{Value, json};

use crate::rows::{lake_on, partition, vehicle_data};
use crate::verify::{Planted, kinds};

const TOPIC: &str = "vehicle_data";

/// Where `latest` would start, and what Kafka still holds.
fn at(partition: i32, first: i64, earliest: i64) -> StartingOffset {
    StartingOffset {
        partition,
        first,
        earliest,
    }
}

async fn table(planted: &Planted, seed: u64) -> Table {
    let lake = Planted::open(planted.folder.path(), seed);
    lake.table(&vehicle_data(), "ingest").await.unwrap()
}

async fn record(table: &Table, partitions: &[StartingOffset]) {
    table.refresh().await.unwrap();
    table.record_starts(TOPIC, "latest", partitions).await.unwrap();
}

fn recorded(table: &Table, partitions: std::ops::Range<i32>) -> Vec<Option<i64>> {
    partitions.map(|number| table.recorded(&partition(number))).collect()
}

/// Changes the actions of the newest version.
async fn edit(planted: &Planted, mut change: impl FnMut(&mut Value)) {
    let newest = table(planted, 90).await.version() as u64;
    let mut actions = planted.actions(newest);
    actions.iter_mut().for_each(&mut change);
    planted.set_actions(newest, &actions);
}

async fn starts_and_ends(planted: &Planted) -> Vec<(i64, i64)> {
    let report = planted.check(TOPIC).await;
    assert!(report.findings.told().is_empty(), "{:?}", report.findings.told());
    let partitions = report.partitions.iter();
    partitions
        .map(|partition| (partition.start, partition.recorded))
        .collect()
}

#[tokio::test]
async fn starts_are_decided_once() {
    let planted = Planted::empty();
    let (one, other) = (table(&planted, 1).await, table(&planted, 2).await);
    assert!(!one.has_starts(TOPIC, [0, 1]));
    record(&one, &[at(0, 5, 0), at(1, 7, 0)]).await;
    // It has not seen that, and by now there is more in the topic.
    let late = [at(0, 6, 0), at(1, 9, 0)];
    other.record_starts(TOPIC, "latest", &late).await.unwrap();
    assert_eq!(recorded(&other, 0..2), [Some(5), Some(7)]);
    assert!(other.has_starts(TOPIC, [0, 1]) && !other.has_starts(TOPIC, [0, 1, 2]) && !other.has_starts("other", []));
    let version = other.version();
    record(&other, &late).await;
    assert_eq!(other.version(), version);
    // Whatever the settings say, a partition that comes later is read from its beginning.
    record(&other, &[at(1, 9, 0), at(2, 30, 10)]).await;
    assert_eq!(recorded(&other, 0..3), [Some(5), Some(7), Some(0)]);

    planted.land(&other, 0, Span::new(5, 20), |_| true).await;
    planted.land(&other, 2, Span::new(0, 10), |_| true).await;
    assert_eq!(starts_and_ends(&planted).await, [(5, 20), (7, 7), (0, 10)]);
}

#[tokio::test]
async fn of_many_writers_one_decides() {
    let store = Arc::new(InMemory::new());
    let mut tables = Vec::new();
    for seed in 0..8 {
        let lake = lake_on(store.clone(), seed);
        tables.push(lake.table(&vehicle_data(), "ingest").await.unwrap());
    }
    let proposals: Vec<_> = (0..8).map(|first| [at(0, first, 0), at(1, first + 100, 0)]).collect();
    let all = tables.iter().zip(&proposals);
    let all = all.map(|(table, proposed)| table.record_starts(TOPIC, "latest", proposed));
    futures::future::try_join_all(all).await.unwrap();
    let first = recorded(&tables[0], 0..2);
    assert_eq!(first[0].map(|offset| offset + 100), first[1]);
    for table in &tables {
        table.refresh().await.unwrap();
        assert_eq!(recorded(table, 0..2), first);
        assert_eq!(table.version(), 1);
    }
}

#[tokio::test]
async fn a_table_of_an_earlier_release_skips_nothing() {
    let planted = Planted::empty();
    let table = table(&planted, 1).await;
    planted.land(&table, 0, Span::new(3, 10), |_| true).await;
    // What came to partition 1 while nobody read it cannot be told from what was there before.
    record(&table, &[at(0, 90, 2), at(1, 50, 20)]).await;
    assert_eq!(recorded(&table, 0..2), [Some(10), Some(20)]);
    assert!(table.has_starts(TOPIC, [0, 1]));
    planted.land(&table, 0, Span::new(10, 12), |_| true).await;
    planted.land(&table, 1, Span::new(20, 30), |_| true).await;
    record(&table, &[at(2, 50, 20)]).await;
    assert_eq!(starts_and_ends(&planted).await, [(3, 12), (20, 30), (0, 0)]);
}

#[tokio::test]
async fn records_missing_at_the_start_are_found() {
    let planted = Planted::empty();
    let table = table(&planted, 1).await;
    record(&table, &[at(0, 5, 0), at(1, 0, 0)]).await;
    planted.land(&table, 0, Span::new(5, 20), |_| true).await;
    assert_eq!(starts_and_ends(&planted).await, [(5, 20), (0, 0)]);
    // A commit that agrees with its rows, and starts at 8.
    planted.rewrite_without(table.version() as u64, |offset| offset < 8);
    edit(&planted, |action| {
        if let Some(info) = action.get_mut("commitInfo") {
            info["spans"][0]["from"] = json!(8);
            info["records"] = json!(12);
        }
    })
    .await;
    assert_eq!(planted.kinds().await, kinds(["broken_chain", "unexplained"]));
    let report = planted.check(TOPIC).await;
    assert_eq!(report.findings.worst(), Some(Severity::Fault));
    assert_eq!(report.partitions[0].start, 5);
}

#[tokio::test]
async fn a_new_partition_that_starts_above_0_is_found() {
    // By its first rows, and by a start that is recorded wrongly.
    for records_start in [false, true] {
        let planted = Planted::empty();
        let table = table(&planted, 1).await;
        record(&table, &[at(0, 5, 0), at(1, 9, 0)]).await;
        if records_start {
            record(&table, &[at(2, 7, 0)]).await;
            edit(&planted, |action| {
                if let Some(info) = action.get_mut("commitInfo") {
                    info["spans"][0]["from"] = json!(7);
                    info["spans"][0]["to"] = json!(7);
                } else if let Some(txn) = action.get_mut("txn") {
                    txn["version"] = json!(7);
                }
            })
            .await;
        }
        let table = self::table(&planted, 2).await;
        planted.land(&table, 2, Span::new(7, 20), |_| true).await;
        assert_eq!(planted.kinds().await, kinds(["broken_chain", "unexplained"]));
        let report = planted.check(TOPIC).await;
        assert!(!report.findings.passes(), "{:?}", report.findings.told());
        assert_eq!(report.partitions[2].unexplained, 7);
    }
}

#[tokio::test]
async fn a_new_partition_that_starts_behind_a_gap_is_clean() {
    let planted = Planted::empty();
    let table = table(&planted, 1).await;
    record(&table, &[at(0, 5, 0)]).await;
    record(&table, &[at(1, 7, 7)]).await;
    let gaps = planted.lake.gaps("ingest").await.unwrap();
    let missing = Span::new(0, 7);
    gaps.record(&partition(1), missing, "retention").await.unwrap();
    let spans = [(partition(1), missing)];
    table.commit_counted(Vec::new(), &spans, Some(0), None).await.unwrap();
    planted.land(&table, 1, Span::new(7, 20), |_| true).await;
    assert_eq!(starts_and_ends(&planted).await, [(5, 5), (0, 20)]);
}
