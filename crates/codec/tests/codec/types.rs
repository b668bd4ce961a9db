//! The types of declarations: what is taken for each, and what is not.

use std::collections::BTreeSet;

use arrow_array::cast::AsArray;
use arrow_array::types::Date32Type;
use codec::Decoder;
use model::{ChunkBuilder, Stream, TopicPartition};

use crate::one::{decode, outcome, shown, stream_of};

fn takes(lines: &str, values: &[(&str, &str)]) {
    let stream = stream_of(lines);
    for (value, column) in values {
        assert_eq!(outcome(&stream, value).as_deref(), Ok(*column), "{lines}: {value}");
    }
}

fn refuses(lines: &str, values: &[(&str, &str, &str)]) {
    let stream = stream_of(lines);
    for (value, class, says) in values {
        match outcome(&stream, value) {
            Ok(column) => panic!("{lines}: {value} became {column}"),
            Err((found, error)) => {
                assert_eq!(found, *class, "{lines}: {value}: {error}");
                assert!(error.contains(says), "{lines}: {value}: {error} lacks {says}");
            }
        }
    }
}

#[test]
fn decimals_are_exact() {
    let lines = "type = \"decimal(5,2)\"\nnullable = true";
    takes(
        lines,
        &[
            ("12.5", "12.50"),
            ("-999.99", "-999.99"),
            ("0", "0.00"),
            ("1.25e2", "125.00"),
            ("0.0100000000000000000000000000000000000000000000", "0.01"),
            ("\"12.5\"", "12.50"),
            ("\"-0.01\"", "-0.01"),
            ("\"1\\u002e5\"", "1.50"),
            ("null", "null"),
        ],
    );
    refuses(
        lines,
        &[
            (
                "0.125",
                "wrong_type",
                "f 0.125 has more digits after the point than its type, decimal(5,2)",
            ),
            ("0.30000000000000004", "wrong_type", "has more digits after the point"),
            ("1000", "wrong_type", "f 1000 does not fit its type, decimal(5,2)"),
            ("1e400", "wrong_type", "does not fit"),
            ("\"12,5\"", "wrong_type", "f 12,5 is text and should be decimal(5,2)"),
            ("\"\"", "wrong_type", "is text and should be"),
            ("true", "wrong_type", "is a boolean and should be decimal(5,2)"),
            ("[]", "wrong_type", "is an object or array and should be decimal(5,2)"),
        ],
    );
    takes(
        "type = \"decimal(38,0)\"",
        &[(
            "99999999999999999999999999999999999999",
            "99999999999999999999999999999999999999",
        )],
    );
    let bounded = "type = \"decimal(5,2)\"\nmin = 0.1\nmax = 99.99";
    takes(bounded, &[("0.1", "0.10"), ("99.99", "99.99")]);
    refuses(
        bounded,
        &[
            ("0.09", "out_of_range", "f 0.09 is outside 0.10 to 99.99"),
            ("100", "out_of_range", "is outside"),
        ],
    );
}

#[test]
fn dates_times_and_bytes() {
    takes(
        "type = \"date\"",
        &[
            ("\"2026-01-31\"", "2026-01-31"),
            ("\"0001-01-01\"", "0001-01-01"),
            ("\"9999-12-31\"", "9999-12-31"),
        ],
    );
    refuses(
        "type = \"date\"",
        &[
            (
                "\"2026-02-30\"",
                "bad_date",
                "f 2026-02-30 is no date: use ISO 8601, as in 2026-01-31",
            ),
            ("\"2026-01-31T00:00:00Z\"", "bad_date", "is no date"),
            ("\"31.01.2026\"", "bad_date", "or declare its `formats`"),
            (
                "20260131",
                "wrong_type",
                "f 20260131 is a number and should be date: ISO 8601 text, or a count since 1970",
            ),
            ("null", "missing_field", "f is null and must not be"),
        ],
    );
    takes(
        "type = \"time\"",
        &[
            ("\"23:59\"", "23:59:00.000000"),
            ("\"03:04:05.6\"", "03:04:05.600000"),
            ("\"00:00:00.123456789\"", "00:00:00.123456"),
        ],
    );
    refuses(
        "type = \"time\"",
        &[
            (
                "\"24:00\"",
                "bad_time",
                "f 24:00 is no time of day: use ISO 8601, as in 23:59:59.5",
            ),
            ("\"10:00Z\"", "bad_time", "is no time of day"),
            ("10", "wrong_type", "is a number and should be time"),
        ],
    );
    takes(
        "type = \"binary\"",
        &[("\"AAH/\"", "0001ff"), ("\"\"", ""), ("\"A\\u0041H_\"", "0001ff")],
    );
    refuses(
        "type = \"binary\"",
        &[
            ("\"00f\"", "bad_binary", "f 00f is no base64"),
            ("[1]", "wrong_type", "should be binary"),
        ],
    );
    takes("type = \"binary\"\nencoding = \"hex\"", &[("\"0001fF\"", "0001ff")]);
    refuses(
        "type = \"binary\"\nencoding = \"hex\"",
        &[("\"AAH/\"", "bad_binary", "f AAH/ is no hexadecimal")],
    );
}

