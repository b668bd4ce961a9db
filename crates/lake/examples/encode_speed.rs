//! How fast one core encodes rows of `vehicle_data` to Parquet, and how many bytes a row takes.
//!
//!     cargo run --release -p lake --example encode_speed
//!
//! Processor time of the thread where Linux tells it, so that a busy machine does not count; elapsed time elsewhere.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use arrow_array::{
    ArrayRef, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use lake::{Lake, Names, ParquetProfile};
use model::event_time::days;
use model::{ManualClock, Stream};
use object_store::memory::InMemory;
use parquet::basic::{Compression, ZstdLevel};

const BATCH_ROWS: usize = 16_384;
const BATCHES: usize = 128;
const ROUNDS: usize = 5;
const START_US: i64 = 1_767_225_600_000_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let stream = Stream::parse("vehicle_data.toml", include_str!("../../../streams/vehicle_data.toml")).unwrap();
    let names = Names::seeded(1);
    let zstd = Compression::ZSTD(ZstdLevel::default());
    for (kind, is_round) in [("full precision", false), ("rounded", true)] {
        let batches: Vec<RecordBatch> = (0..BATCHES)
            .map(|number| batch(&stream, &names, number as i64, is_round))
            .collect();
        for (profile, codec) in [
            (ParquetProfile::Compatible, None),
            (ParquetProfile::Compatible, Some(zstd)),
            (ParquetProfile::Compact, None),
        ] {
            let url = url::Url::parse("memory:///lake").unwrap();
            let clock = Arc::new(ManualClock::new(START_US));
            let lake = Lake::with_store(Arc::new(InMemory::new()), url, clock, names.clone());
            let mut lake = lake.with_parquet_profile(profile);
            if let Some(codec) = codec {
                lake = lake.with_compression(codec);
            }
            let table = lake.table(&stream, "bench").await.unwrap();
            let mut best = Duration::MAX;
            let (mut rows, mut bytes) = (0, 0);
            for _ in 0..ROUNDS {
                let started = time();
                let mut writer = table.file_writer();
                for batch in &batches {
                    writer.write(batch).unwrap();
                }
                let encoded = writer.finish().unwrap();
                best = best.min(time() - started);
                (rows, bytes) = (encoded.rows(), encoded.bytes());
            }
            let codec = codec.map_or("its codec", |_| "zstd");
            println!(
                "{kind}, {profile:?} with {codec}: {:.2} M rows/s, {:.1} bytes/row ({rows} rows, {} columns)",
                rows as f64 / best.as_secs_f64() / 1e6,
                bytes as f64 / rows as f64,
                stream.arrow_schema().fields().len() - 1,
            );
        }
    }
}

fn time() -> Duration {
    static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
    let elapsed = STARTED.elapsed();
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let on_cpu_ns = schedstat
        .as_deref()
        .and_then(|text| text.split(' ').next()?.parse().ok());
    on_cpu_ns.map_or(elapsed, Duration::from_nanos)
}

/// A fleet of 500 vehicles, each a few steps at a time, with measurements of full precision as Python sends them, or
/// rounded as devices send them: five digits of a degree, a tenth of a kilometre an hour.
fn batch(stream: &Stream, names: &Names, number: i64, is_round: bool) -> RecordBatch {
    let round = |value: f64, steps: f64| match is_round {
        true => (value * steps).round() / steps,
        false => value,
    };
    let offsets: Vec<i64> = (0..BATCH_ROWS as i64)
        .map(|row| number * BATCH_ROWS as i64 + row)
        .collect();
    let at = |offset: i64| START_US + offset * 937;
    let noise = |offset: i64, salt: i64| {
        let mixed = (offset ^ (salt << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64);
        ((mixed ^ (mixed >> 29)).wrapping_mul(0x1234_5678_9abc_def1) as u64 >> 11) as f64 / (1_u64 << 53) as f64
    };
    let texts = |of: &[&str], every: i64| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(
            offsets.iter().map(|offset| of[(offset / every) as usize % of.len()]),
        ))
    };
    let times = |of: &dyn Fn(i64) -> i64| -> ArrayRef {
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(offsets.iter().map(|offset| of(*offset))).with_timezone("UTC"),
        )
    };
    let schema = stream.arrow_schema();
    let columns = schema.fields().iter().map(|column| -> ArrayRef {
        match column.name().as_str() {
            "id" => Arc::new(StringArray::from_iter_values(
                offsets.iter().map(|_| names.next().to_string()),
            )),
            "device_id" => Arc::new(StringArray::from_iter_values(
                offsets
                    .iter()
                    .map(|offset| format!("Vehicle-Adam{:04}", offset * 7 % 500)),
            )),
            "timestamp" => times(&|offset| at(offset) / 1000 * 1000),
            "latitude" => doubles(&offsets, |offset| round(51.5 + noise(offset, 1) / 100.0, 1e5)),
            "longitude" => doubles(&offsets, |offset| round(-0.12 + noise(offset, 2) / 100.0, 1e5)),
            "speed" => doubles(&offsets, |offset| round(10.0 + 30.0 * noise(offset, 3), 10.0)),
            "direction" => texts(&["North-East", "North", "South"], 3),
            "make" => texts(&["BMW", "Volvo", "Ford", "Tesla"], 1),
            "model" => texts(&["C500", "V70", "Focus", "Model 3"], 1),
            "year" => Arc::new(Int32Array::from_iter_values(
                offsets.iter().map(|offset| 2015 + (offset % 10) as i32),
            )),
            "fuel_type" => texts(&["Hybrid", "Diesel", "Electric"], 1),
            "event_date" => Arc::new(Date32Array::from_iter_values(
                offsets.iter().map(|offset| days(at(*offset))),
            )),
            "_partition" => Arc::new(Int32Array::from_iter_values(offsets.iter().map(|_| 3))),
            "_offset" => Arc::new(Int64Array::from(offsets.clone())),
            "_kafka_timestamp" => times(&|offset| (at(offset) + 5000) / 1000 * 1000),
            "_ingested_at" => times(&|offset| at(offset - offset % BATCH_ROWS as i64)),
            "_extra" => Arc::new(StringArray::new_null(BATCH_ROWS)),
            "_topic" => texts(&["vehicle_data"], 1),
            "_element" => Arc::new(Int32Array::new_null(BATCH_ROWS)),
            other => panic!("{other}"),
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}

fn doubles(offsets: &[i64], of: impl Fn(i64) -> f64) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(offsets.iter().map(|offset| of(*offset))))
}
