//! Every fault that is planted by hand is found, and a clean table has none.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;

use lake::verify::{Finding, Severity, TableReport, Verifier, VerifyOptions};
use lake::{Lake, Names, Table};
use model::{ManualClock, Span};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::dead_letters::letter;
use crate::rows::{NOON_US, batch, partition, vehicle_data};

pub(crate) struct Planted {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) lake: Lake,
}

impl Planted {
    /// Two partitions in eight commits; every tenth offset of partition 0 is a dead letter, and of the offsets of
    /// partition 1 Kafka never handed out every seventh.
    pub(crate) async fn new() -> Planted {
        let planted = Planted::empty();
        let table = planted.lake.table(&vehicle_data(), "ingest").await.unwrap();
        for commit in 0..4 {
            planted
                .land(&table, 0, Span::new(commit * 100, commit * 100 + 100), |offset| {
                    offset % 10 != 3
                })
                .await;
            let span = Span::new(50 + commit * 70, 120 + commit * 70);
            planted.land_skipping(&table, 1, span).await;
        }
        planted
    }

    pub(crate) fn empty() -> Planted {
        let folder = tempfile::tempdir().unwrap();
        let lake = Planted::open(folder.path(), 1);
        Planted { folder, lake }
    }

    /// Another writer's handle on the lake.
    pub(crate) fn open(folder: &Path, seed: u64) -> Lake {
        let url = url::Url::from_directory_path(folder.canonicalize().unwrap()).unwrap();
        let store = Arc::new(object_store::local::LocalFileSystem::new());
        Lake::with_store(store, url, Arc::new(ManualClock::new(NOON_US)), Names::seeded(seed))
    }

    /// What `keeps` refuses becomes a letter.
    pub(crate) async fn land(&self, table: &Table, number: i32, span: Span, keeps: fn(i64) -> bool) {
        let dead: Vec<_> = (span.from..span.to)
            .filter(|offset| !keeps(*offset))
            .map(|o| letter(number, o))
            .collect();
        if !dead.is_empty() {
            let letters = self.lake.dead_letters([&vehicle_data()], "ingest").await.unwrap();
            let known = HashMap::from([(partition(number), letters.mark(&partition(number)))]);
            letters
                .commit(&dead, &[(partition(number), span)], &known)
                .await
                .unwrap();
        }
        self.commit(table, number, span, keeps, (span.to - span.from) as u64)
            .await;
    }

    async fn land_skipping(&self, table: &Table, number: i32, span: Span) {
        let keeps = |offset: i64| offset % 7 != 0;
        let records = (span.from..span.to).filter(|offset| keeps(*offset)).count() as u64;
        self.commit(table, number, span, keeps, records).await;
    }

    async fn commit(&self, table: &Table, number: i32, span: Span, keeps: fn(i64) -> bool, records: u64) {
        let mut writer = table.file_writer();
        for offset in (span.from..span.to).filter(|offset| keeps(*offset)) {
            let one = Span::new(offset, offset + 1);
            writer
                .write(&batch(&vehicle_data(), number, one, NOON_US, 1_000_000))
                .unwrap();
        }
        let staged = table.upload(writer.finish().unwrap()).await.unwrap();
        table
            .commit_counted(vec![staged], &[(partition(number), span)], Some(records), None)
            .await
            .unwrap();
    }

    pub(crate) fn table(&self) -> PathBuf {
        self.folder.path().join("data/vehicle_data")
    }

    pub(crate) fn commit_file(&self, table: &str, version: u64) -> PathBuf {
        self.folder
            .path()
            .join(format!("data/{table}/_delta_log/{version:020}.json"))
    }

