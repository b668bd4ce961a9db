//! Tables that several topics fill: each row is of its own topic, and where nobody can tell nothing passes for checked.

use std::collections::BTreeSet;

use lake::verify::{Finding, Severity};
use lake::{LakeError, Table};
use model::{RecordId, Span, TopicPartition};

use crate::rows::{row, vehicle_data};
use crate::verify::{Planted, kinds};

/// Commits rows of these offsets; `names` is whether they name their topic.
async fn land(table: &Table, topic: &str, number: i32, span: Span, names: bool, keeps: fn(i64) -> bool) {
    let mut writer = table.file_writer();
    for offset in (span.from..span.to).filter(|offset| keeps(*offset)) {
        writer
            .write(&row(names.then_some(topic), number, offset, None))
            .unwrap();
    }
    let staged = table.upload(writer.finish().unwrap()).await.unwrap();
    let records = (span.to - span.from) as u64;
    table
        .commit_counted(
            vec![staged],
            &[(TopicPartition::new(topic, number), span)],
            Some(records),
            None,
        )
        .await
        .unwrap();
}

async fn table(planted: &Planted) -> Table {
    planted.lake.table(&vehicle_data(), "ingest").await.unwrap()
}

fn id(topic: &str, number: i32, offset: i64) -> RecordId {
    RecordId::new(TopicPartition::new(topic, number), offset, None)
}

#[tokio::test]
async fn each_topic_of_a_table_is_checked_by_itself() {
    let planted = Planted::empty();
    let table = table(&planted).await;
    for (topic, to) in [("old", 50), ("new", 30)] {
        for number in 0..2 {
            land(&table, topic, number, Span::new(0, to), true, |_| true).await;
        }
    }
    let report = planted.check("vehicle_data").await;
    assert!(report.findings.told().is_empty(), "{:?}", report.findings.told());
    let figures: Vec<_> = report
        .partitions
        .iter()
        .map(|partition| {
            (
                partition.topic.as_str(),
                partition.partition,
                partition.recorded,
                partition.rows,
            )
        })
        .collect();
    assert_eq!(
        figures,
        [
            ("new", 0, 30, 30),
            ("new", 1, 30, 30),
            ("old", 0, 50, 50),
            ("old", 1, 50, 50)
        ]
    );

    // A row that is lost from one is not made up for by the other's at the same offset.
    land(&table, "new", 0, Span::new(30, 50), true, |offset| offset != 42).await;
    assert_eq!(planted.kinds().await, kinds(["commit_short", "lost"]));
    let report = planted.check("vehicle_data").await;
    let lost: Vec<String> = report.findings.told().iter().map(ToString::to_string).collect();
    assert!(
        lost.iter().any(|finding| finding.starts_with("new[0] offset 42: ")),
        "{lost:?}"
    );
}

#[tokio::test]
async fn a_record_is_present_by_its_topic() {
    let planted = Planted::empty();
    let table = table(&planted).await;
    land(&table, "old", 0, Span::new(0, 5), true, |_| true).await;
    land(&table, "new", 0, Span::new(0, 4), true, |offset| offset != 2).await;
    table.refresh().await.unwrap();
    let asked = BTreeSet::from([id("new", 0, 2), id("old", 0, 2), id("new", 0, 3), id("old", 1, 2)]);
    let present = table.present(&asked).await.unwrap();
    assert_eq!(present, BTreeSet::from([id("old", 0, 2), id("new", 0, 3)]));
}

#[tokio::test]
async fn older_rows_are_of_the_only_topic_that_is_recorded() {
    let planted = Planted::empty();
    let table = table(&planted).await;
    land(&table, "old", 0, Span::new(0, 5), false, |_| true).await;
    land(&table, "new", 1, Span::new(0, 5), false, |_| true).await;
    let report = planted.check("vehicle_data").await;
    assert!(report.findings.told().is_empty(), "{:?}", report.findings.told());
    let present = table
        .present(&BTreeSet::from([id("old", 0, 2), id("old", 1, 2)]))
        .await
        .unwrap();
    assert_eq!(present, BTreeSet::from([id("old", 0, 2)]));

    // From here on nobody can tell any more whose the rows of partition 0 are.
    land(&table, "new", 0, Span::new(0, 3), true, |_| true).await;
    let refused = table.present(&BTreeSet::from([id("new", 0, 2)])).await.unwrap_err();
    assert!(
        matches!(&refused, LakeError::Unusable { why, .. } if why.contains("new, old")),
        "{refused}"
    );
    // Asked for others it answers.
    assert!(table.present(&BTreeSet::from([id("new", 1, 2)])).await.unwrap().len() == 1);
    let report = planted.check("vehicle_data").await;
    assert_eq!(
        report.findings.worst(),
        Some(Severity::Unchecked),
        "{:?}",
        report.findings.told()
    );
    assert!(!report.findings.passes());
    assert_eq!(
        report.findings.told(),
        [Finding::Unattributable {
            partition: 0,
            rows: 5,
            sources: vec!["ingest/new".to_owned(), "ingest/old".to_owned()],
        }]
    );
    // The other partition is checked all the same.
    assert_eq!(report.partitions.len(), 1);
}

#[tokio::test]
async fn two_applications_on_one_topic_do_not_pass() {
    let planted = Planted::empty();
    land(&table(&planted).await, "vehicle_data", 0, Span::new(0, 5), true, |_| {
        true
    })
    .await;
    let other = planted.lake.table(&vehicle_data(), "other").await.unwrap();
    land(&other, "vehicle_data", 0, Span::new(5, 9), true, |_| true).await;
    assert_eq!(planted.kinds().await, kinds(["unattributable"]));
    assert!(!planted.check("vehicle_data").await.findings.passes());
}

#[tokio::test]
async fn rows_of_a_topic_without_an_offset_are_found() {
    let planted = Planted::empty();
    let table = table(&planted).await;
    land(&table, "vehicle_data", 0, Span::new(0, 5), true, |_| true).await;
    let mut writer = table.file_writer();
    writer.write(&row(Some("stranger"), 0, 7, None)).unwrap();
    let staged = table.upload(writer.finish().unwrap()).await.unwrap();
    table.refresh().await.unwrap();
    table.commit_replayed(&staged, table.version(), &[]).await.unwrap();
    assert_eq!(planted.kinds().await, kinds(["unrecorded"]));
}
