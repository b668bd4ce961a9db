//! Table schemas: from Arrow to Delta, the first version's actions, and whether a table fits what is declared.

use std::collections::BTreeMap;

use arrow_schema::Schema;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::{StructField, StructType};
use model::Stream;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{LakeError, Names};

/// Versions between two checkpoints; a reader replays at most these many commits.
pub(crate) const CHECKPOINT_INTERVAL: i64 = 100;

/// What a table must be for its writer.
#[derive(Debug, Clone)]
pub(crate) struct TableSpec {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) schema: StructType,
    pub(crate) partition_columns: Vec<String>,
    pub(crate) declarations: Vec<Declaration>,
}

/// How a writer judges the records of a stream. The table's properties keep it: `<fingerprint>/<unique>`, where the
/// second part tells two writers apart who have set the same one with another's between them.
#[derive(Debug, Clone)]
pub(crate) struct Declaration {
    pub(crate) stream: String,
    property: String,
    fingerprint: String,
}

impl Declaration {
    pub(crate) fn new(stream: &Stream, application: &str) -> Self {
        Self {
            property: format!("smartcity.declaration.{application}/{}", stream.name),
            fingerprint: stream.fingerprint(),
            stream: stream.name.clone(),
        }
    }

    pub(crate) fn value_in<'a>(&self, metadata: &'a MetadataAction) -> Option<&'a str> {
        metadata.property(&self.property)
    }

    fn is_in(&self, metadata: &MetadataAction) -> bool {
        let found = self.value_in(metadata).and_then(|value| value.split_once('/'));
        found.is_some_and(|(fingerprint, _)| fingerprint == self.fingerprint)
    }

    fn property(&self, names: &Names) -> (String, String) {
        (self.property.clone(), format!("{}/{}", self.fingerprint, names.next()))
    }
}

/// A `metaData` action: the parts that bind a writer, and the rest as it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MetadataAction {
    pub(crate) schema_string: String,
    #[serde(default)]
    pub(crate) partition_columns: Vec<String>,
    #[serde(default)]
    configuration: BTreeMap<String, String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl MetadataAction {
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.configuration.get(name).map(String::as_str)
    }

    /// With the property, when it has none of this name.
    pub(crate) fn with_absent_property(&self, name: &str, value: &str) -> Option<Self> {
        if self.configuration.contains_key(name) {
            return None;
        }
        let mut changed = self.clone();
        changed.configuration.insert(name.to_owned(), value.to_owned());
        Some(changed)
    }
}

/// The parts of a `protocol` action that bind a writer.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProtocolAction {
    pub(crate) min_writer_version: i64,
    #[serde(default)]
    pub(crate) writer_features: Option<Vec<String>>,
}

/// Features of writer version 7 that ask nothing of an append of plain files. `invariants` does when a column has one,
/// which [`TableSpec::check_metadata`] sees.
const KNOWN_WRITER_FEATURES: [&str; 2] = ["appendOnly", "invariants"];

impl TableSpec {
    pub(crate) fn new(
        name: &str,
        description: &str,
        schema: &Schema,
        partition_columns: &[&str],
        declarations: Vec<Declaration>,
    ) -> Result<Self, LakeError> {
        let schema = schema
            .try_into_kernel()
            .map_err(|error| LakeError::batch(name, format!("its schema has no Delta form: {error}")))?;
        Ok(Self {
            name: name.to_owned(),
            description: description.to_owned(),
            schema,
            partition_columns: partition_columns.iter().map(|column| (*column).to_owned()).collect(),
            declarations,
        })
    }

