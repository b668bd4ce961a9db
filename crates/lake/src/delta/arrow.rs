//! Delta types to Arrow and back.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType as ArrowType, Field, Fields, Schema, TimeUnit};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use serde_json::{Map, Value};

use crate::delta::schema::{
    ArrayType, COLUMN_MAPPING_ID, COLUMN_MAPPING_NAME, ColumnMapping, DataType, MapType, PrimitiveType, StructField,
    StructType,
};

/// Names of the unnamed parts of lists and maps, as Parquet has them.
const ELEMENT: &str = "element";
const ENTRIES: &str = "key_value";
const KEY: &str = "key";
const VALUE: &str = "value";

/// The Arrow schema of a table's rows. A field's metadata comes along, values that are no text as JSON.
pub fn to_arrow(schema: &StructType) -> Schema {
    Schema::new(fields_to_arrow(schema, ColumnMapping::None))
}

/// The same by the names that the table's files use.
pub fn to_physical_arrow(schema: &StructType, mapping: ColumnMapping) -> Schema {
    Schema::new(fields_to_arrow(schema, mapping))
}

fn fields_to_arrow(schema: &StructType, mapping: ColumnMapping) -> Fields {
    schema
        .fields
        .iter()
        .map(|field| field_to_arrow(field, mapping))
        .collect()
}

fn field_to_arrow(field: &StructField, mapping: ColumnMapping) -> Field {
    let data_type = type_to_arrow(&field.data_type, mapping);
    let metadata = field.metadata.iter().map(|(key, value)| match value {
        Value::String(text) => (key.clone(), text.clone()),
        other => (key.clone(), other.to_string()),
    });
    Field::new(field.physical_name(mapping), data_type, field.nullable).with_metadata(metadata.collect())
}

fn type_to_arrow(data_type: &DataType, mapping: ColumnMapping) -> ArrowType {
    match data_type {
        DataType::Primitive(primitive) => primitive_to_arrow(*primitive),
        DataType::Struct(fields) => ArrowType::Struct(fields_to_arrow(fields, mapping)),
        DataType::Array(array) => {
            let element = type_to_arrow(&array.element, mapping);
            ArrowType::List(Arc::new(Field::new(ELEMENT, element, array.contains_null)))
        }
        DataType::Map(map) => {
            let key = Field::new(KEY, type_to_arrow(&map.key, mapping), false);
            let value = Field::new(VALUE, type_to_arrow(&map.value, mapping), map.value_contains_null);
            let entries = ArrowType::Struct(Fields::from(vec![key, value]));
            ArrowType::Map(Arc::new(Field::new(ENTRIES, entries, false)), false)
        }
    }
}

/// The Arrow type of a primitive one.
pub fn primitive_to_arrow(primitive: PrimitiveType) -> ArrowType {
    match primitive {
        PrimitiveType::String => ArrowType::Utf8,
        PrimitiveType::Long => ArrowType::Int64,
        PrimitiveType::Integer => ArrowType::Int32,
        PrimitiveType::Short => ArrowType::Int16,
        PrimitiveType::Byte => ArrowType::Int8,
        PrimitiveType::Float => ArrowType::Float32,
        PrimitiveType::Double => ArrowType::Float64,
        // At most 38, which an i8 holds.
        PrimitiveType::Decimal { precision, scale } => ArrowType::Decimal128(precision, scale as i8),
        PrimitiveType::Boolean => ArrowType::Boolean,
        PrimitiveType::Binary => ArrowType::Binary,
        PrimitiveType::Date => ArrowType::Date32,
        PrimitiveType::Timestamp => ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        PrimitiveType::TimestampNtz => ArrowType::Timestamp(TimeUnit::Microsecond, None),
        PrimitiveType::Void => ArrowType::Null,
    }
}

/// The Delta schema of an Arrow one. The error names the column that has no Delta type.
pub fn from_arrow(schema: &Schema) -> Result<StructType, String> {
    fields_from_arrow(schema.fields())
}

fn fields_from_arrow(fields: &Fields) -> Result<StructType, String> {
    let fields = fields.iter().map(|field| {
        Ok(StructField {
            data_type: type_from_arrow(field)?,
            metadata: metadata_from_arrow(field.metadata()),
            ..StructField::new(field.name(), PrimitiveType::Void.into(), field.is_nullable())
        })
    });
    Ok(StructType {
        fields: fields.collect::<Result<_, String>>()?,
    })
}

fn metadata_from_arrow(metadata: &HashMap<String, String>) -> Map<String, Value> {
    let mut pairs: Vec<_> = metadata.iter().collect();
    pairs.sort_unstable();
    pairs
        .into_iter()
        .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
        .collect()
}

