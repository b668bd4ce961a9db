//! A store that fails on purpose.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Done, and the answer lost.
    DoneThenTimeOut,
    /// Not done: 503.
    Unavailable,
    /// Done, tried again by the client below us, and that second try found the first.
    DoneThenExists,
    /// The same, told as a failed precondition (412).
    DoneThenPrecondition,
    /// The answer lost, and done only after the next request of any kind.
    DoneLate,
    /// Not done: 403.
    Denied,
    /// Not done: the disk is full.
    NoSpace,
}

#[derive(Debug, Default)]
struct Plan {
    commits: VecDeque<Fault>,
    files: VecDeque<Fault>,
    reads: VecDeque<Fault>,
    late: Vec<(Path, PutPayload, PutOptions)>,
}

#[derive(Debug, Default)]
pub(crate) struct FaultyStore {
    inner: InMemory,
    plan: Mutex<Plan>,
}

impl FaultyStore {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// For the next puts of commits.
    pub(crate) fn fail_commits(&self, faults: &[Fault]) {
        self.plan.lock().commits.extend(faults);
    }

    /// For the next puts of data files.
    pub(crate) fn fail_files(&self, faults: &[Fault]) {
        self.plan.lock().files.extend(faults);
    }

    /// For the next reads of the log.
    pub(crate) fn fail_reads(&self, faults: &[Fault]) {
        self.plan.lock().reads.extend(faults);
    }

    pub(crate) fn calm(&self) {
        let mut plan = self.plan.lock();
        plan.commits.clear();
        plan.files.clear();
        plan.reads.clear();
    }

    async fn land_late(&self) {
        let late = std::mem::take(&mut self.plan.lock().late);
        for (path, payload, options) in late {
            // It may have lost its race.
            let _ = self.inner.put_opts(&path, payload, options).await;
        }
    }
}

fn is_commit(path: &Path) -> bool {
    path.as_ref().contains("_delta_log/") && path.as_ref().ends_with(".json")
}

fn told(fault: Fault, path: &Path) -> Error {
    let source = format!("{fault:?}").into();
    let path = path.to_string();
    match fault {
        Fault::DoneThenExists => Error::AlreadyExists { path, source },
        Fault::DoneThenPrecondition => Error::Precondition { path, source },
        Fault::Denied => Error::PermissionDenied { path, source },
        Fault::NoSpace => Error::Generic {
            store: "faulty",
            source: Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull)),
        },
        _ => Error::Generic {
            store: "faulty",
            source,
        },
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyStore")
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let fault = {
            let mut plan = self.plan.lock();
            let queue = if is_commit(location) {
                &mut plan.commits
            } else {
                &mut plan.files
            };
            queue.pop_front().unwrap_or(Fault::None)
        };
        let answer = match fault {
            Fault::None => self.inner.put_opts(location, payload, options).await,
            Fault::DoneThenTimeOut | Fault::DoneThenExists | Fault::DoneThenPrecondition => {
                self.inner.put_opts(location, payload, options).await?;
                Err(told(fault, location))
            }
            Fault::DoneLate => {
                self.land_late().await;
                self.plan.lock().late.push((location.clone(), payload, options));
                return Err(told(fault, location));
            }
            Fault::Unavailable | Fault::Denied | Fault::NoSpace => Err(told(fault, location)),
        };
        self.land_late().await;
        answer
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = if is_commit(location) {
            self.plan.lock().reads.pop_front()
        } else {
            None
        };
        let answer = match fault {
            None | Some(Fault::None) => self.inner.get_opts(location, options).await,
            Some(fault) => Err(told(fault, location)),
        };
        self.land_late().await;
        answer
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
