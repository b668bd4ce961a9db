//! What messages hold that no one declared, counted by field from the column `_extra`.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use model::{EXTRA, OFFSET, PARTITION, Path, Stream};
use serde_json::value::RawValue;

/// What a query must select for [`Drift::add`], in this order.
pub fn extra_columns() -> String {
    format!("arrow_cast({EXTRA}, 'Utf8'), arrow_cast({PARTITION}, 'Int32'), arrow_cast({OFFSET}, 'Int64')")
}

/// Fields that are told apart: a producer that writes ids as keys must not fill the memory.
const FIELDS_MAX: usize = 1_000;
/// Values that are named one by one.
const UNREADABLE_MAX: usize = 20;

/// Counts of undeclared fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drift {
    /// Rows that have such fields.
    pub rows: u64,
    /// How many rows have each, by its place as a declaration would name it: `location.alt`, `location[2]`.
    pub fields: BTreeMap<String, u64>,
    /// Occurrences of fields beyond the first thousand.
    pub others: u64,
    /// Rows whose text is no JSON: something has changed it since it was committed.
    pub unreadable_rows: u64,
    /// Of the first of them, which row it is and what is wrong with it.
    pub unreadable: Vec<String>,
    /// Where the stream's elements are, without the `[*]`.
    elements: Option<String>,
}

impl Drift {
    /// Of this stream's rows: each has one element at most in `_extra`, which is named as every element is.
    pub fn of(stream: &Stream) -> Self {
        let array = |path: &Path| path.to_string().trim_end_matches("[*]").to_owned();
        Self {
            elements: stream.elements.as_ref().map(|elements| array(&elements.path)),
            ..Self::default()
        }
    }

