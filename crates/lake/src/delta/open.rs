//! Opening a table's log to write: read it or create it, put this writer's declarations into it, and hold them.

use std::sync::Arc;

use model::Clock;

use crate::delta::keeper::CommitKeeper;
use crate::delta::location::TableLocation;
use crate::delta::log::Log;
use crate::delta::spec::TableSpec;
use crate::{LakeError, Names, Pause};

pub(crate) async fn open(
    spec: TableSpec,
    application: &str,
    location: TableLocation,
    clock: Arc<dyn Clock>,
    names: Names,
    pause: Pause,
    keeper: Option<Arc<dyn CommitKeeper>>,
) -> Result<Log, LakeError> {
    let mut log = Log::new(spec, application, location, clock, names, pause, keeper);
    log.load().await?;
    if log.version() < 0 {
        log.create().await?;
    }
    log.adopt().await?;
    log.hold_declarations();
    // Whoever should have written it may have died.
    log.checkpoint_when_due(log.version());
    Ok(log)
}
