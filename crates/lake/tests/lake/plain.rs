//! A reader of Delta logs that shares nothing with ours: oldest first, JSON values, every file held. What the lake's own
//! reader is compared with.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, StructArray};
use bytes::Bytes;
use futures::TryStreamExt;
use lake::Lake;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value, json};

/// A table as of its newest version.
pub(crate) struct PlainTable {
    pub(crate) version: i64,
    pub(crate) metadata: Value,
    /// `add` actions by path.
    pub(crate) files: BTreeMap<String, Value>,
    root: Path,
}

impl PlainTable {
    pub(crate) async fn open(lake: &Lake, name: &str) -> PlainTable {
        let root = lake.root().table_path(name);
        let log = root.clone().join("_delta_log");
        let found: Vec<_> = lake.store().list(Some(&log)).try_collect().await.unwrap();
        let mut names: Vec<String> = found
            .iter()
            .map(|file| file.location.filename().unwrap().to_owned())
            .collect();
        names.sort();
        let mut table = PlainTable {
            version: -1,
            metadata: Value::Null,
            files: BTreeMap::new(),
            root,
        };
        let read = async |name: &str| {
            lake.store()
                .get(&log.clone().join(name))
                .await
                .unwrap()
                .bytes()
                .await
                .unwrap()
        };
        if let Some(checkpoint) = names.iter().rfind(|name| name.ends_with(".checkpoint.parquet")) {
            table.version = checkpoint[..20].parse().unwrap();
            table.take_checkpoint(read(checkpoint).await);
        }
        for name in names.iter().filter(|name| name.len() == 25 && name.ends_with(".json")) {
            let version: i64 = name[..20].parse().unwrap();
            if version > table.version {
                assert_eq!(version, table.version + 1, "a version is missing");
                table.version = version;
                table.take_commit(&read(name).await);
            }
        }
        table
    }

    /// Where a file lies in the store.
    pub(crate) fn path_of(&self, logged: &str) -> Path {
        self.root
            .parts()
            .chain(Path::from_url_path(logged).unwrap().parts())
            .collect()
    }

    pub(crate) fn schema(&self) -> Value {
        serde_json::from_str(self.metadata["schemaString"].as_str().unwrap()).unwrap()
    }

    fn take_commit(&mut self, bytes: &[u8]) {
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let actions: Vec<Value> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
        for action in &actions {
            if let Some(remove) = action.get("remove") {
                self.files.remove(remove["path"].as_str().unwrap());
            }
        }
        for action in actions {
            if let Some(add) = action.get("add") {
                self.files.insert(add["path"].as_str().unwrap().to_owned(), add.clone());
            }
            if let Some(metadata) = action.get("metaData") {
                self.metadata = metadata.clone();
            }
        }
    }

    fn take_checkpoint(&mut self, bytes: Bytes) {
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
            .unwrap()
            .build()
            .unwrap();
        for batch in reader.map(Result::unwrap) {
            let of = |name: &str| batch.column_by_name(name).unwrap().as_struct().clone();
            let (adds, metadata) = (of("add"), of("metaData"));
            for row in (0..batch.num_rows()).filter(|row| adds.is_valid(*row)) {
                let path = text(&adds, "path", row).unwrap();
                let add = json!({
                    "path": path,
                    "size": adds.column_by_name("size").unwrap().as_primitive::<Int64Type>().value(row),
                    "stats": text(&adds, "stats", row),
                    "partitionValues": map(adds.column_by_name("partitionValues").unwrap(), row),
                    "tags": map(adds.column_by_name("tags").unwrap(), row),
                });
                self.files.insert(path, add);
            }
            for row in (0..batch.num_rows()).filter(|row| metadata.is_valid(*row)) {
                let columns = metadata
                    .column_by_name("partitionColumns")
                    .unwrap()
                    .as_list::<i32>()
                    .value(row);
                let columns: Vec<&str> = columns.as_string::<i32>().iter().flatten().collect();
                self.metadata = json!({
                    "id": text(&metadata, "id", row),
                    "name": text(&metadata, "name", row),
                    "description": text(&metadata, "description", row),
                    "schemaString": text(&metadata, "schemaString", row),
                    "partitionColumns": columns,
                    "configuration": map(metadata.column_by_name("configuration").unwrap(), row),
                    "createdTime": metadata.column_by_name("createdTime").unwrap().as_primitive::<Int64Type>().value(row),
                    "format": {"provider": "parquet", "options": {}},
                });
            }
        }
    }
}

fn text(of: &StructArray, name: &str, row: usize) -> Option<String> {
    let texts = of.column_by_name(name).unwrap().as_string::<i32>();
    texts.is_valid(row).then(|| texts.value(row).to_owned())
}

fn map(of: &ArrayRef, row: usize) -> Value {
    let maps = of.as_map();
    if maps.is_null(row) {
        return Value::Null;
    }
    let entries = maps.value(row);
    let (keys, values) = (
        entries.column(0).as_string::<i32>(),
        entries.column(1).as_string::<i32>(),
    );
    let pairs = (0..entries.len()).map(|at| {
        let value = values.is_valid(at).then(|| values.value(at));
        (keys.value(at).to_owned(), json!(value))
    });
    Value::Object(pairs.collect::<Map<_, _>>())
}
