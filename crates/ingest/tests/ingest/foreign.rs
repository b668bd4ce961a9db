//! What other programs do to a lake, by those programs themselves: what they rewrite holds the same values, what they
//! remove is reported as removed, and what they forbid is not done.

use std::path::{Path, PathBuf};
use std::process::Command;

use ingest::backfill::Backfill;
use ingest::replay::{Letter, Replay};
use ingest::verify::against_kafka;
use lake::verify::{Finding, Verifier, VerifyOptions};
use lake::{Lake, LakeError};
use model::{Chunk, ChunkBuilder, Stream, TopicPartition};

use crate::replay::land;
use crate::spark::Spark;
use crate::{OneChunk, open_lake};

const APPLICATION: &str = "test";
const RECORDS: i64 = 60;

/// Without the field `lane`, and with numbers from 0 on; or with both.
fn stream(knows_lane: bool) -> Stream {
    let (least, lane) = match knows_lane {
        false => (0, ""),
        true => (
            -100,
            "[[field]]\nname = \"lane\"\ntype = \"integer\"\nnullable = true\ndoc = \"l\"\n",
        ),
    };
    let text = format!(
        r#"
        name = "readings"
        description = "d"
        key = "id"
        event_time = "at"
        [[field]]
        name = "id"
        type = "string"
        doc = "i"
        [[field]]
        name = "at"
        type = "timestamp"
        doc = "t"
        [[field]]
        name = "value"
        type = "double"
        min = {least}
        doc = "v"
        {lane}
        "#
    );
    Stream::parse("readings.toml", &text).unwrap()
}

