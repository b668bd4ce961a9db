//! What serializers write by default for the declared types: the table of `docs/design/decoding.md`, row by row.

use std::process::Command;

use crate::one::{outcome, stream_of};

/// Serializer and what it wrote, the lines of the declaration, the value, and what becomes of it: a column's value, or `!`
/// and the class of a dead letter.
const WRITTEN: [(&str, &str, &str, &str); 74] = [
    // Python: https://docs.python.org/3/library/json.html; pandas 2 `DataFrame.to_json(orient="records")`.
    ("pandas, integers with gaps", "type = \"integer\"", "2024.0", "2024"),
    ("pandas, a gap", "type = \"double\"\nnullable = true", "null", "null"),
    ("pandas, NaN", "type = \"double\"\nnullable = true", "null", "null"),
    ("pandas, booleans with gaps", "type = \"boolean\"", "true", "true"),
    (
        "pandas, datetime64",
        "type = \"timestamp\"",
        "1767323045678",
        "!wrong_type",
    ),
    (
        "pandas, datetime64",
        "type = \"timestamp\"\nepoch = \"ms\"",
        "1767323045678",
        "2026-01-02T03:04:05.678000",
    ),
    (
        "pandas, date_format=\"iso\"",
        "type = \"timestamp\"",
        "\"2026-01-02T03:04:05.678\"",
        "2026-01-02T03:04:05.678000",
    ),
    ("pandas, Decimal", "type = \"decimal(10,2)\"", "12.5", "12.50"),
    ("simplejson, Decimal", "type = \"decimal(10,2)\"", "12.50", "12.50"),
    (
        "Django REST framework, Decimal",
        "type = \"decimal(10,2)\"",
        "\"12.50\"",
        "12.50",
    ),
    ("Pydantic 2, Decimal", "type = \"decimal(10,2)\"", "\"12.50\"", "12.50"),
    ("Pydantic 2, timedelta", "type = \"string\"", "\"PT1H30M\"", "PT1H30M"),
    ("Pydantic 2, bytes", "type = \"string\"", "\"abc\"", "abc"),
    // JavaScript: `JSON.stringify` (ECMA-262, 25.5.2).
    ("JavaScript, number", "type = \"integer\"", "2024", "2024"),
    (
        "JavaScript, number from 1e21 on",
        "type = \"double\"",
        "1e+21",
        "1000000000000000000000",
    ),
    (
        "JavaScript, number below 1e-6",
        "type = \"double\"",
        "1e-7",
        "0.0000001",
    ),
    ("JavaScript, -0", "type = \"integer\"", "0", "0"),
    (
        "JavaScript, NaN and Infinity",
        "type = \"double\"\nnullable = true",
        "null",
        "null",
    ),
    (
        "JavaScript, Date",
        "type = \"timestamp\"",
        "\"2026-01-02T03:04:05.678Z\"",
        "2026-01-02T03:04:05.678000",
    ),
    (
        "JavaScript, Date of the year 12026",
        "type = \"timestamp\"",
        "\"+012026-01-02T03:04:05.678Z\"",
        "!bad_timestamp",
    ),
    (
        "JavaScript, Temporal.Instant",
        "type = \"timestamp\"",
        "\"2026-01-02T03:04:05.678901234Z\"",
        "2026-01-02T03:04:05.678901",
    ),
    (
        "JavaScript, Temporal.ZonedDateTime",
        "type = \"timestamp\"",
        "\"2026-01-02T04:04:05+01:00[Europe/Paris]\"",
        "2026-01-02T03:04:05.000000",
    ),
    (
        "JavaScript, Temporal.PlainDate",
        "type = \"date\"",
        "\"2026-01-02\"",
        "2026-01-02",
    ),
    (
        "JavaScript, Temporal.PlainTime",
        "type = \"time\"",
        "\"03:04:05.678\"",
        "03:04:05.678000",
    ),
    (
        "JavaScript, Date.now()",
        "type = \"timestamp\"\nepoch = \"ms\"",
        "1767323045678",
        "2026-01-02T03:04:05.678000",
    ),
    (
        "JavaScript, half a surrogate pair",
        "type = \"string\"",
        "\"\\ud83d\"",
        "!lone_surrogate",
    ),
    (
        "JavaScript, decimal.js",
        "type = \"decimal(10,2)\"",
        "\"12.5\"",
        "12.50",
    ),
    (
        "JavaScript, Buffer",
        "type = \"binary\"",
        "{\"type\":\"Buffer\",\"data\":[0,255]}",
        "!wrong_type",
    ),
    (
        "JavaScript, Buffer",
        "type = \"json\"",
        "{\"type\":\"Buffer\",\"data\":[0,255]}",
        "{\"type\":\"Buffer\",\"data\":[0,255]}",
    ),
    // Java: Jackson 2 with its modules for java.time, and 3.
    ("Jackson, int", "type = \"integer\"", "2024", "2024"),
    ("Jackson, double that is whole", "type = \"integer\"", "2024.0", "2024"),
    ("Jackson, large double", "type = \"long\"", "1.0E10", "10000000000"),
    ("Jackson, BigDecimal", "type = \"decimal(10,2)\"", "12.50", "12.50"),
    (
        "Jackson, BigDecimal with an exponent",
        "type = \"decimal(10,2)\"",
        "1.25E+3",
        "1250.00",
    ),
    (
        "Jackson, NaN",
        "type = \"double\"\nnullable = true",
        "\"NaN\"",
        "!wrong_type",
    ),
    (
        "Jackson, NaN",
        "type = \"double\"\nnullable = true\nnulls = [\"NaN\"]",
        "\"NaN\"",
        "null",
    ),
    ("Jackson, byte[]", "type = \"binary\"", "\"AP8=\"", "00ff"),
    (
        "Jackson 2, Date",
        "type = \"timestamp\"\nepoch = \"ms\"",
        "1767323045678",
        "2026-01-02T03:04:05.678000",
    ),
    (
        "Jackson 3, Date",
        "type = \"timestamp\"",
        "\"2026-01-02T03:04:05.678+00:00\"",
        "2026-01-02T03:04:05.678000",
    ),
    (
        "Jackson 2, Instant",
        "type = \"timestamp\"\nepoch = \"s\"",
        "1767323045.678000000",
        "2026-01-02T03:04:05.678000",
    ),
    ("Jackson 2, LocalDate", "type = \"date\"", "[2026,1,2]", "2026-01-02"),
    (
        "Jackson 2, LocalDateTime",
        "type = \"timestamp\"",
        "[2026,1,2,3,4,5,678901234]",
        "2026-01-02T03:04:05.678901",
    ),
    (
        "Jackson 2, LocalDateTime of a full minute",
        "type = \"timestamp\"",
        "[2026, 1, 2, 3, 4]",
        "2026-01-02T03:04:00.000000",
    ),
    (
        "Jackson 2, LocalTime",
        "type = \"time\"",
        "[3,4,5,678000000]",
        "03:04:05.678000",
    ),
    (
        "Jackson 2, LocalTime of a full minute",
        "type = \"time\"",
        "[3,4]",
        "03:04:00.000000",
    ),
    ("Jackson 2, no such day", "type = \"date\"", "[2026,2,30]", "!bad_date"),
    (
        "Jackson 2, too few parts",
        "type = \"timestamp\"",
        "[2026,1,2]",
        "!wrong_type",
    ),
    (
        "java.time, LocalDateTime of a full minute",
        "type = \"timestamp\"",
        "\"2026-01-02T03:04\"",
        "2026-01-02T03:04:00.000000",
    ),
    (
        "java.time, ZonedDateTime",
        "type = \"timestamp\"",
        "\"2026-01-02T03:04:05Z[UTC]\"",
        "2026-01-02T03:04:05.000000",
    ),
    ("Jackson, enum", "type = \"string\"", "\"RED\"", "RED"),
    ("Jackson, Map", "type = \"map<string, integer>\"", "{\"a\":1}", "{a:1}"),
    // Go: encoding/json.
    ("Go, float64 that is whole", "type = \"integer\"", "2024", "2024"),
    (
        "Go, float64 from 1e21 on",
        "type = \"double\"",
        "1e+21",
        "1000000000000000000000",
    ),
    (
        "Go, string",
        "type = \"string\"",
        "\"\\u003ca\\u0026b\\u003e\"",
        "<a&b>",
    ),
    ("Go, []byte", "type = \"binary\"", "\"AP8=\"", "00ff"),
    ("Go, nil []byte", "type = \"binary\"\nnullable = true", "null", "null"),
    (
        "Go, nil slice",
        "type = \"array<double>\"\nnullable = true",
        "null",
        "null",
    ),
    (
        "Go, time.Time",
        "type = \"timestamp\"",
        "\"2026-01-02T03:04:05.678901234+01:00\"",
        "2026-01-02T02:04:05.678901",
    ),
    (
        "Go, time.Time zero",
        "type = \"timestamp\"",
        "\"0001-01-01T00:00:00Z\"",
        "0001-01-01T00:00:00.000000",
    ),
    (
        "Go, shopspring decimal",
        "type = \"decimal(10,2)\"",
        "\"12.5\"",
        "12.50",
    ),
    ("Go, `json:\",string\"`", "type = \"long\"", "\"5\"", "!wrong_type"),
    (
        "Go, `json:\",string\"`",
        "type = \"long\"\nin_text = true",
        "\"5\"",
        "5",
    ),
    // .NET: System.Text.Json and Newtonsoft.Json.
    (".NET, decimal", "type = \"decimal(10,2)\"", "12.50", "12.50"),
    (".NET, double", "type = \"double\"", "1E+16", "10000000000000000"),
    (
        "Newtonsoft, double that is whole",
        "type = \"integer\"",
        "2024.0",
        "2024",
    ),
    (
        ".NET, string",
        "type = \"string\"",
        "\"na\\u00EFve \\u0022\\u002B\\u0022\"",
        "naïve \"+\"",
    ),
    (".NET, byte[]", "type = \"binary\"", "\"\\u002B/\\u002B/\"", "fbffbf"),
    (
        ".NET, DateTime",
        "type = \"timestamp\"",
        "\"2026-01-02T03:04:05.6789012\"",
        "2026-01-02T03:04:05.678901",
    ),
    (
        ".NET, DateTimeOffset",
        "type = \"timestamp\"",
        "\"2026-01-02T03:04:05.6789012+01:00\"",
        "2026-01-02T02:04:05.678901",
    ),
    (".NET, DateOnly", "type = \"date\"", "\"2026-01-02\"", "2026-01-02"),
    (
        ".NET, TimeOnly",
        "type = \"time\"",
        "\"03:04:05.6789012\"",
        "03:04:05.678901",
    ),
    (".NET, enum", "type = \"string\"", "3", "!wrong_type"),
    // Protocol buffers' JSON mapping.
    (
        "protobuf, int64",
        "type = \"long\"\nin_text = true",
        "\"9007199254740993\"",
        "9007199254740993",
    ),
    (
        "protobuf, Timestamp",
        "type = \"timestamp\"",
        "\"2026-01-02T03:04:05.678901Z\"",
        "2026-01-02T03:04:05.678901",
    ),
];

