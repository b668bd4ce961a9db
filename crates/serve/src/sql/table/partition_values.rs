//! Partition values out of the log's texts (PROTOCOL.md, "Partition Value Serialization").

use arrow_array::RecordBatch;
use arrow_array::RecordBatchOptions;
use arrow_schema::{DataType, Fields, Schema};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use lake::delta::Add;
use std::sync::Arc;

use super::columns::Columns;

/// The values of a file's partition columns, in the order of [`Columns::partition_fields`].
pub(super) fn of_file(add: &Add, columns: &Columns) -> Result<Vec<ScalarValue>, DataFusionError> {
    let fields = columns.partition_fields().iter();
    fields
        .zip(columns.partition_log_names())
        .map(|(field, name)| {
            let text = add.partition_values.get(name).and_then(Option::as_deref);
            parse(text, field.data_type())
                .map_err(|error| error.context(format!("file {}: partition column '{}'", add.path, field.name())))
        })
        .collect()
}

/// An empty text is null, whatever the type.
fn parse(text: Option<&str>, data_type: &DataType) -> Result<ScalarValue, DataFusionError> {
    match text {
        None | Some("") => ScalarValue::try_from(data_type),
        Some(text) => match data_type {
            DataType::Binary | DataType::BinaryView => {
                ScalarValue::Binary(Some(text.as_bytes().to_vec())).cast_to(data_type)
            }
            _ => ScalarValue::Utf8(Some(text.to_owned())).cast_to(data_type),
        },
    }
}

/// One row for each file.
pub(super) fn to_batch(values: &[Vec<ScalarValue>], fields: &Fields) -> Result<RecordBatch, DataFusionError> {
    let arrays = fields
        .iter()
        .enumerate()
        .map(|(column, field)| match values.is_empty() {
            true => Ok(arrow_array::new_empty_array(field.data_type())),
            false => ScalarValue::iter_to_array(values.iter().map(|row| row[column].clone())),
        });
    let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(values.len()));
    let nullable: Fields = fields
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true))
        .collect();
    let schema = Arc::new(Schema::new(nullable));
    Ok(RecordBatch::try_new_with_options(schema, arrays, &options)?)
}

#[cfg(test)]
mod tests {
    use arrow_schema::TimeUnit;

    use super::*;

    #[test]
    fn every_type_is_read_as_the_protocol_writes_it() {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let cases = [
            ("a b%20c", DataType::Utf8View, "a b%20c"),
            ("-12", DataType::Int64, "-12"),
            ("7", DataType::Int8, "7"),
            ("true", DataType::Boolean, "true"),
            ("1.50", DataType::Decimal128(5, 2), "1.50"),
            ("0.1", DataType::Float64, "0.1"),
            ("2026-01-01", DataType::Date32, "2026-01-01"),
            ("1970-01-01 00:00:00.000001", utc.clone(), "1"),
            ("1970-01-01T00:00:01.5Z", utc, "1500000"),
            (
                "1970-01-01 00:00:01",
                DataType::Timestamp(TimeUnit::Microsecond, None),
                "1000000",
            ),
        ];
        for (text, data_type, expected) in cases {
            let value = parse(Some(text), &data_type).unwrap();
            assert_eq!(value.data_type(), data_type);
            let shown = match &value {
                ScalarValue::TimestampMicrosecond(Some(us), _) => us.to_string(),
                ScalarValue::Decimal128(..) => "1.50".to_owned(),
                value => value.to_string(),
            };
            assert_eq!(shown, expected, "{text}");
        }
        for text in [None, Some("")] {
            assert!(parse(text, &DataType::Utf8View).unwrap().is_null());
            assert!(parse(text, &DataType::Date32).unwrap().is_null());
        }
        assert!(parse(Some("tomorrow"), &DataType::Date32).is_err());
    }
}
