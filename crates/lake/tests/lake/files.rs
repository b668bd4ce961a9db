//! What the files hold and what the log says of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use lake::LakeError;
use model::event_time::{DAY_US, parse};
use model::{Span, Stream};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::plain::PlainTable;
use crate::rows::{NOON_US, active_files, assert_whole, batch, lake_on, offsets, partition, vehicle_data};

#[tokio::test]
async fn a_batch_of_many_days_is_split_by_day() {
    let lake = lake_on(Arc::new(InMemory::new()), 1);
    let stream = vehicle_data();
    let table = lake.table(&stream, "ingest").await.unwrap();
    let mut writer = table.file_writer();
    assert!(writer.is_empty());
    // Six hours apart, twice over the same days, and once back and forth within one batch.
    writer
        .write(&batch(&stream, 0, Span::new(0, 12), NOON_US, DAY_US / 4))
        .unwrap();
    writer
        .write(&batch(&stream, 0, Span::new(12, 20), NOON_US - 3 * DAY_US, DAY_US / 4))
        .unwrap();
    let zigzag = [
        batch(&stream, 0, Span::new(20, 22), NOON_US, 0),
        batch(&stream, 0, Span::new(22, 24), NOON_US + DAY_US, 0),
        batch(&stream, 0, Span::new(24, 26), NOON_US, 0),
    ];
    let zigzag = arrow_select::concat::concat_batches(&stream.arrow_schema(), &zigzag).unwrap();
    writer.write(&zigzag).unwrap();
    assert_eq!(writer.rows(), 26);
    assert!(writer.bytes() > 0);
    let staged = table.upload(writer.finish().unwrap()).await.unwrap();
    let days = staged.len();
    table
        .commit(vec![staged], &[(partition(0), Span::new(0, 26))])
        .await
        .unwrap();
    assert_whole(&lake, &[(0, 26)]).await;

    let files = active_files(&lake, "vehicle_data").await;
    assert_eq!(files.len(), days);
    let mut dates = BTreeMap::new();
    for file in files {
        let date = file.partition_values["event_date"].clone().unwrap();
        for rows in &file.rows {
            assert!(rows.column_by_name("event_date").is_none(), "the log holds it");
            let times = rows
                .column_by_name("timestamp")
                .unwrap()
                .as_primitive::<TimestampMicrosecondType>();
            let day_us = parse(format!("{date}T00:00:00").as_bytes()).unwrap();
            assert!(
                times.values().iter().all(|us| (day_us..day_us + DAY_US).contains(us)),
                "{date}"
            );
            // Within a day they keep their order.
            let offsets = rows.column_by_name("_offset").unwrap().as_primitive::<Int64Type>();
            assert!(offsets.values().is_sorted());
        }
        *dates.entry(date).or_insert(0) += 1;
    }
    assert!(dates.values().all(|files| *files == 1), "{dates:?}");
    assert!(dates.len() >= 4, "{dates:?}");
}

#[tokio::test]
async fn a_year_in_one_batch_stays_bounded() {
    let lake = lake_on(Arc::new(InMemory::new()), 1);
    let stream = vehicle_data();
    let table = lake.table(&stream, "ingest").await.unwrap();
    let mut writer = table.file_writer();
    for round in 0..2 {
        writer
            .write(&batch(
                &stream,
                0,
                Span::new(round * 365, round * 365 + 365),
                NOON_US,
                DAY_US,
            ))
            .unwrap();
    }
    let staged = table.upload(writer.finish().unwrap()).await.unwrap();
    assert_eq!((staged.rows(), staged.len()), (730, 730));
    table
        .commit(vec![staged], &[(partition(0), Span::new(0, 730))])
        .await
        .unwrap();
    assert_eq!(offsets(&lake).await[&0].len(), 730);
}

#[tokio::test]
async fn the_log_says_what_the_data_say() {
    let lake = lake_on(Arc::new(InMemory::new()), 1);
    let stream = vehicle_data();
    let table = lake.table(&stream, "ingest").await.unwrap();
    for number in 0..3 {
        let mut writer = table.file_writer();
        let span = Span::new(0, 1000);
        // Odd microseconds, so that milliseconds have to be rounded.
        writer
            .write(&batch(&stream, number, span, NOON_US + 123_457, 5_000_001))
            .unwrap();
        let staged = table.upload(writer.finish().unwrap()).await.unwrap();
        table.commit(vec![staged], &[(partition(number), span)]).await.unwrap();
    }
    let files = active_files(&lake, "vehicle_data").await;
    assert_eq!(files.len(), 3);
    for file in files {
        let rows = arrow_select::concat::concat_batches(&file.rows[0].schema(), &file.rows).unwrap();
        assert_eq!(file.stats["numRecords"], 1000);
        for column in stream
            .arrow_schema()
            .fields()
            .iter()
            .filter(|column| column.name() != "event_date")
        {
            check_column(&stream, &file.stats, &rows, column.name(), column.data_type());
        }
    }
}

