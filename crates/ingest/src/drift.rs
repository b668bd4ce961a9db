//! What messages hold that no one declared, counted by field from the column `_extra`.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use model::{EXTRA, Path, Stream};
use serde_json::Value;

/// Fields that are told apart: a producer that writes ids as keys must not fill the memory.
const FIELDS_MAX: usize = 1_000;

/// Counts of undeclared fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drift {
    /// Rows that have such fields.
    pub rows: u64,
    /// How many rows have each, by its place as a declaration would name it: `location.alt`, `location[2]`.
    pub fields: BTreeMap<String, u64>,
    /// Occurrences of fields beyond the first thousand.
    pub others: u64,
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

    /// Counts a batch's first column, values of `_extra`.
    ///
    /// # Errors
    /// It is no text, or not what was written there, in words.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let extra = batch.columns().first().and_then(|column| column.as_string_opt::<i32>());
        let extra = extra.ok_or_else(|| format!("`{EXTRA}` is no text"))?;
        for text in extra.iter().flatten() {
            let value: Value = serde_json::from_str(text).map_err(|error| format!("`{EXTRA}` is not JSON: {error}"))?;
            self.rows += 1;
            self.count(&value, &mut String::new());
        }
        Ok(())
    }

    fn count(&mut self, value: &Value, place: &mut String) {
        let len = place.len();
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (key, value) in fields {
                    if len > 0 {
                        place.push('.');
                    }
                    place.push_str(key);
                    self.count(value, place);
                    place.truncate(len);
                }
            }
            // Null holds the place of what was declared.
            Value::Array(values) if !values.is_empty() => {
                for (index, value) in values.iter().enumerate().filter(|(_, value)| !value.is_null()) {
                    if self.elements.as_deref() == Some(place.as_str()) {
                        place.push_str("[*]");
                    } else {
                        place.push_str(&format!("[{index}]"));
                    }
                    self.count(value, place);
                    place.truncate(len);
                }
            }
            _ => self.found(place),
        }
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

    use arrow_array::StringArray;

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
    fn keys_without_end_are_counted_together() {
        let extra: StringArray = (0..2_000).map(|key| Some(format!(r#"{{"id{key}":1}}"#))).collect();
        let batch = RecordBatch::try_from_iter([("e", Arc::new(extra) as _)]).unwrap();
        let mut drift = Drift::default();
        drift.add(&batch).unwrap();
        assert_eq!((drift.fields.len(), drift.others), (FIELDS_MAX, 1_000));
    }
}
