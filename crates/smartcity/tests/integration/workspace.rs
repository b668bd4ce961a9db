//! Rules that the whole checkout keeps.

use std::collections::BTreeMap;
use std::fs;

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
