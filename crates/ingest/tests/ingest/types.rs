//! Streams of every type, without event time, key and texts: ingested, read back, compared with the topic, filled from
//! `_extra`, and replayed.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, MapArray, RecordBatch, StructArray};
use codec::Decoder;
use ingest::backfill::{Backfill, Backfilled};
use ingest::replay::Replay;
use ingest::verify::against_kafka;
use lake::Lake;
use lake::verify::{Finding, Severity, Verifier, VerifyOptions};
use model::{Chunk, ChunkBuilder, EXTRA, Stream, TopicPartition};

use crate::{OneChunk, open_lake, stored};

const APPLICATION: &str = "test";

const EVERY_TYPE: &str = r#"
    name = "every_type"
    [[field]]
    name = "price"
    type = "decimal(10,2)"
    [[field]]
    name = "total"
    type = "decimal(38,6)"
    nullable = true
    [[field]]
    name = "day"
    type = "date"
    nullable = true
    [[field]]
    name = "opens"
    type = "time"
    nullable = true
    [[field]]
    name = "raw"
    type = "binary"
    nullable = true
    [[field]]
    name = "seen"
    type = "timestamp"
    epoch = "ms"
    nullable = true
    [[field]]
    name = "readings"
    type = "array<struct<at: timestamp, value: double, tags: map<string, integer>>>"
    nullable = true
    [[field]]
    name = "labels"
    type = "map<string, decimal(5,1)>"
    nullable = true
    [[field]]
    name = "message"
    type = "json"
    from = ["$"]
"#;

fn place() -> TopicPartition {
    TopicPartition::new("every_type", 0)
}

fn record(offset: i64) -> String {
    match offset % 4 {
        0 => format!(
            r#"{{"price":{offset}.5,"total":"-{offset}.000001","day":"2026-01-31","opens":"09:30","raw":"AP8=",
            "seen":17673230{:02}678,"readings":[{{"at":"2026-01-01T00:00Z","value":{offset},"tags":{{"a":1,"b":{offset}}},
            "unit":"C"}},null,{{}}],"labels":{{"x":{}.5,"y":null}},"more":{offset}}}"#,
            offset % 100,
            offset % 1000
        ),
        1 => format!(r#"{{"price":{offset},"readings":[],"labels":{{}},"day":"0001-01-01","total":0}}"#),
        2 => format!(r#"{{"price":"{offset}.25"}}"#),
        _ => format!(r#"{{"price":{offset}.125}}"#),
    }
}

fn chunk(records: impl IntoIterator<Item = String>) -> Chunk {
    let mut chunk = ChunkBuilder::new(place(), 0);
    let mut offset = 0;
    for record in records {
        // Now and then a record of a client that sends no timestamp.
        let timestamp_ms = if offset % 10 == 6 {
            -1
        } else {
            1_769_817_600_000 + offset
        };
        chunk.push(offset, timestamp_ms, None, Some(record.as_bytes()), []);
        offset += 1;
    }
    chunk.finish(offset)
}

/// Ingests a chunk, with the rows as `spoil` leaves them.
async fn ingest(
    lake: &Lake,
    stream: &Stream,
    chunk: &Chunk,
    spoil: impl Fn(RecordBatch) -> RecordBatch,
) -> (RecordBatch, Vec<ingest::replay::Letter>) {
    let table = lake.table(stream, APPLICATION).await.unwrap();
    let dead = lake.dead_letters([stream], APPLICATION).await.unwrap();
    let (mut decoder, mut letters) = (Decoder::new(stream), Vec::new());
    decoder.decode(chunk, &BTreeSet::new(), 1_769_900_000_000_000, &mut letters);
    let spans = [(chunk.topic_partition().clone(), chunk.span())];
    if !letters.is_empty() {
        let known = HashMap::from([(spans[0].0.clone(), dead.mark(&spans[0].0))]);
        dead.commit(&letters, &spans, &known).await.unwrap();
    }
    let rows = decoder.take().unwrap();
    let mut writer = table.file_writer();
    writer.write(&spoil(rows.clone())).unwrap();
    let staged = table.upload(writer.finish().unwrap()).await.unwrap();
    table.commit(vec![staged], &spans).await.unwrap();
    (rows, letters.into_iter().map(stored).collect())
}

async fn rows_of(lake: &Lake, stream: &Stream) -> Vec<RecordBatch> {
    let table = lake.table(stream, APPLICATION).await.unwrap();
    table.refresh().await.unwrap();
    let mut batches = Vec::new();
    for file in table.files_with("_offset").await.unwrap() {
        table
            .read(&file, |batch| {
                batches.push(batch);
                Ok(())
            })
            .await
            .unwrap();
    }
    batches
}

/// What a comparison with the topic finds.
async fn faults(folder: &Path, stream: &Stream, chunk: Chunk) -> Vec<Finding> {
    let lake = open_lake(folder).await;
    let options = VerifyOptions {
        digests: true,
        ..VerifyOptions::default()
    };
    let verifier = Verifier::open(lake.root(), &[], options, &|_, _, _| {}).await.unwrap();
    let mut table = verifier.table(&stream.name).await.unwrap();
    let mut log = OneChunk(chunk, false);
    against_kafka(stream, &mut log, &verifier, &mut table, &|_| {})
        .await
        .unwrap();
    let findings = table.report.findings.told().iter();
    findings
        .filter(|finding| finding.severity() == Severity::Fault)
        .cloned()
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_comes_back_as_it_was_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open_lake(folder.path()).await;
    let stream = Stream::parse("every_type.toml", EVERY_TYPE).unwrap();
    let records = chunk((0..400).map(record));
    let (rows, letters) = ingest(&lake, &stream, &records, |rows| rows).await;
    assert_eq!((rows.num_rows(), letters.len()), (300, 100));
    assert!(letters.iter().all(|letter| letter.field.as_deref() == Some("price")));
    let read = rows_of(&lake, &stream).await;
    let same = |column: &str| {
        // By partition, so the order may be another: the records' offsets tell.
        let offset = |batch: &RecordBatch, row| {
            batch["_offset"]
                .as_primitive::<arrow_array::types::Int64Type>()
                .value(row)
        };
        for batch in &read {
            for row in 0..batch.num_rows() {
                let own = (0..rows.num_rows())
                    .find(|own| offset(&rows, *own) == offset(batch, row))
                    .unwrap();
                let (one, other) = (rows[column].slice(own, 1), batch[column].slice(row, 1));
                assert_eq!(shown(&one), shown(&other), "{column}");
            }
        }
    };
    stream.fields.iter().for_each(|field| same(&field.name));
    same(EXTRA);
    assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), 300);
    assert_eq!(faults(folder.path(), &stream, records).await, []);
}