#[test]
fn json_is_taken_as_it_is_written() {
    takes(
        "type = \"json\"\nnullable = true",
        &[
            ("{ \"a\" : [1, 1e999] }", "{ \"a\" : [1, 1e999] }"),
            ("\"te\\u0078t\"", "\"te\\u0078t\""),
            ("-1.50", "-1.50"),
            ("true", "true"),
            ("false", "false"),
            ("null", "null"),
        ],
    );
    refuses("type = \"json\"", &[("null", "missing_field", "is null")]);
}

#[test]
fn nested_values() {
    takes(
        "type = \"array<integer>\"\nnullable = true",
        &[
            ("[1, 2.0 ,null]", "[1,2,null]"),
            ("[]", "[]"),
            ("[ ]", "[]"),
            ("null", "null"),
        ],
    );
    takes(
        "type = \"array<array<string>>\"",
        &[("[[\"a\",\"\\u00e9\"],[],null]", "[[a,é],[],null]")],
    );
    takes(
        "type = \"map<string, decimal(3,1)>\"",
        &[("{\"a\":1.5,\"\\u0062\":null}", "{a:1.5,b:null}"), ("{}", "{}")],
    );
    let structs = "type = \"array<struct<at: timestamp, Value: double, tags: map<string, struct<n: long>>>>\"";
    takes(
        structs,
        &[
            (
                "[{\"Value\":1.5,\"at\":\"2026-01-31T10:00Z\"},{},null]",
                "[(at=2026-01-31T10:00:00.000000,Value=1.5,tags=null),(at=null,Value=null,tags=null),null]",
            ),
            (
                "[{\"tags\":{\"x\":{\"n\":7},\"y\":null}}]",
                "[(at=null,Value=null,tags={x:(n=7),y:null})]",
            ),
            // What the struct does not declare is kept, where it stood.
            (
                "[{\"Value\":1},{\"value\":2, \"tags\":{\"a\":{\"n\":1},\"b\":{\"m\":[ 1 ]}}},{\"at\":null}]",
                "[(at=null,Value=1,tags=null),(at=null,Value=null,tags={a:(n=1),b:(n=null)}),(at=null,Value=null,tags=null)] \
                 extra {\"f\":[null,{\"value\":2,\"tags\":{\"b\":{\"m\":[1]}}}]}",
            ),
        ],
    );
    refuses(
        structs,
        &[
            (
                "{}",
                "wrong_type",
                "f {} is an object or array and should be array<struct<",
            ),
            (
                "[1]",
                "wrong_type",
                "f[*] 1 is a number and should be struct<at: timestamp",
            ),
            (
                "[{\"Value\":1},{\"Value\":\"2\"}]",
                "wrong_type",
                "f[*].Value 2 is text and should be double",
            ),
            ("[{\"at\":\"soon\"}]", "bad_timestamp", "f[*].at soon is no timestamp"),
            (
                "[{\"tags\":{\"a\":{\"n\":1.5}}}]",
                "wrong_type",
                "f[*].tags.*.n 1.5 is not of its type, long",
            ),
            (
                "[{\"at\":null,\"a\\u0074\":null}]",
                "duplicate_key",
                "has a declared key twice",
            ),
            (
                "[{\"tags\":{\"a\":null,\"\\u0061\":null}}]",
                "duplicate_key",
                "has a key twice",
            ),
            ("null", "missing_field", "is null"),
        ],
    );
}

/// A dead letter of a nested value names the declared field, by which it is counted.
#[test]
fn a_fault_in_a_part_is_the_fields() {
    let (_, letters) = decode(
        &stream_of("type = \"array<double>\""),
        4,
        &[b"{\"f\":[1,\"x\"]}".to_vec()],
    );
    assert_eq!(letters[0].field.as_deref(), Some("f"));
    assert!(letters[0].error.ends_with("(byte 9)"), "{}", letters[0].error);
}

/// Two bytes can be a struct of many columns, so what counts is the values in columns, nulls included.
#[test]
fn a_nested_value_has_a_bound() {
    let members: Vec<String> = (0..128).map(|number| format!("m{number}: long")).collect();
    let stream = stream_of(&format!("type = \"array<struct<{}>>\"", members.join(", ")));
    let array = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
    assert!(outcome(&stream, &array((1 << 20) / 128)).is_ok());
    let (class, error) = outcome(&stream, &array((1 << 20) / 128 + 1)).unwrap_err();
    assert_eq!(class, "too_large");
    assert!(error.contains("has more than a million values in it"), "{error}");
}