    pub(crate) fn actions(&self, version: u64) -> Vec<Value> {
        let text = std::fs::read_to_string(self.commit_file("vehicle_data", version)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn set_actions(&self, version: u64, actions: &[Value]) {
        let lines: String = actions.iter().map(|action| format!("{action}\n")).collect();
        std::fs::write(self.commit_file("vehicle_data", version), lines).unwrap();
    }

    /// The data file that a version added.
    pub(crate) fn data_file(&self, version: u64) -> PathBuf {
        let actions = self.actions(version);
        let path = actions
            .iter()
            .find_map(|action| action["add"]["path"].as_str())
            .unwrap();
        self.table().join(path)
    }

    /// Takes rows out of the file of a version, and puts the log right.
    pub(crate) fn rewrite_without(&self, version: u64, is_gone: impl Fn(i64) -> bool) {
        let path = self.data_file(version);
        let mut rows = 0;
        rewrite(&path, |batch| {
            let offsets = batch.column_by_name("_offset").unwrap().as_primitive::<Int64Type>();
            let stays: BooleanArray = offsets.values().iter().map(|offset| Some(!is_gone(*offset))).collect();
            let left = filter_record_batch(&batch, &stays).unwrap();
            rows += left.num_rows();
            left
        });
        let size = std::fs::metadata(&path).unwrap().len();
        let mut actions = self.actions(version);
        for action in &mut actions {
            if action.get("add").is_some() {
                action["add"]["size"] = json!(size);
                action["add"]["stats"] = json!(format!("{{\"numRecords\":{rows}}}"));
                action["add"]["tags"] = json!({});
            } else if action.get("commitInfo").is_some() {
                action["commitInfo"]["operationMetrics"]["numOutputRows"] = json!(rows.to_string());
            }
        }
        self.set_actions(version, &actions);
    }

    pub(crate) async fn check(&self, table: &str) -> TableReport {
        let options = VerifyOptions {
            // Several passes even over so few.
            offsets_per_pass: 150,
            elements_per_pass: 10,
            digests: false,
        };
        let verifier = Verifier::open(self.lake.root(), &[], options, &|_, _, _| {})
            .await
            .unwrap();
        verifier.table(table).await.unwrap().report
    }

    /// The kinds of fault and doubt.
    pub(crate) async fn kinds(&self) -> BTreeSet<&'static str> {
        let report = self.check("vehicle_data").await;
        let bad = report
            .findings
            .told()
            .iter()
            .filter(|finding| finding.severity() > Severity::Note);
        bad.map(Finding::kind).collect()
    }
}

/// Writes a Parquet file again with other rows.
pub(crate) fn rewrite(path: &Path, mut change: impl FnMut(RecordBatch) -> RecordBatch) {
    let bytes = bytes::Bytes::from(std::fs::read(path).unwrap());
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    let mut writer = parquet::arrow::ArrowWriter::try_new(std::fs::File::create(path).unwrap(), schema, None).unwrap();
    batches
        .into_iter()
        .for_each(|batch| writer.write(&change(batch)).unwrap());
    writer.close().unwrap();
}

pub(crate) fn kinds<const N: usize>(of: [&'static str; N]) -> BTreeSet<&'static str> {
    of.into()
}

#[tokio::test]
async fn a_clean_table_is_clean() {
    let planted = Planted::new().await;
    let report = planted.check("vehicle_data").await;
    assert!(report.findings.told().is_empty(), "{:?}", report.findings.told());
    assert_eq!(
        (report.version, report.files, report.rows, report.checksums),
        (8, 8, 360 + 240, 8)
    );
    let figures: Vec<_> = report
        .partitions
        .iter()
        .map(|partition| {
            (
                partition.start,
                partition.recorded,
                partition.rows,
                partition.letters,
                partition.skipped,
            )
        })
        .collect();
    assert_eq!(figures, [(0, 400, 360, 40, 0), (50, 330, 240, 0, 40)]);
    let letters = planted.check("dead_letters").await;
    assert!(letters.findings.told().is_empty(), "{:?}", letters.findings.told());
    assert_eq!(letters.rows, 40);
}

#[tokio::test]
async fn a_deleted_file_is_found_with_the_offsets_it_held() {
    let planted = Planted::new().await;
    std::fs::remove_file(planted.data_file(3)).unwrap();
    let report = planted.check("vehicle_data").await;
    let told = report.findings.told();
    assert!(
        told.iter()
            .any(|finding| matches!(finding, Finding::MissingFile { .. })),
        "{told:?}"
    );
    assert!(
        told.contains(&Finding::CommitShort {
            version: 3,
            recorded: 100,
            found: 10
        }),
        "{told:?}"
    );
    assert_eq!(report.partitions[0].lost, 90);
    assert_eq!(planted.kinds().await, kinds(["missing_file", "commit_short", "lost"]));
}

#[tokio::test]
async fn a_rewritten_file_with_fewer_rows_is_found() {
    let planted = Planted::new().await;
    let path = planted.data_file(3);
    let bytes = bytes::Bytes::from(std::fs::read(&path).unwrap());
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let schema = reader.schema().clone();
    let rows: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    let mut writer = parquet::arrow::ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), schema, None).unwrap();
    // As if its last row group were gone.
    writer.write(&rows[0].slice(0, 50)).unwrap();
    writer.close().unwrap();
    assert_eq!(
        planted.kinds().await,
        kinds(["file_size", "statistics", "commit_short", "lost"])
    );

    // Nor does it help to put the log right.
    let size = std::fs::metadata(&path).unwrap().len();
    let mut actions = planted.actions(3);
    for action in &mut actions {
        if action.get("add").is_some() {
            action["add"]["size"] = json!(size);
            action["add"]["stats"] = json!("{\"numRecords\":50}");
            action["add"]["tags"] = json!({});
        }
    }
    planted.set_actions(3, &actions);
    assert_eq!(planted.kinds().await, kinds(["commit_rows", "commit_short", "lost"]));
}

#[tokio::test]
async fn a_doubled_file_is_found() {
    let planted = Planted::new().await;
    let path = planted.data_file(1);
    let copy = path.with_file_name("part-copy.parquet");
    std::fs::copy(&path, &copy).unwrap();
    // Nothing but a stray, until a commit names it.
    assert_eq!(planted.kinds().await, kinds([]));
    assert!(planted.check("vehicle_data").await.findings.has("orphans"));
    let mut add = planted
        .actions(1)
        .into_iter()
        .find(|action| action.get("add").is_some())
        .unwrap();
    let below = copy.strip_prefix(planted.table()).unwrap();
    add["add"]["path"] = json!(below);
    planted.set_actions(9, &[add]);
    let report = planted.check("vehicle_data").await;
    assert_eq!(report.partitions[0].doubled, 90);
    assert_eq!(planted.kinds().await, kinds(["doubled"]));
}

/// Rewrites the file with one value changed, and the log so that only what `keeps_checksum` leaves can tell.
fn change_speed(planted: &Planted, version: u64, to: f64, keeps_checksum: bool) {
    use arrow_array::{Float64Array, RecordBatch};
    let path = planted.data_file(version);
    let bytes = bytes::Bytes::from(std::fs::read(&path).unwrap());
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let schema = reader.schema().clone();
    let rows: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    let index = schema.index_of("speed").unwrap();
    let mut columns = rows[0].columns().to_vec();
    let speeds = columns[index].as_any().downcast_ref::<Float64Array>().unwrap();
    let changed: Vec<f64> = speeds
        .values()
        .iter()
        .enumerate()
        .map(|(row, speed)| if row == 5 { to } else { *speed })
        .collect();
    columns[index] = Arc::new(Float64Array::from(changed));
    let rows = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), schema, None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    let size = std::fs::metadata(&path).unwrap().len();
    let mut actions = planted.actions(version);
    for action in &mut actions {
        if action.get("add").is_some() {
            action["add"]["size"] = json!(size);
            if !keeps_checksum {
                action["add"]["tags"] = json!({});
            }
        }
    }
    planted.set_actions(version, &actions);
}

