//! Time travel: which versions a table still has, and which of them is meant.

use lake::delta::Listing;

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
    /// Reads the text of `--as-of`: ISO 8601, UTC when it names no zone. A date alone is its midnight.
    pub fn as_of(text: &str) -> Result<TimeTravel, SqlError> {
        let midnight = || model::event_time::parse(format!("{text}T00:00:00").as_bytes());
        match model::event_time::parse(text.as_bytes()).or_else(midnight) {
            Some(us) => Ok(TimeTravel::Timestamp(us)),
            None => Err(SqlError::new(ErrorKind::Usage, format!("no point in time: '{text}'"))
                .with_hint("write it like 2026-01-01T12:00:00Z or 2026-01-01")),
        }
    }
}

/// The version of a table that is meant; `travel` is never `Newest`.
pub(super) fn choose(listing: &Listing, table: &str, travel: TimeTravel) -> Result<i64, SqlError> {
    let (Some(first), Some(oldest), Some(newest)) =
        (listing.readable().first(), listing.oldest_readable(), listing.newest())
    else {
        return Err(SqlError::new(
            ErrorKind::Failed,
            format!("table '{table}' has no readable version"),
        ));
    };
    let chosen = match travel {
        TimeTravel::Newest => Some(newest),
        TimeTravel::Version(version) => (oldest..=newest).contains(&version).then_some(version),
        TimeTravel::Timestamp(us) => listing.version_at(us),
    };
    chosen.ok_or_else(|| {
        let message = match travel {
            TimeTravel::Timestamp(us) => format!(
                "table '{table}' has nothing as old as {}: version {} is of {}",
                instant(us),
                first.version,
                instant(first.committed_at_us)
            ),
            TimeTravel::Version(version) => {
                format!("table '{table}' has no version {version}: it has versions {oldest} to {newest}")
            }
            TimeTravel::Newest => format!("table '{table}' has versions {oldest} to {newest}"),
        };
        SqlError::new(ErrorKind::Usage, message)
    })
}

fn instant(us: i64) -> String {
    match chrono::DateTime::from_timestamp_micros(us) {
        Some(instant) => instant.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
        None => format!("{us} us since 1970"),
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectMeta;
    use object_store::path::Path;

    use super::*;

    const LOG: [(&str, i64); 5] = [
        ("00000000000000000002.json", 300),
        ("00000000000000000000.json", 100),
        ("00000000000000000001.json", 200),
        ("_last_checkpoint", 900),
        ("00000000000000000002.checkpoint.parquet", 900),
    ];

    fn listing<const N: usize>(files: [(&str, i64); N]) -> Listing {
        Listing::from_files(files.map(|(name, modified_us)| ObjectMeta {
            location: Path::from(format!("t/_delta_log/{name}")),
            last_modified: chrono::DateTime::from_timestamp_micros(modified_us).unwrap(),
            size: 0,
            e_tag: None,
            version: None,
        }))
    }

    #[test]
    fn an_instant_means_the_last_version_at_or_before_it() {
        let listing = listing(LOG);
        for (us, version) in [(100, 0), (199, 0), (200, 1), (299, 1), (300, 2), (1 << 50, 2)] {
            assert_eq!(
                choose(&listing, "t", TimeTravel::Timestamp(us)).ok(),
                Some(version),
                "{us}"
            );
        }
        let error = choose(&listing, "t", TimeTravel::Timestamp(99))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "table 't' has nothing as old as 1970-01-01T00:00:00.000099Z: version 0 is of 1970-01-01T00:00:00.000100Z"
        );
    }

    #[test]
    fn a_missing_version_names_those_there_are() {
        let listing = listing(LOG);
        assert_eq!(choose(&listing, "t", TimeTravel::Version(1)).ok(), Some(1));
        for version in [3, -1] {
            let error = choose(&listing, "t", TimeTravel::Version(version)).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("table 't' has no version {version}: it has versions 0 to 2")
            );
        }
    }

    #[test]
    fn a_cleaned_log_begins_at_its_oldest_checkpoint() {
        let listing = listing([
            ("00000000000000000011.json", 110),
            ("00000000000000000012.json", 120),
            ("00000000000000000010.json", 100),
            ("00000000000000000011.checkpoint.0000000001.0000000001.parquet", 111),
        ]);
        for (version, chosen) in [(10, None), (11, Some(11)), (12, Some(12))] {
            let found = choose(&listing, "t", TimeTravel::Version(version));
            assert_eq!(found.ok(), chosen, "{version}");
        }
        assert_eq!(choose(&listing, "t", TimeTravel::Timestamp(119)).ok(), Some(11));
        assert!(choose(&listing, "t", TimeTravel::Timestamp(109)).is_err());
    }

    #[test]
    fn instants_never_fall() {
        let listing = listing([("00000000000000000000.json", 500), ("00000000000000000001.json", 400)]);
        assert_eq!(choose(&listing, "t", TimeTravel::Timestamp(500)).ok(), Some(1));
        assert!(choose(&listing, "t", TimeTravel::Timestamp(499)).is_err());
    }

    #[test]
    fn as_of_reads_iso_8601() {
        let expected = TimeTravel::Timestamp(1_767_225_600_000_000);
        assert_eq!(TimeTravel::as_of("2026-01-01T00:00:00Z").ok(), Some(expected));
        assert_eq!(TimeTravel::as_of("2026-01-01 01:00+01:00").ok(), Some(expected));
        assert_eq!(TimeTravel::as_of("2026-01-01").ok(), Some(expected));
        for wrong in ["2026-13-01", "2026-01-01T", "20260101", "2026-01-01T25:00:00Z", ""] {
            assert!(TimeTravel::as_of(wrong).is_err(), "{wrong}");
        }
        let error = TimeTravel::as_of("yesterday").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no point in time: 'yesterday'\nhint: write it like 2026-01-01T12:00:00Z or 2026-01-01"
        );
    }
}
