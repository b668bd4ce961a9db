//! Messages that hold several elements: each element is a row or a dead letter, once, and what is planted is found.

use std::collections::HashMap;

use lake::verify::{Finding, Offsets, TableReport};
use lake::{DeadLetters, ReplayedMessage, Table};
use model::{RecordId, Span};

use crate::dead_letters::dead_letter;
use crate::rows::{partition, row, vehicle_data};
use crate::verify::{Planted, kinds};

/// Messages of partition 0: message `o` has `o % 4` elements, of which the third is broken; of every 13th the array is.
struct Messages {
    planted: Planted,
    table: Table,
    dead_letters: DeadLetters,
}

/// What a message makes: elements that are rows, elements that are dead letters; `None`: one dead letter as a whole.
type Made = Option<(Vec<u32>, Vec<u32>)>;

fn made(offset: i64) -> Made {
    let elements = (0..(offset % 4) as u32).partition(|element| *element != 2);
    (offset % 13 != 12).then_some(elements)
}

impl Messages {
    async fn new() -> Messages {
        let planted = Planted::empty();
        let table = planted.lake.table(&vehicle_data(), "ingest").await.unwrap();
        let dead_letters = planted.lake.dead_letters([&vehicle_data()], "ingest").await.unwrap();
        let messages = Messages {
            planted,
            table,
            dead_letters,
        };
        for commit in 0..5 {
            messages.commit(Span::new(commit * 20, commit * 20 + 20), made).await;
        }
        messages
    }

    /// Commits what `lands` says, and counts what [`made`] says.
    async fn commit(&self, span: Span, lands: impl Fn(i64) -> Made) {
        let (mut rows, mut dead, mut expected) = (Vec::new(), Vec::new(), 0);
        for offset in span.from..span.to {
            expected += made(offset).map_or(1, |(rows, dead)| rows.len() + dead.len()) as u64;
            match lands(offset) {
                None => dead.push(dead_letter(0, offset, None)),
                Some((good, broken)) => {
                    rows.extend(
                        good.into_iter()
                            .map(|element| row(Some("vehicle_data"), 0, offset, Some(element))),
                    );
                    dead.extend(broken.into_iter().map(|element| dead_letter(0, offset, Some(element))));
                }
            }
        }
        let spans = [(partition(0), span)];
        let known = HashMap::from([(partition(0), self.dead_letters.mark(&partition(0)))]);
        self.dead_letters.commit(&dead, &spans, &known).await.unwrap();
        let mut writer = self.table.file_writer();
        rows.iter().for_each(|row| writer.write(row).unwrap());
        let staged = self.table.upload(writer.finish().unwrap()).await.unwrap();
        let records = (span.to - span.from) as u64;
        self.table
            .commit_counted(vec![staged], &spans, Some(records), Some(expected))
            .await
            .unwrap();
    }

    async fn check(&self) -> TableReport {
        self.planted.check("vehicle_data").await
    }
}

fn element(offset: i64, element: u32) -> Offsets {
    Offsets::one("vehicle_data", 0, offset, Some(element))
}

#[tokio::test]
async fn every_element_is_counted_once() {
    let messages = Messages::new().await;
    let report = messages.check().await;
    assert!(report.findings.told().is_empty(), "{:?}", report.findings.told());
    let (mut rows, mut dead, mut empty, mut there) = (0, 0, 0, 0);
    for offset in 0..100 {
        let (good, broken) = made(offset).map_or((0, 1), |(rows, dead)| (rows.len(), dead.len()));
        rows += good as u64;
        dead += broken as u64;
        empty += u64::from(good + broken == 0);
        there += u64::from(good + broken > 0);
    }
    let partition = &report.partitions[0];
    assert_eq!(
        (partition.rows, partition.letters, partition.messages),
        (rows, dead, there)
    );
    assert_eq!(
        (report.empty_messages, partition.skipped, partition.unexplained),
        (empty, empty, 0)
    );
}

