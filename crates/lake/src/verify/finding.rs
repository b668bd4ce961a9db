//! One thing that a check finds, in words for people and fields for machines.

use std::fmt;

use model::{Span, TopicPartition};
use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Harmless; good to know.
    Note,
    /// May be a fault; what would tell is gone or was not asked.
    Doubt,
    /// Could not be compared: right or wrong, nobody knows. A check with such a finding has not passed.
    Unchecked,
    /// Something was lost, doubled or changed.
    Fault,
}

/// Offsets `[from, to)` of a partition, or one element of the message at `from`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Offsets {
    pub topic: String,
    pub partition: i32,
    pub from: i64,
    pub to: i64,
    /// `None`: the messages as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub element: Option<u32>,
}

/// One thing that a check has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
    /// A version between others is not in the log.
    MissingVersion {
        version: i64,
    },
    /// A commit or checkpoint that is no such file.
    UnreadableLog {
        path: String,
        why: String,
    },
    /// The files a commit names hold another number of rows than it recorded.
    CommitRows {
        version: i64,
        recorded: u64,
        found: u64,
    },
    /// A commit was given N records, and fewer rows and dead letters are there. Where a message holds several elements,
    /// these are counted instead.
    CommitShort {
        version: i64,
        recorded: u64,
        found: u64,
    },
    MissingFile {
        path: String,
    },
    FileSize {
        path: String,
        logged: u64,
        found: u64,
    },
    /// The bytes are not those that were committed.
    FileChanged {
        path: String,
    },
    UnreadableFile {
        path: String,
        why: String,
    },
    Statistics {
        path: String,
        column: String,
        why: String,
    },
    /// More than one row.
    Doubled(Offsets),
    /// More than one letter.
    DoubledLetters(Offsets),
    /// A row and a letter.
    RowAndLetter(Offsets),
    /// In a recorded gap, and yet there.
    RowInGap(Offsets),
    /// Recorded as removed on purpose, and yet there, as a row or a dead letter.
    ErasedPresent(Offsets),
    /// Rows from the recorded offset on: the next run would land them again.
    BeyondRecorded(Offsets),
    /// Letters from the recorded offset on, as a crash between the two commits leaves them; the next run mends it.
    LettersAhead(Offsets),
    /// Rows of a partition of which the log records no offset.
    Unrecorded {
        partition: i32,
        rows: u64,
    },
    /// Offsets without a row, letter or gap, among those of a commit that has lost rows.
    Lost(Offsets),
    /// Offsets without a row, letter or gap, from before the oldest commit that the log still holds.
    Unexplained(Offsets),
    /// Rows of a partition may come from any of these topics and do not tell which, or several applications read the
    /// same topic: their offsets were not checked.
    Unattributable {
        partition: i32,
        rows: u64,
        /// `<application>/<topic>`.
        sources: Vec<String>,
    },
    /// A commit of another program took these rows out of the table, and no erasure records it.
    RemovedRows {
        #[serde(flatten)]
        offsets: Offsets,
        version: i64,
        operation: String,
        by: String,
    },
    /// A commit of another program took rows out of the table, and the files that would tell which are gone: what is lost
    /// may be lost by it.
    Removed {
        version: i64,
        operation: String,
        by: String,
        files: u64,
    },
    /// A commit continues at another offset than where the one before it ended: those between were skipped, or repeated.
    BrokenChain {
        topic: String,
        partition: i32,
        version: i64,
        expected: i64,
        found: i64,
    },
    /// The table of commits has no row for these versions `[from, to)`, though it says that it covers them.
    EvidenceMissing {
        from: i64,
        to: i64,
    },
    /// The table of commits has several rows for a version.
    EvidenceDoubled {
        version: i64,
    },
    /// The table of commits has a row for a version that it does not cover yet.
    EvidenceAhead {
        version: i64,
    },
    /// The row of a version in the table of commits is not what the commit said, or not what was written.
    EvidenceDiffers {
        version: i64,
        fields: Vec<String>,
    },
    /// Kafka holds these records; the table does not.
    NotLanded(Offsets),
    /// The row is another than the record makes.
    RowDiffers {
        topic: String,
        partition: i32,
        offset: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        element: Option<u32>,
        columns: Vec<String>,
    },
    /// The letter's bytes are not the record's.
    LetterDiffers {
        topic: String,
        partition: i32,
        offset: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        element: Option<u32>,
    },
    /// A letter whose record is good by the present declaration.
    WouldPass(Offsets),
    /// A row whose record is bad by the present declaration.
    WouldFail(Offsets),
    /// Rows or letters whose records Kafka does not hold.
    NotInKafka(Offsets),
    /// Records that differ in ways that were not looked at one by one, there being so many.
    NotExamined(Offsets),
    /// The table was to be compared with Kafka, and was not.
    NotCompared {
        why: String,
    },
    /// Files that no version of the log names; vacuum removes them.
    Orphans {
        files: u64,
        bytes: u64,
        example: String,
    },
}

