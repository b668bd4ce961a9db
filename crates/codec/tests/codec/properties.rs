//! What holds for any declaration and any bytes: the planned path validates as the general one does, JSON is what
//! `serde_json` takes for JSON, and every record becomes one row or one letter.

use std::collections::BTreeSet;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use codec::{DecodeCounts, DecodeLimits, Decoder};
use model::{ChunkBuilder, DeadLetter, FieldType, Path, Step, Stream, TopicPartition, event_time};
use proptest::prelude::*;
use serde_json::Value;

/// Numbers from a seed (splitmix64), so that a case comes back from its seed alone.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((bits ^ bits >> 31) % bound as u64) as usize
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

fn decode(
    stream: &Stream,
    shapes_max: usize,
    records: &[Vec<u8>],
) -> (Option<RecordBatch>, Vec<DeadLetter>, DecodeCounts) {
    let mut builder = ChunkBuilder::new(TopicPartition::new("t", 1), 0);
    for (offset, record) in (0..).zip(records) {
        builder.push(offset, 5, None, Some(record), []);
    }
    let chunk = builder.finish(records.len() as i64);
    let limits = DecodeLimits {
        shapes_max,
        ..DecodeLimits::default()
    };
    let mut decoder = Decoder::with_limits(stream, limits);
    let mut letters = Vec::new();
    let counts = decoder.decode(&chunk, &BTreeSet::new(), 0, &mut letters);
    (decoder.take(), letters, counts)
}

/// Places that do not conflict, from which a random declaration takes its own.
const PLACES: [&str; 14] = [
    "a",
    "b",
    "k",
    "c.d",
    "c.e.f",
    "c.e.g",
    "g[0]",
    "g[2]",
    "h[0].x",
    "h[1].y",
    "h[1].z[1]",
    "i",
    "naïve",
    "a b",
];

fn random_stream(random: &mut Random) -> Stream {
    let mut places = PLACES.to_vec();
    let mut text = String::from("name = \"s\"\ndescription = \"d\"\nkey = \"t\"\nevent_time = \"t\"\n");
    text.push_str("[[field]]\nname = \"t\"\ntype = \"timestamp\"\ndoc = \"d\"\n");
    for number in 0..1 + random.below(6) {
        let field_type = FieldType::parse(random.pick(&TYPES)).unwrap();
        let mut from = Vec::new();
        for _ in 0..=random.below(3) {
            if !places.is_empty() {
                let at = random.below(places.len());
                from.push(format!("{:?}", places.swap_remove(at)));
            }
        }
        if from.is_empty() {
            break;
        }
        let is_nullable = !random.one_in(3);
        text.push_str(&format!(
            "[[field]]\nname = \"f{number}\"\ntype = \"{field_type}\"\nnullable = {is_nullable}\nfrom = [{}]\n",
            from.join(", ")
        ));
        match &field_type {
            FieldType::Integer | FieldType::Double | FieldType::Decimal { .. } if random.one_in(2) => {
                text.push_str("min = -5.5\nmax = 100\n");
            }
            FieldType::String if random.one_in(3) => text.push_str("one_of = [\"on\", \"off\", \"é\"]\n"),
            _ => {}
        }
        if random.one_in(3) {
            text.push_str(written(&field_type, is_nullable));
        }
    }
    if random.one_in(4) {
        text.push_str("[[field]]\nname = \"message\"\ntype = \"json\"\nfrom = [\"$\"]\n");
    }
    Stream::parse("s.toml", &text).unwrap()
}

const TYPES: [&str; 14] = [
    "string",
    "integer",
    "long",
    "double",
    "boolean",
    "timestamp",
    "decimal(6,2)",
    "date",
    "time",
    "binary",
    "json",
    "array<double>",
    "map<string, integer>",
    "struct<a: integer, b: array<struct<c: string, d: decimal(20,0)>>>",
];

