//! Actions as the columns of a checkpoint (PROTOCOL.md, "Checkpoint Schema"): one struct per kind, null in the rows of
//! the other kinds.

use std::sync::Arc;

use arrow_array::builder::{ListBuilder, MapBuilder, MapFieldNames, StringBuilder};
use arrow_array::{ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef};

use crate::delta::action::{Action, Add, DomainMetadata, Metadata, Protocol, Remove, Txn};
use crate::delta::deletion_vector::DeletionVector;

/// The schema of every checkpoint file.
pub(super) fn schema() -> Result<SchemaRef, ArrowError> {
    Ok(batch(&[])?.schema())
}

/// One row per action, in their order. Kinds that do not belong into a checkpoint become rows of nulls: leave them out.
pub(super) fn batch(actions: &[Action]) -> Result<RecordBatch, ArrowError> {
    let columns = [
        (
            "txn",
            txns(&Rows::of(actions, |action| match action {
                Action::Txn(txn) => Some(txn),
                _ => None,
            })),
        ),
        (
            "add",
            adds(&Rows::of(actions, |action| match action {
                Action::Add(add) => Some(add),
                _ => None,
            })),
        ),
        (
            "remove",
            removes(&Rows::of(actions, |action| match action {
                Action::Remove(remove) => Some(remove),
                _ => None,
            })),
        ),
        (
            "metaData",
            metadata(&Rows::of(actions, |action| match action {
                Action::Metadata(metadata) => Some(metadata),
                _ => None,
            })),
        ),
        (
            "protocol",
            protocols(&Rows::of(actions, |action| match action {
                Action::Protocol(protocol) => Some(protocol),
                _ => None,
            })),
        ),
        (
            "domainMetadata",
            domains(&Rows::of(actions, |action| match action {
                Action::DomainMetadata(domain) => Some(domain),
                _ => None,
            })),
        ),
    ];
    let mut fields = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for (name, column) in columns {
        let column = column?;
        fields.push(Field::new(name, column.data_type().clone(), true));
        arrays.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
}

/// The rows of a batch, as far as they are of one kind.
struct Rows<'a, T>(Vec<Option<&'a T>>);

