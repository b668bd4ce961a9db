//! How much memory a check of a large table holds, and how fast it reads.
//!
//!     cargo run --release -p lake --example verify_memory -- write DIR ROWS
//!     cargo run --release -p lake --example verify_memory -- verify DIR [digests]
//!
//! Two runs, because the peak of a process (VmHWM) would hold what writing took.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Instant;

use arrow_array::{
    ArrayRef, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::DataType;
use lake::verify::{Verifier, VerifyOptions};
use lake::{Lake, Names, Root};
use model::event_time::days;
use model::{ManualClock, Span, Stream, TopicPartition};

const START_US: i64 = 1_767_225_600_000_000;
const COMMIT_ROWS: i64 = 500_000;
const BATCH_ROWS: i64 = 10_000;
const PARTITIONS: i64 = 4;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let started = Instant::now();
    match arguments[0].as_str() {
        "write" => write(&arguments[1], arguments[2].parse().unwrap()).await,
        _ => {
            let root = Root::open(&arguments[1], []).unwrap();
            let options = VerifyOptions {
                digests: arguments.len() > 2,
                ..VerifyOptions::default()
            };
            let verifier = Verifier::open(&root, &[], options, &|_, _, _| {}).await.unwrap();
            let report = verifier.table("vehicle_data").await.unwrap().report;
            println!(
                "{} rows, {} files, {} bytes: {:?}, worst {:?}",
                report.rows,
                report.files,
                report.bytes,
                report.findings.counts(),
                report.findings.worst()
            );
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    println!("{:.1} s, {peak}", started.elapsed().as_secs_f64());
}

async fn write(folder: &str, rows: i64) {
    let stream = Stream::parse("vehicle_data.toml", include_str!("../../../streams/vehicle_data.toml")).unwrap();
    let lake = Lake::open(folder, Arc::new(ManualClock::new(START_US)), Names::random()).await;
    let table = lake.unwrap().table(&stream, "bench").await.unwrap();
    for from in (0..rows / PARTITIONS).step_by((COMMIT_ROWS / PARTITIONS) as usize) {
        let span = Span::new(from, from + COMMIT_ROWS / PARTITIONS);
        let mut writer = table.file_writer();
        let mut spans = Vec::new();
        for partition in 0..PARTITIONS as i32 {
            for first in (span.from..span.to).step_by(BATCH_ROWS as usize) {
                let to = (first + BATCH_ROWS).min(span.to);
                writer.write(&batch(&stream, partition, first, to)).unwrap();
            }
            spans.push((TopicPartition::new("vehicle_data", partition), span));
        }
        let staged = table.upload(writer.finish().unwrap()).await.unwrap();
        let count = Some(COMMIT_ROWS as u64);
        table.commit_counted(vec![staged], &spans, count, None).await.unwrap();
    }
}

fn batch(stream: &Stream, partition: i32, from: i64, to: i64) -> RecordBatch {
    let schema = stream.arrow_schema();
    let columns = schema.fields().iter().map(|column| -> ArrayRef {
        match (column.name().as_str(), column.data_type()) {
            ("_partition", _) => Arc::new(Int32Array::from_iter_values((from..to).map(|_| partition))),
            ("_offset", _) => Arc::new(Int64Array::from_iter_values(from..to)),
            ("_extra", _) => Arc::new(StringArray::new_null((to - from) as usize)),
            (_, DataType::Date32) => Arc::new(Date32Array::from_iter_values((from..to).map(|_| days(START_US)))),
            (_, DataType::Timestamp(..)) => {
                let times = (from..to).map(|offset| START_US + offset * 1_000);
                Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
            }
            (name, DataType::Utf8) => Arc::new(StringArray::from_iter_values(
                (from..to).map(|offset| format!("{name} {partition} {offset}")),
            )),
            (_, DataType::Float64) => Arc::new(Float64Array::from_iter_values(
                (from..to).map(|offset| (offset as f64 * 0.618).fract()),
            )),
            (_, DataType::Int32) => Arc::new(Int32Array::from_iter_values((from..to).map(|offset| offset as i32 % 9))),
            (name, data_type) => panic!("{name}: {data_type}"),
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}
