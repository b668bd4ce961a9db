//! Hashes of nested values: equal for equal values, whatever file and batch they stand in.

use std::hash::{DefaultHasher, Hash, Hasher};

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_schema::{DataType, TimeUnit};

/// Whether values of a type can be hashed: those that declarations know.
pub(super) fn is_known(data_type: &DataType) -> bool {
    match data_type {
        DataType::Int32
        | DataType::Int64
        | DataType::Float64
        | DataType::Date32
        | DataType::Timestamp(TimeUnit::Microsecond, _)
        | DataType::Decimal128(..)
        | DataType::Utf8
        | DataType::Binary
        | DataType::Boolean => true,
        DataType::List(element) => is_known(element.data_type()),
        DataType::Map(entries, _) => is_known(entries.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| is_known(field.data_type())),
        _ => false,
    }
}

/// Hashes one value of an array whose type [`is_known`], also where it is null.
pub(super) fn hash_value(array: &dyn Array, row: usize, to: &mut DefaultHasher) {
    array.is_valid(row).hash(to);
    if array.is_null(row) {
        return;
    }
    match array.data_type() {
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).hash(to),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).hash(to),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).to_bits().hash(to),
        DataType::Date32 => array.as_primitive::<Date32Type>().value(row).hash(to),
        DataType::Timestamp(..) => array.as_primitive::<TimestampMicrosecondType>().value(row).hash(to),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value(row).hash(to),
        DataType::Utf8 => array.as_string::<i32>().value(row).hash(to),
        DataType::Binary => array.as_binary::<i32>().value(row).hash(to),
        DataType::Boolean => array.as_boolean().value(row).hash(to),
        DataType::List(_) => {
            let elements = array.as_list::<i32>().value(row);
            elements.len().hash(to);
            (0..elements.len()).for_each(|element| hash_value(&elements, element, to));
        }
        // The entries of a map have no order.
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let sum = (0..entries.len()).fold(0_u64, |sum, entry| {
                let mut one = DefaultHasher::new();
                hash_value(&entries, entry, &mut one);
                sum.wrapping_add(one.finish())
            });
            (entries.len(), sum).hash(to);
        }
        DataType::Struct(_) => {
            let columns = array.as_struct().columns();
            columns.iter().for_each(|column| hash_value(column, row, to));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::builder::{Int64Builder, MapBuilder, StringBuilder};
    use arrow_array::{ArrayRef, Decimal128Array, ListArray, StructArray, types};
    use arrow_schema::Field;

    use super::*;

    fn hash(array: &dyn Array, row: usize) -> u64 {
        assert!(is_known(array.data_type()));
        let mut hasher = DefaultHasher::new();
        hash_value(array, row, &mut hasher);
        hasher.finish()
    }

    #[test]
    fn values_differ_where_a_part_does() {
        let lists = ListArray::from_iter_primitive::<types::Int64Type, _, _>([
            Some(vec![Some(1), None]),
            Some(vec![Some(1)]),
            Some(vec![None, Some(1)]),
            Some(vec![]),
            None,
            Some(vec![Some(1), None]),
        ]);
        let hashes: Vec<u64> = (0..5).map(|row| hash(&lists, row)).collect();
        let distinct: std::collections::BTreeSet<&u64> = hashes.iter().collect();
        assert_eq!(distinct.len(), 5);
        assert_eq!(hash(&lists, 5), hashes[0]);
        // The same values in another place of another array.
        assert_eq!(hash(&lists.slice(4, 2), 1), hashes[0]);
        let pairs = |numbers: Vec<i128>| {
            let decimals: ArrayRef = Arc::new(Decimal128Array::from(numbers));
            StructArray::from(vec![(
                Arc::new(Field::new("d", decimals.data_type().clone(), true)),
                decimals,
            )])
        };
        assert_ne!(hash(&pairs(vec![1]), 0), hash(&pairs(vec![2]), 0));
        assert_eq!(hash(&pairs(vec![1]), 0), hash(&pairs(vec![5, 1]), 1));
    }

    #[test]
    fn entries_of_maps_have_no_order() {
        let map = |entries: &[(&str, i64)]| {
            let mut builder = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
            for (key, value) in entries {
                builder.keys().append_value(key);
                builder.values().append_value(*value);
            }
            builder.append(true).unwrap();
            builder.finish()
        };
        assert_eq!(
            hash(&map(&[("a", 1), ("b", 2)]), 0),
            hash(&map(&[("b", 2), ("a", 1)]), 0)
        );
        assert_ne!(
            hash(&map(&[("a", 1), ("b", 2)]), 0),
            hash(&map(&[("a", 2), ("b", 1)]), 0)
        );
        assert_ne!(hash(&map(&[("a", 1)]), 0), hash(&map(&[("a", 1), ("a", 1)]), 0));
    }
}
