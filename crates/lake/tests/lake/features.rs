//! Properties and features that other programs set: each is honoured, or refused before the first write with its name and
//! the way out (`docs/design/tables.md`).

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use lake::verify::{Verifier, VerifyOptions};
use lake::{CommitOutcome, Lake, Names, Table};
use model::{ManualClock, Span};
use serde_json::json;

use crate::dead_letters::letter;
use crate::readers::python;
use crate::rows::{NOON_US, batch, partition, vehicle_data};
use crate::spark::Spark;

async fn open(folder: &Path, seed: u64) -> Lake {
    let clock = Arc::new(ManualClock::new(NOON_US));
    Lake::open(folder.to_str().unwrap(), clock, Names::seeded(seed))
        .await
        .unwrap()
}

/// Commits ten rows after those that are there; the error in words.
async fn append(folder: &Path, seed: u64) -> Result<i64, String> {
    let lake = open(folder, seed).await;
    let stream = vehicle_data();
    let table: Table = lake.table(&stream, "ingest").await.map_err(|error| error.to_string())?;
    let from = table.recorded(&partition(0)).unwrap_or(0);
    let span = Span::new(from, from + 10);
    let mut writer = table.file_writer();
    writer.write(&batch(&stream, 0, span, NOON_US, 1_000_000)).unwrap();
    let staged = table.upload(writer.finish().unwrap()).await.unwrap();
    match table
        .commit_counted(vec![staged], &[(partition(0), span)], Some(10), None)
        .await
    {
        Ok(CommitOutcome::Committed { version }) => Ok(version),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

/// A lake with ten rows, and the table as Spark names it.
async fn filled(folder: &Path) -> String {
    append(folder, 1).await.unwrap();
    format!("delta.`{}`", folder.join("data/vehicle_data").display())
}

fn versions(folder: &Path) -> usize {
    let log = std::fs::read_dir(folder.join("data/vehicle_data/_delta_log")).unwrap();
    let is_commit = |name: &str| name.len() == 25 && name.ends_with(".json");
    log.filter(|entry| is_commit(entry.as_ref().unwrap().file_name().to_str().unwrap()))
        .count()
}

async fn assert_clean(folder: &Path) {
    let root = lake::Root::open(folder.to_str().unwrap(), []).unwrap();
    let verifier = Verifier::open(&root, &[], VerifyOptions::default(), &|_, _, _| {})
        .await
        .unwrap();
    let report = verifier.table("vehicle_data").await.unwrap().report;
    assert!(report.findings.passes(), "{:?}", report.findings.told());
}

/// A feature that is refused, and whose way out takes a clean-up of the table's history.
const UNTRIED: &[&str] = &["untried"];

/// Feature, what uses it, and the way out that the error must name (empty: the table is written).
const BY_SPARK: [(&str, &[&str], &[&str]); 16] = [
    (
        "appendOnly",
        &["alter table {t} set tblproperties ('delta.appendOnly' = 'true')"],
        &[],
    ),
    (
        "changeDataFeed",
        &["alter table {t} set tblproperties ('delta.enableChangeDataFeed' = 'true')"],
        &[],
    ),
    (
        "deletionVectors",
        &[
            "alter table {t} set tblproperties ('delta.enableDeletionVectors' = 'true')",
            "delete from {t} where _offset = 100000",
        ],
        &[],
    ),
    (
        "timestampNtz",
        &[
            "alter table {t} set tblproperties ('delta.feature.timestampNtz' = 'supported')",
            "alter table {t} add column noted timestamp_ntz",
        ],
        &[],
    ),
    (
        "v2Checkpoint",
        &["alter table {t} set tblproperties ('delta.checkpointPolicy' = 'v2')"],
        &[],
    ),
    (
        "vacuumProtocolCheck",
        &["alter table {t} set tblproperties ('delta.feature.vacuumProtocolCheck' = 'supported')"],
        &[],
    ),
    (
        "domainMetadata",
        &["alter table {t} set tblproperties ('delta.feature.domainMetadata' = 'supported')"],
        &[],
    ),
    // Retention, intervals, codec, statistics: honoured or harmless.
    (
        "properties",
        &[
            "alter table {t} set tblproperties ('delta.logRetentionDuration' = 'interval 3 days', \
             'delta.deletedFileRetentionDuration' = 'interval 3 days', 'delta.checkpointInterval' = '3', \
             'delta.setTransactionRetentionDuration' = 'interval 3 days', 'delta.dataSkippingNumIndexedCols' = '1', \
             'delta.isolationLevel' = 'Serializable', 'delta.parquet.compression.codec' = 'gzip', \
             'delta.targetFileSize' = '1mb', 'delta.autoOptimize.optimizeWrite' = 'true')",
        ],
        &[],
    ),
    (
        "allowColumnDefaults",
        &[
            "alter table {t} set tblproperties ('delta.feature.allowColumnDefaults' = 'supported')",
            "alter table {t} add column lane int",
            "alter table {t} alter column lane set default 5",
        ],
        &["alter table {t} alter column lane drop default"],
    ),
    (
        "checkConstraints",
        &["alter table {t} add constraint slow check (speed < 1000)"],
        &["alter table {t} drop constraint slow"],
    ),
    (
        "rowTracking",
        &["alter table {t} set tblproperties ('delta.enableRowTracking' = 'true')"],
        UNTRIED,
    ),
    (
        "inCommitTimestamp",
        &["alter table {t} set tblproperties ('delta.enableInCommitTimestamps' = 'true')"],
        &["alter table {t} set tblproperties ('delta.enableInCommitTimestamps' = 'false')"],
    ),
    (
        "columnMapping",
        &[
            "alter table {t} set tblproperties ('delta.columnMapping.mode' = 'name', 'delta.minReaderVersion' = '2', \
           'delta.minWriterVersion' = '5')",
        ],
        &["alter table {t} set tblproperties ('delta.columnMapping.mode' = 'none')"],
    ),
    (
        "icebergCompatV2",
        &[
            "alter table {t} set tblproperties ('delta.columnMapping.mode' = 'name', 'delta.minReaderVersion' = '2', \
             'delta.minWriterVersion' = '7')",
            "alter table {t} set tblproperties ('delta.enableIcebergCompatV2' = 'true')",
        ],
        UNTRIED,
    ),
    (
        "typeWidening",
        &["alter table {t} set tblproperties ('delta.enableTypeWidening' = 'true')"],
        UNTRIED,
    ),
    (
        "variantType",
        &[
            "alter table {t} set tblproperties ('delta.feature.variantType' = 'supported')",
            "alter table {t} add column anything variant",
        ],
        &[],
    ),
];

#[tokio::test]
async fn what_spark_sets_is_honoured_or_refused_by_name() {
    let Some(mut spark) = Spark::shared().await else { return };
    // Properties of later versions of the protocol.
    spark.sql("set spark.databricks.delta.allowArbitraryProperties.enabled = true");
    for (feature, statements, way_out) in BY_SPARK {
        let folder = tempfile::tempdir().unwrap();
        let table = filled(folder.path()).await;
        let run = |spark: &mut Spark, statements: &[&str]| {
            for statement in statements {
                spark.sql(&statement.replace("{t}", &table));
            }
        };
        run(&mut spark, statements);
        let is_refused = !way_out.is_empty() || feature == "variantType";
        let before = versions(folder.path());
        match append(folder.path(), 2).await {
            Ok(_) => assert!(!is_refused, "{feature} was not refused"),
            Err(error) => {
                assert!(is_refused && error.contains(feature), "{feature}: {error}");
                assert_eq!(versions(folder.path()), before, "{feature}: something was written");
            }
        }
        if feature == "variantType" || way_out == UNTRIED {
            continue;
        }
        if is_refused {
            run(&mut spark, way_out);
            append(folder.path(), 3)
                .await
                .unwrap_or_else(|error| panic!("{feature}: the way out: {error}"));
        }
        // Spark reads what was added, and a check finds nothing.
        let count = &spark.sql(&format!("select count(*) as n, sum(_offset) as offsets from {table}"))[0];
        assert_eq!(count, &json!({"n": 20, "offsets": 190}), "{feature}");
        assert_clean(folder.path()).await;
    }
}

#[tokio::test]
async fn clustered_dead_letters_are_refused() {
    let Some(mut spark) = Spark::shared().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path(), 1).await;
    lake.dead_letters([&vehicle_data()], "ingest").await.unwrap();
    let table = format!("delta.`{}`", folder.path().join("data/dead_letters").display());
    // A header always has a key, and Delta does not enforce what an element of an array must have.
    spark.sql("set spark.databricks.delta.constraints.allowUnenforcedNotNull.enabled = true");
    spark.sql(&format!("alter table {table} cluster by (topic)"));
    let refused = lake
        .dead_letters([&vehicle_data()], "ingest")
        .await
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("clustering") && refused.contains("CLUSTER BY NONE"),
        "{refused}"
    );
    spark.sql(&format!("alter table {table} cluster by none"));
    let letters = lake.dead_letters([&vehicle_data()], "ingest").await.unwrap();
    let spans = [(partition(0), Span::new(0, 1))];
    letters
        .commit(&[letter(0, 0)], &spans, &Default::default())
        .await
        .unwrap();
    assert_eq!(spark.sql(&format!("select count(*) as n from {table}"))[0]["n"], 1);
}

