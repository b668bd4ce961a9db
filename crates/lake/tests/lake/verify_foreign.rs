//! What other programs do to a table, and damage to its log: rows are values in whatever form, and what is gone is found.

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_cast::cast;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use arrow_select::filter::filter_record_batch;
use lake::Erasure;
use lake::verify::{Finding, Offsets, Severity, Verifier, VerifyOptions};
use model::Span;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use roaring::RoaringTreemap;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::rows::partition;
use crate::verify::{Planted, kinds, rewrite};

const SPARK: &str = "Apache-Spark/4.0.1 Delta-Lake/4.0.0";

/// Actions of Spark's as the next version of the table of [`Planted::new`].
fn put(planted: &Planted, operation: &str, mut actions: Vec<Value>) {
    actions.push(json!({"commitInfo": {"timestamp": 0, "operation": operation, "engineInfo": SPARK}}));
    planted.set_actions(9, &actions);
}

/// The `add` of a version, as it was committed.
fn add_of(planted: &Planted, version: u64) -> Value {
    let mut actions = planted.actions(version).into_iter();
    actions.find(|action| action.get("add").is_some()).unwrap()
}

fn remove_of(add: &Value) -> Value {
    json!({"remove": {"path": add["add"]["path"], "deletionTimestamp": 0, "dataChange": true}})
}

/// An `add` of the same file without these rows of it.
fn without_rows(add: &Value, rows: &[u64]) -> Value {
    let mut bytes = 1_681_511_377_u32.to_le_bytes().to_vec();
    rows.iter()
        .copied()
        .collect::<RoaringTreemap>()
        .serialize_into(&mut bytes)
        .unwrap();
    let size = bytes.len();
    bytes.resize(size.next_multiple_of(4), 0);
    let mut add = add.clone();
    add["add"]["deletionVector"] = json!({
        "storageType": "i", "pathOrInlineDv": z85::encode(&bytes), "sizeInBytes": size, "cardinality": rows.len(),
    });
    add
}

/// The finding of one row of partition 0 that Spark has removed.
fn removed_by_spark(offset: i64, version: i64, operation: &str) -> Finding {
    Finding::RemovedRows {
        offsets: Offsets::of(&partition(0), Span::new(offset, offset + 1)),
        version,
        operation: operation.to_owned(),
        by: SPARK.to_owned(),
    }
}

#[tokio::test]
async fn rows_that_a_deletion_vector_deletes_are_not_there() {
    let planted = Planted::new().await;
    // Version 3 holds offsets 100 to 199 of partition 0 but every tenth; rows 0 and 5 are offsets 100 and 106.
    let add = add_of(&planted, 3);
    // The one commit removes and adds the same path, in either order.
    for turned in [false, true] {
        let mut actions = vec![remove_of(&add), without_rows(&add, &[0, 5])];
        if turned {
            actions.reverse();
        }
        put(&planted, "DELETE", actions);
        let report = planted.check("vehicle_data").await;
        let partition = &report.partitions[0];
        assert_eq!((report.rows, partition.removed, partition.lost), (598, 2, 0));
        // By which version and by whom; nothing else is wrong.
        let by = [100, 106].map(|offset| removed_by_spark(offset, 9, "DELETE"));
        assert_eq!(report.findings.told(), by);
    }
    let erasures = planted.lake.erasures("ingest").await.unwrap();
    let erased = [100, 106].map(|offset| Erasure {
        topic_partition: partition(0),
        span: Span::new(offset, offset + 1),
        element: None,
    });
    erasures.record(&erased, "asked for").await.unwrap();
    let report = planted.check("vehicle_data").await;
    assert_eq!(report.findings.worst(), None, "{:?}", report.findings.told());
    assert_eq!(report.partitions[0].erased, 2);
}

/// Copies the file of a version under another name without some rows; its `add`.
fn copy_without(planted: &Planted, version: u64, name: &str, is_gone: impl Fn(i64) -> bool) -> Value {
    let mut add = add_of(planted, version);
    let from = planted.data_file(version);
    let to = from.with_file_name(name);
    std::fs::copy(&from, &to).unwrap();
    let mut rows = 0;
    rewrite(&to, |batch| {
        let offsets = batch["_offset"].as_primitive::<Int64Type>();
        let stays: BooleanArray = offsets.values().iter().map(|offset| Some(!is_gone(*offset))).collect();
        let left = filter_record_batch(&batch, &stays).unwrap();
        rows += left.num_rows();
        left
    });
    let path = add["add"]["path"].as_str().unwrap();
    let (folder, _) = path.rsplit_once('/').unwrap();
    add["add"]["path"] = json!(format!("{folder}/{name}"));
    add["add"]["size"] = json!(std::fs::metadata(&to).unwrap().len());
    add["add"]["stats"] = json!(format!("{{\"numRecords\":{rows}}}"));
    add["add"]["tags"] = json!({});
    add
}

