//! A table against its topic, record by record: each record is decoded again, and its rows and dead letters must be
//! those in the lake, element by element.
//!
//! Both sides are summed up by block of offsets, in constant memory and whatever order; only blocks whose sums differ are
//! read again and compared one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use codec::Decoder;
use kafka::Source;
use lake::verify::{
    BLOCK_OFFSETS, Digest, Finding, Offsets, RowHash, VerifiedTable, Verifier, hash_dead_letter, hash_letter, hash_rows,
};
use model::{Chunk, DeadLetter, Span, Stream, TopicPartition, kafka_topic};

use crate::IngestError;

/// Blocks looked at one by one; where more differ, something larger is wrong than a list could show.
const EXAMINED_MAX: usize = 64;
/// The longest wait for a record that Kafka says it holds.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// What a record is, by the present declaration.
struct Remade {
    raw: u64,
    /// By element; the only one of a stream without elements is `None`.
    rows: BTreeMap<Option<u32>, RowHash>,
    /// Bad elements; `None` is the record as a whole.
    bad: BTreeSet<Option<u32>>,
}

/// What the lake holds of a record, by element.
#[derive(Default)]
struct Held<'a> {
    rows: BTreeMap<Option<u32>, &'a RowHash>,
    dead_letters: BTreeMap<Option<u32>, u64>,
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
    let recreated: BTreeSet<String> = places
        .iter()
        .filter(|place| kafka_topic(&place.topic) != &*place.topic)
        .map(|place| kafka_topic(&place.topic).to_owned())
        .collect();
    let mut done = 0;
    for place in places {
        if recreated.contains(kafka_topic(&place.topic)) {
            let why = format!("{place}: the topic was recreated, so its offsets mean other records than they did");
            table.report.findings.add(Finding::NotCompared { why });
            continue;
        }
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
            table
                .report
                .findings
                .add(Finding::NotInKafka(Offsets::of(&place, gone)));
        }
        let span = Span {
            from: start.max(log.low),
            to: recorded.min(log.high),
        };
        let mut digest = Digest::default();
        let mut compared = 0;
        if span.from < span.to {
            let mut decoder = Decoder::new(stream);
            read(source, &place, span, |chunk| {
                compared += chunk.iter().filter(|record| record.offset < span.to).count() as u64;
                let dead_letters = decode(&mut decoder, chunk, |batch| {
                    hash_rows(batch, false, |row| {
                        if row.offset < span.to {
                            digest.row(row.offset, row.hash);
                        }
                    });
                });
                for letter in dead_letters.iter().filter(|letter| letter.offset < span.to) {
                    digest.letter(letter.offset, letter.element, hash_dead_letter(letter));
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
                table
                    .report
                    .findings
                    .add(Finding::NotExamined(Offsets::of(&place, part)));
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
    let letters = verifier.letters_in(place, span).await.map_err(lake_error)?;
    let mut held: BTreeMap<i64, Held<'_>> = BTreeMap::new();
    for row in &rows {
        held.entry(row.offset).or_default().rows.insert(row.element, row);
    }
    for ((offset, element), hash) in letters {
        held.entry(offset).or_default().dead_letters.insert(element, hash);
    }
    let mut records: BTreeMap<i64, Remade> = BTreeMap::new();
    let mut decoder = Decoder::new(stream);
    read(source, place, span, |chunk| {
        for record in chunk.iter() {
            let remade = Remade {
                raw: hash_letter(record.key, record.value),
                rows: BTreeMap::new(),
                bad: BTreeSet::new(),
            };
            records.insert(record.offset, remade);
        }
        let mut rows = Vec::new();
        let dead_letters = decode(&mut decoder, chunk, |batch| {
            hash_rows(batch, true, |row| rows.push(row));
        });
        for row in rows {
            if let Some(record) = records.get_mut(&row.offset) {
                record.rows.insert(row.element, row);
            }
        }
        for letter in dead_letters {
            if let Some(record) = records.get_mut(&letter.offset) {
                record.bad.insert(letter.element);
            }
        }
    })?;
    let nothing = Held::default();
    for offset in span.from..span.to {
        let held = held.get(&offset).unwrap_or(&nothing);
        let is_excused = |element| {
            verifier.is_gap(place, offset)
                || verifier.is_erased(place, offset, element)
                || table.is_removed(place, offset, element)
        };
        let at = At { place, offset };
        let findings = compare(&at, held, records.get(&offset), &is_excused);
        for finding in findings {
            table.report.findings.add(finding);
        }
    }
    Ok(())
}

/// The record that is compared.
struct At<'a> {
    place: &'a TopicPartition,
    offset: i64,
}

impl At<'_> {
    fn element(&self, element: Option<u32>) -> Offsets {
        Offsets::one(&self.place.topic, self.place.partition, self.offset, element)
    }
}

/// What is wrong with what the lake holds of a record. `is_excused`: a gap, or removed, which is reported already.
fn compare(
    at: &At<'_>,
    held: &Held<'_>,
    remade: Option<&Remade>,
    is_excused: &dyn Fn(Option<u32>) -> bool,
) -> Vec<Finding> {
    let is_held = !held.rows.is_empty() || !held.dead_letters.is_empty();
    let Some(remade) = remade else {
        let all = held.rows.keys().chain(held.dead_letters.keys());
        let each: BTreeSet<Option<u32>> = all.copied().collect();
        return each
            .into_iter()
            .map(|element| Finding::NotInKafka(at.element(element)))
            .collect();
    };
    // A message that is a dead letter as a whole stands for its elements. It stays one until all of them are good.
    let is_whole_dead = held.dead_letters.contains_key(&None) && !remade.rows.contains_key(&None);
    let would_pass_whole = is_whole_dead && remade.bad.is_empty();
    let mut keys: BTreeSet<Option<u32>> = held.rows.keys().chain(held.dead_letters.keys()).copied().collect();
    if !is_whole_dead {
        // What is bad as a whole now and was not then shows at its rows.
        let expected = remade.rows.keys().chain(&remade.bad);
        keys.extend(expected.filter(|element| element.is_some() || !is_held));
    }
    let check = |element: Option<u32>| {
        let (row, letter) = (held.rows.get(&element), held.dead_letters.get(&element));
        let place = &at.place;
        match (row, letter, remade.rows.get(&element)) {
            (None, None, _) => (!is_excused(element)).then(|| Finding::NotLanded(at.element(element))),
            (Some(row), _, Some(remade)) if remade.hash == row.hash => None,
            (Some(row), _, Some(remade)) => Some(Finding::RowDiffers {
                topic: place.topic.to_string(),
                partition: place.partition,
                offset: at.offset,
                element,
                columns: differing(row, remade),
            }),
            (Some(_), _, None) => Some(Finding::WouldFail(at.element(element))),
            (None, Some(letter), _) if *letter != remade.raw => Some(Finding::LetterDiffers {
                topic: place.topic.to_string(),
                partition: place.partition,
                offset: at.offset,
                element,
            }),
            (None, Some(_), Some(_)) => Some(Finding::WouldPass(at.element(element))),
            (None, Some(_), None) => {
                (element.is_none() && would_pass_whole).then(|| Finding::WouldPass(at.element(element)))
            }
        }
    };
    keys.into_iter().filter_map(check).collect()
}

/// Decodes a chunk; `each` gets its rows in pieces.
fn decode(decoder: &mut Decoder, chunk: &Chunk, mut each: impl FnMut(&RecordBatch)) -> Vec<DeadLetter> {
    let (none, mut dead_letters, mut done) = (BTreeSet::new(), Vec::new(), 0);
    while done < chunk.len() {
        done += decoder.decode_from(done, chunk, &none, 0, &mut dead_letters).records;
        if let Some(batch) = decoder.take() {
            each(&batch);
        }
    }
    dead_letters
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
