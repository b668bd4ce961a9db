//! One location is one place, for writers and readers alike, whatever characters it has.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use lake::{Durability, Lake, LakeError, Location, Names, Root};
use model::{ManualClock, Span};
use serde_json::Value;
use url::Url;

use crate::rows::{NOON_US, assert_whole, land, partition, vehicle_data};

/// Names of folders that some program or other takes for something else.
const FOLDERS: [&str; 15] = [
    "a b", "a%20b", "a%2520b", "x%2Fy", "a\\b", "a\tb", "a\nb", "a#b", "a#1", "a?b", "a;b&c=d", " a ", "é ü", "[a]{b}",
    "100%",
];

async fn open(location: &str, seed: u64) -> Result<Lake, LakeError> {
    Lake::open(location, Arc::new(ManualClock::new(NOON_US)), Names::seeded(seed)).await
}

#[tokio::test]
async fn each_folder_is_a_lake_of_its_own() {
    let base = tempfile::tempdir().unwrap();
    let path = |name: &str| base.path().join(name).join("lake");
    for (number, name) in FOLDERS.iter().enumerate() {
        let lake = open(path(name).to_str().unwrap(), 1).await.unwrap();
        let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
        let rows = 1 + number as i64;
        land(&table, 0, Span::new(0, rows)).await.unwrap();
    }
    let mut made: Vec<_> = std::fs::read_dir(base.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    made.sort();
    let mut wanted: Vec<_> = FOLDERS.iter().map(std::ffi::OsString::from).collect();
    wanted.sort();
    assert_eq!(made, wanted);
    for (number, name) in FOLDERS.iter().enumerate() {
        let rows = 1 + number as i64;
        let folder = path(name);
        assert!(
            folder
                .join("data/vehicle_data/_delta_log/00000000000000000001.json")
                .is_file(),
            "{name:?}"
        );
        // As a reader and as a writer, by its path and by its URL.
        let url = Url::from_file_path(folder.canonicalize().unwrap()).unwrap();
        for location in [folder.to_str().unwrap(), url.as_str()] {
            let root = Root::open(location, []).unwrap();
            assert_eq!(root.table_names().await.unwrap(), ["vehicle_data"], "{location:?}");
            assert_eq!(Path::new(root.location()), folder.canonicalize().unwrap());
            let lake = open(location, 2).await.unwrap();
            assert_whole(&lake, &[(0, rows)]).await;
            let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
            assert_eq!(table.recorded(&partition(0)), Some(rows), "{location:?}");
        }
    }
}

#[tokio::test]
async fn a_table_has_one_url_and_its_files_one_path() {
    let base = tempfile::tempdir().unwrap();
    for name in FOLDERS {
        let folder = base.path().canonicalize().unwrap().join(name);
        let lake = open(folder.to_str().unwrap(), 1).await.unwrap();
        let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
        land(&table, 0, Span::new(0, 3)).await.unwrap();
        let url = lake.table_url("vehicle_data");
        assert_eq!(
            url.to_file_path().unwrap(),
            folder.join("data/vehicle_data"),
            "{name:?}"
        );
        let snapshot = lake.root().snapshot("vehicle_data", None).await.unwrap();
        let adds: Vec<_> = snapshot.files(|_| true).try_collect().await.unwrap();
        // A log may name a file by its own URL.
        let of_file = url.join(&adds[0].path).unwrap();
        let location = snapshot.location();
        let relative = location.data_path(&adds[0].path).unwrap();
        assert_eq!(location.data_path(of_file.as_str()).unwrap(), relative, "{name:?}");
        let outside = Url::from_file_path(base.path().join("elsewhere.parquet")).unwrap();
        let error = location.data_path(outside.as_str()).unwrap_err();
        assert!(error.contains("outside of the lake"), "{error}");
    }
}

/// A table's partition values end up in names of folders and, escaped once more, in the log.
#[tokio::test]
async fn escapes_in_the_log_are_undone_once() {
    let base = tempfile::tempdir().unwrap();
    let lake = open(base.path().join("x%20y").to_str().unwrap(), 1).await.unwrap();
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    land(&table, 0, Span::new(0, 3)).await.unwrap();
    let folder = base.path().join("x%20y/data/vehicle_data");
    let commit = folder.join("_delta_log/00000000000000000001.json");
    let text = std::fs::read_to_string(&commit).unwrap();
    let actions: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let old = actions
        .iter()
        .find_map(|action| action["add"]["path"].as_str())
        .unwrap();
    let moved = folder.join("odd=a%20b\\c/part#7x.parquet");
    std::fs::create_dir(moved.parent().unwrap()).unwrap();
    std::fs::rename(folder.join(old), moved).unwrap();
    std::fs::write(&commit, text.replace(old, "odd=a%2520b%5Cc/part%237x.parquet")).unwrap();
    let snapshot = lake.root().snapshot("vehicle_data", None).await.unwrap();
    let adds: Vec<_> = snapshot.files(|_| true).try_collect().await.unwrap();
    let path = snapshot.location().data_path(&adds[0].path).unwrap();
    let found = object_store::ObjectStoreExt::head(lake.store().as_ref(), &path)
        .await
        .unwrap();
    assert_eq!(found.size as i64, adds[0].size);
}

#[tokio::test]
async fn a_lake_in_a_bucket_keeps_its_prefix() {
    let variables = [
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_REGION", "c"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for (location, url, path) in [
        ("s3://city", "s3://city/data/t/", "data/t"),
        ("s3a://city/a b/é+", "s3://city/a%20b/%C3%A9+/data/t/", "a b/é+/data/t"),
        ("s3://city/lake/", "s3://city/lake/data/t/", "lake/data/t"),
    ] {
        let root = Root::open(location, variables.clone()).unwrap();
        assert_eq!(root.table_url("t").as_str(), url);
        assert_eq!(root.table_path("t").as_ref(), path);
    }
}

#[tokio::test]
async fn what_cannot_be_told_apart_is_refused_and_nothing_is_made() {
    let base = tempfile::tempdir().unwrap();
    let url = Url::from_file_path(base.path()).unwrap();
    let locations = [
        format!("{url}/a#b"),
        format!("{url}/a?b"),
        format!("{url}/a%2Fb"),
        "s3://bucket/a#b".to_owned(),
        "s3://bucket/a?b".to_owned(),
        "s3://bucket/a//b".to_owned(),
        "s3://bucket/a%20b".to_owned(),
        String::new(),
    ];
    for location in &locations {
        let read = Root::open(location, []).unwrap_err();
        let written = open(location, 1).await.map(drop).unwrap_err();
        assert!(matches!(read, LakeError::Location { .. }), "{location}: {read}");
        assert_eq!(read.to_string(), written.to_string());
        assert!(read.to_string().contains(location.as_str()), "{read}");
    }
    assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn one_parsed_location_serves_writers_and_readers() {
    let base = tempfile::tempdir().unwrap();
    let folder: PathBuf = base.path().join("a%20b");
    let location: Location = folder.to_str().unwrap().parse().unwrap();
    assert_eq!(location.to_string(), folder.to_str().unwrap());
    let missing = Root::at(&location, []).unwrap_err();
    assert!(matches!(missing, LakeError::Missing { .. }), "{missing}");
    let clock = Arc::new(ManualClock::new(NOON_US));
    let lake = Lake::at(&location, Durability::Os, [], clock, Names::seeded(1))
        .await
        .unwrap();
    lake.table(&vehicle_data(), "ingest").await.unwrap();
    let root = Root::at(&location, []).unwrap();
    assert_eq!(root.table_names().await.unwrap(), ["vehicle_data"]);
}
