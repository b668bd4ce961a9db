//! Records that were removed on purpose: recorded once, accounted for, and found when they are still there.

use lake::Erasure;
use lake::verify::{Finding, Offsets, Severity};
use model::{RecordId, Span};

use crate::rows::{partition, row, vehicle_data};
use crate::verify::{Planted, kinds};

fn erasure(number: i32, from: i64, to: i64) -> Erasure {
    Erasure {
        topic_partition: partition(number),
        span: Span::new(from, to),
        element: None,
    }
}

#[tokio::test]
async fn what_is_known_is_not_recorded_again() {
    let planted = Planted::empty();
    let erasures = planted.lake.erasures("ingest").await.unwrap();
    let first = [erasure(0, 10, 20), erasure(1, 3, 4)];
    assert_eq!(erasures.record(&first, "device forgotten").await.unwrap(), 2);
    assert_eq!(erasures.record(&first, "device forgotten").await.unwrap(), 0);
    // Twice in one call, and beside what is known: [5, 10) and [20, 25) are new.
    let wider = [erasure(0, 5, 25), erasure(0, 5, 25)];
    assert_eq!(erasures.record(&wider, "device forgotten").await.unwrap(), 2);
    let one = |element| Erasure {
        element: Some(element),
        ..erasure(2, 7, 8)
    };
    assert_eq!(
        erasures.record(&[one(0), one(1), one(1)], "asked for").await.unwrap(),
        2
    );
    // The whole message is more than its elements; once it is recorded they are as well.
    assert_eq!(erasures.record(&[erasure(2, 7, 8)], "asked for").await.unwrap(), 1);
    assert_eq!(erasures.record(&[one(5)], "asked for").await.unwrap(), 0);
    let several = Erasure {
        element: Some(1),
        ..erasure(0, 1, 3)
    };
    assert!(erasures.record(&[several], "no").await.is_err());
}

#[tokio::test]
async fn writers_at_the_same_time_record_each_once() {
    let planted = Planted::empty();
    let (one, other) = (
        planted.lake.erasures("ingest").await.unwrap(),
        planted.lake.erasures("other").await.unwrap(),
    );
    for round in 0..10 {
        let spans = [erasure(0, round * 10, round * 10 + 5)];
        let (first, second) = tokio::join!(one.record(&spans, "one"), other.record(&spans, "other"));
        assert_eq!(first.unwrap() + second.unwrap(), 1);
    }
}

#[tokio::test]
async fn erased_records_are_accounted_for() {
    let planted = Planted::new().await;
    let erasures = planted.lake.erasures("ingest").await.unwrap();
    // Offsets 110 to 119 of partition 0, one of them a dead letter: recorded, and still there.
    erasures
        .record(&[erasure(0, 110, 120)], "device forgotten")
        .await
        .unwrap();
    assert_eq!(planted.kinds().await, kinds(["erased_present"]));
    let report = planted.check("vehicle_data").await;
    let still_there = Finding::ErasedPresent(Offsets::of(&partition(0), Span::new(110, 120)));
    assert!(
        report.findings.told().contains(&still_there),
        "{:?}",
        report.findings.told()
    );
    assert_eq!(still_there.severity(), Severity::Fault);
    planted.rewrite_without(3, |offset| (110..120).contains(&offset));
    let dead_letters = planted.lake.dead_letters([&vehicle_data()], "ingest").await.unwrap();
    assert_eq!(planted.kinds().await, kinds(["erased_present"]), "the dead letter is");
    let gone = [RecordId::new(partition(0), 113, None)];
    dead_letters.remove(&gone.into()).await.unwrap();
    let report = planted.check("vehicle_data").await;
    assert!(report.findings.passes(), "{:?}", report.findings.told());
    assert_eq!((report.partitions[0].erased, report.partitions[0].lost), (10, 0));
    // A loss beside it is found all the same.
    planted.rewrite_without(3, |offset| offset == 150);
    assert_eq!(planted.kinds().await, kinds(["commit_short", "lost"]));
}

#[tokio::test]
async fn erased_elements_are_accounted_for() {
    let planted = Planted::empty();
    let table = planted.lake.table(&vehicle_data(), "ingest").await.unwrap();
    let mut writer = table.file_writer();
    // Three messages of three elements; two elements of the second are erased.
    for (offset, element) in [(0, 0), (0, 1), (0, 2), (1, 2), (2, 0), (2, 1), (2, 2)] {
        writer
            .write(&row(Some("vehicle_data"), 0, offset, Some(element)))
            .unwrap();
    }
    let staged = table.upload(writer.finish().unwrap()).await.unwrap();
    let spans = [(partition(0), Span::new(0, 3))];
    table
        .commit_counted(vec![staged], &spans, Some(3), Some(9))
        .await
        .unwrap();
    assert_eq!(planted.kinds().await, kinds(["commit_short", "lost"]));
    let erasures = planted.lake.erasures("ingest").await.unwrap();
    let erased = [0, 1].map(|element| Erasure {
        element: Some(element),
        ..erasure(0, 1, 2)
    });
    erasures.record(&erased, "asked for").await.unwrap();
    let report = planted.check("vehicle_data").await;
    assert!(report.findings.told().is_empty(), "{:?}", report.findings.told());
    assert_eq!(report.partitions[0].erased, 2);
    let there = Erasure {
        element: Some(2),
        ..erasure(0, 2, 3)
    };
    erasures.record(&[there], "asked for").await.unwrap();
    let report = planted.check("vehicle_data").await;
    let still_there = Finding::ErasedPresent(Offsets::one("vehicle_data", 0, 2, Some(2)));
    assert_eq!(report.findings.told(), [still_there]);
}
