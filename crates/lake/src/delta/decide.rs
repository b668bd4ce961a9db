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

/// The offset that the log last recorded for a partition, and by which version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The next offset to read.
    pub offset: i64,
    /// The table's version that recorded it; read from a checkpoint, the checkpoint's.
    pub version: i64,
}

/// What the log says about one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recorded {
    /// `None` when nothing of it ever landed.
    pub mark: Option<Mark>,
    /// The commit that recorded it is the one being decided about.
    pub ours: bool,
}

impl Recorded {
    fn offset(&self) -> Option<i64> {
        self.mark.map(|mark| mark.offset)
    }
}

/// All spans must agree. A batch of which some spans landed and others did not was not written by one commit of ours, so
/// it is fenced whole: committing the rest would double the rows that landed.
///
/// A partition of which nothing is recorded may start anywhere. An empty span agrees with either.
pub fn decide(recorded: impl Fn(&TopicPartition) -> Recorded, spans: &[(TopicPartition, Span)]) -> Decision {
    agree(spans, |topic_partition, span| {
        let found = recorded(topic_partition);
        SpanState {
            found,
            ready: found.offset().is_none_or(|offset| offset == span.from),
            landed: found.offset() == Some(span.to),
        }
    })
}

/// The same for dead letters, whose recorded offsets lag behind the rows' (a batch without letters commits none) and run
/// ahead of them after a crash: a span is ready when the log still records what this writer last knew (`expected`). The
/// version counts as well: letters below an offset that ran ahead leave it as it is, and are another writer's all the same.
///
/// Only a commit of ours counts as landed: another writer's letters may be other letters, so they fence.
pub fn decide_letters(
    recorded: impl Fn(&TopicPartition) -> Recorded,
    expected: impl Fn(&TopicPartition) -> Option<Mark>,
    spans: &[(TopicPartition, Span)],
) -> Decision {
    agree(spans, |topic_partition, span| {
        let found = recorded(topic_partition);
        let expected = expected(topic_partition);
        SpanState {
            found,
            ready: found.mark == expected && !found.ours,
            landed: found.ours && found.offset() == Some(letters_move_to(expected.map(|mark| mark.offset), *span)),
        }
    })
}

/// Where a span moves the letters' recorded offset: never back.
pub(crate) fn letters_move_to(recorded: Option<i64>, span: Span) -> i64 {
    recorded.map_or(span.to, |offset| offset.max(span.to))
}

struct SpanState {
    found: Recorded,
    ready: bool,
    landed: bool,
}