/// How values of a type may be written, in a declaration.
fn written(field_type: &FieldType, is_nullable: bool) -> &'static str {
    match field_type {
        FieldType::String if is_nullable => "trim = true\nnulls = [\"off\", \"\"]\n",
        FieldType::String => "trim = true\n",
        FieldType::Integer | FieldType::Boolean => "in_text = true\ntrim = true\n",
        FieldType::Double | FieldType::Decimal { .. } => "decimal_comma = true\n",
        FieldType::Timestamp => "epoch = \"ms\"\nformats = [\"%d.%m.%Y\"]\n",
        FieldType::Date => "epoch = \"d\"\nformats = [\"%d.%m.%Y\"]\n",
        FieldType::Binary => "encoding = \"hex\"\n",
        FieldType::Array(_) | FieldType::Map(_) => "nulls = [\"\"]\nin_text = true\n",
        _ => "",
    }
}

/// A message under construction.
enum Tree {
    Raw(String),
    Object(Vec<(String, Tree)>),
    Array(Vec<Tree>),
}

impl Tree {
    fn set(&mut self, steps: &[Step], value: String) {
        let Some((step, rest)) = steps.split_first() else {
            *self = Tree::Raw(value);
            return;
        };
        let child = match step {
            Step::Key(key) => {
                if !matches!(self, Tree::Object(_)) {
                    *self = Tree::Object(Vec::new());
                }
                let Tree::Object(members) = self else { unreachable!() };
                let at = members.iter().position(|(known, _)| known == key).unwrap_or_else(|| {
                    members.push((key.clone(), Tree::Raw("null".to_owned())));
                    members.len() - 1
                });
                &mut members[at].1
            }
            Step::Index(index) => {
                if !matches!(self, Tree::Array(_)) {
                    *self = Tree::Array(Vec::new());
                }
                let Tree::Array(elements) = self else { unreachable!() };
                while elements.len() <= *index {
                    elements.push(Tree::Raw("null".to_owned()));
                }
                &mut elements[*index]
            }
            Step::Each => unreachable!("no such place among these"),
        };
        child.set(rest, value);
    }

    fn write(&self, style: &Style, out: &mut String) {
        let gap = style.gap;
        match self {
            Tree::Raw(text) => out.push_str(text),
            Tree::Object(members) => {
                let mut order: Vec<usize> = (0..members.len()).collect();
                order.rotate_left(style.turn % members.len().max(1));
                out.push('{');
                for (number, at) in order.into_iter().enumerate() {
                    let (key, value) = &members[at];
                    out.push_str(if number > 0 { "," } else { "" });
                    let key = if style.escaped_keys { escaped(key) } else { key.clone() };
                    out.push_str(&format!("{gap}\"{key}\"{gap}:{gap}"));
                    value.write(style, out);
                    out.push_str(gap);
                }
                out.push('}');
            }
            Tree::Array(elements) => {
                out.push('[');
                for (number, element) in elements.iter().enumerate() {
                    out.push_str(if number > 0 { "," } else { "" });
                    out.push_str(gap);
                    element.write(style, out);
                    out.push_str(gap);
                }
                out.push(']');
            }
        }
    }
}

fn escaped(text: &str) -> String {
    text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
}

/// How one producer writes.
struct Style {
    gap: &'static str,
    turn: usize,
    escaped_keys: bool,
    /// Undeclared members and the fields it leaves out.
    more: Vec<(&'static str, &'static str)>,
    without: usize,
    rank: usize,
}

fn random_style(random: &mut Random) -> Style {
    let more = [
        ("x", "1"),
        ("c.q", "[1, {\"a\" : 2}]"),
        ("g[3]", "\"]\""),
        ("y", "null"),
        ("k.deep", "{ }"),
        ("é", "0"),
    ];
    Style {
        gap: random.pick(&["", "", " ", "\n\t"]),
        turn: random.below(4),
        escaped_keys: random.one_in(5),
        more: more.into_iter().filter(|_| random.one_in(4)).collect(),
        without: random.below(20),
        rank: random.below(3),
    }
}

