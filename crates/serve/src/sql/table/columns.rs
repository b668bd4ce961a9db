//! A table's columns: as statements see them, as a scan lays them out, and by which names the log and the files know
//! them (PROTOCOL.md, "Column Mapping").

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::datasource::table_schema::TableSchema;
use lake::delta::Snapshot;

/// The columns of one version of a table.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    /// In the table's own order.
    declared: SchemaRef,
    /// The files' columns, then the partition columns: the order in which DataFusion scans.
    scanned: TableSchema,
    /// For each declared column its place in a scan.
    scan_places: Vec<usize>,
    /// For each scanned column its name in the log's statistics and partition values.
    log_names: Vec<String>,
}

impl Columns {
    /// Of a table. Text and bytes are views, which DataFusion is fastest with.
    pub(super) fn new(snapshot: &Snapshot) -> Columns {
        let declared: Fields = snapshot.arrow_schema().fields().iter().map(scanned_field).collect();
        let partition_columns = snapshot.partition_columns();
        let is_partition = |name: &str| partition_columns.iter().any(|column| column == name);
        let (partitions, files): (Vec<usize>, Vec<usize>) =
            (0..declared.len()).partition(|place| is_partition(declared[*place].name()));
        let scan_order: Vec<usize> = files.iter().chain(&partitions).copied().collect();
        let mut scan_places = vec![0; declared.len()];
        for (scan_place, place) in scan_order.iter().enumerate() {
            scan_places[*place] = scan_place;
        }
        let log_names = scan_order
            .iter()
            .map(|place| snapshot.physical_name(declared[*place].name()).to_owned())
            .collect();
        let select =
            |places: &[usize]| -> Fields { places.iter().map(|place| Arc::clone(&declared[*place])).collect() };
        let file_schema = Arc::new(Schema::new(select(&files)));
        Columns {
            scanned: TableSchema::builder(file_schema)
                .with_table_partition_cols(select(&partitions))
                .build(),
            declared: Arc::new(Schema::new(declared)),
            scan_places,
            log_names,
        }
    }

    pub(super) fn declared(&self) -> &SchemaRef {
        &self.declared
    }

    pub(super) fn scanned(&self) -> &TableSchema {
        &self.scanned
    }

    /// Places in a scan of declared columns; of all when `None`.
    pub(super) fn scan_places(&self, declared: Option<&Vec<usize>>) -> Vec<usize> {
        match declared {
            Some(declared) => declared.iter().map(|place| self.scan_places[*place]).collect(),
            None => self.scan_places.clone(),
        }
    }

    pub(super) fn partition_fields(&self) -> &Fields {
        self.scanned.table_partition_cols()
    }

    pub(super) fn is_partition(&self, name: &str) -> bool {
        self.partition_fields().iter().any(|field| field.name() == name)
    }

    /// Names of the partition columns in a file's partition values, in the order of [`Columns::partition_fields`].
    pub(super) fn partition_log_names(&self) -> &[String] {
        &self.log_names[self.scanned.file_schema().fields().len()..]
    }

    /// A column of the files, and its name in a file's statistics.
    pub(super) fn file_column(&self, name: &str) -> Option<(&FieldRef, &str)> {
        let (place, field) = self.scanned.file_schema().fields().find(name)?;
        Some((field, &self.log_names[place]))
    }
}

/// Without metadata, which would make equal columns of two tables differ.
fn scanned_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(
        field.name(),
        scanned_type(field.data_type()),
        field.is_nullable(),
    ))
}

/// A type as scans give it: text and bytes as views, at every level.
pub(super) fn scanned_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(scanned_field).collect()),
        DataType::List(element) => DataType::List(scanned_field(element)),
        DataType::Map(entries, sorted) => DataType::Map(scanned_field(entries), *sorted),
        other => other.clone(),
    }
}
