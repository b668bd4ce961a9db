//! The table of records that were removed on purpose: what is missing in the rows and dead letters, and why.
//!
//! The sibling of `gaps`: a gap was lost before it was read, an erasure was read and is gone because somebody asked for
//! it. `verify` counts an erased record as accounted for, and reports one that is still there.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use model::{Span, TopicPartition};

use crate::delta::action::Action;
use crate::delta::conflict::{ReadSet, Reads};
use crate::delta::log::Log;
use crate::delta::spec::TableSpec;
use crate::write::encode::FileFormat;
use crate::write::parquet::{ParquetFormat, ParquetSettings};
use crate::{FileWriter, LakeError};

const NAME: &str = model::ERASURES;

/// The operation of a commit that records erasures.
const ERASE: &str = "ERASE";

/// Other writers may record erasures at the same time; one of each pair is faster.
const TRIES_MAX: u32 = 20;

/// Messages, or one element of a message, that were removed on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    pub topic_partition: TopicPartition,
    /// Offsets of the messages; one offset when an element is named.
    pub span: Span,
    /// The element; `None` for whole messages with all their elements.
    pub element: Option<u32>,
}

/// One writer's handle on the erasures of all streams.
pub struct Erasures {
    log: Log,
    format: Arc<FileFormat>,
}

impl Erasures {
    pub(crate) fn spec() -> Result<TableSpec, LakeError> {
        let description = "Records that were removed on purpose.";
        TableSpec::new(NAME, description, &schema(), &[], Vec::new())
    }

    pub(crate) fn new(log: Log, parquet: ParquetSettings) -> Result<Self, LakeError> {
        let format = FileFormat::new(
            NAME,
            schema(),
            &log.schema()?,
            None,
            ParquetFormat::of(NAME, parquet, log.view().metadata())?,
            ParquetFormat::system_properties,
        )?;
        Ok(Self {
            log,
            format: Arc::new(format),
        })
    }

    /// Records these erasures in one commit, once: what of them is recorded already, also by another writer, is not
    /// recorded again. Make it so before the records are removed. Returns how many were new, after what is known was cut
    /// off.
    ///
    /// Where messages hold several elements, name each element that is removed: of a message that is erased whole nobody
    /// knows how many records it was, and `verify` cannot compare the count of its commit.
    ///
    /// # Errors
    /// After a retryable error the same call may be made again. An erasure that names an element of several messages is
    /// refused.
    pub async fn record(&self, erasures: &[Erasure], reason: &str) -> Result<u64, LakeError> {
        let of_several = |erasure: &&Erasure| erasure.element.is_some() && erasure.span.to - erasure.span.from != 1;
        if let Some(erasure) = erasures.iter().find(of_several) {
            let Erasure {
                topic_partition, span, ..
            } = erasure;
            return Err(LakeError::batch(
                NAME,
                format!("an element is named for the offsets {span} of {topic_partition}"),
            ));
        }
        for _ in 0..TRIES_MAX {
            self.log.refresh().await?;
            let read_version = self.log.version();
            let missing = self.without_recorded(erasures).await?;
            if missing.is_empty() {
                return Ok(0);
            }
            let mut writer = FileWriter::new(self.format.clone(), self.log.names.clone());
            writer.write(&batch(&missing, reason, self.log.clock.now_us())?)?;
            let files = self.log.upload(writer.finish()?).await?;
            let id = files.first_path().unwrap_or_default().to_owned();
            let info = self.log.commit_info(ERASE, &id, Some(read_version));
            let adds = files.adds().map(|add| Action::Add(Box::new(add.clone())));
            let actions: Vec<Action> = [Action::CommitInfo(Box::new(info))].into_iter().chain(adds).collect();
            let read = ReadSet {
                reads: Reads::Everything,
                ..ReadSet::default()
            };
            let committed = self.log.commit_prepared(read_version, &id, &actions, &read);
            if committed.await?.is_some() {
                return Ok(missing.len() as u64);
            }
        }
        Err(LakeError::Unsettled {
            table: NAME.to_owned(),
            tries: TRIES_MAX,
            source: None,
        })
    }