#[test]
fn the_whole_message_may_be_a_column() {
    let lines = "type = \"json\"\nfrom = [\"$\"]\n[[field]]\nname = \"a\"\ntype = \"integer\"\nnullable = true";
    let stream = stream_of(lines);
    let records = [
        " {\"a\" : 1,\"b\":\"\u{e9}\"} ",
        "\u{feff}{\"a\":2,\"b\":\"\"}\n",
        "{}",
        "{\"a\":3,\"b\":\"x\"}",
    ];
    for shapes_max in [0, 4] {
        let bytes: Vec<Vec<u8>> = records.map(|record| record.as_bytes().to_vec()).into();
        let (batch, letters) = decode(&stream, shapes_max, &bytes);
        assert_eq!(letters, []);
        let batch = batch.unwrap();
        for (row, record) in records.iter().enumerate() {
            assert_eq!(shown(&batch["f"], row), record.trim_matches(['\u{feff}', ' ', '\n']));
        }
        assert_eq!(shown(&batch["a"], 1), "2");
        assert_eq!(shown(&batch["_extra"], 1), "{\"b\":\"\"}");
    }
    let (_, letters) = decode(&stream, 0, &[b"[1]".to_vec()]);
    assert_eq!(letters[0].error_class, "not_an_object");
    let elements = format!("{lines}\nfrom = [\"r[*].a\"]").replacen("[[field]]", "", 0);
    let stream = Stream::parse(
        "s.toml",
        &format!("name = \"s\"\nelements = \"r[*]\"\n[[field]]\nname = \"f\"\n{elements}"),
    )
    .unwrap();
    let message = "{\"r\":[{\"a\":1},{\"a\":2}]}";
    let (batch, letters) = decode(&stream, 4, &[message.as_bytes().to_vec()]);
    assert_eq!(letters, []);
    let batch = batch.unwrap();
    assert_eq!([0, 1].map(|row| shown(&batch["f"], row)), [message, message]);
    assert_eq!([0, 1].map(|row| shown(&batch["a"], row)), ["1", "2"]);
}

#[test]
fn elements_may_hold_nested_values() {
    let stream = Stream::parse(
        "s.toml",
        "name = \"s\"\nelements = \"r[*]\"\n\
         [[field]]\nname = \"tags\"\ntype = \"map<string, struct<n: decimal(4,1)>>\"\n\
         [[field]]\nname = \"v\"\ntype = \"array<struct<x: binary>>\"\nfrom = [\"r[*].v\"]\n",
    )
    .unwrap();
    let message = r#"{"tags":{"a":{"n":1.5,"more":1}},"r":[{"v":[{"x":"AA=="}]},{"v":[{"y":2}]},{"v":[1]},{"v":[]}]}"#;
    for shapes_max in [0, 4] {
        let (batch, letters) = decode(&stream, shapes_max, &vec![message.as_bytes().to_vec(); 2]);
        let batch = batch.unwrap();
        let elements: Vec<_> = letters.iter().map(|letter| (letter.offset, letter.element)).collect();
        assert_eq!(elements, [(0, Some(2)), (1, Some(2))]);
        let row = |row| [&batch["tags"], &batch["v"], &batch["_extra"]].map(|column| shown(column, row));
        let of_message = r#"{"tags":{"a":{"more":1}}}"#;
        let with_element = r#"{"tags":{"a":{"more":1}},"r":[{"v":[{"y":2}]}]}"#;
        assert_eq!(row(0), ["{a:(n=1.5)}", "[(x=00)]", of_message]);
        assert_eq!(row(1), ["{a:(n=1.5)}", "[(x=null)]", with_element]);
        assert_eq!(row(5), ["{a:(n=1.5)}", "[]", of_message]);
    }
}

/// Without a declared event time Kafka's timestamp places a row in its partition; the time of ingest, where there is none.
#[test]
fn event_time_may_be_kafkas() {
    let stream = stream_of("type = \"string\"");
    let mut builder = ChunkBuilder::new(TopicPartition::new("t", 0), 0);
    let day_ms = 86_400_000;
    builder.push(0, 20_000 * day_ms + 5, None, Some(b"{\"f\":\"a\"}"), []);
    builder.push(1, -1, None, Some(b"{\"f\":\"b\"}"), []);
    let mut decoder = Decoder::new(&stream);
    let mut letters = Vec::new();
    decoder.decode(
        &builder.finish(2),
        &BTreeSet::new(),
        20_001 * day_ms * 1000,
        &mut letters,
    );
    assert_eq!(letters, []);
    let batch = decoder.take().unwrap();
    assert_eq!(
        batch["event_date"].as_primitive::<Date32Type>().values().as_ref(),
        [20_000, 20_001]
    );
}
