//! Every mistake names its place, and all of a file come at once.

use super::*;
use crate::{Encoding, EpochUnit};

const GOOD: &str = r#"name = "parking_data"
description = "Free places."
key = "device_id"
event_time = "timestamp"

[[field]]
name = "device_id"
type = "string"
doc = "The car park."

[[field]]
name = "timestamp"
type = "timestamp"
doc = "When it was counted."

[[field]]
name = "free"
type = "integer"
min = 0
max = 5000
from = ["free", "places.free"]
doc = "Free places."
"#;

#[test]
fn a_good_declaration() {
    let stream = Stream::parse("parking_data.toml", GOOD).unwrap();
    assert_eq!((stream.topic.as_str(), stream.fields.len()), ("parking_data", 3));
    assert_eq!(stream.fields[2].from[1].to_string(), "places.free");
    assert_eq!(stream.event_time_index(), 1);
}

#[test]
fn every_mistake_names_its_place() {
    for (from, to, says) in [
        (
            r#"type = "integer""#,
            r#"type = "int""#,
            "p.toml:18: field `free`: unknown type `int`; known are string",
        ),
        (
            "min = 0",
            "min = 9000",
            "p.toml:19: field `free`: min 9000 is above max 5000",
        ),
        (
            "min = 0",
            "minimum = 0",
            "p.toml:19: field `free`: unknown key `minimum`; known are name, type",
        ),
        (
            r#""places.free""#,
            r#""places..free""#,
            "p.toml:21: field `free`: path `places..free`: a key is empty",
        ),
        (
            r#""places.free""#,
            r#""timestamp""#,
            "p.toml:21: field `free`: `from` place `timestamp` is already taken",
        ),
        (
            r#"event_time = "timestamp""#,
            r#"event_time = "time""#,
            "p.toml:4: field `time`: named as event_time",
        ),
        (
            r#"key = "device_id""#,
            "format = \"jason\"\nkey = \"device_id\"",
            "p.toml:3: unknown format `jason`, did you mean `json`?; known are json",
        ),
        (r#"name = "parking_data""#, "", "p.toml:1: `name` is missing"),
        (
            r#"name = "free""#,
            r#"name = "Free""#,
            "p.toml:17: field `Free`: field name `Free`: use a to z",
        ),
        (
            r#"name = "free""#,
            r#"name = "event_date""#,
            "p.toml:17: field `event_date`: this name belongs to",
        ),
        (
            r#"name = "free""#,
            r#"name = "device_id""#,
            "p.toml:17: field `device_id`: declared twice",
        ),
        (
            r#"doc = "Free places.""#,
            r#"doc = " ""#,
            "p.toml:22: field `free`: doc is empty: write it or leave the line out",
        ),
        ("max = 5000", "max = ", "p.toml:20: "),
        (
            "min = 0\nmax = 5000",
            "min = 0.2\nmax = 0.8",
            "p.toml:19: field `free`: no integer is within these bounds",
        ),
        (
            "max = 5000",
            "max = -2147483649\n",
            "p.toml:19: field `free`: min 0 is above max",
        ),
        (
            "min = 0\nmax = 5000",
            "min = 2147483648",
            "p.toml:19: field `free`: no integer is within these bounds",
        ),
        (
            r#"name = "parking_data""#,
            r#"name = "dead_letters""#,
            "p.toml:1: stream name `dead_letters` belongs to a table that every lake has",
        ),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from} is not there");
        let error = Stream::parse("p.toml", &text).unwrap_err().to_string();
        assert!(error.starts_with(says), "wanted {says}\n   got {error}");
    }
}

const ELEMENTS: &str = r#"name = "meter_data"
description = "Readings."
key = "device_id"
event_time = "timestamp"
elements = "readings[*]"

[[field]]
name = "device_id"
type = "string"
doc = "The meter."

[[field]]
name = "timestamp"
type = "timestamp"
from = ["readings[*].at", "sent"]
doc = "When it was read."

[[field]]
name = "energy"
type = "double"
from = ["readings[*].energy"]
doc = "Energy."
"#;

