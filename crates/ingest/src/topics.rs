//! Which topics there are: those that Kafka does not have, and those that are not the ones they were.

use std::collections::BTreeMap;

use crate::IngestError;
use crate::error::MissingTopic;

/// Those of `topics` that Kafka does not have. `counts` holds all topics of the cluster.
pub(crate) fn missing<'a>(
    topics: impl IntoIterator<Item = &'a str>,
    counts: &BTreeMap<String, i32>,
) -> Vec<MissingTopic> {
    // Nobody means one of Kafka's own.
    let known = || counts.keys().map(String::as_str).filter(|name| !name.starts_with("__"));
    let absent = topics.into_iter().filter(|topic| !counts.contains_key(*topic));
    let topics = absent.map(|topic| MissingTopic {
        topic: topic.to_owned(),
        nearest: model::nearest(topic, known()).map(str::to_owned),
    });
    topics.collect()
}

/// Whether the topic that Kafka has is the one that the table's rows come from.
pub(crate) fn same_topic(topic: &str, bound: &str, found: &str) -> Result<(), IngestError> {
    if bound == found {
        return Ok(());
    }
    Err(IngestError::TopicRecreated {
        topic: topic.to_owned(),
        bound: bound.to_owned(),
        found: found.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_is_not_there_is_named_with_the_nearest() {
        let counts = [("shop.orders", 3), ("__consumer_offsets", 50), ("gps_data", 0)];
        let counts = counts.map(|(topic, count)| (topic.to_owned(), count)).into();
        let missing = missing(["shop.ordres", "gps_data", "__consumer_offset"], &counts);
        let told: Vec<_> = missing.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["shop.ordres (did you mean `shop.orders`?)", "__consumer_offset"]);
        let error = |topics| IngestError::NoTopics { topics }.to_string();
        assert_eq!(
            error(missing[..1].to_vec()),
            "there is no such topic in Kafka: shop.ordres (did you mean `shop.orders`?)"
        );
        assert!(error(missing).starts_with("none of these topics is in Kafka: shop.ordres (did"));
    }
}