fn random_value(random: &mut Random, field_type: &FieldType) -> String {
    let any = [
        "null",
        "true",
        "1e400",
        "\"\"",
        "[]",
        "{\"a\":[]}",
        "-0",
        "1E5",
        "\"\\ud83d\\ude97\"",
        "99999999999",
    ];
    if random.one_in(20) {
        return random.pick(&any).to_owned();
    }
    if random.one_in(30) {
        let texts = [
            "\" 5\"",
            "\"5,5\"",
            "\"off \"",
            "5.0",
            "1e2",
            "\"01.02.2026\"",
            "[2026,1,2]",
            "\"TRUE\"",
        ];
        return random.pick(&texts).to_owned();
    }
    match field_type {
        FieldType::String => {
            let texts = [
                "on",
                "off",
                "é",
                "\\u00e9",
                "a longer text of more than sixteen bytes",
                "q\\\"q",
                "",
            ];
            format!("\"{}\"", random.pick(&texts))
        }
        FieldType::Integer => (random.below(130) as i64 - 10).to_string(),
        FieldType::Long => (random.below(usize::MAX) as i64).to_string(),
        FieldType::Double => {
            let digits = random.below(60);
            format!(
                "{}{}.{}",
                random.pick(&["-", "", ""]),
                random.below(120),
                random.below(1 << digits)
            )
        }
        FieldType::Boolean => random.pick(&["true", "false"]).to_owned(),
        FieldType::Timestamp => random_time(random),
        FieldType::Decimal { .. } => {
            let quote = random.pick(&["", "", "\""]);
            let decimals = if random.one_in(9) { 1100 } else { 100 };
            format!("{quote}{}.{}{quote}", random.below(100), random.below(decimals))
        }
        FieldType::Date => format!("\"2026-{:02}-{:02}\"", 1 + random.below(12), 1 + random.below(29)),
        FieldType::Time => format!("\"{:02}:{:02}:30.5\"", random.below(25), random.below(60)),
        FieldType::Binary => random
            .pick(&["\"00ff\"", "\"AAEC\"", "\"\"", "\"\\u0041A==\"", "\"0\""])
            .to_owned(),
        FieldType::Json => {
            let mut text = String::new();
            random_json(random, 4, &mut text);
            text
        }
        FieldType::Array(element) => {
            let elements: Vec<String> = (0..random.below(4)).map(|_| random_value(random, element)).collect();
            format!("[{}]", elements.join(random.pick(&[",", " , "])))
        }
        FieldType::Map(value) => {
            let entries = (0..random.below(4)).map(|_| {
                let key = random.pick(&["a", "b", "c", "d", "e", "f", "g", "h", "\\u0068", "é"]);
                format!("\"{key}\":{}", random_value(random, value))
            });
            format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
        }
        FieldType::Struct(members) => {
            let mut parts: Vec<String> = members
                .iter()
                .map(|member| format!("\"{}\" : {}", member.name, random_value(random, &member.field_type)))
                .collect();
            parts.retain(|_| !random.one_in(5));
            if random.one_in(4) {
                parts.push(
                    random
                        .pick(&["\"x\":1", "\"\\u0061\":2", "\"y\":{\"z\":[ ]}"])
                        .to_owned(),
                );
            }
            let turn = random.below(parts.len().max(1));
            parts.rotate_left(turn);
            format!("{{{}}}", parts.join(","))
        }
    }
}

fn random_time(random: &mut Random) -> String {
    let zone = random.pick(&["", "", "Z", "+02:00", ".123456", ".5-0130"]);
    format!(
        "\"2026-{:02}-{:02}T10:{:02}:30{zone}\"",
        1 + random.below(12),
        1 + random.below(28),
        random.below(60)
    )
}

