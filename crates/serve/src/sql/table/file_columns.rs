//! From the columns of one data file to the table's.
//!
//! A file may lack columns that were added later, have them in another order, by other names (column mapping), or in
//! another physical type (other writers: large text, dictionaries, INT96 and millisecond timestamps). Columns are found
//! here; the casts and the nulls for what is missing are DataFusion's own adapter, which finds by name.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, LargeListArray, ListArray, MapArray, RecordBatch, StructArray};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory,
};
use lake::delta::{ColumnMapping, Snapshot};

use super::columns::scanned_type;

/// How the columns of a table are found in its files.
#[derive(Debug)]
pub(super) struct FileColumns {
    /// With the metadata of column mapping.
    declared: Fields,
    mapping: ColumnMapping,
}

impl FileColumns {
    pub(super) fn new(snapshot: &Snapshot) -> FileColumns {
        FileColumns {
            declared: annotated(snapshot.arrow_schema()),
            mapping: snapshot.column_mapping(),
        }
    }

    /// Fields of a file by the names that the table has for them, in the file's order. What the table does not have gets
    /// a name that no column has.
    fn named(&self, in_file: &Fields, declared: &Fields) -> Fields {
        let named = |(place, field): (usize, &FieldRef)| match declared
            .iter()
            .find(|column| self.mapping.is_column(column, field))
        {
            Some(column) => self.named_field(field, column),
            None => Field::clone(field).with_name(format!("\0{place}")),
        };
        in_file.iter().enumerate().map(named).collect()
    }

    /// Nullability and metadata are the table's, so that a field of the right type needs no cast.
    fn named_field(&self, in_file: &Field, declared: &Field) -> Field {
        let data_type = self.named_type(in_file.data_type(), declared.data_type());
        Field::new(declared.name(), data_type, declared.is_nullable())
    }

    fn named_type(&self, in_file: &DataType, declared: &DataType) -> DataType {
        match (in_file, declared) {
            (DataType::Struct(in_file), DataType::Struct(declared)) => DataType::Struct(self.named(in_file, declared)),
            (DataType::List(in_file), DataType::List(declared)) => {
                DataType::List(Arc::new(self.named_field(in_file, declared)))
            }
            (DataType::LargeList(in_file), DataType::List(declared)) => {
                DataType::LargeList(Arc::new(self.named_field(in_file, declared)))
            }
            (DataType::Map(in_file, sorted), DataType::Map(declared, _)) => {
                let (DataType::Struct(from), DataType::Struct(to)) = (in_file.data_type(), declared.data_type()) else {
                    return DataType::Map(Arc::clone(in_file), *sorted);
                };
                // Keys and values have no names in Delta.
                let parts = from.iter().zip(to).map(|(from, to)| self.named_field(from, to));
                let entries = DataType::Struct(parts.collect());
                DataType::Map(Arc::new(Field::new(declared.name(), entries, false)), *sorted)
            }
            (in_file, _) => in_file.clone(),
        }
    }
}

impl PhysicalExprAdapterFactory for FileColumns {
    fn create(&self, table: SchemaRef, in_file: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let named = Arc::new(Schema::new(self.named(in_file.fields(), &self.declared)));
        let by_name = DefaultPhysicalExprAdapterFactory.create(table, Arc::clone(&named))?;
        Ok(Arc::new(FileAdapter {
            by_name,
            named,
            in_file,
        }))
    }
}

/// Rewrites expressions over the table's columns to expressions over one file's.
#[derive(Debug)]
struct FileAdapter {
    by_name: Arc<dyn PhysicalExprAdapter>,
    /// The file's columns by the table's names.
    named: SchemaRef,
    in_file: SchemaRef,
}

impl PhysicalExprAdapter for FileAdapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let over_named = self.by_name.rewrite(expr)?;
        over_named
            .transform_up(|expr| {
                let Some(column) = expr.downcast_ref::<Column>() else {
                    return Ok(Transformed::no(expr));
                };
                let (named, in_file) = (&self.named.fields()[column.index()], self.in_file.field(column.index()));
                if named.name() == in_file.name() && named.data_type() == in_file.data_type() {
                    return Ok(Transformed::no(expr));
                }
                let found: Arc<dyn PhysicalExpr> = Arc::new(Column::new(in_file.name(), column.index()));
                if named.data_type() == in_file.data_type() {
                    return Ok(Transformed::yes(found));
                }
                Ok(Transformed::yes(Arc::new(Relabelled {
                    input: found,
                    field: Arc::clone(named),
                })))
            })
            .data()
    }
}

