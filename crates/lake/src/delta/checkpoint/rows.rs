//! A piece of a checkpoint's Parquet, row by row, as actions.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Int32Array, Int64Array, ListArray, MapArray, RecordBatch, StringArray, StructArray,
};
use serde_json::Map;

use super::parsed_stats::to_json;
use crate::delta::action::{
    Action, Add, CheckpointMetadata, DomainMetadata, Format, Metadata, Protocol, Remove, Sidecar, Tags, Txn,
};
use crate::delta::deletion_vector::DeletionVector;

/// The actions of these rows, sorted by their kind. The error says what a row lacks.
pub(super) fn actions(batch: &RecordBatch) -> Result<Vec<Action>, String> {
    let mut found = Vec::with_capacity(batch.num_rows());
    let each = |name: &'static str, read: &mut dyn FnMut(&Columns<'_>) -> Result<(), String>| match batch
        .column_by_name(name)
    {
        None => Ok(()),
        Some(column) => {
            let of = column.as_struct_opt().ok_or_else(|| format!("`{name}` is no struct"))?;
            read(&Columns { name, of })
        }
    };
    each("protocol", &mut |columns| read(columns, &mut found, protocol))?;
    each("metaData", &mut |columns| read(columns, &mut found, metadata))?;
    each("txn", &mut |columns| read(columns, &mut found, txn))?;
    each("domainMetadata", &mut |columns| {
        read(columns, &mut found, domain_metadata)
    })?;
    each("checkpointMetadata", &mut |columns| {
        read(columns, &mut found, checkpoint_metadata)
    })?;
    each("sidecar", &mut |columns| read(columns, &mut found, sidecar))?;
    each("add", &mut |columns| adds(columns, &mut found))?;
    each("remove", &mut |columns| removes(columns, &mut found))?;
    Ok(found)
}

/// For the few rows of a kind of which there are few.
fn read(
    columns: &Columns<'_>,
    found: &mut Vec<Action>,
    action: impl Fn(&Columns<'_>, usize) -> Result<Action, String>,
) -> Result<(), String> {
    for row in columns.rows() {
        found.push(action(columns, row)?);
    }
    Ok(())
}

fn protocol(columns: &Columns<'_>, row: usize) -> Result<Action, String> {
    let version = |name| {
        let version = columns.need(name, columns.long(name).get(row))?;
        i32::try_from(version).map_err(|error| error.to_string())
    };
    Ok(Action::Protocol(Protocol {
        min_reader_version: version("minReaderVersion")?,
        min_writer_version: version("minWriterVersion")?,
        reader_features: columns.list("readerFeatures").get(row),
        writer_features: columns.list("writerFeatures").get(row),
        rest: Map::new(),
    }))
}

fn metadata(columns: &Columns<'_>, row: usize) -> Result<Action, String> {
    let text = |name| columns.text(name).get(row);
    let format = columns.nested("format").map(|format| Format {
        provider: format.text("provider").get(row).unwrap_or_else(|| "parquet".to_owned()),
        options: present(format.map("options").get(row)),
    });
    Ok(Action::Metadata(Box::new(Metadata {
        id: columns.need("id", text("id"))?,
        name: text("name"),
        description: text("description"),
        format: format.unwrap_or_default(),
        schema_string: columns.need("schemaString", text("schemaString"))?,
        partition_columns: columns.list("partitionColumns").get(row).unwrap_or_default(),
        created_time: columns.long("createdTime").get(row),
        configuration: present(columns.map("configuration").get(row)),
        rest: Map::new(),
    })))
}

fn present(map: Option<Tags>) -> std::collections::BTreeMap<String, String> {
    let pairs = map.into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key, value?))).collect()
}

fn txn(columns: &Columns<'_>, row: usize) -> Result<Action, String> {
    Ok(Action::Txn(Txn {
        app_id: columns.need("appId", columns.text("appId").get(row))?,
        version: columns.need("version", columns.long("version").get(row))?,
        last_updated: columns.long("lastUpdated").get(row),
        rest: Map::new(),
    }))
}

fn domain_metadata(columns: &Columns<'_>, row: usize) -> Result<Action, String> {
    Ok(Action::DomainMetadata(DomainMetadata {
        domain: columns.need("domain", columns.text("domain").get(row))?,
        configuration: columns.text("configuration").get(row).unwrap_or_default(),
        removed: columns.flag("removed").get(row).unwrap_or(false),
        rest: Map::new(),
    }))
}

