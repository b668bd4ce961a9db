//! Tables as any Delta writer may leave them: what a scan makes of them.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{
    Array, ArrayRef, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int32Array, Int64Array,
    LargeStringArray, ListArray, MapArray, RecordBatch, StringArray, StringViewArray, StructArray,
    TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow_schema::{DataType, Field, Fields, Schema};
use parquet::arrow::ArrowWriter;
use parquet::data_type::{Int64Type as ParquetInt64, Int96, Int96Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use serde_json::{Value, json};
use serve::output::Format;
use serve::sql::{Engine, ErrorKind};

use crate::lake::{TestLake, TestTable, metadata, vehicles};
use crate::output::written;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn longs(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

async fn csv(engine: &Engine, sql: &str) -> String {
    written(engine, sql, Format::Csv).await
}

async fn number(engine: &Engine, sql: &str) -> i64 {
    let batches = engine.query(sql).await.unwrap().collect().await.unwrap();
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

async fn failure(engine: &Engine, sql: &str) -> String {
    let error = match engine.query(sql).await {
        Err(error) => error,
        Ok(result) => result.collect().await.unwrap_err(),
    };
    assert_eq!(error.kind, ErrorKind::Failed, "{error}");
    error.to_string()
}

/// A table of columns of these Delta types, without a file.
fn create(table: &TestTable, fields: Value, partitions: &[&str], features: &[&str], configuration: Value) {
    let protocol = match features.is_empty() {
        true => json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
        false => json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7,
            "readerFeatures": features, "writerFeatures": features}}),
    };
    let schema = json!({"type": "struct", "fields": fields}).to_string();
    table.commit(&[protocol, metadata(&schema, partitions, configuration)]);
}

fn field(name: &str, data_type: impl Into<Value>) -> Value {
    json!({"name": name, "type": data_type.into(), "nullable": true, "metadata": {}})
}

#[tokio::test]
async fn partition_columns_stand_where_they_were_declared() {
    let lake = TestLake::new();
    let table = lake.table("t");
    let columns = json!([
        field("day", "date"),
        field("id", "long"),
        field("place", "string"),
        field("value", "long")
    ]);
    create(&table, columns, &["place", "day"], &[], json!({}));
    let places = ["a b", "50%", "x%20y", "a#b?c", "ü/\u{1F600}", "O'Hare"];
    for (number, place) in places.iter().enumerate() {
        let number = number as i64;
        let mut add = table.write_file(&batch(vec![("id", longs([number])), ("value", longs([10 * number]))]));
        add["add"]["partitionValues"] = json!({"place": place, "day": "2026-01-01"});
        table.commit(&[add]);
    }
    for (number, place) in [(6, json!("")), (7, Value::Null)] {
        let mut add = table.write_file(&batch(vec![("id", longs([number])), ("value", longs([0]))]));
        add["add"]["partitionValues"] = json!({"place": place, "day": null});
        table.commit(&[add]);
    }
    let engine = lake.engine().await;
    assert_eq!(
        csv(&engine, "select * from t order by id").await,
        "day,id,place,value
2026-01-01,0,a b,0
2026-01-01,1,50%,10
2026-01-01,2,x%20y,20
2026-01-01,3,a#b?c,30
2026-01-01,4,ü/\u{1F600},40
2026-01-01,5,O'Hare,50
,6,,0
,7,,0
"
    );
    for (number, place) in places.iter().enumerate() {
        let sql = format!("select value / 10 from t where place = '{}'", place.replace('\'', "''"));
        assert_eq!(self::number(&engine, &sql).await, number as i64, "{place}");
    }
    for (filter, count) in [
        ("place is null", 2),
        ("place is not null and day = '2026-01-01'", 6),
        ("day is null and id = 7", 1),
        ("place like '%b%' or id = 5", 3),
        ("place in ('a b', '50%') and value >= 10", 1),
        ("day between '2025-12-31' and '2026-01-02'", 6),
        ("day <> '2026-01-01'", 0),
        ("upper(place) = 'A B'", 1),
        ("place = (select max(place) from t where id < 2)", 1),
        ("random() < 2", 8),
    ] {
        assert_eq!(
            self::number(&engine, &format!("select count(*) from t where {filter}")).await,
            count,
            "{filter}"
        );
    }
    assert_eq!(
        csv(
            &engine,
            "select place, count(*) from t where id < 2 group by place order by 2, 1"
        )
        .await,
        "place,count(*)\n50%,1\na b,1\n"
    );
}

