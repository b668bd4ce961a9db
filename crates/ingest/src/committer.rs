//! One task per stream that lands batches in order: upload, dead letters, then rows and offsets in one commit.

use std::collections::HashMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use kafka::TopicIds;
use lake::{CommitOutcome, DeadLetters, EncodedFiles, Lake, LakeError, StagedFiles, Table};
use metrics::{counter, histogram};
use model::{DeadLetter, Span, TopicPartition};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::IngestError;
use crate::batch::{Batch, BatchFigures, Spans};
use crate::budget::Held;
use crate::dlq_topic::DlqTopic;
use crate::handoff::{Binding, Commit, Control, LetterOffsets, SharedBinding};
use crate::progress::{BatchReport, Part, Progress};
use crate::topics::same_topic;

pub(crate) struct Committer {
    pub(crate) stream: usize,
    pub(crate) name: Arc<str>,
    pub(crate) topic: String,
    pub(crate) table: Table,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) letter_offsets: LetterOffsets,
    pub(crate) binding: SharedBinding,
    pub(crate) topic_ids: Arc<dyn TopicIds>,
    /// Whether a topic that was recreated is read on, instead of stopping the job.
    pub(crate) outlives_topic: bool,
    pub(crate) dlq_topic: Option<Arc<DlqTopic>>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) control: Sender<Control>,
    pub(crate) lake: Lake,
    /// Set when the job must stop without landing what is left.
    pub(crate) abort: CancellationToken,
}

/// The batches that share one commit, at most.
const BATCHES_PER_COMMIT_MAX: usize = 8;
/// How long Kafka may take to say which topic it is that has a name.
const TOPIC_ID_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Landed {
    Yes,
    /// Another writer has moved a partition: the stream is to be rewound.
    Fenced,
    /// The stream was rewound since the batch was read.
    Stale,
}

/// Batches that share a commit.
pub(crate) struct Joined {
    pub(crate) epoch: u64,
    pub(crate) files: Vec<EncodedFiles>,
    pub(crate) dead_letters: Arc<Vec<DeadLetter>>,
    pub(crate) spans: Vec<(TopicPartition, Span)>,
    pub(crate) figures: BatchFigures,
    pub(crate) held: Vec<Held>,
}

impl Joined {
    /// # Panics
    /// When the batches leave a hole between them: they came out of order.
    pub(crate) fn new(batches: Vec<Batch>) -> Self {
        let mut spans = Spans::default();
        let mut figures = BatchFigures::default();
        let (mut files, mut dead_letters, mut held) = (Vec::new(), Vec::new(), Vec::new());
        let epoch = batches.first().map_or(0, |batch| batch.epoch);
        for batch in batches {
            for (partition, span) in batch.spans.iter() {
                assert!(
                    spans.extend(partition, *span),
                    "{partition}: {span} does not follow {spans:?}"
                );
            }
            figures.add(batch.figures);
            dead_letters.extend(batch.dead_letters);
            files.extend(batch.files);
            held.extend(batch.held);
        }
        Self {
            epoch,
            files,
            dead_letters: Arc::new(dead_letters),
            spans: spans.to_vec(),
            figures,
            held,
        }
    }
}

impl Committer {
    pub(crate) async fn run(self, mut commits: mpsc::Receiver<Commit>) -> Result<(), IngestError> {
        let mut epoch = 0;
        let mut next = None;
        while let Some(commit) = match next.take() {
            Some(commit) => Some(commit),
            None => commits.recv().await,
        } {
            let batch = match commit {
                // Whoever waits may have given up.
                Commit::Barrier(done) => {
                    done.send(()).ok();
                    continue;
                }
                Commit::Batch(batch) if batch.epoch < epoch => continue,
                Commit::Batch(batch) => batch,
            };
            epoch = batch.epoch;
            // What has piled up meanwhile shares the commit: fewer versions, the same files.
            let mut batches = vec![batch];
            while batches.len() < BATCHES_PER_COMMIT_MAX {
                match commits.try_recv() {
                    Ok(Commit::Batch(batch)) if batch.epoch == epoch => batches.push(batch),
                    Ok(other) => {
                        next = Some(other);
                        break;
                    }
                    Err(_) => break,
                }
            }
            if self.abort.is_cancelled() {
                return Ok(());
            }
            match self.land(batches).await? {
                Landed::Yes | Landed::Stale => {}
                Landed::Fenced => {
                    epoch += 1;
                    // The reader may be gone already when the job stops.
                    self.control
                        .send(Control::Rewind {
                            stream: self.stream,
                            epoch,
                        })
                        .ok();
                }
            }
        }
        Ok(())
    }

