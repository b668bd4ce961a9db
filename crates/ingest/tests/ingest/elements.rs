//! A lake whose messages have elements, compared with its topic.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use arrow_array::RecordBatch;
use codec::Decoder;
use ingest::verify::against_kafka;
use lake::verify::{Finding, Offsets, Severity, TableReport, Verifier, VerifyOptions};
use model::{Chunk, ChunkBuilder, DeadLetter, Stream, TopicPartition};

use crate::{OneChunk, open_lake};

const STREAM: &str = r#"
    name = "readings"
    description = "d"
    key = "id"
    event_time = "at"
    elements = "parts[*]"
    [[field]]
    name = "id"
    type = "long"
    doc = "i"
    [[field]]
    name = "at"
    type = "timestamp"
    from = ["parts[*].at"]
    doc = "t"
    [[field]]
    name = "value"
    type = "long"
    from = ["parts[*].value"]
    doc = "v"
"#;
const RECORDS: i64 = 6_000;

/// Message `offset` has `offset % 5` elements, the third of every 10th message is broken, and every 100th message is.
fn message(offset: i64) -> Vec<u8> {
    let parts: Vec<String> = (0..offset % 5)
        .map(|element| match (element, offset % 10) {
            (2, 3) => r#"{"at":"2026-01-01T00:00:00Z"}"#.to_owned(),
            _ => format!(r#"{{"at":"2026-01-01T00:00:00Z","value":{}}}"#, offset * 10 + element),
        })
        .collect();
    let end = if offset % 100 == 4 { "" } else { "}" };
    format!(r#"{{"id":{offset},"parts":[{}]{end}"#, parts.join(",")).into_bytes()
}

fn chunk() -> Chunk {
    let mut chunk = ChunkBuilder::new(TopicPartition::new("readings", 0), 0);
    for offset in 0..RECORDS {
        chunk.push(offset, offset, None, Some(&message(offset)), []);
    }
    chunk.finish(RECORDS)
}

/// Commits the log as `spoil` leaves it, and compares.
async fn check(
    folder: &Path,
    spoil: impl Fn(RecordBatch) -> RecordBatch,
    spoil_letters: impl Fn(&mut Vec<DeadLetter>),
) -> TableReport {
    let stream = Stream::parse("readings.toml", STREAM).unwrap();
    let lake = open_lake(folder).await;
    let table = lake.table(&stream, "test").await.unwrap();
    let dead = lake.dead_letters([&stream], "test").await.unwrap();
    let (mut decoder, mut letters, mut done) = (Decoder::new(&stream), Vec::new(), 0);
    let chunk = chunk();
    let mut writer = table.file_writer();
    while done < chunk.len() {
        done += decoder
            .decode_from(done, &chunk, &BTreeSet::new(), 7, &mut letters)
            .records;
        if let Some(rows) = decoder.take() {
            writer.write(&spoil(rows)).unwrap();
        }
    }
    spoil_letters(&mut letters);
    let spans = [(chunk.topic_partition().clone(), chunk.span())];
    let known = HashMap::from([(spans[0].0.clone(), None)]);
    dead.commit(&letters, &spans, &known).await.unwrap();
    let staged = table.upload(writer.finish().unwrap()).await.unwrap();
    // Without a count nothing in the lake contradicts.
    table.commit(vec![staged], &spans).await.unwrap();

    let options = VerifyOptions {
        digests: true,
        ..VerifyOptions::default()
    };
    let verifier = Verifier::open(lake.root(), &[], options, &|_, _, _| {}).await.unwrap();
    let mut table = verifier.table("readings").await.unwrap();
    let mut log = OneChunk(chunk, false);
    against_kafka(&stream, &mut log, &verifier, &mut table, &|_| {})
        .await
        .unwrap();
    table.report
}

fn of_comparison(report: &TableReport) -> Vec<Finding> {
    let told = report.findings.told().iter();
    let by_topic = told.filter(|finding| {
        finding.severity() == Severity::Fault
            && matches!(
                finding,
                Finding::NotLanded(_)
                    | Finding::RowDiffers { .. }
                    | Finding::LetterDiffers { .. }
                    | Finding::WouldPass(_)
                    | Finding::WouldFail(_)
                    | Finding::NotInKafka(_)
            )
    });
    by_topic.cloned().collect()
}

fn without(rows: &RecordBatch, offset: i64, element: i32) -> RecordBatch {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Int32Type, Int64Type};
    let offsets = rows["_offset"].as_primitive::<Int64Type>().values();
    let elements = rows["_element"].as_primitive::<Int32Type>().values();
    match offsets.iter().zip(elements).position(|at| at == (&offset, &element)) {
        // A batch begins or ends there; one would lose its neighbours otherwise.
        Some(at) if at + 1 == rows.num_rows() || at == 0 => rows.slice(usize::from(at == 0), rows.num_rows() - 1),
        _ => rows.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_element_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let report = check(folder.path(), |rows| rows, |_| {}).await;
    assert_eq!(of_comparison(&report), []);
    assert_eq!(report.partitions[0].compared, Some(RECORDS as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_row_and_a_lost_dead_letter_of_an_element_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let lose =
        |letters: &mut Vec<DeadLetter>| letters.retain(|letter| (letter.offset, letter.element) != (1_013, Some(2)));
    let report = check(folder.path(), |rows| without(&rows, 1, 0), lose).await;
    let lost = |offset, element| Finding::NotLanded(Offsets::one("readings", 0, offset, Some(element)));
    assert_eq!(of_comparison(&report), [lost(1, 0), lost(1_013, 2)]);
}
