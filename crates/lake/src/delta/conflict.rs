//! Whether a commit that was faster takes away what another one, prepared from an older version, was based on.
//!
//! Delta's table of conflicts (delta-io/delta `ConflictChecker`; docs.delta.io, "Concurrency control"), as a pure function
//! of what was read and what the winner did. Appends that record offsets do not come here: they read nothing but their
//! own transaction, which [`crate::decide`] compares.

use std::collections::BTreeSet;
use std::fmt;

use crate::delta::action::{Action, Add, FileKey};

/// What a commit was prepared from.
#[derive(Default)]
pub struct ReadSet<'a> {
    /// Which files it would have read, had they been there: of a search of the whole table, all.
    pub reads: Reads<'a>,
    /// Files whose content it rests on.
    pub read_files: BTreeSet<FileKey>,
    /// Files that it removes.
    pub removed_files: BTreeSet<FileKey>,
    /// Application ids whose transactions it read or writes.
    pub app_ids: BTreeSet<String>,
    /// Metadata domains that it writes.
    pub domains: BTreeSet<String>,
    /// An operation that must not have happened in between: two of them may do the same twice without touching the same
    /// file.
    pub exclusive_operation: Option<&'a str>,
}

/// Which new files matter to a commit.
#[derive(Default)]
pub enum Reads<'a> {
    /// None: it looked at nothing, or only at files it names.
    #[default]
    Nothing,
    /// Every file of the table.
    Everything,
    /// Those for which this is true.
    Matching(&'a (dyn Fn(&Add) -> bool + Send + Sync)),
}

/// What the winner did that the other commit cannot stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    ProtocolChanged,
    MetadataChanged,
    /// It added a file that would have been read.
    ConcurrentAppend {
        path: String,
    },
    /// It removed a file that was read.
    ConcurrentDeleteRead {
        path: String,
    },
    /// It removed a file that is to be removed.
    ConcurrentDeleteDelete {
        path: String,
    },
    /// It recorded a transaction of the same application id.
    ConcurrentTransaction {
        app_id: String,
    },
    /// It wrote the same metadata domain.
    ConcurrentDomain {
        domain: String,
    },
    /// It was an operation that excludes this one.
    ConcurrentOperation {
        operation: String,
    },
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Conflict::ProtocolChanged => f.write_str("the protocol was changed"),
            Conflict::MetadataChanged => f.write_str("the metadata was changed"),
            Conflict::ConcurrentAppend { path } => write!(f, "file {path} was added"),
            Conflict::ConcurrentDeleteRead { path } => write!(f, "file {path}, which was read, was removed"),
            Conflict::ConcurrentDeleteDelete { path } => write!(f, "file {path} was removed already"),
            Conflict::ConcurrentTransaction { app_id } => write!(f, "transaction {app_id} was recorded"),
            Conflict::ConcurrentDomain { domain } => write!(f, "domain {domain} was written"),
            Conflict::ConcurrentOperation { operation } => write!(f, "there was another {operation}"),
        }
    }
}

/// The first conflict, in the order of the table; `None` when both commits may stand, in either order.
pub fn conflicts(read: &ReadSet<'_>, winner: &[Action]) -> Option<Conflict> {
    let mut found: Vec<Conflict> = winner.iter().filter_map(|action| conflict(read, action)).collect();
    found.sort_by_key(rank);
    found.into_iter().next()
}

fn conflict(read: &ReadSet<'_>, action: &Action) -> Option<Conflict> {
    match action {
        Action::Protocol(_) => Some(Conflict::ProtocolChanged),
        Action::Metadata(_) => Some(Conflict::MetadataChanged),
        Action::Add(add) => {
            // One that changes no data only moves rows which were there before.
            let is_read = add.data_change
                && match &read.reads {
                    Reads::Nothing => false,
                    Reads::Everything => true,
                    Reads::Matching(matches) => matches(add),
                };
            is_read.then(|| Conflict::ConcurrentAppend { path: add.path.clone() })
        }
        Action::Remove(remove) => {
            let (key, path) = (remove.key(), remove.path.clone());
            if read.removed_files.contains(&key) {
                Some(Conflict::ConcurrentDeleteDelete { path })
            } else {
                read.read_files
                    .contains(&key)
                    .then_some(Conflict::ConcurrentDeleteRead { path })
            }
        }
        Action::Txn(txn) => read
            .app_ids
            .contains(&txn.app_id)
            .then(|| Conflict::ConcurrentTransaction {
                app_id: txn.app_id.clone(),
            }),
        Action::DomainMetadata(domain) => read
            .domains
            .contains(&domain.domain)
            .then(|| Conflict::ConcurrentDomain {
                domain: domain.domain.clone(),
            }),
        Action::CommitInfo(info) => {
            let operation = info
                .operation
                .as_deref()
                .filter(|operation| read.exclusive_operation == Some(operation))?;
            Some(Conflict::ConcurrentOperation {
                operation: operation.to_owned(),
            })
        }
        // No part of the table's state.
        Action::Cdc(_) | Action::CheckpointMetadata(_) | Action::Sidecar(_) | Action::Unknown(_) => None,
    }
}