fn checkpoint_metadata(columns: &Columns<'_>, row: usize) -> Result<Action, String> {
    Ok(Action::CheckpointMetadata(CheckpointMetadata {
        version: columns.need("version", columns.long("version").get(row))?,
        tags: columns.map("tags").get(row),
        rest: Map::new(),
    }))
}

fn sidecar(columns: &Columns<'_>, row: usize) -> Result<Action, String> {
    Ok(Action::Sidecar(Sidecar {
        path: columns.need("path", columns.text("path").get(row))?,
        size_in_bytes: columns.need("sizeInBytes", columns.long("sizeInBytes").get(row))?,
        modification_time: columns.long("modificationTime").get(row).unwrap_or(0),
        tags: columns.map("tags").get(row),
        rest: Map::new(),
    }))
}

/// Most rows are these, so their columns are looked up once.
fn adds(columns: &Columns<'_>, found: &mut Vec<Action>) -> Result<(), String> {
    let (path, size, stats) = (columns.text("path"), columns.long("size"), columns.text("stats"));
    let (modification_time, data_change) = (columns.long("modificationTime"), columns.flag("dataChange"));
    let (partition_values, tags) = (columns.map("partitionValues"), columns.map("tags"));
    let (base_row_id, commit_version) = (columns.long("baseRowId"), columns.long("defaultRowCommitVersion"));
    let (vectors, provider) = (columns.nested("deletionVector"), columns.text("clusteringProvider"));
    let parsed = columns.nested("stats_parsed");
    for row in columns.rows() {
        let parsed = || {
            parsed
                .as_ref()
                .filter(|parsed| parsed.of.is_valid(row))
                .map(|parsed| to_json(parsed.of, row))
        };
        found.push(Action::Add(Box::new(Add {
            path: columns.need("path", path.get(row))?,
            partition_values: partition_values.get(row).unwrap_or_default(),
            size: columns.need("size", size.get(row))?,
            modification_time: modification_time.get(row).unwrap_or(0),
            data_change: data_change.get(row).unwrap_or(true),
            stats: stats.get(row).or_else(parsed),
            tags: tags.get(row),
            deletion_vector: deletion_vector(vectors.as_ref(), row)?,
            base_row_id: base_row_id.get(row),
            default_row_commit_version: commit_version.get(row),
            clustering_provider: provider.get(row),
            rest: Map::new(),
        })));
    }
    Ok(())
}

fn removes(columns: &Columns<'_>, found: &mut Vec<Action>) -> Result<(), String> {
    let (path, size) = (columns.text("path"), columns.long("size"));
    let (deleted_at, data_change) = (columns.long("deletionTimestamp"), columns.flag("dataChange"));
    let (extended, partition_values) = (columns.flag("extendedFileMetadata"), columns.map("partitionValues"));
    let (base_row_id, commit_version) = (columns.long("baseRowId"), columns.long("defaultRowCommitVersion"));
    let vectors = columns.nested("deletionVector");
    for row in columns.rows() {
        found.push(Action::Remove(Box::new(Remove {
            path: columns.need("path", path.get(row))?,
            deletion_timestamp: deleted_at.get(row),
            data_change: data_change.get(row).unwrap_or(true),
            extended_file_metadata: extended.get(row),
            partition_values: partition_values.get(row),
            size: size.get(row),
            stats: None,
            tags: None,
            deletion_vector: deletion_vector(vectors.as_ref(), row)?,
            base_row_id: base_row_id.get(row),
            default_row_commit_version: commit_version.get(row),
            rest: Map::new(),
        })));
    }
    Ok(())
}

fn deletion_vector(columns: Option<&Columns<'_>>, row: usize) -> Result<Option<DeletionVector>, String> {
    let Some(columns) = columns.filter(|columns| columns.of.is_valid(row)) else {
        return Ok(None);
    };
    let number = |name| -> Result<i32, String> {
        let number = columns.need(name, columns.long(name).get(row))?;
        i32::try_from(number).map_err(|error| error.to_string())
    };
    // A struct of nulls is how some writers say that there is none.
    let Some(storage_type) = columns.text("storageType").get(row) else {
        return Ok(None);
    };
    Ok(Some(DeletionVector {
        storage_type,
        path_or_inline_dv: columns.need("pathOrInlineDv", columns.text("pathOrInlineDv").get(row))?,
        offset: columns
            .long("offset")
            .get(row)
            .and_then(|offset| i32::try_from(offset).ok()),
        size_in_bytes: number("sizeInBytes")?,
        cardinality: columns.need("cardinality", columns.long("cardinality").get(row))?,
        rest: Map::new(),
    }))
}