fn agree(spans: &[(TopicPartition, Span)], state_of: impl Fn(&TopicPartition, &Span) -> SpanState) -> Decision {
    let (mut all_landed, mut ours) = (true, true);
    let mut fenced = None;
    for (topic_partition, span) in spans {
        let state = state_of(topic_partition, span);
        all_landed &= state.landed;
        ours &= state.found.ours;
        if !state.ready && fenced.is_none() {
            fenced = Some(Decision::Fenced {
                topic_partition: topic_partition.clone(),
                recorded: state.found.offset(),
                span: *span,
            });
        }
    }
    match fenced {
        _ if all_landed => Decision::AlreadyLanded { ours },
        Some(fenced) => fenced,
        None => Decision::Commit,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn spans(of: &[(i64, i64)]) -> Vec<(TopicPartition, Span)> {
        let numbered = of.iter().enumerate();
        numbered
            .map(|(partition, (from, to))| (TopicPartition::new("t", partition as i32), Span::new(*from, *to)))
            .collect()
    }

    fn recorded(of: &[Option<(i64, bool)>]) -> impl Fn(&TopicPartition) -> Recorded {
        let found: HashMap<i32, Recorded> = of
            .iter()
            .enumerate()
            .map(|(partition, found)| {
                let recorded = found.map_or(Recorded::default(), |(offset, ours)| Recorded {
                    mark: Some(Mark { offset, version: 7 }),
                    ours,
                });
                (partition as i32, recorded)
            })
            .collect();
        move |topic_partition| found.get(&topic_partition.partition).copied().unwrap_or_default()
    }

    #[test]
    fn the_cases_by_name() {
        let batch = spans(&[(10, 20), (5, 9)]);
        let at = |found: [Option<(i64, bool)>; 2]| decide(recorded(&found), &batch);
        assert_eq!(at([Some((10, false)), Some((5, false))]), Decision::Commit);
        assert_eq!(at([None, Some((5, false))]), Decision::Commit);
        assert_eq!(at([None, None]), Decision::Commit);
        assert_eq!(
            at([Some((20, true)), Some((9, true))]),
            Decision::AlreadyLanded { ours: true }
        );
        assert_eq!(
            at([Some((20, false)), Some((9, false))]),
            Decision::AlreadyLanded { ours: false }
        );
        // One landed and one not: that was not our commit.
        let Decision::Fenced {
            topic_partition,
            recorded,
            span,
        } = at([Some((20, false)), Some((5, false))])
        else {
            panic!("a mixture must be fenced");
        };
        assert_eq!(
            (topic_partition.partition, recorded, span),
            (0, Some(20), Span::new(10, 20))
        );
        assert!(matches!(
            at([Some((12, false)), Some((5, false))]),
            Decision::Fenced { .. }
        ));
    }

    #[test]
    fn an_empty_span_agrees_with_either() {
        let batch = spans(&[(7, 7), (5, 9)]);
        assert_eq!(
            decide(recorded(&[Some((7, false)), Some((5, false))]), &batch),
            Decision::Commit
        );
        assert_eq!(
            decide(recorded(&[Some((7, false)), Some((9, false))]), &batch),
            Decision::AlreadyLanded { ours: false }
        );
        assert!(matches!(
            decide(recorded(&[Some((8, false)), Some((5, false))]), &batch),
            Decision::Fenced { .. }
        ));
    }

    #[test]
    fn letters_lag_behind_and_run_ahead() {
        let batch = spans(&[(60, 80)]);
        let at = |expected: Option<i64>, found| {
            let known = expected.map(|offset| Mark { offset, version: 7 });
            decide_letters(recorded(&[found]), |_| known, &batch)
        };
        assert_eq!(at(Some(50), Some((50, false))), Decision::Commit, "they lag");
        assert_eq!(at(None, None), Decision::Commit);
        assert_eq!(
            at(Some(100), Some((100, false))),
            Decision::Commit,
            "they ran ahead before a crash"
        );
        assert_eq!(at(Some(50), Some((80, true))), Decision::AlreadyLanded { ours: true });
        assert_eq!(at(Some(100), Some((100, true))), Decision::AlreadyLanded { ours: true });
        assert!(
            matches!(at(Some(50), Some((80, false))), Decision::Fenced { .. }),
            "another's letters"
        );
        assert!(matches!(at(None, Some((50, false))), Decision::Fenced { .. }));
        // Another's letters below an offset that had run ahead: it is the same, and recorded anew.
        let known = Mark {
            offset: 100,
            version: 6,
        };
        let overtaken = decide_letters(recorded(&[Some((100, false))]), |_| Some(known), &batch);
        assert!(matches!(overtaken, Decision::Fenced { .. }));
    }

    proptest! {
        /// Against a log of offsets that a batch either extends or does not: committing must never leave a hole nor
        /// repeat an offset, and a batch that landed is never committed again.
        #[test]
        fn commit_means_that_every_span_follows(
            state in prop::collection::vec((prop::option::of((0..6_i64, any::<bool>())), 0..6_i64, 0..4_i64), 1..5)
        ) {
            let batch = spans(&state.iter().map(|(_, from, len)| (*from, from + len)).collect::<Vec<_>>());
            let found: Vec<_> = state.iter().map(|(found, ..)| *found).collect();
            let decision = decide(recorded(&found), &batch);
            let follows = |(found, from, _): &(Option<(i64, bool)>, i64, i64)| found.is_none_or(|(offset, _)| offset == *from);
            let landed = |(found, from, len): &(Option<(i64, bool)>, i64, i64)| found.is_some_and(|(offset, _)| offset == from + len);
            match decision {
                Decision::Commit => {
                    prop_assert!(state.iter().all(follows));
                    prop_assert!(!state.iter().all(landed));
                }
                Decision::AlreadyLanded { ours } => {
                    prop_assert!(state.iter().all(landed));
                    prop_assert_eq!(ours, found.iter().flatten().all(|(_, ours)| *ours));
                }
                Decision::Fenced { topic_partition, recorded, span } => {
                    prop_assert!(!state.iter().all(landed));
                    prop_assert_ne!(recorded, None);
                    prop_assert_ne!(recorded, Some(span.from));
                    prop_assert_eq!(recorded, found[topic_partition.partition as usize].map(|(offset, _)| offset));
                }
            }
        }
    }
}