    /// Lands batches of one epoch, one after the other, in one commit of each table.
    pub(crate) async fn land(&self, batches: Vec<Batch>) -> Result<Landed, IngestError> {
        let started = Instant::now();
        let batch = Joined::new(batches);
        let (staged, is_same) = tokio::try_join!(self.upload(batch.files), self.check_topic(batch.epoch))?;
        if !is_same {
            return Ok(Landed::Stale);
        }
        let uploaded = started.elapsed();
        self.copy_letters(&batch.dead_letters).await?;
        // Letters first: docs/design/ingest.md says why.
        match self
            .commit_letters(batch.epoch, &batch.dead_letters, &batch.spans)
            .await?
        {
            Landed::Yes => {}
            other => return Ok(other),
        }
        let committed = self.commit_rows(&staged, &batch.spans, &batch.figures).await?;
        let (version, figures) = match committed {
            CommitOutcome::Committed { version } | CommitOutcome::AlreadyLanded { version, ours: true } => {
                (version, batch.figures)
            }
            // The rows are another writer's, who counts them.
            CommitOutcome::AlreadyLanded { version, ours: false } => (version, BatchFigures::default()),
            CommitOutcome::Fenced { .. } => return Ok(Landed::Fenced),
        };
        drop(batch.held);
        let took = started.elapsed();
        counter!("smartcity_ingest_rows_total", "stream" => Arc::clone(&self.name)).increment(figures.rows);
        counter!("smartcity_ingest_batches_total", "stream" => Arc::clone(&self.name)).increment(1);
        histogram!("smartcity_ingest_commit_seconds", "stream" => Arc::clone(&self.name)).record(took.as_secs_f64());
        info!(
            table = %self.name, version, rows = figures.rows, dead_letters = figures.dead_letters,
            ms = took.as_millis() as u64, "committed"
        );
        self.progress.committed(
            self.stream,
            &BatchReport {
                version,
                spans: batch.spans,
                figures,
                upload: uploaded,
                commit: took - uploaded,
            },
        );
        Ok(Landed::Yes)
    }

    pub(crate) async fn upload(&self, files: Vec<EncodedFiles>) -> Result<Vec<StagedFiles>, IngestError> {
        let mut staged = Vec::with_capacity(files.len());
        for encoded in files {
            let upload = || async {
                let uploaded = self.table.upload(encoded.clone()).await;
                uploaded.map_err(|error| self.lake_error(error))
            };
            staged.push(self.retry(Part::Table(self.stream), "upload", upload).await?);
        }
        Ok(staged)
    }

    /// Whether a batch of this epoch is of the topic that the table's rows come from. Kafka is asked after the batch was
    /// read, so that no record of a topic that was recreated under a running reader can become a row. `false` when the
    /// stream was rewound since: the batch is void.
    ///
    /// While Kafka does not answer nobody knows, and the batch waits.
    async fn check_topic(&self, epoch: u64) -> Result<bool, IngestError> {
        let Binding {
            epoch: bound_epoch,
            topic_id,
        } = self.binding.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(bound) = topic_id else { return Ok(true) };
        if bound_epoch != epoch {
            return Ok(false);
        }
        let ask = || async {
            let (ids, topic) = (Arc::clone(&self.topic_ids), self.topic.clone());
            let asked = tokio::task::spawn_blocking(move || ids.topic_id(&topic, TOPIC_ID_TIMEOUT));
            asked
                .await
                .map_err(|_| IngestError::Lost("a request to Kafka"))?
                .map_err(IngestError::from)
        };
        match self.retry(Part::Kafka, "which topic it is", ask).await? {
            // A topic that was deleted after it was read has no other in its place.
            None => Ok(true),
            Some(found) if found != bound && self.outlives_topic => {
                // The reader finds out what to read instead.
                let epoch = epoch + 1;
                let stream = self.stream;
                self.control.send(Control::Rewind { stream, epoch }).ok();
                Ok(false)
            }
            Some(found) => same_topic(&self.topic, &bound, &found).map(|()| true),
        }
    }

    /// To the dead-letter topic, before the table has them: from then on they are not read again.
    async fn copy_letters(&self, letters: &Arc<Vec<DeadLetter>>) -> Result<(), IngestError> {
        match &self.dlq_topic {
            Some(topic) if !letters.is_empty() => {
                // A call into librdkafka waits in a thread, which a job that ends does not wait for.
                let send = || async {
                    let (topic, letters) = (Arc::clone(topic), Arc::clone(letters));
                    let sent = tokio::task::spawn_blocking(move || topic.send(&letters));
                    sent.await
                        .map_err(|_| IngestError::Lost("the dead-letter topic"))?
                        .map_err(IngestError::from)
                };
                self.retry(Part::DlqTopic(self.stream), "dead-letter topic", send).await
            }
            _ => Ok(()),
        }
    }

