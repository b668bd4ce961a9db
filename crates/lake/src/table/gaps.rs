//! The table of offsets that Kafka no longer held when their turn came: what is missing in the rows, and why.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use model::{Span, TopicPartition};

use crate::delta::append::Commit;
use crate::delta::decide::letters_move_to;
use crate::delta::log::Log;
use crate::delta::spec::TableSpec;
use crate::write::encode::FileFormat;
use crate::write::parquet::{ParquetFormat, ParquetSettings};
use crate::{CommitOutcome, FileWriter, LakeError, Mark, decide_letters};

const NAME: &str = model::GAPS;

/// Other writers may record a gap of the same partition at the same time; one of each pair is faster.
const TRIES_MAX: u32 = 20;

/// One writer's handle on the gaps of all streams.
pub struct Gaps {
    log: Log,
    format: Arc<FileFormat>,
}

impl Gaps {
    pub(crate) fn spec() -> Result<TableSpec, LakeError> {
        let description = "Offsets that were gone from Kafka before they could be read.";
        TableSpec::new(NAME, description, &schema(), &[], Vec::new())
    }

    pub(crate) fn new(log: Log, parquet: ParquetSettings) -> Result<Self, LakeError> {
        let format = Arc::new(FileFormat::new(
            NAME,
            schema(),
            &log.schema()?,
            None,
            ParquetFormat::of(NAME, parquet, log.view().metadata())?,
            ParquetFormat::system_properties,
        )?);
        Ok(Self { log, format })
    }

    /// Records that these offsets are missing, once: what of them is recorded already, also by another writer, is not
    /// recorded again. Make it so before the rows' table is moved past them.
    pub async fn record(&self, place: &TopicPartition, missing: Span, reason: &str) -> Result<(), LakeError> {
        for _ in 0..TRIES_MAX {
            self.log.refresh().await?;
            let known = self.log.mark(place);
            let from = known.map_or(missing.from, |known| known.offset.max(missing.from));
            if from >= missing.to {
                return Ok(());
            }
            let span = Span::new(from, missing.to);
            if let CommitOutcome::Committed { .. } | CommitOutcome::AlreadyLanded { .. } =
                self.commit(place, span, reason, known).await?
            {
                return Ok(());
            }
        }
        Err(LakeError::Unsettled {
            table: NAME.to_owned(),
            tries: TRIES_MAX,
            source: None,
        })
    }

    async fn commit(
        &self,
        place: &TopicPartition,
        span: Span,
        reason: &str,
        known: Option<Mark>,
    ) -> Result<CommitOutcome, LakeError> {
        let mut writer = FileWriter::new(self.format.clone(), self.log.names.clone());
        writer.write(&row(place, span, reason, self.log.clock.now_us())?)?;
        let files = self.log.upload(writer.finish()?).await?;
        let spans = [(place.clone(), span)];
        let commit = Commit {
            id: files.first_path().unwrap_or_default().to_owned(),
            adds: files.adds().collect(),
            spans: &spans,
            rows: 1,
            records: None,
            elements: None,
        };
        let expected: HashMap<_, _> = [(place, known)].into();
        let decide = |recorded: &dyn Fn(&TopicPartition) -> crate::Recorded| {
            decide_letters(recorded, |place| expected.get(place).copied().flatten(), &spans)
        };
        self.log.commit(&commit, decide, letters_move_to).await
    }
}

fn schema() -> SchemaRef {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let columns = [
        ("topic", DataType::Utf8, "Kafka topic."),
        ("partition", DataType::Int32, "Kafka partition."),
        ("from_offset", DataType::Int64, "First offset that is missing."),
        ("to_offset", DataType::Int64, "The first one after it that is not."),
        ("reason", DataType::Utf8, "Why they are missing."),
        ("recorded_at", timestamp, "When that was found."),
    ];
    let fields = columns.map(|(name, data_type, doc)| {
        Field::new(name, data_type, false).with_metadata([("comment".to_owned(), doc.to_owned())].into())
    });
    Arc::new(Schema::new(fields.to_vec()))
}

fn row(place: &TopicPartition, span: Span, reason: &str, now_us: i64) -> Result<RecordBatch, LakeError> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![&*place.topic])),
        Arc::new(Int32Array::from(vec![place.partition])),
        Arc::new(Int64Array::from(vec![span.from])),
        Arc::new(Int64Array::from(vec![span.to])),
        Arc::new(StringArray::from(vec![reason])),
        Arc::new(TimestampMicrosecondArray::from(vec![now_us]).with_timezone("UTC")),
    ];
    RecordBatch::try_new(schema(), columns).map_err(|error| LakeError::parquet(NAME, "encode", error))
}
