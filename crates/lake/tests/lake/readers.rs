//! Tables are open: other people's readers see the same rows.

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;

use lake::{Lake, Names};
use model::event_time::DAY_US;
use model::{ManualClock, Span};
use serde_json::{Value, json};

use crate::dead_letters::letter;
use crate::rows::{NOON_US, batch, partition, vehicle_data};

const ROWS: i64 = 5000;
const STEP_US: i64 = DAY_US / 2000;

/// The interpreter with the readers, or `None` after saying so; where CI runs they must be there.
pub(crate) fn python() -> Option<String> {
    let python = std::env::var("SMARTCITY_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_readers = Command::new(&python)
        .args(["-c", "import deltalake, polars, duckdb"])
        .output()
        .is_ok_and(|output| output.status.success());
    if has_readers {
        return Some(python);
    }
    crate::skip::skip("a Python with deltalake, polars and duckdb (set SMARTCITY_PYTHON)");
    None
}

#[tokio::test]
async fn python_readers_see_the_same_rows() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(NOON_US));
    let lake = Lake::open(folder.path().to_str().unwrap(), clock, Names::seeded(1))
        .await
        .unwrap();
    let stream = vehicle_data();
    let table = lake.table(&stream, "ingest").await.unwrap();
    for from in (0..ROWS).step_by(1000) {
        let span = Span::new(from, from + 1000);
        let mut writer = table.file_writer();
        writer.write(&batch(&stream, 0, span, NOON_US, STEP_US)).unwrap();
        let staged = table.upload(writer.finish().unwrap()).await.unwrap();
        table.commit(vec![staged], &[(partition(0), span)]).await.unwrap();
    }
    let letters = lake.dead_letters([&vehicle_data()], "ingest").await.unwrap();
    let bad: Vec<_> = (0..6).map(|offset| letter(0, offset)).collect();
    let spans = [(partition(0), Span::new(0, 6))];
    letters.commit(&bad, &spans, &HashMap::new()).await.unwrap();

    let path = |name: &str| folder.path().join("data").join(name);
    let output = Command::new(python)
        .args(["-c", include_str!("readers.py")])
        .args([path("vehicle_data"), path("dead_letters")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();

    let sum: i64 = (0..ROWS).sum();
    let wanted = json!({
        "rows": ROWS,
        "offsets": sum,
        "speed": sum as f64 / 8.0,
        "seconds": ROWS * NOON_US + sum * STEP_US,
        "dates": ["2026-01-01", "2026-01-02", "2026-01-03"],
        "extra": ROWS / 10,
        "ids": ROWS,
    });
    for reader in ["deltalake", "polars", "duckdb"] {
        assert_eq!(seen[reader], wanted, "{reader}");
    }
    assert_eq!(seen["pruned"], 2000);
    assert_eq!(seen["description"], stream.description);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let letters: Vec<Value> = bad
        .iter()
        .map(|letter| {
            json!({
                "offset": letter.offset,
                "key": letter.key.as_deref().map(hex),
                "value": letter.value.as_deref().map(hex),
                "headers": letter.headers.iter().map(|(key, value)| json!([key, value.as_deref().map(hex)])).collect::<Vec<_>>(),
                "stage": letter.stage.as_str(),
                "field": letter.field,
            })
        })
        .collect();
    assert_eq!(seen["letters"], json!(letters));
}
