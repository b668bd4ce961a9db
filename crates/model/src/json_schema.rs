//! The JSON Schema of a stream's messages, for a schema registry and for producers.
//!
//! It is what a producer should write: whatever it accepts becomes a row. Forms that a declaration takes besides (numbers
//! in text, further formats of dates) are named in the descriptions; of counts since 1970 both forms are accepted.

use serde_json::{Map, Value, json};

use crate::decimal::text as decimal_text;
use crate::{Encoding, EpochUnit, Field, FieldType, PathNode, Step, Stream, Written, decimal_bounds};

impl Stream {
    /// What a message must look like to become a row: JSON Schema, draft 2020-12. Undeclared fields are allowed.
    pub fn json_schema(&self) -> Value {
        let mut schema = self.node_schema(&self.plan);
        let of_elements = self.elements.iter().map(|elements| {
            let (_, array) = elements.path.steps().split_last().unwrap_or((&Step::Each, &[]));
            place(array, json!({ "maxItems": elements.max }))
        });
        let fields = self
            .fields
            .iter()
            .filter(|field| !field.nullable && !field.is_message());
        let required: Vec<Value> = of_elements.chain(fields.map(required)).collect();
        let head = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": self.name,
        });
        let mut object = head.as_object().cloned().unwrap_or_default();
        if !self.description.is_empty() {
            object.insert("description".to_owned(), json!(self.description));
        }
        if let Some(body) = schema.as_object_mut() {
            object.append(body);
        }
        object.insert("allOf".to_owned(), Value::Array(required));
        Value::Object(object)
    }

    fn node_schema(&self, node: &PathNode) -> Value {
        match node {
            PathNode::Field { field, .. } => field_schema(&self.fields[*field]),
            PathNode::Object(children) => {
                let properties: Map<_, _> = children
                    .iter()
                    .map(|(key, child)| (key.clone(), self.node_schema(child)))
                    .collect();
                json!({ "type": "object", "properties": properties })
            }
            PathNode::Array(children) => {
                let len = children.iter().map(|(index, _)| index + 1).max().unwrap_or_default();
                let mut items = vec![json!(true); len];
                for (index, child) in children {
                    items[*index] = self.node_schema(child);
                }
                json!({ "type": "array", "prefixItems": items })
            }
            PathNode::Elements(element) => json!({ "type": "array", "items": self.node_schema(element) }),
        }
    }
}

fn field_schema(field: &Field) -> Value {
    let mut schema = match &field.field_type {
        FieldType::Integer | FieldType::Long | FieldType::Double => number_schema(field),
        FieldType::Decimal { precision, scale } => {
            let (min, max) = decimal_bounds(*precision, *scale, field.min, field.max);
            decimal_schema(*precision, *scale, (min, max))
        }
        other => type_schema(other, &field.written),
    };
    if field.nullable {
        schema = nullable(schema);
    }
    let unit = field.unit.as_ref().map(|unit| format!("Unit: {unit}."));
    let description = [field.doc.clone(), unit.unwrap_or_default(), field.written.describe()];
    let description: Vec<&str> = description
        .iter()
        .map(String::as_str)
        .filter(|text| !text.is_empty())
        .collect();
    if !description.is_empty() {
        schema.insert("description".to_owned(), json!(description.join(" ")));
    }
    if !field.one_of.is_empty() {
        let null = field.nullable.then_some(Value::Null);
        let values: Vec<_> = field.one_of.iter().map(|value| json!(value)).chain(null).collect();
        schema.insert("enum".to_owned(), Value::Array(values));
    }
    Value::Object(schema)
}

type Object = Map<String, Value>;

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}

/// The same, and null.
fn nullable(mut schema: Object) -> Object {
    match schema.get_mut("type") {
        Some(Value::Array(types)) => types.push(json!("null")),
        Some(name) => *name = json!([name.clone(), "null"]),
        None => {
            if let Some(Value::Array(forms)) = schema.get_mut("anyOf") {
                forms.push(json!({ "type": "null" }));
            }
        }
    }
    schema
}

fn number_schema(field: &Field) -> Object {
    let mut schema = type_schema(&field.field_type, &field.written);
    let (min, max) = bounds(field);
    let bounds = [("minimum", min), ("maximum", max)];
    schema.extend(
        bounds
            .into_iter()
            .filter_map(|(keyword, bound)| Some((keyword.to_owned(), bound?))),
    );
    schema
}

