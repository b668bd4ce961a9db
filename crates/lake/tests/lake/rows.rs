//! Rows to write, and a plain reader to compare with.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{
    ArrayRef, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::DataType;
use lake::{CommitOutcome, Lake, LakeError, Names, StagedFiles, Table};
use model::event_time::{DAY_US, days};
use model::{ManualClock, Span, Stream, TopicPartition};
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use url::Url;

use crate::plain::PlainTable;

pub(crate) const NOON_US: i64 = 1_767_225_600_000_000 + DAY_US / 2;

pub(crate) fn vehicle_data() -> Stream {
    let text = include_str!("../../../../streams/vehicle_data.toml");
    Stream::parse("vehicle_data.toml", text).unwrap()
}

pub(crate) fn partition(partition: i32) -> TopicPartition {
    TopicPartition::new("vehicle_data", partition)
}

pub(crate) fn lake_on(store: Arc<dyn ObjectStore>, seed: u64) -> Lake {
    let url = Url::parse("memory:///city/lake").unwrap();
    Lake::with_store(store, url, Arc::new(ManualClock::new(NOON_US)), Names::seeded(seed))
}

/// One row per offset; the event time is the offset's second after `start_us`.
pub(crate) fn batch(stream: &Stream, partition: i32, offsets: Span, start_us: i64, step_us: i64) -> RecordBatch {
    let all: Vec<i64> = (offsets.from..offsets.to).collect();
    let at = |offset: &i64| start_us + offset * step_us;
    let schema = stream.arrow_schema();
    let columns = schema.fields().iter().map(|column| -> ArrayRef {
        match (column.name().as_str(), column.data_type()) {
            ("event_date", _) => Arc::new(Date32Array::from_iter_values(all.iter().map(|o| days(at(o))))),
            ("_partition", _) => Arc::new(Int32Array::from_iter_values(all.iter().map(|_| partition))),
            ("_offset", _) => Arc::new(Int64Array::from(all.clone())),
            ("_kafka_timestamp", _) => Arc::new(
                TimestampMicrosecondArray::from_iter(all.iter().map(|o| (o % 3 != 0).then(|| at(o) + 7)))
                    .with_timezone("UTC"),
            ),
            ("_extra", _) => Arc::new(StringArray::from_iter(
                all.iter().map(|o| (o % 10 == 0).then(|| format!("{{\"n\":{o}}}"))),
            )),
            ("_topic", _) => Arc::new(StringArray::from_iter_values(all.iter().map(|_| &stream.topic))),
            ("_element", _) => Arc::new(Int32Array::from_iter(all.iter().map(|_| None))),
            ("id", _) => Arc::new(StringArray::from_iter_values(
                all.iter().map(|o| format!("{partition}-{o}")),
            )),
            (_, DataType::Timestamp(..)) => {
                Arc::new(TimestampMicrosecondArray::from_iter_values(all.iter().map(at)).with_timezone("UTC"))
            }
            (name, DataType::Utf8) => Arc::new(StringArray::from_iter_values(
                all.iter().map(|o| format!("{name} {}", o % 5)),
            )),
            (_, DataType::Float64) => Arc::new(Float64Array::from_iter_values(all.iter().map(|o| *o as f64 / 8.0))),
            (_, DataType::Int32) => Arc::new(Int32Array::from_iter_values(all.iter().map(|o| 2000 + (o % 26) as i32))),
            (name, data_type) => panic!("{name}: {data_type}"),
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}

/// One row of `vehicle_data`, of this topic and element.
pub(crate) fn row(topic: Option<&str>, number: i32, offset: i64, element: Option<u32>) -> RecordBatch {
    let row = batch(
        &vehicle_data(),
        number,
        Span::new(offset, offset + 1),
        NOON_US,
        1_000_000,
    );
    let mut columns = row.columns().to_vec();
    columns[row.schema().index_of("_topic").unwrap()] = Arc::new(StringArray::from(vec![topic]));
    let element = element.map(|element| element as i32);
    columns[row.schema().index_of("_element").unwrap()] = Arc::new(Int32Array::from(vec![element]));
    RecordBatch::try_new(row.schema(), columns).unwrap()
}

pub(crate) async fn stage(table: &Table, partition: i32, offsets: Span) -> StagedFiles {
    let mut writer = table.file_writer();
    writer
        .write(&batch(&vehicle_data(), partition, offsets, NOON_US, 1_000_000))
        .unwrap();
    table.upload(writer.finish().unwrap()).await.unwrap()
}

/// Encodes, uploads and commits one partition's span.
pub(crate) async fn land(table: &Table, number: i32, offsets: Span) -> Result<CommitOutcome, LakeError> {
    let staged = stage(table, number, offsets).await;
    table.commit(vec![staged], &[(partition(number), offsets)]).await
}

/// A file that the table's newest version names.
pub(crate) struct ActiveFile {
    pub(crate) partition_values: std::collections::HashMap<String, Option<String>>,
    pub(crate) stats: serde_json::Value,
    pub(crate) rows: Vec<RecordBatch>,
}

pub(crate) async fn active_files(lake: &Lake, name: &str) -> Vec<ActiveFile> {
    let table = PlainTable::open(lake, name).await;
    let mut files = Vec::new();
    for (path, add) in &table.files {
        let bytes = lake
            .store()
            .get(&table.path_of(path))
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        assert_eq!(Some(bytes.len() as u64), add["size"].as_u64());
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
            .unwrap()
            .build()
            .unwrap();
        files.push(ActiveFile {
            partition_values: serde_json::from_value(add["partitionValues"].clone()).unwrap(),
            stats: serde_json::from_str(add["stats"].as_str().unwrap()).unwrap(),
            rows: reader.map(Result::unwrap).collect(),
        });
    }
    files
}

/// Every offset that the table holds, per partition, in order and with repetitions; ids are checked on the way.
pub(crate) async fn offsets(lake: &Lake) -> BTreeMap<i32, Vec<i64>> {
    let mut found: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for file in active_files(lake, "vehicle_data").await {
        for batch in file.rows {
            let partitions = batch.column_by_name("_partition").unwrap().as_primitive::<Int32Type>();
            let offsets = batch.column_by_name("_offset").unwrap().as_primitive::<Int64Type>();
            let ids = batch.column_by_name("id").unwrap().as_string::<i32>();
            for row in 0..batch.num_rows() {
                let (partition, offset) = (partitions.value(row), offsets.value(row));
                assert_eq!(ids.value(row), format!("{partition}-{offset}"));
                found.entry(partition).or_default().push(offset);
            }
        }
    }
    found.values_mut().for_each(|offsets| offsets.sort_unstable());
    found
}

/// The partition's rows are exactly `[0, recorded)`.
pub(crate) async fn assert_whole(lake: &Lake, recorded: &[(i32, i64)]) {
    let found = offsets(lake).await;
    for (partition, recorded) in recorded {
        let offsets = found.get(partition).cloned().unwrap_or_default();
        assert_eq!(offsets, (0..*recorded).collect::<Vec<_>>(), "partition {partition}");
    }
}
