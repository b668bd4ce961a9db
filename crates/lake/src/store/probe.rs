//! Whether a store keeps `If-None-Match: *`. A commit is such a PUT; a store that ignores the condition lets a second
//! writer replace the first one's commit, so nothing may be written to it.

use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tracing::{debug, warn};

use crate::delta::commit::back_off;
use crate::error::describe;
use crate::{LakeError, Names, Root};

/// Puts of the probe, of which two decide and the others may fail.
const TRIES_MAX: u32 = 6;

/// Puts one new key until the store says that it is there. A second success means that conditions are ignored.
///
/// The key is this call's own: were it shared, another process's clean-up would look like a store that forgets.
pub(crate) async fn check_conditional_put(root: &Root, names: &Names) -> Result<(), LakeError> {
    let path = root.path().clone().join("_probe").join(names.next().to_string());
    let verdict = put_twice(root.store().as_ref(), &path, names).await;
    // Whatever came of the puts, the object may be there. Where deleting is not allowed it stays, which harms nobody.
    match root.store().delete(&path).await {
        Ok(()) | Err(StoreError::NotFound { .. }) => {}
        Err(error) => debug!(%path, error = %describe(&error), "the probe's object stays"),
    }
    match verdict? {
        true => Ok(()),
        false => Err(LakeError::location(
            root.location(),
            "the store ignores `If-None-Match: *` on PUT, so two writers could overwrite each other's commits; use one \
             that keeps it (Amazon S3, MinIO, Ceph, versitygw with attributes)",
        )),
    }
}

async fn put_twice(store: &dyn ObjectStore, path: &object_store::path::Path, names: &Names) -> Result<bool, LakeError> {
    let (mut tries, mut done) = (0, 0);
    loop {
        tries += 1;
        let put = store
            .put_opts(path, "probe".into(), PutOptions::from(PutMode::Create))
            .await;
        let error = match put {
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => return Ok(true),
            Ok(_) if done == 1 => return Ok(false),
            Ok(_) => {
                done += 1;
                continue;
            }
            Err(error) => LakeError::store("put the probe", path.clone(), error),
        };
        if tries >= TRIES_MAX || !error.is_retryable() {
            return Err(error);
        }
        warn!(%path, tries, error = %describe(&error), "the store does not answer, trying again");
        tokio::time::sleep(back_off(tries + 3, names.next())).await;
    }
}