    /// The actions of version 0, without the commit's own.
    pub(crate) fn create_actions(&self, table_id: &str, now_ms: i64, names: &Names) -> Result<Vec<Value>, LakeError> {
        let interval = ("delta.checkpointInterval".to_owned(), CHECKPOINT_INTERVAL.to_string());
        let declared = self.declarations.iter().map(|declaration| declaration.property(names));
        let configuration: BTreeMap<_, _> = declared.chain([interval]).collect();
        let schema_string = serde_json::to_string(&self.schema)
            .map_err(|error| LakeError::batch(&self.name, format!("its schema has no JSON form: {error}")))?;
        let protocol = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}});
        let metadata = json!({"metaData": {
            "id": table_id,
            "name": self.name,
            "description": self.description,
            "format": {"provider": "parquet", "options": {}},
            "schemaString": schema_string,
            "partitionColumns": self.partition_columns,
            "configuration": configuration,
            "createdTime": now_ms,
        }});
        Ok(vec![protocol, metadata])
    }

    /// The table's metadata with what this writer's declarations add to it; `None` when they are all there.
    pub(crate) fn adopt(&self, found: &MetadataAction, names: &Names) -> Result<Option<MetadataAction>, LakeError> {
        let mut adopted = found.clone();
        adopted.schema_string = self.with_gained_columns(&found.schema_string)?;
        for declaration in self.declarations.iter().filter(|declaration| !declaration.is_in(found)) {
            adopted.configuration.extend([declaration.property(names)]);
        }
        self.check_metadata(&adopted)?;
        Ok((adopted != *found).then_some(adopted))
    }

    /// The schema with the nullable columns that only the declaration has at its end; rows there are read as null.
    fn with_gained_columns(&self, schema_string: &str) -> Result<String, LakeError> {
        let unreadable = |error: serde_json::Error| self.unreadable_schema(&error);
        let schema: StructType = serde_json::from_str(schema_string).map_err(unreadable)?;
        let is_gained = |field: &&StructField| field.is_nullable() && schema.field(field.name()).is_none();
        let mut gained = self.schema.fields().filter(is_gained).peekable();
        if gained.peek().is_none() {
            return Ok(schema_string.to_owned());
        }
        // As text, so that what others have noted in it stays.
        let mut text: Value = serde_json::from_str(schema_string).map_err(unreadable)?;
        let columns: Result<Vec<Value>, _> = gained.map(serde_json::to_value).collect();
        if let Some(fields) = text["fields"].as_array_mut() {
            fields.extend(columns.map_err(unreadable)?);
        }
        Ok(text.to_string())
    }

    fn unreadable_schema(&self, error: &serde_json::Error) -> LakeError {
        LakeError::unusable(&self.name, format!("its schema cannot be read: {error}"))
    }

    /// The files this writer makes must be legal in the table. Columns that only the table has are read as null, so they
    /// may stay if they are nullable.
    pub(crate) fn check_metadata(&self, found: &MetadataAction) -> Result<(), LakeError> {
        let schema: StructType =
            serde_json::from_str(&found.schema_string).map_err(|error| self.unreadable_schema(&error))?;
        let mut differences = Vec::new();
        for declared in self.schema.fields() {
            match schema.field(declared.name()) {
                None => differences.push(format!("the table has no column `{}`", declared.name())),
                Some(column) => differences.extend(difference(declared, column)),
            }
        }
        for column in schema.fields() {
            if self.schema.field(column.name()).is_none() && !column.is_nullable() {
                differences.push(format!("required column `{}` is not declared", column.name()));
            }
            if column.metadata().contains_key("delta.invariants") {
                differences.push(format!(
                    "column `{}` has an invariant, which we do not check",
                    column.name()
                ));
            }
        }
        if found.partition_columns != self.partition_columns {
            differences.push(format!(
                "it is partitioned by {:?}, not by {:?}",
                found.partition_columns, self.partition_columns
            ));
        }
        if differences.is_empty() {
            return Ok(());
        }
        Err(LakeError::SchemaDiffers {
            table: self.name.clone(),
            differences,
        })
    }

    /// Refuses what this writer does not know: an append that ignores a feature damages the table.
    pub(crate) fn check_protocol(&self, found: &ProtocolAction) -> Result<(), LakeError> {
        let unknown: Vec<&str> = match (found.min_writer_version, &found.writer_features) {
            (..=2, _) => return Ok(()),
            (7, Some(features)) => features
                .iter()
                .map(String::as_str)
                .filter(|feature| !KNOWN_WRITER_FEATURES.contains(feature))
                .collect(),
            (7, None) => return Ok(()),
            (version, _) => {
                return Err(LakeError::unusable(
                    &self.name,
                    format!("it asks for Delta writer version {version}, we know 2 and 7"),
                ));
            }
        };
        if unknown.is_empty() {
            return Ok(());
        }
        Err(LakeError::unusable(
            &self.name,
            format!(
                "it asks for Delta writer features we do not know: {}",
                unknown.join(", ")
            ),
        ))
    }
}

fn difference(declared: &StructField, column: &StructField) -> Option<String> {
    if declared.data_type() != column.data_type() {
        return Some(format!(
            "column `{}` is {} in the table and declared {}",
            declared.name(),
            column.data_type(),
            declared.data_type()
        ));
    }
    (declared.is_nullable() && !column.is_nullable()).then(|| {
        format!(
            "column `{}` is required in the table and declared nullable",
            declared.name()
        )
    })
}
