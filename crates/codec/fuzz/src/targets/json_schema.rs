//! As much of JSON Schema (draft 2020-12) as `Stream::json_schema` writes.

use model::event_time;
use serde_json::{Map, Value};

/// Whether a schema accepts a value.
///
/// # Panics
/// On a keyword that is not among ours, so that none is left out here unseen.
pub(super) fn accepts(schema: &Value, value: &Value) -> bool {
    let Some(keywords) = schema.as_object() else {
        return schema.as_bool().expect("a schema");
    };
    keywords.iter().all(|(keyword, rule)| match keyword.as_str() {
        "type" => match rule {
            Value::Array(names) => names.iter().any(|name| is_a(value, name)),
            name => is_a(value, name),
        },
        "properties" => value.as_object().is_none_or(|members| {
            let inner = |(key, schema): (&String, &Value)| members.get(key).is_none_or(|value| accepts(schema, value));
            object(rule).iter().all(inner)
        }),
        "required" => value
            .as_object()
            .is_none_or(|members| array(rule).iter().all(|key| members.contains_key(text(key)))),
        "prefixItems" => value.as_array().is_none_or(|elements| {
            let mut pairs = array(rule).iter().zip(elements);
            pairs.all(|(schema, element)| accepts(schema, element))
        }),
        "items" => value
            .as_array()
            .is_none_or(|elements| elements.iter().all(|element| accepts(rule, element))),
        "maxItems" => value
            .as_array()
            .is_none_or(|elements| elements.len() as u64 <= rule.as_u64().expect("a length")),
        "minItems" => value
            .as_array()
            .is_none_or(|elements| elements.len() as u64 >= rule.as_u64().expect("a length")),
        "minimum" => !value.is_number() || !is_below(value, rule),
        "maximum" => !value.is_number() || !is_below(rule, value),
        "multipleOf" => !value.is_number() || is_multiple(value, rule),
        "additionalProperties" => value
            .as_object()
            .is_none_or(|members| members.values().all(|member| accepts(rule, member))),
        // Without an engine for them, a text is taken for one that does not match.
        "pattern" => !value.is_string(),
        "enum" => array(rule).contains(value),
        "anyOf" => array(rule).iter().any(|schema| accepts(schema, value)),
        "allOf" => array(rule).iter().all(|schema| accepts(schema, value)),
        // For us more than a note, and any ISO 8601 that event time reads.
        "format" => value.as_str().is_none_or(|value| match text(rule) {
            "date" => event_time::parse_date(value.as_bytes()).is_some(),
            _ => event_time::parse(value.as_bytes()).is_some(),
        }),
        "$schema" | "title" | "description" | "contentEncoding" => true,
        unknown => panic!("keyword {unknown}"),
    })
}

/// An integer is a number whose value is one, as in the standard.
fn is_a(value: &Value, name: &Value) -> bool {
    match text(name) {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_number() && is_multiple(value, &Value::from(1)),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        unknown => panic!("type {unknown}"),
    }
}

/// By the shortest decimals of both: `rule` is a power of ten.
fn is_multiple(value: &Value, rule: &Value) -> bool {
    let rule = format!("{:e}", rule.as_f64().expect("a number"));
    let scale: i32 = rule
        .strip_prefix("1e")
        .expect("a power of ten")
        .parse()
        .expect("an exponent");
    model::decimal::scaled(value.to_string().as_bytes(), -scale).is_ok()
}

/// Exact, also where an integer is no double. The casts saturate, far beyond any 64-bit integer.
fn is_below(a: &Value, b: &Value) -> bool {
    let integer = |value: &Value| model::decimal::scaled(value.to_string().as_bytes(), 0).ok();
    let double = |value: &Value| value.as_f64().expect("a number");
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => a < b,
        (Some(a), None) => a < double(b).ceil() as i128,
        (None, Some(b)) => (double(a).floor() as i128) < b,
        (None, None) => double(a) < double(b),
    }
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("an object")
}

fn array(value: &Value) -> &Vec<Value> {
    value.as_array().expect("an array")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}
