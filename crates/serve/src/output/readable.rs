//! Columns as a person or a text format can take them: bytes become text, and nested values JSON where a format knows
//! only flat ones.

use std::fmt::Write;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, LargeListArray, ListArray, MapArray, RecordBatch, RecordBatchOptions, StringArray, StructArray,
};
use arrow_cast::cast;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_json::writer::{EncoderOptions, make_encoder};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema};

/// Every column flat: bytes as text, nested values as JSON text. For CSV and tables.
pub(super) fn for_text(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    convert(batch, |field, column| {
        let column = bytes_as_text(column)?;
        if !column.data_type().is_nested() {
            return Ok(column);
        }
        json_texts(field, &column)
    })
}

/// Bytes as text at any depth; the other values stay what they are, for JSON.
pub(super) fn for_json(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    convert(batch, |_, column| bytes_as_text(column))
}

fn convert(
    batch: &RecordBatch,
    to_readable: impl Fn(&FieldRef, &ArrayRef) -> Result<ArrayRef, ArrowError>,
) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let mut fields = Vec::with_capacity(batch.num_columns());
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let column = to_readable(field, column)?;
        fields.push(Field::new(field.name(), column.data_type().clone(), true));
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

fn bytes_as_text(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    Ok(match column.data_type() {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let bytes = cast(column, &DataType::LargeBinary)?;
            let texts = bytes.as_binary::<i64>().iter().map(|bytes| bytes.map(byte_text));
            Arc::new(texts.collect::<StringArray>())
        }
        DataType::Dictionary(_, values) if holds_bytes(values) => bytes_as_text(&cast(column, values)?)?,
        DataType::List(item) if holds_bytes(item.data_type()) => {
            let list = column.as_list::<i32>();
            let values = bytes_as_text(list.values())?;
            let item = retyped(item, &values);
            Arc::new(ListArray::try_new(
                item,
                list.offsets().clone(),
                values,
                list.nulls().cloned(),
            )?)
        }
        DataType::LargeList(item) if holds_bytes(item.data_type()) => {
            let list = column.as_list::<i64>();
            let values = bytes_as_text(list.values())?;
            let item = retyped(item, &values);
            Arc::new(LargeListArray::try_new(
                item,
                list.offsets().clone(),
                values,
                list.nulls().cloned(),
            )?)
        }
        DataType::Struct(_) if holds_bytes(column.data_type()) => Arc::new(struct_as_text(column.as_struct())?),
        DataType::Map(entries, sorted) if holds_bytes(column.data_type()) => {
            let map = column.as_map();
            let values = struct_as_text(map.entries())?;
            let entries = entries.as_ref().clone().with_data_type(values.data_type().clone());
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Arc::new(MapArray::try_new(Arc::new(entries), offsets, values, nulls, *sorted)?)
        }
        _ => Arc::clone(column),
    })
}

fn struct_as_text(array: &StructArray) -> Result<StructArray, ArrowError> {
    let columns = array
        .columns()
        .iter()
        .map(bytes_as_text)
        .collect::<Result<Vec<_>, _>>()?;
    let fields = array
        .fields()
        .iter()
        .zip(&columns)
        .map(|(field, column)| retyped(field, column))
        .collect();
    StructArray::try_new(fields, columns, array.nulls().cloned())
}

fn retyped(field: &FieldRef, values: &ArrayRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(values.data_type().clone()))
}

fn holds_bytes(data_type: &DataType) -> bool {
    match data_type {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => true,
        DataType::Dictionary(_, values) => holds_bytes(values),
        DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => holds_bytes(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_bytes(field.data_type())),
        _ => false,
    }
}

/// The text that the bytes are, or `\x` and hex digits. A text that itself begins with `\x` is shown as hex too, so that
/// whoever reads it back can tell the two apart.
fn byte_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with("\\x") => text.to_owned(),
        _ => bytes
            .iter()
            .fold(String::with_capacity(2 + 2 * bytes.len()), |mut text, byte| {
                if text.is_empty() {
                    text.push_str("\\x");
                }
                // Writing to a String cannot fail.
                let _ = write!(text, "{byte:02x}");
                text
            }),
    }
}

fn json_texts(field: &FieldRef, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let field = Arc::new(Field::new(field.name(), column.data_type().clone(), true));
    let Ok(mut encoder) = make_encoder(&field, column.as_ref(), &options) else {
        return display_texts(column);
    };
    let mut texts = Vec::with_capacity(column.len());
    for row in 0..column.len() {
        texts.push(if encoder.is_null(row) {
            None
        } else {
            let mut text = Vec::new();
            encoder.encode(row, &mut text);
            Some(String::from_utf8_lossy(&text).into_owned())
        });
    }
    Ok(Arc::new(StringArray::from(texts)))
}

/// What JSON has no encoder for, as Arrow shows it.
fn display_texts(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let options = FormatOptions::new();
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
    let texts = (0..column.len()).map(|row| column.is_valid(row).then(|| formatter.value(row).to_string()));
    Ok(Arc::new(texts.collect::<StringArray>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_or_hex_and_can_be_told_apart() {
        assert_eq!(byte_text(b"{\"id\": 1}"), "{\"id\": 1}");
        assert_eq!(byte_text(b""), "");
        assert_eq!(byte_text(&[0xff, 0x00]), "\\xff00");
        assert_eq!(byte_text(b"\\x41"), "\\x5c783431");
        assert_eq!(byte_text("é".as_bytes()), "é");
    }
}
