//! Small lakes, written as any Delta writer would.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, ListBuilder, StringBuilder, StructBuilder};
use arrow_array::{
    ArrayRef, BinaryArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Fields};
use deltalake_core::DeltaTable;
use serve::sql::{Engine, TimeTravel};
use tempfile::TempDir;
use url::Url;

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

    pub(crate) async fn append(&self, table: &str, batch: RecordBatch) {
        let folder = self.folder.path().join("data").join(table);
        std::fs::create_dir_all(&folder).unwrap();
        let url = Url::from_directory_path(&folder).unwrap();
        let mut write = DeltaTable::try_from_url(url).await.unwrap().write(vec![batch.clone()]);
        if batch.schema().column_with_name("event_date").is_some() {
            write = write.with_partition_columns(["event_date"]);
        }
        write.await.unwrap();
    }

    /// Sets when a version was committed, in seconds since the epoch.
    pub(crate) fn set_committed(&self, table: &str, version: u64, seconds: u64) {
        let log = self.folder.path().join("data").join(table).join("_delta_log");
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