impl Severity {
    /// Whether a check that finds nothing worse has passed.
    pub fn passes(self) -> bool {
        self <= Severity::Doubt
    }

    /// The name for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Doubt => "doubt",
            Severity::Unchecked => "unchecked",
            Severity::Fault => "fault",
        }
    }
}

impl Finding {
    pub fn severity(&self) -> Severity {
        match self {
            Finding::Orphans { .. } | Finding::LettersAhead(_) | Finding::WouldPass(_) | Finding::Removed { .. } => {
                Severity::Note
            }
            Finding::Unexplained(_) | Finding::NotInKafka(_) | Finding::WouldFail(_) => Severity::Doubt,
            Finding::Unattributable { .. } | Finding::NotExamined(_) | Finding::NotCompared { .. } => {
                Severity::Unchecked
            }
            _ => Severity::Fault,
        }
    }

    /// The name in JSON, by which findings are counted.
    pub fn kind(&self) -> &'static str {
        match self {
            Finding::MissingVersion { .. } => "missing_version",
            Finding::UnreadableLog { .. } => "unreadable_log",
            Finding::CommitRows { .. } => "commit_rows",
            Finding::CommitShort { .. } => "commit_short",
            Finding::MissingFile { .. } => "missing_file",
            Finding::FileSize { .. } => "file_size",
            Finding::FileChanged { .. } => "file_changed",
            Finding::UnreadableFile { .. } => "unreadable_file",
            Finding::Statistics { .. } => "statistics",
            Finding::Doubled(_) => "doubled",
            Finding::DoubledLetters(_) => "doubled_letters",
            Finding::RowAndLetter(_) => "row_and_letter",
            Finding::RowInGap(_) => "row_in_gap",
            Finding::ErasedPresent(_) => "erased_present",
            Finding::BeyondRecorded(_) => "beyond_recorded",
            Finding::LettersAhead(_) => "letters_ahead",
            Finding::Unrecorded { .. } => "unrecorded",
            Finding::Lost(_) => "lost",
            Finding::Unexplained(_) => "unexplained",
            Finding::Unattributable { .. } => "unattributable",
            Finding::RemovedRows { .. } => "removed_rows",
            Finding::Removed { .. } => "removed",
            Finding::BrokenChain { .. } => "broken_chain",
            Finding::EvidenceMissing { .. } => "evidence_missing",
            Finding::EvidenceDoubled { .. } => "evidence_doubled",
            Finding::EvidenceAhead { .. } => "evidence_ahead",
            Finding::EvidenceDiffers { .. } => "evidence_differs",
            Finding::NotLanded(_) => "not_landed",
            Finding::RowDiffers { .. } => "row_differs",
            Finding::LetterDiffers { .. } => "letter_differs",
            Finding::WouldPass(_) => "would_pass",
            Finding::WouldFail(_) => "would_fail",
            Finding::NotInKafka(_) => "not_in_kafka",
            Finding::NotExamined(_) => "not_examined",
            Finding::NotCompared { .. } => "not_compared",
            Finding::Orphans { .. } => "orphans",
        }
    }
}

impl Offsets {
    /// One message, or one element of it.
    pub fn one(topic: &str, partition: i32, offset: i64, element: Option<u32>) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
            from: offset,
            to: offset + 1,
            element,
        }
    }

    /// Whole messages.
    pub fn of(topic_partition: &TopicPartition, span: Span) -> Self {
        Self {
            topic: topic_partition.topic.to_string(),
            partition: topic_partition.partition,
            from: span.from,
            to: span.to,
            element: None,
        }
    }
}

