//! Dead letters that become rows: by topic, partition, offset and element, and once.

use std::collections::{BTreeSet, HashMap};

use codec::Decoder;
use ingest::replay::{Letter, Replay, Replayed, preview};
use lake::Lake;
use model::{Chunk, ChunkBuilder, RecordId, Stream, TopicPartition};

use crate::{open_lake, stored};

const APPLICATION: &str = "test";

/// `least` is what `id` and `value` must be at least. `elements`: a line for the head, and where `value` is found.
fn stream(topic: &str, least: i64, elements: (&str, &str)) -> Stream {
    let text = format!(
        r#"
        name = "readings"
        description = "d"
        topic = "{topic}"
        key = "id"
        event_time = "at"
        {}
        [[field]]
        name = "id"
        type = "long"
        min = {least}
        doc = "i"
        [[field]]
        name = "at"
        type = "timestamp"
        doc = "t"
        [[field]]
        name = "value"
        type = "long"
        min = {least}
        from = ["{}"]
        doc = "v"
        "#,
        elements.0, elements.1
    );
    Stream::parse("readings.toml", &text).unwrap()
}

const FLAT: (&str, &str) = ("", "value");
const ELEMENTS: (&str, &str) = (r#"elements = "values[*]""#, "values[*].value");

fn place(topic: &str) -> TopicPartition {
    TopicPartition::new(topic, 0)
}

fn chunk(topic: &str, values: &[String]) -> Chunk {
    let mut chunk = ChunkBuilder::new(place(topic), 0);
    for (offset, value) in (0..).zip(values) {
        chunk.push(offset, 1, None, Some(value.as_bytes()), []);
    }
    chunk.finish(values.len() as i64)
}

/// Commits a chunk as the job does; its dead letters.
pub(crate) async fn land(lake: &Lake, stream: &Stream, chunk: &Chunk) -> Vec<Letter> {
    let table = lake.table(stream, APPLICATION).await.unwrap();
    let dead = lake.dead_letters([stream], APPLICATION).await.unwrap();
    let (mut decoder, mut letters) = (Decoder::new(stream), Vec::new());
    let counts = decoder.decode(chunk, &BTreeSet::new(), 7, &mut letters);
    let spans = [(chunk.topic_partition().clone(), chunk.span())];
    if !letters.is_empty() {
        let known = HashMap::from([(spans[0].0.clone(), dead.mark(&spans[0].0))]);
        dead.commit(&letters, &spans, &known).await.unwrap();
    }
    let mut staged = Vec::new();
    if let Some(rows) = decoder.take() {
        let mut writer = table.file_writer();
        writer.write(&rows).unwrap();
        staged.push(table.upload(writer.finish().unwrap()).await.unwrap());
    }
    let elements = stream.elements.as_ref().map(|_| counts.elements() as u64);
    let committed = table.commit_counted(staged, &spans, Some(counts.records as u64), elements);
    committed.await.unwrap();
    letters.into_iter().map(stored).collect()
}

async fn present(lake: &Lake, stream: &Stream, topic: &str, ids: &[(i64, Option<u32>)]) -> Vec<(i64, Option<u32>)> {
    let table = lake.table(stream, APPLICATION).await.unwrap();
    table.refresh().await.unwrap();
    let id = |(offset, element): &(i64, Option<u32>)| RecordId::new(place(topic), *offset, *element);
    let found = table.present(&ids.iter().map(id).collect()).await.unwrap();
    found.into_iter().map(|id| (id.offset, id.element)).collect()
}

async fn dead(lake: &Lake, stream: &Stream, topic: &str) -> BTreeSet<(i64, Option<u32>)> {
    let dead = lake.dead_letters([stream], APPLICATION).await.unwrap();
    dead.refresh().await.unwrap();
    dead.offsets_from(&place(topic), -1).await.unwrap()
}

fn flat(value: i64) -> String {
    format!(r#"{{"id":1,"at":"2026-01-01T00:00:00Z","value":{value}}}"#)
}

fn message(values: &[i64]) -> String {
    let values: Vec<_> = values.iter().map(|value| format!(r#"{{"value":{value}}}"#)).collect();
    format!(
        r#"{{"id":1,"at":"2026-01-01T00:00:00Z","values":[{}]}}"#,
        values.join(",")
    )
}

#[tokio::test]
async fn two_topics_in_one_table_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open_lake(folder.path()).await;
    let old = chunk("old", &[flat(5), flat(5), flat(5)]);
    assert_eq!(land(&lake, &stream("old", 0, FLAT), &old).await, []);
    // The topic is renamed; the record at the same partition and offset is bad.
    let new = chunk("new", &[flat(5), flat(-5), flat(5)]);
    let letters = land(&lake, &stream("new", 0, FLAT), &new).await;
    assert_eq!(letters.len(), 1);

    let now = stream("new", -9, FLAT);
    let mut replay = Replay::open(&lake, &now, APPLICATION).await.unwrap();
    let rows = Replayed {
        rows: 1,
        ..Replayed::default()
    };
    assert_eq!(preview(&now, &letters), rows);
    assert_eq!(replay.land(&letters, 0).await.unwrap(), rows);
    assert_eq!(present(&lake, &now, "new", &[(1, None)]).await, [(1, None)]);
    assert_eq!(dead(&lake, &now, "new").await, BTreeSet::new());
    // Once.
    let again = replay.land(&letters, 0).await.unwrap();
    assert_eq!((again.rows, again.finished), (0, 1));
}

#[tokio::test]
async fn an_element_becomes_its_own_row() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open_lake(folder.path()).await;
    let log = chunk("t", &[message(&[5, -5, -50, 5]), message(&[]), message(&[-5])]);
    let letters = land(&lake, &stream("t", 0, ELEMENTS), &log).await;
    let ids: Vec<_> = letters
        .iter()
        .map(|letter| (letter.id.offset, letter.id.element))
        .collect();
    assert_eq!(ids, [(0, Some(1)), (0, Some(2)), (2, Some(0))]);

    let now = stream("t", -9, ELEMENTS);
    let mut replay = Replay::open(&lake, &now, APPLICATION).await.unwrap();
    let replayed = replay.land(&letters, 0).await.unwrap();
    assert_eq!((replayed.rows, replayed.bad, replayed.finished), (2, 1, 0));
    let all = [(0, Some(0)), (0, Some(1)), (0, Some(2)), (0, Some(3)), (2, Some(0))];
    let rows = present(&lake, &now, "t", &all).await;
    assert_eq!(rows, [(0, Some(0)), (0, Some(1)), (0, Some(3)), (2, Some(0))]);
    assert_eq!(dead(&lake, &now, "t").await, [(0, Some(2))].into());
    let again = replay.land(&letters, 0).await.unwrap();
    assert_eq!((again.rows, again.bad, again.finished), (0, 1, 2));
}

#[tokio::test]
async fn a_message_becomes_the_rows_of_its_elements_once_all_are_good() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open_lake(folder.path()).await;
    let bad = |text: String| text.replace(r#""id":1"#, r#""id":-1"#);
    let log = chunk(
        "t",
        &[bad(message(&[5, 6])), bad(message(&[5, -50])), bad(message(&[]))],
    );
    let letters = land(&lake, &stream("t", 0, ELEMENTS), &log).await;
    let whole = |letter: &Letter| letter.id.element.is_none();
    assert!(letters.len() == 3 && letters.iter().all(whole));

    let now = stream("t", -9, ELEMENTS);
    assert_eq!(preview(&now, &letters).rows, 2);
    let mut replay = Replay::open(&lake, &now, APPLICATION).await.unwrap();
    let replayed = replay.land(&letters, 0).await.unwrap();
    assert_eq!((replayed.rows, replayed.bad), (2, 1));
    let all = [(0, Some(0)), (0, Some(1)), (1, Some(0)), (1, Some(1))];
    assert_eq!(present(&lake, &now, "t", &all).await, [(0, Some(0)), (0, Some(1))]);
    // The message without elements is good, and nothing is left of it.
    assert_eq!(dead(&lake, &now, "t").await, [(1, None)].into());
}
