//! What only the topic can tell: a value changed with log and checksum put right, a record that never landed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch};
use codec::Decoder;
use ingest::verify::against_kafka;
use kafka::{Event, KafkaError, PartitionOffsets, Source, TopicIds};
use lake::verify::{Finding, Offsets, Severity, TableReport, Verifier, VerifyOptions};
use lake::{Lake, Names};
use model::{Chunk, ChunkBuilder, ManualClock, Span, Stream, TopicPartition};

use crate::NoIds;

const STREAM: &str = r#"
    name = "readings"
    description = "d"
    key = "id"
    event_time = "at"
    [[field]]
    name = "id"
    type = "long"
    doc = "i"
    [[field]]
    name = "at"
    type = "timestamp"
    doc = "t"
    [[field]]
    name = "value"
    type = "long"
    doc = "v"
"#;
const RECORDS: i64 = 10_000;

/// One partition. Every 50th record is broken, every 7th offset was never handed out.
struct MemoryLog {
    low: i64,
    position: i64,
}

fn record(offset: i64) -> Option<Vec<u8>> {
    match offset {
        offset if offset % 7 == 5 => None,
        offset if offset % 50 == 8 => Some(format!(r#"{{"id":{offset}"#).into_bytes()),
        offset => Some(
            format!(
                r#"{{"id":{offset},"at":"2026-01-01T00:00:00Z","value":{}}}"#,
                offset % 100
            )
            .into_bytes(),
        ),
    }
}

fn place() -> TopicPartition {
    TopicPartition::new("readings", 0)
}

fn chunk(from: i64, to: i64) -> Chunk {
    let mut chunk = ChunkBuilder::new(place(), from);
    for offset in from..to {
        if let Some(value) = record(offset) {
            chunk.push(offset, offset, Some(b"key"), Some(&value), []);
        }
    }
    chunk.finish(to)
}

impl Source for MemoryLog {
    fn poll(&mut self, _: Duration, _: bool) -> Result<Vec<Event>, KafkaError> {
        let (from, to) = (self.position, RECORDS.min(self.position + 1_500));
        self.position = to;
        Ok(if from < to {
            vec![Event::Chunk(chunk(from, to))]
        } else {
            Vec::new()
        })
    }

    fn assign(&mut self, positions: &[(TopicPartition, i64)]) -> Result<(), KafkaError> {
        self.position = positions[0].1;
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        self.unassign(partitions)
    }

    fn resume(&mut self, _: &[TopicPartition]) -> Result<(), KafkaError> {
        Ok(())
    }

    fn unassign(&mut self, _: &[TopicPartition]) -> Result<(), KafkaError> {
        self.position = RECORDS;
        Ok(())
    }

    fn offsets(&mut self, _: &TopicPartition) -> Result<PartitionOffsets, KafkaError> {
        Ok(PartitionOffsets {
            low: self.low,
            high: RECORDS,
        })
    }

    fn partition_counts(&mut self) -> Result<BTreeMap<String, i32>, KafkaError> {
        Ok([("readings".to_owned(), 1)].into())
    }

    fn topic_ids(&self) -> Result<Arc<dyn TopicIds>, KafkaError> {
        Ok(Arc::new(NoIds))
    }

    fn high_watermark(&self, _: &TopicPartition) -> Option<i64> {
        Some(RECORDS)
    }

    fn report_positions(&mut self, _: &[(TopicPartition, i64)]) {}
}

fn stream() -> Stream {
    Stream::parse("readings.toml", STREAM).unwrap()
}

async fn open(folder: &Path) -> Lake {
    let clock = Arc::new(ManualClock::new(0));
    Lake::open(folder.to_str().unwrap(), clock, Names::seeded(1))
        .await
        .unwrap()
}

/// Lands the log, with rows as `spoil` leaves them.
async fn land(folder: &Path, spoil: impl Fn(RecordBatch) -> RecordBatch) {
    let lake = open(folder).await;
    let (table, dead) = (
        lake.table(&stream(), "test").await.unwrap(),
        lake.dead_letters([&stream()], "test").await.unwrap(),
    );
    let mut decoder = Decoder::new(&stream());
    for from in (0..RECORDS).step_by(1_000) {
        let (mut letters, span) = (Vec::new(), Span::new(from, from + 1_000));
        let chunk = chunk(from, span.to);
        decoder.decode(&chunk, &BTreeSet::new(), 7, &mut letters);
        let spans = [(place(), span)];
        let known = HashMap::from([(place(), dead.mark(&place()))]);
        dead.commit(&letters, &spans, &known).await.unwrap();
        let mut writer = table.file_writer();
        writer.write(&spoil(decoder.take().unwrap())).unwrap();
        let staged = table.upload(writer.finish().unwrap()).await.unwrap();
        // Who would cheat, cheats here too: without a count nothing in the lake contradicts.
        table.commit(vec![staged], &spans).await.unwrap();
    }
}

async fn compare(folder: &Path, low: i64) -> TableReport {
    let lake = open(folder).await;
    let options = VerifyOptions {
        digests: true,
        ..VerifyOptions::default()
    };
    let verifier = Verifier::open(lake.root(), &[], options, &|_, _, _| {}).await.unwrap();
    let mut table = verifier.table("readings").await.unwrap();
    let mut log = MemoryLog { low, position: RECORDS };
    against_kafka(&stream(), &mut log, &verifier, &mut table, &|_| {})
        .await
        .unwrap();
    table.report
}

fn faults(report: &TableReport) -> Vec<&Finding> {
    let told = report.findings.told().iter();
    told.filter(|finding| finding.severity() == Severity::Fault).collect()
}

fn records() -> u64 {
    (0..RECORDS).filter(|offset| record(*offset).is_some()).count() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn what_landed_as_it_was_agrees() {
    let folder = tempfile::tempdir().unwrap();
    land(folder.path(), |rows| rows).await;
    let report = compare(folder.path(), 0).await;
    assert_eq!(faults(&report), Vec::<&Finding>::new());
    assert_eq!(report.partitions[0].compared, Some(records()));
    assert_eq!(
        report.partitions[0].letters,
        (0..RECORDS).filter(|o| o % 50 == 8 && o % 7 != 5).count() as u64
    );

    // Kafka holds the newer half alone, from the middle of a block on: that half is compared.
    let report = compare(folder.path(), 5_001).await;
    assert_eq!(faults(&report), Vec::<&Finding>::new());
    assert!(report.partitions[0].compared < Some(records() / 2 + 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_value_is_found_with_its_column() {
    let folder = tempfile::tempdir().unwrap();
    // Within the bounds, before the checksum was taken.
    let change = |rows: RecordBatch| {
        let index = rows.schema().index_of("value").unwrap();
        let mut columns: Vec<_> = rows.columns().to_vec();
        let ids: &Int64Array = rows.column(0).as_any().downcast_ref().unwrap();
        let values: &Int64Array = columns[index].as_any().downcast_ref().unwrap();
        let changed = ids.values().iter().zip(values.values());
        let changed = changed.map(|(id, value)| if *id == 4_242 { value + 1 } else { *value });
        columns[index] = Arc::new(Int64Array::from_iter_values(changed));
        RecordBatch::try_new(rows.schema(), columns).unwrap()
    };
    land(folder.path(), change).await;
    let found = Finding::RowDiffers {
        topic: "readings".to_owned(),
        partition: 0,
        offset: 4_242,
        element: None,
        columns: vec!["value".to_owned()],
    };
    assert_eq!(faults(&compare(folder.path(), 0).await), [&found]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_never_landed_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let lose = |rows: RecordBatch| {
        let ids: &Int64Array = rows.column(0).as_any().downcast_ref().unwrap();
        match ids.values().iter().position(|id| *id == 3_002) {
            Some(at) => rows.slice(at + 1, rows.num_rows() - at - 1),
            None => rows,
        }
    };
    land(folder.path(), lose).await;
    let report = compare(folder.path(), 0).await;
    let lost: BTreeMap<i64, i64> = faults(&report)
        .into_iter()
        .map(|finding| match finding {
            Finding::NotLanded(Offsets { from, to, .. }) => (*from, *to),
            other => panic!("{other:?}"),
        })
        .collect();
    // Offset 3001 was never handed out.
    assert_eq!(lost, BTreeMap::from([(3_000, 3_001), (3_002, 3_003)]));
}
