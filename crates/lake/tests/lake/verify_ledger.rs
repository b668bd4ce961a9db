//! The table of commits: filled before each checkpoint, each version once, and enough to find faults when the logs that it
//! was filled from are gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow_select::concat::concat_batches;
use arrow_select::filter::filter_record_batch;
use futures::TryStreamExt;
use lake::verify::{Finding, Severity};
use model::{RecordId, Span};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::dead_letters::letter;
use crate::faults::{Fault, FaultyStore};
use crate::rows::{active_files, lake_on, land, partition, vehicle_data};
use crate::verify::{Planted, kinds, rewrite};

const COMMITS: i64 = 250;

/// Ten offsets a commit, the fourth of which is a dead letter; checkpointed twice, and cleaned up below the second.
async fn cleaned_up() -> Planted {
    let planted = Planted::empty();
    let stream = vehicle_data();
    let table = planted.lake.table(&stream, "ingest").await.unwrap();
    let dead_letters = planted.lake.dead_letters([&stream], "ingest").await.unwrap();
    for commit in 0..COMMITS {
        let span = Span::new(commit * 10, commit * 10 + 10);
        let spans = [(partition(0), span)];
        let known = HashMap::from([(partition(0), dead_letters.mark(&partition(0)))]);
        dead_letters
            .commit(&[letter(0, span.from + 3)], &spans, &known)
            .await
            .unwrap();
        let mut writer = table.file_writer();
        for part in [Span::new(span.from, span.from + 3), Span::new(span.from + 4, span.to)] {
            let rows = crate::rows::batch(&stream, 0, part, crate::rows::NOON_US, 1000);
            writer.write(&rows).unwrap();
        }
        let staged = table.upload(writer.finish().unwrap()).await.unwrap();
        table
            .commit_counted(vec![staged], &spans, Some(10), None)
            .await
            .unwrap();
        if commit % 50 == 49 {
            // Checkpoints are written beside the commits; let them catch up.
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
    for name in ["vehicle_data", "dead_letters"] {
        let checkpoint = newest_checkpoint(&planted, name).await;
        assert!(checkpoint >= 100, "{name}: {checkpoint}");
        for version in 0..checkpoint {
            std::fs::remove_file(planted.commit_file(name, version)).unwrap();
        }
    }
    planted
}

/// Waits for the table to have one past version 199, or for as long as that may take.
async fn newest_checkpoint(planted: &Planted, name: &str) -> u64 {
    let log = planted.folder.path().join(format!("data/{name}/_delta_log"));
    let mut newest = 0;
    for _ in 0..300 {
        let names = std::fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().file_name());
        let checkpoints = names.filter_map(|name| {
            let name = name.to_str()?.to_owned();
            name.strip_suffix(".checkpoint.parquet")?.parse().ok()
        });
        newest = checkpoints.max().unwrap_or(0);
        if newest >= 200 && log.join("_last_checkpoint").exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    newest
}

/// Puts a commit of somebody else on top of a table.
fn put_commit(planted: &Planted, name: &str, actions: &[Value]) {
    let version = (1..).find(|version| {
        !planted.commit_file(name, *version).exists() && planted.commit_file(name, version - 1).exists()
    });
    let version = version.unwrap();
    let lines: String = actions.iter().map(|action| format!("{action}\n")).collect();
    std::fs::write(planted.commit_file(name, version), lines).unwrap();
}

/// The oldest data file of the table, whose commit is gone.
fn oldest_file(planted: &Planted) -> PathBuf {
    let day = std::fs::read_dir(planted.table())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let day = day
        .filter(|path| path.to_string_lossy().contains("event_date="))
        .min()
        .unwrap();
    let files = std::fs::read_dir(day).unwrap().map(|entry| entry.unwrap().path());
    let offset = |path: &PathBuf| {
        let bytes = bytes::Bytes::from(std::fs::read(path).unwrap());
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
        let batch = reader.build().unwrap().next().unwrap().unwrap();
        batch
            .column_by_name("_offset")
            .unwrap()
            .as_primitive::<Int64Type>()
            .value(0)
    };
    files.min_by_key(offset).unwrap()
}

/// Writes the ledger's file with the row of this version of `vehicle_data` again, and puts its log right.
fn forge(planted: &Planted, version: i64, change: impl Fn(RecordBatch, usize) -> RecordBatch) {
    let folder = planted.folder.path().join("data/commits");
    let mut found = false;
    for at in 0.. {
        let path = planted.commit_file("commits", at);
        let Ok(text) = std::fs::read_to_string(&path) else {
            break;
        };
        let mut actions: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let Some(add) = actions.iter().position(|action| action.get("add").is_some()) else {
            continue;
        };
        let file = folder.join(actions[add]["add"]["path"].as_str().unwrap());
        let (mut rows, mut is_there) = (0, false);
        rewrite(&file, |batch| {
            let tables = batch.column_by_name("table").unwrap().as_string::<i32>();
            let versions = batch.column_by_name("version").unwrap().as_primitive::<Int64Type>();
            let is_it = |row: &usize| tables.value(*row) == "vehicle_data" && versions.value(*row) == version;
            let row = (0..batch.num_rows()).find(is_it);
            let changed = match row {
                Some(row) => change(batch.clone(), row),
                None => batch.clone(),
            };
            is_there |= row.is_some();
            rows += changed.num_rows();
            changed
        });
        found |= is_there;
        actions[add]["add"]["size"] = json!(std::fs::metadata(&file).unwrap().len());
        actions[add]["add"]["stats"] = json!(format!("{{\"numRecords\":{rows}}}"));
        actions[add]["add"]["tags"] = json!({});
        for action in actions.iter_mut().filter(|action| action.get("commitInfo").is_some()) {
            action["commitInfo"]["operationMetrics"]["numOutputRows"] = json!(rows.to_string());
        }
        let lines: String = actions.iter().map(|action| format!("{action}\n")).collect();
        std::fs::write(&path, lines).unwrap();
    }
    assert!(found, "no row of version {version}");
}

fn with_column(batch: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let mut columns = batch.columns().to_vec();
    columns[batch.schema().index_of(name).unwrap()] = column;
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

#[tokio::test]
async fn a_cleaned_up_lake_is_clean() {
    let planted = cleaned_up().await;
    for name in ["vehicle_data", "dead_letters", "commits"] {
        let report = planted.check(name).await;
        assert_eq!(report.findings.worst(), None, "{name}: {:?}", report.findings.told());
    }
    let partition = &planted.check("vehicle_data").await.partitions[0];
    assert_eq!((partition.start, partition.recorded), (0, COMMITS * 10));
    assert_eq!(
        (partition.rows, partition.letters, partition.unexplained),
        (2250, 250, 0)
    );
}

#[tokio::test]
async fn losses_are_found_without_the_commits_that_tell_of_them() {
    let planted = cleaned_up().await;
    // A dead letter whose rows' commit is long gone.
    let dead_letters = planted.lake.dead_letters([&vehicle_data()], "ingest").await.unwrap();
    dead_letters
        .remove(&[RecordId::new(partition(0), 23, None)].into())
        .await
        .unwrap();
    let report = planted.check("vehicle_data").await;
    let short = Finding::CommitShort {
        version: 3,
        recorded: 10,
        found: 9,
    };
    assert!(report.findings.told().contains(&short), "{:?}", report.findings.told());
    assert_eq!(planted.kinds().await, kinds(["commit_short", "lost"]));

    // A file that a commit takes out, which says nothing of why.
    let file = oldest_file(&planted);
    let path = file.strip_prefix(planted.table()).unwrap().to_str().unwrap().to_owned();
    put_commit(
        &planted,
        "vehicle_data",
        &[json!({"remove": {"path": path, "dataChange": false}})],
    );
    let report = planted.check("vehicle_data").await;
    assert_eq!(report.partitions[0].lost, 10, "{:?}", report.findings.told());
    assert!(report.findings.has("commit_short"));
}

#[tokio::test]
async fn a_doubled_file_is_found_without_its_commit() {
    let planted = cleaned_up().await;
    let file = oldest_file(&planted);
    let copy = file.with_file_name("part-copy.parquet");
    std::fs::copy(&file, &copy).unwrap();
    let path = copy.strip_prefix(planted.table()).unwrap().to_str().unwrap().to_owned();
    let day = path
        .split('/')
        .next()
        .unwrap()
        .strip_prefix("event_date=")
        .unwrap()
        .to_owned();
    let add = json!({"add": {
        "path": path, "partitionValues": {"event_date": day}, "size": std::fs::metadata(&copy).unwrap().len(),
        "modificationTime": 0, "dataChange": true,
    }});
    put_commit(&planted, "vehicle_data", &[add]);
    assert_eq!(planted.kinds().await, kinds(["doubled"]));
    assert_eq!(planted.check("vehicle_data").await.partitions[0].doubled, 9);
}

#[tokio::test]
async fn a_row_that_is_cut_from_the_table_of_commits_is_found() {
    let planted = cleaned_up().await;
    forge(&planted, 7, |batch, row| {
        let stays: BooleanArray = (0..batch.num_rows()).map(|other| Some(other != row)).collect();
        filter_record_batch(&batch, &stays).unwrap()
    });
    let report = planted.check("vehicle_data").await;
    assert!(
        report
            .findings
            .told()
            .contains(&Finding::EvidenceMissing { from: 7, to: 8 })
    );
    assert_eq!(report.findings.worst(), Some(Severity::Fault));
    // Its span is missing between its neighbours'.
    assert_eq!(planted.kinds().await, kinds(["broken_chain", "evidence_missing"]));
    // Its own log was put right, so that the table by itself looks well.
    assert!(planted.check("commits").await.findings.passes());
}

#[tokio::test]
async fn a_row_that_was_changed_in_the_table_of_commits_is_found() {
    let planted = cleaned_up().await;
    let dead_letters = planted.lake.dead_letters([&vehicle_data()], "ingest").await.unwrap();
    dead_letters
        .remove(&[RecordId::new(partition(0), 63, None)].into())
        .await
        .unwrap();
    // As if nine records were all that version 7 was given.
    forge(&planted, 7, |batch, row| {
        let records = batch.column_by_name("records").unwrap().as_primitive::<Int64Type>();
        let forged = (0..batch.num_rows()).map(|other| match other == row {
            true => Some(9),
            false => records.is_valid(other).then(|| records.value(other)),
        });
        with_column(&batch, "records", Arc::new(forged.collect::<Int64Array>()))
    });
    let report = planted.check("vehicle_data").await;
    let differs = Finding::EvidenceDiffers {
        version: 7,
        fields: vec!["checksum".to_owned()],
    };
    assert_eq!(report.findings.told(), [differs]);
}

#[tokio::test]
async fn rows_too_many_in_the_table_of_commits_are_found() {
    let planted = cleaned_up().await;
    forge(&planted, 7, |batch, row| {
        concat_batches(&batch.schema(), [&batch, &batch.slice(row, 1)]).unwrap()
    });
    let report = planted.check("vehicle_data").await;
    assert_eq!(report.findings.told(), [Finding::EvidenceDoubled { version: 7 }]);
    forge(&planted, 7, |batch, row| {
        let versions = batch.column_by_name("version").unwrap().as_primitive::<Int64Type>();
        let first = versions.values().iter().position(|version| *version == 7).unwrap();
        assert_eq!(first, row);
        let forged = versions.values().iter().enumerate();
        let forged = forged.map(|(other, version)| if other == row { 5000 } else { *version });
        with_column(&batch, "version", Arc::new(Int64Array::from_iter_values(forged)))
    });
    let found = planted.kinds().await;
    assert!(found.contains("evidence_ahead"), "{found:?}");
}

#[tokio::test]
async fn a_commit_that_says_otherwise_than_the_table_of_commits_is_found() {
    let planted = cleaned_up().await;
    // The version of the checkpoint is in the table of commits, and its JSON is still there.
    let version = newest_checkpoint(&planted, "vehicle_data").await;
    let mut actions = planted.actions(version);
    let info = actions
        .iter_mut()
        .find(|action| action.get("commitInfo").is_some())
        .unwrap();
    info["commitInfo"]["records"] = json!(9);
    planted.set_actions(version, &actions);
    let report = planted.check("vehicle_data").await;
    let differs = Finding::EvidenceDiffers {
        version: version as i64,
        fields: vec!["records".to_owned()],
    };
    assert_eq!(report.findings.told(), [differs]);
}

#[tokio::test]
async fn whoever_races_or_fails_each_version_is_recorded_once() {
    let store = FaultyStore::new();
    let lake = lake_on(store.clone(), 1);
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    for from in 0..30 {
        land(&table, 0, Span::new(from, from + 1)).await.unwrap();
    }
    use Fault::*;
    for (round, faults) in [
        vec![],
        vec![DoneThenTimeOut],
        vec![DoneThenExists],
        vec![Unavailable, DoneThenPrecondition],
        vec![DoneLate, None],
    ]
    .into_iter()
    .enumerate()
    {
        let until = 6 * (round as i64 + 1) - 1;
        // So that creating the table is not what fails.
        lake.record_commits("vehicle_data", 0).await.unwrap();
        store.fail_commits(&faults);
        let others: Vec<_> = (2..5).map(|seed| lake_on(store.clone(), seed)).collect();
        let others = futures::future::join_all(others.iter().map(|other| other.record_commits("vehicle_data", until)));
        let (first, others) = tokio::join!(lake.record_commits("vehicle_data", until), others);
        first.unwrap();
        others.into_iter().for_each(|outcome| outcome.unwrap());
        store.calm();
        let versions = recorded(&lake).await;
        assert_eq!(
            versions,
            (0..=until).map(|version| (version, 1)).collect(),
            "{faults:?}"
        );
    }
    // Behind what is recorded there is nothing to do.
    lake.record_commits("vehicle_data", 3).await.unwrap();
    assert_eq!(recorded(&lake).await.len(), 30);
}

/// How often each version is in the table of commits.
async fn recorded(lake: &lake::Lake) -> BTreeMap<i64, u32> {
    let mut found = BTreeMap::new();
    for batch in active_files(lake, "commits").await.iter().flat_map(|file| &file.rows) {
        let versions = batch.column_by_name("version").unwrap().as_primitive::<Int64Type>();
        versions
            .values()
            .iter()
            .for_each(|version| *found.entry(*version).or_default() += 1);
    }
    found
}

#[tokio::test]
async fn a_table_that_had_the_name_before_is_told_apart() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    for seed in [1, 2] {
        let lake = lake_on(store.clone(), seed);
        let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
        land(&table, 0, Span::new(0, 5)).await.unwrap();
        lake.record_commits("vehicle_data", table.version()).await.unwrap();
        let files = active_files(&lake, "commits").await;
        let batches = files.iter().flat_map(|file| &file.rows);
        let ids: BTreeSet<String> = batches
            .flat_map(|batch| {
                let ids: &StringArray = batch.column_by_name("table_id").unwrap().as_string();
                ids.iter().flatten().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(ids.len() as u64, seed);
        // Somebody deletes the folder, to start again.
        delete_below(&*store, "city/lake/data/vehicle_data").await;
    }
}

async fn delete_below(store: &dyn ObjectStore, folder: &str) {
    let files: Vec<_> = store.list(Some(&folder.into())).try_collect().await.unwrap();
    for file in files {
        store.delete(&file.location).await.unwrap();
    }
}