fn random_record(random: &mut Random, stream: &Stream, style: &Style) -> Vec<u8> {
    let mut tree = Tree::Object(Vec::new());
    for (number, field) in stream.fields.iter().enumerate() {
        let value = match number {
            0 => random_time(random),
            _ => random_value(random, &field.field_type),
        };
        if field.is_message() {
            continue;
        }
        if number == 0 || number != style.without {
            // Now and then two places of one field, the better of them null or not.
            let rank = style.rank % field.from.len();
            tree.set(field.from[rank].steps(), value);
            if style.turn == 3 && rank > 0 {
                let value = random_value(random, &field.field_type);
                tree.set(field.from[0].steps(), value);
            }
        }
    }
    for (place, value) in &style.more {
        let place = Path::parse(place).unwrap();
        tree.set(place.steps(), (*value).to_owned());
    }
    let mut text = String::new();
    tree.write(style, &mut text);
    let mut record = text.into_bytes();
    if random.one_in(15) {
        mutate(random, &mut record);
    }
    record
}

/// Changes, drops or adds a few bytes, mostly such as mean something to JSON.
fn mutate(random: &mut Random, record: &mut Vec<u8>) {
    let alphabet = b"{}[]\",:\\ \n\x00\x1f0123456789-+.eEutfnaxd\xff\xc3\xa9/";
    for _ in 0..=random.below(3) {
        let at = random.below(record.len().max(1));
        match random.below(4) {
            0 if !record.is_empty() => record[at] = random.pick(alphabet),
            1 if !record.is_empty() => drop(record.remove(at)),
            2 => record.truncate(at),
            _ => record.insert(at.min(record.len()), random.pick(alphabet)),
        }
    }
}

#[test]
fn random_producers_are_mostly_read_by_shape() {
    let (mut rows, mut by_shape, mut letters) = (0, 0, 0);
    for seed in 0..200 {
        let (stream, records) = random_records(seed);
        let (_, _, counts) = decode(&stream, 4, &records);
        rows += counts.rows;
        letters += counts.dead_letters;
        by_shape += counts.by_shape;
    }
    // Otherwise the comparison of the paths below compares nothing.
    assert!(
        rows > 5_000 && letters > 2_000 && by_shape > rows / 3,
        "{rows} rows, {letters} letters, {by_shape} by shape"
    );
}

fn random_records(seed: u64) -> (Stream, Vec<Vec<u8>>) {
    let random = &mut Random(seed);
    let stream = random_stream(random);
    let styles: Vec<Style> = (0..1 + random.below(6)).map(|_| random_style(random)).collect();
    let records = (0..60)
        .map(|_| {
            let style = &styles[random.below(styles.len())];
            random_record(random, &stream, style)
        })
        .collect();
    (stream, records)
}

/// A declaration whose outcome a `serde_json::Value` foretells.
fn oracle_stream() -> Stream {
    let field = |name: &str, field_type: &str, nullable: bool| {
        format!("[[field]]\nname = \"{name}\"\ntype = \"{field_type}\"\nnullable = {nullable}\ndoc = \"d\"\n")
    };
    let head = "name = \"s\"\ndescription = \"d\"\nkey = \"id\"\nevent_time = \"t\"\n";
    let fields = [
        field("id", "string", true),
        field("t", "timestamp", false),
        field("n", "double", true),
    ];
    Stream::parse(
        "s.toml",
        &format!("{head}{}{}", fields.concat(), field("i", "long", true)),
    )
    .unwrap()
}

/// The class of a valid JSON value by the declaration, or `None` for a row.
fn expected_class(value: &Value) -> Option<&'static str> {
    let Some(members) = value.as_object() else {
        return Some("not_an_object");
    };
    let get = |name: &str| members.get(name).filter(|value| !value.is_null());
    if get("id").is_some_and(|id| !id.is_string()) {
        return Some("wrong_type");
    }
    match get("t") {
        None => return Some("missing_field"),
        Some(Value::String(text)) if event_time::parse(text.as_bytes()).is_some() => {}
        Some(Value::String(_)) => return Some("bad_timestamp"),
        Some(_) => return Some("wrong_type"),
    }
    let n_is_wrong = get("n").is_some_and(|n| !n.is_number());
    let i_is_wrong = get("i").is_some_and(|i| !i.is_i64() && i.as_f64() != Some(1.0));
    (n_is_wrong || i_is_wrong).then_some("wrong_type")
}