#[tokio::test]
async fn a_lost_element_is_found() {
    // The last of its message: only the count tells.
    let messages = Messages::new().await;
    let without_last = |offset| match offset {
        101 => Some((Vec::new(), Vec::new())),
        offset => made(offset),
    };
    messages.commit(Span::new(100, 120), without_last).await;
    let report = messages.check().await;
    assert_eq!(messages.planted.kinds().await, kinds(["commit_short", "lost"]));
    let lost: Vec<_> = report
        .findings
        .told()
        .iter()
        .filter(|finding| finding.kind() == "lost")
        .collect();
    assert!(
        lost.iter()
            .any(|finding| matches!(finding, Finding::Lost(at) if at.from <= 101 && at.to > 101))
    );

    // One between others is named.
    let messages = Messages::new().await;
    let without_inner = |offset| match offset {
        107 => Some((vec![1], vec![2])),
        offset => made(offset),
    };
    messages.commit(Span::new(100, 120), without_inner).await;
    let report = messages.check().await;
    assert!(
        report.findings.told().contains(&Finding::Lost(element(107, 0))),
        "{:?}",
        report.findings.told()
    );
    assert!(report.findings.has("commit_short"));
}

#[tokio::test]
async fn a_lost_dead_letter_of_an_element_is_found() {
    let messages = Messages::new().await;
    let removed = messages
        .dead_letters
        .remove(&[RecordId::new(partition(0), 3, Some(2))].into())
        .await;
    assert_eq!(removed.unwrap(), 1);
    assert!(messages.planted.kinds().await.contains("commit_short"));
}

#[tokio::test]
async fn a_doubled_element_is_found() {
    let messages = Messages::new().await;
    let doubled = |offset| match offset {
        107 => Some((vec![0, 1, 1], vec![2, 2])),
        offset => made(offset),
    };
    messages.commit(Span::new(100, 120), doubled).await;
    let report = messages.check().await;
    assert_eq!(messages.planted.kinds().await, kinds(["doubled", "doubled_letters"]));
    assert!(report.findings.told().contains(&Finding::Doubled(element(107, 1))));
    assert!(
        report
            .findings
            .told()
            .contains(&Finding::DoubledLetters(element(107, 2)))
    );
    assert_eq!(report.partitions[0].doubled, 1);
}

#[tokio::test]
async fn an_element_that_is_row_and_dead_letter_is_found() {
    let messages = Messages::new().await;
    let both = |offset| match offset {
        107 => Some((vec![0, 1, 2], vec![2])),
        offset => made(offset),
    };
    messages.commit(Span::new(100, 120), both).await;
    assert_eq!(messages.planted.kinds().await, kinds(["row_and_letter"]));
    let report = messages.check().await;
    assert!(report.findings.told().contains(&Finding::RowAndLetter(element(107, 2))));
}

#[tokio::test]
async fn a_message_that_is_replayed_into_elements_is_counted_by_them() {
    let messages = Messages::new().await;
    // The dead letter of message 12 becomes three rows, that of message 25 nothing at all.
    let mut writer = messages.table.file_writer();
    for element in 0..3 {
        writer.write(&row(Some("vehicle_data"), 0, 12, Some(element))).unwrap();
    }
    let staged = messages.table.upload(writer.finish().unwrap()).await.unwrap();
    let replayed = [(12, 3), (25, 0)].map(|(offset, elements)| ReplayedMessage {
        topic_partition: partition(0),
        offset,
        elements,
    });
    messages.table.refresh().await.unwrap();
    let read_version = messages.table.version();
    messages
        .table
        .commit_replayed(&staged, read_version, &replayed)
        .await
        .unwrap()
        .unwrap();
    // Between the two commits of a replay the message is there twice.
    assert_eq!(messages.planted.kinds().await, kinds(["row_and_letter"]));
    let gone = [12, 25].map(|offset| RecordId::new(partition(0), offset, None));
    assert_eq!(messages.dead_letters.remove(&gone.into()).await.unwrap(), 2);
    let report = messages.check().await;
    assert!(report.findings.told().is_empty(), "{:?}", report.findings.told());
    // A loss does not hide behind the two rows more.
    messages
        .dead_letters
        .remove(&[RecordId::new(partition(0), 3, Some(2))].into())
        .await
        .unwrap();
    assert!(messages.check().await.findings.told().contains(&Finding::CommitShort {
        version: 1,
        recorded: 33,
        found: 32
    }));
}
