//! The tables through readers that are not ours.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{python, query, run, up};

#[test]
fn deltalake_polars_and_duckdb_see_what_we_see() {
    let Some(mut readers) = python("readers.py") else { return };
    let dir = tempfile::tempdir().unwrap();
    let lake = dir.path().join("lake");
    // Over midnight, so that there are two partitions.
    let mut up = up(dir.path(), &["--pace", "max", "--start", "2026-01-01T23:30:00"]);
    up.process.wait_for("the vehicle has arrived", Duration::from_secs(30));
    up.process.stop();

    let tables = ["vehicle_data", "weather_data", "gps_data", "traffic_data", "emergency_data"];
    let seen: Value = serde_json::from_str(&run(readers.arg(&lake).args(tables).arg("dead_letters"))).unwrap();
    for table in tables {
        let ours = query(&lake, &format!("select count(*) as rows, sum(_offset) as offsets from {table}"));
        for reader in ["deltalake", "polars", "duckdb"] {
            assert_eq!(seen[table][reader]["rows"], ours[0]["rows"], "{table} through {reader}");
            assert_eq!(seen[table][reader]["offsets"], ours[0]["offsets"], "{table} through {reader}");
            assert_eq!(seen[table][reader], seen[table]["deltalake"], "{table} through {reader}");
        }
    }
    let dates = query(&lake, "select event_date, count(*) as n from vehicle_data group by event_date");
    assert_eq!(dates.len(), 2);
    assert_eq!(seen["dead_letters"]["duckdb"]["rows"], 0);
}
