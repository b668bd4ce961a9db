//! Letters are committed before rows, and an offset is never both.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use lake::{CommitOutcome, DeadLetters, LakeError, Mark};
use model::{DeadLetter, RecordId, Span, Stage, TopicPartition};
use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::faults::{Fault, FaultyStore};
use crate::rows::{NOON_US, active_files, assert_whole, lake_on, land, partition, vehicle_data};

pub(crate) fn letter(number: i32, offset: i64) -> DeadLetter {
    dead_letter(number, offset, None)
}

pub(crate) fn dead_letter(number: i32, offset: i64, element: Option<u32>) -> DeadLetter {
    DeadLetter {
        topic_partition: partition(number),
        offset,
        element,
        kafka_timestamp_us: (offset % 2 == 0).then_some(NOON_US + offset),
        ingested_at_us: NOON_US,
        key: Some(vec![0, 159, 146, 150]),
        value: (offset % 5 != 0).then(|| vec![0xff; 3 + (offset % 7) as usize]),
        headers: vec![("trace".to_owned(), Some(vec![1, 2, 255])), ("empty".to_owned(), None)],
        stage: Stage::Decode,
        error_class: "not_json",
        error: format!("no JSON at byte {offset}"),
        field: (offset % 3 == 0).then(|| "speed".to_owned()),
    }
}

fn known(letters: &DeadLetters, of: &[TopicPartition]) -> HashMap<TopicPartition, Option<Mark>> {
    of.iter()
        .map(|topic_partition| (topic_partition.clone(), letters.mark(topic_partition)))
        .collect()
}

/// Records that are whole messages.
fn whole<const N: usize>(offsets: [i64; N]) -> BTreeSet<(i64, Option<u32>)> {
    offsets.map(|offset| (offset, None)).into()
}

async fn commit(letters: &DeadLetters, number: i32, span: Span, offsets: &[i64]) -> Result<CommitOutcome, LakeError> {
    let all: Vec<DeadLetter> = offsets.iter().map(|offset| letter(number, *offset)).collect();
    let expected = known(letters, &[partition(number)]);
    letters.commit(&all, &[(partition(number), span)], &expected).await
}

#[tokio::test]
async fn after_a_crash_between_letters_and_rows_the_letters_stay_dead() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let lake = lake_on(store.clone(), 1);
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    let letters = lake.dead_letters([&vehicle_data()], "ingest").await.unwrap();
    commit(&letters, 0, Span::new(0, 10), &[3, 7]).await.unwrap();
    land(&table, 0, Span::new(0, 3)).await.unwrap();
    land(&table, 0, Span::new(3, 10)).await.unwrap();
    // Batches without letters commit none, so the letters lag behind.
    land(&table, 0, Span::new(10, 40)).await.unwrap();
    commit(&letters, 0, Span::new(40, 60), &[41, 59]).await.unwrap();
    commit(&letters, 1, Span::new(0, 90), &[45, 80]).await.unwrap();
    // Here the process dies: the rows of [40, 60) never land.

    let lake = lake_on(store, 2);
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    let letters = lake.dead_letters([&vehicle_data()], "ingest").await.unwrap();
    let recorded = table.recorded(&partition(0)).unwrap();
    assert_eq!((recorded, letters.recorded(&partition(0))), (40, Some(60)));
    let dead = letters.offsets_from(&partition(0), recorded).await.unwrap();
    assert_eq!(dead, whole([41, 59]));
    assert_eq!(letters.offsets_from(&partition(0), 42).await.unwrap(), whole([59]));
    assert!(letters.offsets_from(&partition(0), 60).await.unwrap().is_empty());
    assert!(letters.offsets_from(&partition(2), 0).await.unwrap().is_empty());
    assert_eq!(letters.offsets_from(&partition(1), 0).await.unwrap(), whole([45, 80]));

    // Another cut of the batches: the first ends below the letters' offset, which does not go back.
    assert!(matches!(
        commit(&letters, 0, Span::new(40, 50), &[]).await.unwrap(),
        CommitOutcome::Committed { .. }
    ));
    assert_eq!(letters.recorded(&partition(0)), Some(60));
    land(&table, 0, Span::new(40, 50)).await.unwrap();
    commit(&letters, 0, Span::new(50, 70), &[65]).await.unwrap();
    land(&table, 0, Span::new(50, 70)).await.unwrap();
    assert_eq!(letters.recorded(&partition(0)), Some(70));
    assert_whole(&lake, &[(0, 70)]).await;
    let rows: usize = active_files(&lake, "dead_letters")
        .await
        .iter()
        .flat_map(|file| &file.rows)
        .map(|rows| rows.num_rows())
        .sum();
    assert_eq!(rows, 7);
}

