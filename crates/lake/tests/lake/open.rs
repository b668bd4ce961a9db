//! Opening lakes and tables, and tables that others have made or changed.

use std::sync::Arc;

use lake::{Lake, LakeError, Names};
use model::{FieldType, ManualClock, Span, Stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::Value;

use crate::faults::{Fault, FaultyStore};
use crate::plain::PlainTable;
use crate::rows::{lake_on, land, partition, stage, vehicle_data};

async fn open(location: &str) -> Result<Lake, LakeError> {
    Lake::open(location, Arc::new(ManualClock::new(0)), Names::seeded(1)).await
}

#[tokio::test]
async fn a_folder_becomes_a_lake() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("my city (1)/lake");
    let lake = open(root.to_str().unwrap()).await.unwrap();
    assert_eq!(lake.table_names().await.unwrap(), Vec::<String>::new());
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    land(&table, 0, Span::new(0, 3)).await.unwrap();
    lake.dead_letters([&vehicle_data()], "ingest").await.unwrap();
    std::fs::create_dir_all(root.join("data/no_table")).unwrap();
    assert_eq!(lake.table_names().await.unwrap(), ["dead_letters", "vehicle_data"]);
    assert!(
        root.join("data/vehicle_data/_delta_log/00000000000000000001.json")
            .is_file()
    );

    // By its URL it is the same lake.
    let url = url::Url::from_file_path(std::fs::canonicalize(&root).unwrap()).unwrap();
    let again = open(url.as_str()).await.unwrap();
    let table = again.table(&vehicle_data(), "ingest").await.unwrap();
    assert_eq!(table.recorded(&partition(0)), Some(3));
    assert_eq!(PlainTable::open(&again, "vehicle_data").await.version, 1);
}

#[tokio::test]
async fn a_location_that_will_not_do_is_told_so() {
    for (location, says) in [
        ("s3:///lake", "it names no bucket"),
        ("hdfs://host/lake", "hdfs:// is not supported"),
    ] {
        let error = open(location).await.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let below = format!("{}/lake", file.path().display());
    assert!(open(&below).await.is_err());
}

#[tokio::test]
async fn the_table_documents_itself() {
    let lake = lake_on(Arc::new(InMemory::new()), 1);
    lake.table(&vehicle_data(), "ingest").await.unwrap();
    let table = PlainTable::open(&lake, "vehicle_data").await;
    assert_eq!(table.metadata["partitionColumns"], serde_json::json!(["event_date"]));
    let description = table.metadata["description"].as_str().unwrap();
    assert!(description.starts_with("What a vehicle reports"));
    let schema = table.schema();
    let field = |name: &str| -> Value {
        let fields = schema["fields"].as_array().unwrap();
        fields.iter().find(|field| field["name"] == name).unwrap().clone()
    };
    let speed = field("speed");
    assert_eq!((&speed["type"], &speed["nullable"]), (&"double".into(), &false.into()));
    assert_eq!(speed["metadata"]["unit"], "km/h");
    assert_eq!(speed["metadata"]["comment"], "Speed over ground.");
    assert_eq!(field("timestamp")["type"], "timestamp");
    assert_eq!(field("event_date")["type"], "date");
    assert_eq!(field("_extra")["nullable"], true);
}

#[tokio::test]
async fn a_declaration_that_differs_is_refused_with_the_difference() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let stream = vehicle_data();
    lake_on(store.clone(), 1).table(&stream, "ingest").await.unwrap();
    let changed = |change: &dyn Fn(&mut Stream)| {
        let mut stream = stream.clone();
        change(&mut stream);
        let lake = lake_on(store.clone(), 2);
        async move { lake.table(&stream, "ingest").await.map(|_| ()) }
    };
    let error = changed(&|stream| gain(stream, "altitude", false))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("the table has no column `altitude`"), "{error}");
    let error = changed(&|stream| stream.fields[5].field_type = FieldType::Long)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("column `speed` is double in the table and declared long"),
        "{error}"
    );
    let error = changed(&|stream| stream.fields[5].nullable = true)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("`speed` is required in the table"), "{error}");
    let error = changed(&|stream| drop(stream.fields.remove(5)))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("required column `speed` is not declared"), "{error}");
    assert!(changed(&|_| ()).await.is_ok());
}

