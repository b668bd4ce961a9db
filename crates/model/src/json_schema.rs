//! The JSON Schema of a stream's messages, for a schema registry and for producers.

use serde_json::{Map, Value, json};

use crate::{Field, FieldType, PathNode, Step, Stream};

impl Stream {
    /// What a message must look like to become a row: JSON Schema, draft 2020-12. Undeclared fields are allowed.
    pub fn json_schema(&self) -> Value {
        let mut schema = self.node_schema(&self.plan);
        let required: Vec<Value> = self
            .fields
            .iter()
            .filter(|field| !field.nullable)
            .map(required)
            .collect();
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
    let mut bounds = (field.min, field.max);
    match field.field_type {
        FieldType::Integer => bounds = (bounds.0.or(Some(i32::MIN.into())), bounds.1.or(Some(i32::MAX.into()))),
        FieldType::Timestamp => drop(schema.insert("format".to_owned(), json!("date-time"))),
        _ => {}
    }
    if let Some(min) = bounds.0 {
        schema.insert("minimum".to_owned(), json!(min));
    }
    if let Some(max) = bounds.1 {
        schema.insert("maximum".to_owned(), json!(max));
    }
    if !field.one_of.is_empty() {
        let null = field.nullable.then_some(Value::Null);
        let values: Vec<_> = field.one_of.iter().map(|value| json!(value)).chain(null).collect();
        schema.insert("enum".to_owned(), Value::Array(values));
    }
    Value::Object(schema)
}

/// A required field is there when one of its places is.
fn required(field: &Field) -> Value {
    let places: Vec<_> = field.from.iter().map(|path| place(path.steps())).collect();
    json!({ "anyOf": places })
}

fn place(steps: &[Step]) -> Value {
    match steps.split_first() {
        None => json!(true),
        Some((Step::Key(key), [])) => json!({ "required": [key] }),
        Some((Step::Key(key), rest)) => json!({ "required": [key], "properties": { key: place(rest) } }),
        Some((Step::Index(index), _)) => json!({ "minItems": index + 1 }),
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
}
