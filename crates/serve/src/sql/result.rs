//! The rows of a running query.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};

use super::error::SqlError;
use super::limits::Limits;
use super::plan::Started;

/// A running query: a stream of record batches that all have [`QueryResult::schema`]. Dropping it cancels the query.
pub struct QueryResult {
    schema: SchemaRef,
    is_plan: bool,
    sql: Arc<str>,
    table_names: Arc<[String]>,
    /// `None` after the end and after an error: nothing runs any more.
    stream: Option<SendableRecordBatchStream>,
    limits_reached: BoxFuture<'static, SqlError>,
}

impl QueryResult {
    pub(super) fn new(started: Started, sql: Arc<str>, limits: Limits) -> QueryResult {
        QueryResult {
            schema: started.stream.schema(),
            is_plan: started.is_plan,
            sql,
            table_names: started.table_names,
            stream: Some(started.stream),
            limits_reached: limits.reached().boxed(),
        }
    }

    /// Names and types of the columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Whether the rows are a plan's text (`EXPLAIN`), which a person wants whole.
    pub fn is_plan(&self) -> bool {
        self.is_plan
    }

    /// All batches at once; for results known to be small.
    pub async fn collect(self) -> Result<Vec<RecordBatch>, SqlError> {
        self.try_collect().await
    }
}

impl Stream for QueryResult {
    type Item = Result<RecordBatch, SqlError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(stream) = &mut this.stream else {
            return Poll::Ready(None);
        };
        let next = match this.limits_reached.poll_unpin(context) {
            Poll::Ready(reason) => Some(Err(reason)),
            Poll::Pending => match stream.poll_next_unpin(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(next) => next.map(|batch| {
                    batch.map_err(|error| SqlError::from_datafusion(&error, &this.sql, &this.table_names))
                }),
            },
        };
        if !matches!(next, Some(Ok(_))) {
            this.stream = None;
        }
        Poll::Ready(next)
    }
}