#[tokio::test]
async fn files_and_lakes_may_have_any_name() {
    let outer = tempfile::TempDir::new().unwrap();
    for name in ["a b", "a%20b", "x#y?z", "ü%41", "back\\slash"] {
        let root = outer.path().join(name);
        let table = TestTable {
            folder: root.join("data").join("t"),
        };
        table.commit(&TestTable::created(&batch(vec![("id", longs([0]))]).schema(), &[]));
        // As the log has it, and as the disk has it.
        for (logged, file) in [
            ("plain.parquet", "plain.parquet"),
            (
                "day=2026-01-01%2000%253A00/a%20b.parquet",
                "day=2026-01-01 00%3A00/a b.parquet",
            ),
            ("c%23d%3Fe%2525.parquet", "c#d?e%25.parquet"),
        ] {
            let mut add = table.write_named(file, &batch(vec![("id", longs([1]))]));
            add["add"]["path"] = json!(logged);
            table.commit(&[add]);
        }
        let engine = Engine::open(root.to_str().unwrap(), Default::default()).await.unwrap();
        assert_eq!(number(&engine, "select sum(id) from t").await, 3, "{name}");
        let rows = number(&engine, "select count(*) from t").await;
        std::fs::write(root.join("marker"), rows.to_string()).unwrap();
    }
    // Two lakes of which one's name is the other's, decoded, are two.
    let other = TestTable {
        folder: outer.path().join("a b/data/t"),
    };
    other.commit(&[other.write_file(&batch(vec![("id", longs([100]))]))]);
    let encoded = Engine::open(outer.path().join("a%20b").to_str().unwrap(), Default::default())
        .await
        .unwrap();
    assert_eq!(number(&encoded, "select sum(id) from t").await, 3);
}

#[tokio::test]
async fn columns_that_came_later_are_null_in_older_files() {
    let lake = TestLake::new();
    let table = lake.table("t");
    let inner = json!({"type": "struct", "fields": [field("x", "long"), field("y", "string")]});
    let columns = json!([
        field("id", "long"),
        field("added", "string"),
        field("s", inner),
        field("nothing", "void")
    ]);
    create(&table, columns, &[], &[], json!({}));
    let structure = |fields: Vec<(&str, ArrayRef)>| -> ArrayRef {
        let (fields, columns): (Vec<_>, Vec<_>) = fields
            .into_iter()
            .map(|(name, column)| (Field::new(name, column.data_type().clone(), true), column))
            .unzip();
        Arc::new(StructArray::new(Fields::from(fields), columns, None))
    };
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    table.commit(&[table.write_file(&batch(vec![("id", longs([1]))]))]);
    table.commit(&[table.write_file(&batch(vec![
        ("id", longs([2])),
        ("s", structure(vec![("x", longs([20]))])),
    ]))]);
    // Another order, and a column that the table does not have any more.
    let last = batch(vec![
        (
            "s",
            structure(vec![("gone", longs([0])), ("y", text("why")), ("x", longs([30]))]),
        ),
        ("dropped", longs([7])),
        ("added", text("new")),
        ("id", longs([3])),
    ]);
    table.commit(&[table.write_file(&last)]);
    let engine = lake.engine().await;
    assert_eq!(
        csv(
            &engine,
            "select id, added, s, s['x'] as x, s['y'] as y, nothing from t order by id"
        )
        .await,
        r#"id,added,s,x,y,nothing
1,,,,,
2,,"{""x"":20,""y"":null}",20,,
3,new,"{""x"":30,""y"":""why""}",30,why,
"#
    );
    assert_eq!(number(&engine, "select count(*) from t where added is null").await, 2);
    assert_eq!(number(&engine, "select id from t where s['y'] = 'why'").await, 3);
    assert_eq!(
        number(&engine, "select count(*) from t where added = 'new' and s['x'] > 5").await,
        1
    );
}

/// INT96 as Spark writes it: nanoseconds of the day, and the Julian day.
fn int96(us: i64) -> Int96 {
    let (day, of_day) = (
        us.div_euclid(86_400_000_000),
        us.rem_euclid(86_400_000_000) as u64 * 1000,
    );
    let mut value = Int96::new();
    value.set_data(of_day as u32, (of_day >> 32) as u32, (day + 2_440_588) as u32);
    value
}

