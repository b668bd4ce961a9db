//! Messages whose elements become rows, against what `serde_json` and the declaration say.

use std::collections::BTreeSet;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use codec::{DecodeCounts, DecodeLimits, Decoder};
use model::{Chunk, ChunkBuilder, DeadLetter, OffsetElement, Stream, TopicPartition, event_time};
use proptest::prelude::*;
use serde_json::{Value, json};

const DECLARATION: &str = r#"
name = "meter_data"
description = "Readings of many meters in one message."
key = "device_id"
event_time = "timestamp"
elements = "data.readings[*]"
elements_max = 20

[[field]]
name = "device_id"
type = "string"
doc = "The gateway."

[[field]]
name = "timestamp"
type = "timestamp"
from = ["data.readings[*].at"]
doc = "When it was read."

[[field]]
name = "energy"
type = "double"
min = 0
from = ["data.readings[*].energy", "data.readings[*].values[0]"]
doc = "Energy."

[[field]]
name = "site"
type = "integer"
nullable = true
from = ["data.site"]
doc = "Beside the elements."
"#;

fn stream() -> Stream {
    Stream::parse("meter_data.toml", DECLARATION).unwrap()
}

fn chunk<R: AsRef<[u8]>>(messages: &[R]) -> Chunk {
    let mut builder = ChunkBuilder::new(TopicPartition::new("meters", 3), 0);
    for (offset, message) in (0..).zip(messages) {
        builder.push(offset, 5, Some(b"key"), Some(message.as_ref()), []);
    }
    builder.finish(messages.len() as i64)
}

struct Decoded {
    batch: Option<RecordBatch>,
    dead_letters: Vec<DeadLetter>,
    counts: DecodeCounts,
}

fn decode_by<R: AsRef<[u8]>>(
    stream: &Stream,
    limits: DecodeLimits,
    dead_lettered: &BTreeSet<OffsetElement>,
    messages: &[R],
) -> Decoded {
    let mut decoder = Decoder::with_limits(stream, limits);
    let mut dead_letters = Vec::new();
    let counts = decoder.decode(&chunk(messages), dead_lettered, 77, &mut dead_letters);
    let batch = decoder.take();
    assert_eq!(counts.records, messages.len());
    assert_eq!(counts.rows, batch.as_ref().map_or(0, RecordBatch::num_rows));
    assert_eq!(counts.dead_letters, dead_letters.len());
    Decoded {
        batch,
        dead_letters,
        counts,
    }
}

fn decode<R: AsRef<[u8]>>(messages: &[R]) -> Decoded {
    decode_by(&stream(), DecodeLimits::default(), &BTreeSet::new(), messages)
}

impl Decoded {
    /// Offset and element of each row.
    fn rows(&self) -> Vec<(i64, i32)> {
        let Some(batch) = &self.batch else { return Vec::new() };
        let offsets = batch["_offset"].as_primitive::<Int64Type>();
        let elements = batch["_element"].as_primitive::<Int32Type>();
        assert_eq!(elements.null_count(), 0);
        offsets
            .values()
            .iter()
            .copied()
            .zip(elements.values().iter().copied())
            .collect()
    }

    fn dead(&self) -> Vec<(i64, Option<u32>, &str)> {
        let dead = self.dead_letters.iter();
        dead.map(|letter| (letter.offset, letter.element, letter.error_class))
            .collect()
    }

    fn extra(&self) -> Vec<Option<&str>> {
        self.batch.as_ref().unwrap()["_extra"]
            .as_string::<i32>()
            .iter()
            .collect()
    }
}