/// A number, or the same in text, which holds all digits on every way.
fn decimal_schema(precision: u8, scale: u8, (min, max): (i128, i128)) -> Object {
    let number = |units: i128| decimal_text(units, scale).parse::<f64>().unwrap_or_default();
    let mut number_form = json!({ "type": "number", "minimum": number(min), "maximum": number(max) });
    number_form["multipleOf"] = json!(number(1));
    let greatest = 10_i128.saturating_pow(precision.into()) - 1;
    if (min, max) != (-greatest, greatest) {
        // A pattern cannot tell whether a text is within bounds.
        return object(number_form);
    }
    let whole = match precision - scale {
        0 => "0".to_owned(),
        digits => format!("[0-9]{{1,{digits}}}"),
    };
    let fraction = match scale {
        0 => String::new(),
        digits => format!("(\\.[0-9]{{1,{digits}}})?"),
    };
    let text_form = json!({ "type": "string", "pattern": format!("^-?{whole}{fraction}$") });
    object(json!({ "anyOf": [number_form, text_form] }))
}

/// Base64 with padding, whose last character has no bits to spare.
const BASE64: &str = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$";
const HEX: &str = "^([0-9A-Fa-f]{2})*$";
const TIME: &str = "^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\\.[0-9]{1,9})?)?$";

/// A type's schema, without the bounds that a declaration adds.
fn type_schema(field_type: &FieldType, written: &Written) -> Object {
    object(match field_type {
        FieldType::String => json!({ "type": "string" }),
        FieldType::Integer => json!({ "type": "integer", "minimum": i32::MIN, "maximum": i32::MAX }),
        FieldType::Long => json!({ "type": "integer", "minimum": i64::MIN, "maximum": i64::MAX }),
        FieldType::Double => json!({ "type": "number" }),
        FieldType::Boolean => json!({ "type": "boolean" }),
        FieldType::Timestamp => epoch_or(json!({ "type": "string", "format": "date-time" }), field_type, written),
        FieldType::Date => epoch_or(json!({ "type": "string", "format": "date" }), field_type, written),
        FieldType::Time => json!({ "type": "string", "pattern": TIME }),
        FieldType::Binary => match written.encoding {
            Encoding::Base64 => json!({ "type": "string", "contentEncoding": "base64", "pattern": BASE64 }),
            Encoding::Hex => json!({ "type": "string", "contentEncoding": "base16", "pattern": HEX }),
        },
        FieldType::Json => json!({ "type": ["object", "array", "string", "number", "boolean"] }),
        FieldType::Decimal { precision, scale } => {
            let bounds = decimal_bounds(*precision, *scale, None, None);
            return decimal_schema(*precision, *scale, bounds);
        }
        FieldType::Array(element) => json!({ "type": "array", "items": part_schema(element, written) }),
        FieldType::Map(value) => json!({ "type": "object", "additionalProperties": part_schema(value, written) }),
        FieldType::Struct(members) => {
            let properties: Object = members
                .iter()
                .map(|member| (member.name.clone(), part_schema(&member.field_type, written)))
                .collect();
            json!({ "type": "object", "properties": properties })
        }
    })
}

/// Parts of nested values may be null.
fn part_schema(field_type: &FieldType, written: &Written) -> Value {
    Value::Object(nullable(type_schema(field_type, written)))
}

/// Days of the years 0001 to 9999, since the epoch.
const DAYS: (i64, i64) = (-719_162, 2_932_896);

fn epoch_or(text: Value, field_type: &FieldType, written: &Written) -> Value {
    let Some(unit) = written.epoch.filter(|unit| unit.fits(field_type)) else {
        return text;
    };
    let per_day = match unit {
        EpochUnit::Days => 1,
        EpochUnit::Seconds => 86_400,
        EpochUnit::Milliseconds => 86_400_000,
        EpochUnit::Microseconds => 86_400_000_000,
        EpochUnit::Nanoseconds => 86_400_000_000_000_i64,
    };
    let (first, after) = (DAYS.0.saturating_mul(per_day), (DAYS.1 + 1).saturating_mul(per_day));
    let number_type = if unit == EpochUnit::Days { "integer" } else { "number" };
    let count = json!({ "type": number_type, "minimum": first, "maximum": after - 1 });
    json!({ "anyOf": [text, count] })
}

