//! Small lakes, written as any Delta writer would.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::builder::{BinaryBuilder, ListBuilder, StringBuilder, StructBuilder};
use arrow_array::{
    Array, ArrayRef, BinaryArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt32Array,
};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Field, Fields, Schema};
use arrow_select::take::take_record_batch;
use lake::delta::arrow::from_arrow;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use serve::sql::{Engine, TimeTravel};
use tempfile::TempDir;

/// A lake in a folder. Its tables are written here file by file, not by the program, so that anything a Delta writer may
/// do can be written.
pub(crate) struct TestLake {
    folder: TempDir,
}

impl TestLake {
    pub(crate) fn new() -> TestLake {
        TestLake {
            folder: TempDir::new().unwrap(),
        }
    }

    /// A lake with three versions of `vehicle_data` (0 creates it with 2 rows; each further one adds 2) and two of
    /// `dead_letters`.
    pub(crate) async fn filled() -> TestLake {
        let lake = TestLake::new();
        for version in 0..3 {
            lake.append("vehicle_data", vehicles(version)).await;
        }
        for _ in 0..2 {
            lake.append("dead_letters", letters()).await;
        }
        lake
    }

    pub(crate) fn location(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }

    pub(crate) fn table(&self, name: &str) -> TestTable {
        TestTable {
            folder: self.folder.path().join("data").join(name),
        }
    }

    /// One commit with one file, or one for each `event_date`, which then partitions the table.
    pub(crate) async fn append(&self, table: &str, batch: RecordBatch) {
        let table = self.table(table);
        let schema = batch.schema();
        let partitions: &[&str] = match schema.column_with_name("event_date") {
            Some(_) => &["event_date"],
            None => &[],
        };
        let mut actions = Vec::new();
        if table.next_version() == 0 {
            actions.extend(TestTable::created(&schema, partitions));
        }
        actions.extend(table.write(&batch, partitions));
        table.commit(&actions);
    }

    /// Sets when a version was committed, in seconds since the epoch.
    pub(crate) fn set_committed(&self, table: &str, version: u64, seconds: u64) {
        let log = self.table(table).log();
        let file = std::fs::File::options()
            .append(true)
            .open(log.join(format!("{version:020}.json")))
            .unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
            .unwrap();
    }

    pub(crate) async fn engine(&self) -> Engine {
        Engine::open(self.location(), TimeTravel::Newest).await.unwrap()
    }
}

/// A table's folder.
pub(crate) struct TestTable {
    pub(crate) folder: PathBuf,
}

impl TestTable {
    fn log(&self) -> PathBuf {
        self.folder.join("_delta_log")
    }

    pub(crate) fn next_version(&self) -> u64 {
        (0..)
            .find(|version| !self.log().join(format!("{version:020}.json")).exists())
            .unwrap()
    }

    /// The first two actions of a table that needs no feature.
    pub(crate) fn created(schema: &Schema, partitions: &[&str]) -> [Value; 2] {
        let schema = serde_json::to_string(&from_arrow(schema).unwrap()).unwrap();
        [
            json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
            metadata(&schema, partitions, json!({})),
        ]
    }

    /// Writes the next version, visible at once.
    pub(crate) fn commit(&self, actions: &[Value]) {
        std::fs::create_dir_all(self.log()).unwrap();
        let version = self.next_version();
        let lines: Vec<String> = actions.iter().map(Value::to_string).collect();
        let unfinished = self.log().join(format!("{version:020}.unfinished"));
        std::fs::write(&unfinished, lines.join("\n")).unwrap();
        std::fs::rename(unfinished, self.log().join(format!("{version:020}.json"))).unwrap();
    }

