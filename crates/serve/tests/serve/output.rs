use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Float64Array, Int64Array, RecordBatch, StringArray};
use bytes_of::parquet_rows;
use serve::output::{Format, Output, OutputError, Reading, Written, write_for_reading, write_result};
use serve::sql::Engine;

use crate::lake::TestLake;

pub(crate) async fn written(engine: &Engine, sql: &str, format: Format) -> String {
    let mut out = Vec::new();
    write_result(engine.query(sql).await.unwrap(), format, &mut out)
        .await
        .unwrap();
    String::from_utf8(out).unwrap()
}

const VEHICLES: &str = "select id, device_id, timestamp, speed, event_date from vehicle_data where id < 2 order by id";
const LETTERS: &str = "select * from dead_letters order by \"offset\" limit 6";

#[tokio::test]
async fn vehicles_in_every_text_format() {
    let lake = TestLake::filled().await;
    let engine = lake.engine().await;
    assert_eq!(
        written(&engine, VEHICLES, Format::Table).await,
        " id | device_id        | timestamp                | speed               | event_date
----+------------------+--------------------------+---------------------+------------
  0 | Vehicle-Adam0731 | 2026-01-01T00:00:00Z     | 0.30000000000000004 | 2026-01-01
  1 | NULL             | 2026-01-01T00:00:01.500Z |                40.0 | 2026-01-01
(2 rows)
"
    );
    assert_eq!(
        written(&engine, VEHICLES, Format::Csv).await,
        "id,device_id,timestamp,speed,event_date
0,Vehicle-Adam0731,2026-01-01T00:00:00Z,0.30000000000000004,2026-01-01
1,,2026-01-01T00:00:01.500Z,40.0,2026-01-01
"
    );
    assert_eq!(
        written(&engine, VEHICLES, Format::Json).await,
        r#"{"id":0,"device_id":"Vehicle-Adam0731","timestamp":"2026-01-01T00:00:00Z","speed":0.30000000000000004,"event_date":"2026-01-01"}
{"id":1,"device_id":null,"timestamp":"2026-01-01T00:00:01.500Z","speed":40.0,"event_date":"2026-01-01"}
"#
    );
}

#[tokio::test]
async fn dead_letters_are_readable() {
    let lake = TestLake::new();
    lake.append("dead_letters", crate::lake::letters()).await;
    let engine = lake.engine().await;
    assert_eq!(
        written(&engine, LETTERS, Format::Table).await,
        r#" offset | value          | headers                           | error
--------+----------------+-----------------------------------+-------------------
      7 | {"id": "a,b"\n | [{"key":"trace","value":"\\xff"}] | cut\u{1b}[31m off
      8 | \xfffe00       | NULL                              | not UTF-8
      9 | NULL           | []                                |
(3 rows)
"#
    );
    assert_eq!(
        written(&engine, LETTERS, Format::Csv).await,
        "offset,value,headers,error
7,\"{\"\"id\"\": \"\"a,b\"\"\n\",\"[{\"\"key\"\":\"\"trace\"\",\"\"value\"\":\"\"\\\\xff\"\"}]\",cut\u{1b}[31m off
8,\\xfffe00,,not UTF-8
9,,[],\"\"
"
    );
    assert_eq!(
        written(&engine, LETTERS, Format::Json).await,
        r#"{"offset":7,"value":"{\"id\": \"a,b\"\n","headers":[{"key":"trace","value":"\\xff"}],"error":"cut\u001b[31m off"}
{"offset":8,"value":"\\xfffe00","headers":null,"error":"not UTF-8"}
{"offset":9,"value":null,"headers":[],"error":""}
"#
    );
}

#[tokio::test]
async fn parquet_reads_back() {
    let lake = TestLake::filled().await;
    let engine = lake.engine().await;
    let mut out = Vec::new();
    let rows = write_result(
        engine.query("select * from vehicle_data order by id").await.unwrap(),
        Format::Parquet,
        &mut out,
    )
    .await
    .unwrap();
    assert_eq!(rows, 6);
    let batches = parquet_rows(out);
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 6);
    let speed = batches[0]
        .column_by_name("speed")
        .unwrap()
        .as_primitive::<Float64Type>();
    assert_eq!(speed.value(0).to_bits(), (0.1_f64 + 0.2).to_bits());
    let schema = batches[0].schema();
    assert_eq!(
        schema.field_with_name("timestamp").unwrap().data_type().to_string(),
        "Timestamp(µs, \"UTC\")"
    );
    assert_eq!(
        schema.field_with_name("device_id").unwrap().data_type().to_string(),
        "Utf8"
    );

    let mut out = Vec::new();
    write_result(
        engine.query("select * from dead_letters").await.unwrap(),
        Format::Parquet,
        &mut out,
    )
    .await
    .unwrap();
    assert_eq!(
        parquet_rows(out)[0]
            .column_by_name("value")
            .unwrap()
            .as_binary::<i32>()
            .value(1),
        [0xff, 0xfe, 0]
    );
}

#[tokio::test]
async fn plans_are_shown_whole() {
    let lake = TestLake::filled().await;
    let engine = lake.engine().await;
    let plan = written(
        &engine,
        "explain select count(*) from vehicle_data where speed > 20 group by device_id",
        Format::Table,
    )
    .await;
    assert!(!plan.contains('…') && !plan.contains("\\n"), "{plan}");
    assert!(plan.contains("TableScan: vehicle_data"), "{plan}");
    let counted = written(&engine, "explain select count(*) from vehicle_data", Format::Table).await;
    assert!(
        counted.contains("6 as count(*)"),
        "a count must read no data file:\n{counted}"
    );
}

#[tokio::test]
async fn nothing_is_a_result_too() {
    let lake = TestLake::filled().await;
    let engine = lake.engine().await;
    let none = "select id, speed as \"a,b\" from vehicle_data where id < 0";
    assert_eq!(
        written(&engine, none, Format::Table).await,
        " id | a,b\n----+-----\n(0 rows)\n"
    );
    assert_eq!(written(&engine, none, Format::Csv).await, "id,\"a,b\"\n");
    assert_eq!(written(&engine, none, Format::Json).await, "");
    let mut out = Vec::new();
    write_result(engine.query(none).await.unwrap(), Format::Parquet, &mut out)
        .await
        .unwrap();
    assert!(parquet_rows(out).is_empty());
}

#[tokio::test]
async fn two_columns_of_one_name_stay_two() {
    let lake = TestLake::filled().await;
    let engine = lake.engine().await;
    let twice = "select a.id, b.id from vehicle_data a join vehicle_data b on a.id = b.id where a.id = 0";
    assert_eq!(written(&engine, twice, Format::Json).await, "{\"id\":0,\"id_2\":0}\n");
    assert_eq!(written(&engine, twice, Format::Csv).await, "id,id\n0,0\n");
}

#[tokio::test]
async fn values_of_every_kind() {
    let lake = TestLake::filled().await;
    let engine = lake.engine().await;
    let sql = "select null as n, true as b, cast(1.50 as decimal(5,2)) as d, [1, null] as l, \
        interval '90 minutes' as i, cast('NaN' as double) as nan, time '12:30:00' as t, -0.0 as zero, 1e300 as big";
    println!("{}", written(&engine, sql, Format::Table).await);
    println!("{}", written(&engine, sql, Format::Csv).await);
    let json = written(&engine, sql, Format::Json).await;
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["n"], serde_json::Value::Null);
    assert_eq!(value["nan"], serde_json::Value::Null);
    assert_eq!(value["l"], serde_json::json!([1, null]));
    assert_eq!(value["big"], 1e300);
}

