//! What becomes of each kind of record, and of its neighbours.

use std::collections::BTreeSet;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use codec::{DecodeCounts, DecodeLimits, Decoder, ErrorClass};
use model::{Chunk, ChunkBuilder, DeadLetter, Stage, Stream, TopicPartition};

const DECLARATION: &str = r#"
name = "probe"
description = "Every type, every rule."
key = "id"
event_time = "at"

[[field]]
name = "id"
type = "string"
doc = "Required text."

[[field]]
name = "at"
type = "timestamp"
doc = "Required."

[[field]]
name = "latitude"
type = "double"
min = -90
max = 90
from = ["latitude", "location[0]"]
doc = "Two places."

[[field]]
name = "longitude"
type = "double"
nullable = true
from = ["longitude", "location[1]", "where.lon"]
doc = "Three places."

[[field]]
name = "year"
type = "integer"
nullable = true
min = 1885
max = 2100
doc = "32 bits."

[[field]]
name = "count"
type = "long"
nullable = true
doc = "64 bits."

[[field]]
name = "open"
type = "boolean"
nullable = true
doc = "Truth."

[[field]]
name = "status"
type = "string"
nullable = true
one_of = ["Active", "Resolved", "naïve"]
doc = "A set."

[[field]]
name = "seen"
type = "timestamp"
nullable = true
doc = "Another time."

[[field]]
name = "step"
type = "integer"
nullable = true
doc = "32 bits, no bounds."
"#;

fn stream() -> Stream {
    Stream::parse("probe.toml", DECLARATION).unwrap()
}

fn chunk<R: AsRef<[u8]>>(records: &[R]) -> Chunk {
    let mut builder = ChunkBuilder::new(TopicPartition::new("probe", 3), 100);
    for (offset, record) in (100..).zip(records) {
        builder.push(offset, offset * 10, Some(b"key"), Some(record.as_ref()), []);
    }
    builder.finish(100 + records.len() as i64)
}

fn decode_with<R: AsRef<[u8]>>(
    limits: DecodeLimits,
    records: &[R],
) -> (Option<RecordBatch>, Vec<DeadLetter>, DecodeCounts) {
    let mut decoder = Decoder::with_limits(&stream(), limits);
    let mut letters = Vec::new();
    let counts = decoder.decode(&chunk(records), &BTreeSet::new(), 77, &mut letters);
    assert_eq!((decoder.rows(), letters.len()), (counts.rows, counts.dead_letters));
    (decoder.take(), letters, counts)
}

fn decode<R: AsRef<[u8]>>(records: &[R]) -> (Option<RecordBatch>, Vec<DeadLetter>) {
    let (batch, letters, _) = decode_with(DecodeLimits::default(), records);
    (batch, letters)
}

/// A good record with one member more.
fn with(member: &str) -> String {
    format!(r#"{{"id":"a","at":"2026-01-01T00:00:00","latitude":51.5{member}}}"#)
}

/// A good record, and the same around a value of `latitude`.
const GOOD: &str = r#"{"id":"good","at":"2026-01-02T03:04:05.678","latitude":-12.5}"#;

fn text_of<'a>(batch: &'a RecordBatch, column: &str) -> Vec<Option<&'a str>> {
    batch
        .column_by_name(column)
        .unwrap()
        .as_string::<i32>()
        .iter()
        .collect()
}

fn doubles_of(batch: &RecordBatch, column: &str) -> Vec<Option<f64>> {
    batch
        .column_by_name(column)
        .unwrap()
        .as_primitive::<Float64Type>()
        .iter()
        .collect()
}

