//! Which topic a table's rows come from. Pure.
//!
//! Rows name their topic. Those from before they did are of the only topic that the log records for their partition; where
//! it records several nobody can tell, and nothing of that partition may pass for checked.

use std::collections::{BTreeMap, BTreeSet};

use model::TopicPartition;

use super::finding::Finding;
use super::places::{Extent, Place, Summary};

/// Where rows belong.
#[derive(Debug, Clone, Default)]
pub(super) struct Attribution {
    /// By partition: the topic of rows that name none.
    unnamed: BTreeMap<i32, String>,
    /// Partitions whose rows can be told, with their recorded offset.
    pub(super) checkable: BTreeMap<TopicPartition, i64>,
    rows: BTreeMap<TopicPartition, Extent>,
}

/// Of one partition, by topic: the applications that recorded an offset of it, and which.
type Sources<'a> = BTreeMap<&'a str, Vec<(&'a str, i64)>>;

impl Attribution {
    /// By application and topic partition, the offsets that the log records; by file, what its rows are.
    pub(super) fn new<'a>(
        recorded: &BTreeMap<(String, TopicPartition), i64>,
        summaries: impl Iterator<Item = &'a Summary>,
    ) -> (Self, Vec<Finding>) {
        let mut sources: BTreeMap<i32, Sources<'_>> = BTreeMap::new();
        for ((application, place), offset) in recorded {
            let topics = sources.entry(place.partition).or_default();
            topics.entry(&place.topic).or_default().push((application, *offset));
        }
        let mut rows: BTreeMap<(i32, Option<String>), Extent> = BTreeMap::new();
        for (topic, partition, extent) in summaries.flat_map(Summary::extents) {
            let all = rows.entry((partition, topic.map(str::to_owned)));
            all.and_modify(|all| all.merge(extent)).or_insert(extent);
        }
        let (mut attribution, mut findings) = (Self::default(), Vec::new());
        let mut ambiguous = BTreeSet::new();
        for ((partition, topic), extent) in rows {
            let topics = sources.get(&partition);
            let topic = match topic {
                Some(topic) => topics
                    .is_some_and(|topics| topics.contains_key(&*topic))
                    .then_some(topic),
                None => match topics.map(|topics| topics.keys().collect::<Vec<_>>()).as_deref() {
                    None => None,
                    Some([only]) => {
                        attribution.unnamed.insert(partition, (**only).to_owned());
                        Some((**only).to_owned())
                    }
                    Some(_) => {
                        ambiguous.insert(partition);
                        let sources = names(topics.into_iter().flatten());
                        findings.push(Finding::Unattributable {
                            partition,
                            rows: extent.records,
                            sources,
                        });
                        continue;
                    }
                },
            };
            let Some(topic) = topic else {
                findings.push(Finding::Unrecorded {
                    partition,
                    rows: extent.records,
                });
                continue;
            };
            let all = attribution.rows.entry(TopicPartition::new(topic, partition));
            all.and_modify(|all| all.merge(extent)).or_insert(extent);
        }
        for (partition, topics) in &sources {
            for (topic, applications) in topics {
                let place = TopicPartition::new(*topic, *partition);
                match applications.as_slice() {
                    _ if ambiguous.contains(partition) => {}
                    [(_, recorded)] => {
                        attribution.checkable.insert(place, *recorded);
                    }
                    // Each read the topic for itself, and rows do not tell which of them landed them.
                    _ => findings.push(Finding::Unattributable {
                        partition: *partition,
                        rows: attribution.rows_of(&place).map_or(0, |rows| rows.records),
                        sources: names([(topic, applications)].into_iter()),
                    }),
                }
            }
        }
        (attribution, findings)
    }

    pub(super) fn rows_of(&self, place: &TopicPartition) -> Option<Extent> {
        self.rows.get(place).copied()
    }

    /// The topic of a row; `None` where nobody can tell.
    pub(super) fn topic_of<'a>(&'a self, place: &Place<'a>) -> Option<&'a str> {
        place
            .topic
            .or_else(|| self.unnamed.get(&place.partition).map(String::as_str))
    }

    /// Whether rows of this partition that name no topic are of this one's.
    pub(super) fn owns_unnamed(&self, place: &TopicPartition) -> bool {
        self.unnamed
            .get(&place.partition)
            .is_some_and(|topic| **topic == *place.topic)
    }
}