#[test]
fn a_stream_with_elements() {
    let stream = Stream::parse("m.toml", ELEMENTS).unwrap();
    let elements = stream.elements.as_ref().unwrap();
    assert_eq!(
        (elements.path.to_string().as_str(), elements.max),
        ("readings[*]", ELEMENTS_MAX)
    );
    let nullable = ELEMENTS.replace("doc = \"Energy.\"", "nullable = true");
    let flat = Stream::parse("m.toml", &nullable)
        .unwrap()
        .with_nullable_fields()
        .unwrap();
    assert_eq!((flat.elements, flat.event_time, flat.fields.len()), (None, None, 3));
    assert_eq!(flat.fields[2].from[0].to_string(), "readings[0].energy");
    let types: Vec<_> = flat
        .fields
        .iter()
        .map(|field| (&field.field_type, field.nullable))
        .collect();
    let json = (&FieldType::Json, true);
    assert_eq!(types, [json, json, (&FieldType::Double, true)]);
    let records = nullable
        .replace("readings[*]", "[*]")
        .replace("from = [\"[*].at\", \"sent\"]", "from = [\"[*].at\"]")
        .replace(
            "name = \"device_id\"\n",
            "name = \"device_id\"\nfrom = [\"[*].device_id\"]\n",
        );
    let records = Stream::parse("m.toml", &records).unwrap();
    assert!(matches!(records.plan(), PathNode::Elements(_)));
    assert_eq!(
        records.with_nullable_fields().unwrap().fields[2].from[0].to_string(),
        "energy"
    );
}

#[test]
fn every_mistake_about_elements_names_its_place() {
    for (from, to, says) in [
        (
            "readings[*]\"\n\n",
            "readings\"\n\n",
            "m.toml:5: elements `readings`: name the array by its keys and end with `[*]`",
        ),
        (
            "readings[*]\"\n\n",
            "a[*].b[*]\"\n\n",
            "m.toml:5: elements `a[*].b[*]`: name the array by its keys and end",
        ),
        (
            "readings[*]\"\n\n",
            "a[\"\n\n",
            "m.toml:5: elements: path `a[`: write an array index",
        ),
        (
            "readings[*]\"\n\n",
            "values[*]\"\n\n",
            "m.toml:15: field `timestamp`: `from` place `readings[*].at`: the elements are at `values[*]`",
        ),
        (
            "elements = \"readings[*]\"\n",
            "",
            "m.toml:14: field `timestamp`: `from` place `readings[*].at`: `[*]` needs a line `elements",
        ),
        (
            "readings[*].energy",
            "readings[0].energy",
            "m.toml:21: field `energy`: `from` place `readings[0].energy` lies in the array of the elements: write `readings[*]`",
        ),
        (
            "readings[*].energy",
            "readings.energy",
            "m.toml:21: field `energy`: `from` place `readings.energy` lies in",
        ),
        (
            "readings[*].energy",
            "readings",
            "m.toml:21: field `energy`: `from` place `readings` lies in",
        ),
        (
            "readings[*].energy",
            "readings[*].at",
            "m.toml:21: field `energy`: `from` place `readings[*].at` is already taken",
        ),
        (
            "readings[*].energy",
            "readings[*].a[*]",
            "m.toml:21: field `energy`: `from` place `readings[*].a[*]`: only one `[*]`",
        ),
        (
            "\"\n\n[[field]]\nname = \"device_id\"",
            "\"\nelements_max = 0\n\n[[field]]\nname = \"device_id\"",
            "m.toml:6: elements_max 0: use 1 to 1000000",
        ),
        (
            "elements = \"readings[*]\"",
            "elements_max = 5",
            "m.toml:5: elements_max needs `elements`",
        ),
    ] {
        let text = ELEMENTS.replacen(from, to, 1);
        assert_ne!(text, ELEMENTS, "{from} is not there");
        let error = Stream::parse("m.toml", &text).unwrap_err().to_string();
        assert!(error.starts_with(says), "wanted {says}\n   got {error}");
    }
    let envelope = GOOD.replacen("key =", "elements = \"readings[*]\"\nkey =", 1);
    let error = Stream::parse("p.toml", &envelope).unwrap_err().to_string();
    assert_eq!(
        error,
        "p.toml:3: no field is found in the elements: none is `from` `readings[*]`"
    );
}