impl fmt::Display for Offsets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            topic,
            partition,
            from,
            to,
            element,
        } = self;
        if let Some(element) = element {
            return write!(f, "{topic}[{partition}] offset {from} element {element}");
        }
        match to - from {
            1 => write!(f, "{topic}[{partition}] offset {from}"),
            count => write!(f, "{topic}[{partition}] offsets {from} to {} ({count})", to - 1),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::MissingVersion { version } => write!(f, "version {version} is missing in the log"),
            Finding::UnreadableLog { path, why } => write!(f, "{path} cannot be read: {why}"),
            Finding::CommitRows {
                version,
                recorded,
                found,
            } => {
                write!(
                    f,
                    "version {version} committed {recorded} rows and names files of {found}"
                )
            }
            Finding::CommitShort {
                version,
                recorded,
                found,
            } => {
                write!(
                    f,
                    "version {version} took over {recorded}, {found} are there as rows or dead letters"
                )
            }
            Finding::MissingFile { path } => write!(f, "{path} is named by the log and is not there"),
            Finding::FileSize { path, logged, found } => write!(f, "{path} has {found} bytes, the log says {logged}"),
            Finding::FileChanged { path } => write!(f, "{path} was changed after its commit: another checksum"),
            Finding::UnreadableFile { path, why } => write!(f, "{path} cannot be read: {why}"),
            Finding::Statistics { path, column, why } => write!(f, "{path}: statistics of {column}: {why}"),
            Finding::Doubled(offsets) => write!(f, "{offsets}: more than one row"),
            Finding::DoubledLetters(offsets) => write!(f, "{offsets}: more than one dead letter"),
            Finding::RowAndLetter(offsets) => write!(f, "{offsets}: both a row and a dead letter"),
            Finding::RowInGap(offsets) => write!(f, "{offsets}: in the table, and recorded as a gap"),
            Finding::ErasedPresent(offsets) => write!(f, "{offsets}: recorded as erased, and still there"),
            Finding::BeyondRecorded(offsets) => write!(f, "{offsets}: rows beyond the recorded offset"),
            Finding::LettersAhead(offsets) => write!(f, "{offsets}: dead letters ahead of their rows"),
            Finding::Unrecorded { partition, rows } => {
                write!(
                    f,
                    "partition {partition}: {rows} rows, and the log records no offset of it"
                )
            }
            Finding::Lost(offsets) => write!(f, "{offsets}: no row, dead letter or gap, in a commit that lost rows"),
            Finding::Unexplained(offsets) => {
                write!(
                    f,
                    "{offsets}: no row, dead letter or gap, and the commit's record is gone"
                )
            }
            Finding::Unattributable {
                partition,
                rows,
                sources,
            } => {
                write!(
                    f,
                    "partition {partition}: {rows} rows do not tell which of these they come from, so offsets were not \
                     checked: {}",
                    sources.join(", ")
                )
            }
            Finding::RemovedRows {
                offsets,
                version,
                operation,
                by,
            } => {
                write!(f, "{offsets}: removed by version {version}, {operation} by {by}")
            }
            Finding::Removed {
                version,
                operation,
                by,
                files,
            } => {
                write!(
                    f,
                    "version {version}, {operation} by {by}, took rows out of {files} files"
                )
            }
            Finding::BrokenChain {
                topic,
                partition,
                version,
                expected,
                found,
            } => {
                write!(
                    f,
                    "{topic}[{partition}]: version {version} continues at offset {found}, the commit before it ended at \
                     {expected}"
                )
            }
            Finding::EvidenceMissing { from, to } => match to - from {
                1 => write!(f, "table `commits` has no row for version {from}"),
                count => write!(
                    f,
                    "table `commits` has no rows for versions {from} to {} ({count})",
                    to - 1
                ),
            },
            Finding::EvidenceDoubled { version } => {
                write!(f, "table `commits` has several rows for version {version}")
            }
            Finding::EvidenceAhead { version } => {
                write!(
                    f,
                    "table `commits` has a row for version {version}, which it does not cover"
                )
            }
            Finding::EvidenceDiffers { version, fields } => {
                write!(
                    f,
                    "table `commits`: the row for version {version} is not what was committed: {}",
                    fields.join(", ")
                )
            }
            Finding::NotLanded(offsets) => write!(f, "{offsets}: in Kafka, not in the lake"),
            Finding::RowDiffers {
                topic,
                partition,
                offset,
                element,
                columns,
            } => {
                let one = Offsets::one(topic, *partition, *offset, *element);
                write!(f, "{one}: the row is not the record's: {}", columns.join(", "))
            }
            Finding::LetterDiffers {
                topic,
                partition,
                offset,
                element,
            } => {
                let one = Offsets::one(topic, *partition, *offset, *element);
                write!(f, "{one}: the dead letter's bytes are not the record's")
            }
            Finding::WouldPass(offsets) => write!(f, "{offsets}: dead, and good by the present declaration"),
            Finding::WouldFail(offsets) => write!(f, "{offsets}: a row, and bad by the present declaration"),
            Finding::NotInKafka(offsets) => write!(f, "{offsets}: in the lake, and Kafka has no such record"),
            Finding::NotExamined(offsets) => {
                write!(f, "{offsets}: something differs from Kafka, not looked at closely")
            }
            Finding::NotCompared { why } => write!(f, "not compared with Kafka: {why}"),
            Finding::Orphans { files, bytes, example } => {
                write!(
                    f,
                    "{files} files of {bytes} bytes that no version names, such as {example}"
                )
            }
        }
    }
}
