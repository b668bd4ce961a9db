//! What a topic is called in a table once it was recreated: its offsets begin again, and rows are known by topic,
//! partition and offset.

/// The name under which records of a recreated topic are recorded, beside its predecessor's: `gps_data#<topic id>`. Kafka
/// allows no `#` in a topic's name.
pub fn recreated_topic(topic: &str, id: &str) -> String {
    format!("{topic}#{id}")
}

/// Kafka's name of a recorded topic.
pub fn kafka_topic(recorded: &str) -> &str {
    recorded.split_once('#').map_or(recorded, |(topic, _)| topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_topic_leads_back_to_kafkas() {
        assert_eq!(kafka_topic(&recreated_topic("gps.data-1_x", "3Xz_-A")), "gps.data-1_x");
        assert_eq!(kafka_topic("gps_data"), "gps_data");
    }
}