fn gain(stream: &mut Stream, name: &str, nullable: bool) {
    let mut field = stream.fields[3].clone();
    field.name = name.to_owned();
    field.nullable = nullable;
    stream.fields.push(field);
}

async fn columns(lake: &Lake) -> Vec<String> {
    let schema = PlainTable::open(lake, "vehicle_data").await.schema();
    let fields = schema["fields"].as_array().unwrap().iter();
    fields.map(|field| field["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_gained_nullable_field_becomes_a_column() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let lake = lake_on(store.clone(), 1);
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    land(&table, 0, Span::new(0, 3)).await.unwrap();
    let before = columns(&lake).await;
    let mut stream = vehicle_data();
    gain(&mut stream, "altitude", true);
    for open in 0..2 {
        let table = lake_on(store.clone(), 2 + open).table(&stream, "ingest").await.unwrap();
        assert_eq!(
            (table.version(), table.recorded(&partition(0))),
            (2, Some(3)),
            "opening again changes nothing"
        );
    }
    let after = columns(&lake).await;
    assert_eq!(after.split_last().unwrap(), (&"altitude".to_owned(), &before[..]));
    // Another application, with the older declaration, goes on beside it: its rows have no altitude.
    let other = lake_on(store.clone(), 5).table(&vehicle_data(), "other").await.unwrap();
    land(&other, 0, Span::new(0, 3)).await.unwrap();
}

#[tokio::test]
async fn a_writer_is_stopped_though_it_cannot_read_the_log_to_its_end() {
    let store = FaultyStore::new();
    let mut stricter = vehicle_data();
    stricter.fields[5].max = Some(90.0);
    let older = lake_on(store.clone(), 1)
        .table(&vehicle_data(), "ingest")
        .await
        .unwrap();
    let staged = stage(&older, 0, Span::new(0, 3)).await;
    lake_on(store.clone(), 2).table(&stricter, "ingest").await.unwrap();
    // The newer declaration is read, and what may follow it is not.
    store.fail_reads(&[Fault::None, Fault::Unavailable]);
    let spans = [(partition(0), Span::new(0, 3))];
    let error = older.commit(vec![staged], &spans).await.unwrap_err();
    assert!(matches!(error, LakeError::Superseded { .. }), "{error}");
}

#[tokio::test]
async fn a_writer_with_another_declaration_stops_those_before_it() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut stricter = vehicle_data();
    stricter.fields[5].max = Some(90.0);
    let table_of = async |stream: &Stream, seed| lake_on(store.clone(), seed).table(stream, "ingest").await.unwrap();
    let letters_of = async |stream: &Stream, seed| {
        let lake = lake_on(store.clone(), seed);
        lake.dead_letters([stream], "ingest").await.unwrap()
    };
    let older = table_of(&vehicle_data(), 1).await;
    let same = table_of(&vehicle_data(), 2).await;
    let older_letters = letters_of(&vehicle_data(), 3).await;
    land(&older, 0, Span::new(0, 3)).await.unwrap();
    land(&same, 0, Span::new(3, 6)).await.unwrap();
    let newer = table_of(&stricter, 4).await;
    letters_of(&stricter, 5).await;
    for superseded in [&older, &same] {
        let error = land(superseded, 0, Span::new(6, 9)).await.unwrap_err();
        assert!(
            matches!(error, LakeError::Superseded { .. }) && !error.is_retryable(),
            "{error}"
        );
        // Having seen the end of the log does not make it a writer again.
        assert!(land(superseded, 0, Span::new(6, 9)).await.is_err());
    }
    let spans = [(partition(0), Span::new(6, 9))];
    let error = older_letters
        .commit(&[], &spans, &Default::default())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("stream `vehicle_data` was opened by another writer"),
        "{error}"
    );
    land(&newer, 0, Span::new(6, 9)).await.unwrap();
    // Back and forth: whoever was stopped once stays so, also when its own declaration is in force again.
    let again = table_of(&vehicle_data(), 6).await;
    assert!(land(&older, 0, Span::new(9, 12)).await.is_err());
    assert!(land(&newer, 0, Span::new(9, 12)).await.is_err());
    land(&again, 0, Span::new(9, 12)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declaration_is_adopted_behind_a_checkpoint_too() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let lake = lake_on(store.clone(), 1);
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    for batch in 0..100 {
        land(&table, 0, Span::new(batch, batch + 1)).await.unwrap();
    }
    checkpointed(store.as_ref()).await;
    let metadata = async || PlainTable::open(&lake, "vehicle_data").await.metadata;
    let before = metadata().await;
    let mut stream = vehicle_data();
    gain(&mut stream, "altitude", true);
    let gained = lake_on(store.clone(), 2).table(&stream, "ingest").await.unwrap();
    assert_eq!((gained.version(), gained.recorded(&partition(0))), (101, Some(100)));
    let after = metadata().await;
    for kept in ["id", "name", "description", "createdTime", "partitionColumns", "format"] {
        assert_eq!(before[kept], after[kept], "{kept}");
    }
    assert_eq!(after["configuration"]["delta.checkpointInterval"], "100");
    assert_eq!(columns(&lake).await.last().unwrap(), "altitude");
    assert!(land(&table, 0, Span::new(100, 101)).await.is_err());
}

async fn checkpointed(store: &dyn ObjectStore) {
    let last = Path::from("city/lake/data/vehicle_data/_delta_log/_last_checkpoint");
    for _ in 0..500 {
        if store.head(&last).await.is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("no checkpoint");
}

/// Somebody else's commit, put beside ours.
async fn put(store: &dyn ObjectStore, version: i64, actions: &str) {
    let path = Path::from(format!("city/lake/data/vehicle_data/_delta_log/{version:020}.json"));
    store.put(&path, actions.to_owned().into()).await.unwrap();
}

#[tokio::test]
async fn commits_of_others_are_read_over() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let table = lake_on(store.clone(), 1)
        .table(&vehicle_data(), "ingest")
        .await
        .unwrap();
    land(&table, 0, Span::new(0, 3)).await.unwrap();
    let foreign = r#"{"commitInfo":{"operation":"OPTIMIZE","timestamp":1}}
{"remove":{"path":"x","dataChange":false}}
{"add":{"path":"y","partitionValues":{"event_date":"2026-01-01"},"size":1,"modificationTime":1,"dataChange":false}}
{"txn":{"appId":"somebody","version":1}}
{"domainMetadata":{"domain":"d","configuration":"","removed":false}}
"#;
    put(store.as_ref(), 2, foreign).await;
    land(&table, 0, Span::new(3, 6)).await.unwrap();
    assert_eq!((table.version(), table.recorded(&partition(0))), (3, Some(6)));
}

#[tokio::test]
async fn a_table_that_changed_under_us_stops_the_writer() {
    for (action, says) in [
        (
            r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["variantType"],"writerFeatures":["variantType","appendOnly"]}}"#,
            "DROP FEATURE variantType",
        ),
        (
            r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["rowTracking","domainMetadata"]}}"#,
            "table feature `rowTracking`",
        ),
        (
            r#"{"protocol":{"minReaderVersion":2,"minWriterVersion":8}}"#,
            "writer version 8",
        ),
        (
            r#"{"metaData":{"id":"x","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":[]}","partitionColumns":["event_date"],"configuration":{}}}"#,
            "the table has no column `id`",
        ),
        ("{\"txn\":", "00000000000000000001.json"),
    ] {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let table = lake_on(store.clone(), 1)
            .table(&vehicle_data(), "ingest")
            .await
            .unwrap();
        put(store.as_ref(), 1, action).await;
        let error = land(&table, 0, Span::new(0, 3)).await.unwrap_err();
        assert!(error.to_string().contains(says) && !error.is_retryable(), "{error}");
        // It stays so.
        assert!(table.refresh().await.is_err());
    }
}