#[tokio::test]
async fn a_zombies_letters_are_fenced() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let letters = lake_on(store.clone(), 1)
        .dead_letters([&vehicle_data()], "ingest")
        .await
        .unwrap();
    commit(&letters, 0, Span::new(0, 10), &[3]).await.unwrap();
    let zombie = lake_on(store, 2)
        .dead_letters([&vehicle_data()], "ingest")
        .await
        .unwrap();
    let stale = known(&zombie, &[partition(0)]);
    commit(&letters, 0, Span::new(10, 20), &[15]).await.unwrap();
    for span in [Span::new(10, 20), Span::new(10, 15)] {
        let outcome = zombie
            .commit(&[letter(0, 12)], &[(partition(0), span)], &stale)
            .await
            .unwrap();
        assert!(
            matches!(outcome, CommitOutcome::Fenced { recorded: Some(20), .. }),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn letters_below_an_offset_that_ran_ahead_fence_as_well() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let letters = lake_on(store.clone(), 1)
        .dead_letters([&vehicle_data()], "ingest")
        .await
        .unwrap();
    // The rows of this never landed, so it is read again: with more letters, by another declaration.
    commit(&letters, 0, Span::new(0, 20), &[3]).await.unwrap();
    let other = lake_on(store, 2)
        .dead_letters([&vehicle_data()], "ingest")
        .await
        .unwrap();
    let stale = known(&other, &[partition(0)]);
    commit(&letters, 0, Span::new(0, 10), &[8]).await.unwrap();
    let outcome = other
        .commit(&[letter(0, 8)], &[(partition(0), Span::new(0, 10))], &stale)
        .await
        .unwrap();
    assert!(
        matches!(outcome, CommitOutcome::Fenced { recorded: Some(20), .. }),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn faults_neither_lose_nor_double_letters() {
    use Fault::*;
    for faults in [
        vec![DoneThenTimeOut],
        vec![DoneThenExists],
        vec![Unavailable, DoneThenPrecondition],
        vec![DoneLate, None],
        vec![Unavailable, Unavailable],
    ] {
        let store = FaultyStore::new();
        let lake = lake_on(store.clone(), 1);
        let letters = lake.dead_letters([&vehicle_data()], "ingest").await.unwrap();
        store.fail_commits(&faults);
        let outcome = commit(&letters, 0, Span::new(0, 10), &[3, 4]).await.unwrap();
        assert!(
            matches!(
                outcome,
                CommitOutcome::Committed { version: 1 } | CommitOutcome::AlreadyLanded { version: 1, ours: true }
            ),
            "{faults:?}: {outcome:?}"
        );
        store.calm();
        assert_eq!(letters.recorded(&partition(0)), Some(10));
        commit(&letters, 0, Span::new(10, 20), &[12]).await.unwrap();
        assert_eq!(letters.offsets_from(&partition(0), 0).await.unwrap(), whole([3, 4, 12]));
        let files = active_files(&lake, "dead_letters").await;
        let rows: u64 = files
            .iter()
            .map(|file| file.stats["numRecords"].as_u64().unwrap())
            .sum();
        assert_eq!(rows, 3, "{faults:?}");
    }
}

#[tokio::test]
async fn letters_outside_their_spans_are_refused() {
    let lake = lake_on(Arc::new(InMemory::new()), 1);
    let letters = lake.dead_letters([&vehicle_data()], "ingest").await.unwrap();
    for (number, offset) in [(0, 10), (1, 5)] {
        let refused = letters
            .commit(
                &[letter(number, offset)],
                &[(partition(0), Span::new(0, 10))],
                &HashMap::new(),
            )
            .await;
        assert!(matches!(refused, Err(LakeError::Batch { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn dead_letters_are_told_apart_by_topic_and_element() {
    let lake = lake_on(Arc::new(InMemory::new()), 1);
    let letters = lake.dead_letters([&vehicle_data()], "ingest").await.unwrap();
    let other = TopicPartition::new("other", 0);
    let of_other = |element| DeadLetter {
        topic_partition: other.clone(),
        ..dead_letter(0, 7, element)
    };
    let all = [
        dead_letter(0, 7, Some(0)),
        dead_letter(0, 7, Some(2)),
        dead_letter(0, 8, None),
        of_other(Some(2)),
        of_other(None),
    ];
    let spans = [(partition(0), Span::new(0, 10)), (other.clone(), Span::new(0, 10))];
    letters
        .commit(&all, &spans, &known(&letters, &[partition(0), other.clone()]))
        .await
        .unwrap();
    let there = |place: &TopicPartition| {
        let (letters, place) = (letters.clone(), place.clone());
        async move { letters.offsets_from(&place, 0).await.unwrap() }
    };
    assert_eq!(
        there(&partition(0)).await,
        [(7, Some(0)), (7, Some(2)), (8, None)].into()
    );
    let gone =
        [(7, Some(2)), (8, Some(0)), (9, None)].map(|(offset, element)| RecordId::new(partition(0), offset, element));
    assert_eq!(letters.remove(&gone.into()).await.unwrap(), 1);
    assert_eq!(there(&partition(0)).await, [(7, Some(0)), (8, None)].into());
    assert_eq!(there(&other).await, [(7, Some(2)), (7, None)].into());
}

#[tokio::test]
async fn letters_that_share_a_file_with_a_removed_one_stay_as_they_were() {
    let lake = lake_on(Arc::new(InMemory::new()), 1);
    let letters = lake.dead_letters([&vehicle_data()], "ingest").await.unwrap();
    commit(&letters, 0, Span::new(0, 20), &[3, 8, 9]).await.unwrap();
    // Their rows are written again with their headers, as they were read from the file.
    let gone = [8, 15].map(|offset| RecordId::new(partition(0), offset, None)).into();
    assert_eq!(letters.remove(&gone).await.unwrap(), 1);
    let left = letters.offsets_from(&partition(0), 0).await.unwrap();
    assert_eq!(left, [(3, None), (9, None)].into());
    let files = crate::rows::active_files(&lake, "dead_letters").await;
    let rows: usize = files
        .iter()
        .flat_map(|file| &file.rows)
        .map(|batch| batch.num_rows())
        .sum();
    assert_eq!(rows, 2);
}
