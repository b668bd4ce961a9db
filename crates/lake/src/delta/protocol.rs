//! What this program can read and write: table features and protocol versions (PROTOCOL.md, "Table Features").

use crate::delta::action::{Metadata, Protocol};
use crate::delta::schema::ColumnMapping;

/// Reader features that a reader over [`crate::delta::Snapshot`] keeps. Not among them: `catalogManaged` (its commits are
/// not all in the log), `typeWidening`, `variantType` and their previews.
const READER_FEATURES: [&str; 5] = [
    "columnMapping",
    "deletionVectors",
    "timestampNtz",
    "v2Checkpoint",
    "vacuumProtocolCheck",
];

/// Writer features that ask nothing of an append of plain files. `invariants` does when a column has one, which the
/// writer looks for; `domainMetadata` asks that domains stay, which they do in commit and checkpoint.
const WRITER_FEATURES: [&str; 6] = [
    "appendOnly",
    "domainMetadata",
    "invariants",
    "timestampNtz",
    "v2Checkpoint",
    "vacuumProtocolCheck",
];

impl Protocol {
    /// The protocol of a table that needs no feature.
    pub(crate) fn plain() -> Protocol {
        Protocol {
            min_reader_version: 1,
            min_writer_version: 2,
            reader_features: None,
            writer_features: None,
            rest: serde_json::Map::new(),
        }
    }

    pub fn has_reader_feature(&self, feature: &str) -> bool {
        self.reader_features.iter().flatten().any(|name| name == feature)
    }

    pub fn has_writer_feature(&self, feature: &str) -> bool {
        self.writer_features.iter().flatten().any(|name| name == feature)
    }

    /// Why the table cannot be read: what it asks for and this reader does not do.
    pub fn check_readable(&self) -> Result<(), String> {
        match self.min_reader_version {
            ..=2 => Ok(()),
            3 => named("reader", &self.reader_features, &READER_FEATURES),
            version => Err(format!(
                "it asks for Delta reader version {version}; this version of smartcity knows 1 to 3"
            )),
        }
    }

    /// Why the table cannot be written. An append that ignores a feature damages the table.
    pub fn check_writable(&self) -> Result<(), String> {
        match self.min_writer_version {
            ..=2 => {}
            7 => named("writer", &self.writer_features, &WRITER_FEATURES)?,
            version => return Err(format!("it asks for Delta writer version {version}, we know 2 and 7")),
        }
        // Writers read the log, so what binds readers binds them.
        self.check_readable()
    }

    /// How the table's files name their columns. The property counts only where the protocol has the feature.
    pub fn column_mapping(&self, metadata: &Metadata) -> Result<ColumnMapping, String> {
        if self.min_reader_version != 2 && !self.has_reader_feature("columnMapping") {
            return Ok(ColumnMapping::None);
        }
        match metadata.property("delta.columnMapping.mode") {
            None | Some("none") => Ok(ColumnMapping::None),
            Some("name") => Ok(ColumnMapping::Name),
            Some("id") => Ok(ColumnMapping::Id),
            Some(other) => Err(format!("its column mapping mode `{other}` is unknown")),
        }
    }
}

fn named(kind: &str, features: &Option<Vec<String>>, known: &[&str]) -> Result<(), String> {
    let features = features.iter().flatten().map(String::as_str);
    let unknown: Vec<&str> = features.filter(|feature| !known.contains(feature)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(format!(
        "it asks for Delta {kind} features we do not know: {}",
        unknown.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocol(reader: i32, writer: i32, features: &[&str]) -> Protocol {
        let features: Vec<String> = features.iter().map(|name| (*name).to_owned()).collect();
        Protocol {
            min_reader_version: reader,
            min_writer_version: writer,
            reader_features: (reader == 3).then(|| features.clone()),
            writer_features: (writer == 7).then_some(features),
            rest: serde_json::Map::new(),
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        assert!(protocol(1, 2, &[]).check_writable().is_ok());
        assert!(protocol(1, 7, &["appendOnly"]).check_writable().is_ok());
        assert!(protocol(3, 7, &["v2Checkpoint"]).check_writable().is_ok());
        assert!(
            protocol(3, 7, &["deletionVectors", "columnMapping"])
                .check_readable()
                .is_ok()
        );
        for (protocol, says) in [
            (
                protocol(3, 7, &["variantType", "deletionVectors"]),
                "reader features we do not know: variantType",
            ),
            (protocol(4, 7, &[]), "reader version 4"),
        ] {
            assert!(protocol.check_readable().unwrap_err().contains(says));
        }
        for (protocol, says) in [
            (
                protocol(3, 7, &["deletionVectors"]),
                "writer features we do not know: deletionVectors",
            ),
            (protocol(1, 4, &[]), "writer version 4"),
            (protocol(1, 7, &["changeDataFeed"]), "changeDataFeed"),
        ] {
            assert!(protocol.check_writable().unwrap_err().contains(says));
        }
    }
}
