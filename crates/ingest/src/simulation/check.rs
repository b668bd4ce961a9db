//! The judge: reads the lake by itself, without the code under test, and compares it with the log.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use bytes::Bytes;
use futures::FutureExt;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use super::world::{Kind, TOPIC, World, id};

/// The names of what places a row: partition, offset, and its id where it has one.
type Columns = (&'static str, &'static str, Option<&'static str>);

const LETTER_PLACE: Columns = ("partition", "offset", None);

/// Partition and offset to the ids found there; -1 stands for a letter's.
type Found = BTreeMap<(i32, i64), Vec<i64>>;

pub(super) fn everything_landed_once(world: &World) -> Result<(), String> {
    let rows = read(world, TOPIC, ("_partition", "_offset", Some("id")))?;
    let letters = read(world, "dead_letters", LETTER_PLACE)?;
    let mut expected = 0;
    for (partition, records) in world.records.iter().enumerate() {
        for record in records {
            let at = (partition as i32, record.offset);
            let row = rows.get(&at).cloned().unwrap_or_default();
            let letter = letters.get(&at).map_or(0, Vec::len);
            let is_row = row == [id(at.0, at.1)] && letter == 0;
            let is_letter = row.is_empty() && letter == 1;
            let is_right = match record.kind {
                Kind::Good => is_row,
                Kind::Bad => is_letter,
                Kind::BadLater | Kind::GoodLater => is_row || is_letter,
            };
            if !is_right {
                return Err(format!(
                    "{:?} record at {at:?} is {} rows with ids {row:?} and {letter} letters",
                    record.kind,
                    row.len()
                ));
            }
            expected += 1;
        }
    }
    let found = rows.len() + letters.len();
    if found != expected {
        return Err(format!("{found} offsets in the tables, {expected} records in the log"));
    }
    Ok(())
}

/// The places of all letters.
pub(super) fn letters(world: &World) -> Result<Vec<(i32, i64)>, String> {
    Ok(read(world, "dead_letters", LETTER_PLACE)?.into_keys().collect())
}

/// Every live row of a table. Also sees that no version is missing and that no recorded offset ever goes back.
fn read(world: &World, table: &str, columns: Columns) -> Result<Found, String> {
    let mut live: BTreeMap<String, ()> = BTreeMap::new();
    let mut recorded: BTreeMap<String, i64> = BTreeMap::new();
    for version in 0.. {
        let path = Path::from(format!("lake/data/{table}/_delta_log/{version:020}.json"));
        let Some(bytes) = get(world, &path)? else { break };
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let action: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
            if let Some(path) = action["add"]["path"].as_str() {
                live.insert(path.to_owned(), ());
            }
            if let Some(path) = action["remove"]["path"].as_str() {
                live.remove(path)
                    .ok_or_else(|| format!("{table} version {version}: {path} was not there"))?;
            }
            if let (Some(id), Some(offset)) = (action["txn"]["appId"].as_str(), action["txn"]["version"].as_i64()) {
                let before = recorded.insert(id.to_owned(), offset);
                if before.is_some_and(|before| before > offset) {
                    return Err(format!("{table} version {version}: {id} goes back to {offset}"));
                }
            }
        }
    }
    let mut found = Found::new();
    for path in live.into_keys() {
        let whole = Path::from(format!("lake/data/{table}/{path}"));
        let bytes = get(world, &whole)?.ok_or_else(|| format!("{table}: {path} is missing"))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|builder| builder.build());
        for batch in reader.map_err(|error| error.to_string())? {
            let batch = batch.map_err(|error| error.to_string())?;
            let column = |name| batch.column_by_name(name).unwrap();
            let partitions = column(columns.0).as_primitive::<Int32Type>();
            let offsets = column(columns.1).as_primitive::<Int64Type>();
            let ids = columns.2.map(|name| column(name).as_primitive::<Int64Type>());
            for row in 0..batch.num_rows() {
                let at = (partitions.value(row), offsets.value(row));
                found.entry(at).or_default().push(ids.map_or(-1, |ids| ids.value(row)));
            }
        }
    }
    Ok(found)
}

fn get(world: &World, path: &Path) -> Result<Option<Bytes>, String> {
    let read = async { world.store.get(path).await?.bytes().await };
    match read.now_or_never() {
        Some(Ok(bytes)) => Ok(Some(bytes)),
        Some(Err(Error::NotFound { .. })) => Ok(None),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("the store in memory does not answer".to_owned()),
    }
}