impl<'a, T> Rows<'a, T> {
    fn of(actions: &'a [Action], kind: impl Fn(&'a Action) -> Option<&'a T>) -> Self {
        Self(actions.iter().map(kind).collect())
    }

    /// Rows of what some of these rows hold.
    fn nested<N>(&self, part: impl Fn(&'a T) -> Option<&'a N>) -> Rows<'a, N> {
        Rows(self.0.iter().map(|row| row.and_then(&part)).collect())
    }

    fn text(&self, part: impl Fn(&'a T) -> Option<&'a str>) -> ArrayRef {
        Arc::new(StringArray::from_iter(self.0.iter().map(|row| row.and_then(&part))))
    }

    fn long(&self, part: impl Fn(&'a T) -> Option<i64>) -> ArrayRef {
        Arc::new(Int64Array::from_iter(self.0.iter().map(|row| row.and_then(&part))))
    }

    fn int(&self, part: impl Fn(&'a T) -> Option<i32>) -> ArrayRef {
        Arc::new(Int32Array::from_iter(self.0.iter().map(|row| row.and_then(&part))))
    }

    fn flag(&self, part: impl Fn(&'a T) -> Option<bool>) -> ArrayRef {
        Arc::new(BooleanArray::from_iter(self.0.iter().map(|row| row.and_then(&part))))
    }

    /// `part` gives the pairs of a row, or `None` for null.
    fn map<I>(&self, part: impl Fn(&'a T) -> Option<I>) -> Result<ArrayRef, ArrowError>
    where
        I: IntoIterator<Item = (&'a str, Option<&'a str>)>,
    {
        let names = MapFieldNames {
            entry: "key_value".to_owned(),
            key: "key".to_owned(),
            value: "value".to_owned(),
        };
        let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
        for row in &self.0 {
            let pairs = row.and_then(&part);
            let is_there = pairs.is_some();
            for (key, value) in pairs.into_iter().flatten() {
                maps.keys().append_value(key);
                maps.values().append_option(value);
            }
            maps.append(is_there)?;
        }
        Ok(Arc::new(maps.finish()))
    }

    fn list(&self, part: impl Fn(&'a T) -> Option<&'a Vec<String>>) -> ArrayRef {
        let element = Field::new("element", DataType::Utf8, true);
        let mut lists = ListBuilder::new(StringBuilder::new()).with_field(element);
        for row in &self.0 {
            let texts = row.and_then(&part);
            let is_there = texts.is_some();
            for text in texts.into_iter().flatten() {
                lists.values().append_value(text);
            }
            lists.append(is_there);
        }
        Arc::new(lists.finish())
    }

    /// The struct of these columns, null where there is no row of this kind.
    fn structs<const N: usize>(&self, columns: [(&str, ArrayRef); N]) -> Result<ArrayRef, ArrowError> {
        let fields = columns
            .iter()
            .map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
        let fields: Fields = fields.collect();
        let validity: NullBuffer = self.0.iter().map(Option::is_some).collect::<Vec<_>>().into();
        let arrays = columns.into_iter().map(|(_, column)| column).collect();
        Ok(Arc::new(StructArray::try_new(fields, arrays, Some(validity))?))
    }
}

type Column = Result<ArrayRef, ArrowError>;

fn pairs<'a, V: 'a>(
    map: impl IntoIterator<Item = (&'a String, &'a V)>,
    value: impl Fn(&'a V) -> Option<&'a str>,
) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
    map.into_iter().map(move |(key, found)| (key.as_str(), value(found)))
}

fn txns(rows: &Rows<'_, Txn>) -> Column {
    rows.structs([
        ("appId", rows.text(|txn| Some(&txn.app_id))),
        ("version", rows.long(|txn| Some(txn.version))),
        ("lastUpdated", rows.long(|txn| txn.last_updated)),
    ])
}

fn adds(rows: &Rows<'_, Box<Add>>) -> Column {
    rows.structs([
        ("path", rows.text(|add| Some(&add.path))),
        (
            "partitionValues",
            rows.map(|add| Some(pairs(&add.partition_values, Option::as_deref)))?,
        ),
        ("size", rows.long(|add| Some(add.size))),
        ("modificationTime", rows.long(|add| Some(add.modification_time))),
        // What a checkpoint holds changes nothing.
        ("dataChange", rows.flag(|_| Some(false))),
        ("stats", rows.text(|add| add.stats.as_deref())),
        (
            "tags",
            rows.map(|add| Some(pairs(add.tags.as_ref()?, Option::as_deref)))?,
        ),
        (
            "deletionVector",
            vectors(&rows.nested(|add| add.deletion_vector.as_ref()))?,
        ),
        ("baseRowId", rows.long(|add| add.base_row_id)),
        (
            "defaultRowCommitVersion",
            rows.long(|add| add.default_row_commit_version),
        ),
        (
            "clusteringProvider",
            rows.text(|add| add.clustering_provider.as_deref()),
        ),
    ])
}

/// A tombstone, for vacuum alone: without statistics and tags.
fn removes(rows: &Rows<'_, Box<Remove>>) -> Column {
    rows.structs([
        ("path", rows.text(|remove| Some(&remove.path))),
        ("deletionTimestamp", rows.long(|remove| remove.deletion_timestamp)),
        ("dataChange", rows.flag(|_| Some(false))),
        (
            "extendedFileMetadata",
            rows.flag(|remove| remove.extended_file_metadata),
        ),
        (
            "partitionValues",
            rows.map(|remove| Some(pairs(remove.partition_values.as_ref()?, Option::as_deref)))?,
        ),
        ("size", rows.long(|remove| remove.size)),
        (
            "deletionVector",
            vectors(&rows.nested(|remove| remove.deletion_vector.as_ref()))?,
        ),
        ("baseRowId", rows.long(|remove| remove.base_row_id)),
        (
            "defaultRowCommitVersion",
            rows.long(|remove| remove.default_row_commit_version),
        ),
    ])
}

fn vectors(rows: &Rows<'_, DeletionVector>) -> Column {
    rows.structs([
        ("storageType", rows.text(|vector| Some(&vector.storage_type))),
        ("pathOrInlineDv", rows.text(|vector| Some(&vector.path_or_inline_dv))),
        ("offset", rows.int(|vector| vector.offset)),
        ("sizeInBytes", rows.int(|vector| Some(vector.size_in_bytes))),
        ("cardinality", rows.long(|vector| Some(vector.cardinality))),
    ])
}

fn metadata(rows: &Rows<'_, Box<Metadata>>) -> Column {
    let formats = rows.nested(|metadata| Some(&metadata.format));
    let format = formats.structs([
        ("provider", formats.text(|format| Some(&format.provider))),
        (
            "options",
            formats.map(|format| Some(pairs(&format.options, |value| Some(value.as_str()))))?,
        ),
    ])?;
    rows.structs([
        ("id", rows.text(|metadata| Some(&metadata.id))),
        ("name", rows.text(|metadata| metadata.name.as_deref())),
        ("description", rows.text(|metadata| metadata.description.as_deref())),
        ("format", format),
        ("schemaString", rows.text(|metadata| Some(&metadata.schema_string))),
        (
            "partitionColumns",
            rows.list(|metadata| Some(&metadata.partition_columns)),
        ),
        ("createdTime", rows.long(|metadata| metadata.created_time)),
        (
            "configuration",
            rows.map(|metadata| Some(pairs(&metadata.configuration, |value| Some(value.as_str()))))?,
        ),
    ])
}

fn protocols(rows: &Rows<'_, Protocol>) -> Column {
    rows.structs([
        (
            "minReaderVersion",
            rows.int(|protocol| Some(protocol.min_reader_version)),
        ),
        (
            "minWriterVersion",
            rows.int(|protocol| Some(protocol.min_writer_version)),
        ),
        (
            "readerFeatures",
            rows.list(|protocol| protocol.reader_features.as_ref()),
        ),
        (
            "writerFeatures",
            rows.list(|protocol| protocol.writer_features.as_ref()),
        ),
    ])
}

fn domains(rows: &Rows<'_, DomainMetadata>) -> Column {
    rows.structs([
        ("domain", rows.text(|domain| Some(&domain.domain))),
        ("configuration", rows.text(|domain| Some(&domain.configuration))),
        ("removed", rows.flag(|domain| Some(domain.removed))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::action::parse_lines;
    use crate::delta::checkpoint::rows::actions;

    #[test]
    fn every_action_of_a_checkpoint_comes_back() {
        let lines = concat!(
            r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["a","b"],"writerFeatures":["a"]}}"#,
            "\n",
            r#"{"metaData":{"id":"i","name":"n","description":"d","format":{"provider":"parquet","options":{"o":"p"}},"schemaString":"{}","partitionColumns":["d","e"],"createdTime":7,"configuration":{"k":"v"}}}"#,
            "\n",
            r#"{"txn":{"appId":"a/b/0","version":12,"lastUpdated":5}}"#,
            "\n",
            r#"{"domainMetadata":{"domain":"d","configuration":"{}","removed":false}}"#,
            "\n",
            r#"{"add":{"path":"p%201","partitionValues":{"d":"2026-01-01","e":null},"size":3,"modificationTime":4,"dataChange":false,"stats":"{\"numRecords\":1}","tags":{"t":"u","n":null},"deletionVector":{"storageType":"u","pathOrInlineDv":"x","offset":1,"sizeInBytes":2,"cardinality":3},"baseRowId":8,"defaultRowCommitVersion":9,"clusteringProvider":"c"}}"#,
            "\n",
            r#"{"add":{"path":"p2","partitionValues":{},"size":3,"modificationTime":4,"dataChange":false}}"#,
            "\n",
            r#"{"remove":{"path":"p3","deletionTimestamp":1,"dataChange":false,"extendedFileMetadata":true,"partitionValues":{"d":"x"},"size":9}}"#,
            "\n",
        );
        let wanted = parse_lines(lines.as_bytes()).unwrap();
        let found = actions(&batch(&wanted).unwrap()).unwrap();
        assert_eq!(found, wanted);
        assert_eq!(schema().unwrap(), batch(&wanted).unwrap().schema());
    }
}