    /// Writes a file for each combination of partition values; their `add`s.
    pub(crate) fn write(&self, batch: &RecordBatch, partitions: &[&str]) -> Vec<Value> {
        let columns: Vec<usize> = partitions
            .iter()
            .map(|name| batch.schema().index_of(name).unwrap())
            .collect();
        let in_files: Vec<usize> = (0..batch.num_columns())
            .filter(|place| !columns.contains(place))
            .collect();
        let mut groups: BTreeMap<Vec<Option<String>>, Vec<u32>> = BTreeMap::new();
        let options = FormatOptions::default();
        for row in 0..batch.num_rows() {
            let values = columns.iter().map(|place| {
                let column = batch.column(*place);
                let text = ArrayFormatter::try_new(column, &options)
                    .unwrap()
                    .value(row)
                    .to_string();
                column.is_valid(row).then_some(text)
            });
            groups.entry(values.collect()).or_default().push(row as u32);
        }
        let adds = groups.into_iter().map(|(values, rows)| {
            let rows = take_record_batch(batch, &UInt32Array::from(rows)).unwrap();
            let file = rows.project(&in_files).unwrap();
            let values: serde_json::Map<String, Value> = partitions
                .iter()
                .zip(values)
                .map(|(name, value)| ((*name).to_owned(), json!(value)))
                .collect();
            let mut add = self.write_file(&file);
            add["add"]["partitionValues"] = Value::Object(values);
            add
        });
        adds.collect()
    }

    /// Writes one file; its `add`, with the number of its rows as statistics.
    pub(crate) fn write_file(&self, batch: &RecordBatch) -> Value {
        self.write_named(
            &format!("part-{}.parquet", NAMES.fetch_add(1, Ordering::Relaxed)),
            batch,
        )
    }

    /// The same with the file's name in the folder.
    pub(crate) fn write_named(&self, name: &str, batch: &RecordBatch) -> Value {
        let path = self.folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut writer = ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        self.added(name, batch.num_rows())
    }

    /// An `add` of a file that is there.
    pub(crate) fn added(&self, name: &str, rows: usize) -> Value {
        let size = std::fs::metadata(self.folder.join(name)).unwrap().len();
        json!({"add": {"path": name, "partitionValues": {}, "size": size, "modificationTime": 1_767_225_600_000_i64,
            "dataChange": true, "stats": json!({"numRecords": rows}).to_string()}})
    }
}

/// Tells the files of one test run apart.
static NAMES: AtomicUsize = AtomicUsize::new(0);

/// A `metaData` action.
pub(crate) fn metadata(schema: &str, partitions: &[&str], configuration: Value) -> Value {
    json!({"metaData": {"id": "11111111-2222-4333-8444-555555555555", "format": {"provider": "parquet", "options": {}},
        "schemaString": schema, "partitionColumns": partitions, "configuration": configuration, "createdTime": 0}})
}

pub(crate) fn vehicles(version: i64) -> RecordBatch {
    let midnight = 1_767_225_600_000_000 + version * 60_000_000;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![2 * version, 2 * version + 1]))),
        (
            "device_id",
            Arc::new(StringArray::from(vec![Some("Vehicle-Adam0731"), None])),
        ),
        (
            "timestamp",
            Arc::new(TimestampMicrosecondArray::from(vec![midnight, midnight + 1_500_000]).with_timezone("UTC")),
        ),
        ("speed", Arc::new(Float64Array::from(vec![0.1 + 0.2, 40.0]))),
        ("event_date", Arc::new(Date32Array::from(vec![20_454, 20_454]))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

/// Dead letters whose bytes are text, no text, null, and nasty to a terminal.
pub(crate) fn letters() -> RecordBatch {
    let fields = Fields::from(vec![
        Field::new("key", DataType::Utf8, true),
        Field::new("value", DataType::Binary, true),
    ]);
    let builders: Vec<Box<dyn arrow_array::builder::ArrayBuilder>> =
        vec![Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())];
    let mut headers = ListBuilder::new(StructBuilder::new(fields, builders));
    let header = headers.values();
    header.field_builder::<StringBuilder>(0).unwrap().append_value("trace");
    header.field_builder::<BinaryBuilder>(1).unwrap().append_value([0xff]);
    header.append(true);
    headers.append(true);
    headers.append_null();
    headers.append(true);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("offset", Arc::new(Int64Array::from(vec![7, 8, 9]))),
        (
            "value",
            Arc::new(BinaryArray::from_opt_vec(vec![
                Some(b"{\"id\": \"a,b\"\n"),
                Some(&[0xff, 0xfe, 0x00]),
                None,
            ])),
        ),
        ("headers", Arc::new(headers.finish())),
        (
            "error",
            Arc::new(StringArray::from(vec!["cut\u{1b}[31m off", "not UTF-8", ""])),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}
