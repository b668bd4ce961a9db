//! Exactly once, whatever the store answers and whoever else writes.

use std::sync::Arc;

use lake::{CommitOutcome, LakeError, Names, Table};
use model::Span;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::faults::{Fault, FaultyStore};
use crate::rows::{assert_whole, lake_on, land, offsets, partition, stage, vehicle_data};

/// A quick look at each run; each takes a quarter of a second unoptimised.
const SEEDS: u64 = 25;

const LANDED_BY_US: fn(i64) -> CommitOutcome = |version| CommitOutcome::AlreadyLanded { version, ours: true };

#[tokio::test]
async fn rows_and_offsets_are_one_commit() {
    let lake = lake_on(Arc::new(InMemory::new()), 1);
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    assert_eq!((table.name(), table.version()), ("vehicle_data", 0));
    assert_eq!(table.recorded(&partition(0)), None);

    let (first, second) = (
        stage(&table, 0, Span::new(0, 10)).await,
        stage(&table, 1, Span::new(0, 4)).await,
    );
    assert_eq!((first.rows(), first.len()), (10, 1));
    let spans = [(partition(0), Span::new(0, 10)), (partition(1), Span::new(0, 4))];
    let outcome = table.commit(vec![first.clone(), second.clone()], &spans).await.unwrap();
    assert_eq!(outcome, CommitOutcome::Committed { version: 1 });
    assert_eq!(table.recorded(&partition(0)), Some(10));

    // The same files again are known by the log, others of the same span are orphans.
    let outcome = table.commit(vec![first, second], &spans).await.unwrap();
    assert_eq!(outcome, LANDED_BY_US(1));
    let again = stage(&table, 0, Span::new(0, 10)).await;
    let outcome = table.commit(vec![again], &spans[..1]).await.unwrap();
    assert_eq!(
        outcome,
        CommitOutcome::AlreadyLanded {
            version: 1,
            ours: false
        }
    );

    // A hole and an overlap are both fenced.
    for (from, to) in [(11, 12), (5, 12)] {
        let outcome = land(&table, 0, Span::new(from, to)).await.unwrap();
        assert!(
            matches!(outcome, CommitOutcome::Fenced { recorded: Some(10), .. }),
            "{outcome:?}"
        );
    }
    assert_whole(&lake, &[(0, 10), (1, 4)]).await;
}

#[tokio::test]
async fn a_new_handle_reads_what_is_recorded() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let lake = lake_on(store.clone(), 1);
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    for batch in 0..3 {
        land(&table, 0, Span::new(batch * 5, batch * 5 + 5)).await.unwrap();
    }
    let other = lake_on(store, 2).table(&vehicle_data(), "ingest").await.unwrap();
    assert_eq!((other.version(), other.recorded(&partition(0))), (3, Some(15)));
    // Another application has its own offsets.
    let replay = lake.table(&vehicle_data(), "replay").await.unwrap();
    assert_eq!(replay.recorded(&partition(0)), None);
}

#[tokio::test]
async fn a_batch_that_makes_no_sense_is_refused() {
    let lake = lake_on(Arc::new(InMemory::new()), 1);
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    let rows = stage(&table, 0, Span::new(0, 3)).await;
    let (whole, empty) = ((partition(0), Span::new(0, 3)), (partition(0), Span::new(0, 0)));
    for spans in [vec![], vec![whole.clone(), whole], vec![empty]] {
        let refused = table.commit(vec![rows.clone()], &spans).await;
        assert!(
            matches!(refused, Err(LakeError::Batch { .. })),
            "{spans:?}: {refused:?}"
        );
    }
    assert_eq!(table.version(), 0);
}

#[tokio::test]
async fn every_unknown_outcome_is_read_back() {
    use Fault::*;
    let committed = CommitOutcome::Committed { version: 2 };
    for (faults, wanted) in [
        (vec![DoneThenTimeOut], LANDED_BY_US(2)),
        (vec![DoneThenExists], LANDED_BY_US(2)),
        (vec![DoneThenPrecondition], LANDED_BY_US(2)),
        (vec![Unavailable], committed.clone()),
        (vec![Unavailable, Unavailable, DoneThenTimeOut], LANDED_BY_US(2)),
        // The first lands while the second is on its way and takes its place: it is the same commit.
        (vec![DoneLate, None], LANDED_BY_US(2)),
        (vec![DoneLate, DoneLate, Unavailable], LANDED_BY_US(2)),
    ] {
        let store = FaultyStore::new();
        let lake = lake_on(store.clone(), 1);
        let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
        land(&table, 0, Span::new(0, 5)).await.unwrap();
        store.fail_commits(&faults);
        let outcome = land(&table, 0, Span::new(5, 9)).await.unwrap();
        assert!(outcome == wanted || outcome == committed, "{faults:?}: {outcome:?}");
        store.calm();
        let outcome = land(&table, 0, Span::new(9, 12)).await.unwrap();
        assert_eq!(outcome, CommitOutcome::Committed { version: 3 }, "{faults:?}");
        assert_whole(&lake, &[(0, 12)]).await;
    }
}