#[tokio::test]
async fn rows_that_another_program_removed_are_told_from_rows_that_were_lost() {
    let planted = Planted::new().await;
    // An update that keeps all rows, a deletion after it, and a loss that no commit explains.
    let (old, updated) = (
        add_of(&planted, 3),
        copy_without(&planted, 3, "updated.parquet", |_| false),
    );
    put(&planted, "UPDATE", vec![remove_of(&old), updated.clone()]);
    let deleted = copy_without(&planted, 3, "deleted.parquet", |offset| offset == 150);
    let delete = [
        remove_of(&updated),
        deleted,
        json!({"commitInfo": {"operation": "DELETE", "engineInfo": SPARK}}),
    ];
    planted.set_actions(10, &delete);
    assert_eq!(
        planted.check("vehicle_data").await.findings.told(),
        [removed_by_spark(150, 10, "DELETE")]
    );
    planted.rewrite_without(5, |offset| offset == 204);
    let report = planted.check("vehicle_data").await;
    assert_eq!((report.partitions[0].removed, report.partitions[0].lost), (1, 1));
    assert_eq!(planted.kinds().await, kinds(["commit_short", "lost", "removed_rows"]));
    // With the removed file gone nobody can tell any more what went with it.
    std::fs::remove_file(planted.table().join(updated["add"]["path"].as_str().unwrap())).unwrap();
    assert_eq!(planted.kinds().await, kinds(["commit_short", "lost"]));
    let report = planted.check("vehicle_data").await;
    let untold = report
        .findings
        .told()
        .iter()
        .filter(|finding| matches!(finding, Finding::Removed { .. }));
    assert_eq!(untold.count(), 2, "{:?}", report.findings.told());
}

#[tokio::test]
async fn a_deletion_vector_that_cannot_be_read_is_found() {
    let planted = Planted::new().await;
    let add = add_of(&planted, 3);
    let mut other = without_rows(&add, &[0, 5]);
    other["add"]["deletionVector"]["cardinality"] = json!(3);
    put(&planted, "DELETE", vec![remove_of(&add), other]);
    assert!(planted.kinds().await.contains("unreadable_file"));
}

#[tokio::test]
async fn another_physical_form_of_the_same_values_is_no_difference() {
    let planted = Planted::new().await;
    let options = VerifyOptions {
        digests: true,
        ..VerifyOptions::default()
    };
    let digests = async || {
        let verifier = Verifier::open(planted.lake.root(), &[], options.clone(), &|_, _, _| {})
            .await
            .unwrap();
        verifier.table("vehicle_data").await.unwrap().digests
    };
    let before = digests().await;
    assert!(!before.is_empty());
    // Texts as views, timestamps in milliseconds where they are whole ones, columns in another order.
    let path = planted.data_file(3);
    let bytes = bytes::Bytes::from(std::fs::read(&path).unwrap());
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .unwrap()
        .build()
        .unwrap();
    let mut writer = None;
    for batch in reader {
        let batch = batch.unwrap();
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()).rev() {
            let other = match field.data_type() {
                DataType::Utf8 => DataType::Utf8View,
                DataType::Timestamp(..) if field.name() != "_kafka_timestamp" => {
                    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
                }
                other => other.clone(),
            };
            fields.push(Field::new(field.name(), other.clone(), true));
            columns.push(cast(column, &other).unwrap());
        }
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let writer = writer.get_or_insert_with(|| {
            ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), batch.schema(), None).unwrap()
        });
        writer.write(&batch).unwrap();
    }
    writer.unwrap().close().unwrap();
    let mut actions = planted.actions(3);
    for action in actions.iter_mut().filter(|action| action.get("add").is_some()) {
        action["add"]["size"] = json!(std::fs::metadata(&path).unwrap().len());
        action["add"]["tags"] = json!({});
    }
    planted.set_actions(3, &actions);
    assert_eq!(planted.kinds().await, kinds([]));
    assert_eq!(digests().await, before);
}

#[tokio::test]
async fn damage_to_the_log_is_found() {
    let planted = Planted::new().await;
    let path = planted.commit_file("vehicle_data", 3);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{{\"add\": \n{text}")).unwrap();
    assert_eq!(
        planted.kinds().await,
        kinds(["unreadable_log"]),
        "the other lines are read"
    );
}

#[tokio::test]
async fn a_file_that_is_no_parquet_is_found() {
    let planted = Planted::new().await;
    let path = planted.data_file(3);
    let size = std::fs::metadata(&path).unwrap().len() as usize;
    std::fs::write(&path, vec![7; size]).unwrap();
    assert_eq!(
        planted.kinds().await,
        kinds(["commit_short", "file_changed", "lost", "unreadable_file"])
    );
}

#[tokio::test]
async fn rows_in_a_recorded_gap_are_found() {
    let planted = Planted::new().await;
    let gaps = planted.lake.gaps("ingest").await.unwrap();
    gaps.record(&partition(0), Span::new(120, 130), "retention")
        .await
        .unwrap();
    assert_eq!(planted.kinds().await, kinds(["row_in_gap"]));
}

#[tokio::test]
async fn holes_of_a_commit_that_counted_nothing_are_doubts() {
    let planted = Planted::new().await;
    let mut actions = planted.actions(4);
    for action in actions.iter_mut().filter(|action| action.get("commitInfo").is_some()) {
        action["commitInfo"].as_object_mut().unwrap().remove("records");
    }
    planted.set_actions(4, &actions);
    let report = planted.check("vehicle_data").await;
    assert_eq!(report.findings.worst(), Some(Severity::Doubt));
    assert_eq!(planted.kinds().await, kinds(["unexplained"]));
    assert!(report.findings.passes() && report.partitions[1].unexplained > 0);
}

#[tokio::test]
async fn offsets_that_were_skipped_between_two_commits_are_found() {
    let planted = Planted::new().await;
    let mut actions = planted.actions(7);
    for action in actions.iter_mut().filter(|action| action.get("commitInfo").is_some()) {
        action["commitInfo"]["spans"][0]["from"] = json!(310);
        action["commitInfo"]["records"] = json!(90);
    }
    planted.set_actions(7, &actions);
    let report = planted.check("vehicle_data").await;
    let skipped = Finding::BrokenChain {
        topic: "vehicle_data".to_owned(),
        partition: 0,
        version: 7,
        expected: 300,
        found: 310,
    };
    assert!(
        report.findings.told().contains(&skipped),
        "{:?}",
        report.findings.told()
    );
}
