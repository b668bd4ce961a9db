//! Delta's schema types and their JSON form (PROTOCOL.md, "Schema Serialization Format").

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

/// A field's column id, in its metadata, where the table has column mapping.
pub const COLUMN_MAPPING_ID: &str = "delta.columnMapping.id";
/// A field's name in files, statistics and partition values, where the table has column mapping.
pub const COLUMN_MAPPING_NAME: &str = "delta.columnMapping.physicalName";

/// The columns of a table, or the fields of a struct.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StructType {
    pub fields: Vec<StructField>,
}

/// A column or a nested field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StructField {
    pub name: String,
    #[serde(rename = "type")]
    pub data_type: DataType,
    pub nullable: bool,
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// What later versions of the protocol add.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The type of a field, an element, a key or a value.
#[derive(Debug, Clone, PartialEq)]
pub enum DataType {
    Primitive(PrimitiveType),
    Struct(StructType),
    Array(Box<ArrayType>),
    Map(Box<MapType>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrimitiveType {
    String,
    Long,
    Integer,
    Short,
    Byte,
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Boolean,
    Binary,
    Date,
    /// Microseconds since the epoch, UTC.
    Timestamp,
    /// Microseconds since the epoch of a clock without a zone.
    TimestampNtz,
    /// Nulls alone; in no data file.
    Void,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ArrayType {
    pub element: DataType,
    pub contains_null: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct MapType {
    pub key: DataType,
    pub value: DataType,
    pub value_contains_null: bool,
}

/// By what a table's files name their columns (PROTOCOL.md, "Column Mapping").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ColumnMapping {
    /// By the field's name.
    #[default]
    None,
    /// By the field's physical name.
    Name,
    /// By the field's id, which the files hold as `field_id`; statistics and partition values by the physical name.
    Id,
}

impl StructType {
    pub fn field(&self, name: &str) -> Option<&StructField> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Every field, those of nested structs, elements, keys and values included, outermost first.
    pub fn walk(&self, visit: &mut impl FnMut(&StructField)) {
        for field in &self.fields {
            visit(field);
            field.data_type.walk(visit);
        }
    }
}

impl StructField {
    pub fn new(name: impl Into<String>, data_type: DataType, nullable: bool) -> Self {
        Self {
            name: name.into(),
            data_type,
            nullable,
            metadata: Map::new(),
            rest: Map::new(),
        }
    }

    /// The name that the table's files, statistics and partition values use.
    pub fn physical_name(&self, mapping: ColumnMapping) -> &str {
        match mapping {
            ColumnMapping::None => &self.name,
            ColumnMapping::Name | ColumnMapping::Id => {
                let physical = self.metadata.get(COLUMN_MAPPING_NAME).and_then(Value::as_str);
                physical.unwrap_or(&self.name)
            }
        }
    }

    /// The id that column mapping gave it.
    pub fn column_mapping_id(&self) -> Option<i64> {
        self.metadata.get(COLUMN_MAPPING_ID).and_then(Value::as_i64)
    }
}

impl DataType {
    fn walk(&self, visit: &mut impl FnMut(&StructField)) {
        match self {
            DataType::Primitive(_) => {}
            DataType::Struct(fields) => fields.walk(visit),
            DataType::Array(array) => array.element.walk(visit),
            DataType::Map(map) => {
                map.key.walk(visit);
                map.value.walk(visit);
            }
        }
    }

    /// Whether a column of this type takes all values of the other: the same type, where nested values may be null here
    /// that are required there. What is noted about nested fields does not count. Spark's ALTER TABLE makes nested fields
    /// nullable.
    pub fn takes(&self, other: &DataType) -> bool {
        let takes_nulls = |here: bool, there: bool| here || !there;
        match (self, other) {
            (DataType::Struct(a), DataType::Struct(b)) => {
                a.fields.len() == b.fields.len()
                    && a.fields.iter().zip(&b.fields).all(|(a, b)| {
                        a.name == b.name && takes_nulls(a.nullable, b.nullable) && a.data_type.takes(&b.data_type)
                    })
            }
            (DataType::Array(a), DataType::Array(b)) => {
                takes_nulls(a.contains_null, b.contains_null) && a.element.takes(&b.element)
            }
            (DataType::Map(a), DataType::Map(b)) => {
                takes_nulls(a.value_contains_null, b.value_contains_null)
                    && a.key.takes(&b.key)
                    && a.value.takes(&b.value)
            }
            _ => self == other,
        }
    }
}

impl From<PrimitiveType> for DataType {
    fn from(primitive: PrimitiveType) -> Self {
        DataType::Primitive(primitive)
    }
}

impl fmt::Display for PrimitiveType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PrimitiveType::String => "string",
            PrimitiveType::Long => "long",
            PrimitiveType::Integer => "integer",
            PrimitiveType::Short => "short",
            PrimitiveType::Byte => "byte",
            PrimitiveType::Float => "float",
            PrimitiveType::Double => "double",
            PrimitiveType::Decimal { precision, scale } => return write!(f, "decimal({precision},{scale})"),
            PrimitiveType::Boolean => "boolean",
            PrimitiveType::Binary => "binary",
            PrimitiveType::Date => "date",
            PrimitiveType::Timestamp => "timestamp",
            PrimitiveType::TimestampNtz => "timestamp_ntz",
            PrimitiveType::Void => "void",
        })
    }
}