/// The declared bounds, or the type's own where those are narrower.
fn bounds(field: &Field) -> (Option<Value>, Option<Value>) {
    let (type_min, type_max) = match &field.field_type {
        FieldType::Integer => (i64::from(i32::MIN), i64::from(i32::MAX)),
        FieldType::Long => (i64::MIN, i64::MAX),
        _ => return (field.min.map(Value::from), field.max.map(Value::from)),
    };
    // The type's bounds as doubles are powers of two, or round up to one that the type does not hold.
    let min = field.min.filter(|min| *min > type_min as f64);
    let max = field.max.filter(|max| *max < type_max as f64);
    (
        Some(min.map_or(json!(type_min), Value::from)),
        Some(max.map_or(json!(type_max), Value::from)),
    )
}

/// A required field is there when one of its places is; in each element, where the place is an element's.
fn required(field: &Field) -> Value {
    let (of_elements, of_message): (Vec<_>, Vec<_>) = field.from.iter().partition(|path| path.is_of_elements());
    let mut places: Vec<_> = of_message.iter().map(|path| place(path.steps(), json!(true))).collect();
    // All of them have the elements' path in front.
    if let Some(first) = of_elements.first() {
        let each = first
            .steps()
            .iter()
            .position(|step| *step == Step::Each)
            .unwrap_or_default();
        let in_element = of_elements
            .iter()
            .map(|path| place(&path.steps()[each + 1..], json!(true)));
        let any = json!({ "anyOf": in_element.collect::<Vec<_>>() });
        places.push(place(&first.steps()[..each], json!({ "items": any })));
    }
    json!({ "anyOf": places })
}

