//! Logs that Delta's reference implementation wrote, read by ours: checkpoints of both specs, sidecars, deletion vectors,
//! column mapping.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use lake::delta::action::{Action, FileKey, parse_lines};
use lake::delta::{ColumnMapping, TableLocation};
use lake::{LakeError, Snapshot};
use object_store::local::LocalFileSystem;
use serde_json::Value;
use url::Url;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/delta")
}

fn location(table: &Path) -> TableLocation {
    let url = Url::from_directory_path(table).unwrap();
    let path = object_store::path::Path::from_absolute_path(table).unwrap();
    TableLocation::new(Arc::new(LocalFileSystem::new()), path, url)
}

/// Every commit from the first on, oldest first, into a map: the plainest way there is.
fn naive(table: &Path, until: i64) -> BTreeMap<FileKey, i64> {
    let mut files = BTreeMap::new();
    for version in 0..=until {
        let commit = std::fs::read(table.join(format!("_delta_log/{version:020}.json"))).unwrap();
        let actions = parse_lines(&commit).unwrap();
        for action in &actions {
            if let Action::Remove(remove) = action {
                files.remove(&remove.key());
            }
        }
        for action in actions {
            if let Action::Add(add) = action {
                files.insert(add.key(), add.size);
            }
        }
    }
    files
}

/// Files and bytes, as Spark noted them beside a version.
fn noted(table: &Path, version: i64) -> Option<(u64, i64)> {
    let text = std::fs::read(table.join(format!("_delta_log/{version:020}.crc"))).ok()?;
    let noted: Value = serde_json::from_slice(&text).unwrap();
    Some((
        noted["numFiles"].as_u64().unwrap(),
        noted["tableSizeBytes"].as_i64().unwrap(),
    ))
}

async fn files(snapshot: &Snapshot) -> BTreeMap<FileKey, i64> {
    let adds: Vec<_> = snapshot.files(|_| true).try_collect().await.unwrap();
    let count = adds.len();
    let files: BTreeMap<_, _> = adds.iter().map(|add| (add.key(), add.size)).collect();
    assert_eq!(files.len(), count, "a file was given twice");
    files
}

/// Those of the repository, and with `SMARTCITY_DELTA_TABLES` all below another folder.
fn tables() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder()];
    folders.extend(std::env::var_os("SMARTCITY_DELTA_TABLES").map(PathBuf::from));
    while let Some(folder) = folders.pop() {
        if folder.join("_delta_log").is_dir() {
            found.push(folder);
            continue;
        }
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        folders.extend(entries.filter(|path| path.is_dir()));
    }
    found.sort();
    found
}

#[tokio::test]
async fn every_version_holds_what_its_commits_add_up_to() {
    let tables = tables();
    assert!(tables.len() >= 9, "{tables:?}");
    let mut with_notes = 0;
    for table in tables {
        let name = table.display();
        let location = location(&table);
        let newest = match Snapshot::load(&location, None).await {
            Ok(snapshot) => snapshot.version(),
            // Tables that are not of the repository may be damaged on purpose, or ask for what we do not know.
            Err(error) if !table.starts_with(folder()) => {
                println!("{name}: {error}");
                continue;
            }
            Err(error) => panic!("{name}: {error}"),
        };
        for version in 0..=newest {
            let snapshot = Snapshot::load(&location, Some(version)).await.unwrap();
            let found = files(&snapshot).await;
            assert_eq!(found, naive(&table, version), "{name} at version {version}");
            let bytes: i64 = found.values().sum();
            if let Some(noted) = noted(&table, version) {
                with_notes += 1;
                assert_eq!((found.len() as u64, bytes), noted, "{name} at version {version}");
            }
            let fields = snapshot.schema().fields.len();
            assert_eq!(snapshot.arrow_schema().fields().len(), fields);
        }
    }
    assert!(with_notes >= 4, "{with_notes}");
}

#[tokio::test]
async fn statistics_come_back_from_columns() {
    for name in [
        "v2-json-sidecars-struct-stats-only",
        "v2-classic-parquet-struct-stats-only",
    ] {
        let snapshot = Snapshot::load(&location(&folder().join(name)), None).await.unwrap();
        let adds: Vec<_> = snapshot.files(|_| true).try_collect().await.unwrap();
        assert!(!adds.is_empty());
        for add in adds {
            let stats: Value = serde_json::from_str(add.stats.as_deref().unwrap_or_else(|| panic!("{name}"))).unwrap();
            assert!(stats["numRecords"].as_u64().unwrap() > 0, "{name}: {stats}");
            assert!(stats["minValues"].is_object(), "{name}: {stats}");
        }
    }
}

#[tokio::test]
async fn deletion_vectors_delete_what_their_descriptors_say() {
    let location = location(&folder().join("table-with-dv-small"));
    let snapshot = Snapshot::load(&location, None).await.unwrap();
    let adds: Vec<_> = snapshot.files(|_| true).try_collect().await.unwrap();
    let [add] = adds.as_slice() else { panic!("{adds:?}") };
    let rows = add.deletion_vector.as_ref().unwrap().read(&location).await.unwrap();
    assert_eq!(rows.iter().collect::<Vec<_>>(), [0, 9]);
}

#[tokio::test]
async fn physical_names_of_a_mapped_table_are_given() {
    let snapshot = Snapshot::load(&location(&folder().join("dv-with-columnmapping")), None)
        .await
        .unwrap();
    assert_eq!(snapshot.column_mapping(), ColumnMapping::Name);
    let names = |schema: &arrow_schema::Schema| -> Vec<String> {
        schema.fields().iter().map(|field| field.name().clone()).collect()
    };
    let (logical, physical) = (names(snapshot.arrow_schema()), names(&snapshot.physical_arrow_schema()));
    for (logical, physical) in logical.iter().zip(&physical) {
        assert_eq!(snapshot.physical_name(logical), physical);
        assert!(physical.starts_with("col-"), "{physical}");
    }
}

#[tokio::test]
async fn a_feature_we_lack_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("_delta_log");
    std::fs::create_dir(&log).unwrap();
    let commit = concat!(
        r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["variantType"],"writerFeatures":["variantType"]}}"#,
        "\n",
        r#"{"metaData":{"id":"i","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":[]}","partitionColumns":[],"configuration":{}}}"#,
    );
    std::fs::write(log.join(format!("{:020}.json", 0)), commit).unwrap();
    let location = location(&std::fs::canonicalize(folder.path()).unwrap());
    let error = Snapshot::load(&location, None).await.unwrap_err().to_string();
    assert!(
        error.contains("DROP FEATURE takes one away") && error.contains("variantType"),
        "{error}"
    );
    let error = Snapshot::load(&location, Some(7)).await.unwrap_err();
    assert!(
        matches!(
            error,
            LakeError::NoVersion {
                version: 7,
                oldest: 0,
                newest: 0,
                ..
            }
        ),
        "{error}"
    );
}
