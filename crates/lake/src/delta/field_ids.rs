//! Column ids: each column of a table has a number for life, which every Parquet file carries as `field_id`.
//!
//! A column keeps its number when it is renamed, and a number is never used again, so that a reader who goes by numbers
//! (Iceberg's way) finds the same column in old and new files. Delta has ids only with column mapping, which older readers
//! refuse; these lie in the fields' own metadata, which every reader passes over. Where the table has column mapping, its
//! ids are the ids.
//!
//! An element of an array, a key and a value of a map have no field to note it in, so their numbers stand in the nearest
//! field around them, as Delta's `delta.columnMapping.nested.ids` does it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType as ArrowType, Field, FieldRef, Fields, Schema};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use serde_json::{Map, Value};

use crate::delta::schema::{DataType, StructField, StructType};

/// In a field's metadata: its id.
const FIELD_ID: &str = "smartcity.fieldId";
/// In a field's metadata: ids of its unnamed parts, by path (`element`, `key`, `value.element`).
const NESTED_IDS: &str = "smartcity.nestedFieldIds";
/// Table property: the greatest id ever given.
pub(crate) const MAX_FIELD_ID: &str = "smartcity.maxFieldId";
/// The same of column mapping.
pub(crate) const MAX_COLUMN_ID: &str = "delta.columnMapping.maxColumnId";

/// Gives an id to every field, element, key and value that has none, counting on from `max` or a greater one in use.
/// Returns the greatest id.
pub(crate) fn assign(schema: &mut StructType, max: i64) -> i64 {
    let mut next = Ids { max };
    schema.walk(&mut |field| next.max = next.max.max(greatest(field)));
    next.assign_struct(schema);
    next.max
}

struct Ids {
    max: i64,
}

impl Ids {
    fn next(&mut self) -> i64 {
        self.max += 1;
        self.max
    }

    fn assign_struct(&mut self, of: &mut StructType) {
        for field in &mut of.fields {
            if id(field).is_none() {
                field.metadata.insert(FIELD_ID.to_owned(), self.next().into());
            }
            let mut nested = match field.metadata.get(NESTED_IDS) {
                Some(Value::Object(nested)) => nested.clone(),
                _ => Map::new(),
            };
            self.assign_parts(&mut field.data_type, "", &mut nested);
            if !nested.is_empty() {
                field.metadata.insert(NESTED_IDS.to_owned(), Value::Object(nested));
            }
        }
    }

    fn assign_parts(&mut self, data_type: &mut DataType, path: &str, nested: &mut Map<String, Value>) {
        match data_type {
            DataType::Primitive(_) => {}
            DataType::Struct(fields) => self.assign_struct(fields),
            DataType::Array(array) => self.assign_part(&mut array.element, path, "element", nested),
            DataType::Map(map) => {
                self.assign_part(&mut map.key, path, "key", nested);
                self.assign_part(&mut map.value, path, "value", nested);
            }
        }
    }