#[tokio::test]
async fn a_changed_value_is_found() {
    let planted = Planted::new().await;
    // Within the bounds only the checksum tells; without one, only the topic would.
    change_speed(&planted, 1, 2.0, true);
    assert_eq!(planted.kinds().await, kinds(["file_changed"]));
    change_speed(&planted, 1, 3.0, false);
    assert_eq!(planted.kinds().await, kinds([]));
    change_speed(&planted, 1, 1e9, false);
    assert_eq!(planted.kinds().await, kinds(["statistics"]));
}

#[tokio::test]
async fn flipped_bits_are_found() {
    let planted = Planted::new().await;
    let path = planted.data_file(2);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    assert!(planted.kinds().await.contains("file_changed"));
}

#[tokio::test]
async fn a_removed_commit_is_found() {
    let planted = Planted::new().await;
    std::fs::remove_file(planted.commit_file("vehicle_data", 3)).unwrap();
    let report = planted.check("vehicle_data").await;
    assert!(report.findings.told().contains(&Finding::MissingVersion { version: 3 }));
    // Nothing tells any more whether its offsets were records.
    assert_eq!(report.partitions[0].unexplained, 90);
    assert!(report.findings.has("orphans"));
}

#[tokio::test]
async fn lost_letters_are_found_by_the_rows_commit() {
    let planted = Planted::new().await;
    std::fs::remove_file(planted.commit_file("dead_letters", 4)).unwrap();
    // Whoever looks at the letters alone sees a shorter log. The rows' commit knows how many records it took over.
    assert!(planted.check("dead_letters").await.findings.worst() < Some(Severity::Fault));
    assert_eq!(planted.kinds().await, kinds(["commit_short", "lost"]));
}

