//! The tables through readers that are not ours.

use std::time::Duration;

use crate::support::{foreign_readers_agree, query, up};

#[test]
fn deltalake_polars_and_duckdb_see_what_we_see() {
    let dir = tempfile::tempdir().unwrap();
    let lake = dir.path().join("lake");
    // Over midnight, so that there are two partitions.
    let mut up = up(dir.path(), &["--pace", "max", "--start", "2026-01-01T23:30:00"]);
    up.process.wait_for("the vehicle has arrived", Duration::from_secs(30));
    up.process.stop();

    let dates = query(
        &lake,
        "select event_date, count(*) as n from vehicle_data group by event_date",
    );
    assert_eq!(dates.len(), 2);
    foreign_readers_agree(
        &lake,
        &[
            "vehicle_data",
            "weather_data",
            "gps_data",
            "traffic_data",
            "emergency_data",
        ],
    );
}
