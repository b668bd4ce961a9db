//! Snapshots and checkpoints of logs that tests make up, against the plainest replay.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use lake::Snapshot;
use lake::delta::action::{Action, FileKey, parse_lines};
use lake::delta::{Damage, FileReconciler, Kinds, Origin, Replay, TableLocation, write_checkpoint};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use proptest::prelude::*;
use url::Url;

fn location() -> TableLocation {
    let url = Url::parse("memory:///lake/data/t/").unwrap();
    TableLocation::new(Arc::new(InMemory::new()), Path::from("lake/data/t"), url)
}

const PROTOCOL: &str = r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors","domainMetadata"]}}"#;

fn metadata(property: i64) -> String {
    format!(
        r#"{{"metaData":{{"id":"i","format":{{"provider":"parquet","options":{{}}}},"schemaString":"{{\"type\":\"struct\",\"fields\":[]}}","partitionColumns":[],"configuration":{{"p":"{property}"}}}}}}"#
    )
}

fn vector(number: u8) -> String {
    match number {
        0 => String::new(),
        number => format!(
            r#","deletionVector":{{"storageType":"u","pathOrInlineDv":"v{number}","offset":1,"sizeInBytes":1,"cardinality":1}}"#
        ),
    }
}

async fn put(location: &TableLocation, version: i64, lines: &[String]) {
    let path = location.commit_path(version);
    location.store().put(&path, lines.join("\n").into()).await.unwrap();
}

async fn files(snapshot: &Snapshot) -> BTreeMap<FileKey, i64> {
    let adds: Vec<_> = snapshot.files(|_| true).try_collect().await.unwrap();
    let count = adds.len();
    let files: BTreeMap<_, _> = adds.into_iter().map(|add| (add.key(), add.size)).collect();
    assert_eq!(files.len(), count, "a file was given twice");
    files
}

/// One step of a commit.
#[derive(Debug, Clone)]
enum Step {
    /// Adds the file, or gives the one that is there another deletion vector or size.
    Put {
        path: u8,
        vector: u8,
        size: u8,
    },
    Remove {
        path: u8,
    },
    Txn {
        app: u8,
        version: u8,
    },
    Metadata {
        property: u8,
    },
    Domain {
        name: u8,
        removed: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..8_u8, 0..3_u8, any::<u8>()).prop_map(|(path, vector, size)| Step::Put { path, vector, size }),
        2 => (0..8_u8).prop_map(|path| Step::Remove { path }),
        2 => (0..3_u8, any::<u8>()).prop_map(|(app, version)| Step::Txn { app, version }),
        1 => any::<u8>().prop_map(|property| Step::Metadata { property }),
        1 => (0..2_u8, any::<bool>()).prop_map(|(name, removed)| Step::Domain { name, removed }),
    ]
}

/// The state that a log adds up to, by its own rules, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
struct Naive {
    /// By path: deletion vector and size.
    files: BTreeMap<u8, (u8, u8)>,
    txns: BTreeMap<String, i64>,
    property: u8,
    domains: BTreeMap<String, ()>,
}

