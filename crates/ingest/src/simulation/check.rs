//! The check: reads the lake by itself, without the code under test, and compares it with the log.

use std::collections::BTreeMap;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use bytes::Bytes;
use futures::FutureExt;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use super::Planted;
use super::world::{Kind, Place, SimRecord, TOPIC, World, id};

/// The names of what places a row: partition, offset, element, and its id where it has one.
type Columns = (&'static str, &'static str, &'static str, Option<&'static str>);

const LETTER_PLACE: Columns = ("partition", "offset", "element", None);

/// What a table holds.
#[derive(Default)]
struct Found {
    /// The ids found in each place; -1 stands for a dead letter's.
    ids: BTreeMap<Place, Vec<i64>>,
    /// The elements that the commits say they account for.
    elements: u64,
    /// By partition: where its first commit begins.
    starts: BTreeMap<i32, i64>,
}

/// How many partitions start behind records that were there before, when all is well.
pub(super) fn everything_landed_once(world: &World) -> Result<u64, String> {
    let rows = read(world, TOPIC, ("_partition", "_offset", "_element", Some("id")))?;
    let letters = read(world, "dead_letters", LETTER_PLACE)?;
    let (mut places, mut late_starts) = (0, 0);
    for (partition, records) in world.records.iter().enumerate() {
        let start = rows.starts.get(&(partition as i32)).copied();
        let start_max = world.start_max(partition);
        let start = match start {
            Some(start) => start,
            // The mistake shows by what it skips, not only by the commit that it leaves out.
            None if world.planted == Some(Planted::NoStarts) => start_max,
            None => return Err(format!("no commit names partition {partition}")),
        };
        if start > start_max {
            return Err(format!(
                "partition {partition} starts at {start}; when reading began it ended at {start_max}"
            ));
        }
        late_starts += u64::from(start > 0);
        for record in records.iter().filter(|record| record.offset >= start) {
            let record_place = (partition as i32, record.offset, None);
            places += match world.has_elements {
                true => check_message(record_place, record, &rows, &letters)?,
                false => check_one(record_place, record.kind, false, &rows, &letters)?,
            };
        }
    }
    let found = rows.ids.len() + letters.ids.len();
    if found != places {
        return Err(format!("{found} places in the tables, {places} of the log's records"));
    }
    // A replay turns one dead letter into several rows.
    if world.has_elements && world.replays == 0 && rows.elements != found as u64 {
        return Err(format!(
            "{found} elements in the tables, {} by the commits",
            rows.elements
        ));
    }
    Ok(late_starts)
}

/// A record or an element is one row or one dead letter. `is_lenient`: it may be a dead letter although it is good,
/// because its message was bad.
fn check_one(at: Place, kind: Kind, is_lenient: bool, rows: &Found, letters: &Found) -> Result<usize, String> {
    let row = rows.ids.get(&at).cloned().unwrap_or_default();
    let letter = letters.ids.get(&at).map_or(0, Vec::len);
    let is_row = row == [id(at)] && letter == 0;
    let is_letter = row.is_empty() && letter == 1;
    let is_right = match kind {
        Kind::Good => is_row || (is_lenient && is_letter),
        Kind::Bad => is_letter,
        Kind::BadLater | Kind::GoodLater => is_row || is_letter,
    };
    match is_right {
        true => Ok(1),
        false => Err(format!(
            "{kind:?} at {at:?} is {} rows with ids {row:?} and {letter} dead letters",
            row.len()
        )),
    }
}

/// A message is one dead letter, or each of its elements is a row or a dead letter.
fn check_message(at: Place, record: &SimRecord, rows: &Found, letters: &Found) -> Result<usize, String> {
    let (partition, offset, _) = at;
    let elements = (0..)
        .zip(&record.elements)
        .map(|(element, kind)| ((partition, offset, Some(element)), *kind));
    let is_there = |at: &Place| rows.ids.contains_key(at) || letters.ids.contains_key(at);
    if letters.ids.contains_key(&at) {
        let count = check_one(at, Kind::BadLater, false, rows, letters)?;
        let mut elements = elements.map(|(at, _)| at);
        return match (record.kind, elements.find(is_there)) {
            (Kind::Good, _) => Err(format!("a good message at {at:?} is a dead letter")),
            (_, Some(element)) => Err(format!("{element:?} is there, and its message is a dead letter")),
            (_, None) => Ok(count),
        };
    }
    if record.kind == Kind::Bad {
        return Err(format!("a bad message at {at:?} is no dead letter"));
    }
    let is_lenient = record.kind != Kind::Good;
    let counts = elements.map(|(at, kind)| check_one(at, kind, is_lenient, rows, letters));
    counts.sum()
}

/// The places of all dead letters.
pub(super) fn letters(world: &World) -> Result<Vec<Place>, String> {
    Ok(read(world, "dead_letters", LETTER_PLACE)?.ids.into_keys().collect())
}

/// Every live row of a table. Also sees that no version is missing and that no recorded offset ever goes back.
fn read(world: &World, table: &str, columns: Columns) -> Result<Found, String> {
    let mut live: BTreeMap<String, ()> = BTreeMap::new();
    let mut recorded: BTreeMap<String, i64> = BTreeMap::new();
    let mut found = Found::default();
    for version in 0.. {
        let path = Path::from(format!("lake/data/{table}/_delta_log/{version:020}.json"));
        let Some(bytes) = get(world, &path)? else { break };
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let action: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
            found.elements += action["commitInfo"]["elements"].as_u64().unwrap_or_default();
            for span in action["commitInfo"]["spans"].as_array().into_iter().flatten() {
                if let (Some(partition), Some(from)) = (span["partition"].as_i64(), span["from"].as_i64()) {
                    found.starts.entry(partition as i32).or_insert(from);
                }
            }
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
    for path in live.into_keys() {
        let whole = Path::from(format!("lake/data/{table}/{path}"));
        let bytes = get(world, &whole)?.ok_or_else(|| format!("{table}: {path} is missing"))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|builder| builder.build());
        for batch in reader.map_err(|error| error.to_string())? {
            let batch = batch.map_err(|error| error.to_string())?;
            let column = |name| batch.column_by_name(name).unwrap();
            let partitions = column(columns.0).as_primitive::<Int32Type>();
            let offsets = column(columns.1).as_primitive::<Int64Type>();
            let elements = column(columns.2).as_primitive::<Int32Type>();
            let ids = columns.3.map(|name| column(name).as_primitive::<Int64Type>());
            for row in 0..batch.num_rows() {
                let element = elements.is_valid(row).then(|| elements.value(row) as u32);
                let at = (partitions.value(row), offsets.value(row), element);
                found
                    .ids
                    .entry(at)
                    .or_default()
                    .push(ids.map_or(-1, |ids| ids.value(row)));
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
