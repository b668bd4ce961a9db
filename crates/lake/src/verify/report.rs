//! What a check finds, in words for people and fields for machines.

use std::collections::BTreeMap;
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
    /// Something was lost, doubled or changed.
    Fault,
}

/// Offsets `[from, to)` of a partition.
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
    /// A commit was given so many records, and fewer rows and letters are there.
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
    /// Several topics or applications fill the table, and rows do not tell which; offsets were not checked.
    Unattributable {
        sources: usize,
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
    /// Files that no version of the log names; vacuum removes them.
    Orphans {
        files: u64,
        bytes: u64,
        example: String,
    },
}

impl Finding {
    pub fn severity(&self) -> Severity {
        match self {
            Finding::Orphans { .. } | Finding::LettersAhead(_) | Finding::WouldPass(_) => Severity::Note,
            Finding::Unexplained(_)
            | Finding::Unattributable { .. }
            | Finding::NotInKafka(_)
            | Finding::WouldFail(_)
            | Finding::NotExamined(_) => Severity::Doubt,
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
            Finding::BeyondRecorded(_) => "beyond_recorded",
            Finding::LettersAhead(_) => "letters_ahead",
            Finding::Unrecorded { .. } => "unrecorded",
            Finding::Lost(_) => "lost",
            Finding::Unexplained(_) => "unexplained",
            Finding::Unattributable { .. } => "unattributable",
            Finding::NotLanded(_) => "not_landed",
            Finding::RowDiffers { .. } => "row_differs",
            Finding::LetterDiffers { .. } => "letter_differs",
            Finding::WouldPass(_) => "would_pass",
            Finding::WouldFail(_) => "would_fail",
            Finding::NotInKafka(_) => "not_in_kafka",
            Finding::NotExamined(_) => "not_examined",
            Finding::Orphans { .. } => "orphans",
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
        match to - from {
            1 => match element {
                Some(element) => write!(f, "{topic}[{partition}] offset {from} element {element}"),
                None => write!(f, "{topic}[{partition}] offset {from}"),
            },
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
                    "version {version} took over {recorded} records, {found} are there as rows or dead letters"
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
            Finding::Unattributable { sources } => {
                write!(
                    f,
                    "{sources} topics or applications fill the table: offsets were not checked"
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
                let at = Offsets::one(topic, *partition, *offset, *element);
                write!(f, "{at}: the row is not the record's: {}", columns.join(", "))
            }
            Finding::LetterDiffers {
                topic,
                partition,
                offset,
                element,
            } => {
                let at = Offsets::one(topic, *partition, *offset, *element);
                write!(f, "{at}: the dead letter's bytes are not the record's")
            }
            Finding::WouldPass(offsets) => write!(f, "{offsets}: dead, and good by the present declaration"),
            Finding::WouldFail(offsets) => write!(f, "{offsets}: a row, and bad by the present declaration"),
            Finding::NotInKafka(offsets) => write!(f, "{offsets}: in the lake, and Kafka has no such record"),
            Finding::NotExamined(offsets) => {
                write!(f, "{offsets}: something differs from Kafka, not looked at closely")
            }
            Finding::Orphans { files, bytes, example } => {
                write!(
                    f,
                    "{files} files of {bytes} bytes that no version names, such as {example}"
                )
            }
        }
    }
}

/// Findings of one kind that are told one by one.
const TOLD_MAX: u64 = 20;

/// Findings, of each kind the first few; the others are counted.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Findings {
    list: Vec<Finding>,
    counts: BTreeMap<&'static str, u64>,
    #[serde(skip)]
    worst: Option<Severity>,
}

impl Findings {
    pub fn add(&mut self, finding: Finding) {
        self.worst = self.worst.max(Some(finding.severity()));
        let count = self.counts.entry(finding.kind()).or_default();
        *count += 1;
        if *count <= TOLD_MAX {
            self.list.push(finding);
        }
    }

    pub fn told(&self) -> &[Finding] {
        &self.list
    }

    /// How many there are of each kind.
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// Those of each kind that are not told.
    pub fn untold(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let more = self
            .counts
            .iter()
            .map(|(kind, count)| (*kind, count.saturating_sub(TOLD_MAX)));
        more.filter(|(_, more)| *more > 0)
    }

    pub fn worst(&self) -> Option<Severity> {
        self.worst
    }

    pub fn has(&self, kind: &str) -> bool {
        self.counts.contains_key(kind)
    }
}

/// What a check of one table has found.
#[derive(Debug, Clone, Serialize)]
pub struct TableReport {
    pub table: String,
    pub version: i64,
    pub files: u64,
    pub bytes: u64,
    pub rows: u64,
    /// Files whose bytes were compared with the checksum in the log; the others have none (written by others).
    pub checksums: u64,
    pub partitions: Vec<PartitionReport>,
    pub findings: Findings,
}

/// How one partition of a topic is covered.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionReport {
    pub topic: String,
    pub partition: i32,
    /// The first offset that the table accounts for.
    pub start: i64,
    /// The next offset to land.
    pub recorded: i64,
    pub rows: u64,
    pub letters: u64,
    pub gap_offsets: u64,
    /// Offsets that Kafka never handed out (transaction markers, aborted or compacted records), by the commits' counts.
    pub skipped: u64,
    /// Offsets without anything, of which nothing tells whether they ever were records.
    pub unexplained: u64,
    pub lost: u64,
    pub doubled: u64,
    /// Records compared one to one with Kafka; `None` when that was not asked.
    pub compared: Option<u64>,
}