fn check_column(stream: &Stream, stats: &Value, rows: &RecordBatch, name: &str, data_type: &DataType) {
    let array = rows.column_by_name(name).unwrap();
    assert_eq!(stats["nullCount"][name], array.null_count(), "{name}");
    let (min, max) = (&stats["minValues"][name], &stats["maxValues"][name]);
    let declared = stream.field_index(name).map(|index| &stream.fields[index]);
    if declared.is_some_and(|field| field.unique) || name == "_extra" {
        assert!(min.is_null() && max.is_null(), "{name}");
        return;
    }
    match data_type {
        DataType::Utf8 => {
            let values = array.as_string::<i32>();
            assert_eq!(min.as_str(), values.iter().flatten().min(), "{name}");
            assert_eq!(max.as_str(), values.iter().flatten().max(), "{name}");
        }
        DataType::Int32 => {
            let values = array.as_primitive::<Int32Type>();
            assert_eq!(min.as_i64(), values.iter().flatten().min().map(i64::from), "{name}");
            assert_eq!(max.as_i64(), values.iter().flatten().max().map(i64::from), "{name}");
        }
        DataType::Int64 => {
            let values = array.as_primitive::<Int64Type>();
            assert_eq!(min.as_i64(), values.iter().flatten().min(), "{name}");
            assert_eq!(max.as_i64(), values.iter().flatten().max(), "{name}");
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            assert_eq!(min.as_f64(), values.iter().flatten().reduce(f64::min), "{name}");
            assert_eq!(max.as_f64(), values.iter().flatten().reduce(f64::max), "{name}");
        }
        DataType::Timestamp(..) => {
            let values = array.as_primitive::<TimestampMicrosecondType>();
            let (least, greatest) = (
                values.iter().flatten().min().unwrap(),
                values.iter().flatten().max().unwrap(),
            );
            let us = |value: &Value| parse(value.as_str().unwrap().as_bytes()).unwrap();
            assert!((0..1000).contains(&(least - us(min))), "{name}: {min}");
            assert!((0..1000).contains(&(us(max) - greatest)), "{name}: {max}");
        }
        other => panic!("{name}: {other}"),
    }
}

#[tokio::test]
async fn long_texts_have_bounds_that_hold() {
    let lake = lake_on(Arc::new(InMemory::new()), 1);
    let stream = vehicle_data();
    let table = lake.table(&stream, "ingest").await.unwrap();
    let rows = batch(&stream, 0, Span::new(0, 2), NOON_US, 1);
    let texts = [format!("a{}", "ü".repeat(100)), format!("z{}", "ü".repeat(100))];
    let at = rows.schema().index_of("make").unwrap();
    let mut columns = rows.columns().to_vec();
    columns[at] = Arc::new(arrow_array::StringArray::from_iter_values(&texts));
    let rows = RecordBatch::try_new(rows.schema(), columns).unwrap();
    let mut writer = table.file_writer();
    writer.write(&rows).unwrap();
    let staged = table.upload(writer.finish().unwrap()).await.unwrap();
    table
        .commit(vec![staged], &[(partition(0), Span::new(0, 2))])
        .await
        .unwrap();
    let stats = &active_files(&lake, "vehicle_data").await[0].stats;
    let (min, max) = (
        stats["minValues"]["make"].as_str().unwrap(),
        stats["maxValues"]["make"].as_str().unwrap(),
    );
    assert!(min <= texts[0].as_str() && min.len() <= 32 && !min.is_empty(), "{min}");
    assert!(max >= texts[1].as_str() && max.len() <= 32, "{max}");
}

#[tokio::test]
async fn a_batch_of_another_schema_is_refused() {
    let lake = lake_on(Arc::new(InMemory::new()), 1);
    let stream = vehicle_data();
    let table = lake.table(&stream, "ingest").await.unwrap();
    let rows = batch(&stream, 0, Span::new(0, 2), NOON_US, 1)
        .project(&[1, 0, 2])
        .unwrap();
    let refused = table.file_writer().write(&rows);
    assert!(matches!(refused, Err(LakeError::Batch { .. })), "{refused:?}");
}