fn write_int96(path: &Path, us: i64) {
    let schema = "message spark { optional int96 at; optional int64 id; }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<Int96Type>()
        .write_batch(&[int96(us)], Some(&[1]), None)
        .unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<ParquetInt64>()
        .write_batch(&[4], Some(&[1]), None)
        .unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

#[tokio::test]
async fn any_physical_form_of_a_type_is_read() {
    let lake = TestLake::new();
    let table = lake.table("t");
    let columns = json!([
        field("id", "long"),
        field("text", "string"),
        field("at", "timestamp"),
        field("amount", "decimal(10,2)")
    ]);
    create(&table, columns, &[], &[], json!({}));
    let us = 1_767_225_600_123_456;
    let at = |us: i64| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(vec![us]).with_timezone("UTC")) };
    let amount: ArrayRef = Arc::new(
        Decimal128Array::from(vec![150])
            .with_precision_and_scale(10, 2)
            .unwrap(),
    );
    let files = [
        batch(vec![
            ("id", longs([1])),
            ("text", Arc::new(LargeStringArray::from(vec!["large"]))),
            ("at", at(us)),
            ("amount", amount),
        ]),
        batch(vec![
            ("text", Arc::new(StringViewArray::from(vec!["view"]))),
            ("id", Arc::new(Int32Array::from(vec![2]))),
            (
                "at",
                Arc::new(TimestampMillisecondArray::from(vec![us / 1000]).with_timezone("UTC")),
            ),
            (
                "amount",
                Arc::new(Decimal128Array::from(vec![15]).with_precision_and_scale(5, 1).unwrap()),
            ),
        ]),
        batch(vec![
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![us]))),
            (
                "text",
                Arc::new(DictionaryArray::<arrow_array::types::Int32Type>::from_iter([
                    "dictionary",
                ])),
            ),
            ("id", longs([3])),
        ]),
    ];
    for file in &files {
        table.commit(&[table.write_file(file)]);
    }
    // The year 1, which nanoseconds do not hold.
    let first_year = -62_135_596_800_000_000 + 1;
    write_int96(&table.folder.join("spark.parquet"), first_year);
    table.commit(&[table.added("spark.parquet", 1)]);
    let engine = lake.engine().await;
    assert_eq!(
        csv(&engine, "select * from t order by id").await,
        "id,text,at,amount
1,large,2026-01-01T00:00:00.123456Z,1.50
2,view,2026-01-01T00:00:00.123Z,1.50
3,dictionary,2026-01-01T00:00:00.123456Z,
4,,0001-01-01T00:00:00.000001Z,
"
    );
    for (filter, ids) in [
        ("at < '1000-01-01'", "4"),
        ("at < timestamp '1000-01-01T00:00:00'", "4"),
        ("at < date '1000-01-01'", "4"),
        ("'9999-12-31' > at", "1234"),
        ("at between '0001-01-01' and '1500-01-01'", "4"),
        (
            "at in ('0001-01-01T00:00:00.000001Z', '2026-01-01T00:00:00.123Z')",
            "24",
        ),
        ("at >= '2026-01-01T00:00:00.123456Z'", "13"),
        ("at > '2026-01-01' and at < now() + interval '100 years'", "123"),
        ("amount = 1.5", "12"),
        ("text > 'm'", "2"),
        ("id = 2", "2"),
    ] {
        let sql = format!("select id from t where {filter} order by id");
        let found = csv(&engine, &sql).await.replace("id\n", "").replace('\n', "");
        assert_eq!(found, ids, "{filter}");
    }
    // The names of columns do not change by it.
    assert_eq!(
        csv(
            &engine,
            "select at < '1000-01-01', count(*) from t group by at < '1000-01-01' order by 2"
        )
        .await,
        r#""t.at < Utf8(""1000-01-01"")",count(*)
true,1
false,3
"#
    );
}

/// A 64-bit roaring bitmap of few rows in the portable format, behind Delta's magic number (PROTOCOL.md, "Deletion Vector
/// Format"): one array container for each 65,536 rows.
fn bitmap(rows: &[u32]) -> Vec<u8> {
    let mut containers: Vec<(u16, Vec<u16>)> = Vec::new();
    for row in rows {
        let (key, low) = ((row >> 16) as u16, *row as u16);
        match containers.last_mut().filter(|(last, _)| *last == key) {
            Some((_, lows)) => lows.push(low),
            None => containers.push((key, vec![low])),
        }
    }
    let mut bytes = 1_681_511_377_u32.to_le_bytes().to_vec();
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(12_346_u32.to_le_bytes());
    bytes.extend((containers.len() as u32).to_le_bytes());
    for (key, lows) in &containers {
        bytes.extend(key.to_le_bytes());
        bytes.extend((lows.len() as u16 - 1).to_le_bytes());
    }
    let mut at = 8 + 8 * containers.len() as u32;
    for (_, lows) in &containers {
        bytes.extend(at.to_le_bytes());
        at += 2 * lows.len() as u32;
    }
    for low in containers.iter().flat_map(|(_, lows)| lows) {
        bytes.extend(low.to_le_bytes());
    }
    bytes
}

fn inline(rows: &[u32]) -> Value {
    let bytes = bitmap(rows);
    let mut padded = bytes.clone();
    padded.resize(bytes.len().next_multiple_of(4), 0);
    json!({"storageType": "i", "pathOrInlineDv": z85::encode(&padded), "sizeInBytes": bytes.len(), "cardinality": rows.len()})
}

/// A file with a bitmap beside the data, named by a UUID.
fn in_file(table: &TestTable, rows: &[u32]) -> Value {
    let id: [u8; 16] = std::array::from_fn(|byte| byte as u8 * 7 + 1);
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    );
    let data = bitmap(rows);
    let mut file = vec![1];
    file.extend((data.len() as u32).to_be_bytes());
    file.extend(&data);
    file.extend(crc32fast::hash(&data).to_be_bytes());
    std::fs::write(table.folder.join(format!("deletion_vector_{name}.bin")), file).unwrap();
    json!({"storageType": "u", "pathOrInlineDv": z85::encode(id), "offset": 1, "sizeInBytes": data.len(),
        "cardinality": rows.len()})
}