/// A nested column whose inner fields get other names, nullability or metadata. The values are the same.
#[derive(Debug, Eq)]
struct Relabelled {
    input: Arc<dyn PhysicalExpr>,
    field: FieldRef,
}

impl PartialEq for Relabelled {
    fn eq(&self, other: &Self) -> bool {
        self.field == other.field && self.input.eq(&other.input)
    }
}

impl Hash for Relabelled {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.field.hash(state);
    }
}

impl fmt::Display for Relabelled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.input.fmt(formatter)
    }
}

impl PhysicalExpr for Relabelled {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let array = self.input.evaluate(batch)?.into_array(batch.num_rows())?;
        let relabelled = relabel(&array, self.field.data_type());
        relabelled
            .map(ColumnarValue::Array)
            .map_err(|error| DataFusionError::from(error).context(format!("column '{}'", self.field.name())))
    }

    fn return_field(&self, _: &Schema) -> Result<FieldRef> {
        Ok(Arc::clone(&self.field))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.input]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let [input] = <[_; 1]>::try_from(children)
            .map_err(|children| DataFusionError::Internal(format!("{} children of a column", children.len())))?;
        Ok(Arc::new(Relabelled {
            input,
            field: Arc::clone(&self.field),
        }))
    }

    fn fmt_sql(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.input.fmt_sql(formatter)
    }
}

/// The same values under a type of the same shape.
fn relabel(array: &ArrayRef, data_type: &DataType) -> std::result::Result<ArrayRef, ArrowError> {
    if array.data_type() == data_type {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), data_type) {
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let (_, columns, nulls) = array.as_struct().clone().into_parts();
            let columns = columns
                .iter()
                .zip(fields)
                .map(|(column, field)| relabel(column, field.data_type()));
            let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
            let relabelled = StructArray::try_new_with_length(fields.clone(), columns, nulls, array.len())?;
            Ok(Arc::new(relabelled))
        }
        (DataType::List(_), DataType::List(element)) => {
            let (_, offsets, values, nulls) = array.as_list::<i32>().clone().into_parts();
            let values = relabel(&values, element.data_type())?;
            Ok(Arc::new(ListArray::try_new(
                Arc::clone(element),
                offsets,
                values,
                nulls,
            )?))
        }
        (DataType::LargeList(_), DataType::LargeList(element)) => {
            let (_, offsets, values, nulls) = array.as_list::<i64>().clone().into_parts();
            let values = relabel(&values, element.data_type())?;
            Ok(Arc::new(LargeListArray::try_new(
                Arc::clone(element),
                offsets,
                values,
                nulls,
            )?))
        }
        (DataType::Map(..), DataType::Map(entries, sorted)) => {
            let (_, offsets, old, nulls, _) = array.as_map().clone().into_parts();
            let old: ArrayRef = Arc::new(old);
            let new = relabel(&old, entries.data_type())?;
            let map = MapArray::try_new(Arc::clone(entries), offsets, new.as_struct().clone(), nulls, *sorted)?;
            Ok(Arc::new(map))
        }
        (from, to) => Err(ArrowError::CastError(format!("{from} has another shape than {to}"))),
    }
}

/// The table's columns with their metadata, in the types of a scan.
fn annotated(schema: &Schema) -> Fields {
    fn annotate(field: &FieldRef) -> FieldRef {
        let data_type = match field.data_type() {
            DataType::Struct(fields) => DataType::Struct(fields.iter().map(annotate).collect()),
            DataType::List(element) => DataType::List(annotate(element)),
            DataType::Map(entries, sorted) => DataType::Map(annotate(entries), *sorted),
            other => scanned_type(other),
        };
        Arc::new(Field::clone(field).with_data_type(data_type))
    }
    schema.fields().iter().map(annotate).collect()
}