fn rank(conflict: &Conflict) -> u8 {
    match conflict {
        Conflict::ProtocolChanged => 0,
        Conflict::MetadataChanged => 1,
        Conflict::ConcurrentAppend { .. } => 2,
        Conflict::ConcurrentDeleteRead { .. } => 3,
        Conflict::ConcurrentDeleteDelete { .. } => 4,
        Conflict::ConcurrentTransaction { .. } => 5,
        Conflict::ConcurrentDomain { .. } => 6,
        Conflict::ConcurrentOperation { .. } => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::action::parse_lines;

    fn add(path: &str, data_change: bool) -> String {
        format!(
            r#"{{"add":{{"path":"{path}","partitionValues":{{}},"size":1,"modificationTime":1,"dataChange":{data_change}}}}}"#
        )
    }

    fn remove(path: &str) -> String {
        format!(r#"{{"remove":{{"path":"{path}","dataChange":true}}}}"#)
    }

    fn key(path: &str) -> FileKey {
        let Ok(Action::Remove(remove)) = serde_json::from_str(&remove(path)) else {
            panic!("no remove");
        };
        remove.key()
    }

    /// One line per cell of the table: what was read, what the winner did, and the conflict.
    #[test]
    fn the_table_of_conflicts() {
        let in_day_1 = |add: &Add| add.path.starts_with("day=1/");
        let append = || ReadSet::default();
        let search = || ReadSet {
            reads: Reads::Everything,
            ..ReadSet::default()
        };
        let of_day_1 = || ReadSet {
            reads: Reads::Matching(&in_day_1),
            ..ReadSet::default()
        };
        let rewrite = || ReadSet {
            removed_files: [key("a")].into(),
            ..ReadSet::default()
        };
        let rests_on = || ReadSet {
            read_files: [key("a")].into(),
            ..ReadSet::default()
        };
        let other = || ReadSet {
            app_ids: ["app".to_owned()].into(),
            domains: ["d".to_owned()].into(),
            exclusive_operation: Some("REPLAY"),
            ..ReadSet::default()
        };
        let protocol = r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#.to_owned();
        let metadata = r#"{"metaData":{"id":"i","schemaString":"{}"}}"#.to_owned();
        let txn = |id: &str| format!(r#"{{"txn":{{"appId":"{id}","version":1}}}}"#);
        let domain =
            |name: &str| format!(r#"{{"domainMetadata":{{"domain":"{name}","configuration":"","removed":false}}}}"#);
        let info = |operation: &str| format!(r#"{{"commitInfo":{{"operation":"{operation}"}}}}"#);
        let path = |path: &str| path.to_owned();
        let cases: Vec<(&str, ReadSet<'_>, Vec<String>, Option<Conflict>)> = vec![
            ("append, append", append(), vec![add("b", true)], None),
            ("append, delete", append(), vec![remove("a")], None),
            (
                "append, protocol",
                append(),
                vec![protocol.clone()],
                Some(Conflict::ProtocolChanged),
            ),
            (
                "append, metadata",
                append(),
                vec![metadata.clone()],
                Some(Conflict::MetadataChanged),
            ),
            (
                "metadata after protocol",
                append(),
                vec![metadata, protocol],
                Some(Conflict::ProtocolChanged),
            ),
            (
                "search, append",
                search(),
                vec![add("b", true)],
                Some(Conflict::ConcurrentAppend { path: path("b") }),
            ),
            ("search, compaction", search(), vec![remove("x"), add("b", false)], None),
            (
                "search of day 1, append to day 2",
                of_day_1(),
                vec![add("day=2/b", true)],
                None,
            ),
            (
                "search of day 1, append to day 1",
                of_day_1(),
                vec![add("day=1/b", true)],
                Some(Conflict::ConcurrentAppend { path: path("day=1/b") }),
            ),
            ("rewrite, append", rewrite(), vec![add("b", true)], None),
            ("rewrite, delete of another", rewrite(), vec![remove("b")], None),
            (
                "rewrite, delete",
                rewrite(),
                vec![remove("a")],
                Some(Conflict::ConcurrentDeleteDelete { path: path("a") }),
            ),
            (
                "read, delete",
                rests_on(),
                vec![remove("a")],
                Some(Conflict::ConcurrentDeleteRead { path: path("a") }),
            ),
            ("read, delete of another", rests_on(), vec![remove("b")], None),
            ("transaction, another's", other(), vec![txn("other")], None),
            (
                "transaction, same",
                other(),
                vec![txn("app")],
                Some(Conflict::ConcurrentTransaction { app_id: path("app") }),
            ),
            ("domain, another", other(), vec![domain("e")], None),
            (
                "domain, same",
                other(),
                vec![domain("d")],
                Some(Conflict::ConcurrentDomain { domain: path("d") }),
            ),
            ("operation, another", other(), vec![info("STREAMING UPDATE")], None),
            (
                "operation, same",
                other(),
                vec![info("REPLAY")],
                Some(Conflict::ConcurrentOperation {
                    operation: path("REPLAY"),
                }),
            ),
            ("unknown action", search(), vec![r#"{"later":{}}"#.to_owned()], None),
        ];
        for (name, read, winner, wanted) in cases {
            let winner = parse_lines(winner.join("\n").as_bytes()).unwrap();
            assert_eq!(conflicts(&read, &winner), wanted, "{name}");
        }
    }

    #[test]
    fn the_same_file_with_another_deletion_vector_is_another_file() {
        let read = ReadSet {
            removed_files: [key("a")].into(),
            ..ReadSet::default()
        };
        let winner = r#"{"remove":{"path":"a","dataChange":true,"deletionVector":{"storageType":"i","pathOrInlineDv":"x","sizeInBytes":1,"cardinality":1}}}"#;
        assert_eq!(conflicts(&read, &parse_lines(winner.as_bytes()).unwrap()), None);
    }
}