#[test]
fn long_cells_are_cut_and_wide_rows_widen_from_there() {
    let batch = |texts: Vec<String>| {
        let texts = StringArray::from(texts);
        RecordBatch::try_from_iter([("text", Arc::new(texts) as _)]).unwrap()
    };
    let first = batch(vec!["ab".to_owned(); 1000]);
    let second = batch(vec!["x".repeat(81), "y".repeat(80)]);
    let mut out = Vec::new();
    let mut output = Output::new(Format::Table, first.schema(), &mut out).unwrap();
    output.write(&first).unwrap();
    output.write(&second).unwrap();
    assert_eq!(output.finish().unwrap(), 1002);
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1], "------");
    assert_eq!(lines[1002], format!(" {}…", "x".repeat(79)));
    assert_eq!(lines[1003], format!(" {}", "y".repeat(80)));
    assert_eq!(lines[1004], "(1002 rows)");
}

/// A result within what a terminal has room for.
async fn read(engine: &Engine, sql: &str, format: Format, width: usize, rows_max: Option<u64>) -> (String, Written) {
    let (mut out, width) = (Vec::new(), Some(width));
    let result = engine.query(sql).await.unwrap();
    let written = write_for_reading(result, format, Reading { width, rows_max }, &mut out)
        .await
        .unwrap();
    (String::from_utf8(out).unwrap(), written)
}

fn widest(text: &str) -> usize {
    text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
}

#[tokio::test]
async fn a_table_fits_the_terminal() {
    let lake = TestLake::filled().await;
    let engine = lake.engine().await;
    let sql = "select id, repeat('ab', 30) as note, timestamp, 'short' as word from vehicle_data where id = 0";
    let (text, _) = read(&engine, sql, Format::Table, 70, None).await;
    assert_eq!(
        text,
        " id | note                             | timestamp            | word
----+----------------------------------+----------------------+-------
  0 | abababababababababababababababa… | 2026-01-01T00:00:00Z | short
(1 row)
"
    );
    for width in 10..200 {
        let (text, _) = read(&engine, sql, Format::Table, width, None).await;
        // A number and a time are shown whole, whatever there is room for.
        assert!(text.contains("2026-01-01T00:00:00Z"), "{text}");
        let is_records = text.contains("timestamp = ");
        assert!(is_records || widest(&text) <= width, "{width}:\n{text}");
    }
    // Where lines have no end, nothing changes.
    let text = written(&engine, sql, Format::Table).await;
    assert!(text.contains(&"ab".repeat(30)), "{text}");
}