/// Without what is noted about nested fields, which a file has and a batch has not.
fn shown(array: &ArrayRef) -> String {
    format!("{array:?}").replace(char::is_whitespace, "")
}

/// A value in an array, a map and a struct that is not what the record says is found, with its column.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_part_is_found_with_its_column() {
    let stream = Stream::parse("every_type.toml", EVERY_TYPE).unwrap();
    let records = chunk((0..40).map(record));
    for (column, changed) in [("labels", labels as fn(&ArrayRef) -> ArrayRef), ("readings", readings)] {
        let folder = tempfile::tempdir().unwrap();
        let lake = open_lake(folder.path()).await;
        let spoil = |rows: RecordBatch| {
            let index = rows.schema().index_of(column).unwrap();
            let mut columns = rows.columns().to_vec();
            columns[index] = changed(&columns[index]);
            RecordBatch::try_new(rows.schema(), columns).unwrap()
        };
        ingest(&lake, &stream, &records, spoil).await;
        let found = faults(folder.path(), &stream, records.clone()).await;
        let differing: Vec<_> = found
            .iter()
            .map(|finding| match finding {
                Finding::RowDiffers { columns, .. } => columns.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(!differing.is_empty(), "{column}");
        assert!(differing.iter().all(|columns| *columns == [column]), "{differing:?}");
    }
}

/// Each map's values by the ones before them.
fn labels(array: &ArrayRef) -> ArrayRef {
    let map = array.as_map();
    let (fields, mut columns, nulls) = map.entries().clone().into_parts();
    let decimals = columns[1].as_primitive::<arrow_array::types::Decimal128Type>();
    let data_type = decimals.data_type().clone();
    columns[1] = Arc::new(
        decimals
            .unary::<_, arrow_array::types::Decimal128Type>(|units| units + 1)
            .with_data_type(data_type),
    );
    let entries = StructArray::new(fields, columns, nulls);
    let arrow_schema::DataType::Map(field, _) = map.data_type() else {
        panic!("a map")
    };
    Arc::new(MapArray::new(
        Arc::clone(field),
        map.offsets().clone(),
        entries,
        map.nulls().cloned(),
        false,
    ))
}

/// Each array one element later, so that one goes and another comes.
fn readings(array: &ArrayRef) -> ArrayRef {
    let list = array.as_list::<i32>();
    let (fields, mut columns, nulls) = list.values().as_struct().clone().into_parts();
    let values = columns[1].as_primitive::<arrow_array::types::Float64Type>();
    columns[1] = Arc::new(values.unary::<_, arrow_array::types::Float64Type>(|value| value + 0.5));
    let arrow_schema::DataType::List(field) = list.data_type() else {
        panic!("a list")
    };
    Arc::new(arrow_array::ListArray::new(
        Arc::clone(field),
        list.offsets().clone(),
        Arc::new(StructArray::new(fields, columns, nulls)),
        list.nulls().cloned(),
    ))
}

const EARLY: &str = r#"
    name = "early"
    topic = "every_type"
    [[field]]
    name = "id"
    type = "long"
    [[field]]
    name = "lat"
    type = "double"
    nullable = true
    from = ["lat", "location[0]"]
    [[field]]
    name = "lon"
    type = "double"
    from = ["lon", "location[1]"]
"#;
const LATER: &str = r#"
    [[field]]
    name = "tags"
    type = "map<string, array<decimal(4,1)>>"
    nullable = true
    [[field]]
    name = "seen"
    type = "timestamp"
    epoch = "s"
    nullable = true
    [[field]]
    name = "depth"
    type = "integer"
    nullable = true
    from = ["location[2]"]
    [[field]]
    name = "message"
    type = "json"
    nullable = true
    from = ["$"]
"#;

/// A value that stayed in `_extra` since a better place of its field counts is no obstacle to those that came too early.
#[tokio::test(flavor = "multi_thread")]
async fn values_move_past_one_that_stays() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open_lake(folder.path()).await;
    let early = Stream::parse("early.toml", EARLY).unwrap();
    let records = [
        r#"{"id":0,"lat":1,"lon":5,"location":[2],"tags":{"a":[1.5]},"seen":60}"#,
        r#"{"id":1,"lat":1,"lon":5,"location":[1,"five"],"tags":{"a":[1.5,null]}}"#,
        r#"{"id":2,"location":[3,5,60],"seen":"soon"}"#,
        r#"{"id":3,"lat":1,"lon":5,"location":[2]}"#,
        r#"{"id":4,"location":[3,5,60]}"#,
    ];
    let (_, letters) = ingest(&lake, &early, &chunk(records.map(str::to_owned)), |rows| rows).await;
    assert_eq!(letters, []);

    let later = Stream::parse("early.toml", &format!("{EARLY}{LATER}")).unwrap();
    let table = lake.table(&later, APPLICATION).await.unwrap();
    let mut backfill = Backfill::new(table, &later).unwrap();
    let found = backfill.run(&|_, _| {}).await.unwrap();
    let expected = Backfilled {
        values: 4,
        rows: 3,
        bad: 1,
        files: 1,
    };
    assert_eq!(found, expected);
    let rows = rows_of(&lake, &later).await;
    let [batch] = rows.as_slice() else {
        panic!("{} batches", rows.len())
    };
    let extra: Vec<_> = batch[EXTRA].as_string::<i32>().iter().collect();
    assert_eq!(
        extra,
        [
            Some(r#"{"location":[2]}"#),
            Some(r#"{"location":[null,"five"]}"#),
            Some(r#"{"location":[null,null,60],"seen":"soon"}"#),
            Some(r#"{"location":[2]}"#),
            None,
        ]
    );
    let valid = |column: &str| (0..5).map(|row| batch[column].is_valid(row)).collect::<Vec<_>>();
    assert_eq!(valid("tags"), [true, true, false, false, false]);
    assert_eq!(valid("seen"), [true, false, false, false, false]);
    assert_eq!(valid("depth"), [false, false, false, false, true]);
    // The message is not in `_extra`, so a column for it cannot be filled from there.
    assert_eq!(valid("message"), [false; 5]);
    // What is done is done.
    let again = backfill.run(&|_, _| {}).await.unwrap();
    assert_eq!(
        again,
        Backfilled {
            bad: 1,
            ..Backfilled::default()
        }
    );
}

/// Dead letters whose values are written in a way that a newer declaration takes.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_become_rows_once_their_form_is_declared() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open_lake(folder.path()).await;
    let declared = |more: [&str; 3]| {
        let field = |(name, lines): (&str, &str)| format!("[[field]]\nname = \"{name}\"\n{lines}\nnullable = true\n");
        let fields = ["price", "seen", "count"].into_iter().zip(more).map(field);
        let text = format!(
            "name = \"shop\"\ntopic = \"every_type\"\n{}",
            fields.collect::<String>()
        );
        Stream::parse("shop.toml", &text).unwrap()
    };
    let plain = declared(["type = \"double\"", "type = \"timestamp\"", "type = \"integer\""]);
    let records = [
        r#"{"price":1}"#,
        r#"{"price":"12,50"}"#,
        r#"{"price":"12.5"}"#,
        r#"{"seen":1767323045}"#,
        r#"{"seen":"2026-01-01"}"#,
        r#"{"count":" 5 "}"#,
        r#"{"price":"1.234,50"}"#,
    ];
    let (_, letters) = ingest(&lake, &plain, &chunk(records.map(str::to_owned)), |rows| rows).await;
    assert_eq!(letters.len(), 6);

    let now = declared([
        "type = \"double\"\ndecimal_comma = true",
        "type = \"timestamp\"\nepoch = \"s\"\nformats = [\"%Y-%m-%d\"]",
        "type = \"integer\"\nin_text = true\ntrim = true",
    ]);
    let mut replay = Replay::open(&lake, &now, APPLICATION).await.unwrap();
    let replayed = replay.land(&letters, 0).await.unwrap();
    assert_eq!((replayed.rows, replayed.bad), (5, 1));
    let rows: usize = rows_of(&lake, &now).await.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows, 6);
}