#[test]
fn what_serializers_write_by_default() {
    for (writer, lines, value, expected) in WRITTEN {
        let found = outcome(&stream_of(lines), value);
        let shown = found
            .as_ref()
            .map_or_else(|(class, _)| format!("!{class}"), Clone::clone);
        assert_eq!(shown, expected, "{writer}: {lines}: {value}: {found:?}");
    }
}

/// A null is one by any type that may be null, and a byte order mark says nothing: the table's general lines.
#[test]
fn a_null_is_taken_by_every_type() {
    for field_type in model::FieldType::PLAIN.iter().map(ToString::to_string).chain([
        "decimal(5,2)".to_owned(),
        "array<date>".to_owned(),
        "map<string, time>".to_owned(),
        "struct<a: json>".to_owned(),
    ]) {
        let stream = stream_of(&format!("type = \"{field_type}\"\nnullable = true"));
        assert_eq!(outcome(&stream, "null").as_deref(), Ok("null"), "{field_type}");
        let required = stream_of(&format!("type = \"{field_type}\""));
        assert_eq!(
            outcome(&required, "null").unwrap_err().0,
            "missing_field",
            "{field_type}"
        );
    }
}

/// Python's own serializers, run for it.
#[test]
fn what_python_writes_now() {
    let python = std::env::var("SMARTCITY_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/python/serializers.py");
    let run = Command::new(&python).arg(script).output();
    let Some(run) = run.ok().filter(|run| run.status.success()) else {
        crate::skip::skip("Python with orjson (name it in SMARTCITY_PYTHON)");
        return;
    };
    let text = String::from_utf8(run.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() > 30, "{text}");
    for line in lines {
        let [case, field_type, value] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let stream = stream_of(&format!("type = \"{field_type}\"\nnullable = true"));
        let found = outcome(&stream, value);
        match case {
            // It is not JSON; `allow_nan=False` makes Python say so.
            "json NaN" => assert_eq!(found.unwrap_err().0, "not_json"),
            _ => assert!(found.is_ok(), "{line}: {found:?}"),
        }
    }
}
