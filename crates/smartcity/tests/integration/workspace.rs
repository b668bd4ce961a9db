//! Rules that the whole checkout keeps.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::root;

#[test]
fn the_map_names_every_crate() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            map.contains(&format!("`{name}`")),
            "ARCHITECTURE.md does not name the crate `{name}`"
        );
    }
}

#[test]
fn there_is_one_version_of_what_defines_our_types() {
    let lock: toml::Table = fs::read_to_string(root().join("Cargo.lock")).unwrap().parse().unwrap();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in lock["package"].as_array().unwrap() {
        versions
            .entry(package["name"].as_str().unwrap())
            .or_default()
            .push(package["version"].as_str().unwrap());
    }
    for (name, versions) in versions {
        let ours = ["arrow", "datafusion", "parquet", "object_store", "deltalake"];
        if ours.iter().any(|prefix| name.starts_with(prefix)) {
            assert_eq!(versions.len(), 1, "{name}: {versions:?}");
        }
    }
}

/// The Rust files below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn tests_are_skipped_in_one_way() {
    let mut files = Vec::new();
    sources(&root().join("crates"), &mut files);
    assert!(files.len() > 200, "{} files", files.len());
    // Put together, so that this file does not hold it.
    let word = ["SKIP", "PED: "].concat();
    let others: Vec<_> = files
        .iter()
        .filter(|file| fs::read_to_string(file).unwrap().contains(&word))
        .collect();
    assert!(others.is_empty(), "use tests/skip.rs, which fails in CI: {others:?}");
}