#[test]
fn bounds_of_a_long_beyond_its_type() {
    let long = GOOD.replacen(r#"type = "integer""#, r#"type = "long""#, 1);
    let bounded = |bounds: &str| Stream::parse("p.toml", &long.replacen("min = 0\nmax = 5000", bounds, 1));
    for bounds in ["min = 1e300", "max = -1e300", "min = 9223372036854775808.0"] {
        let error = bounded(bounds).unwrap_err();
        assert_eq!(
            error.iter().next().unwrap().message,
            "no long is within these bounds",
            "{bounds}"
        );
    }
    for bounds in [
        "max = 1e300",
        "min = -1e300",
        "min = -9223372036854775808",
        "min = 9223372036854774784",
    ] {
        assert!(bounded(bounds).is_ok(), "{bounds}");
    }
}

#[test]
fn places_have_a_limit() {
    let with = |places: Vec<String>| {
        let places = format!("from = [{}]", places.join(", "));
        Stream::parse(
            "p.toml",
            &GOOD.replacen(r#"from = ["free", "places.free"]"#, &places, 1),
        )
    };
    let keys = |count: usize| (0..count).map(|number| format!("\"k{number}\"")).collect::<Vec<_>>();
    // The other two fields have one each.
    assert!(with(keys(PLACES_MAX - 2)).is_ok());
    let error = with(keys(PLACES_MAX - 1)).unwrap_err();
    let first = error.iter().next().unwrap();
    assert_eq!((first.line, first.field.as_deref()), (21, Some("free")));
    assert!(first.message.contains("4001 places"), "{error}");
    let far = |count: usize| {
        (0..count)
            .map(|number| format!("\"k[1023][{number}]\""))
            .collect::<Vec<_>>()
    };
    assert!(with(far(400)).is_ok());
    let error = with(far(500)).unwrap_err();
    assert!(error.to_string().contains("array elements"), "{error}");
}

#[test]
fn two_streams_do_not_share_a_topic() {
    let other = GOOD.replacen("parking_data\"", "parking_more\"\ntopic = \"parking_data\"", 1);
    let error = Streams::parse([("a.toml", GOOD), ("b.toml", &other)])
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("b.toml:1: stream `parking_more` on topic `parking_data` clashes"),
        "{error}"
    );
}

#[test]
fn texts_key_and_event_time_may_be_left_out() {
    let stream = Stream::parse("s.toml", "name = \"s\"\n[[field]]\nname = \"a\"\ntype = \"string\"\n").unwrap();
    assert_eq!((stream.key.as_deref(), stream.event_time.as_deref()), (None, None));
    assert_eq!((stream.description.as_str(), stream.fields[0].doc.as_str()), ("", ""));
    assert_eq!(stream.event_time_column(), "_kafka_timestamp");
    let schema = stream.arrow_schema();
    assert_eq!(schema.field(stream.event_time_index()).name(), "_kafka_timestamp");
    assert_eq!(schema.field(0).metadata().len(), 0);
    assert_eq!(stream.json_schema().get("description"), None);
    let alone = Stream::parse("s.toml", "name = \"s\"\n").unwrap();
    assert_eq!(alone.arrow_schema().field(0).name(), "event_date");
    let declared = Stream::parse("parking_data.toml", GOOD).unwrap();
    assert_eq!(
        (declared.event_time_column(), declared.event_time_index()),
        ("timestamp", 1)
    );
}

#[test]
fn all_mistakes_of_all_files_come_at_once() {
    let bad = "name = \"Bad\"\ntopik = \"x\"\ndescription = 5\nevent_time = \"at\"\nkey = \"id\"\n\
               elements_max = 3\n\
               [[field]]\nname = \"id\"\ntype = \"int\"\nmin = \"x\"\n\
               [[field]]\ntype = \"string\"\nfrom = \"a\"\n\
               [[field]]\nname = \"n\"\ntype = \"double\"\nmin = 3\nmax = 2\nfrom = [\"a..b\", 7]\nepoch = \"ms\"\n";
    let other = "name = \"other\"\nname = \"twice\"\nx =\n";
    let errors = Streams::parse([("b.toml", bad), ("o.toml", other), ("p.toml", GOOD)]).unwrap_err();
    let shown: Vec<String> = errors.to_string().lines().map(str::to_owned).collect();
    for says in [
        "b.toml:1: stream name `Bad`: use a to z",
        "b.toml:2: unknown key `topik`, did you mean `topic`?; known are name, description",
        "b.toml:3: `description` must be text in quotes",
        "b.toml:4: field `at`: named as event_time, but not declared",
        "b.toml:6: elements_max needs `elements`",
        "b.toml:9: field `id`: unknown type `int`",
        "b.toml:11: `name` is missing",
        "b.toml:13: `from` must be a list of texts",
        "b.toml:17: field `n`: min 3 is above max 2",
        "b.toml:19: field `n`: path `a..b`: a key is empty",
        "b.toml:19: field `n`: `from` must be a list of texts",
        "b.toml:20: field `n`: epoch `ms`: use `s`, `ms`, `us` or `ns` with type timestamp",
        "o.toml:2: ",
        "o.toml:3: ",
    ] {
        assert!(
            shown.iter().any(|line| line.starts_with(says)),
            "{says} is not in\n{errors}"
        );
    }
    assert!(!shown.iter().any(|line| line.starts_with("p.toml")), "{errors}");
    // In the order of the files and their lines, none twice.
    let places: Vec<(&str, usize)> = errors.iter().map(|error| (error.file.as_str(), error.line)).collect();
    assert!(places.is_sorted(), "{places:?}");
    let distinct: std::collections::BTreeSet<&String> = shown.iter().collect();
    assert_eq!(distinct.len(), shown.len(), "{errors}");
}

#[test]
fn how_values_may_be_written() {
    let stream = |field: &str| Stream::parse("s.toml", &format!("name = \"s\"\n[[field]]\nname = \"f\"\n{field}\n"));
    let written = |field: &str| stream(field).unwrap().fields[0].written.clone();
    let number = written(
        "type = \"decimal(10,2)\"\nnullable = true\ndecimal_comma = true\ntrim = true\nnulls = [\"\", \"n/a\"]",
    );
    assert!(number.decimal_comma && number.trim && !number.in_text && !number.is_usual());
    assert_eq!(number.nulls, ["", "n/a"]);
    let time = written(
        "type = \"array<timestamp>\"\nepoch = \"us\"\nformats = [\"%d.%m.%Y\", \"%s%d%m%Y\"]"
            .replace("%s", "")
            .as_str(),
    );
    assert_eq!((time.epoch, time.formats.len()), (Some(EpochUnit::Microseconds), 2));
    assert_eq!(written("type = \"binary\"\nencoding = \"hex\"").encoding, Encoding::Hex);
    assert!(written("type = \"json\"\nfrom = [\"$\"]").is_usual());
    for (field, says) in [
        (
            "type = \"string\"\nin_text = true",
            "s.toml:5: field `f`: `in_text` needs a number type or boolean, not string",
        ),
        (
            "type = \"boolean\"\ndecimal_comma = true",
            "s.toml:5: field `f`: `decimal_comma` needs a number type",
        ),
        (
            "type = \"json\"\ntrim = true",
            "s.toml:5: field `f`: `trim` needs a type whose values may come as text",
        ),
        (
            "type = \"long\"\nnulls = [\"\"]",
            "s.toml:5: field `f`: `nulls` are texts that mean null: they need `nullable",
        ),
        (
            "type = \"long\"\nnullable = true\ntrim = true\nnulls = [\" -\"]",
            "s.toml:7: field `f`: `nulls` \" -\" has white space",
        ),
        (
            "type = \"date\"\nformats = [\"%H:%M\"]",
            "s.toml:5: field `f`: format `%H:%M` has no date",
        ),
        (
            "type = \"time\"\nformats = [\"%Y-%m-%d\"]",
            "s.toml:5: field `f`: format `%Y-%m-%d` has no time",
        ),
        (
            "type = \"date\"\nformats = [\"%Q\"]",
            "s.toml:5: field `f`: format `%Q`: use %Y",
        ),
        (
            "type = \"long\"\nformats = [\"%Y-%m-%d\"]",
            "s.toml:5: field `f`: `formats` needs type timestamp, date or time",
        ),
        (
            "type = \"date\"\nepoch = \"ms\"",
            "s.toml:5: field `f`: epoch `ms`: use `s`",
        ),
        (
            "type = \"timestamp\"\nepoch = \"d\"",
            "s.toml:5: field `f`: epoch `d`: use `s`",
        ),
        (
            "type = \"timestamp\"\nepoch = \"millis\"",
            "s.toml:5: field `f`: unknown epoch `millis`; known are s, ms",
        ),
        (
            "type = \"string\"\nencoding = \"hex\"",
            "s.toml:5: field `f`: `encoding` needs type binary",
        ),
        (
            "type = \"binary\"\nencoding = \"b64\"",
            "s.toml:5: field `f`: unknown encoding `b64`; known are base64, hex",
        ),
        (
            "type = \"binary\"\ntrim = \"yes\"",
            "s.toml:5: field `f`: `trim` must be true or false",
        ),
        (
            "type = \"string\"\nfrom = [\"$\"]",
            "s.toml:5: field `f`: `from` place `$` is the whole message: it needs type json",
        ),
        (
            "type = \"json\"\nfrom = [\"$\", \"a\"]",
            "s.toml:5: field `f`: `from` place `$` is the whole message: no other",
        ),
        (
            "type = \"json\"\nfrom = [\"$\"]\n[[field]]\nname = \"g\"\ntype = \"json\"\nfrom = [\"$\"]",
            "s.toml:9: field `g`: `from` place `$` is field `f` already",
        ),
    ] {
        let errors = stream(field).unwrap_err().to_string();
        assert!(
            errors.lines().any(|line| line.starts_with(says)),
            "wanted {says}\n   got {errors}"
        );
    }
}

#[test]
fn columns_of_every_type() {
    let types = [
        ("decimal(10,2)", "Decimal128(10, 2)"),
        ("date", "Date32"),
        ("time", "Utf8"),
        ("binary", "Binary"),
        ("json", "Utf8"),
    ];
    for (declared, arrow) in types {
        assert_eq!(FieldType::parse(declared).unwrap().arrow().to_string(), arrow);
    }
    let nested = FieldType::parse("array<struct<a: map<string, date>>>")
        .unwrap()
        .arrow()
        .to_string();
    assert!(
        nested.contains("Struct") && nested.contains("Map") && nested.contains("Date32"),
        "{nested}"
    );
}