impl FromStr for PrimitiveType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "string" => PrimitiveType::String,
            "long" => PrimitiveType::Long,
            "integer" => PrimitiveType::Integer,
            "short" => PrimitiveType::Short,
            "byte" => PrimitiveType::Byte,
            "float" => PrimitiveType::Float,
            "double" => PrimitiveType::Double,
            "boolean" => PrimitiveType::Boolean,
            "binary" => PrimitiveType::Binary,
            "date" => PrimitiveType::Date,
            "timestamp" => PrimitiveType::Timestamp,
            "timestamp_ntz" => PrimitiveType::TimestampNtz,
            "void" => PrimitiveType::Void,
            // Spark's short form.
            "decimal" => PrimitiveType::Decimal {
                precision: 10,
                scale: 0,
            },
            other => return decimal(other).ok_or_else(|| format!("unknown data type `{other}`")),
        })
    }
}

fn decimal(text: &str) -> Option<PrimitiveType> {
    let digits = text.strip_prefix("decimal(")?.strip_suffix(')')?;
    let (precision, scale) = digits.split_once(',')?;
    let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
    let legal = (1..=38).contains(&precision) && scale <= precision;
    legal.then_some(PrimitiveType::Decimal { precision, scale })
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataType::Primitive(primitive) => primitive.fmt(f),
            DataType::Struct(fields) => {
                f.write_str("struct<")?;
                for (at, field) in fields.fields.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{}: {}", field.name, field.data_type)?;
                }
                f.write_str(">")
            }
            DataType::Array(array) => write!(f, "array<{}>", array.element),
            DataType::Map(map) => write!(f, "map<{}, {}>", map.key, map.value),
        }
    }
}

impl Serialize for StructType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Tagged<'a> {
            r#type: &'static str,
            fields: &'a [StructField],
        }
        Tagged {
            r#type: "struct",
            fields: &self.fields,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StructType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match DataType::deserialize(deserializer)? {
            DataType::Struct(fields) => Ok(fields),
            other => Err(D::Error::custom(format!("a schema must be a struct, not {other}"))),
        }
    }
}

impl Serialize for DataType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            DataType::Primitive(primitive) => serializer.collect_str(primitive),
            DataType::Struct(fields) => fields.serialize(serializer),
            DataType::Array(array) => json!({
                "type": "array",
                "elementType": array.element,
                "containsNull": array.contains_null,
            })
            .serialize(serializer),
            DataType::Map(map) => json!({
                "type": "map",
                "keyType": map.key,
                "valueType": map.value,
                "valueContainsNull": map.value_contains_null,
            })
            .serialize(serializer),
        }
    }
}

