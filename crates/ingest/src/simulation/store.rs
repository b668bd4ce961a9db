//! One process's way to the store: requests take their time, fail, arrive late, or are its last.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use fastrand::Rng;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::Planted;
use super::world::World;

pub(super) struct SimStore {
    world: Arc<World>,
    /// Divides the share of requests that fail.
    forgiving: u32,
    rng: Mutex<Rng>,
    dead: AtomicBool,
    faults: AtomicU64,
    /// The first part of every name that this process gives, for the mistakes that look at whose a commit is.
    own_commits: Mutex<Vec<Path>>,
}

/// What happens to one request.
enum Fate {
    Done,
    /// Not done; 503.
    Refused,
    /// Done, and the answer lost.
    AnswerLost,
    /// Done, repeated by the client below us, which then finds its own.
    DoneTwice,
    /// The answer lost, and done only so many steps later.
    Late(u64),
    /// The process dies; whether the request still arrives is open.
    Crash {
        arrives: bool,
    },
}

impl SimStore {
    pub(super) fn new(world: Arc<World>, rng: Rng, forgiving: u32) -> Arc<Self> {
        Arc::new(Self {
            world,
            forgiving,
            rng: Mutex::new(rng),
            dead: AtomicBool::new(false),
            faults: AtomicU64::new(0),
            own_commits: Mutex::default(),
        })
    }

    fn faults_per_mille(&self) -> u32 {
        self.world.faults_per_mille() / self.forgiving
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub(super) fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    /// Waits for a while, sometimes for a long one, and says what becomes of the request.
    async fn fate(&self) -> Fate {
        let (steps, fate) = {
            let mut rng = self.rng.lock().unwrap();
            let steps = match rng.u32(0..60) {
                0 => rng.u64(50..400),
                _ => rng.u64(0..3),
            };
            let fate = if rng.u32(0..1000) < self.world.crashes_per_mille && self.world.take_crash() {
                Fate::Crash { arrives: rng.bool() }
            } else if rng.u32(0..1000) < self.faults_per_mille() {
                match rng.u32(0..5) {
                    0 | 1 => Fate::Refused,
                    2 => Fate::AnswerLost,
                    3 => Fate::DoneTwice,
                    _ => Fate::Late(rng.u64(0..200)),
                }
            } else {
                Fate::Done
            };
            (steps, fate)
        };
        steps_pass(steps).await;
        if !matches!(fate, Fate::Done) {
            self.faults.fetch_add(1, Ordering::Relaxed);
        }
        fate
    }

    async fn die(&self) -> ! {
        self.dead.store(true, Ordering::Relaxed);
        std::future::pending().await
    }

    /// A read fails or does not; that it was done makes no difference.
    async fn read(&self) -> Result<()> {
        match self.fate().await {
            Fate::Done => Ok(()),
            Fate::Crash { .. } => self.die().await,
            _ => Err(lost()),
        }
    }

    /// What a planted mistake makes of a commit that is read: some offsets are not there.
    fn without_offsets(&self, path: &Path, bytes: &Bytes) -> Option<Bytes> {
        let is_own = self.own_commits.lock().unwrap().contains(path);
        let hidden = match self.world.planted? {
            Planted::NoReadBack => is_own,
            Planted::TrustTxn => !is_own,
            _ => false,
        };
        hidden.then(|| {
            let text = String::from_utf8_lossy(bytes);
            let lines = text.lines().filter(|line| !line.starts_with(r#"{"txn""#));
            lines.flat_map(|line| [line, "\n"]).collect::<String>().into()
        })
    }
}

/// Lets others run for so many turns of this process.
pub(super) async fn steps_pass(steps: u64) {
    for _ in 0..steps {
        let mut waited = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return std::task::Poll::Ready(());
            }
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
    }
}

fn lost() -> Error {
    Error::Generic {
        store: "simulated",
        source: "no answer".into(),
    }
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStore")
    }
}

impl fmt::Display for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStore")
    }
}

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let store = &self.world.store;
        match self.fate().await {
            Fate::Done => {
                let put = store.put_opts(location, payload, options).await;
                if put.is_ok() {
                    self.own_commits.lock().unwrap().push(location.clone());
                }
                put
            }
            Fate::Refused => Err(lost()),
            Fate::AnswerLost => {
                if store.put_opts(location, payload, options).await.is_ok() {
                    self.own_commits.lock().unwrap().push(location.clone());
                }
                Err(lost())
            }
            Fate::DoneTwice => {
                if store.put_opts(location, payload.clone(), options.clone()).await.is_ok() {
                    self.own_commits.lock().unwrap().push(location.clone());
                }
                store.put_opts(location, payload, options).await
            }
            Fate::Late(after) => {
                self.world.put_late(after, location, payload, options);
                Err(lost())
            }
            Fate::Crash { arrives } => {
                if arrives {
                    let _ = store.put_opts(location, payload, options).await;
                }
                self.die().await
            }
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.read().await?;
        let mut found = self.world.store.get_opts(location, options).await?;
        if self.world.planted.is_some() && location.as_ref().ends_with(".json") {
            let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
            let whole = found.bytes().await?;
            let shown = self.without_offsets(location, &whole).unwrap_or(whole);
            let payload = futures::stream::once(async move { Ok(shown) }).boxed();
            found = GetResult {
                payload: GetResultPayload::Stream(payload),
                meta,
                range,
                attributes,
            };
        }
        Ok(found)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.read().await?;
        self.world.store.get_ranges(location, ranges).await
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        // Asked for when the stream is made, told one step later.
        let fails = {
            let mut rng = self.rng.lock().unwrap();
            rng.u32(0..1000) < self.faults_per_mille()
        };
        let listed = self.world.store.list(prefix);
        let gate = futures::stream::once(async move {
            steps_pass(1).await;
            match fails {
                true => Err(lost()),
                false => Ok(listed),
            }
        });
        gate.try_flatten().boxed()
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented {
            operation: "put_multipart".to_owned(),
            implementer: "SimStore".to_owned(),
        })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.world.store.delete_stream(locations)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.world.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.world.store.copy_opts(from, to, options).await
    }
}