    /// What of these the table does not hold yet. What it holds of their partitions is in memory meanwhile.
    async fn without_recorded(&self, erasures: &[Erasure]) -> Result<Vec<Erasure>, LakeError> {
        let mut recorded: BTreeMap<TopicPartition, Vec<(Span, Option<u32>)>> = BTreeMap::new();
        for erasure in erasures {
            recorded.entry(erasure.topic_partition.clone()).or_default();
        }
        for file in self.log.live_files(|_| true).await? {
            let read = self.log.read_rows(&file, None, |batch| {
                let rows = Rows::of(&batch)
                    .ok_or_else(|| LakeError::unusable(NAME, format!("{} has other columns", file.add.path)))?;
                for row in 0..batch.num_rows() {
                    let (place, span, element) = rows.get(row);
                    if let Some(of_place) = recorded.get_mut(&place) {
                        of_place.push((span, element));
                    }
                }
                Ok(())
            });
            read.await?;
        }
        let mut missing = Vec::new();
        for erasure in erasures {
            let known = recorded.entry(erasure.topic_partition.clone()).or_default();
            let mut left = vec![erasure.span];
            // A message that is erased whole is erased with its elements.
            for (span, element) in known
                .iter()
                .filter(|(_, element)| element.is_none() || *element == erasure.element)
            {
                debug_assert!(element.is_none() || span.to - span.from == 1);
                left = left
                    .into_iter()
                    .flat_map(|part| [(part.from, part.to.min(span.from)), (part.from.max(span.to), part.to)])
                    .filter(|(from, to)| from < to)
                    .map(|(from, to)| Span::new(from, to))
                    .collect();
                left.dedup();
            }
            known.push((erasure.span, erasure.element));
            missing.extend(left.into_iter().map(|span| Erasure {
                span,
                ..erasure.clone()
            }));
        }
        Ok(missing)
    }
}

/// The columns that tell what was erased.
struct Rows<'a> {
    topics: &'a StringArray,
    partitions: &'a Int32Array,
    from: &'a Int64Array,
    to: &'a Int64Array,
    elements: &'a Int32Array,
}

impl<'a> Rows<'a> {
    fn of(batch: &'a RecordBatch) -> Option<Self> {
        let column = |name: &str| Some(batch.column_by_name(name)?.as_any());
        Some(Self {
            topics: column("topic")?.downcast_ref()?,
            partitions: column("partition")?.downcast_ref()?,
            from: column("from_offset")?.downcast_ref()?,
            to: column("to_offset")?.downcast_ref()?,
            elements: column("element")?.downcast_ref()?,
        })
    }

    fn get(&self, row: usize) -> (TopicPartition, Span, Option<u32>) {
        let element = self.elements.is_valid(row).then(|| self.elements.value(row) as u32);
        (
            TopicPartition::new(self.topics.value(row), self.partitions.value(row)),
            Span {
                from: self.from.value(row),
                to: self.to.value(row),
            },
            element,
        )
    }
}

fn schema() -> SchemaRef {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let columns = [
        ("topic", DataType::Utf8, false, "Kafka topic."),
        ("partition", DataType::Int32, false, "Kafka partition."),
        ("from_offset", DataType::Int64, false, "First offset that was erased."),
        (
            "to_offset",
            DataType::Int64,
            false,
            "The first one after it that was not.",
        ),
        (
            "element",
            DataType::Int32,
            true,
            "Position of the erased element in its message; null when whole messages were erased.",
        ),
        ("reason", DataType::Utf8, false, "Why they were erased."),
        ("erased_at", timestamp, false, "When that was recorded."),
    ];
    let fields = columns.map(|(name, data_type, nullable, doc)| {
        Field::new(name, data_type, nullable).with_metadata([("comment".to_owned(), doc.to_owned())].into())
    });
    Arc::new(Schema::new(fields.to_vec()))
}

fn batch(erasures: &[Erasure], reason: &str, now_us: i64) -> Result<RecordBatch, LakeError> {
    let all = erasures.iter();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(
            all.clone().map(|erasure| &*erasure.topic_partition.topic),
        )),
        Arc::new(Int32Array::from_iter_values(
            all.clone().map(|erasure| erasure.topic_partition.partition),
        )),
        Arc::new(Int64Array::from_iter_values(
            all.clone().map(|erasure| erasure.span.from),
        )),
        Arc::new(Int64Array::from_iter_values(all.clone().map(|erasure| erasure.span.to))),
        Arc::new(Int32Array::from_iter(
            all.clone().map(|erasure| erasure.element.map(|element| element as i32)),
        )),
        Arc::new(StringArray::from_iter_values(all.clone().map(|_| reason))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(all.map(|_| now_us)).with_timezone("UTC")),
    ];
    RecordBatch::try_new(schema(), columns).map_err(|error| LakeError::parquet(NAME, "encode", error))
}