#[test]
fn a_row_has_every_column() {
    let record = r#" {
        "id" : "x\u00e9\ud83d\ude97\n\"", "at":"2026-03-01T01:00:00+02:00", "location":[51.5, -0.1278e0], "year":2024,
        "count":-9223372036854775808, "open":true, "status":"na\u00efve", "seen":null, "step" : 0 } "#;
    let (batch, letters) = decode(&[record]);
    assert_eq!(letters, []);
    let batch = batch.unwrap();
    assert_eq!(batch.schema(), stream().arrow_schema());
    assert_eq!(text_of(&batch, "id"), [Some("xé🚗\n\"")]);
    assert_eq!(doubles_of(&batch, "latitude"), [Some(51.5)]);
    assert_eq!(doubles_of(&batch, "longitude"), [Some(-0.1278)]);
    let column = |name| batch.column_by_name(name).unwrap();
    let instant = 1_772_319_600_000_000;
    assert_eq!(
        column("at").as_primitive::<TimestampMicrosecondType>().value(0),
        instant
    );
    assert_eq!(column("year").as_primitive::<Int32Type>().value(0), 2024);
    assert_eq!(column("count").as_primitive::<Int64Type>().value(0), i64::MIN);
    assert!(column("open").as_boolean().value(0));
    assert_eq!(text_of(&batch, "status"), [Some("naïve")]);
    assert!(column("seen").is_null(0));
    assert_eq!(
        column("event_date").as_primitive::<Date32Type>().value(0),
        20_512,
        "2026-02-28"
    );
    assert_eq!(column("_partition").as_primitive::<Int32Type>().value(0), 3);
    assert_eq!(column("_offset").as_primitive::<Int64Type>().value(0), 100);
    assert_eq!(
        column("_kafka_timestamp")
            .as_primitive::<TimestampMicrosecondType>()
            .value(0),
        1_000_000
    );
    assert_eq!(
        column("_ingested_at")
            .as_primitive::<TimestampMicrosecondType>()
            .value(0),
        77
    );
    assert_eq!(text_of(&batch, "_extra"), [None]);
}

