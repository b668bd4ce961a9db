//! What was committed to a local lake is there after a power cut, wherever it comes, and the lake goes on.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use lake::delta::write_checkpoint;
use lake::verify::{Severity, Verifier, VerifyOptions};
use lake::{CommitOutcome, Durability, Lake, LakeError, LocalStore, Names, Pause, SystemDisk};
use model::event_time::DAY_US;
use model::{ManualClock, Span};
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use url::Url;

use crate::cut_disk::{CutDisk, Flaw};
use crate::dead_letters::letter;
use crate::rows::{NOON_US, batch, offsets, partition, vehicle_data};

/// Offsets of one commit; their rows lie on two days.
const COMMIT: i64 = 6;

/// What a caller was promised, and after how many steps of the disk.
#[derive(Debug, Clone, Copy)]
struct Promise {
    steps: usize,
    recorded: i64,
}

fn is_dead(offset: &i64) -> bool {
    offset % 10 == 3
}

fn lake_in(store: LocalStore, names: u64) -> Lake {
    let url = Url::parse("memory:///").unwrap();
    let lake = Lake::with_store(
        Arc::new(store),
        url,
        Arc::new(ManualClock::new(NOON_US)),
        Names::seeded(names),
    );
    lake.with_pause(Pause::new(|_| Box::pin(async {})))
}

/// Commits some more, dead letters before rows, as ingest does. `Err` where a commit did not come about.
async fn go_on(lake: &Lake, commits: i64, promise: &mut dyn FnMut(i64)) -> Result<(), LakeError> {
    let stream = vehicle_data();
    let table = lake.table(&stream, "ingest").await?;
    let letters = lake.dead_letters([&stream], "ingest").await?;
    let place = partition(0);
    for _ in 0..commits {
        let from = table.recorded(&place).unwrap_or(0);
        let span = Span::new(from, from + COMMIT);
        // Letters that ran ahead of their rows before the cut are there.
        let letters_upto = letters.recorded(&place).unwrap_or(0);
        let dead: Vec<_> = (span.from.max(letters_upto)..span.to)
            .filter(is_dead)
            .map(|offset| letter(0, offset))
            .collect();
        if !dead.is_empty() {
            let known = HashMap::from([(place.clone(), letters.mark(&place))]);
            letters.commit(&dead, &[(place.clone(), span)], &known).await?;
        }
        let mut writer = table.file_writer();
        for offset in (span.from..span.to).filter(|offset| !is_dead(offset)) {
            let one = Span::new(offset, offset + 1);
            writer.write(&batch(&stream, 0, one, NOON_US, DAY_US / 4))?;
        }
        let staged = table.upload(writer.finish()?).await?;
        let records = Some(COMMIT as u64);
        let outcome = table
            .commit_counted(vec![staged], &[(place.clone(), span)], records, None)
            .await?;
        assert!(!matches!(outcome, CommitOutcome::Fenced { .. }), "{outcome:?}");
        promise(span.to);
    }
    Ok(())
}

/// A lake's first commits, a checkpoint and one commit more.
async fn first_run(disk: &CutDisk, base: &Path, durability: Durability) -> Vec<Promise> {
    let root = base.join("city/lake");
    LocalStore::create_root(&root, disk, durability).unwrap();
    let lake = lake_in(LocalStore::new(&root, Arc::new(disk.clone()), durability).unwrap(), 1);
    let mut promises = Vec::new();
    let mut promise = |recorded| {
        let steps = disk.steps();
        promises.push(Promise { steps, recorded });
    };
    // A disk that fails makes the caller try again, as ingest does.
    let (mut left, mut tries) = (3, 0);
    while left > 0 {
        tries += 1;
        assert!(tries < 50, "it never came about");
        let committed = go_on(&lake, 1, &mut promise).await;
        left -= i64::from(committed.is_ok());
    }
    let snapshot = loop {
        if let Ok(snapshot) = lake.root().snapshot("vehicle_data", None).await {
            break snapshot;
        }
    };
    write_checkpoint(&snapshot, NOON_US / 1000).await.ok();
    while go_on(&lake, 1, &mut promise).await.is_err() {}
    promises
}

