//! What a table must be for its writer: the first version's actions, and whether a table fits what is declared.

use std::collections::BTreeMap;

use arrow_schema::Schema;
use model::Stream;
use serde_json::Map;

use crate::delta::action::{Action, Format, Metadata, Protocol};
use crate::delta::arrow::from_arrow;
use crate::delta::features;
use crate::delta::field_ids::{self, MAX_COLUMN_ID, MAX_FIELD_ID};
use crate::delta::schema::{StructField, StructType};
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

/// By which declaration a writer validates the records of a stream. The table's properties keep it:
/// `<fingerprint>/<unique>`, where the second part tells two writers apart who have set the same one with another's
/// between them.
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

    pub(crate) fn value_in<'a>(&self, metadata: &'a Metadata) -> Option<&'a str> {
        metadata.property(&self.property)
    }

    fn is_in(&self, metadata: &Metadata) -> bool {
        let found = self.value_in(metadata).and_then(|value| value.split_once('/'));
        found.is_some_and(|(fingerprint, _)| fingerprint == self.fingerprint)
    }

    fn property(&self, names: &Names) -> (String, String) {
        (self.property.clone(), format!("{}/{}", self.fingerprint, names.next()))
    }
}

impl TableSpec {
    pub(crate) fn new(
        name: &str,
        description: &str,
        schema: &Schema,
        partition_columns: &[&str],
        declarations: Vec<Declaration>,
    ) -> Result<Self, LakeError> {
        let schema =
            from_arrow(schema).map_err(|why| LakeError::batch(name, format!("its schema has no Delta form: {why}")))?;
        Ok(Self {
            name: name.to_owned(),
            description: description.to_owned(),
            schema,
            partition_columns: partition_columns.iter().map(|column| (*column).to_owned()).collect(),
            declarations,
        })
    }

    /// The actions of version 0, without the commit's own.
    pub(crate) fn create_actions(&self, table_id: &str, now_ms: i64, names: &Names) -> Result<Vec<Action>, LakeError> {
        let mut schema = self.schema.clone();
        let max_id = field_ids::assign(&mut schema, 0);
        let own = [
            ("delta.checkpointInterval".to_owned(), CHECKPOINT_INTERVAL.to_string()),
            (MAX_FIELD_ID.to_owned(), max_id.to_string()),
        ];
        let declared = self.declarations.iter().map(|declaration| declaration.property(names));
        let metadata = Metadata {
            id: table_id.to_owned(),
            name: Some(self.name.clone()),
            description: Some(self.description.clone()),
            format: Format::default(),
            schema_string: self.schema_text(&schema)?,
            partition_columns: self.partition_columns.clone(),
            created_time: Some(now_ms),
            configuration: declared.chain(own).collect::<BTreeMap<_, _>>(),
            rest: Map::new(),
        };
        Ok(vec![
            Action::Protocol(Protocol::plain()),
            Action::Metadata(Box::new(metadata)),
        ])
    }

    /// The table's metadata with what this writer's declarations add to it: nullable columns at the end, where rows
    /// before them are read as null, ids for columns without one, and the declarations themselves. `None` when they are
    /// all there.
    pub(crate) fn adopt(&self, found: &Metadata, names: &Names) -> Result<Option<Metadata>, LakeError> {
        let mut schema = self.schema_of(found)?;
        let is_gained = |field: &&StructField| field.nullable && schema.field(&field.name).is_none();
        let gained: Vec<StructField> = self.schema.fields.iter().filter(is_gained).cloned().collect();
        let known = schema.clone();
        schema.fields.extend(gained);
        let max = [MAX_FIELD_ID, MAX_COLUMN_ID]
            .iter()
            .filter_map(|name| found.property(name)?.parse().ok());
        let max_id = field_ids::assign(&mut schema, max.max().unwrap_or(0));
        let mut adopted = found.clone();
        if schema != known {
            adopted.schema_string = self.schema_text(&schema)?;
        }
        adopted
            .configuration
            .insert(MAX_FIELD_ID.to_owned(), max_id.to_string());
        for declaration in self.declarations.iter().filter(|declaration| !declaration.is_in(found)) {
            adopted.configuration.extend([declaration.property(names)]);
        }
        self.check_metadata(&adopted)?;
        Ok((adopted != *found).then_some(adopted))
    }

    fn schema_text(&self, schema: &StructType) -> Result<String, LakeError> {
        serde_json::to_string(schema)
            .map_err(|error| LakeError::batch(&self.name, format!("its schema has no JSON form: {error}")))
    }

    /// The schema of the table's metadata.
    pub(crate) fn schema_of(&self, found: &Metadata) -> Result<StructType, LakeError> {
        serde_json::from_str(&found.schema_string)
            .map_err(|error| LakeError::unusable(&self.name, format!("its schema cannot be read: {error}")))
    }

    /// The files this writer makes must be legal in the table. Columns that only the table has are read as null, so they
    /// may stay if they are nullable.
    pub(crate) fn check_metadata(&self, found: &Metadata) -> Result<(), LakeError> {
        let schema = self.schema_of(found)?;
        let mut differences = Vec::new();
        for declared in &self.schema.fields {
            match schema.field(&declared.name) {
                None => differences.push(format!("the table has no column `{}`", declared.name)),
                Some(column) => differences.extend(difference(declared, column)),
            }
        }
        for column in &schema.fields {
            if self.schema.field(&column.name).is_none() && !column.nullable {
                differences.push(format!("required column `{}` is not declared", column.name));
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

    /// Refuses what this writer does not do: an append that ignores a feature damages the table.
    pub(crate) fn check_features(
        &self,
        protocol: &Protocol,
        metadata: &Metadata,
        clustered_by: &[String],
    ) -> Result<(), LakeError> {
        let schema = self.schema_of(metadata).map_err(|error| {
            // A type that this writer does not know comes with a feature, and that is the name to look for.
            let features = protocol.writer_features.as_deref().unwrap_or_default().join(", ");
            LakeError::unusable(&self.name, format!("{error}; it asks its writers for: {features}"))
        })?;
        features::check_writable(protocol, metadata, &schema, &self.schema, clustered_by)
            .map_err(|why| LakeError::unusable(&self.name, why))
    }
}

fn difference(declared: &StructField, column: &StructField) -> Option<String> {
    if !column.data_type.takes(&declared.data_type) {
        return Some(format!(
            "column `{}` is {} in the table and declared {}",
            declared.name, column.data_type, declared.data_type
        ));
    }
    (declared.nullable && !column.nullable).then(|| {
        format!(
            "column `{}` is required in the table and declared nullable",
            declared.name
        )
    })
}
