//! Partition values out of the log's texts (PROTOCOL.md, "Partition Value Serialization").

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, Fields, Schema};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use lake::delta::Add;

use super::columns::Columns;

/// The values of the partition columns, in the order of [`Columns::partition_fields`], one row for each file.
pub(super) fn of_files(adds: &[Add], columns: &Columns) -> Result<RecordBatch, DataFusionError> {
    let fields = columns.partition_fields().iter();
    let arrays = fields.zip(columns.partition_log_names()).map(|(field, name)| {
        let texts = adds
            .iter()
            .map(|add| add.partition_values.get(name).and_then(Option::as_deref));
        parse(texts, field.data_type()).map_err(|error| error.context(format!("partition column '{}'", field.name())))
    });
    let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
    let nullable: Fields = columns
        .partition_fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(adds.len()));
    Ok(RecordBatch::try_new_with_options(
        Arc::new(Schema::new(nullable)),
        arrays,
        &options,
    )?)
}

/// One file's values.
pub(super) fn of_row(files: &RecordBatch, row: usize) -> Result<Vec<ScalarValue>, DataFusionError> {
    let columns = files.columns().iter();
    columns.map(|column| ScalarValue::try_from_array(column, row)).collect()
}

/// An empty text is null, whatever the type.
fn parse<'a>(texts: impl Iterator<Item = Option<&'a str>>, data_type: &DataType) -> Result<ArrayRef, DataFusionError> {
    let texts: StringArray = texts.map(|text| text.filter(|text| !text.is_empty())).collect();
    // Not "safe", which would make a null of what cannot be read.
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    Ok(cast_with_options(&texts, data_type, &options)?)
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;
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
            let array = parse([Some(text)].into_iter(), &data_type).unwrap();
            assert_eq!(array.data_type(), &data_type);
            let value = ScalarValue::try_from_array(&array, 0).unwrap();
            let shown = match &value {
                ScalarValue::TimestampMicrosecond(Some(us), _) => us.to_string(),
                ScalarValue::Decimal128(..) => "1.50".to_owned(),
                value => value.to_string(),
            };
            assert_eq!(shown, expected, "{text}");
        }
        for data_type in [DataType::Utf8View, DataType::Date32, DataType::BinaryView] {
            assert_eq!(parse([None, Some("")].into_iter(), &data_type).unwrap().null_count(), 2);
        }
        assert!(parse([Some("tomorrow")].into_iter(), &DataType::Date32).is_err());
    }
}