    /// Counts a batch with [`extra_columns`]. A text that is no JSON is counted apart and stops nothing.
    ///
    /// # Errors
    /// It has other columns, in words.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let column = |at: usize| batch.columns().get(at);
        let extra = column(0).and_then(|column| column.as_string_opt::<i32>());
        let extra = extra.ok_or_else(|| format!("`{EXTRA}` is no text"))?;
        let partitions = column(1).and_then(|column| column.as_primitive_opt::<Int32Type>());
        let offsets = column(2).and_then(|column| column.as_primitive_opt::<Int64Type>());
        for row in (0..extra.len()).filter(|row| extra.is_valid(*row)) {
            self.rows += 1;
            // Numbers are not looked at: they may be of any size.
            let text: Result<&RawValue, _> = serde_json::from_str(extra.value(row));
            let Err(error) = text.and_then(|value| self.count(value, &mut String::new())) else {
                continue;
            };
            self.unreadable_rows += 1;
            if self.unreadable.len() < UNREADABLE_MAX {
                let place = match (partitions, offsets) {
                    (Some(partitions), Some(offsets)) => {
                        format!("partition {} offset {}", partitions.value(row), offsets.value(row))
                    }
                    _ => format!("row {row}"),
                };
                self.unreadable.push(format!("{place}: {error}"));
            }
        }
        Ok(())
    }

    fn count(&mut self, value: &RawValue, place: &mut String) -> Result<(), serde_json::Error> {
        let (len, text) = (place.len(), value.get());
        match text.as_bytes().first() {
            Some(b'{') => {
                let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
                if fields.is_empty() {
                    self.found(place);
                }
                for (key, value) in fields {
                    if len > 0 {
                        place.push('.');
                    }
                    place.push_str(&key);
                    self.count(value, place)?;
                    place.truncate(len);
                }
            }
            Some(b'[') => {
                let values: Vec<&RawValue> = serde_json::from_str(text)?;
                if values.is_empty() {
                    self.found(place);
                }
                // Null holds the place of what was declared.
                for (index, value) in values
                    .into_iter()
                    .enumerate()
                    .filter(|(_, value)| value.get() != "null")
                {
                    if self.elements.as_deref() == Some(place.as_str()) {
                        place.push_str("[*]");
                    } else {
                        place.push_str(&format!("[{index}]"));
                    }
                    self.count(value, place)?;
                    place.truncate(len);
                }
            }
            _ => self.found(place),
        }
        Ok(())
    }

    fn found(&mut self, place: &str) {
        if let Some(count) = self.fields.get_mut(place) {
            *count += 1;
        } else if self.fields.len() < FIELDS_MAX {
            self.fields.insert(place.to_owned(), 1);
        } else {
            self.others += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int32Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn places_are_named_as_a_declaration_would() {
        let extra = StringArray::from(vec![
            Some(r#"{"location":[null,null,30],"lane":1}"#),
            None,
            Some(r#"{"location":{"alt":3,"up":{}},"lane":null}"#),
        ]);
        let batch = RecordBatch::try_from_iter([("e", Arc::new(extra) as _)]).unwrap();
        let mut drift = Drift::default();
        drift.add(&batch).unwrap();
        let fields = [("lane", 2), ("location.alt", 1), ("location.up", 1), ("location[2]", 1)];
        assert_eq!(drift.rows, 2);
        assert_eq!(
            drift.fields,
            fields.map(|(name, count)| (name.to_owned(), count)).into()
        );
    }

    #[test]
    fn places_in_elements_are_named_as_a_declaration_would() {
        let text = r#"
            name = "s"
            description = "d"
            key = "at"
            event_time = "at"
            elements = "data.readings[*]"
            [[field]]
            name = "at"
            type = "timestamp"
            from = ["data.readings[*].at"]
            doc = "t"
        "#;
        let extra = StringArray::from(vec![r#"{"data":{"readings":[{"unit":"C","raw":[1,2]}]},"tags":[1]}"#]);
        let batch = RecordBatch::try_from_iter([("e", Arc::new(extra) as _)]).unwrap();
        let mut drift = Drift::of(&Stream::parse("s.toml", text).unwrap());
        drift.add(&batch).unwrap();
        let fields: Vec<_> = drift.fields.keys().map(String::as_str).collect();
        assert_eq!(
            fields,
            [
                "data.readings[*].raw[0]",
                "data.readings[*].raw[1]",
                "data.readings[*].unit",
                "tags[0]"
            ]
        );
    }

    #[test]
    fn every_value_that_is_json_is_counted_and_another_is_reported_with_its_place() {
        let digits = "7".repeat(400);
        let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
        let texts = [
            r#"{"x":1e999,"y":-1e-999}"#.to_owned(),
            format!(r#"{{"n":{digits}}}"#),
            format!(r#"{{"deep":{deep}}}"#),
            r#"{"t":"\u0000\ud83d\ude00","":[]}"#.to_owned(),
            "not JSON".to_owned(),
            r#"{"half":"#.to_owned(),
        ];
        let extra = Arc::new(StringArray::from_iter_values(&texts));
        let partitions = Arc::new(Int32Array::from_value(3, texts.len()));
        let offsets = Arc::new(Int64Array::from_iter_values(90..96));
        let batch =
            RecordBatch::try_from_iter([("e", extra as _), ("p", partitions as _), ("o", offsets as _)]).unwrap();
        let mut drift = Drift::default();
        drift.add(&batch).unwrap();
        assert_eq!((drift.rows, drift.unreadable_rows), (6, 2));
        let place = format!("deep{}", "[0]".repeat(126));
        for field in ["x", "y", "n", "t", "", &place] {
            assert_eq!(drift.fields.get(field), Some(&1), "{field}: {:?}", drift.fields);
        }
        assert!(
            drift.unreadable[0].starts_with("partition 3 offset 94: "),
            "{:?}",
            drift.unreadable
        );
        assert!(
            drift.unreadable[1].starts_with("partition 3 offset 95: "),
            "{:?}",
            drift.unreadable
        );
    }

    #[test]
    fn keys_without_end_are_counted_together() {
        let extra: StringArray = (0..2_000).map(|key| Some(format!(r#"{{"id{key}":1}}"#))).collect();
        let batch = RecordBatch::try_from_iter([("e", Arc::new(extra) as _)]).unwrap();
        let mut drift = Drift::default();
        drift.add(&batch).unwrap();
        assert_eq!((drift.fields.len(), drift.others), (FIELDS_MAX, 1_000));
    }
}
