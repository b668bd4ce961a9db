//! Every column of every table, read by everybody: whole values, not counts.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow_schema::DataType;
use arrow_select::concat::concat_batches;
use lake::delta::write_checkpoint;
use lake::{Erasure, Lake, Names, ParquetProfile};
use model::event_time::{DAY_US, days};
use model::{ManualClock, Span, Stream, TopicPartition};
use serde_json::{Value, json};

use crate::dead_letters::letter;
use crate::plain::PlainTable;
use crate::readers::python;
use crate::rows::{NOON_US, partition, vehicle_data};
use crate::spark::Spark;

const ROWS: i64 = 3000;
const PRIME: i64 = 1_000_003;
/// The years 1 and 9999.
const EXTREME_US: [i64; 2] = [-62_135_596_800_000_000, 253_402_300_799_999_999];

/// A declaration with a column of each type.
const EVERY_TYPE: &str = r#"
name = "every_type"
description = "A column of each type."
key = "id"
event_time = "at"
[[field]]
name = "id"
type = "string"
unique = true
doc = "Its name."
[[field]]
name = "at"
type = "timestamp"
doc = "When."
[[field]]
name = "seen"
type = "timestamp"
nullable = true
doc = "When it was seen."
[[field]]
name = "flag"
type = "boolean"
nullable = true
doc = "Whether."
[[field]]
name = "small"
type = "integer"
nullable = true
doc = "A small number."
[[field]]
name = "large"
type = "long"
nullable = true
doc = "A large number."
[[field]]
name = "measure"
type = "double"
nullable = true
doc = "A measurement."
[[field]]
name = "words"
type = "string"
nullable = true
doc = "A text."
"#;

fn streams() -> Vec<Stream> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../streams");
    let mut streams = vec![Stream::parse("every_type.toml", EVERY_TYPE).unwrap()];
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        streams.push(Stream::parse(path.file_name().unwrap().to_str().unwrap(), &text).unwrap());
    }
    streams
}