/// Whether what is left of the lake is all that was promised, and takes more.
async fn is_sound(disk: &CutDisk, steps: usize, seed: u64, promises: &[Promise]) -> Result<(), String> {
    let left = tempfile::tempdir().unwrap();
    disk.cut(steps, seed, left.path());
    let root = left.path().join("city/lake");
    let promised = promises.iter().rev().find(|promise| promise.steps <= steps);
    let promised = promised.map_or(0, |promise| promise.recorded);
    let say = |error: LakeError| format!("{error:?}");
    if promised == 0 && !root.is_dir() {
        return Ok(());
    }
    let store = LocalStore::new(&root, Arc::new(SystemDisk), Durability::Os).map_err(|error| error.to_string())?;
    let lake = lake_in(store, 2 + seed);
    verify(&lake).await?;
    let recorded = match lake.root().snapshot("vehicle_data", None).await {
        Ok(_) => {
            let table = lake.table(&vehicle_data(), "ingest").await.map_err(say)?;
            table.recorded(&partition(0)).unwrap_or(0)
        }
        Err(LakeError::NoTable { .. }) => 0,
        Err(error) => return Err(say(error)),
    };
    if recorded < promised {
        return Err(format!("{promised} was promised, {recorded} is left"));
    }
    let mut upto = recorded;
    go_on(&lake, 2, &mut |recorded| upto = recorded).await.map_err(say)?;
    assert_eq!(upto, recorded + 2 * COMMIT);
    verify(&lake).await?;
    let found = offsets(&lake).await.remove(&0).unwrap_or_default();
    let expected: Vec<i64> = (0..upto).filter(|offset| !is_dead(offset)).collect();
    match found == expected {
        true => Ok(()),
        false => Err(format!("rows {found:?}, not {expected:?}")),
    }
}

async fn verify(lake: &Lake) -> Result<(), String> {
    let names = lake.table_names().await.map_err(|error| format!("{error:?}"))?;
    let options = VerifyOptions {
        offsets_per_pass: 1000,
        elements_per_pass: 1000,
        digests: false,
    };
    let opened = Verifier::open(lake.root(), &[], options, &|_, _, _| {}).await;
    let verifier = opened.map_err(|error| format!("{error:?}"))?;
    for name in &names {
        let report = verifier.table(name).await.map_err(|error| format!("{error:?}"))?.report;
        let mut findings = report.findings.told().iter();
        if let Some(finding) = findings.find(|finding| finding.severity() > Severity::Note) {
            return Err(format!("{name}: {finding}"));
        }
    }
    Ok(())
}