/// A file with the ids of a range in row groups of 1,000.
fn write_ids(table: &TestTable, ids: Range<i64>) -> Value {
    let name = format!("ids-{}.parquet", ids.start);
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(1000))
        .set_data_page_row_count_limit(100)
        .set_write_batch_size(50)
        .build();
    let rows = batch(vec![("id", longs(ids.clone()))]);
    std::fs::create_dir_all(&table.folder).unwrap();
    let file = File::create(table.folder.join(&name)).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    let mut add = table.added(&name, rows.num_rows());
    let statistics = json!({"numRecords": rows.num_rows(), "tightBounds": false, "minValues": {"id": ids.start},
        "maxValues": {"id": ids.end - 1}, "nullCount": {"id": 0}});
    add["add"]["stats"] = json!(statistics.to_string());
    add
}

#[tokio::test]
async fn deleted_rows_are_left_out() {
    let lake = TestLake::new();
    let table = lake.table("t");
    create(
        &table,
        json!([field("id", "long")]),
        &[],
        &["deletionVectors"],
        json!({}),
    );
    let (mut first, mut second) = (write_ids(&table, 0..5_000), write_ids(&table, 5_000..140_000));
    let every_third: Vec<u32> = (0..5_000).step_by(3).collect();
    // The ends, a whole row group and more, and a row in the second container.
    let mut runs: Vec<u32> = vec![0, 7];
    runs.extend(900..2_500);
    runs.extend([70_000, 134_999]);
    first["add"]["deletionVector"] = inline(&every_third);
    second["add"]["deletionVector"] = in_file(&table, &runs);
    table.commit(&[first, second]);
    let (gone_first, gone_second) = (every_third.len() as i64, runs.len() as i64);
    let engine = lake.engine().await;
    let alive = |id: &i64| match *id < 5_000 {
        true => id % 3 != 0,
        false => !runs.contains(&(*id as u32 - 5_000)),
    };
    assert_eq!(
        number(&engine, "select count(*) from t").await,
        140_000 - gone_first - gone_second
    );
    assert_eq!(
        number(&engine, "select sum(id) from t").await,
        (0..140_000).filter(alive).sum::<i64>()
    );
    for (filter, range) in [
        ("id < 4_999", 0..4_999),
        ("id >= 2_500 and id < 8_000", 2_500..8_000),
        ("id between 5_900 and 7_600", 5_900..7_601),
        ("id = 75_000", 75_000..75_001),
        ("id = 75_001", 75_001..75_002),
        ("id >= 139_990", 139_990..140_000),
    ] {
        let sql = format!("select count(*), sum(id) from t where {}", filter.replace('_', ""));
        let found = engine.query(&sql).await.unwrap().collect().await.unwrap();
        let number = |column: usize| {
            found[0]
                .column(column)
                .as_primitive::<Int64Type>()
                .iter()
                .next()
                .flatten()
        };
        let expected: Vec<i64> = range.filter(alive).collect();
        assert_eq!(number(0), Some(expected.len() as i64), "{filter}");
        assert_eq!(number(1).unwrap_or(0), expected.iter().sum::<i64>(), "{filter}");
    }
    assert_eq!(
        csv(&engine, "select id from t order by id limit 3").await,
        "id\n1\n2\n4\n"
    );
    assert_eq!(
        csv(&engine, "select id from t order by id desc limit 2").await,
        "id\n139998\n139997\n"
    );
    let some = engine
        .query("select id from t limit 1000")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    assert_eq!(some.iter().map(RecordBatch::num_rows).sum::<usize>(), 1000);
}

#[tokio::test]
async fn a_damaged_deletion_vector_is_an_error() {
    let lake = TestLake::new();
    let table = lake.table("t");
    create(
        &table,
        json!([field("id", "long")]),
        &[],
        &["deletionVectors"],
        json!({}),
    );
    let mut add = write_ids(&table, 0..10);
    add["add"]["deletionVector"] = inline(&[3, 12]);
    table.commit(&[add.clone()]);
    let engine = lake.engine().await;
    let text = failure(&engine, "select * from t").await;
    assert!(text.contains("row 12 of a file with 10 rows"), "{text}");
    add["add"]["deletionVector"] = inline(&[3]);
    add["add"]["deletionVector"]["cardinality"] = json!(2);
    add["add"]["stats"] = Value::Null;
    let other = lake.table("u");
    create(
        &other,
        json!([field("id", "long")]),
        &[],
        &["deletionVectors"],
        json!({}),
    );
    other.commit(&[add]);
    let text = failure(&engine, "select * from u").await;
    assert!(text.contains("does not say how many"), "{text}");
}

