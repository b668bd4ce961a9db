//! How long queries take on a table of many small files and on one of many rows. Not a check: run by hand, with a folder
//! for the lake, which is made when it is not there:
//!
//!     SMARTCITY_SPEED_LAKE=/tmp/speed cargo test -p serve --test serve speed -- --ignored --nocapture

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{
    ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use serde_json::json;
use serve::sql::{Engine, TimeTravel};

use crate::lake::{TestTable, metadata};

const SMALL_FILES: i64 = 3_000;
const SMALL_ROWS: i64 = 100;
const LARGE_FILES: i64 = 4;
const LARGE_ROWS: i64 = 500_000;
const RUNS: usize = 3;

fn rows(from: i64, count: i64) -> RecordBatch {
    let ids = || from..from + count;
    let at = |id: i64| 1_767_225_600_000_000 + id * 1_000_000;
    let devices = ids().map(|id| format!("Vehicle-{:04}", id % 5_000));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(ids()))),
        ("device_id", Arc::new(StringArray::from_iter_values(devices))),
        (
            "timestamp",
            Arc::new(TimestampMicrosecondArray::from_iter_values(ids().map(at)).with_timezone("UTC")),
        ),
        (
            "speed",
            Arc::new(Float64Array::from_iter_values(
                ids().map(|id| (id * 7919 % 1_000) as f64 / 10.0),
            )),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn write(lake: &std::path::Path, name: &str, files: i64, count: i64) {
    let table = TestTable {
        folder: lake.join("data").join(name),
    };
    let schema = RecordBatch::try_from_iter_with_nullable(
        rows(0, 1)
            .schema()
            .fields()
            .iter()
            .zip(rows(0, 1).columns())
            .map(|(field, column)| (field.name().clone(), Arc::clone(column), true))
            .chain([(
                "event_date".to_owned(),
                Arc::new(Date32Array::from(vec![0])) as ArrayRef,
                true,
            )]),
    )
    .unwrap()
    .schema();
    let schema = serde_json::to_string(&lake::delta::arrow::from_arrow(&schema).unwrap()).unwrap();
    let mut actions = vec![
        json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
        metadata(&schema, &["event_date"], json!({})),
    ];
    for file in 0..files {
        let from = file * count;
        let mut add = table.write_file(&rows(from, count));
        let instant = |id: i64| {
            let at = chrono::DateTime::from_timestamp_micros(1_767_225_600_000_000 + id * 1_000_000).unwrap();
            at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
        };
        let last = from + count - 1;
        let statistics = json!({"numRecords": count, "minValues": {"id": from, "timestamp": instant(from)},
            "maxValues": {"id": last, "timestamp": instant(last)},
            "nullCount": {"id": 0, "device_id": 0, "timestamp": 0, "speed": 0}});
        add["add"]["stats"] = json!(statistics.to_string());
        add["add"]["partitionValues"] = json!({"event_date": format!("2026-01-{:02}", file * 30 / files + 1)});
        actions.push(add);
        if actions.len() >= 100 || file + 1 == files {
            table.commit(&actions);
            actions.clear();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, by hand"]
async fn queries() {
    let Some(lake) = std::env::var_os("SMARTCITY_SPEED_LAKE").map(PathBuf::from) else {
        println!("SMARTCITY_SPEED_LAKE names no folder");
        return;
    };
    if !lake.exists() {
        write(&lake, "small", SMALL_FILES, SMALL_ROWS);
        write(&lake, "large", LARGE_FILES, LARGE_ROWS);
    }
    let engine = Engine::open(lake.to_str().unwrap(), TimeTravel::Newest).await.unwrap();
    for sql in [
        "select count(*) from small",
        "select count(*) from small where event_date = '2026-01-10'",
        "select count(*), sum(speed) from small where id = 123456",
        "select count(*), sum(speed) from small where timestamp >= '2026-01-02' and timestamp < '2026-01-03'",
        "select sum(speed) from small where event_date = '2026-01-10'",
        "select sum(speed) from small",
        "select id from small order by timestamp desc limit 10",
        "select count(*) from large",
        "select sum(speed) from large",
        "select device_id, avg(speed) from large group by device_id order by 2 desc limit 5",
        "select count(*) from large where id between 700000 and 700100",
        "select id from large order by timestamp desc limit 10",
    ] {
        let (mut planned, mut total) = (f64::MAX, f64::MAX);
        for _ in 0..RUNS {
            let began = Instant::now();
            let result = engine.query(sql).await.unwrap();
            planned = planned.min(began.elapsed().as_secs_f64());
            result.collect().await.unwrap();
            total = total.min(began.elapsed().as_secs_f64());
        }
        println!("{:7.0} ms planned, {:7.0} ms in all: {sql}", 1e3 * planned, 1e3 * total);
    }
}
