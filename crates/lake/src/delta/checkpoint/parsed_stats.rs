//! Statistics that a checkpoint holds as columns (`stats_parsed`) alone, back as the JSON text that an `add` has.

use arrow_array::cast::AsArray;
use arrow_array::temporal_conversions::{date32_to_datetime, timestamp_us_to_datetime};
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow_array::{Array, StructArray};
use arrow_schema::{DataType, TimeUnit};
use serde_json::{Map, Value};

/// One row's statistics. What has no JSON form is left out, as statistics may be.
pub(super) fn to_json(stats: &StructArray, row: usize) -> String {
    Value::Object(fields(stats, row)).to_string()
}

fn fields(of: &StructArray, row: usize) -> Map<String, Value> {
    let columns = of.fields().iter().zip(of.columns());
    let filled = columns.filter_map(|(field, column)| Some((field.name().clone(), value(column.as_ref(), row)?)));
    filled.collect()
}

fn value(column: &dyn Array, row: usize) -> Option<Value> {
    if column.is_null(row) {
        return None;
    }
    Some(match column.data_type() {
        DataType::Struct(_) => Value::Object(fields(column.as_struct(), row)),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int8 => column.as_primitive::<Int8Type>().value(row).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Float32 => f64::from(column.as_primitive::<Float32Type>().value(row)).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::Decimal128(..) => {
            let text = column.as_primitive::<Decimal128Type>().value_as_string(row);
            serde_json::from_str(&text).ok()?
        }
        DataType::Date32 => {
            let date = date32_to_datetime(column.as_primitive::<Date32Type>().value(row))?;
            date.format("%Y-%m-%d").to_string().into()
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let instant = timestamp_us_to_datetime(column.as_primitive::<TimestampMicrosecondType>().value(row))?;
            let zone = if zone.is_some() { "Z" } else { "" };
            format!("{}{zone}", instant.format("%Y-%m-%dT%H:%M:%S%.6f")).into()
        }
        _ => return None,
    })
}