#[tokio::test]
async fn an_outage_ends_the_call_and_nothing_else() {
    let store = FaultyStore::new();
    let lake = lake_on(store.clone(), 1);
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    let staged = stage(&table, 0, Span::new(0, 5)).await;
    let spans = [(partition(0), Span::new(0, 5))];

    // Done at the last try of the outage, and the log cannot be read back either.
    let mut faults = [Fault::Unavailable; 20];
    faults[3] = Fault::DoneThenTimeOut;
    store.fail_commits(&faults);
    store.fail_reads(&[Fault::Unavailable; 100]);
    let error = table.commit(vec![staged.clone()], &spans).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    store.calm();
    let outcome = table.commit(vec![staged], &spans).await.unwrap();
    assert_eq!(outcome, LANDED_BY_US(1));
    assert_whole(&lake, &[(0, 5)]).await;
}

#[tokio::test]
async fn a_refusal_and_a_full_disk_have_their_names() {
    let store = FaultyStore::new();
    let lake = lake_on(store.clone(), 1);
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    store.fail_commits(&[Fault::Denied]);
    let error = land(&table, 0, Span::new(0, 5)).await.unwrap_err();
    assert!(
        matches!(&error, LakeError::Denied { action: "commit", path, .. } if path.ends_with("00001.json")),
        "{error:?}"
    );
    assert!(!error.is_retryable());

    store.fail_commits(&[Fault::NoSpace]);
    let error = land(&table, 0, Span::new(0, 5)).await.unwrap_err();
    assert!(error.is_out_of_space(), "{error:?}");

    let mut writer = table.file_writer();
    writer
        .write(&crate::rows::batch(&vehicle_data(), 0, Span::new(0, 5), 0, 1))
        .unwrap();
    store.fail_files(&[Fault::NoSpace]);
    let error = table.upload(writer.finish().unwrap()).await.unwrap_err();
    assert!(error.is_out_of_space(), "{error:?}");
    // Free space again: the same span goes in.
    assert_eq!(
        land(&table, 0, Span::new(0, 5)).await.unwrap(),
        CommitOutcome::Committed { version: 1 }
    );
}

#[tokio::test]
async fn an_upload_is_tried_again() {
    let store = FaultyStore::new();
    let lake = lake_on(store.clone(), 1);
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    store.fail_files(&[Fault::Unavailable, Fault::DoneThenTimeOut]);
    land(&table, 0, Span::new(0, 5)).await.unwrap();
    assert_whole(&lake, &[(0, 5)]).await;
}