fn random_json(random: &mut Random, depth: usize, out: &mut String) {
    let scalars = [
        "null",
        "true",
        "false",
        "0",
        "-0.0",
        "12",
        "-3.25e-2",
        "1E5",
        "9223372036854775807",
        "9223372036854775808",
        "\"\"",
        "\"text\"",
        "\"\\u0041\\n\\ud83d\\ude97\"",
        "\"é🚗\"",
        "0.1234567890123456789",
        "1e-400",
    ];
    let gap = |random: &mut Random| random.pick(&["", "", "", " ", "\r\n\t "]);
    match random.below(if depth > 5 { 1 } else { 4 }) {
        0 | 1 => out.push_str(random.pick(&scalars)),
        2 => {
            out.push('[');
            for number in 0..random.below(4) {
                out.push_str(if number > 0 { "," } else { "" });
                out.push_str(gap(random));
                random_json(random, depth + 1, out);
                out.push_str(gap(random));
            }
            out.push(']');
        }
        _ => {
            let keys = ["a", "b", "\\u0062", "é", "id", "x y", ""];
            out.push('{');
            for number in 0..random.below(4) {
                let (before, key) = (gap(random), random.pick(&keys));
                out.push_str(&format!(
                    "{}{before}\"{key}\"{}:",
                    if number > 0 { "," } else { "" },
                    gap(random)
                ));
                random_json(random, depth + 1, out);
            }
            out.push_str(gap(random));
            out.push('}');
        }
    }
}

/// An object with the oracle's fields, right and wrong, beside others; sometimes broken.
fn random_message(random: &mut Random) -> Vec<u8> {
    let mut text = String::from(random.pick(&["{", " {", "{\n"]));
    for (number, name) in ["id", "t", "n", "i", "p", "q"].into_iter().enumerate() {
        if random.one_in(6) {
            continue;
        }
        let value = match name {
            "id" => "\"a\\u00e9b\"",
            "t" => "\"2026-01-01T00:00:00.25+01:00\"",
            "n" => random.pick(&["1.5", "-12345678901234567890", "0.30000000000000004", "7"]),
            "i" => random.pick(&["5", "-9223372036854775808", "1.0", "18446744073709551615"]),
            _ => "",
        };
        text.push_str(if number > 0 && text.trim_end().len() > 2 {
            ","
        } else {
            ""
        });
        text.push_str(&format!("\"{name}\":"));
        if value.is_empty() || random.one_in(20) {
            random_json(random, 1, &mut text);
        } else {
            text.push_str(value);
        }
    }
    text.push_str(random.pick(&["}", "} ", "\n}"]));
    let mut message = text.into_bytes();
    if random.one_in(3) {
        mutate(random, &mut message);
    }
    message
}