#[tokio::test]
async fn rows_too_wide_for_a_table_become_records() {
    let lake = TestLake::filled().await;
    let engine = lake.engine().await;
    let sql =
        "select id, device_id, timestamp, speed, repeat('x', 3000) as note from vehicle_data where id < 2 order by id";
    let (text, _) = read(&engine, sql, Format::Table, 60, None).await;
    let cut = "x".repeat(1999) + "…";
    assert_eq!(
        text,
        format!(
            "       id = 0
device_id = Vehicle-Adam0731
timestamp = 2026-01-01T00:00:00Z
    speed = 0.30000000000000004
     note = {cut}

       id = 1
device_id = NULL
timestamp = 2026-01-01T00:00:01.500Z
    speed = 40.0
     note = {cut}

(2 rows)
"
        )
    );
    // Asked for, values are whole, and controls still escaped.
    let (text, _) = read(
        &engine,
        "select repeat('x', 3000) as note, chr(27) as e",
        Format::Line,
        60,
        None,
    )
    .await;
    assert_eq!(
        text,
        format!("note = {}\n   e = \\u{{1b}}\n\n(1 row)\n", "x".repeat(3000))
    );
    let none = "select id from vehicle_data where id < 0";
    assert_eq!(read(&engine, none, Format::Line, 60, None).await.0, "(0 rows)\n");
    let wide = "select repeat('x', 70) as note, id, speed, timestamp from vehicle_data where id < 0";
    assert!(
        read(&engine, wide, Format::Table, 20, None)
            .await
            .0
            .ends_with("(0 rows)\n")
    );
}

#[tokio::test]
async fn rows_beyond_the_limit_are_counted() {
    let lake = TestLake::filled().await;
    let engine = lake.engine().await;
    let sql = "select id from vehicle_data order by id";
    let (text, counted) = read(&engine, sql, Format::Table, 80, Some(4)).await;
    assert_eq!(text, " id\n----\n  0\n  1\n  2\n  3\n(4 of 6 rows, 2 left out)\n");
    assert_eq!(counted, Written { rows: 6, shown: 4 });
    for (format, limit, end) in [
        (Format::Line, 5, "\n(5 of 6 rows, 1 left out)\n"),
        (Format::Markdown, 1, "| 0 |\n\n(1 of 6 rows, 5 left out)\n"),
        (Format::Markdown, 6, "| 5 |\n"),
        (Format::Table, 0, "(0 of 6 rows, 6 left out)\n"),
    ] {
        let (text, _) = read(&engine, sql, format, 80, Some(limit)).await;
        assert!(text.ends_with(end), "{format}: {text}");
    }
    // What programs read is never cut, nor a plan.
    for format in [Format::Csv, Format::Json] {
        let (text, counted) = read(&engine, sql, format, 10, Some(1)).await;
        assert_eq!(counted.shown, 6, "{format}: {text}");
    }
    let (plan, _) = read(&engine, &format!("explain {sql}"), Format::Table, 20, Some(1)).await;
    assert!(!plan.contains("left out") && !plan.contains('…'), "{plan}");
}

#[tokio::test]
async fn a_table_for_a_document() {
    let lake = TestLake::filled().await;
    let engine = lake.engine().await;
    let sql = "select id, 'a|b' as _note, device_id, speed from vehicle_data where id < 2 order by id";
    assert_eq!(
        written(&engine, sql, Format::Markdown).await,
        "| id | \\_note | device_id | speed |
| ---: | --- | --- | ---: |
| 0 | a\\|b | Vehicle-Adam0731 | 0.30000000000000004 |
| 1 | a\\|b | NULL | 40.0 |
"
    );
}

#[test]
fn a_closed_reader_is_told_from_a_failure() {
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
    }
    let columns: [(&str, arrow_array::ArrayRef); 2] = [
        ("a", Arc::new(Int64Array::from(vec![1]))),
        ("b", Arc::new(Float64Array::from(vec![1.0]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    for format in Format::ALL {
        let run = || -> Result<u64, OutputError> {
            let mut output = Output::new(format, batch.schema(), Closed)?;
            output.write(&batch)?;
            output.finish()
        };
        let error = run().unwrap_err();
        assert!(error.is_broken_pipe(), "{format}: {error}");
    }
}

#[test]
fn formats_have_names() {
    for format in Format::ALL {
        assert_eq!(format.to_string().parse(), Ok(format));
    }
    assert_eq!(
        "xml".parse::<Format>(),
        Err("`xml` is not a format: table, line, markdown, csv, json, parquet".to_owned())
    );
}

mod bytes_of {
    use arrow_array::RecordBatch;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    pub(crate) fn parquet_rows(file: Vec<u8>) -> Vec<RecordBatch> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.parquet");
        std::fs::write(&path, file).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap();
        reader.build().unwrap().map(Result::unwrap).collect()
    }
}
