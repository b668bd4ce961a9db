//! What the lake itself says is missing: gaps, lost before they were read, and erasures, removed on purpose. All of both
//! are held: they are a person's decision or a disaster, so there are few.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use arrow_array::{Array, Int32Array, Int64Array, StringArray};
use model::{ERASURES, GAPS, Span, TopicPartition};

use super::classify::{Erased, Exceptions};
use super::finding::Finding;
use super::state::TableState;
use crate::error::describe;
use crate::{LakeError, Root};

/// By topic and partition.
pub(super) type AllExceptions = BTreeMap<TopicPartition, Exceptions>;

/// Adds the gaps as of this state of their table. Files that cannot be read are told.
pub(super) async fn read_gaps(
    root: &Root,
    state: &TableState,
    to: &mut AllExceptions,
) -> Result<Vec<Finding>, LakeError> {
    let damage = read(root, GAPS, state, |place, span, _| {
        to.entry(place).or_default().gaps.push(span)
    })
    .await?;
    to.values_mut()
        .for_each(|exceptions| exceptions.gaps.sort_by_key(|gap| gap.from));
    Ok(damage)
}

/// Adds the erasures as of this state of their table. Files that cannot be read are told.
pub(super) async fn read_erasures(
    root: &Root,
    state: &TableState,
    to: &mut AllExceptions,
) -> Result<Vec<Finding>, LakeError> {
    let damage = read(root, ERASURES, state, |place, span, element| {
        to.entry(place).or_default().erased.push(Erased { span, element });
    })
    .await?;
    for exceptions in to.values_mut() {
        let erased = &mut exceptions.erased;
        erased.sort_by_key(|erased| (erased.span.from, erased.span.to, erased.element));
        let lengths = erased.iter().map(|erased| erased.span.to - erased.span.from);
        exceptions.erased_max = lengths.max().unwrap_or_default();
    }
    Ok(damage)
}

async fn read(
    root: &Root,
    table: &str,
    state: &TableState,
    mut each: impl FnMut(TopicPartition, Span, Option<u32>),
) -> Result<Vec<Finding>, LakeError> {
    let location = root.location_of(table);
    let columns = ["topic", "partition", "from_offset", "to_offset", "element"];
    let mut damage = Vec::new();
    for (path, file) in &state.files {
        let mut is_known = true;
        let outcome = state.read_rows(&location, file, Some(&columns), |batch| {
            let column = |name: &str| batch.column_by_name(name).map(|column| column.as_any());
            let (topics, partitions) = (
                column("topic").and_then(|column| column.downcast_ref::<StringArray>()),
                column("partition").and_then(|column| column.downcast_ref::<Int32Array>()),
            );
            let offsets = |name: &str| column(name).and_then(|column| column.downcast_ref::<Int64Array>());
            let (from, to) = (offsets("from_offset"), offsets("to_offset"));
            let elements = column("element").and_then(|column| column.downcast_ref::<Int32Array>());
            let (Some(topics), Some(partitions), Some(from), Some(to)) = (topics, partitions, from, to) else {
                is_known = false;
                return ControlFlow::Break(());
            };
            for row in 0..batch.num_rows() {
                let element = elements.filter(|elements| elements.is_valid(row));
                let span = Span {
                    from: from.value(row),
                    to: to.value(row),
                };
                each(
                    TopicPartition::new(topics.value(row), partitions.value(row)),
                    span,
                    element.map(|elements| elements.value(row) as u32),
                );
            }
            ControlFlow::Continue(())
        });
        let why = match outcome.await {
            Ok(()) if is_known => continue,
            Ok(()) => "it has other columns".to_owned(),
            Err(error) if error.is_retryable() => return Err(error),
            Err(error) => describe(&error),
        };
        let path = format!("{table}/{path}");
        damage.push(Finding::UnreadableFile { path, why });
    }
    Ok(damage)
}
