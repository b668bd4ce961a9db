//! What every profile emits: a message bound for a stream, ready to be produced or printed.

use std::sync::Arc;

/// The streams of the city, in the order in which each step's messages stand.
pub const STREAMS: [&str; 5] = [
    "vehicle_data",
    "gps_data",
    "traffic_data",
    "weather_data",
    "emergency_data",
];

/// One record for a Kafka topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// One of [`STREAMS`]. The caller knows its topic.
    pub stream: &'static str,
    /// The sending device's id, the record's key.
    pub key: Arc<str>,
    /// Compact JSON in UTF-8, fields in the order of the stream's declaration.
    pub value: Vec<u8>,
    /// The `id` field of `value`: unique within a run.
    pub id: String,
}

impl Message {
    /// The message bound for `topic` as one line for people and pipes, without a line end:
    /// `{"topic":..,"key":..,"value":{..}}`.
    pub fn to_print_line(&self, topic: &str) -> String {
        format!(
            r#"{{"topic":{},"key":{},"value":{}}}"#,
            serde_json::Value::from(topic),
            serde_json::Value::from(&*self.key),
            String::from_utf8_lossy(&self.value)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_print_line_is_json_whatever_the_key() {
        let message = Message {
            stream: STREAMS[1],
            key: "say \"hi\"\n".into(),
            value: br#"{"id":"a"}"#.to_vec(),
            id: "a".to_owned(),
        };
        assert_eq!(
            message.to_print_line("gps"),
            r#"{"topic":"gps","key":"say \"hi\"\n","value":{"id":"a"}}"#
        );
    }
}