    pub(crate) async fn commit_letters(
        &self,
        epoch: u64,
        letters: &[DeadLetter],
        spans: &[(TopicPartition, Span)],
    ) -> Result<Landed, IngestError> {
        if letters.is_empty() {
            return Ok(Landed::Yes);
        }
        let with_letters: Vec<_> = spans
            .iter()
            .filter(|(partition, _)| letters.iter().any(|letter| letter.topic_partition == *partition))
            .cloned()
            .collect();
        let known: Option<HashMap<_, _>> = {
            let offsets = self.letter_offsets.lock().unwrap_or_else(PoisonError::into_inner);
            let of_epoch = with_letters.iter().map(|(partition, _)| {
                let known = offsets.get(partition).filter(|known| known.epoch == epoch)?;
                Some((partition.clone(), known.mark))
            });
            of_epoch.collect()
        };
        let Some(expected) = known else {
            return Ok(Landed::Stale);
        };
        let commit = || async {
            let committed = self.dead_letters.commit(letters, &with_letters, &expected).await;
            committed.map_err(|error| self.lake_error(error))
        };
        match self.retry(Part::Table(self.stream), "dead letters", commit).await? {
            CommitOutcome::Committed { version } | CommitOutcome::AlreadyLanded { version, .. } => {
                let mut offsets = self.letter_offsets.lock().unwrap_or_else(PoisonError::into_inner);
                for (partition, _) in with_letters {
                    // A later one is another writer's already, which the next commit must find out.
                    let mark = self.dead_letters.mark(&partition);
                    let known = offsets.get_mut(&partition).filter(|known| known.epoch == epoch);
                    if let (Some(known), Some(mark)) = (known, mark.filter(|mark| mark.version == version)) {
                        known.mark = Some(mark);
                    }
                }
                Ok(Landed::Yes)
            }
            CommitOutcome::Fenced {
                topic_partition,
                recorded,
                ..
            } => Ok(self.fenced("dead_letters", &topic_partition, recorded)),
        }
    }

    pub(crate) async fn commit_rows(
        &self,
        staged: &[StagedFiles],
        spans: &[(TopicPartition, Span)],
        figures: &BatchFigures,
    ) -> Result<CommitOutcome, IngestError> {
        let (records, elements) = (Some(figures.records), figures.elements);
        let commit = || async {
            let committed = self
                .table
                .commit_counted(staged.to_vec(), spans, records, elements)
                .await;
            committed.map_err(|error| self.lake_error(error))
        };
        let outcome = self.retry(Part::Table(self.stream), "commit", commit).await?;
        if let CommitOutcome::Fenced {
            topic_partition,
            recorded,
            ..
        } = &outcome
        {
            self.fenced(&self.name, topic_partition, *recorded);
        }
        Ok(outcome)
    }

    fn fenced(&self, table: &str, partition: &TopicPartition, recorded: Option<i64>) -> Landed {
        warn!(table, %partition, ?recorded, "another writer has moved this partition; reading again from its offset");
        counter!("smartcity_ingest_fenced_total", "stream" => Arc::clone(&self.name)).increment(1);
        Landed::Fenced
    }

    /// Tries until it works or will never work. The lake may be away for any time: meanwhile the queues fill, the
    /// reader stops reading, and nothing is lost. Ends at once when the job does, also in the middle of a try.
    async fn retry<T, F>(
        &self,
        part: Part,
        what: &'static str,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, IngestError>
    where
        F: Future<Output = Result<T, IngestError>>,
    {
        let mut backoff = self.lake.backoff();
        loop {
            let tried = tokio::select! {
                biased;
                () = self.abort.cancelled() => return Err(IngestError::Ending),
                tried = attempt() => tried,
            };
            match tried {
                Ok(done) => {
                    self.progress.answered(part);
                    return Ok(done);
                }
                Err(error) if error.is_retryable() => {
                    self.progress.failed(part, what, &error);
                    counter!("smartcity_ingest_retries_total", "stream" => Arc::clone(&self.name), "what" => what)
                        .increment(1);
                    tokio::select! {
                        biased;
                        () = self.abort.cancelled() => return Err(IngestError::Ending),
                        () = backoff.wait() => {}
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn lake_error(&self, source: LakeError) -> IngestError {
        IngestError::Lake {
            stream: self.name.to_string(),
            source,
        }
    }
}