/// `id`, `name` and a nested `place` with `lat`, `tags` and `names`, under physical names and with ids; the file has a
/// column `id` of another meaning, as after dropping and renaming columns.
fn mapped_file(with_ids: bool) -> RecordBatch {
    let id = |field: Field, id: i64| match with_ids {
        true => field.with_metadata([("PARQUET:field_id".to_owned(), id.to_string())].into()),
        false => field,
    };
    let lat = id(Field::new("col-lat", DataType::Float64, true), 4);
    let place = StructArray::new(
        Fields::from(vec![lat]),
        vec![Arc::new(Float64Array::from(vec![1.5, 2.5]))],
        None,
    );
    let tag = id(Field::new("col-tag", DataType::Utf8, true), 6);
    let tags = StructArray::new(
        Fields::from(vec![tag]),
        vec![Arc::new(StringArray::from(vec!["a", "b", "c"]))],
        None,
    );
    let element = Arc::new(Field::new("element", tags.data_type().clone(), true));
    let offsets = arrow_buffer::OffsetBuffer::from_lengths([1, 2]);
    let tags = ListArray::new(element, offsets, Arc::new(tags), None);
    let name = id(Field::new("col-n", DataType::Utf8, true), 8);
    let values = StructArray::new(
        Fields::from(vec![name]),
        vec![Arc::new(StringArray::from(vec!["one", "two"]))],
        None,
    );
    let entries = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", values.data_type().clone(), true),
    ]);
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["k1", "k2"]));
    let entries = StructArray::new(entries, vec![keys, Arc::new(values)], None);
    let entry = Arc::new(Field::new("key_value", entries.data_type().clone(), false));
    let names = MapArray::new(
        entry,
        arrow_buffer::OffsetBuffer::from_lengths([1, 1]),
        entries,
        None,
        false,
    );
    let fields = vec![
        id(Field::new("id", DataType::Utf8, true), 90),
        id(Field::new("col-place", place.data_type().clone(), true), 3),
        id(Field::new("col-id", DataType::Int64, true), 1),
        id(Field::new("col-tags", tags.data_type().clone(), true), 5),
        id(Field::new("col-names", names.data_type().clone(), true), 7),
    ];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["not", "this"])),
        Arc::new(place),
        longs([1, 2]),
        Arc::new(tags),
        Arc::new(names),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