#[test]
fn every_bad_kind_has_its_class_and_leaves_its_neighbours_alone() {
    use ErrorClass::*;
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let deep_objects = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    let junk: Vec<u8> = (0..1_000_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let text_junk = "x".repeat(1_000_000);
    let cases: Vec<(Vec<u8>, ErrorClass, Option<&str>, &str)> = [
        // Not JSON at all.
        ("", Empty, None, "no value"),
        (" \n\t\r ", Empty, None, "no value"),
        ("not json", NotJson, None, "neither null, true nor false (byte 1)"),
        ("\u{feff}\u{feff}{}", NotJson, None, "a value should start here (byte 3)"),
        ("\u{feff}", Empty, None, "no value"),
        ("\u{feff}[]", NotAnObject, None, "no object (byte 3)"),
        ("{", NotJson, None, "cut off (byte 1)"),
        (r#"{"id":"a","at":"2026-01-0"#, NotJson, None, "cut off (byte 25)"),
        (r#"{"id":"a","at"#, NotJson, None, "cut off"),
        (r#"{"id":"a","at""#, NotJson, None, "cut off"),
        (r#"{"id":"a","latitude":5"#, NotJson, None, "cut off (byte 22)"),
        (r#"{"id":"a","latitude":-"#, NotJson, None, "cut off"),
        (r#"{"id":tru"#, NotJson, None, "cut off (byte 9)"),
        (r#"{"id":"\u00"#, NotJson, None, "cut off"),
        (r#"{"id":"\ud83d"#, NotJson, None, "cut off"),
        (r#"{"id":"\ud83d\"#, NotJson, None, "cut off"),
        (r#"{"id":"\ud83d\u"#, NotJson, None, "cut off"),
        (r#"{'id':"a"}"#, NotJson, None, "no key in quotes (byte 1)"),
        (r#"{"id":"a",}"#, NotJson, None, "no key in quotes (byte 10)"),
        (r#"{,"id":"a"}"#, NotJson, None, "no key"),
        (r#"{"id":"a" "b":1}"#, NotJson, None, "neither `,` nor `}`"),
        (r#"{"id" "a"}"#, NotJson, None, "no `:` after a key"),
        (r#"{"id":}"#, NotJson, None, "a value should start here (byte 6)"),
        (r#"{"x":[1,]}"#, NotJson, None, "a value should start here (byte 8)"),
        (r#"{"x":[1 2]}"#, NotJson, None, "neither `,` nor `]`"),
        (r#"{"x":[1}"#, NotJson, None, "neither `,` nor `]`"),
        (r#"{"x":{"y":1]}"#, NotJson, None, "neither `,` nor `}`"),
        (r#"{"x":{1:1}}"#, NotJson, None, "no key in quotes"),
        (r#"{"location":[1,]}"#, NotJson, None, "a value should start here"),
        (r#"{"location":[1;2]}"#, NotJson, None, "neither `,` nor `]`"),
        (
            "{\"id\":\"a\nb\"}",
            NotJson,
            None,
            "a control character in a string (byte 8)",
        ),
        ("{\"id\":\"a\u{0}\"}", NotJson, None, "a control character in a string"),
        (r#"{"id":"\x41"}"#, NotJson, None, "no such escape (byte 8)"),
        (r#"{"id":"\u12g4"}"#, NotJson, None, "no hexadecimal digit (byte 11)"),
        ("{}{}", NotJson, None, "something follows the value (byte 2)"),
        ("{} x", NotJson, None, "something follows the value (byte 3)"),
        ("1 2", NotJson, None, "something follows the value"),
        ("[1", NotJson, None, "cut off"),
        (text_junk.as_str(), NotJson, None, "a value should start here (byte 0)"),
        // Numbers that JSON does not have.
        (&with(r#","count":01"#), NotJson, None, "neither `,` nor `}`"),
        (&with(r#","count":1."#), NotJson, None, "a number lacks a digit"),
        (&with(r#","count":+1"#), NotJson, None, "a value should start here"),
        (&with(r#","count":.5"#), NotJson, None, "a value should start here"),
        (&with(r#","count":NaN"#), NotJson, None, "a value should start here"),
        (
            &with(r#","count":Infinity"#),
            NotJson,
            None,
            "a value should start here",
        ),
        (&with(r#","count":1e"#), NotJson, None, "a number lacks a digit"),
        (&with(r#","count":0x10"#), NotJson, None, "neither `,` nor `}`"),
        // JSON, but nothing for a table.
        ("[]", NotAnObject, None, "no object (byte 0)"),
        (" 12", NotAnObject, None, "no object (byte 1)"),
        ("null", NotAnObject, None, "no object"),
        (r#""text""#, NotAnObject, None, "no object"),
        (&deep(10_000), TooDeep, None, "nested deeper than 128 (byte 128)"),
        (
            &with(&format!(r#","x":{}"#, deep(128))),
            TooDeep,
            None,
            "nested deeper than 128",
        ),
        (
            &with(&format!(r#","x":{deep_objects}"#)),
            TooDeep,
            None,
            "nested deeper than 128",
        ),
        (
            &with(r#","x":"\ud800""#),
            LoneSurrogate,
            None,
            "one half of a surrogate pair",
        ),
        (
            &with(r#","x":"\udc00\ud800""#),
            LoneSurrogate,
            None,
            "one half of a surrogate pair",
        ),
        (
            &with(r#","x":"\ud800\u0041""#),
            LoneSurrogate,
            None,
            "one half of a surrogate pair",
        ),
        (
            &with(r#","\ud800":1"#),
            LoneSurrogate,
            None,
            "one half of a surrogate pair",
        ),
        (
            &with(r#","latitude":2"#),
            DuplicateKey,
            Some("latitude"),
            "latitude its key occurs twice",
        ),
        (
            &with(r#","latitud\u0065":null"#),
            DuplicateKey,
            Some("latitude"),
            "its key occurs twice",
        ),
        (
            &with(r#","where":{},"where":null"#),
            DuplicateKey,
            None,
            "a declared key occurs twice",
        ),
        // Against the declaration.
        ("{}", MissingField, Some("id"), "id is missing"),
        (
            r#"{"id":null,"at":"2026-01-01T00:00:00","latitude":1}"#,
            MissingField,
            Some("id"),
            "id is null and must not be",
        ),
        (
            r#"{"id":"a","at":"2026-01-01T00:00:00"}"#,
            MissingField,
            Some("latitude"),
            "latitude is missing",
        ),
        (
            r#"{"id":"a","at":"2026-01-01T00:00:00","location":"51,0"}"#,
            MissingField,
            Some("latitude"),
            "is missing",
        ),
        (
            r#"{"id":7,"at":"2026-01-01T00:00:00","latitude":1}"#,
            WrongType,
            Some("id"),
            "id 7 is a number and should be string (byte 6)",
        ),
        (
            r#"{"id":"a","at":"2026-01-01T00:00:00","latitude":"51"}"#,
            WrongType,
            Some("latitude"),
            "latitude 51 is text and should be double; text is taken where the declaration has `in_text = true` (byte",
        ),
        (
            r#"{"id":"a","at":"2026-01-01T00:00:00","latitude":{"a":1}}"#,
            WrongType,
            Some("latitude"),
            "is an object or array",
        ),
        (
            r#"{"id":"a","at":1767225600,"latitude":1}"#,
            WrongType,
            Some("at"),
            "is a number and should be timestamp: ISO 8601 text, or a count since 1970 where the declaration has `epoch`",
        ),
        (
            &with(r#","year":2024.5"#),
            WrongType,
            Some("year"),
            "year 2024.5 is not of its type, integer (byte",
        ),
        (&with(r#","year":2.0005e3"#), WrongType, Some("year"), "is not of its type"),
        (&with(r#","year":1e-400"#), WrongType, Some("year"), "is not of its type"),
        (
            &with(r#","step":2147483648.0"#),
            WrongType,
            Some("step"),
            "does not fit its type, integer",
        ),
        (
            &with(r#","count":1e400"#),
            WrongType,
            Some("count"),
            "does not fit its type, long",
        ),
        (
            &with(r#","count":9223372036854775808.0"#),
            WrongType,
            Some("count"),
            "does not fit its type, long",
        ),
        (&with(r#","year":2101.0"#), OutOfRange, Some("year"), "is outside 1885 to 2100"),
        (
            &with(r#","step":2147483648"#),
            WrongType,
            Some("step"),
            "does not fit its type, integer",
        ),
        (
            &with(r#","count":9223372036854775808"#),
            WrongType,
            Some("count"),
            "does not fit its type, long",
        ),
        (
            &with(r#","open":1"#),
            WrongType,
            Some("open"),
            "is a number and should be boolean",
        ),
        (
            &with(r#","status":false"#),
            WrongType,
            Some("status"),
            "is a boolean and should be string",
        ),
        (
            &with(r#","longitude":1e400"#),
            NotFinite,
            Some("longitude"),
            "longitude 1e400 is beyond",
        ),
        (
            r#"{"id":"a","at":"yesterday","latitude":1}"#,
            BadTimestamp,
            Some("at"),
            "at yesterday is no timestamp: use ISO 8601, as in 2026-01-31T12:00:00Z, or declare its `formats`",
        ),
        (
            r#"{"id":"a","at":"2026-01-01","latitude":1}"#,
            BadTimestamp,
            Some("at"),
            "at 2026-01-01 is a date without a time: use 2026-01-31T00:00:00Z, or declare formats = [\"%Y-%m-%d\"]",
        ),
        (
            r#"{"id":"a","at":"2026-02-30T00:00:00","latitude":1}"#,
            BadTimestamp,
            Some("at"),
            "is no timestamp",
        ),
        (
            r#"{"id":"a","at":"9999-12-31T23:59:59-01:00","latitude":1}"#,
            BadTimestamp,
            Some("at"),
            "outside the years",
        ),
        (
            r#"{"id":"a","at":"0001-01-01T00:00:00+01:00","latitude":1}"#,
            BadTimestamp,
            Some("at"),
            "outside the years",
        ),
        // Against its rules.
        (
            r#"{"id":"a","at":"2026-01-01T00:00:00","latitude":91}"#,
            OutOfRange,
            Some("latitude"),
            "latitude 91 is outside -90 to 90 (byte 48)",
        ),
        (
            &with(r#","year":1884"#),
            OutOfRange,
            Some("year"),
            "year 1884 is outside 1885 to 2100",
        ),
        (
            &with(r#","status":"active""#),
            NotInSet,
            Some("status"),
            "status active is none of Active, Resolved, naïve",
        ),
    ]
    .into_iter()
    .map(|(record, class, field, says)| (record.as_bytes().to_vec(), class, field, says))
    .chain([
        (junk.clone(), InvalidUtf8, None, "not UTF-8"),
        (b"{\"id\":\"\xff\"}".to_vec(), InvalidUtf8, None, "not UTF-8 (byte 7)"),
        (
            b"{\"id\":\"\xed\xa0\x80\"}".to_vec(),
            InvalidUtf8,
            None,
            "not UTF-8 (byte 7)",
        ),
        (vec![b' '; (1 << 20) + 1], TooLarge, None, "longer than the limit"),
    ])
    .collect();

    // Each bad one between two good ones, in one chunk.
    let mut records = Vec::new();
    for (record, ..) in &cases {
        records.extend([GOOD.as_bytes().to_vec(), record.clone()]);
    }
    records.push(GOOD.as_bytes().to_vec());
    for shapes_max in [0, 4] {
        let limits = DecodeLimits {
            shapes_max,
            ..DecodeLimits::default()
        };
        let (batch, letters, counts) = decode_with(limits, &records);
        assert_eq!(counts.rows, cases.len() + 1);
        let ids = batch.unwrap();
        assert!(text_of(&ids, "id").iter().all(|id| *id == Some("good")));
        assert!(
            doubles_of(&ids, "latitude")
                .iter()
                .all(|latitude| *latitude == Some(-12.5))
        );
        assert_eq!(letters.len(), cases.len());
        for (number, (letter, (record, class, field, says))) in letters.iter().zip(&cases).enumerate() {
            let shown = String::from_utf8_lossy(&record[..record.len().min(80)]);
            assert_eq!(letter.error_class, class.as_str(), "{shown}: {}", letter.error);
            assert_eq!(
                (letter.stage, letter.field.as_deref()),
                (class.stage(), *field),
                "{shown}"
            );
            assert!(letter.error.contains(says), "{shown}: {} lacks {says}", letter.error);
            assert_eq!(letter.offset, 101 + 2 * number as i64);
            assert_eq!(letter.value.as_ref(), Some(record));
            assert_eq!(letter.kafka_timestamp_us, Some(letter.offset * 10_000));
        }
    }
    let seen: BTreeSet<&str> = cases.iter().map(|(_, class, ..)| class.as_str()).collect();
    // The tombstone has a test of its own, `elements` the classes of messages with elements, `types` those of other types.
    let elsewhere = [
        NullValue,
        NoElements,
        TooManyElements,
        BadElements,
        BadDate,
        BadTime,
        BadBinary,
    ];
    assert_eq!(seen.len(), ErrorClass::ALL.len() - elsewhere.len());
}

#[test]
fn a_tombstone_is_a_letter_with_key_and_headers() {
    let mut builder = ChunkBuilder::new(TopicPartition::new("probe", 0), 5);
    builder.push(5, -1, Some(b"k"), None, [("h", Some(&b"v"[..]))]);
    builder.push(6, i64::MAX, None, Some(GOOD.as_bytes()), []);
    let mut decoder = Decoder::new(&stream());
    let mut letters = Vec::new();
    decoder.decode(&builder.finish(7), &BTreeSet::new(), 9, &mut letters);
    let [letter] = letters.as_slice() else {
        panic!("{letters:?}")
    };
    assert_eq!(
        (letter.stage, letter.error_class, letter.offset),
        (Stage::Decode, "null_value", 5)
    );
    assert_eq!((&letter.key, &letter.value), (&Some(b"k".to_vec()), &None));
    assert_eq!(letter.headers, [("h".to_owned(), Some(b"v".to_vec()))]);
    assert_eq!((letter.kafka_timestamp_us, letter.ingested_at_us), (None, 9));
    let batch = decoder.take().unwrap();
    assert!(
        batch.column_by_name("_kafka_timestamp").unwrap().is_null(0),
        "a timestamp beyond all years is none"
    );
}

#[test]
fn dead_lettered_offsets_become_neither() {
    let mut decoder = Decoder::new(&stream());
    let mut letters = Vec::new();
    let records = [GOOD, "bad", GOOD, "worse"];
    let counts = decoder.decode(&chunk(&records), &[(101, None), (102, None)].into(), 0, &mut letters);
    assert_eq!((counts.rows, counts.dead_letters, counts.dead_lettered), (1, 1, 2));
    assert_eq!(letters[0].offset, 103);
}

#[test]
fn the_best_place_that_holds_a_value_counts() {
    for (member, longitude) in [
        (r#""longitude":1,"location":[0,2],"where":{"lon":3}"#, Some(1.0)),
        (r#""where":{"lon":3},"location":[0,2],"longitude":1"#, Some(1.0)),
        (r#""longitude":null,"location":[0,2]"#, Some(2.0)),
        (r#""location":[0,null],"where":{"lon":3}"#, Some(3.0)),
        (r#""location":null,"where":{"lon":3.5}"#, Some(3.5)),
        (r#""location":[0],"where":{}"#, None),
        (r#""location":[],"where":null"#, None),
        // A place that does not count is not validated.
        (r#""longitude":1,"where":{"lon":"x"}"#, Some(1.0)),
    ] {
        let record = format!(r#"{{"id":"a","at":"2026-01-01T00:00:00","latitude":1,{member}}}"#);
        let (batch, letters) = decode(&[&record, &record]);
        assert_eq!(letters, [], "{member}");
        assert_eq!(
            doubles_of(&batch.unwrap(), "longitude"),
            [longitude, longitude],
            "{member}"
        );
    }
}

#[test]
fn what_no_one_declared_is_kept_where_it_stood() {
    for (member, extra, fields) in [
        (r#","x":1"#, Some(r#"{"x":1}"#), 1),
        (
            r#","x":null,"y":[ 1 , "a b\" ]" ]"#,
            Some(r#"{"x":null,"y":[1,"a b\" ]"]}"#),
            2,
        ),
        (r#","where":{"lon":1,"alt": 30 }"#, Some(r#"{"where":{"alt":30}}"#), 1),
        (r#","where":{"lon":1}"#, None, 0),
        (r#","where":{}"#, None, 0),
        (r#","location":[51.5,2]"#, None, 0),
        (
            r#","location":[515e-1,2,30]"#,
            Some(r#"{"location":[null,null,30]}"#),
            1,
        ),
        (
            r#","location":[null,2,30, {"a" : 1}],"x":true"#,
            Some(r#"{"location":[null,null,30,{"a":1}],"x":true}"#),
            3,
        ),
        (r#","where":"here","location":null"#, Some(r#"{"where":"here"}"#), 1),
        (r#","location":{"lat":1}"#, Some(r#"{"location":{"lat":1}}"#), 1),
        (r#","\u0079ear":2000,"\u0079":1.50e1"#, Some(r#"{"\u0079":1.50e1}"#), 1),
        (r#","":[],"x":{}"#, Some(r#"{"":[],"x":{}}"#), 2),
        // Two of the same undeclared name: both, as they came.
        (r#","x":1,"x":2"#, Some(r#"{"x":1,"x":2}"#), 2),
    ] {
        let record = with(member);
        let (batch, letters, counts) = decode_with(DecodeLimits::default(), &[&record, &record, &record]);
        assert_eq!(letters, [], "{member}");
        assert_eq!(text_of(&batch.unwrap(), "_extra"), [extra; 3], "{member}");
        assert_eq!(counts.extra_fields, 3 * fields, "{member}");
        assert_eq!(counts.rows_with_extra, if fields > 0 { 3 } else { 0 });
    }
}

/// Each value of a row is in a column or in `_extra`. A record whose value in a place that does not count says the same as
/// the one that counts loses nothing without it.
#[test]
fn a_value_that_differs_from_a_better_places_is_kept() {
    for (member, longitude, extra) in [
        (r#""longitude":1,"location":[51.5,1]"#, 1.0, None),
        (
            r#""longitude":1,"location":[51.5,1.0],"where":{"lon":10e-1}"#,
            1.0,
            None,
        ),
        (r#""longitude":1,"location":[51.5,null]"#, 1.0, None),
        (
            r#""longitude":1,"location":[51.6,2]"#,
            1.0,
            Some(r#"{"location":[51.6,2]}"#),
        ),
        (
            r#""longitude":1,"location":[51.5,2]"#,
            1.0,
            Some(r#"{"location":[null,2]}"#),
        ),
        (
            r#""location":[51.6 ,2] ,"longitude":1"#,
            1.0,
            Some(r#"{"location":[51.6,2]}"#),
        ),
        (
            r#""longitude":null,"location":[51.5,2,3],"where":{"lon":3,"alt":4}"#,
            2.0,
            Some(r#"{"location":[null,null,3],"where":{"lon":3,"alt":4}}"#),
        ),
        // It is not validated, and it may be of any type.
        (
            r#""longitude":1,"where":{"lon":"x"}"#,
            1.0,
            Some(r#"{"where":{"lon":"x"}}"#),
        ),
        (
            r#""longitude":1,"where":{"lon":{ "a" : [1, 2] }}"#,
            1.0,
            Some(r#"{"where":{"lon":{"a":[1,2]}}}"#),
        ),
        (
            r#""longitude":1,"where":{"lon":1e400}"#,
            1.0,
            Some(r#"{"where":{"lon":1e400}}"#),
        ),
    ] {
        let record = with(&format!(",{member}"));
        for shapes_max in [0, 4] {
            let limits = DecodeLimits {
                shapes_max,
                ..DecodeLimits::default()
            };
            // Between records of the same shape that say the same in both places.
            let same = with(r#","longitude":7,"location":[51.5,7],"where":{"lon":7}"#);
            let (batch, letters, _) = decode_with(limits, &[&same, &record, &record, &same]);
            assert_eq!(letters, [], "{member}");
            let batch = batch.unwrap();
            assert_eq!(
                doubles_of(&batch, "longitude"),
                [Some(7.0), Some(longitude), Some(longitude), Some(7.0)]
            );
            assert_eq!(text_of(&batch, "_extra"), [None, extra, extra, None], "{member}");
        }
    }
}

#[test]
fn producers_that_fill_two_places_alike_are_read_by_shape() {
    let records: Vec<String> = (0..50)
        .map(|n| with(&format!(r#","longitude":{n}.5,"location":[51.5,{n}.50]"#)))
        .collect();
    let (_, letters, counts) = decode_with(DecodeLimits::default(), &records);
    assert_eq!((letters.len(), counts.by_shape, counts.extra_fields), (0, 49, 0));
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_message() {
    let once = [format!("\u{feff}{GOOD}"), GOOD.to_owned(), format!("\u{feff} {GOOD}")];
    let records = [once.as_slice(), once.as_slice()].concat();
    for shapes_max in [0, 4] {
        let limits = DecodeLimits {
            shapes_max,
            ..DecodeLimits::default()
        };
        let (batch, letters, _) = decode_with(limits, &records);
        assert_eq!(letters, []);
        let batch = batch.unwrap();
        assert_eq!(text_of(&batch, "id"), [Some("good"); 6]);
        assert_eq!(text_of(&batch, "_extra"), [None; 6]);
    }
}

#[test]
fn limits_of_what_is_good() {
    let deepest = format!(r#","x":{}{}"#, "[".repeat(127), "]".repeat(127));
    let long = format!(r#","x":"{}""#, "é".repeat(400_000));
    for member in [
        deepest.as_str(),
        &long,
        r#","latitude2":1e400"#,
        r#","longitude":-0"#,
        r#","longitude":1E5"#,
        r#","longitude":123456789012345678901234567890"#,
        r#","longitude":1e-400"#,
        r#","year":1885"#,
        r#","year":2024.0"#,
        r#","year":2e3"#,
        r#","year":20240e-1"#,
        r#","year":2.0240000000000000000000000e3"#,
        r#","count":9223372036854775807.0"#,
        r#","count":-9.223372036854775808E+18"#,
        r#","count":-0.0"#,
        r#","seen":"2026-01-01T00:00:00+01:00[Europe/Paris]""#,
        r#","count":-0"#,
        r#","step":-2147483648"#,
        r#","seen":"9999-12-31T23:59:59.999999999Z""#,
        r#","seen":"2026-01-01\u005400:00:00""#,
        r#","seen":"2026-01-01 00:00:00.5+0530""#,
        r#","seen":"0001-01-01T00:00""#,
    ] {
        let (_, letters) = decode(&[with(member)]);
        assert_eq!(letters, [], "{}", &member[..member.len().min(80)]);
    }
}

#[test]
fn batches_follow_one_another() {
    let mut decoder = Decoder::new(&stream());
    assert_eq!(decoder.take(), None);
    let mut letters = Vec::new();
    for round in 0..3 {
        let records: Vec<String> = (0..50 + round).map(|n| with(&format!(r#","count":{n}"#))).collect();
        decoder.decode(&chunk(&records), &BTreeSet::new(), 0, &mut letters);
        decoder.decode(&chunk(&["bad"]), &BTreeSet::new(), 0, &mut letters);
        assert_eq!(decoder.rows(), records.len());
        assert!(decoder.bytes() > records.len() * 60, "{}", decoder.bytes());
        let batch = decoder.take().unwrap();
        let counts: Vec<i64> = batch
            .column_by_name("count")
            .unwrap()
            .as_primitive::<Int64Type>()
            .values()
            .to_vec();
        assert_eq!(counts, (0..records.len() as i64).collect::<Vec<_>>());
        assert_eq!((decoder.rows(), decoder.bytes()), (0, 0));
        assert_eq!(decoder.take(), None);
    }
    assert_eq!(letters.len(), 3);
}

#[test]
fn a_batch_in_use_is_left_alone_by_those_after_it() {
    let mut decoder = Decoder::new(&stream());
    let mut letters = Vec::new();
    let (mut held, mut copies) = (Vec::new(), Vec::new());
    for round in 0..12_i64 {
        // Smaller and larger ones by turns, so that memory is used again, outgrown and given up.
        let members = (0..[40, 50, 60, 300, 5, 41][round as usize % 6]).map(|n| {
            let count = round * 1000 + n;
            with(&format!(
                r#","count":{count},"status":"Active","x":"{count}","open":{}"#,
                n % 2 == 0
            ))
        });
        let records: Vec<String> = members.collect();
        decoder.decode(&chunk(&records), &BTreeSet::new(), round, &mut letters);
        let batch = decoder.take().unwrap();
        assert_eq!(batch.num_rows(), records.len());
        let (fresh, none) = decode(&records);
        assert_eq!(none, []);
        let columns = |batch: &RecordBatch| batch.project(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]).unwrap();
        assert_eq!(columns(&batch), columns(&fresh.unwrap()));
        assert!(
            batch["_ingested_at"]
                .as_primitive::<TimestampMicrosecondType>()
                .values()
                .iter()
                .all(|us| *us == round)
        );
        if round % 3 == 0 {
            copies.push(format!("{batch:?}"));
            held.push(batch);
        }
    }
    assert_eq!(letters, []);
    for (batch, copy) in held.iter().zip(copies) {
        assert_eq!(format!("{batch:?}"), copy);
    }
}
