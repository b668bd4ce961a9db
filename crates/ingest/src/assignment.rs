//! Where a partition is read from: what its table records, and nothing else. Where nothing is recorded yet, it is recorded
//! first. What Kafka has lost before that is a gap.

use std::collections::{BTreeMap, BTreeSet};

use kafka::PartitionOffsets;
use lake::{DeadLetters, Lake, LakeError, Mark, StartingOffset, Table};
use metrics::counter;
use model::{OffsetElement, Span, TopicPartition};
use tracing::warn;

use crate::IngestError;
use crate::config::StartingOffsets;

/// What the tables know of a partition, as of its assignment.
#[derive(Debug)]
pub(crate) struct Start {
    /// The first offset to read.
    pub(crate) position: i64,
    /// Records and elements from there on that are dead letters already: a crash came between the two commits.
    pub(crate) dead_lettered: BTreeSet<OffsetElement>,
    /// How far the partition's letters had come.
    pub(crate) letters: Option<Mark>,
}

/// Records where the topic's partitions start, those of other members of the group as well. Only the application's first
/// start follows `starting_offsets`; the log decides which of several members that is. Does nothing for partitions that
/// have an offset.
///
/// `logs` holds every partition that the topic has.
pub(crate) async fn record_starts(
    table: &Table,
    topic: &str,
    logs: &BTreeMap<i32, PartitionOffsets>,
    starting_offsets: StartingOffsets,
) -> Result<(), LakeError> {
    let proposed = logs.iter().map(|(partition, log)| StartingOffset {
        partition: *partition,
        first: match starting_offsets {
            StartingOffsets::Earliest => log.low,
            StartingOffsets::Latest => log.high,
        },
        earliest: log.low,
    });
    let proposed: Vec<_> = proposed.collect();
    table.record_starts(topic, starting_offsets.as_str(), &proposed).await
}

/// Refresh both handles first: what another writer has committed since is not seen otherwise.
///
/// # Errors
/// Nothing is recorded of the partition ([`record_starts`] comes first), or Kafka does not hold what follows it.
pub(crate) async fn start(
    table: &Table,
    dead_letters: &DeadLetters,
    topic_partition: &TopicPartition,
    log: PartitionOffsets,
) -> Result<Start, IngestError> {
    let recorded = table.recorded(topic_partition);
    let recorded = recorded.ok_or_else(|| IngestError::NoStart {
        topic_partition: topic_partition.clone(),
    })?;
    let position = check_in_log(topic_partition, recorded, log)?;
    let letters = dead_letters.mark(topic_partition);
    let dead_lettered = dead_letters.offsets_from(topic_partition, position).await;
    let failed = |source: LakeError| IngestError::Lake {
        stream: table.name().to_owned(),
        source,
    };
    Ok(Start {
        position,
        dead_lettered: dead_lettered.map_err(failed)?,
        letters,
    })
}

/// Passes over what Kafka no longer holds, once `gaps` says so: the table's recorded offset moves to the first one it
/// still has. Does nothing where nothing is missing. Refresh the handle first.
pub(crate) async fn pass_over_gap(
    lake: &Lake,
    application: &str,
    table: &Table,
    topic_partition: &TopicPartition,
    log: PartitionOffsets,
) -> Result<(), LakeError> {
    let Some(recorded) = table.recorded(topic_partition).filter(|recorded| *recorded < log.low) else {
        return Ok(());
    };
    let missing = Span::new(recorded, log.low);
    warn!(partition = %topic_partition, offsets = %missing, "gone from Kafka before they were read; recorded in `gaps`");
    counter!("smartcity_ingest_missing_offsets_total", "stream" => table.name().to_owned())
        .increment(log.low.abs_diff(recorded));
    let gaps = lake.gaps(application).await?;
    gaps.record(topic_partition, missing, "retention").await?;
    // When another writer has moved it meanwhile, what it records is where to read from.
    table
        .commit_counted(Vec::new(), &[(topic_partition.clone(), missing)], Some(0), None)
        .await?;
    Ok(())
}

/// The recorded offset, when Kafka still has what follows it.
fn check_in_log(partition: &TopicPartition, recorded: i64, log: PartitionOffsets) -> Result<i64, IngestError> {
    let PartitionOffsets { low, high } = log;
    let lost = if recorded < low {
        format!(
            "offsets {recorded} to {} are gone from Kafka before they were committed (retention)",
            low - 1
        )
    } else if recorded > high {
        "the topic was recreated, or its log was cut off".to_owned()
    } else {
        return Ok(recorded);
    };
    Err(IngestError::DataLoss {
        topic_partition: partition.clone(),
        lost,
        recorded,
        low,
        high,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_outside_the_log_are_data_loss() {
        let partition = TopicPartition::new("vehicle_data", 3);
        let log = PartitionOffsets { low: 5, high: 9 };
        assert_eq!(check_in_log(&partition, 5, log).unwrap(), 5);
        assert_eq!(check_in_log(&partition, 9, log).unwrap(), 9);
        let error = check_in_log(&partition, 3, log).unwrap_err().to_string();
        assert!(
            error.starts_with("vehicle_data[3]: offsets 3 to 4 are gone from Kafka"),
            "{error}"
        );
        let error = check_in_log(&partition, 12, log).unwrap_err().to_string();
        assert!(error.contains("recreated"), "{error}");
    }
}
