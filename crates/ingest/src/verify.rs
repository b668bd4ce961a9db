//! A table against its topic, record by record: each record is decoded again, and its row or letter must be the one in
//! the lake.
//!
//! Both sides are summed up by block of offsets, in constant memory and whatever order; only blocks whose sums differ are
//! read again and compared one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use codec::Decoder;
use kafka::Source;
use lake::verify::{
    BLOCK_OFFSETS, Digest, Finding, Offsets, RowHash, VerifiedTable, Verifier, hash_dead_letter, hash_letter, hash_rows,
};
use model::{Chunk, Span, Stream, TopicPartition};

use crate::IngestError;

/// Blocks looked at one by one; where more differ, something larger is wrong than a list could show.
const EXAMINED_MAX: usize = 64;
/// The longest wait for a record that Kafka says it holds.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// What a record is, by the present declaration.
struct Remade {
    raw: u64,
    row: Option<RowHash>,
}

/// Compares every partition of a table; findings and figures go into its report. `progress` hears of records.
///
/// Needs a runtime of several threads: it blocks one while Kafka is read.
///
/// # Errors
/// Kafka or the lake failed; what differs is no error.
pub async fn against_kafka(
    stream: &Stream,
    source: &mut dyn Source,
    verifier: &Verifier<'_>,
    table: &mut VerifiedTable,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), IngestError> {
    let places: Vec<TopicPartition> = table.digests.keys().cloned().collect();
    let mut done = 0;
    for place in places {
        let Some(at) = table
            .report
            .partitions
            .iter()
            .position(|partition| partition.topic == *place.topic && partition.partition == place.partition)
        else {
            continue;
        };
        let (start, recorded) = (table.report.partitions[at].start, table.report.partitions[at].recorded);
        let log = tokio::task::block_in_place(|| source.offsets(&place))?;
        if log.high < recorded {
            let gone = Span::new(start.max(log.high), recorded);
            table.report.findings.add(Finding::NotInKafka(offsets(&place, gone)));
        }
        let span = Span {
            from: start.max(log.low),
            to: recorded.min(log.high),
        };
        let mut digest = Digest::default();
        let mut compared = 0;
        if span.from < span.to {
            let mut decoder = Decoder::new(stream);
            let mut letters = Vec::new();
            read(source, &place, span, |chunk| {
                compared += chunk.iter().filter(|record| record.offset < span.to).count() as u64;
                decoder.decode(chunk, &BTreeSet::new(), 0, &mut letters);
                if let Some(batch) = decoder.take() {
                    hash_rows(&batch, false, |row| {
                        if row.offset < span.to {
                            digest.row(row.offset, row.hash);
                        }
                    });
                }
                for letter in letters.drain(..).filter(|letter| letter.offset < span.to) {
                    digest.letter(letter.offset, hash_dead_letter(&letter));
                }
                progress(done + compared);
            })?;
        }
        done += compared;
        table.report.partitions[at].compared = Some(compared);
        let overlapping = |first: &i64| *first < span.to && first + BLOCK_OFFSETS > span.from;
        let mut suspects = table.digests[&place].differences(&digest);
        suspects.retain(overlapping);
        for (count, first) in suspects.into_iter().enumerate() {
            let part = Span::new(first.max(span.from), (first + BLOCK_OFFSETS).min(span.to));
            if count >= EXAMINED_MAX {
                table.report.findings.add(Finding::NotExamined(offsets(&place, part)));
                continue;
            }
            examine(stream, source, verifier, table, &place, part).await?;
        }
    }
    Ok(())
}

/// One block, offset by offset.
async fn examine(
    stream: &Stream,
    source: &mut dyn Source,
    verifier: &Verifier<'_>,
    table: &mut VerifiedTable,
    place: &TopicPartition,
    span: Span,
) -> Result<(), IngestError> {
    let lake_error = |source| IngestError::Lake {
        stream: stream.name.clone(),
        source,
    };
    let rows = table.rows_in(place, span).await.map_err(lake_error)?;
    let rows: BTreeMap<i64, RowHash> = rows.into_iter().map(|row| (row.offset, row)).collect();
    let letters = verifier.letters_in(place, span).await.map_err(lake_error)?;
    let mut records: BTreeMap<i64, Remade> = BTreeMap::new();
    let mut decoder = Decoder::new(stream);
    read(source, place, span, |chunk| {
        for record in chunk.iter() {
            let raw = hash_letter(record.key, record.value);
            records.insert(record.offset, Remade { raw, row: None });
        }
        decoder.decode(chunk, &BTreeSet::new(), 0, &mut Vec::new());
        if let Some(batch) = decoder.take() {
            hash_rows(&batch, true, |row| {
                if let Some(record) = records.get_mut(&row.offset) {
                    record.row = Some(row);
                }
            });
        }
    })?;
    for offset in span.from..span.to {
        let one = || offsets(place, Span::new(offset, offset + 1));
        let finding = match (rows.get(&offset), letters.get(&offset), records.get(&offset)) {
            (None, None, None) => None,
            (None, None, Some(_)) => (!verifier.is_gap(place, offset)).then(|| Finding::NotLanded(one())),
            (_, _, None) => Some(Finding::NotInKafka(one())),
            (Some(row), _, Some(record)) => match &record.row {
                Some(remade) if remade.hash == row.hash => None,
                Some(remade) => Some(Finding::RowDiffers {
                    topic: place.topic.to_string(),
                    partition: place.partition,
                    offset,
                    columns: differing(row, remade),
                }),
                None => Some(Finding::WouldFail(one())),
            },
            (None, Some(letter), Some(record)) if *letter != record.raw => Some(Finding::LetterDiffers {
                topic: place.topic.to_string(),
                partition: place.partition,
                offset,
            }),
            (None, Some(_), Some(record)) => record.row.is_some().then(|| Finding::WouldPass(one())),
        };
        if let Some(finding) = finding {
            table.report.findings.add(finding);
        }
    }
    Ok(())
}

fn differing(one: &RowHash, other: &RowHash) -> Vec<String> {
    let (one, other): (BTreeMap<_, _>, BTreeMap<_, _>) = (
        one.columns.iter().cloned().collect(),
        other.columns.iter().cloned().collect(),
    );
    let all: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    // Hashes hold the name, and a null gives the same whether the column is there or not.
    all.into_iter()
        .filter(|name| one.get(*name) != other.get(*name))
        .cloned()
        .collect()
}

fn offsets(place: &TopicPartition, span: Span) -> Offsets {
    Offsets {
        topic: place.topic.to_string(),
        partition: place.partition,
        from: span.from,
        to: span.to,
    }
}

/// Every chunk that overlaps the span, which the log holds.
fn read(
    source: &mut dyn Source,
    place: &TopicPartition,
    span: Span,
    mut each: impl FnMut(&Chunk),
) -> Result<(), IngestError> {
    tokio::task::block_in_place(|| {
        source.assign(&[(place.clone(), span.from)])?;
        let mut heard = Instant::now();
        let mut at = span.from;
        while at < span.to {
            for event in source.poll(POLL, true)? {
                let kafka::Event::Chunk(chunk) = event else { continue };
                if chunk.topic_partition() == place {
                    heard = Instant::now();
                    at = chunk.span().to;
                    each(&chunk);
                }
            }
            if heard.elapsed() > SILENCE_MAX {
                return Err(IngestError::Silent {
                    topic_partition: place.clone(),
                    offset: at,
                });
            }
        }
        source.unassign(std::slice::from_ref(place))?;
        Ok(())
    })
}