/// Compares what became of one message with what `serde_json` makes of it.
fn agrees_with_serde(stream: &Stream, message: &[u8]) -> Result<(), TestCaseError> {
    let (batch, letters, _) = decode(stream, 0, &[message.to_vec()]);
    let class = letters.first().map(|letter| letter.error_class);
    let shown = String::from_utf8_lossy(message);
    let not_json = matches!(class, Some("empty" | "invalid_utf8" | "not_json" | "lone_surrogate"));
    let value = match serde_json::from_slice::<Value>(message) {
        Ok(value) => value,
        // It reads numbers as it goes; we leave those that no one declared unread.
        Err(error) if error.to_string().contains("number out of range") => return Ok(()),
        Err(_) if class == Some("duplicate_key") => return Ok(()),
        Err(error) => {
            prop_assert!(not_json, "serde_json: {}, decoder: {:?}: {}", error, class, shown);
            return Ok(());
        }
    };
    prop_assert!(!not_json, "serde_json takes it, decoder: {:?}: {}", letters, shown);
    // It takes the last of two equal keys, and `-0` for a float.
    if class == Some("duplicate_key") || shown.contains("-0") {
        return Ok(());
    }
    prop_assert_eq!(class, expected_class(&value), "{}", shown);
    let Some(batch) = batch else { return Ok(()) };
    let text = |name: &str| {
        batch
            .column_by_name(name)
            .unwrap()
            .as_string::<i32>()
            .iter()
            .next()
            .unwrap()
    };
    prop_assert_eq!(text("id"), value["id"].as_str());
    let doubles = batch.column_by_name("n").unwrap().as_primitive::<Float64Type>();
    let double = (!doubles.is_null(0)).then(|| doubles.value(0));
    // serde_json may be off by the last bit.
    let close = match (double, value["n"].as_f64()) {
        (Some(ours), Some(theirs)) => (ours - theirs).abs() <= ours.abs() * 1e-15,
        (ours, theirs) => ours == theirs,
    };
    prop_assert!(close, "{:?} {:?}", double, value["n"]);
    let longs = batch.column_by_name("i").unwrap().as_primitive::<Int64Type>();
    let long = value["i"].as_i64().or(value["i"].as_f64().map(|double| double as i64));
    prop_assert_eq!((!longs.is_null(0)).then(|| longs.value(0)), long);
    let mut rest = value.clone();
    rest.as_object_mut()
        .unwrap()
        .retain(|key, _| !["id", "t", "n", "i"].contains(&key.as_str()));
    let extra = text("_extra").map(|extra| serde_json::from_str::<Value>(extra).unwrap());
    prop_assert_eq!(
        extra.unwrap_or_else(|| Value::Object(Default::default())),
        rest,
        "{}",
        shown
    );
    Ok(())
}

/// Hands on every value that is no object or array with something in it, and how it is reached.
fn each_leaf<'v>(value: &'v Value, steps: &mut Vec<Step>, each: &mut impl FnMut(&[Step], &'v Value)) {
    let children: Vec<(Step, &Value)> = match value {
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| (Step::Key(key.clone()), value))
            .collect(),
        Value::Array(elements) => elements
            .iter()
            .enumerate()
            .map(|(at, value)| (Step::Index(at), value))
            .collect(),
        // Null says nothing.
        Value::Null => return,
        _ => {
            each(steps, value);
            return;
        }
    };
    for (step, child) in children {
        steps.push(step);
        each_leaf(child, steps, each);
        steps.pop();
    }
}

fn find<'v>(value: &'v Value, steps: &[Step]) -> Option<&'v Value> {
    steps.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.as_object()?.get(key),
        Step::Index(index) => value.as_array()?.get(*index),
        Step::Each => None,
    })
}

/// Whether the leaf at `steps` is a declared part of the value that a field takes, or says the same as that value.
fn is_in_a_column(stream: &Stream, message: &Value, steps: &[Step], leaf: &Value) -> bool {
    let is_null = |field: &model::Field, value: &Value| {
        let text = value
            .as_str()
            .map(|text| if field.written.trim { text.trim() } else { text });
        value.is_null() || text.is_some_and(|text| field.written.nulls.iter().any(|null| null == text))
    };
    stream.fields.iter().filter(|field| !field.is_message()).any(|field| {
        let Some(place) = field.from.iter().find(|place| steps.starts_with(place.steps())) else {
            return false;
        };
        let value = find(message, place.steps()).unwrap();
        if is_null(field, value) {
            return true;
        }
        let counting = field
            .from
            .iter()
            .find(|place| find(message, place.steps()).is_some_and(|value| !is_null(field, value)));
        let counting = counting.unwrap();
        let is_declared = is_part(&field.field_type, &steps[place.steps().len()..]);
        is_declared && (counting == place || same(find(message, counting.steps()).unwrap(), value) || leaf.is_null())
    })
}