impl Naive {
    /// The lines of a legal commit of these steps, which become part of the state.
    fn commit(&mut self, steps: &[Step]) -> Vec<String> {
        let mut lines = vec![r#"{"commitInfo":{"operation":"TEST"}}"#.to_owned()];
        let mut touched = Vec::new();
        let (mut has_metadata, mut seen) = (false, Vec::new());
        for step in steps {
            match step {
                Step::Put {
                    path,
                    vector: new,
                    size,
                } if !touched.contains(path) => {
                    touched.push(*path);
                    let add = format!(
                        r#"{{"add":{{"path":"f{path}","partitionValues":{{}},"size":{size},"modificationTime":1,"dataChange":true{}}}}}"#,
                        vector(*new)
                    );
                    lines.push(add);
                    match self.files.insert(*path, (*new, *size)) {
                        Some((old, _)) if old != *new => lines.push(remove(*path, old)),
                        _ => {}
                    }
                }
                Step::Remove { path } if !touched.contains(path) => {
                    if let Some((old, _)) = self.files.remove(path) {
                        touched.push(*path);
                        lines.push(remove(*path, old));
                    }
                }
                Step::Txn { app, version } if !seen.contains(app) => {
                    seen.push(*app);
                    lines.push(format!(r#"{{"txn":{{"appId":"a{app}","version":{version}}}}}"#));
                    self.txns.insert(format!("a{app}"), (*version).into());
                }
                Step::Metadata { property } if !has_metadata => {
                    has_metadata = true;
                    lines.push(metadata((*property).into()));
                    self.property = *property;
                }
                Step::Domain { name, removed } if !seen.contains(&(100 + name)) => {
                    seen.push(100 + name);
                    let line = format!(
                        r#"{{"domainMetadata":{{"domain":"d{name}","configuration":"{{}}","removed":{removed}}}}}"#
                    );
                    lines.push(line);
                    match removed {
                        true => self.domains.remove(&format!("d{name}")),
                        false => self.domains.insert(format!("d{name}"), ()),
                    };
                }
                _ => {}
            }
        }
        lines
    }

    async fn assert_is(&self, snapshot: &Snapshot) {
        let wanted: Vec<String> = self
            .files
            .iter()
            .map(|(path, (vector_of, size))| format!("{path} {vector_of} {size}"))
            .collect();
        let adds: Vec<_> = snapshot.files(|_| true).try_collect().await.unwrap();
        let mut found: Vec<String> = adds
            .iter()
            .map(|add| {
                let vector = add
                    .deletion_vector
                    .as_ref()
                    .map_or("0", |vector| &vector.path_or_inline_dv[1..]);
                format!("{} {vector} {}", &add.path[1..], add.size)
            })
            .collect();
        found.sort_unstable();
        assert_eq!(found, wanted, "files at {}", snapshot.version());
        let txns: BTreeMap<_, _> = snapshot.txns().map(|(id, txn)| (id.to_owned(), txn.version)).collect();
        assert_eq!(txns, self.txns, "transactions at {}", snapshot.version());
        assert_eq!(
            snapshot.metadata().property("p"),
            Some(self.property.to_string().as_str())
        );
        let domains: BTreeMap<_, _> = snapshot
            .domain_metadata()
            .map(|found| (found.domain.clone(), ()))
            .collect();
        assert_eq!(domains, self.domains, "domains at {}", snapshot.version());
    }
}

fn remove(path: u8, old: u8) -> String {
    format!(
        r#"{{"remove":{{"path":"f{path}","deletionTimestamp":1000,"dataChange":true{}}}}}"#,
        vector(old)
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any legal log, with checkpoints wherever they may be, at every version.
    #[test]
    fn a_snapshot_is_what_its_commits_add_up_to(
        commits in prop::collection::vec((prop::collection::vec(step(), 0..6), any::<bool>()), 1..14)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let location = location();
            let mut naive = Naive::default();
            put(&location, 0, &[PROTOCOL.to_owned(), metadata(0)]).await;
            let mut states = vec![naive.clone()];
            let mut refreshed = Snapshot::load(&location, None).await.unwrap();
            for (at, (steps, with_checkpoint)) in commits.iter().enumerate() {
                let version = at as i64 + 1;
                let lines = naive.commit(steps);
                put(&location, version, &lines).await;
                states.push(naive.clone());
                if *with_checkpoint {
                    let snapshot = Snapshot::load(&location, None).await.unwrap();
                    // Half of the tombstones have expired.
                    write_checkpoint(&snapshot, if at % 2 == 0 { 0 } else { 1 << 40 }).await.unwrap();
                }
                refreshed = refreshed.refresh().await.unwrap();
                prop_assert_eq!(refreshed.version(), version);
                naive.assert_is(&refreshed).await;
            }
            for (version, state) in states.iter().enumerate() {
                let snapshot = Snapshot::load(&location, Some(version as i64)).await.unwrap();
                state.assert_is(&snapshot).await;
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_checkpoint_keeps_tombstones_until_they_expire() {
    let location = location();
    let add = |path: &str| {
        format!(
            r#"{{"add":{{"path":"{path}","partitionValues":{{}},"size":1,"modificationTime":1,"dataChange":true}}}}"#
        )
    };
    put(&location, 0, &[PROTOCOL.to_owned(), metadata(0), add("f1"), add("f2")]).await;
    put(&location, 1, &[remove(1, 0)]).await;
    const WEEK_MS: i64 = 7 * 24 * 60 * 60 * 1000;
    for (now_ms, tombstones) in [(999 + WEEK_MS, 1), (1000 + WEEK_MS, 0)] {
        let snapshot = Snapshot::load(&location, None).await.unwrap();
        let written = write_checkpoint(&snapshot, now_ms).await.unwrap();
        assert_eq!((written.version, written.num_of_add_files), (1, Some(1)));
        assert_eq!(written.size, 3 + tombstones);
        let size = location.store().head(&location.checkpoint_path(1)).await.unwrap().size;
        assert_eq!(written.size_in_bytes, Some(size as i64));
        assert_eq!(location.last_checkpoint().await, Some(written));
    }
    // Written again from the checkpoint alone: an expired tombstone does not bring its file back.
    location.store().delete(&location.commit_path(0)).await.unwrap();
    let snapshot = Snapshot::load(&location, None).await.unwrap();
    assert_eq!(files(&snapshot).await.len(), 1);
}

#[tokio::test]
async fn damage_is_reported_and_the_rest_is_read() {
    let location = location();
    put(&location, 0, &[PROTOCOL.to_owned(), metadata(0)]).await;
    for version in 1..8 {
        let txn = format!(r#"{{"txn":{{"appId":"a{version}","version":{version}}}}}"#);
        put(&location, version, &[txn]).await;
    }
    let snapshot = Snapshot::load(&location, Some(3)).await.unwrap();
    write_checkpoint(&snapshot, 0).await.unwrap();
    location.store().delete(&location.commit_path(5)).await.unwrap();
    let half = r#"{"txn":{"appId":"a6","version":6}}"#.to_owned();
    put(&location, 6, &[half, r#"{"add":{"path":"#.to_owned()]).await;
    let error = Snapshot::load(&location, None).await.unwrap_err().to_string();
    assert!(error.contains("version 5 is missing"), "{error}");

    let (sender, damages) = std::sync::mpsc::channel();
    let listing = location.list().await.unwrap();
    let mut replay = Replay::lenient(&location, &listing, Kinds::All, move |damage| {
        sender.send(damage).unwrap()
    });
    let (mut origins, mut txns) = (Vec::new(), 0);
    while let Some(piece) = replay.next().await.unwrap() {
        txns += piece
            .actions
            .iter()
            .filter(|action| matches!(action, Action::Txn(_)))
            .count();
        origins.push(piece.origin);
    }
    let history = (0..=3).rev().map(Origin::History);
    let wanted: Vec<Origin> = [
        Origin::Commit(7),
        Origin::Commit(6),
        Origin::Commit(4),
        Origin::Checkpoint(3),
    ]
    .into_iter()
    .chain(history)
    .collect();
    assert_eq!(origins, wanted);
    assert_eq!(txns, 3 + 3 + 3);
    drop(replay);
    let damages: Vec<Damage> = damages.iter().collect();
    assert_eq!(damages[0], Damage::MissingCommit { version: 5 });
    assert!(
        matches!(&damages[1], Damage::UnreadableCommit { version: 6, .. }),
        "{damages:?}"
    );
    assert_eq!(damages.len(), 2);

    // A checkpoint that is no Parquet stops a reader, and not the check.
    location
        .store()
        .put(&location.checkpoint_path(3), "no parquet".into())
        .await
        .unwrap();
    assert!(Snapshot::load(&location, Some(4)).await.is_err());
    let (sender, damages) = std::sync::mpsc::channel();
    let mut replay = Replay::lenient(&location, &listing, Kinds::All, move |damage| {
        sender.send(damage).unwrap()
    });
    while replay.next().await.unwrap().is_some() {}
    drop(replay);
    assert!(
        damages
            .iter()
            .any(|damage| matches!(damage, Damage::UnreadableCheckpoint { version: 3, .. }))
    );
}

#[test]
fn what_a_commit_both_removes_and_adds_stays() {
    let lines = concat!(
        r#"{"add":{"path":"p","partitionValues":{},"size":2,"modificationTime":1,"dataChange":true}}"#,
        "\n",
        r#"{"remove":{"path":"p","dataChange":true}}"#
    );
    for reversed in [false, true] {
        let mut actions = parse_lines(lines.as_bytes()).unwrap();
        if reversed {
            actions.reverse();
        }
        let origin = Origin::Commit(1);
        let kept = FileReconciler::default().keep(lake::delta::Piece { origin, actions });
        assert!(matches!(kept.as_slice(), [Action::Add(_)]), "{kept:?}");
    }
}