#[tokio::test]
async fn mapped_columns_are_found_by_name_or_by_id() {
    let mapped = |name: &str, physical: &str, id: i64, data_type: Value| {
        json!({"name": name, "type": data_type, "nullable": true,
            "metadata": {"delta.columnMapping.id": id, "delta.columnMapping.physicalName": physical}})
    };
    let structure = |field: Value| json!({"type": "struct", "fields": [field]});
    for (mode, with_ids) in [("name", false), ("name", true), ("id", true)] {
        // By id the physical names of files that others wrote need not be the table's.
        let physical = |name: &str| match mode {
            "id" => format!("unknown-{name}"),
            _ => format!("col-{name}"),
        };
        let columns = json!([
            mapped("id", &physical("id"), 1, json!("long")),
            mapped("day", "col-day", 2, json!("date")),
            mapped(
                "place",
                &physical("place"),
                3,
                structure(mapped("lat", &physical("lat"), 4, json!("double")))
            ),
            mapped(
                "tags",
                &physical("tags"),
                5,
                json!({"type": "array", "containsNull": true,
                "elementType": structure(mapped("tag", &physical("tag"), 6, json!("string")))})
            ),
            mapped(
                "names",
                &physical("names"),
                7,
                json!({"type": "map", "keyType": "string", "valueContainsNull": true,
                "valueType": structure(mapped("n", &physical("n"), 8, json!("string")))})
            ),
            mapped("missing", "col-missing", 9, json!("string")),
        ]);
        let lake = TestLake::new();
        let table = lake.table("t");
        create(
            &table,
            columns,
            &["day"],
            &["columnMapping"],
            json!({"delta.columnMapping.mode": mode}),
        );
        let mut add = table.write_file(&mapped_file(with_ids));
        add["add"]["partitionValues"] = json!({"col-day": "2026-01-01"});
        let bounds = |id: i64| json!({physical("id"): id});
        add["add"]["stats"] = json!(
            json!({"numRecords": 2, "minValues": bounds(1), "maxValues": bounds(2),
            "nullCount": bounds(0)})
            .to_string()
        );
        // Not there: the statistics, by physical names, leave it out.
        let mut unread = table.added(add["add"]["path"].as_str().unwrap(), 2);
        unread["add"]["path"] = json!("gone.parquet");
        unread["add"]["partitionValues"] = json!({"col-day": "2026-01-01"});
        unread["add"]["stats"] = json!(
            json!({"numRecords": 2, "minValues": bounds(100), "maxValues": bounds(200),
            "nullCount": bounds(0)})
            .to_string()
        );
        table.commit(&[add, unread]);
        let engine = lake.engine().await;
        assert_eq!(
            csv(&engine, "select * from t where id < 50 order by id").await,
            r#"id,day,place,tags,names,missing
1,2026-01-01,"{""lat"":1.5}","[{""tag"":""a""}]","{""k1"":{""n"":""one""}}",
2,2026-01-01,"{""lat"":2.5}","[{""tag"":""b""},{""tag"":""c""}]","{""k2"":{""n"":""two""}}",
"#,
            "{mode}"
        );
        for (filter, count) in [
            ("id = 2", 1),
            ("id < 50 and place['lat'] > 2", 1),
            ("id < 50 and day = '2026-01-01' and missing is null", 2),
            ("day = '2026-01-02'", 0),
            ("id < 50 and tags[2]['tag'] = 'c'", 1),
        ] {
            let found = number(&engine, &format!("select count(*) from t where {filter}")).await;
            assert_eq!(found, count, "{mode}: {filter}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let lake = TestLake::new();
    create(
        &lake.table("new"),
        json!([field("id", "long")]),
        &[],
        &["deletionVectors", "someNewFeature"],
        json!({}),
    );
    let engine = lake.engine().await;
    let text = failure(&engine, "select * from new").await;
    assert!(
        text.contains("someNewFeature") && text.contains("select * from new"),
        "{text}"
    );
    let elsewhere = lake.table("elsewhere");
    create(&elsewhere, json!([field("id", "long")]), &[], &[], json!({}));
    let mut add = elsewhere.write_file(&batch(vec![("id", longs([1]))]));
    add["add"]["path"] = json!("s3://other/x.parquet");
    elsewhere.commit(&[add]);
    let text = failure(&engine, "select * from elsewhere").await;
    assert!(text.contains("s3://other/x.parquet"), "{text}");
}

#[tokio::test]
async fn counts_read_no_data_and_statistics_leave_files_out() {
    let lake = TestLake::new();
    for version in 0..3 {
        lake.append("vehicle_data", vehicles(version)).await;
    }
    let table = lake.table("t");
    let columns = json!([
        field("id", "long"),
        field("text", "string"),
        field("at", "timestamp"),
        field("v", "double")
    ]);
    create(&table, columns, &[], &[], json!({}));
    let text_of = |file: i64| format!("{file}-text");
    for file in 0..10 {
        let at = 1_767_225_600_000_000 + file * 1_000_000;
        let rows = batch(vec![
            ("id", longs([10 * file, 10 * file + 9])),
            ("text", Arc::new(StringArray::from(vec![text_of(file); 2]))),
            // The upper one is beyond what milliseconds hold.
            (
                "at",
                Arc::new(TimestampMicrosecondArray::from(vec![at, at + 500_999]).with_timezone("UTC")),
            ),
            ("v", Arc::new(Float64Array::from(vec![Some(file as f64), None]))),
        ]);
        let mut add = table.write_file(&rows);
        let instant = |us: i64| {
            chrono::DateTime::from_timestamp_micros(us)
                .unwrap()
                .format("%Y-%m-%dT%H:%M:%S%.3fZ")
                .to_string()
        };
        let statistics = json!({"numRecords": 2,
            "minValues": {"id": 10 * file, "text": text_of(file), "at": instant(at), "v": file as f64},
            "maxValues": {"id": 10 * file + 9, "text": text_of(file), "at": instant(at + 500_000), "v": file as f64},
            "nullCount": {"id": 0, "text": 0, "at": 0, "v": 1}});
        add["add"]["stats"] = json!(statistics.to_string());
        // Only files 3 and 4 are there.
        if !(3..=4).contains(&file) {
            std::fs::remove_file(table.folder.join(add["add"]["path"].as_str().unwrap())).unwrap();
        }
        table.commit(&[add]);
    }
    let engine = lake.engine().await;
    for (sql, expected) in [
        ("select count(*) from t", 20),
        ("select count(*) from t where id = 30", 1),
        ("select count(*) from t where id between 35 and 45", 2),
        ("select count(*) from t where id in (30, 39)", 2),
        ("select count(*) from t where text = '4-text'", 2),
        ("select count(*) from t where text like '3%'", 2),
        ("select count(*) from t where at = '2026-01-01T00:00:03.500999Z'", 1),
        (
            "select count(*) from t where at > '2026-01-01T00:00:03.500Z' and at < '2026-01-01T00:00:05Z'",
            3,
        ),
        ("select count(*) from t where v > 2.5 and v < 4.5", 2),
        ("select count(*) from t where id > 100 or v is not null and v = 3", 1),
        ("select count(*) from t where id < 0", 0),
    ] {
        assert_eq!(number(&engine, sql).await, expected, "{sql}");
    }
    let missing = failure(&engine, "select count(*) from t where id = 50").await;
    assert!(
        missing.contains("the table's files changed while it was read"),
        "{missing}"
    );
    let data = lake.table("vehicle_data").folder;
    for file in std::fs::read_dir(&data)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.is_file())
    {
        std::fs::remove_file(file).unwrap();
    }
    assert_eq!(number(&engine, "select count(*) from vehicle_data").await, 6);
    assert_eq!(
        number(
            &engine,
            "select count(*) from vehicle_data where event_date = '2026-01-01'"
        )
        .await,
        6
    );
    assert_eq!(
        number(
            &engine,
            "select count(*) from vehicle_data where event_date > '2026-01-01'"
        )
        .await,
        0
    );
}

#[tokio::test]
async fn statistics_that_say_nothing_or_nonsense_lose_no_row() {
    let lake = TestLake::new();
    let table = lake.table("t");
    let columns = json!([field("id", "long"), field("text", "string"), field("day", "date")]);
    create(&table, columns, &[], &[], json!({}));
    let long = "x".repeat(31) + "z";
    let rows = batch(vec![
        ("id", longs([5])),
        ("text", Arc::new(StringArray::from(vec![long.clone() + "zzz"]))),
        ("day", Arc::new(Date32Array::from(vec![20_454]))),
    ]);
    let all =
        |value: Value| json!({"numRecords": 1, "minValues": value, "maxValues": value, "nullCount": {}}).to_string();
    let statistics = [
        None,
        Some(String::new()),
        Some("{}".to_owned()),
        Some("no JSON".to_owned()),
        Some(r#"{"numRecords": 1} {"numRecords": 1}"#.to_owned()),
        Some(all(json!({"id": "five", "day": "someday"}))),
        Some(all(json!(null))),
        Some(all(json!({"text": long}))),
        Some(r#"{"numRecords": 1, "minValues": {"id": 5}, "maxValues": {"id": 5}, "nullCount": {"id": 1}, "tightBounds": false}"#.to_owned()),
    ];
    for text in &statistics {
        let mut add = table.write_file(&rows);
        add["add"]["stats"] = json!(text);
        table.commit(&[add]);
    }
    let engine = lake.engine().await;
    let files = statistics.len() as i64;
    assert_eq!(number(&engine, "select count(*) from t").await, files);
    for (filter, expected) in [
        // A count of nulls that equals the rows means that all are null, so the last file is rightly left out.
        ("id = 5", files - 1),
        ("day = '2026-01-01'", files),
        ("text > 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxz'", files),
    ] {
        let sql = format!("select count(*) from t where {filter}");
        assert_eq!(number(&engine, &sql).await, expected, "{filter}");
    }
}

#[tokio::test]
async fn a_limit_reads_as_few_files_as_it_needs() {
    let lake = TestLake::new();
    let table = lake.table("t");
    create(&table, json!([field("id", "long")]), &[], &[], json!({}));
    // The newest commits are read first; older ones are gone.
    for file in 0..5 {
        let add = table.write_file(&batch(vec![("id", longs([file, file]))]));
        if file < 2 {
            std::fs::remove_file(table.folder.join(add["add"]["path"].as_str().unwrap())).unwrap();
        }
        table.commit(&[add]);
    }
    let engine = lake.engine().await;
    let found = engine
        .query("select id from t limit 5")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 5);
    assert_eq!(
        number(&engine, "select count(*) from (select id from t limit 0)").await,
        0
    );
    let all = failure(&engine, "select id from t limit 7").await;
    assert!(all.contains("the table's files changed"), "{all}");
}

/// Dates, decimals and integers against literals, over the whole range of each: no literal overflows, none is rounded.
#[tokio::test]
async fn literals_are_compared_in_the_columns_own_unit() {
    let lake = TestLake::new();
    let decimals = |units: Vec<i128>, precision, scale| {
        let array = Decimal128Array::from(units)
            .with_precision_and_scale(precision, scale)
            .unwrap();
        Arc::new(array) as ArrayRef
    };
    let first_us = -62_135_596_800_000_000;
    let last_us = 253_402_300_799_999_999;
    let most = 10_i128.pow(38) - 1;
    let rows = batch(vec![
        ("id", longs([1, 2, 3])),
        ("day", Arc::new(Date32Array::from(vec![-719_162, 20_454, 2_932_896]))),
        (
            "at",
            Arc::new(
                TimestampMicrosecondArray::from(vec![first_us, 1_767_225_600_123_456, last_us]).with_timezone("UTC"),
            ),
        ),
        ("price", decimals(vec![-99_999, 1_234, 99_999], 5, 2)),
        ("huge", decimals(vec![-most, 5, most], 38, 0)),
        ("fine", decimals(vec![-most, 5, most], 38, 38)),
        ("long", longs([i64::MIN, 9_007_199_254_740_993, i64::MAX])),
        ("int", Arc::new(Int32Array::from(vec![i32::MIN, 7, i32::MAX]))),
        ("double", Arc::new(Float64Array::from(vec![f64::MIN, 0.1, f64::MAX]))),
    ]);
    lake.append("t", rows).await;
    let engine = lake.engine().await;
    for (filter, ids) in [
        ("day < '1000-01-01'", "1"),
        ("day < date '1000-01-01'", "1"),
        ("day < timestamp '1000-01-01T00:00:00'", "1"),
        ("timestamp '9000-01-01T00:00:00' < day", "3"),
        ("day = timestamp '2026-01-01T00:00:00'", "2"),
        ("day = timestamp '2026-01-01T00:00:01'", ""),
        ("day between '0001-01-01' and '2026-01-01'", "12"),
        ("day in ('0001-01-01', '9999-12-31')", "13"),
        ("day < now() - interval '300 years'", "1"),
        ("day <= at", "123"),
        ("at < day + interval '1 day'", "123"),
        ("at > now()", "3"),
        ("at >= '2026-01-01T00:00:00.123456Z'", "23"),
        ("at < to_timestamp_micros(0)", "1"),
        ("price < 12.345", "12"),
        ("price > 12.345", "3"),
        ("price = 12.34", "2"),
        ("price = 12.345", ""),
        ("price <> 12.345", "123"),
        ("price = '12.34'", "2"),
        ("price >= 12.340000000000", "23"),
        ("price < 1000", "123"),
        ("price <= 999.99", "123"),
        ("price > -1e300", "123"),
        ("price between 12.335 and 12.345", "2"),
        ("price not between 12.335 and 12.345", "13"),
        ("price between 13 and 12", ""),
        ("price in (12.34, 999.99, 5000)", "23"),
        ("huge > 4.5", "23"),
        ("huge > 1e30", "3"),
        ("huge < 1e300", "123"),
        ("huge = 5", "2"),
        ("-0.5 < huge", "23"),
        ("fine < 0.5", "12"),
        ("fine > 0", "23"),
        ("fine < 1", "123"),
        ("long = 9007199254740992", ""),
        ("long = 9007199254740992.0", ""),
        ("long = 9007199254740993", "2"),
        ("long < 9223372036854775808", "123"),
        ("long < 1e19", "123"),
        ("long >= -9223372036854775808", "123"),
        ("long > 9007199254740992.5", "23"),
        ("int < 1e10", "123"),
        ("int < 7.5", "12"),
        ("int >= 7.5", "3"),
        ("int = 7.0", "2"),
        ("int = 7.5", ""),
        ("int in (7, 3000000000)", "2"),
        ("int is distinct from 7", "13"),
        ("double <= 0.1", "12"),
        ("double < 1e308", "12"),
        ("double > -1", "23"),
    ] {
        let sql = format!("select id from t where {filter} order by id");
        let found = csv(&engine, &sql).await.replace("id\n", "").replace('\n', "");
        assert_eq!(found, ids, "{filter}");
    }
}

/// JSON functions and operators, over what `_extra` may hold.
#[tokio::test]
async fn json_is_read_by_functions_and_operators() {
    let lake = TestLake::new();
    let extra = [
        Some(r#"{"a":{"b":[1,"x\ny"]},"n":2024.0,"big":1e999,"ok":true,"no":null}"#),
        Some(r#"{"a":"text","n":"5"}"#),
        Some("no json"),
        None,
    ];
    let rows = batch(vec![
        ("id", longs([1, 2, 3, 4])),
        ("_extra", Arc::new(StringArray::from(extra.to_vec()))),
        ("key", Arc::new(StringArray::from(vec!["n", "a", "n", "n"]))),
    ]);
    lake.append("t", rows).await;
    let engine = lake.engine().await;
    for (expression, values) in [
        ("_extra -> 'a' -> 'b' -> 0", "1,,,"),
        ("_extra -> 'a'", r#"{"b":[1,"x\ny"]},"text",,"#),
        ("_extra ->> 'a'", r#"{"b":[1,"x\ny"]},text,,"#),
        ("_extra -> 'a' ->> 'b'", r#"[1,"x\ny"],,,"#),
        ("length(_extra -> 'a' -> 'b' ->> 1)", "3,,,"),
        ("json_get_str(_extra, 'a')", ",text,,"),
        ("json_get_int(_extra, 'n')", "2024,,,"),
        ("json_get_int(_extra, key)", "2024,,,"),
        ("json_get_float(_extra, 'n')", "2024.0,,,"),
        ("json_get_float(_extra, 'big')", ",,,"),
        ("_extra -> 'big'", "1e999,,,"),
        ("json_get_bool(_extra, 'ok')", "true,,,"),
        ("json_get(_extra, 'no')", ",,,"),
        ("json_contains(_extra, 'no')", "true,false,false,"),
        ("json_contains(_extra, 'a', 'b', 1)", "true,false,false,"),
        ("json_length(_extra, 'a', 'b')", "2,,,"),
        ("json_length(_extra)", "5,2,,"),
        ("_extra ->> 'n' = '5'", "false,true,,"),
        ("'5' = _extra ->> 'n'", "false,true,,"),
        ("_extra -> 'a' ->> 'b' is null", "false,true,true,true"),
        (
            "_extra ->> 'a' is not null and _extra ->> 'n' <> '5'",
            "true,false,false,false",
        ),
        ("_extra ->> 'a' like 't%'", "false,true,,"),
        ("_extra ->> 'a' not in ('text', 'x')", "true,false,,"),
        ("_extra ->> 'n' between '3' and '6'", "false,true,,"),
        ("json_get_int(_extra, 'n') > 5", "true,,,"),
    ] {
        let sql = format!("select {expression} as v from t order by id");
        let batches = engine.query(&sql).await.unwrap().collect().await.unwrap();
        let texts: Vec<String> = batches
            .iter()
            .flat_map(|batch| {
                let texts = arrow_cast::cast(batch.column(0), &DataType::Utf8).unwrap();
                let texts = texts
                    .as_string::<i32>()
                    .iter()
                    .map(|text| text.unwrap_or_default().to_owned());
                texts.collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(texts.join(","), values, "{expression}");
    }
    let grouped = csv(
        &engine,
        "select _extra ->> 'a' as a, count(*) as n from t group by 1 order by 2, 1",
    )
    .await;
    assert_eq!(grouped.lines().count(), 4, "{grouped}");
    for (sql, says) in [
        ("select json_get(id, 'a') from t", "json_get reads JSON text, not Int64"),
        (
            "select json_get(_extra, 1.5) from t",
            "keys (text) and positions (integers), not Float64",
        ),
    ] {
        let error = engine.query(sql).await.err().unwrap().to_string();
        assert!(error.contains(says), "{error}");
    }
}