/// That there is a value at the end of these steps, which fits `value`.
fn place(steps: &[Step], value: Value) -> Value {
    let Some((step, rest)) = steps.split_first() else {
        return value;
    };
    match (step, place(rest, value)) {
        (Step::Key(key), Value::Bool(true)) => json!({ "required": [key] }),
        (Step::Key(key), inner) => json!({ "required": [key], "properties": { key: inner } }),
        (Step::Index(index), Value::Bool(true)) => json!({ "minItems": index + 1 }),
        (Step::Index(index), inner) => {
            let mut items = vec![json!(true); *index];
            items.push(inner);
            json!({ "minItems": index + 1, "prefixItems": items })
        }
        (Step::Each, inner) => json!({ "items": inner }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_ranges_and_sets_are_in_the_schema() {
        let text = r#"
            name = "s"
            description = "d"
            key = "at"
            event_time = "at"
            [[field]]
            name = "at"
            type = "timestamp"
            doc = "t"
            [[field]]
            name = "latitude"
            type = "double"
            unit = "degrees"
            min = -90
            max = 90
            from = ["latitude", "location[0]"]
            doc = "North."
            [[field]]
            name = "kind"
            type = "string"
            nullable = true
            one_of = ["a", "b"]
            doc = "k"
        "#;
        let schema = Stream::parse("s.toml", text).unwrap().json_schema();
        assert_eq!(schema["properties"]["location"]["prefixItems"][0]["maximum"], 90.0);
        assert_eq!(schema["properties"]["kind"]["enum"], json!(["a", "b", null]));
        assert_eq!(schema["properties"]["latitude"]["description"], "North. Unit: degrees.");
        assert_eq!(
            schema["allOf"][1]["anyOf"],
            json!([{ "required": ["latitude"] },
                   { "required": ["location"], "properties": { "location": { "minItems": 1 } } }])
        );
    }

    #[test]
    fn elements_are_items_of_their_array() {
        let text = r#"
            name = "s"
            description = "d"
            key = "at"
            event_time = "at"
            elements = "data.readings[*]"
            elements_max = 50
            [[field]]
            name = "at"
            type = "timestamp"
            from = ["data.readings[*].at", "sent"]
            doc = "t"
            [[field]]
            name = "value"
            type = "double"
            from = ["data.readings[*].value", "data.readings[*].v[0]"]
            doc = "v"
        "#;
        let schema = Stream::parse("s.toml", text).unwrap().json_schema();
        let readings = &schema["properties"]["data"]["properties"]["readings"];
        assert_eq!(readings["type"], "array");
        assert_eq!(readings["items"]["properties"]["value"]["type"], "number");
        let in_readings = |inner: Value| {
            json!({ "required": ["data"], "properties": { "data": {
                "required": ["readings"], "properties": { "readings": inner } } } })
        };
        let items = |places: Value| in_readings(json!({ "items": { "anyOf": places } }));
        assert_eq!(
            schema["allOf"],
            json!([
                in_readings(json!({ "maxItems": 50 })),
                { "anyOf": [{ "required": ["sent"] }, items(json!([{ "required": ["at"] }]))] },
                { "anyOf": [items(json!([
                    { "required": ["value"] },
                    { "required": ["v"], "properties": { "v": { "minItems": 1 } } },
                ]))] },
            ])
        );
    }

    #[test]
    fn bounds_are_the_narrower_of_the_declared_and_the_types() {
        for (field, minimum, maximum) in [
            ("integer", json!(i32::MIN), json!(i32::MAX)),
            ("integer\"\nmin = -5\nmax = 1e10 #", json!(-5.0), json!(i32::MAX)),
            ("long", json!(i64::MIN), json!(i64::MAX)),
            (
                "long\"\nmin = 7\nmax = 9223372036854775807 #",
                json!(7.0),
                json!(i64::MAX),
            ),
            ("double", Value::Null, Value::Null),
        ] {
            let text = format!(
                "name = \"s\"\ndescription = \"d\"\nkey = \"t\"\nevent_time = \"t\"\n\
                 [[field]]\nname = \"t\"\ntype = \"timestamp\"\ndoc = \"t\"\n\
                 [[field]]\nname = \"n\"\ndoc = \"n\"\nfrom = [\"a[2].n\"]\ntype = \"{field}\"\n"
            );
            let schema = Stream::parse("s.toml", &text).unwrap().json_schema();
            let n = &schema["properties"]["a"]["prefixItems"][2]["properties"]["n"];
            assert_eq!((&n["minimum"], &n["maximum"]), (&minimum, &maximum), "{field}");
            // The element is there, and in it the key.
            assert_eq!(
                schema["allOf"][1]["anyOf"],
                json!([{ "required": ["a"], "properties": { "a": {
                    "minItems": 3, "prefixItems": [true, true, { "required": ["n"] }] } } }])
            );
        }
    }

    #[test]
    fn types_are_what_a_producer_should_write() {
        let schema = |field: &str| {
            let text = format!("name = \"s\"\n[[field]]\nname = \"f\"\n{field}\n");
            Stream::parse("s.toml", &text).unwrap().json_schema()["properties"]["f"].clone()
        };
        assert_eq!(
            schema("type = \"decimal(5,2)\"\nmin = 0"),
            json!({ "type": "number", "minimum": 0.0, "maximum": 999.99, "multipleOf": 0.01 })
        );
        let decimal = schema("type = \"decimal(5,2)\"\nnullable = true");
        assert_eq!(
            decimal["anyOf"][1],
            json!({ "type": "string", "pattern": "^-?[0-9]{1,3}(\\.[0-9]{1,2})?$" })
        );
        assert_eq!(decimal["anyOf"][2], json!({ "type": "null" }));
        assert_eq!(schema("type = \"date\""), json!({ "type": "string", "format": "date" }));
        assert_eq!(
            schema("type = \"date\"\nepoch = \"d\"\nformats = [\"%d.%m.%Y\"]"),
            json!({ "anyOf": [
                { "type": "string", "format": "date" },
                { "type": "integer", "minimum": -719_162, "maximum": 2_932_896 },
            ], "description": "Also taken: the format %d.%m.%Y." })
        );
        assert_eq!(
            schema("type = \"array<struct<a: map<string, boolean>>>\"\nnullable = true"),
            json!({ "type": ["array", "null"], "items": { "type": ["object", "null"], "properties": {
                "a": { "type": ["object", "null"], "additionalProperties": { "type": ["boolean", "null"] } } } } })
        );
        assert_eq!(
            schema("type = \"binary\"\nencoding = \"hex\"")["pattern"],
            "^([0-9A-Fa-f]{2})*$"
        );
    }
}