fn type_from_arrow(field: &Field) -> Result<DataType, String> {
    let primitive = match field.data_type() {
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => PrimitiveType::String,
        ArrowType::Int64 => PrimitiveType::Long,
        ArrowType::Int32 => PrimitiveType::Integer,
        ArrowType::Int16 => PrimitiveType::Short,
        ArrowType::Int8 => PrimitiveType::Byte,
        ArrowType::Float32 => PrimitiveType::Float,
        ArrowType::Float64 => PrimitiveType::Double,
        ArrowType::Decimal32(precision, scale)
        | ArrowType::Decimal64(precision, scale)
        | ArrowType::Decimal128(precision, scale)
            if (0..=*precision as i8).contains(scale) =>
        {
            PrimitiveType::Decimal {
                precision: *precision,
                scale: scale.unsigned_abs(),
            }
        }
        ArrowType::Boolean => PrimitiveType::Boolean,
        ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView | ArrowType::FixedSizeBinary(_) => {
            PrimitiveType::Binary
        }
        ArrowType::Date32 => PrimitiveType::Date,
        ArrowType::Timestamp(TimeUnit::Microsecond, Some(zone)) if is_utc(zone) => PrimitiveType::Timestamp,
        ArrowType::Timestamp(TimeUnit::Microsecond, None) => PrimitiveType::TimestampNtz,
        ArrowType::Null => PrimitiveType::Void,
        ArrowType::Struct(fields) => return fields_from_arrow(fields).map(DataType::Struct),
        ArrowType::List(element)
        | ArrowType::LargeList(element)
        | ArrowType::ListView(element)
        | ArrowType::LargeListView(element)
        | ArrowType::FixedSizeList(element, _) => {
            return Ok(DataType::Array(Box::new(ArrayType {
                element: type_from_arrow(element)?,
                contains_null: element.is_nullable(),
            })));
        }
        ArrowType::Map(entries, _) => return map_from_arrow(entries),
        ArrowType::Dictionary(_, values) => {
            return type_from_arrow(&Field::new(field.name(), values.as_ref().clone(), true));
        }
        other => return Err(format!("column `{}` is {other}, which has no Delta type", field.name())),
    };
    Ok(primitive.into())
}

fn map_from_arrow(entries: &Field) -> Result<DataType, String> {
    let ArrowType::Struct(fields) = entries.data_type() else {
        return Err(format!("the entries of map `{}` are no struct", entries.name()));
    };
    let [key, value] = fields.as_ref() else {
        return Err(format!("map `{}` has {} parts, not 2", entries.name(), fields.len()));
    };
    Ok(DataType::Map(Box::new(MapType {
        key: type_from_arrow(key)?,
        value: type_from_arrow(value)?,
        value_contains_null: value.is_nullable(),
    })))
}

fn is_utc(zone: &str) -> bool {
    ["UTC", "utc", "Z", "+00:00", "-00:00", "Etc/UTC"].contains(&zone)
}

impl ColumnMapping {
    /// Whether a field of a file is this column, or nested field, of the table.
    pub fn is_column(self, declared: &Field, in_file: &Field) -> bool {
        match self {
            ColumnMapping::None => declared.name() == in_file.name(),
            ColumnMapping::Name => {
                let physical = declared.metadata().get(COLUMN_MAPPING_NAME);
                physical.unwrap_or(declared.name()) == in_file.name()
            }
            ColumnMapping::Id => {
                let id = declared.metadata().get(COLUMN_MAPPING_ID);
                id.is_some() && id == in_file.metadata().get(PARQUET_FIELD_ID_META_KEY)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn every_type() -> StructType {
        let primitives = [
            "string",
            "long",
            "integer",
            "short",
            "byte",
            "float",
            "double",
            "decimal(12,3)",
            "boolean",
            "binary",
            "date",
            "timestamp",
            "timestamp_ntz",
            "void",
        ];
        let mut fields: Vec<Value> = primitives
            .iter()
            .map(|name| json!({"name": name, "type": name, "nullable": true, "metadata": {"comment": "c"}}))
            .collect();
        fields.push(
            json!({"name": "nested", "nullable": false, "metadata": {}, "type": {"type": "array",
            "containsNull": false, "elementType": {"type": "map", "keyType": "string", "valueContainsNull": true,
                "valueType": {"type": "struct", "fields": [
                    {"name": "x", "type": "long", "nullable": false, "metadata": {}}]}}}}),
        );
        serde_json::from_value(json!({"type": "struct", "fields": fields})).unwrap()
    }

    #[test]
    fn every_type_comes_back() {
        let schema = every_type();
        assert_eq!(from_arrow(&to_arrow(&schema)).unwrap(), schema);
    }

    #[test]
    fn a_type_without_a_delta_form_is_named() {
        for data_type in [
            ArrowType::UInt64,
            ArrowType::Timestamp(TimeUnit::Nanosecond, None),
            ArrowType::Timestamp(TimeUnit::Microsecond, Some("Europe/Berlin".into())),
        ] {
            let error = from_arrow(&Schema::new(vec![Field::new("odd", data_type, true)])).unwrap_err();
            assert!(error.starts_with("column `odd` is "), "{error}");
        }
    }

    #[test]
    fn files_of_a_mapped_table_use_physical_names_at_every_level() {
        let schema: StructType = serde_json::from_value(json!({"type": "struct", "fields": [{
            "name": "e", "nullable": true, "metadata": {"delta.columnMapping.id": 4, "delta.columnMapping.physicalName": "col-4"},
            "type": {"type": "array", "containsNull": true, "elementType": {"type": "struct", "fields": [{
                "name": "d", "type": "integer", "nullable": false,
                "metadata": {"delta.columnMapping.id": 5, "delta.columnMapping.physicalName": "col-5"}}]}}}]}))
        .unwrap();
        let physical = to_physical_arrow(&schema, ColumnMapping::Name);
        let field = physical.field(0);
        assert_eq!(
            (
                field.name().as_str(),
                field.metadata()["delta.columnMapping.id"].as_str()
            ),
            ("col-4", "4")
        );
        let ArrowType::List(element) = field.data_type() else {
            panic!("{field}")
        };
        let ArrowType::Struct(fields) = element.data_type() else {
            panic!("{element}")
        };
        assert_eq!(fields[0].name(), "col-5");
        assert_eq!(to_arrow(&schema).field(0).name(), "e");
    }
}