/// `<application>/<topic>` of each.
fn names<'a>(topics: impl Iterator<Item = (&'a &'a str, &'a Vec<(&'a str, i64)>)>) -> Vec<String> {
    let all = topics.flat_map(|(topic, applications)| {
        let of_topic = applications.iter();
        of_topic.map(move |(application, _)| format!("{application}/{topic}"))
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(rows: &[(Option<&str>, i32, i64)]) -> Summary {
        let mut summary = Summary::default();
        for (topic, partition, offset) in rows {
            summary.add(Place {
                topic: *topic,
                partition: *partition,
                offset: *offset,
                element: None,
            });
        }
        summary
    }

    fn attribute(recorded: &[(&str, &str, i32)], rows: &[(Option<&str>, i32, i64)]) -> (Attribution, Vec<String>) {
        let recorded = recorded.iter().map(|(application, topic, partition)| {
            (
                ((*application).to_owned(), TopicPartition::new(*topic, *partition)),
                100,
            )
        });
        let (attribution, findings) = Attribution::new(&recorded.collect(), [&summary(rows)].into_iter());
        (attribution, findings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn rows_that_name_their_topic_are_kept_apart() {
        let rows = [(Some("a"), 0, 1), (Some("b"), 0, 1), (Some("b"), 0, 2)];
        let (attribution, findings) = attribute(&[("app", "a", 0), ("app", "b", 0)], &rows);
        assert!(findings.is_empty(), "{findings:?}");
        let of = |topic: &str| attribution.rows_of(&TopicPartition::new(topic, 0)).unwrap().records;
        assert_eq!((of("a"), of("b"), attribution.checkable.len()), (1, 2, 2));
    }

    #[test]
    fn older_rows_are_of_the_only_topic_of_their_partition() {
        let rows = [(None, 0, 1), (Some("a"), 0, 2), (None, 1, 5)];
        let (attribution, findings) = attribute(&[("app", "a", 0), ("app", "b", 1)], &rows);
        assert!(findings.is_empty(), "{findings:?}");
        let rows = attribution.rows_of(&TopicPartition::new("a", 0)).unwrap();
        assert_eq!((rows.records, rows.least, rows.greatest), (2, 1, 2));
        assert!(attribution.owns_unnamed(&TopicPartition::new("b", 1)));
        assert!(!attribution.owns_unnamed(&TopicPartition::new("b", 0)));
    }

    #[test]
    fn what_nobody_can_tell_is_not_checked() {
        let rows = [(None, 0, 1), (Some("a"), 0, 2), (Some("a"), 1, 2)];
        let (attribution, findings) = attribute(&[("app", "a", 0), ("app", "b", 0), ("app", "a", 1)], &rows);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].contains("1 rows do not tell") && findings[0].contains("app/a, app/b"));
        let checkable: Vec<_> = attribution.checkable.keys().map(ToString::to_string).collect();
        assert_eq!(checkable, ["a[1]"]);
        // Two applications that read the same topic.
        let (attribution, findings) = attribute(&[("one", "a", 0), ("two", "a", 0)], &[(Some("a"), 0, 1)]);
        assert!(findings[0].contains("one/a, two/a") && attribution.checkable.is_empty());
    }

    #[test]
    fn rows_without_a_recorded_offset_are_found() {
        let (_, findings) = attribute(&[("app", "a", 0)], &[(Some("b"), 0, 1), (None, 7, 1)]);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(
            findings
                .iter()
                .all(|finding| finding.contains("the log records no offset"))
        );
    }
}