#[tokio::test]
async fn compatible_files_have_what_every_reader_takes_and_no_more() {
    use parquet::basic::{Compression, Encoding, PageType};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let lake = lake_on(Arc::new(InMemory::new()), 1);
    let stream = vehicle_data();
    let table = lake.table(&stream, "ingest").await.unwrap();
    let mut writer = table.file_writer();
    // More values than dictionaries of numbers hold, so that they are given up.
    writer
        .write(&batch(&stream, 0, Span::new(0, 5000), NOON_US, 1))
        .unwrap();
    let staged = table.upload(writer.finish().unwrap()).await.unwrap();
    let spans = [(partition(0), Span::new(0, 5000))];
    table.commit(vec![staged], &spans).await.unwrap();
    let letters = lake.dead_letters([&stream], "ingest").await.unwrap();
    let bad: Vec<_> = (0..300).map(|offset| crate::dead_letters::letter(0, offset)).collect();
    let spans = [(partition(0), Span::new(0, 300))];
    letters.commit(&bad, &spans, &HashMap::new()).await.unwrap();
    lake.record_commits("vehicle_data", 1).await.unwrap();
    for name in ["vehicle_data", "dead_letters", "commits"] {
        let delta = PlainTable::open(&lake, name).await;
        for path in delta.files.keys() {
            assert!(path.ends_with(".snappy.parquet"), "{path}");
            let bytes = lake
                .store()
                .get(&delta.path_of(path))
                .await
                .unwrap()
                .bytes()
                .await
                .unwrap();
            let file = SerializedFileReader::new(bytes).unwrap();
            let group = file.get_row_group(0).unwrap();
            for (at, chunk) in group.metadata().columns().iter().enumerate() {
                let column = format!("{name}.{}", chunk.column_path().string());
                assert_eq!(chunk.compression(), Compression::SNAPPY, "{column}");
                let known = [
                    Encoding::PLAIN,
                    Encoding::RLE,
                    Encoding::PLAIN_DICTIONARY,
                    Encoding::RLE_DICTIONARY,
                ];
                assert!(chunk.encodings().all(|encoding| known.contains(&encoding)), "{column}");
                let pages = group.get_column_page_reader(at).unwrap();
                for page in pages.map(Result::unwrap) {
                    assert!(
                        matches!(page.page_type(), PageType::DATA_PAGE | PageType::DICTIONARY_PAGE),
                        "{column}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn each_column_of_a_compact_file_has_its_encoding() {
    use parquet::basic::{Compression, Encoding};
    let lake = lake_on(Arc::new(InMemory::new()), 1).with_parquet_profile(lake::ParquetProfile::Compact);
    let stream = vehicle_data();
    let table = lake.table(&stream, "ingest").await.unwrap();
    let mut writer = table.file_writer();
    writer
        .write(&batch(&stream, 0, Span::new(0, 5000), NOON_US, 1))
        .unwrap();
    let staged = table.upload(writer.finish().unwrap()).await.unwrap();
    table
        .commit(vec![staged], &[(partition(0), Span::new(0, 5000))])
        .await
        .unwrap();
    let delta = PlainTable::open(&lake, "vehicle_data").await;
    let path = delta.files.keys().next().unwrap();
    assert!(
        path.starts_with("event_date=2026-01-01/part-00000-") && path.ends_with(".zstd.parquet"),
        "{path}"
    );
    let bytes = lake.store().get(&delta.path_of(path)).await.unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.bytes().await.unwrap()).unwrap();
    for chunk in reader.metadata().row_group(0).columns() {
        let name = chunk.column_path().string();
        let encodings: Vec<_> = chunk.encodings().collect();
        let has = |encoding| encodings.contains(&encoding);
        let fits = match name.as_str() {
            "id" => has(Encoding::PLAIN) && !has(Encoding::RLE_DICTIONARY),
            "timestamp" | "_ingested_at" | "_kafka_timestamp" | "_offset" => has(Encoding::DELTA_BINARY_PACKED),
            "latitude" | "longitude" | "speed" => has(Encoding::BYTE_STREAM_SPLIT),
            "device_id" | "make" | "year" | "_partition" => has(Encoding::RLE_DICTIONARY),
            _ => true,
        };
        assert!(fits, "{name}: {encodings:?}");
        assert!(matches!(chunk.compression(), Compression::ZSTD(_)), "{name}");
        assert_eq!(
            chunk.statistics().is_some(),
            !matches!(name.as_str(), "id" | "_extra"),
            "{name}"
        );
    }
}