#[tokio::test]
async fn offsets_that_sparks_checkpoint_drops_are_recovered() {
    let Some(mut spark) = Spark::shared().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let table = filled(folder.path()).await;
    // Of a checkpoint of Spark's after the next commit, everything recorded before it is too old.
    spark.sql(&format!(
        "alter table {table} set tblproperties ('delta.setTransactionRetentionDuration' = 'interval 1 hour', \
         'delta.checkpointInterval' = '1')"
    ));
    spark.sql(&format!("update {table} set speed = speed where _offset = 1"));
    let lake = open(folder.path(), 2).await;
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    assert_eq!(table.recorded(&partition(0)), None, "Spark has kept the offset");
    let start = lake::StartingOffset {
        partition: 0,
        first: 0,
        earliest: 0,
    };
    table.record_starts("vehicle_data", "earliest", &[start]).await.unwrap();
    assert_eq!(table.recorded(&partition(0)), Some(10));
    append(folder.path(), 3).await.unwrap();
    assert_clean(folder.path()).await;
}

/// What Python's deltalake sets, and what an error must say (`None`: the table is written).
const BY_DELTALAKE: [(&str, Option<&str>); 5] = [
    (
        "table.alter.add_constraint({'slow': 'speed < 1000'})",
        Some("checkConstraints"),
    ),
    ("table.alter.set_table_properties({'delta.appendOnly': 'true'})", None),
    (
        "table.alter.set_table_properties({'delta.enableChangeDataFeed': 'true'})",
        None,
    ),
    (
        "table.alter.set_table_properties({'delta.checkpointInterval': '2', 'delta.logRetentionDuration': 'interval 1 days'})",
        None,
    ),
    (
        "table.alter.add_feature(deltalake.TableFeatures.RowTracking, True)",
        Some("rowTracking"),
    ),
];

#[tokio::test]
async fn what_pythons_deltalake_sets_is_honoured_or_refused_by_name() {
    let Some(python) = python() else { return };
    for (script, refused) in BY_DELTALAKE {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path()).await;
        let path = folder.path().join("data/vehicle_data");
        let script = format!("import sys, deltalake\ntable = deltalake.DeltaTable(sys.argv[1])\n{script}");
        let output = Command::new(&python).args(["-c", &script]).arg(path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let before = versions(folder.path());
        match (append(folder.path(), 2).await, refused) {
            (Ok(_), None) => assert_clean(folder.path()).await,
            (Err(error), Some(feature)) => {
                assert!(error.contains(feature) && error.contains("To go on, "), "{error}");
                assert_eq!(versions(folder.path()), before);
            }
            (outcome, _) => panic!("{script}: {outcome:?}"),
        }
    }
}