/// Whether a type holds a value there.
fn is_part(field_type: &FieldType, steps: &[Step]) -> bool {
    match (field_type, steps) {
        (FieldType::Array(part) | FieldType::Map(part), [_, rest @ ..]) => is_part(part, rest),
        (FieldType::Struct(members), [Step::Key(key), rest @ ..]) => {
            let member = members.iter().find(|member| member.name == *key);
            member.is_some_and(|member| is_part(&member.field_type, rest))
        }
        _ => true,
    }
}

/// Whether two values of one field say the same: texts of numbers, dates and bytes have several forms, and structs may hold
/// more than is declared, so this is generous.
fn same(one: &Value, other: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::String(text) => text.trim().replace(',', ".").parse::<f64>().ok(),
        Value::Array(parts) => parts.first()?.as_f64(),
        value => value.as_f64(),
    };
    let text = |value: &Value| value.as_str().map(|text| text.trim().to_lowercase());
    match (one, other) {
        (Value::Object(_), Value::Object(_)) | (Value::Array(_), Value::Array(_)) => true,
        _ if number(one).is_some() && number(other).is_some() => number(one) == number(other),
        (Value::Bool(bool), Value::String(text)) | (Value::String(text), Value::Bool(bool)) => {
            text.trim().to_lowercase() == bool.to_string()
        }
        (Value::String(a), Value::String(b)) => {
            let instant = |text: &str| event_time::parse(text.as_bytes());
            text(one) == text(other) || instant(a).is_some() && instant(a) == instant(b)
        }
        // A date and its count, or its parts.
        (one, other) => one.is_string() != other.is_string() || one == other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn both_paths_validate_alike(seed: u64) {
        let (stream, records) = random_records(seed);
        let (general, general_letters, general_counts) = decode(&stream, 0, &records);
        prop_assert_eq!(general_counts.rows + general_counts.dead_letters, records.len());
        for shapes_max in [1, 4] {
            let (planned, letters, counts) = decode(&stream, shapes_max, &records);
            prop_assert_eq!(&planned, &general);
            prop_assert_eq!(&letters, &general_letters);
            prop_assert_eq!(DecodeCounts { by_shape: 0, ..counts }, general_counts);
        }
    }

    #[test]
    fn nothing_of_a_row_is_lost(seed: u64) {
        let (stream, records) = random_records(seed);
        for record in &records {
            let (batch, _, _) = decode(&stream, 4, &[record.clone(), record.clone()]);
            // Where `serde_json` cannot tell (numbers of any size, keys that occur twice), nothing can be compared.
            let message = serde_json::from_slice::<Value>(record);
            let (Some(batch), Ok(message)) = (batch, message) else { continue };
            let extra = batch["_extra"].as_string::<i32>();
            for row in 0..batch.num_rows() {
                let extra = match extra.is_null(row) {
                    true => Value::Null,
                    false => serde_json::from_str(extra.value(row)).unwrap(),
                };
                let mut lost = Vec::new();
                each_leaf(&message, &mut Vec::new(), &mut |steps, value| {
                    if find(&extra, steps) != Some(value) && !is_in_a_column(&stream, &message, steps, value) {
                        lost.push(format!("{steps:?} {value}"));
                    }
                });
                prop_assert!(lost.is_empty(), "{:?} of {} with extra {}", lost, message, extra);
            }
        }
    }

    #[test]
    fn json_is_what_serde_json_takes(seed: u64) {
        let random = &mut Random(seed);
        let stream = oracle_stream();
        for _ in 0..20 {
            agrees_with_serde(&stream, &random_message(random))?;
        }
    }

    #[test]
    fn any_bytes_become_one_row_or_one_letter(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..20)) {
        let (_, letters, counts) = decode(&oracle_stream(), 4, &records);
        prop_assert_eq!((counts.rows + letters.len(), counts.dead_letters), (records.len(), letters.len()));
    }
}
