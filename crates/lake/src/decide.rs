//! The commit decision: from what the log records and what a batch covers to what is to be done. Pure.

use model::{Span, TopicPartition};

/// What to do with a batch, given the log as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Every span starts where the log ends: commit it as the next version.
    Commit,
    /// Every span has landed. `ours`: by this very batch's commit; otherwise its files are orphans.
    AlreadyLanded { ours: bool },
    /// Somebody else moved this partition: drop the batch and rewind.
    Fenced {
        topic_partition: TopicPartition,
        recorded: Option<i64>,
        span: Span,
    },
}

/// What the log says about one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recorded {
    /// The next offset to read; `None` when nothing of it ever landed.
    pub offset: Option<i64>,
    /// The commit that recorded it is the one being decided about.
    pub ours: bool,
}

/// All spans must agree. A batch of which some spans landed and others did not was not written by one commit of ours, so
/// it is fenced whole: committing the rest would double the rows that landed.
///
/// A partition of which nothing is recorded may start anywhere. An empty span agrees with either.
pub fn decide(recorded: impl Fn(&TopicPartition) -> Recorded, spans: &[(TopicPartition, Span)]) -> Decision {
    let (mut all_ready, mut all_landed, mut ours) = (true, true, true);
    let mut moved = None;
    for (topic_partition, span) in spans {
        let found = recorded(topic_partition);
        let ready = found.offset.is_none_or(|offset| offset == span.from);
        all_ready &= ready;
        all_landed &= found.offset == Some(span.to);
        ours &= found.ours;
        if !ready && moved.is_none() {
            moved = Some(Decision::Fenced {
                topic_partition: topic_partition.clone(),
                recorded: found.offset,
                span: *span,
            });
        }
    }
    match moved {
        _ if all_landed => Decision::AlreadyLanded { ours },
        Some(fenced) if !all_ready => fenced,
        _ => Decision::Commit,
    }
}
