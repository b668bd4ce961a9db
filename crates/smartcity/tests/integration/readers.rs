//! The tables through readers that are not ours.

use std::time::Duration;

use crate::support::{eventually, foreign_readers_agree, query, smartcity, up};

#[test]
fn deltalake_polars_and_duckdb_see_what_we_see() {
    let dir = tempfile::tempdir().unwrap();
    let lake = dir.path().join("lake");
    // Over midnight, so that there are two partitions.
    let mut up = up(dir.path(), &["--pace", "max", "--start", "2026-01-01T23:30:00"]);
    up.process.wait_for("the vehicle has arrived", Duration::from_secs(30));
    // What has not been read when `up` stops is read at its next start.
    eventually("rows of both days", Duration::from_secs(30), || {
        let mut dates = smartcity();
        dates.args([
            "query",
            "select distinct event_date from vehicle_data",
            "--format",
            "csv",
            "--lake",
        ]);
        let printed = dates.arg(&lake).output().unwrap().stdout;
        String::from_utf8(printed).unwrap().lines().count() == 3
    });
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