/// The columns of one kind of action, or of a struct in it.
struct Columns<'a> {
    name: &'static str,
    of: &'a StructArray,
}

impl<'a> Columns<'a> {
    /// The rows that hold such an action.
    fn rows(&self) -> impl Iterator<Item = usize> + use<'a> {
        let of = self.of;
        (0..of.len()).filter(|row| of.is_valid(*row))
    }

    fn column(&self, name: &str) -> Option<&'a ArrayRef> {
        self.of.column_by_name(name)
    }

    fn need<T>(&self, name: &str, value: Option<T>) -> Result<T, String> {
        value.ok_or_else(|| format!("a row of `{}` has no `{name}`", self.name))
    }

    fn text(&self, name: &str) -> Text<'a> {
        Text(self.column(name).and_then(|column| column.as_string_opt()))
    }

    fn long(&self, name: &str) -> Long<'a> {
        let column = self.column(name);
        Long {
            long: column.and_then(|column| column.as_primitive_opt::<Int64Type>()),
            int: column.and_then(|column| column.as_primitive_opt::<Int32Type>()),
        }
    }

    fn flag(&self, name: &str) -> Flag<'a> {
        Flag(self.column(name).and_then(|column| column.as_boolean_opt()))
    }

    fn map(&self, name: &str) -> TextMap<'a> {
        TextMap(self.column(name).and_then(|column| {
            let map = column.as_map_opt()?;
            Some((map, map.keys().as_string_opt()?, map.values().as_string_opt()?))
        }))
    }

    fn list(&self, name: &str) -> TextList<'a> {
        TextList(self.column(name).and_then(|column| {
            let list = column.as_list_opt::<i32>()?;
            Some((list, list.values().as_string_opt()?))
        }))
    }

    fn nested(&self, name: &'static str) -> Option<Columns<'a>> {
        let of = self.column(name)?.as_struct_opt()?;
        Some(Columns { name, of })
    }
}

struct Text<'a>(Option<&'a StringArray>);

impl Text<'_> {
    fn get(&self, row: usize) -> Option<String> {
        let texts = self.0.filter(|texts| texts.is_valid(row))?;
        Some(texts.value(row).to_owned())
    }
}

struct Long<'a> {
    long: Option<&'a Int64Array>,
    int: Option<&'a Int32Array>,
}

impl Long<'_> {
    fn get(&self, row: usize) -> Option<i64> {
        match (self.long, self.int) {
            (Some(long), _) => long.is_valid(row).then(|| long.value(row)),
            (_, Some(int)) => int.is_valid(row).then(|| int.value(row).into()),
            _ => None,
        }
    }
}

struct Flag<'a>(Option<&'a BooleanArray>);

impl Flag<'_> {
    fn get(&self, row: usize) -> Option<bool> {
        let flags = self.0.filter(|flags| flags.is_valid(row))?;
        Some(flags.value(row))
    }
}

struct TextMap<'a>(Option<(&'a MapArray, &'a StringArray, &'a StringArray)>);

impl TextMap<'_> {
    fn get(&self, row: usize) -> Option<Tags> {
        let (map, keys, values) = self.0.filter(|(map, ..)| map.is_valid(row))?;
        let offsets = map.value_offsets();
        let entries = offsets[row] as usize..offsets[row + 1] as usize;
        let pair = |at: usize| {
            let value = values.is_valid(at).then(|| values.value(at).to_owned());
            (keys.value(at).to_owned(), value)
        };
        Some(entries.map(pair).collect())
    }
}

struct TextList<'a>(Option<(&'a ListArray, &'a StringArray)>);

impl TextList<'_> {
    fn get(&self, row: usize) -> Option<Vec<String>> {
        let (list, texts) = self.0.filter(|(list, _)| list.is_valid(row))?;
        let offsets = list.value_offsets();
        let elements = offsets[row] as usize..offsets[row + 1] as usize;
        Some(
            elements
                .filter(|at| texts.is_valid(*at))
                .map(|at| texts.value(at).to_owned())
                .collect(),
        )
    }
}