/// Rows with extremes of every type, nulls where they may be, and texts of several scripts and lengths.
fn batch(stream: &Stream, offsets: Span) -> RecordBatch {
    let all = || offsets.from..offsets.to;
    let schema = stream.arrow_schema();
    let columns = schema.fields().iter().enumerate().map(|(at, column)| -> ArrayRef {
        let salt = at as i64;
        let is_null = |o: &i64| column.is_nullable() && (o + salt) % 4 == 3;
        let at_us = |o: i64| NOON_US + o * (DAY_US / 2000);
        match (column.name().as_str(), column.data_type()) {
            ("event_date", _) => Arc::new(Date32Array::from_iter_values(all().map(|o| days(at_us(o))))),
            ("_partition", _) => Arc::new(Int32Array::from_iter_values(all().map(|_| 0))),
            ("_offset", _) => Arc::new(Int64Array::from_iter_values(all())),
            ("_topic", _) => Arc::new(StringArray::from_iter_values(all().map(|_| &stream.topic))),
            ("_element", _) => Arc::new(Int32Array::new_null(all().count())),
            (name, _) if stream.event_time.as_deref() == Some(name) => {
                Arc::new(TimestampMicrosecondArray::from_iter_values(all().map(at_us)).with_timezone("UTC"))
            }
            (_, DataType::Timestamp(..)) => {
                let value = |o: i64| EXTREME_US.get(o as usize).copied().unwrap_or(at_us(o) + salt);
                let values = all().map(|o| (!is_null(&o)).then(|| value(o)));
                Arc::new(TimestampMicrosecondArray::from_iter(values).with_timezone("UTC"))
            }
            (_, DataType::Float64) => {
                let extremes = [f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324];
                let value = |o: i64| {
                    extremes
                        .get(o as usize)
                        .copied()
                        .unwrap_or((o - 1500 + salt) as f64 / 8.0)
                };
                Arc::new(Float64Array::from_iter(all().map(|o| (!is_null(&o)).then(|| value(o)))))
            }
            (_, DataType::Int32) => {
                let value = |o: i64| {
                    [i32::MAX, i32::MIN]
                        .get(o as usize)
                        .copied()
                        .unwrap_or((o * 7 + salt) as i32)
                };
                Arc::new(Int32Array::from_iter(all().map(|o| (!is_null(&o)).then(|| value(o)))))
            }
            (_, DataType::Int64) => {
                let value = |o: i64| [i64::MAX, i64::MIN].get(o as usize).copied().unwrap_or(o * o * salt);
                Arc::new(Int64Array::from_iter(all().map(|o| (!is_null(&o)).then(|| value(o)))))
            }
            (_, DataType::Boolean) => Arc::new(BooleanArray::from_iter(
                all().map(|o| (!is_null(&o)).then_some(o % 3 == 0)),
            )),
            (name, DataType::Utf8) => {
                let value = |o: i64| match o % 5 {
                    0 => format!("{name}-{o}"),
                    1 => format!("für 名 😀 {o}"),
                    2 => format!("{o} {}", "long ".repeat(20)),
                    3 => String::new() + &"\u{10ffff}".repeat((o % 3) as usize) + &o.to_string(),
                    _ => format!("a\"b\\c\n{}", o % 17),
                };
                Arc::new(StringArray::from_iter(all().map(|o| (!is_null(&o)).then(|| value(o)))))
            }
            (name, data_type) => panic!("{name}: {data_type}"),
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}

/// A lake with rows in every table.
async fn filled(folder: &Path, profile: ParquetProfile) -> Lake {
    let clock = Arc::new(ManualClock::new(NOON_US));
    let lake = Lake::open(folder.to_str().unwrap(), clock, Names::seeded(1))
        .await
        .unwrap();
    let lake = lake.with_parquet_profile(profile);
    for stream in streams() {
        let table = lake.table(&stream, "ingest").await.unwrap();
        let place = TopicPartition::new(stream.topic.as_str(), 0);
        for from in [0, ROWS / 3] {
            let span = Span::new(from, from + ROWS / 3 * (1 + i64::from(from > 0)));
            let mut writer = table.file_writer();
            writer.write(&batch(&stream, span)).unwrap();
            let staged = table.upload(writer.finish().unwrap()).await.unwrap();
            table.commit(vec![staged], &[(place.clone(), span)]).await.unwrap();
        }
    }
    let letters = lake.dead_letters([&vehicle_data()], "ingest").await.unwrap();
    let bad: Vec<_> = (0..500).map(|offset| letter(0, offset)).collect();
    let spans = [(partition(0), Span::new(0, 500))];
    letters.commit(&bad, &spans, &HashMap::new()).await.unwrap();
    let gaps = lake.gaps("ingest").await.unwrap();
    for number in 0..3 {
        let span = Span::new(7, 9 + i64::from(number));
        gaps.record(&partition(number), span, "retention").await.unwrap();
    }
    let erasure = |element| Erasure {
        topic_partition: partition(0),
        span: Span::new(5, 6),
        element,
    };
    let erasures = lake.erasures("ingest").await.unwrap();
    erasures
        .record(&[erasure(Some(2)), erasure(Some(4))], "asked for")
        .await
        .unwrap();
    for table in ["vehicle_data", "dead_letters"] {
        lake.record_commits(table, 1).await.unwrap();
        let snapshot = lake.root().snapshot(table, None).await.unwrap();
        write_checkpoint(&snapshot, NOON_US / 1000).await.unwrap();
    }
    lake
}

/// As the Python script's function of the same name.
fn summary(column: &dyn Array) -> Value {
    let nulls = column.null_count();
    let of = |numbers: Vec<i64>| {
        let total: i64 = numbers.iter().map(|number| number % PRIME).sum();
        json!({"nulls": nulls, "least": numbers.iter().min(), "greatest": numbers.iter().max(), "sum": total})
    };
    match column.data_type() {
        DataType::Int32 => of(column
            .as_primitive::<Int32Type>()
            .iter()
            .flatten()
            .map(i64::from)
            .collect()),
        DataType::Date32 => of(column
            .as_primitive::<Date32Type>()
            .iter()
            .flatten()
            .map(i64::from)
            .collect()),
        DataType::Int64 => of(column.as_primitive::<Int64Type>().iter().flatten().collect()),
        DataType::Timestamp(..) => of(column
            .as_primitive::<TimestampMicrosecondType>()
            .iter()
            .flatten()
            .collect()),
        DataType::Float64 => {
            let numbers: Vec<f64> = column.as_primitive::<Float64Type>().iter().flatten().collect();
            let text = |number: f64| format!("{:016x}", number.to_bits());
            let total: i64 = numbers
                .iter()
                .filter(|number| number.abs() <= 1e6)
                .map(|number| (number * 8.0) as i64)
                .sum();
            let (least, greatest) = (
                numbers.iter().copied().reduce(f64::min),
                numbers.iter().copied().reduce(f64::max),
            );
            json!({"nulls": nulls, "least": least.map(text), "greatest": greatest.map(text), "sum": total})
        }
        DataType::Boolean => {
            let flags: Vec<bool> = column.as_boolean().iter().flatten().collect();
            let (least, greatest) = (flags.iter().min(), flags.iter().max());
            let total = flags.iter().filter(|flag| **flag).count();
            json!({"nulls": nulls, "least": least.map(|flag| i32::from(*flag)), "greatest": greatest.map(|flag| i32::from(*flag)), "sum": total})
        }
        DataType::Binary => {
            let values: Vec<&[u8]> = column.as_binary::<i32>().iter().flatten().collect();
            let hex = |bytes: &&[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
            let total: usize = values.iter().map(|value| value.len()).sum();
            json!({"nulls": nulls, "least": values.iter().min().map(hex), "greatest": values.iter().max().map(hex), "sum": total})
        }
        DataType::Utf8 => {
            let texts: Vec<&str> = column.as_string::<i32>().iter().flatten().collect();
            let total: usize = texts.iter().map(|text| text.chars().count()).sum();
            json!({"nulls": nulls, "least": texts.iter().min(), "greatest": texts.iter().max(), "sum": total})
        }
        other => panic!("{other}"),
    }
}

/// A column's name and SQL type, in arrays of structs as `array[].field`.
type Columns = BTreeMap<String, DataType>;

fn summaries(batch: &RecordBatch) -> (Value, Columns) {
    let mut found = BTreeMap::from([(String::new(), json!(batch.num_rows()))]);
    let mut columns = Columns::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if let DataType::List(_) = field.data_type() {
            let list = column.as_list::<i32>();
            found.insert(field.name().clone(), json!({"nulls": list.null_count()}));
            let elements = list.values().as_struct();
            for (part, values) in elements.fields().iter().zip(elements.columns()) {
                let name = format!("{}[].{}", field.name(), part.name());
                found.insert(name.clone(), summary(values));
                columns.insert(name, part.data_type().clone());
            }
            continue;
        }
        found.insert(field.name().clone(), summary(column));
        columns.insert(field.name().clone(), field.data_type().clone());
    }
    (json!(found), columns)
}

/// What a table's files hold, by the Parquet crate alone and the partition's value in the log.
async fn expected(lake: &Lake, table: &str) -> (Value, Columns) {
    use object_store::ObjectStoreExt;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    let plain = PlainTable::open(lake, table).await;
    let mut batches = Vec::new();
    for (path, add) in &plain.files {
        let bytes = lake
            .store()
            .get(&plain.path_of(path))
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
            .unwrap()
            .build()
            .unwrap();
        for batch in reader.map(Result::unwrap) {
            let mut fields = batch.schema().fields().to_vec();
            let mut columns = batch.columns().to_vec();
            if let Some(day) = add["partitionValues"]["event_date"].as_str() {
                let day = chrono::NaiveDate::parse_from_str(day, "%Y-%m-%d").unwrap();
                let day = day.signed_duration_since(chrono::NaiveDate::default()).num_days() as i32;
                fields.push(Arc::new(arrow_schema::Field::new(
                    "event_date",
                    DataType::Date32,
                    false,
                )));
                columns.push(Arc::new(Date32Array::from_value(day, batch.num_rows())));
            }
            batches.push(RecordBatch::try_new(Arc::new(arrow_schema::Schema::new(fields)), columns).unwrap());
        }
    }
    summaries(&concat_batches(&batches[0].schema(), &batches).unwrap())
}

/// The same by Spark's SQL.
fn by_spark(spark: &mut Spark, path: &Path, columns: &Columns) -> Value {
    let table = format!("delta.`{}`", path.display());
    let mut found = BTreeMap::new();
    let mut sources: BTreeMap<String, Vec<(&String, &DataType)>> = BTreeMap::new();
    for (name, data_type) in columns {
        let source = match name.split_once("[].") {
            None => table.clone(),
            Some((array, _)) => {
                let nulls = format!("select count(*) - count({array}) as nulls from {table}");
                found.insert(array.to_owned(), spark.sql(&nulls)[0].clone());
                format!("(select explode({array}) as e from {table})")
            }
        };
        sources.entry(source).or_default().push((name, data_type));
    }
    for (source, columns) in sources {
        let expressions = columns.iter().enumerate().map(|(at, (name, data_type))| {
            let column = match name.split_once("[].") {
                None => format!("`{name}`"),
                Some((_, field)) => format!("e.`{field}`"),
            };
            let number = |number: String| (format!("min({number})"), format!("max({number})"), format!("sum({number} % {PRIME})"));
            let (least, greatest, sum) = match data_type {
                DataType::Timestamp(..) => number(format!("unix_micros({column})")),
                DataType::Date32 => number(format!("unix_date({column})")),
                DataType::Boolean => number(format!("cast({column} as int)")),
                DataType::Float64 => (
                    format!("cast(min({column}) as string)"),
                    format!("cast(max({column}) as string)"),
                    format!("sum(cast(case when abs({column}) <= 1e6 then {column} * 8 end as bigint))"),
                ),
                DataType::Binary => (
                    format!("min(hex({column}))"),
                    format!("max(hex({column}))"),
                    format!("sum(octet_length({column}))"),
                ),
                DataType::Utf8 => (format!("min({column})"), format!("max({column})"), format!("sum(char_length({column}))")),
                _ => number(column.clone()),
            };
            format!(
                "count(*) - count({column}) as n{at}, {least} as l{at}, {greatest} as g{at}, coalesce({sum}, 0) as s{at}"
            )
        });
        let statement = format!(
            "select count(*) as rows, {} from {source}",
            expressions.collect::<Vec<_>>().join(", ")
        );
        let row = &spark.sql(&statement)[0];
        if source == table {
            found.insert(String::new(), row["rows"].clone());
        }
        for (at, (name, _)) in columns.iter().enumerate() {
            let of = |what: &str| row[format!("{what}{at}")].clone();
            let summary = json!({"nulls": of("n"), "least": of("l"), "greatest": of("g"), "sum": of("s")});
            found.insert((*name).clone(), summary);
        }
    }
    json!(found)
}

/// Doubles come as text, and are compared bit by bit.
fn with_bits(mut found: Value, columns: &Columns) -> Value {
    for (name, _) in columns.iter().filter(|(_, data_type)| **data_type == DataType::Float64) {
        for side in ["least", "greatest"] {
            if let Some(text) = found[name][side].as_str() {
                found[name][side] = json!(format!("{:016x}", text.parse::<f64>().unwrap().to_bits()));
            }
        }
    }
    found
}

fn assert_same(reader: &str, table: &str, found: &Value, expected: &Value) {
    let (found, expected) = (found.as_object().unwrap(), expected.as_object().unwrap());
    assert_eq!(found.len(), expected.len(), "{reader} {table}: {:?}", found.keys());
    for (column, expected) in expected {
        assert_eq!(found.get(column), Some(expected), "{reader}: {table}.{column}");
    }
}

async fn tables(lake: &Lake) -> BTreeMap<String, (Value, Columns)> {
    let mut all = BTreeMap::new();
    for table in lake.table_names().await.unwrap() {
        all.insert(table.clone(), expected(lake, &table).await);
    }
    assert_eq!(all.len(), streams().len() + 4, "{:?}", all.keys());
    all
}

#[tokio::test]
async fn python_readers_see_every_value_of_every_table() {
    let Some(python) = python() else { return };
    for profile in [ParquetProfile::Compatible, ParquetProfile::Compact] {
        let folder = tempfile::tempdir().unwrap();
        let lake = filled(folder.path(), profile).await;
        let tables = tables(&lake).await;
        for stream in streams() {
            // The files hold what was written.
            let (written, _) = summaries(&batch(&stream, Span::new(0, ROWS)));
            assert_same("parquet", &stream.name, &tables[&stream.name].0, &written);
        }
        let paths = tables.keys().map(|table| folder.path().join("data").join(table));
        let output = Command::new(&python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lake/every_reader.py"))
            .args(paths)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
        for reader in ["deltalake", "polars", "duckdb", "pyarrow"] {
            for (table, (expected, columns)) in &tables {
                let found = with_bits(seen[reader][table].clone(), columns);
                assert_same(&format!("{reader}, {profile:?}"), table, &found, expected);
            }
        }
    }
}

async fn spark_sees_every_value(version: &str, spark: &mut Spark) {
    // Spark 3 otherwise refuses instants before 1900 of files that it did not write.
    spark.sql("set spark.sql.parquet.datetimeRebaseModeInRead = CORRECTED");
    let folder = tempfile::tempdir().unwrap();
    let lake = filled(folder.path(), ParquetProfile::Compatible).await;
    let tables = tables(&lake).await;
    for vectorised in [true, false] {
        spark.sql(&format!("set spark.sql.parquet.enableVectorizedReader = {vectorised}"));
        for (table, (expected, columns)) in &tables {
            let path = folder.path().join("data").join(table);
            let found = with_bits(by_spark(spark, &path, columns), columns);
            let reader = format!("Spark {version}, vectorised {vectorised}");
            assert_same(&reader, table, &found, expected);
        }
    }
}

#[tokio::test]
async fn spark_4_sees_every_value_of_every_table() {
    if let Some(mut spark) = Spark::shared().await {
        spark_sees_every_value("4.0", &mut spark).await;
    }
}

#[tokio::test]
async fn spark_3_sees_every_value_of_every_table() {
    if let Some(mut spark) = Spark::start("3.5") {
        spark_sees_every_value("3.5", &mut spark).await;
    }
}