/// What a disk with a flaw comes to: the cuts and seeds after which something is wrong, and what.
async fn losses(flaw: Flaw, durability: Durability, seeds: u64, every: usize) -> Vec<String> {
    let base = tempfile::tempdir().unwrap();
    let disk = CutDisk::new(base.path(), flaw);
    let promises = first_run(&disk, &base.path().canonicalize().unwrap(), durability).await;
    assert!(promises.last().unwrap().recorded >= 4 * COMMIT);
    let mut losses = Vec::new();
    for steps in (0..=disk.steps()).step_by(every) {
        for seed in 0..seeds {
            if let Err(loss) = is_sound(&disk, steps, seed + steps as u64 * 1000, &promises).await {
                losses.push(format!("cut behind step {steps}, seed {seed}: {loss}"));
            }
        }
    }
    losses
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_takes_nothing_that_was_committed() {
    let losses = losses(Flaw::None, Durability::Fsync, 2, 1).await;
    assert!(losses.is_empty(), "{losses:#?}");
}

/// A failed sync is an unknown outcome: what the log then says to be committed is on the disk all the same.
#[tokio::test(flavor = "multi_thread")]
async fn nor_does_one_after_syncs_that_failed() {
    let losses = losses(Flaw::FailingSyncs, Durability::Fsync, 1, 2).await;
    assert!(losses.is_empty(), "{losses:#?}");
}

/// Each step of the way is needed, and the tests would notice that it is missing.
#[tokio::test(flavor = "multi_thread")]
async fn without_any_of_the_syncs_something_is_lost() {
    for (flaw, durability) in [
        (Flaw::NoFileSync, Durability::Fsync),
        (Flaw::NoFolderSync, Durability::Fsync),
        (Flaw::NoPlaceSync, Durability::Fsync),
        (Flaw::None, Durability::Os),
    ] {
        let losses = losses(flaw, durability, 2, 7).await;
        assert!(!losses.is_empty(), "{flaw:?} {durability}");
    }
}

#[tokio::test]
async fn only_the_owner_reads_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("new/lake");
    LocalStore::create_root(&root, &SystemDisk, Durability::Fsync).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&root), mode(root.parent().unwrap())), (0o700, 0o700));
    for (of_root, file, below) in [(0o755, 0o600, 0o700), (0o700, 0o600, 0o700), (0o750, 0o640, 0o750)] {
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(of_root)).unwrap();
        let store = LocalStore::new(&root, Arc::new(SystemDisk), Durability::Fsync).unwrap();
        let path = StorePath::from(format!("data/{of_root:o}/a/file"));
        store.put(&path, "x".into()).await.unwrap();
        let part = StorePath::from(format!("data/{of_root:o}/a/parts"));
        let mut upload = store.put_multipart(&part).await.unwrap();
        upload.put_part("ab".into()).await.unwrap();
        upload.put_part("cd".into()).await.unwrap();
        upload.complete().await.unwrap();
        assert_eq!(store.get(&part).await.unwrap().bytes().await.unwrap(), "abcd");
        let at = |path: &StorePath| root.join(path.as_ref());
        assert_eq!((mode(&at(&path)), mode(&at(&part))), (file, file), "{of_root:o}");
        assert_eq!(mode(at(&path).parent().unwrap()), below, "{of_root:o}");
        assert_eq!(mode(&root), of_root);
        // Nothing is left of the way there.
        assert_eq!(std::fs::read_dir(at(&path).parent().unwrap()).unwrap().count(), 2);
    }
}

#[tokio::test]
async fn a_name_is_taken_once_and_replaced_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::new(folder.path(), Arc::new(SystemDisk), Durability::Fsync).unwrap();
    let path = StorePath::from("t/_delta_log/0.json");
    // Left by a writer that was killed.
    std::fs::create_dir_all(folder.path().join("t/_delta_log")).unwrap();
    std::fs::write(folder.path().join("t/_delta_log/0.json#1"), "half").unwrap();
    let create = || store.put_opts(&path, "one".into(), PutOptions::from(PutMode::Create));
    create().await.unwrap();
    let error = create().await.unwrap_err();
    assert!(matches!(error, object_store::Error::AlreadyExists { .. }), "{error}");
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "one");
    store.put(&path, "two".into()).await.unwrap();
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "two");
    store.delete(&path).await.unwrap();
    let error = store.delete(&path).await.unwrap_err();
    assert!(matches!(error, object_store::Error::NotFound { .. }), "{error}");
    // A lake's folder that is a file is not made to one.
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = LocalStore::create_root(&file, &SystemDisk, Durability::Fsync).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_of_one_name_make_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::new(folder.path(), Arc::new(SystemDisk), Durability::Fsync).unwrap();
    let mut puts = tokio::task::JoinSet::new();
    for number in 0..16 {
        let store = store.clone();
        puts.spawn(async move {
            let path = StorePath::from("log/0");
            let options = PutOptions::from(PutMode::Create);
            store
                .put_opts(&path, format!("{number}").into(), options)
                .await
                .is_ok()
                .then_some(number)
        });
    }
    let won: Vec<i32> = puts.join_all().await.into_iter().flatten().collect();
    assert_eq!(won.len(), 1);
    let stored = std::fs::read_to_string(folder.path().join("log/0")).unwrap();
    assert_eq!(stored, won[0].to_string());
    assert_eq!(std::fs::read_dir(folder.path().join("log")).unwrap().count(), 1);
}