/// Every tenth value is negative.
fn chunk() -> Chunk {
    let mut chunk = ChunkBuilder::new(TopicPartition::new("readings", 0), 0);
    for offset in 0..RECORDS {
        let value = if offset % 10 == 9 { -1.5 } else { offset as f64 / 8.0 };
        let (day, lane) = (1 + offset % 2, offset % 4);
        let text =
            format!(r#"{{"id":"i{offset}","at":"2026-01-0{day}T00:00:00.123456Z","value":{value},"lane":{lane}}}"#);
        chunk.push(
            offset,
            1_700_000_000_000 + offset,
            Some(b"key"),
            Some(text.as_bytes()),
            [],
        );
    }
    chunk.finish(RECORDS)
}

async fn landed(folder: &Path) -> (Lake, Vec<Letter>) {
    let lake = open_lake(folder).await;
    let letters = land(&lake, &stream(false), &chunk()).await;
    assert_eq!(letters.len(), 6);
    (lake, letters)
}

/// What a check of the lake and of every record against its topic finds, but for files that no version names.
async fn findings(lake: &Lake, declaration: &Stream) -> Vec<Finding> {
    let options = VerifyOptions {
        digests: true,
        ..VerifyOptions::default()
    };
    let verifier = Verifier::open(lake.root(), &[], options, &|_, _, _| {}).await.unwrap();
    let mut found = Vec::new();
    for name in ["dead_letters", "readings"] {
        let mut table = verifier.table(name).await.unwrap();
        if name == "readings" {
            let mut log = OneChunk(chunk(), false);
            against_kafka(declaration, &mut log, &verifier, &mut table, &|_| {})
                .await
                .unwrap();
        }
        found.extend(table.report.findings.told().iter().cloned());
    }
    found.retain(|finding| !matches!(finding, Finding::Orphans { .. } | Finding::WouldPass(_)));
    found
}

/// Offset, version, operation and program of each removed row; nothing else may be found.
fn removed(findings: &[Finding]) -> Vec<(i64, i64, &str, &str)> {
    let each = findings.iter().flat_map(|finding| match finding {
        Finding::RemovedRows {
            offsets,
            version,
            operation,
            by,
        } => {
            let program = by.split(['/', ':', ' ']).next().unwrap();
            (offsets.from..offsets.to).map(move |offset| (offset, *version, operation.as_str(), program))
        }
        other => panic!("{other}"),
    });
    let mut each: Vec<_> = each.collect();
    each.sort_unstable();
    each
}

async fn backfill(lake: &Lake) -> Result<(u64, u64), LakeError> {
    let table = lake.table(&stream(true), APPLICATION).await?;
    let mut backfill = Backfill::new(table, &stream(true)).unwrap();
    let done = backfill.run(&|_, _| {}).await?;
    Ok((done.rows, done.bad))
}

async fn replay(lake: &Lake, letters: &[Letter]) -> Result<u64, LakeError> {
    let mut replay = Replay::open(lake, &stream(true), APPLICATION).await?;
    Ok(replay.land(letters, 0).await?.rows)
}

fn table(folder: &Path, name: &str) -> String {
    format!("delta.`{}`", folder.join("data").join(name).display())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_spark_rewrites_and_removes() {
    let Some(mut spark) = Spark::shared().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let (lake, letters) = landed(folder.path()).await;
    let (rows, dead) = (table(folder.path(), "readings"), table(folder.path(), "dead_letters"));
    // Its defaults write timestamps in 96 bits; others know milliseconds, gzip and lz4.
    spark.sql("set spark.sql.parquet.outputTimestampType = INT96");
    spark.sql(&format!("update {rows} set value = value where _offset % 2 = 0"));
    spark.sql("set spark.sql.parquet.compression.codec = gzip");
    spark.sql(&format!("update {dead} set error = error where offset < 30"));
    spark.sql("set spark.sql.parquet.outputTimestampType = TIMESTAMP_MICROS");
    spark.sql(&format!("update {rows} set value = value where _offset % 2 = 1"));
    spark.sql("set spark.sql.parquet.compression.codec = snappy");
    assert_eq!(findings(&lake, &stream(false)).await, []);
    // A row of each file goes, with deletion vectors, and one by another file.
    spark.sql(&format!(
        "alter table {rows} set tblproperties ('delta.enableDeletionVectors' = 'true')"
    ));
    let version = |spark: &mut Spark| {
        spark.sql(&format!("describe history {rows} limit 1"))[0]["version"]
            .as_i64()
            .unwrap()
    };
    spark.sql(&format!("delete from {rows} where _offset in (4, 5)"));
    let first = version(&mut spark);
    spark.sql("set spark.databricks.delta.delete.deletionVectors.persistent = false");
    spark.sql(&format!("delete from {rows} where _offset = 7"));
    let second = version(&mut spark);
    spark.sql("set spark.databricks.delta.delete.deletionVectors.persistent = true");
    spark.sql(&format!("optimize {rows}"));
    let gone =
        [(4, first), (5, first), (7, second)].map(|(offset, version)| (offset, version, "DELETE", "Apache-Spark"));
    let found = findings(&lake, &stream(false)).await;
    assert_eq!(removed(&found), gone);

    // All of it is read and written by ours, and the result by Spark.
    spark.sql(&format!("delete from {rows} where _offset = 8"));
    let third = version(&mut spark);
    assert_eq!(backfill(&lake).await.unwrap(), (50, 0));
    assert_eq!(replay(&lake, &letters).await.unwrap(), 6);
    // Again: those rows are there, in whatever file.
    assert_eq!(replay(&lake, &letters).await.unwrap(), 0);
    let found = findings(&lake, &stream(true)).await;
    let mut gone = gone.to_vec();
    gone.push((8, third, "DELETE", "Apache-Spark"));
    assert_eq!(removed(&found), gone);
    let sums = "count(*) as n, count(lane) as lanes, sum(_offset) as offsets, min(value) as least, \
                sum(unix_micros(at) % 1000003) as times";
    let row = &spark.sql(&format!("select {sums} from {rows}"))[0];
    let left: Vec<i64> = (0..RECORDS).filter(|offset| ![4, 5, 7, 8].contains(offset)).collect();
    let at_us = |offset: i64| 1_767_225_600_123_456 + (offset % 2) * 86_400_000_000;
    assert_eq!(row["n"], left.len());
    assert_eq!(row["lanes"], left.len());
    assert_eq!(row["offsets"], left.iter().sum::<i64>());
    assert_eq!(row["least"], -1.5);
    assert_eq!(
        row["times"],
        left.iter().map(|offset| at_us(*offset) % 1_000_003).sum::<i64>()
    );
    assert_eq!(spark.sql(&format!("select count(*) as n from {dead}"))[0]["n"], 0);
}

/// Runs Python's deltalake on a table; `false` after saying so where it is not there.
fn deltalake(path: PathBuf, script: &str) -> bool {
    let python = std::env::var("SMARTCITY_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = format!("import sys, deltalake\ntable = deltalake.DeltaTable(sys.argv[1])\n{script}");
    let output = Command::new(&python).args(["-c", &script]).arg(path).output();
    let error = output.as_ref().map_or_else(ToString::to_string, |output| {
        String::from_utf8_lossy(&output.stderr).into_owned()
    });
    let is_there = output.is_ok() && !error.contains("No module named");
    if !is_there {
        crate::skip::skip("Python with deltalake (name it in SMARTCITY_PYTHON)");
        return false;
    }
    assert!(output.is_ok_and(|output| output.status.success()), "{error}");
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pythons_deltalake_rewrites_and_removes() {
    let folder = tempfile::tempdir().unwrap();
    let (lake, letters) = landed(folder.path()).await;
    let path = |name: &str| folder.path().join("data").join(name);
    if !deltalake(
        path("readings"),
        "table.delete(\"id = 'i1'\")\ntable.update(updates={'value': 'value'})",
    ) {
        return;
    }
    assert!(deltalake(
        path("dead_letters"),
        "table.update(updates={'error': 'error'})"
    ));
    let found = findings(&lake, &stream(false)).await;
    assert_eq!(removed(&found), [(1, 2, "DELETE", "delta-rs")]);
    assert_eq!(backfill(&lake).await.unwrap(), (53, 0));
    assert_eq!(replay(&lake, &letters).await.unwrap(), 6);
    assert!(deltalake(path("readings"), "table.optimize.compact()"));
    let found = findings(&lake, &stream(true)).await;
    assert_eq!(removed(&found), [(1, 2, "DELETE", "delta-rs")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_an_append_only_table_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let (lake, letters) = landed(folder.path()).await;
    let path = |name: &str| folder.path().join("data").join(name);
    for property in ["delta.appendOnly", "delta.enableChangeDataFeed"] {
        let set = |value: &str| format!("table.alter.set_table_properties({{'{property}': '{value}'}})");
        if !deltalake(path("readings"), &set("true")) || !deltalake(path("dead_letters"), &set("true")) {
            return;
        }
        let files = || walk(&folder.path().join("data"));
        // Opening adopts the new column and no more.
        lake.table(&stream(true), APPLICATION).await.unwrap();
        lake.dead_letters([&stream(true)], APPLICATION).await.unwrap();
        let before = files();
        for refused in [backfill(&lake).await.map(drop), replay(&lake, &letters).await.map(drop)] {
            let error = refused.unwrap_err();
            assert!(!error.is_retryable() && error.to_string().contains(property), "{error}");
        }
        assert_eq!(files(), before, "nothing was written");
        // Rows are added all the same.
        let table = lake.table(&stream(true), APPLICATION).await.unwrap();
        let place = TopicPartition::new("readings", 1);
        let recorded = table.recorded(&place).unwrap_or(0);
        let span = model::Span::new(recorded, recorded + 1);
        table.commit(Vec::new(), &[(place, span)]).await.unwrap();
        assert!(deltalake(path("readings"), &set("false")) && deltalake(path("dead_letters"), &set("false")));
    }
    assert_eq!(backfill(&lake).await.unwrap(), (54, 0));
    assert_eq!(replay(&lake, &letters).await.unwrap(), 6);
}

/// Every file below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(walk(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found.sort();
    found
}