    fn assign_part(&mut self, of: &mut DataType, path: &str, name: &str, nested: &mut Map<String, Value>) {
        let path = join(path, name);
        if nested.get(&path).and_then(Value::as_i64).is_none() {
            nested.insert(path.clone(), self.next().into());
        }
        self.assign_parts(of, &path, nested);
    }
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

/// A field's id; column mapping's before ours.
pub(crate) fn id(field: &StructField) -> Option<i64> {
    let own = || field.metadata.get(FIELD_ID).and_then(Value::as_i64);
    field.column_mapping_id().or_else(own)
}

/// Of the field and its unnamed parts.
fn greatest(field: &StructField) -> i64 {
    let nested = field.metadata.get(NESTED_IDS).and_then(Value::as_object);
    let nested = nested.into_iter().flat_map(Map::values).filter_map(Value::as_i64);
    nested.chain(id(field)).max().unwrap_or(0)
}

/// The Arrow schema with the ids that the table's schema gives its columns, as the Parquet writer takes them. Columns
/// are found by name; what the table does not have gets none.
pub(crate) fn annotate(schema: &Schema, table: &StructType) -> Schema {
    Schema::new(annotate_fields(schema.fields(), table))
}

fn annotate_fields(fields: &Fields, table: &StructType) -> Fields {
    let annotated = fields.iter().map(|field| match table.field(field.name()) {
        None => Arc::clone(field),
        Some(column) => {
            let nested = match column.metadata.get(NESTED_IDS) {
                Some(Value::Object(nested)) => nested
                    .iter()
                    .filter_map(|(path, id)| Some((path.as_str(), id.as_i64()?)))
                    .collect(),
                _ => HashMap::new(),
            };
            let data_type = annotate_type(field.data_type(), &column.data_type, "", &nested);
            with_id(field, data_type, id(column))
        }
    });
    annotated.collect()
}

fn annotate_type(of: &ArrowType, table: &DataType, path: &str, nested: &HashMap<&str, i64>) -> ArrowType {
    let part = |field: &FieldRef, table: &DataType, name: &str| {
        let path = join(path, name);
        let data_type = annotate_type(field.data_type(), table, &path, nested);
        with_id(field, data_type, nested.get(path.as_str()).copied())
    };
    match (of, table) {
        (ArrowType::Struct(fields), DataType::Struct(table)) => ArrowType::Struct(annotate_fields(fields, table)),
        (ArrowType::List(element), DataType::Array(array)) => ArrowType::List(part(element, &array.element, "element")),
        (ArrowType::Map(entries, sorted), DataType::Map(map)) => {
            let ArrowType::Struct(fields) = entries.data_type() else {
                return of.clone();
            };
            let [key, value] = fields.as_ref() else {
                return of.clone();
            };
            let fields = vec![part(key, &map.key, "key"), part(value, &map.value, "value")];
            let entries = entries
                .as_ref()
                .clone()
                .with_data_type(ArrowType::Struct(fields.into()));
            ArrowType::Map(Arc::new(entries), *sorted)
        }
        _ => of.clone(),
    }
}

fn with_id(field: &FieldRef, data_type: ArrowType, id: Option<i64>) -> FieldRef {
    let mut field = Field::clone(field).with_data_type(data_type);
    if let Some(id) = id {
        field
            .metadata_mut()
            .insert(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
    }
    Arc::new(field)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::delta::arrow::to_arrow;

    fn schema(fields: Value) -> StructType {
        serde_json::from_value(json!({"type": "struct", "fields": fields})).unwrap()
    }

    fn headers() -> StructType {
        schema(json!([
            {"name": "a", "type": "long", "nullable": true, "metadata": {}},
            {"name": "headers", "nullable": false, "metadata": {}, "type": {"type": "array", "containsNull": false,
                "elementType": {"type": "struct", "fields": [
                    {"name": "key", "type": "string", "nullable": false, "metadata": {}},
                    {"name": "values", "nullable": true, "metadata": {}, "type": {"type": "map", "keyType": "string",
                        "valueContainsNull": true, "valueType": "long"}}]}}},
        ]))
    }

    fn all_ids(schema: &StructType) -> Vec<i64> {
        let mut ids = Vec::new();
        schema.walk(&mut |field| {
            ids.extend(id(field));
            let nested = field.metadata.get(NESTED_IDS).and_then(Value::as_object);
            ids.extend(nested.into_iter().flat_map(Map::values).filter_map(Value::as_i64));
        });
        ids.sort_unstable();
        ids
    }

    #[test]
    fn every_field_and_part_has_a_number_of_its_own_that_stays() {
        let mut once = headers();
        assert_eq!(assign(&mut once, 0), 7);
        assert_eq!(all_ids(&once), [1, 2, 3, 4, 5, 6, 7]);
        let mut again = once.clone();
        assert_eq!(assign(&mut again, 7), 7);
        assert_eq!(again, once);
        // A column went and another came: the number does not come back.
        again.fields.remove(1);
        again
            .fields
            .extend(schema(json!([{"name": "new", "type": "date", "nullable": true}])).fields);
        assert_eq!(assign(&mut again, 7), 8);
        assert_eq!(id(again.field("new").unwrap()), Some(8));
    }

    #[test]
    fn column_mappings_ids_are_used_where_there_are_some() {
        let mut mapped = schema(json!([
            {"name": "a", "type": "long", "nullable": true, "metadata": {"delta.columnMapping.id": 41}},
            {"name": "b", "type": "long", "nullable": true, "metadata": {}},
        ]));
        assert_eq!(assign(&mut mapped, 3), 42);
        assert_eq!(all_ids(&mapped), [41, 42]);
        assert!(!mapped.fields[0].metadata.contains_key(FIELD_ID));
    }

    #[test]
    fn the_parquet_writer_is_given_every_number() {
        let mut table = headers();
        assign(&mut table, 0);
        let annotated = annotate(&to_arrow(&headers()), &table);
        let text = format!("{annotated:?}");
        for number in 1..=7 {
            assert!(
                text.contains(&format!("{PARQUET_FIELD_ID_META_KEY:?}: \"{number}\"")),
                "{number}: {text}"
            );
        }
    }
}