fn message(readings: &str) -> String {
    format!(r#"{{"device_id":"gw-1","data":{{"site":7,"readings":{readings}}}}}"#)
}

const GOOD: &str = r#"{"at":"2026-01-01T00:00:00","energy":1.5}"#;

#[test]
fn each_element_is_a_row_with_the_envelope() {
    let second = r#"{"energy":2.5,"at":"2026-01-01T00:00:01"}"#;
    let decoded = decode(&[
        message(&format!("[{GOOD}, {second}]")),
        message("[]"),
        message(&format!("[{GOOD}]")),
    ]);
    assert_eq!(decoded.rows(), [(0, 0), (0, 1), (2, 0)]);
    assert_eq!(decoded.dead(), []);
    let batch = decoded.batch.as_ref().unwrap();
    let devices: Vec<_> = batch["device_id"].as_string::<i32>().iter().flatten().collect();
    assert_eq!(devices, ["gw-1"; 3]);
    assert_eq!(batch["site"].as_primitive::<Int32Type>().values(), &[7, 7, 7]);
    assert_eq!(batch["energy"].as_primitive::<Float64Type>().values(), &[1.5, 2.5, 1.5]);
    let topics: Vec<_> = batch["_topic"].as_string::<i32>().iter().flatten().collect();
    assert_eq!(topics, ["meters"; 3]);
    assert_eq!(decoded.counts.elements(), 3);
    assert_eq!(decoded.extra(), [None; 3]);
}

#[test]
fn a_bad_element_costs_its_neighbours_nothing() {
    let bad = [
        (r#"{"at":"2026-01-01T00:00:00"}"#, "missing_field"),
        (r#"{"at":"yesterday","energy":1}"#, "bad_timestamp"),
        (r#"{"at":"2026-01-01T00:00:00","energy":-1}"#, "out_of_range"),
        (r#"{"at":"2026-01-01T00:00:00","energy":1,"energy":2}"#, "duplicate_key"),
        (
            r#"{"at":"2026-01-01T00:00:00","energy":1,"x":"\ud800"}"#,
            "lone_surrogate",
        ),
        ("null", "not_an_object"),
        ("[1]", "not_an_object"),
        ("12", "not_an_object"),
    ];
    for (bad, class) in bad {
        let text = message(&format!("[{GOOD},{bad},{GOOD}]"));
        let decoded = decode(&[&text]);
        assert_eq!(decoded.rows(), [(0, 0), (0, 2)], "{bad}");
        assert_eq!(decoded.dead(), [(0, Some(1), class)], "{bad}");
        let letter = &decoded.dead_letters[0];
        assert_eq!(letter.value.as_deref(), Some(text.as_bytes()), "the whole message");
        assert_eq!(letter.id().to_string(), "meters[3] offset 0 element 1");
        assert_eq!(decoded.counts.elements(), 3);
    }
}

#[test]
fn a_bad_message_is_one_dead_letter() {
    let cases = [
        (message("null"), "no_elements"),
        (message("{}"), "no_elements"),
        (message("12"), "no_elements"),
        (r#"{"device_id":"gw-1","data":{"site":7}}"#.to_owned(), "no_elements"),
        (r#"{"device_id":"gw-1"}"#.to_owned(), "no_elements"),
        (r#"{"device_id":"gw-1","data":[]}"#.to_owned(), "no_elements"),
        (message(&format!("[{GOOD},{GOOD}")), "not_json"),
        (message(&format!("[{GOOD},{GOOD},]")), "not_json"),
        (message(&format!("[{GOOD} {GOOD}]")), "not_json"),
        (message(&format!("[{GOOD},{{\"at\":}}]")), "not_json"),
        (
            message(&format!("[{GOOD}]")).replace("\"gw-1\"", "null"),
            "missing_field",
        ),
        (message(&format!("[{GOOD}]")).replace(":7,", ":\"7\","), "wrong_type"),
        (message(&format!("[{GOOD}],\"readings\":[]")), "duplicate_key"),
        (message(&format!("[{}]", [GOOD; 21].join(","))), "too_many_elements"),
        (
            message(&format!("[{GOOD},{}{}]", "[".repeat(200), "]".repeat(200))),
            "too_deep",
        ),
        (format!("[{GOOD}]"), "not_an_object"),
        (String::new(), "empty"),
    ];
    for (text, class) in cases {
        let decoded = decode(&[text.clone(), message(&format!("[{GOOD}]"))]);
        assert_eq!(decoded.dead(), [(0, None, class)], "{text}");
        assert_eq!(decoded.rows(), [(1, 0)], "{text}");
    }
    let many = decode(&[message(&format!("[{}]", [GOOD; 20].join(",")))]);
    assert_eq!(many.rows().len(), 20);
}

#[test]
fn extra_has_the_messages_shape_with_one_element() {
    let reading = |more: &str| format!(r#"{{"at":"2026-01-01T00:00:00","energy":1{more}}}"#);
    let extra = |text: String| {
        let decoded = decode(&[text]);
        let extra = decoded.extra();
        extra
            .into_iter()
            .map(|text| text.map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let some = |text: &str| Some(text.to_owned());
    let two = format!("[{},{}]", reading(""), reading(r#", "unit" : "C""#));
    assert_eq!(
        extra(message(&two)),
        [None, some(r#"{"data":{"readings":[{"unit":"C"}]}}"#)]
    );
    let beside = message(&two).replace("\"site\":7,", "\"site\":7,\"x\":[1, 2],");
    assert_eq!(
        extra(beside),
        [
            some(r#"{"data":{"x":[1,2]}}"#),
            some(r#"{"data":{"x":[1,2],"readings":[{"unit":"C"}]}}"#)
        ]
    );
    let around = format!(r#"{{"a":1,"data":{{"readings":{two},"x":0}},"device_id":"d","z":2}}"#);
    assert_eq!(
        extra(around),
        [
            some(r#"{"a":1,"data":{"x":0},"z":2}"#),
            some(r#"{"a":1,"data":{"readings":[{"unit":"C"}],"x":0},"z":2}"#)
        ]
    );
    let last = format!(r#"{{"data":{{"readings":{two}}},"device_id":"d","z":2}}"#);
    assert_eq!(
        extra(last),
        [
            some(r#"{"z":2}"#),
            some(r#"{"data":{"readings":[{"unit":"C"}]},"z":2}"#)
        ]
    );
}

#[test]
fn an_array_of_records_and_arrays_of_values() {
    let text = DECLARATION
        .replace("data.readings[*]", "[*]")
        .replace("\"data.site\"", "\"[*].site\"");
    let text = text.replace(
        "name = \"device_id\"\ntype",
        "name = \"device_id\"\nfrom = [\"[*].id\"]\ntype",
    );
    let records = Stream::parse("s.toml", &text).unwrap();
    let none = BTreeSet::new();
    let one = r#"{"id":"a","at":"2026-01-01T00:00:00","energy":1,"x":2}"#;
    let decoded = decode_by(
        &records,
        DecodeLimits::default(),
        &none,
        &[format!("[{one},{{}}]"), one.to_owned()],
    );
    assert_eq!(decoded.rows(), [(0, 0)]);
    assert_eq!(
        decoded.dead(),
        [(0, Some(1), "missing_field"), (1, None, "no_elements")]
    );
    assert_eq!(decoded.extra(), [Some(r#"{"x":2}"#)]);

    let pairs = DECLARATION
        .replace("\"data.readings[*].at\"", "\"data.readings[*][0]\"")
        .replace(
            "\"data.readings[*].energy\", \"data.readings[*].values[0]\"",
            "\"data.readings[*][1]\"",
        );
    let pairs = Stream::parse("s.toml", &pairs).unwrap();
    let readings = r#"[["2026-01-01T00:00:00",1.5],["2026-01-01T00:00:01",2.5,"C"],{},["2026-01-01T00:00:00"]]"#;
    let decoded = decode_by(&pairs, DecodeLimits::default(), &none, &[message(readings)]);
    assert_eq!(decoded.rows(), [(0, 0), (0, 1)]);
    assert_eq!(
        decoded.dead(),
        [(0, Some(2), "wrong_type"), (0, Some(3), "missing_field")]
    );
    assert_eq!(
        decoded.extra(),
        [None, Some(r#"{"data":{"readings":[[null,null,"C"]]}}"#)]
    );

    let values = DECLARATION.replace("\"data.readings[*].at\"", "\"sent\"").replace(
        "\"data.readings[*].energy\", \"data.readings[*].values[0]\"",
        "\"data.readings[*]\"",
    );
    let values = Stream::parse("s.toml", &values).unwrap();
    let text = message("[1, 2.5, \"x\", null]").replacen('{', r#"{"sent":"2026-01-01T00:00:00","#, 1);
    let decoded = decode_by(&values, DecodeLimits::default(), &none, &[text]);
    assert_eq!(decoded.rows(), [(0, 0), (0, 1)]);
    assert_eq!(
        decoded.dead(),
        [(0, Some(2), "wrong_type"), (0, Some(3), "missing_field")]
    );
}

#[test]
fn a_field_may_be_the_elements_or_the_messages() {
    let text = DECLARATION.replace("\"data.readings[*].at\"", "\"data.readings[*].at\", \"sent\"");
    let mixed = Stream::parse("s.toml", &text).unwrap();
    let with = |sent: &str| message(&format!(r#"[{GOOD},{{"energy":2}}]"#)).replacen('{', &format!("{{{sent}"), 1);
    let sent = with(r#""sent":"2026-02-02T00:00:00","#);
    let decoded = decode_by(
        &mixed,
        DecodeLimits::default(),
        &BTreeSet::new(),
        &[sent.clone(), sent, with("")],
    );
    assert_eq!(decoded.rows(), [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]);
    assert_eq!(decoded.dead(), [(2, Some(1), "missing_field")]);
    let days = &decoded.batch.as_ref().unwrap()["event_date"];
    let days: Vec<_> = days.as_primitive::<arrow_array::types::Date32Type>().values().to_vec();
    assert_eq!((days[0], days[2]), (days[4], days[4]));
    assert_eq!(days[1] - days[0], 32);
    // Whether it counts differs from row to row, so every row says what the message had.
    let extra = Some(r#"{"sent":"2026-02-02T00:00:00"}"#);
    assert_eq!(decoded.extra(), [extra, extra, extra, extra, None]);
}

#[test]
fn what_was_dead_lettered_stays_so() {
    let text = message(&format!("[{GOOD},{GOOD},{{}}]"));
    let run = |dead_lettered: &[OffsetElement]| {
        decode_by(
            &stream(),
            DecodeLimits::default(),
            &dead_lettered.iter().copied().collect(),
            &[&text],
        )
    };
    let element = run(&[(0, Some(1))]);
    assert_eq!(
        (element.rows(), element.dead()),
        (vec![(0, 0)], vec![(0, Some(2), "missing_field")])
    );
    assert_eq!((element.counts.dead_lettered, element.counts.elements()), (1, 3));
    let whole = run(&[(0, None)]);
    assert_eq!((whole.rows(), whole.dead()), (vec![], vec![]));
    assert_eq!((whole.counts.dead_lettered, whole.counts.elements()), (1, 1));

    // Another declaration takes the message, of which an element is a dead letter already, for bad: no element has two.
    let bad = text.replace("\"gw-1\"", "7");
    let known = [(0, Some(1))].into();
    let others = decode_by(&stream(), DecodeLimits::default(), &known, &[bad]);
    assert_eq!(others.dead(), [(0, Some(0), "wrong_type"), (0, Some(2), "wrong_type")]);
    assert_eq!(others.counts.elements(), 3);
}

#[test]
fn many_bad_elements_are_one_dead_letter() {
    let text = message(&format!("[{GOOD},{{}},{{}},{{}},{GOOD}]"));
    let limits = |bytes| DecodeLimits {
        element_letters_bytes_max: bytes,
        ..DecodeLimits::default()
    };
    let after = message(&format!("[{GOOD}]"));
    let run = |bytes| decode_by(&stream(), limits(bytes), &BTreeSet::new(), &[&after, &text, &after]);
    let each = run(text.len() * 3);
    assert_eq!((each.rows().len(), each.dead().len()), (4, 3));
    let one = run(text.len() * 3 - 1);
    assert_eq!(one.rows(), [(0, 0), (2, 0)]);
    assert_eq!(one.dead(), [(1, None, "bad_elements")]);
    // A single one is never too much.
    let single = message("[{}]");
    assert_eq!(
        decode_by(&stream(), limits(0), &BTreeSet::new(), &[single]).dead(),
        [(0, Some(0), "missing_field")]
    );
}

#[test]
fn few_bytes_that_make_many_rows_are_decoded_in_parts() {
    let text = DECLARATION.replace("elements_max = 20", "elements_max = 10000");
    let stream = Stream::parse("s.toml", &text).unwrap();
    let messages = vec![message(&format!("[{}]", [GOOD; 3_000].join(","))); 10];
    let chunk = chunk(&messages);
    let (mut decoder, mut dead_letters) = (Decoder::new(&stream), Vec::new());
    let (mut done, mut rows, mut parts) = (0, 0, 0);
    while done < chunk.len() {
        let counts = decoder.decode_from(done, &chunk, &BTreeSet::new(), 0, &mut dead_letters);
        assert!(counts.records > 0);
        done += counts.records;
        rows += decoder.take().unwrap().num_rows();
        parts += 1;
    }
    assert_eq!((rows, dead_letters.len(), parts), (30_000, 0, 4));
    // What stands beside the elements is repeated in each row, but not without end.
    let long = messages[0].replace("gw-1", &"x".repeat(40_000));
    let decoded = decode_by(&stream, DecodeLimits::default(), &BTreeSet::new(), &[long]);
    assert_eq!(decoded.dead(), [(0, None, "too_large")]);
}

/// What a message is by `serde_json`: an error class, or each element's error class or energy.
fn oracle(text: &str) -> Result<Vec<Result<f64, &'static str>>, &'static str> {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        // Reading ends at the first fault, and a message is cut behind its elements.
        return match oracle(&format!("{text}}}")) {
            Err("too_many_elements") => Err("too_many_elements"),
            _ => Err("not_json"),
        };
    };
    let Some(readings) = value["data"]["readings"].as_array() else {
        return Err("no_elements");
    };
    if readings.len() > 20 {
        return Err("too_many_elements");
    }
    match &value["device_id"] {
        Value::String(_) => {}
        Value::Null => return Err("missing_field"),
        _ => return Err("wrong_type"),
    }
    match &value["data"]["site"] {
        Value::Null => {}
        site if site.as_i64().is_some_and(|site| i32::try_from(site).is_ok()) => {}
        _ => return Err("wrong_type"),
    }
    let element = |element: &Value| {
        if !element.is_object() {
            return Err("not_an_object");
        }
        match &element["at"] {
            Value::Null => return Err("missing_field"),
            Value::String(at) if event_time::parse(at.as_bytes()).is_some() => {}
            Value::String(_) => return Err("bad_timestamp"),
            _ => return Err("wrong_type"),
        }
        let energy = match &element["energy"] {
            Value::Null => element["values"].get(0).unwrap_or(&Value::Null),
            energy => energy,
        };
        match energy {
            Value::Null => Err("missing_field"),
            Value::Number(energy) if energy.as_f64().unwrap() < 0.0 => Err("out_of_range"),
            Value::Number(energy) => Ok(energy.as_f64().unwrap()),
            _ => Err("wrong_type"),
        }
    };
    Ok(readings.iter().map(element).collect())
}

fn a_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => (0_i32..100).prop_map(|value| json!(f64::from(value) / 4.0)),
        1 => Just(json!(-1)),
        1 => Just(Value::Null),
        1 => Just(json!("text")),
        1 => Just(json!({ "a": [1, { "b": "c" }] })),
    ]
}

fn an_element() -> impl Strategy<Value = Value> {
    let at = prop_oneof![
        8 => Just(json!("2026-01-01T00:00:00Z")),
        1 => Just(json!("naïve \"\\ text")),
        1 => Just(json!("soon")),
        1 => Just(Value::Null),
        1 => Just(json!(7)),
    ];
    let object = (
        at,
        a_value(),
        proptest::option::of(a_value()),
        proptest::option::of(a_value()),
        any::<bool>(),
    );
    let object = object.prop_map(|(at, energy, values, more, is_turned)| {
        let mut element = match is_turned {
            true => json!({ "energy": energy, "at": at }),
            false => json!({ "at": at, "energy": energy }),
        };
        if let Some(values) = values {
            element["values"] = json!([values]);
        }
        if let Some(more) = more {
            element["more"] = more;
        }
        element
    });
    prop_oneof![12 => object, 1 => Just(json!(1)), 1 => Just(Value::Null), 1 => Just(json!([]))]
}

fn a_message() -> impl Strategy<Value = String> {
    let readings = prop_oneof![
        10 => proptest::collection::vec(an_element(), 0..6).prop_map(Value::Array),
        1 => proptest::collection::vec(an_element(), 19..23).prop_map(Value::Array),
        1 => Just(Value::Null),
        1 => Just(json!({})),
    ];
    let device = prop_oneof![10 => Just(json!("é \n")), 1 => Just(json!(1)), 1 => Just(Value::Null)];
    let site = prop_oneof![10 => Just(json!(3)), 1 => Just(json!("x")), 2 => Just(Value::Null)];
    let parts = (
        readings,
        device,
        site,
        proptest::option::of(a_value()),
        any::<bool>(),
        0_usize..40,
        any::<bool>(),
    );
    parts.prop_map(|(readings, device, site, more, is_turned, cut, is_spaced)| {
        let mut message = match is_turned {
            true => json!({ "data": { "readings": readings, "site": site }, "device_id": device }),
            false => json!({ "device_id": device, "data": { "site": site, "readings": readings } }),
        };
        if let Some(more) = more {
            message["data"]["more"] = more;
        }
        let mut text = match is_spaced {
            true => serde_json::to_string_pretty(&message).unwrap(),
            false => message.to_string(),
        };
        if cut == 0 {
            text.pop();
        }
        text
    })
}

proptest! {
    #[test]
    fn rows_and_dead_letters_are_the_oracles(messages in proptest::collection::vec(a_message(), 1..8)) {
        // Twice, so that shapes of the first pass meet their like.
        let messages = [messages.as_slice(), messages.as_slice()].concat();
        let general = DecodeLimits { shapes_max: 0, ..DecodeLimits::default() };
        let general = decode_by(&stream(), general, &BTreeSet::new(), &messages);
        let planned = decode(&messages);
        prop_assert_eq!(&general.batch, &planned.batch);
        prop_assert_eq!(&general.dead_letters, &planned.dead_letters);

        let (mut rows, mut dead, mut energies) = (Vec::new(), Vec::new(), Vec::new());
        for (offset, text) in (0..).zip(&messages) {
            match oracle(text) {
                Err(class) => dead.push((offset, None, class)),
                Ok(elements) => {
                    for (index, element) in (0..).zip(elements) {
                        match element {
                            Ok(energy) => {
                                rows.push((offset, index as i32));
                                energies.push(energy);
                            }
                            Err(class) => dead.push((offset, Some(index), class)),
                        }
                    }
                }
            }
        }
        prop_assert_eq!(planned.rows(), rows);
        prop_assert_eq!(planned.dead(), dead);
        if let Some(batch) = &planned.batch {
            prop_assert_eq!(batch["energy"].as_primitive::<Float64Type>().values().as_ref(), energies.as_slice());
            for (row, text) in planned.extra().into_iter().enumerate() {
                let (offset, element) = planned.rows()[row];
                let message: Value = serde_json::from_str(&messages[offset as usize]).unwrap();
                prop_assert_eq!(text.map(|text| serde_json::from_str(text).unwrap()), expected_extra(&message, element));
            }
        }
    }
}

/// What no one declared, of the message and of one element.
fn expected_extra(message: &Value, element: i32) -> Option<Value> {
    let mut rest = message.clone();
    rest.as_object_mut().unwrap().shift_remove("device_id");
    let data = rest["data"].as_object_mut().unwrap();
    data.shift_remove("site");
    let reading = data["readings"][element as usize].as_object_mut().unwrap();
    reading.shift_remove("at");
    let energy = reading.shift_remove("energy").unwrap_or(Value::Null);
    let values = reading.get("values").cloned();
    // Its only value is declared, and kept where it is another than the one that counts.
    let is_said = match (&energy, values.as_ref().map(|values| &values[0])) {
        (_, None | Some(Value::Null)) | (Value::Null, _) => true,
        (energy, Some(value)) => value.is_number() && value.as_f64() == energy.as_f64(),
    };
    if is_said && matches!(values, Some(Value::Array(_))) {
        reading.shift_remove("values");
    }
    let reading = Value::Object(reading.clone());
    match reading.as_object().unwrap().is_empty() {
        true => drop(data.shift_remove("readings")),
        false => data["readings"] = json!([reading]),
    }
    if data.is_empty() {
        rest.as_object_mut().unwrap().shift_remove("data");
    }
    (!rest.as_object().unwrap().is_empty()).then_some(rest)
}