#[tokio::test]
async fn of_two_writers_on_one_partition_one_is_fenced() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (lake, other_lake) = (lake_on(store.clone(), 1), lake_on(store, 2));
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    let zombie = other_lake.table(&vehicle_data(), "ingest").await.unwrap();
    // It read a batch, was paused, and wakes up.
    let stale = stage(&zombie, 0, Span::new(0, 7)).await;
    land(&table, 0, Span::new(0, 5)).await.unwrap();
    let outcome = zombie
        .commit(vec![stale], &[(partition(0), Span::new(0, 7))])
        .await
        .unwrap();
    assert_eq!(
        outcome,
        CommitOutcome::Fenced {
            topic_partition: partition(0),
            recorded: Some(5),
            span: Span::new(0, 7)
        }
    );
    // The fenced one has read the log and goes on from there; now the first is behind and finds out by itself.
    land(&zombie, 0, Span::new(5, 8)).await.unwrap();
    let outcome = land(&table, 0, Span::new(5, 6)).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Fenced { recorded: Some(8), .. }));
    assert_whole(&lake, &[(0, 8)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_on_different_partitions_do_not_disturb_each_other() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let write = |number: i32| {
        let store = store.clone();
        tokio::spawn(async move {
            let lake = lake_on(store, 10 + number as u64);
            let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
            for batch in 0..30 {
                let outcome = land(&table, number, Span::new(batch * 2, batch * 2 + 2)).await.unwrap();
                assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{outcome:?}");
            }
        })
    };
    let writers = [write(0), write(1), write(2)];
    for writer in writers {
        writer.await.unwrap();
    }
    assert_whole(&lake_on(store, 1), &[(0, 60), (1, 60), (2, 60)]).await;
}

/// Two writers that both believe they own both partitions, on a store that fails: whatever happens, the rows are the
/// offsets below the recorded one, once.
#[tokio::test]
async fn chance_finds_no_way_to_lose_or_double() {
    for seed in 0..SEEDS {
        let draws = Names::seeded(seed);
        let draw = |below: u64| draws.next().as_u64_pair().0 % below;
        let store = FaultyStore::new();
        let mut writers = Vec::new();
        for number in 0..2 {
            let lake = lake_on(store.clone(), seed * 10 + number);
            writers.push((lake.table(&vehicle_data(), "ingest").await.unwrap(), [0_i64; 2]));
        }
        for _ in 0..12 {
            let faults: Vec<Fault> = (0..draw(4)).map(|_| one_of(draw(9))).collect();
            store.fail_commits(&faults);
            if draw(4) == 0 {
                store.fail_reads(&[Fault::Unavailable]);
            }
            let (table, next) = &mut writers[draw(2) as usize];
            let wanted: Vec<i32> = if draw(2) == 0 { vec![draw(2) as i32] } else { vec![0, 1] };
            let mut files = Vec::new();
            let mut spans = Vec::new();
            for number in &wanted {
                let from = next[*number as usize];
                let span = Span::new(from, from + 1 + draw(3) as i64);
                files.push(stage(table, *number, span).await);
                spans.push((partition(*number), span));
            }
            let outcome = loop {
                match table.commit(files.clone(), &spans).await {
                    Ok(outcome) => break outcome,
                    Err(error) => assert!(error.is_retryable(), "seed {seed}: {error:?}"),
                }
            };
            match outcome {
                CommitOutcome::Committed { .. } | CommitOutcome::AlreadyLanded { .. } => {
                    for (partition, span) in &spans {
                        next[partition.partition as usize] = span.to;
                    }
                }
                CommitOutcome::Fenced { .. } => rewind(table, next),
            }
            store.calm();
        }
        let lake = lake_on(store, 999);
        let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
        let found = offsets(&lake).await;
        for number in 0..2 {
            let recorded = table.recorded(&partition(number)).unwrap_or(0);
            let offsets = found.get(&number).cloned().unwrap_or_default();
            assert_eq!(
                offsets,
                (0..recorded).collect::<Vec<_>>(),
                "seed {seed}, partition {number}"
            );
        }
    }
}

fn rewind(table: &Table, next: &mut [i64; 2]) {
    for (number, next) in next.iter_mut().enumerate() {
        *next = table.recorded(&partition(number as i32)).unwrap_or(0);
    }
}

fn one_of(drawn: u64) -> Fault {
    match drawn {
        0 => Fault::DoneThenTimeOut,
        1 => Fault::DoneThenExists,
        2 => Fault::DoneThenPrecondition,
        3 => Fault::DoneLate,
        4 | 5 => Fault::Unavailable,
        _ => Fault::None,
    }
}

/// As when the process that should have written it was killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_was_missed_is_made_up_for() {
    use futures::TryStreamExt as _;

    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let table = lake_on(store.clone(), 1)
        .table(&vehicle_data(), "ingest")
        .await
        .unwrap();
    for batch in 0..104 {
        land(&table, 0, Span::new(batch, batch + 1)).await.unwrap();
    }
    let log = object_store::path::Path::from("city/lake/data/vehicle_data/_delta_log");
    let checkpoint = async || {
        for _ in 0..500 {
            let names: Vec<_> = store
                .list(Some(&log))
                .map_ok(|object| object.location)
                .try_collect()
                .await
                .unwrap();
            let found = names
                .into_iter()
                .find(|name| name.as_ref().ends_with(".checkpoint.parquet"));
            if let Some(found) = found
                && store.head(&log.clone().join("_last_checkpoint")).await.is_ok()
            {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("no checkpoint");
    };
    for gone in [checkpoint().await, log.clone().join("_last_checkpoint")] {
        store.delete(&gone).await.unwrap();
    }
    lake_on(store.clone(), 2)
        .table(&vehicle_data(), "ingest")
        .await
        .unwrap();
    let made_up = checkpoint().await;
    assert!(
        made_up.as_ref().ends_with(&format!("{:020}.checkpoint.parquet", 104)),
        "{made_up}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_carry_the_offsets() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let lake = lake_on(store.clone(), 1);
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    land(&table, 3, Span::new(0, 2)).await.unwrap();
    for batch in 0..104 {
        land(&table, 0, Span::new(batch, batch + 1)).await.unwrap();
    }
    let log = object_store::path::Path::from("city/lake/data/vehicle_data/_delta_log");
    let checkpoint = log.clone().join(format!("{:020}.checkpoint.parquet", 100));
    for _ in 0..500 {
        if store.head(&checkpoint).await.is_ok() && store.head(&log.clone().join("_last_checkpoint")).await.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // As after a clean-up: what the checkpoint sums up is gone.
    for version in 0..100 {
        store
            .delete(&log.clone().join(format!("{version:020}.json")))
            .await
            .unwrap();
    }
    let other = lake_on(store, 2).table(&vehicle_data(), "ingest").await.unwrap();
    assert_eq!(other.version(), 105);
    assert_eq!(other.recorded(&partition(3)), Some(2));
    assert_eq!(other.recorded(&partition(0)), Some(104));
    assert_whole(&lake, &[(0, 104), (3, 2)]).await;
}
