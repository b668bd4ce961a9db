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
    /// Stream name, one of [`STREAMS`]. The caller maps it to a topic where topics are renamed.
    pub topic: &'static str,
    /// The sending device's id, the record's key.
    pub key: Arc<str>,
    /// Compact JSON in UTF-8, fields in the order of the stream's declaration.
    pub value: Vec<u8>,
    /// The `id` field of `value`: unique within a run.
    pub id: String,
}

impl Message {
    /// The message as one line for people and pipes, without a line end: `{"topic":..,"key":..,"value":{..}}`.
    pub fn to_print_line(&self) -> String {
        format!(
            r#"{{"topic":{},"key":{},"value":{}}}"#,
            serde_json::Value::from(self.topic),
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
            topic: STREAMS[1],
            key: "say \"hi\"\n".into(),
            value: br#"{"id":"a"}"#.to_vec(),
            id: "a".to_owned(),
        };
        assert_eq!(
            message.to_print_line(),
            r#"{"topic":"gps_data","key":"say \"hi\"\n","value":{"id":"a"}}"#
        );
    }
}
