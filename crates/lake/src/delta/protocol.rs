//! What this program can read: table features and protocol versions (PROTOCOL.md, "Table Features"). `features` has what it
//! can write.

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
            3 => named(&self.reader_features),
            version => Err(format!(
                "it asks for Delta reader version {version}; this version of smartcity knows 1 to 3"
            )),
        }
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

fn named(features: &Option<Vec<String>>) -> Result<(), String> {
    let features = features.iter().flatten().map(String::as_str);
    let unknown: Vec<&str> = features.filter(|feature| !READER_FEATURES.contains(feature)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(format!(
        "it asks its readers for the table features {}, which this version of smartcity does not support; ALTER TABLE ... \
         DROP FEATURE takes one away",
        unknown.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocol(reader: i32, features: &[&str]) -> Protocol {
        Protocol {
            min_reader_version: reader,
            min_writer_version: 7,
            reader_features: (reader == 3).then(|| features.iter().map(|name| (*name).to_owned()).collect()),
            writer_features: None,
            rest: serde_json::Map::new(),
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        assert!(protocol(1, &[]).check_readable().is_ok());
        assert!(
            protocol(3, &["deletionVectors", "columnMapping"])
                .check_readable()
                .is_ok()
        );
        for (protocol, says) in [
            (
                protocol(3, &["variantType", "deletionVectors"]),
                "features variantType,",
            ),
            (protocol(4, &[]), "reader version 4"),
        ] {
            assert!(protocol.check_readable().unwrap_err().contains(says));
        }
    }
}
