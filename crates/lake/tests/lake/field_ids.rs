//! Every column has a number for life, in the table's metadata and in every file.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::TryStreamExt;
use lake::Lake;
use model::{Span, Stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::schema::types::Type;
use serde_json::{Value, json};

use crate::dead_letters::letter;
use crate::rows::{lake_on, land, partition, vehicle_data};

/// Id by path, as the newest metadata has it.
async fn declared(lake: &Lake, table: &str) -> (BTreeMap<String, i64>, i64) {
    let snapshot = lake.root().snapshot(table, None).await.unwrap();
    let schema: Value = serde_json::from_str(&snapshot.metadata().schema_string).unwrap();
    let mut ids = BTreeMap::new();
    walk(&schema, "", &mut ids);
    let max = snapshot.metadata().property("smartcity.maxFieldId").unwrap();
    (ids, max.parse().unwrap())
}

fn walk(of: &Value, path: &str, ids: &mut BTreeMap<String, i64>) {
    for field in of["fields"].as_array().into_iter().flatten() {
        let name = field["name"].as_str().unwrap();
        let path = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        ids.insert(path.clone(), field["metadata"]["smartcity.fieldId"].as_i64().unwrap());
        for (part, id) in field["metadata"]["smartcity.nestedFieldIds"]
            .as_object()
            .into_iter()
            .flatten()
        {
            ids.insert(format!("{path}.{part}"), id.as_i64().unwrap());
        }
        if let Some(element) = field["type"].get("elementType") {
            walk(element, &format!("{path}.element"), ids);
        }
    }
}

/// Id by path, as each file's footer has it.
async fn written(lake: &Lake, table: &str) -> Vec<BTreeMap<String, i64>> {
    let snapshot = lake.root().snapshot(table, None).await.unwrap();
    let adds: Vec<_> = snapshot.files(|_| true).try_collect().await.unwrap();
    let mut files = Vec::new();
    for add in adds {
        let path = snapshot.location().data_path(&add.path).unwrap();
        let bytes = lake.store().get(&path).await.unwrap().bytes().await.unwrap();
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
        let mut ids = BTreeMap::new();
        for field in metadata.file_metadata().schema().get_fields() {
            footer(field, "", &mut ids);
        }
        files.push(ids);
    }
    files
}

fn footer(of: &Type, path: &str, ids: &mut BTreeMap<String, i64>) {
    let info = of.get_basic_info();
    // The group between a list and its elements is Parquet's own.
    let path = match (path, info.name()) {
        ("", name) => name.to_owned(),
        (path, "list") => path.to_owned(),
        (path, name) => format!("{path}.{name}"),
    };
    if info.has_id() {
        ids.insert(path.clone(), info.id().into());
    }
    if of.is_group() {
        for field in of.get_fields() {
            footer(field, &path, ids);
        }
    }
}

fn with_column(name: &str) -> Stream {
    let mut stream = vehicle_data();
    let mut field = stream.fields[3].clone();
    field.name = name.to_owned();
    field.nullable = true;
    stream.fields.push(field);
    stream
}

#[tokio::test]
async fn files_carry_the_ids_of_the_metadata() {
    let lake = lake_on(Arc::new(InMemory::new()), 1);
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    land(&table, 0, Span::new(0, 5)).await.unwrap();
    let (mut ids, max) = declared(&lake, "vehicle_data").await;
    assert_eq!(max, ids.len() as i64);
    // The partition's value stands in the log.
    ids.remove("event_date").unwrap();
    assert_eq!(written(&lake, "vehicle_data").await, std::slice::from_ref(&ids));

    let letters = lake.dead_letters([&vehicle_data()], "ingest").await.unwrap();
    let spans = [(partition(0), Span::new(0, 1))];
    letters.commit(&[letter(0, 0)], &spans, &HashMap::new()).await.unwrap();
    let (ids, max) = declared(&lake, "dead_letters").await;
    assert_eq!(max, ids.len() as i64);
    for path in [
        "headers",
        "headers.element",
        "headers.element.key",
        "headers.element.value",
    ] {
        assert!(ids.contains_key(path), "{path}: {ids:?}");
    }
    assert_eq!(written(&lake, "dead_letters").await, [ids]);
}

#[tokio::test]
async fn a_new_column_gets_the_next_number() {
    let lake = lake_on(Arc::new(InMemory::new()), 1);
    lake.table(&vehicle_data(), "ingest").await.unwrap();
    let (before, max) = declared(&lake, "vehicle_data").await;
    lake.table(&with_column("altitude"), "ingest").await.unwrap();
    let (mut after, next) = declared(&lake, "vehicle_data").await;
    assert_eq!((after.remove("altitude"), next), (Some(max + 1), max + 1));
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_table_without_ids_gets_them_when_a_writer_opens_it_and_keeps_what_is_noted() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let lake = lake_on(store.clone(), 1);
    lake.table(&vehicle_data(), "ingest").await.unwrap();
    // As the program wrote it before there were ids, and another's note in a field.
    let path = Path::from("city/lake/data/vehicle_data/_delta_log/00000000000000000000.json");
    let commit = store.get(&path).await.unwrap().bytes().await.unwrap();
    let lines = commit
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut action: Value = serde_json::from_slice(line).unwrap();
            if let Some(metadata) = action.get_mut("metaData") {
                let mut schema: Value = serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
                for field in schema["fields"].as_array_mut().unwrap() {
                    field["metadata"].as_object_mut().unwrap().remove("smartcity.fieldId");
                    field["metadata"]["theirs"] = json!({"a": [1, null]});
                }
                metadata["schemaString"] = schema.to_string().into();
                metadata["configuration"]
                    .as_object_mut()
                    .unwrap()
                    .remove("smartcity.maxFieldId");
            }
            action.to_string()
        });
    let lines: Vec<String> = lines.collect();
    store.put(&path, lines.join("\n").into()).await.unwrap();

    let table = lake_on(store.clone(), 2)
        .table(&vehicle_data(), "ingest")
        .await
        .unwrap();
    assert_eq!(table.version(), 1);
    land(&table, 0, Span::new(0, 5)).await.unwrap();
    let (ids, max) = declared(&lake, "vehicle_data").await;
    assert_eq!(max, ids.len() as i64);
    let written = written(&lake, "vehicle_data").await;
    assert!(written[0].iter().all(|(path, id)| ids[path] == *id));
    let snapshot = lake.root().snapshot("vehicle_data", None).await.unwrap();
    assert_eq!(snapshot.schema().fields[0].metadata["theirs"], json!({"a": [1, null]}));
    // The next one finds them there.
    let again = lake_on(store, 3).table(&vehicle_data(), "ingest").await.unwrap();
    assert_eq!(again.version(), 2);
}
