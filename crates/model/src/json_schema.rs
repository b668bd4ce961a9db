//! The JSON Schema of a stream's messages, for a schema registry and for producers.

use serde_json::{Map, Value, json};

use crate::{Field, FieldType, PathNode, Step, Stream};

impl Stream {
    /// What a message must look like to become a row: JSON Schema, draft 2020-12. Undeclared fields are allowed.
    pub fn json_schema(&self) -> Value {
        let mut schema = self.node_schema(&self.plan);
        let of_elements = self.elements.iter().map(|elements| {
            let (_, array) = elements.path.steps().split_last().unwrap_or((&Step::Each, &[]));
            place(array, json!({ "maxItems": elements.max }))
        });
        let fields = self.fields.iter().filter(|field| !field.nullable);
        let required: Vec<Value> = of_elements.chain(fields.map(required)).collect();
        let head = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": self.name,
            "description": self.description,
        });
        let mut object = head.as_object().cloned().unwrap_or_default();
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
    let type_name = match field.field_type {
        FieldType::String | FieldType::Timestamp => "string",
        FieldType::Integer | FieldType::Long => "integer",
        FieldType::Double => "number",
        FieldType::Boolean => "boolean",
    };
    let types = if field.nullable {
        json!([type_name, "null"])
    } else {
        json!(type_name)
    };
    let mut schema = Map::new();
    schema.insert("type".to_owned(), types);
    let description = match &field.unit {
        Some(unit) => format!("{} Unit: {unit}.", field.doc),
        None => field.doc.clone(),
    };
    schema.insert("description".to_owned(), json!(description));
    if field.field_type == FieldType::Timestamp {
        schema.insert("format".to_owned(), json!("date-time"));
    }
    let (min, max) = bounds(field);
    let bounds = [("minimum", min), ("maximum", max)];
    schema.extend(
        bounds
            .into_iter()
            .filter_map(|(keyword, bound)| Some((keyword.to_owned(), bound?))),
    );
    if !field.one_of.is_empty() {
        let null = field.nullable.then_some(Value::Null);
        let values: Vec<_> = field.one_of.iter().map(|value| json!(value)).chain(null).collect();
        schema.insert("enum".to_owned(), Value::Array(values));
    }
    Value::Object(schema)
}

/// The declared bounds, or the type's own where those are narrower.
fn bounds(field: &Field) -> (Option<Value>, Option<Value>) {
    let (type_min, type_max) = match field.field_type {
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
}
