//! Time travel: which versions a table still has, and which of them is meant.

use deltalake_core::logstore::LogStore;
use deltalake_core::{ObjectMeta, ObjectStore, ObjectStoreError, Path};
use futures::TryStreamExt;

use super::error::{ErrorKind, SqlError};

/// Which version of every table a query reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeTravel {
    /// The newest at the start of each statement.
    #[default]
    Newest,
    /// This version of every table.
    Version(i64),
    /// The last version committed at or before this instant (microseconds since the epoch, UTC). As everywhere in Delta,
    /// a commit's instant is when its log file was last modified, so a copied lake must keep its files' times.
    Timestamp(i64),
}

impl TimeTravel {
    /// Reads the text of `--as-of`: ISO 8601, UTC when it names no zone.
    pub fn as_of(text: &str) -> Result<TimeTravel, SqlError> {
        match model::event_time::parse(text.as_bytes()) {
            Some(us) => Ok(TimeTravel::Timestamp(us)),
            None => Err(SqlError::new(ErrorKind::Usage, format!("no point in time: '{text}'"))
                .with_hint("write it like 2026-01-01T12:00:00Z")),
        }
    }
}

/// The versions a table can still be read at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct History {
    /// Version and instant (microseconds) of each commit that can be read, in order; instants never fall.
    commits: Vec<(i64, i64)>,
}

/// Lists a table's log.
pub(super) async fn history(log_store: &dyn LogStore) -> Result<History, ObjectStoreError> {
    let files: Vec<ObjectMeta> = log_store
        .object_store(None)
        .list(Some(&Path::from("_delta_log")))
        .try_collect()
        .await?;
    let files = files
        .iter()
        .filter_map(|file| Some((file.location.filename()?, file.last_modified.timestamp_micros())));
    Ok(History::from_log(files))
}

impl History {
    /// From the names and modification times (microseconds) of the log's files.
    fn from_log<'a>(files: impl Iterator<Item = (&'a str, i64)>) -> History {
        let mut commits = Vec::new();
        let mut oldest_checkpoint = None;
        for (name, modified_us) in files {
            let Some((digits, kind)) = name.split_once('.') else {
                continue;
            };
            let Ok(version) = digits.parse::<i64>() else { continue };
            if kind == "json" {
                commits.push((version, modified_us));
            } else if kind.starts_with("checkpoint.") {
                oldest_checkpoint = Some(oldest_checkpoint.map_or(version, |oldest: i64| oldest.min(version)));
            }
        }
        commits.sort_unstable();
        // A version is readable from version 0 on, or from a checkpoint on once older commits are cleaned up.
        if commits.first().is_none_or(|(version, _)| *version > 0) {
            let oldest = oldest_checkpoint.unwrap_or(i64::MAX);
            commits.retain(|(version, _)| *version >= oldest);
        }
        let mut latest = i64::MIN;
        for (_, instant_us) in &mut commits {
            latest = latest.max(*instant_us);
            *instant_us = latest;
        }
        History { commits }
    }

    /// The version that is meant; never `Newest`.
    pub(super) fn choose(&self, table: &str, travel: TimeTravel) -> Result<u64, SqlError> {
        let (Some((oldest, first_us)), Some((newest, _))) = (self.commits.first(), self.commits.last()) else {
            return Err(SqlError::new(
                ErrorKind::Failed,
                format!("table '{table}' has no readable version"),
            ));
        };
        let chosen = match travel {
            TimeTravel::Newest => Some(*newest),
            TimeTravel::Version(version) => (*oldest..=*newest).contains(&version).then_some(version),
            TimeTravel::Timestamp(us) => {
                let after = self.commits.partition_point(|(_, instant_us)| *instant_us <= us);
                self.commits[..after].last().map(|(version, _)| *version)
            }
        };
        chosen.and_then(|version| u64::try_from(version).ok()).ok_or_else(|| {
            let message = match travel {
                TimeTravel::Timestamp(us) => format!(
                    "table '{table}' has nothing as old as {}: version {oldest} is of {}",
                    instant(us),
                    instant(*first_us)
                ),
                TimeTravel::Version(version) => {
                    format!("table '{table}' has no version {version}: it has versions {oldest} to {newest}")
                }
                TimeTravel::Newest => format!("table '{table}' has versions {oldest} to {newest}"),
            };
            SqlError::new(ErrorKind::Usage, message)
        })
    }
}

fn instant(us: i64) -> String {
    match chrono::DateTime::from_timestamp_micros(us) {
        Some(instant) => instant.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
        None => format!("{us} us since 1970"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: [(&str, i64); 5] = [
        ("00000000000000000002.json", 300),
        ("00000000000000000000.json", 100),
        ("00000000000000000001.json", 200),
        ("_last_checkpoint", 900),
        ("00000000000000000002.checkpoint.parquet", 900),
    ];

    #[test]
    fn an_instant_means_the_last_version_at_or_before_it() {
        let history = History::from_log(LOG.into_iter());
        for (us, version) in [(100, 0), (199, 0), (200, 1), (299, 1), (300, 2), (1 << 50, 2)] {
            assert_eq!(
                history.choose("t", TimeTravel::Timestamp(us)).ok(),
                Some(version),
                "{us}"
            );
        }
        let error = history.choose("t", TimeTravel::Timestamp(99)).unwrap_err().to_string();
        assert_eq!(
            error,
            "table 't' has nothing as old as 1970-01-01T00:00:00.000099Z: version 0 is of 1970-01-01T00:00:00.000100Z"
        );
    }

    #[test]
    fn a_missing_version_names_those_there_are() {
        let history = History::from_log(LOG.into_iter());
        assert_eq!(history.choose("t", TimeTravel::Version(1)).ok(), Some(1));
        for version in [3, -1] {
            let error = history.choose("t", TimeTravel::Version(version)).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("table 't' has no version {version}: it has versions 0 to 2")
            );
        }
    }

    #[test]
    fn a_cleaned_log_begins_at_its_oldest_checkpoint() {
        let files = [
            ("00000000000000000011.json", 110),
            ("00000000000000000012.json", 120),
            ("00000000000000000010.json", 100),
            ("00000000000000000011.checkpoint.0000000001.0000000002.parquet", 111),
        ];
        let history = History::from_log(files.into_iter());
        assert_eq!(history.commits, [(11, 110), (12, 120)]);
    }

    #[test]
    fn instants_never_fall() {
        let files = [("00000000000000000000.json", 500), ("00000000000000000001.json", 400)];
        assert_eq!(History::from_log(files.into_iter()).commits, [(0, 500), (1, 500)]);
    }

    #[test]
    fn as_of_reads_iso_8601() {
        let expected = TimeTravel::Timestamp(1_767_225_600_000_000);
        assert_eq!(TimeTravel::as_of("2026-01-01T00:00:00Z").ok(), Some(expected));
        assert_eq!(TimeTravel::as_of("2026-01-01 01:00+01:00").ok(), Some(expected));
        let error = TimeTravel::as_of("yesterday").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no point in time: 'yesterday'\nhint: write it like 2026-01-01T12:00:00Z"
        );
    }
}