#[tokio::test]
async fn a_log_with_a_hole_is_not_written_to() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let table = lake_on(store.clone(), 1)
        .table(&vehicle_data(), "ingest")
        .await
        .unwrap();
    for batch in 0..3 {
        land(&table, 0, Span::new(batch, batch + 1)).await.unwrap();
    }
    let log = "city/lake/data/vehicle_data/_delta_log";
    store
        .delete(&Path::from(format!("{log}/{:020}.json", 2)))
        .await
        .unwrap();
    let reopen = || async {
        lake_on(store.clone(), 2)
            .table(&vehicle_data(), "ingest")
            .await
            .map(|_| ())
    };
    let error = reopen().await.unwrap_err().to_string();
    assert!(error.contains("version 2 is missing"), "{error}");
    store
        .delete(&Path::from(format!("{log}/{:020}.json", 0)))
        .await
        .unwrap();
    let error = reopen().await.unwrap_err().to_string();
    assert!(error.contains("starts at version 1"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_slept_through_a_clean_up_finds_the_end_of_the_log() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let clock = Arc::new(ManualClock::new(0));
    let url = url::Url::parse("memory:///city/lake").unwrap();
    let sleeper = Lake::with_store(store.clone(), url, clock.clone(), Names::seeded(7));
    let sleeper = sleeper.table(&vehicle_data(), "ingest").await.unwrap();
    let table = lake_on(store.clone(), 1)
        .table(&vehicle_data(), "ingest")
        .await
        .unwrap();
    for batch in 0..101 {
        land(&table, 0, Span::new(batch, batch + 1)).await.unwrap();
    }
    checkpointed(store.as_ref()).await;
    let log = Path::from("city/lake/data/vehicle_data/_delta_log");
    for version in 0..100 {
        store
            .delete(&log.clone().join(format!("{version:020}.json")))
            .await
            .unwrap();
    }
    clock.advance(86_400_000_000 * 31);
    let outcome = land(&sleeper, 1, Span::new(0, 1)).await.unwrap();
    assert_eq!(outcome, lake::CommitOutcome::Committed { version: 102 });
    assert_eq!(sleeper.recorded(&partition(0)), Some(101));
}

#[tokio::test]
async fn opening_goes_on_where_a_request_has_failed() {
    let store = FaultyStore::new();
    let table = lake_on(store.clone(), 1)
        .table(&vehicle_data(), "ingest")
        .await
        .unwrap();
    for from in 0..60 {
        land(&table, 0, Span::new(from, from + 1)).await.unwrap();
    }
    // To read all of them without a failure takes more luck than there is.
    let one_in_three = [Fault::None, Fault::None, Fault::Unavailable].repeat(400);
    store.fail_reads(&one_in_three);
    let opened = lake_on(store.clone(), 2).table(&vehicle_data(), "ingest").await;
    store.calm();
    assert_eq!(opened.unwrap().recorded(&partition(0)), Some(60));
    // A store that is away is an error soon: whoever opens the table decides how long to wait.
    store.fail_reads(&[Fault::Unavailable; 400]);
    let error = lake_on(store.clone(), 3)
        .table(&vehicle_data(), "ingest")
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    store.calm();
}

#[tokio::test]
async fn a_topic_is_bound_again_only_from_the_id_that_was_seen() {
    let lake = lake_on(Arc::new(InMemory::new()), 1);
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    assert_eq!(table.bind_topic("vehicle_data", "one").await.unwrap(), "one");
    table.rebind_topic("vehicle_data", "another", "two").await.unwrap();
    assert_eq!(table.bind_topic("vehicle_data", "two").await.unwrap(), "one");
    table.rebind_topic("vehicle_data", "one", "two").await.unwrap();
    assert_eq!(table.bind_topic("vehicle_data", "two").await.unwrap(), "two");
    let other = lake.table(&vehicle_data(), "ingest").await.unwrap();
    assert_eq!(other.bind_topic("vehicle_data", "one").await.unwrap(), "two");
}