#[tokio::test]
async fn rows_in_the_wrong_place_are_found() {
    let planted = Planted::new().await;
    let mut actions = planted.actions(7);
    for action in &mut actions {
        if action.get("txn").is_some() {
            action["txn"]["version"] = json!(350);
        }
    }
    planted.set_actions(7, &actions);
    assert_eq!(planted.kinds().await, kinds(["beyond_recorded"]));
}

#[tokio::test]
async fn letters_ahead_of_their_rows_are_no_fault() {
    let planted = Planted::new().await;
    let letters = planted.lake.dead_letters([&vehicle_data()], "ingest").await.unwrap();
    let known = HashMap::from([(partition(0), letters.mark(&partition(0)))]);
    let spans = [(partition(0), Span::new(400, 410))];
    letters.commit(&[letter(0, 405)], &spans, &known).await.unwrap();
    let report = planted.check("vehicle_data").await;
    assert_eq!(report.findings.worst(), Some(Severity::Note));
    assert!(report.findings.has("letters_ahead"));
}

#[tokio::test]
async fn a_letter_beside_its_row_is_found() {
    let planted = Planted::new().await;
    let letters = planted.lake.dead_letters([&vehicle_data()], "ingest").await.unwrap();
    let known = HashMap::from([(partition(1), letters.mark(&partition(1)))]);
    let spans = [(partition(1), Span::new(60, 70))];
    letters.commit(&[letter(1, 64)], &spans, &known).await.unwrap();
    assert_eq!(planted.kinds().await, kinds(["row_and_letter"]));
}

#[tokio::test]
async fn a_checkpoint_keeps_what_is_needed() {
    let planted = Planted::empty();
    let table = planted.lake.table(&vehicle_data(), "ingest").await.unwrap();
    for commit in 0..100 {
        planted
            .land(&table, 0, Span::new(commit * 2, commit * 2 + 2), |_| true)
            .await;
    }
    let checkpoint = planted
        .commit_file("vehicle_data", 100)
        .with_extension("checkpoint.parquet");
    for _ in 0..200 {
        if Path::new(&checkpoint).exists() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let report = planted.check("vehicle_data").await;
    assert!(report.findings.told().is_empty(), "{:?}", report.findings.told());
    // As a clean-up leaves it: the older commits are gone, the files are still known, with their checksums.
    for version in 0..100 {
        std::fs::remove_file(planted.commit_file("vehicle_data", version)).unwrap();
    }
    let report = planted.check("vehicle_data").await;
    assert!(report.findings.told().is_empty(), "{:?}", report.findings.told());
    assert_eq!((report.files, report.rows, report.checksums), (100, 200, 100));
    std::fs::remove_file(planted.table().join(first_file(&planted.table()))).unwrap();
    assert!(planted.check("vehicle_data").await.findings.has("missing_file"));
}

fn first_file(table: &Path) -> PathBuf {
    let day = std::fs::read_dir(table).unwrap().map(|entry| entry.unwrap().path());
    let day = day
        .filter(|path| path.to_string_lossy().contains("event_date="))
        .min()
        .unwrap();
    std::fs::read_dir(day)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .min()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_at_work_is_no_fault() {
    let planted = Arc::new(Planted::new().await);
    let writer = tokio::spawn({
        let planted = Arc::clone(&planted);
        async move {
            let table = planted.lake.table(&vehicle_data(), "ingest").await.unwrap();
            for from in (400..1000).step_by(20) {
                planted
                    .land(&table, 0, Span::new(from, from + 20), |offset| offset % 10 != 3)
                    .await;
            }
        }
    });
    let mut checks = 0;
    while !writer.is_finished() || checks == 0 {
        let report = planted.check("vehicle_data").await;
        assert!(
            report.findings.worst() <= Some(Severity::Note),
            "{:?}",
            report.findings.told()
        );
        checks += 1;
    }
    writer.await.unwrap();
    assert_eq!(planted.check("vehicle_data").await.partitions[0].recorded, 1000);
}