/// A schema is read once per table, so it goes by way of a JSON value, whose errors name what is wrong.
impl<'de> Deserialize<'de> for DataType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let part = |name: &str| {
            let part = value
                .get(name)
                .cloned()
                .ok_or_else(|| D::Error::missing_field_of(&value, name))?;
            DataType::deserialize(part).map_err(D::Error::custom)
        };
        let flag = |name: &str| value.get(name).and_then(Value::as_bool).unwrap_or(true);
        if let Some(primitive) = value.as_str() {
            return primitive.parse().map(DataType::Primitive).map_err(D::Error::custom);
        }
        match value.get("type").and_then(Value::as_str) {
            Some("struct") => {
                let fields = value.get("fields").cloned().unwrap_or(Value::Null);
                let fields = Vec::<StructField>::deserialize(fields).map_err(D::Error::custom)?;
                Ok(DataType::Struct(StructType { fields }))
            }
            Some("array") => Ok(DataType::Array(Box::new(ArrayType {
                element: part("elementType")?,
                contains_null: flag("containsNull"),
            }))),
            Some("map") => Ok(DataType::Map(Box::new(MapType {
                key: part("keyType")?,
                value: part("valueType")?,
                value_contains_null: flag("valueContainsNull"),
            }))),
            _ => Err(D::Error::custom(format!("unknown data type `{value}`"))),
        }
    }
}

trait MissingField: serde::de::Error {
    fn missing_field_of(value: &Value, name: &str) -> Self {
        Self::custom(format!("`{value}` has no `{name}`"))
    }
}

impl<E: serde::de::Error> MissingField for E {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reads_and_writes_the_same_json() {
        let text = json!({"type": "struct", "fields": [
            {"name": "a", "type": "decimal(38,7)", "nullable": true, "metadata": {"comment": "x", "n": {"y": [1]}}},
            {"name": "b", "type": {"type": "array", "elementType": {"type": "struct", "fields": [
                {"name": "d", "type": "timestamp_ntz", "nullable": false, "metadata": {COLUMN_MAPPING_ID: 5}},
            ]}, "containsNull": false}, "nullable": false, "metadata": {}, "later": 1},
            {"name": "c", "type": {"type": "map", "keyType": "string", "valueType": "binary",
                "valueContainsNull": true}, "nullable": true, "metadata": {}},
        ]});
        let schema: StructType = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(serde_json::to_value(&schema).unwrap(), text);
        let mut names = Vec::new();
        schema.walk(&mut |field| names.push((field.name.clone(), field.column_mapping_id())));
        let expected = [("a", None), ("b", None), ("d", Some(5)), ("c", None)];
        assert_eq!(names, expected.map(|(name, id)| (name.to_owned(), id)));
        assert_eq!(
            schema.fields[1].data_type.to_string(),
            "array<struct<d: timestamp_ntz>>"
        );
        for name in [
            "string", "long", "integer", "short", "byte", "float", "double", "boolean", "binary", "date",
        ] {
            assert_eq!(name.parse::<PrimitiveType>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            (
                r#"{"type":"struct","fields":[{"name":"v","type":"variant","nullable":true}]}"#,
                "unknown data type `variant`",
            ),
            (
                r#"{"type":"struct","fields":[{"name":"v","type":"decimal(39,1)","nullable":true}]}"#,
                "decimal(39,1)",
            ),
            (
                r#"{"type":"struct","fields":[{"name":"v","type":{"type":"array"},"nullable":true}]}"#,
                "has no `elementType`",
            ),
            (r#""string""#, "must be a struct, not string"),
        ] {
            let error = serde_json::from_str::<StructType>(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_column_takes_a_type_whatever_is_noted_about_nested_fields() {
        let plain = DataType::Struct(StructType {
            fields: vec![StructField::new("a", PrimitiveType::Long.into(), true)],
        });
        let mut noted = plain.clone();
        if let DataType::Struct(fields) = &mut noted {
            fields.fields[0].metadata.insert("comment".to_owned(), "x".into());
        }
        assert!(plain.takes(&noted) && plain != noted);
        if let DataType::Struct(fields) = &mut noted {
            fields.fields[0].nullable = false;
        }
        // A required value may go where it may be null, not the other way round.
        assert!(plain.takes(&noted) && !noted.takes(&plain));
    }
}
