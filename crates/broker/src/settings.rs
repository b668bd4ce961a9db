//! The settings that a topic can have: their names, values and defaults as Kafka has them, and what they mean for its
//! logs. Those without an effect here are taken all the same, so that what makes topics for a cluster works.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;

use crate::config::{BrokerConfig, Durability};
use crate::log::{CompactionConfig, LogConfig, LogError, TimestampType};

/// The settings that were given to a topic.
pub(crate) type TopicConfig = BTreeMap<String, String>;

pub(crate) struct Setting {
    pub(crate) name: &'static str,
    /// One of Kafka's numbers below.
    pub(crate) kind: i8,
    pub(crate) documentation: &'static str,
    /// Its value where none was given.
    pub(crate) default: fn(&LogConfig) -> String,
    is_good: fn(&str) -> bool,
}

const BOOLEAN: i8 = 1;
const STRING: i8 = 2;
const INT: i8 = 3;
const LONG: i8 = 5;
const DOUBLE: i8 = 6;
pub(crate) const LIST: i8 = 7;

const INT_MAX: i64 = i32::MAX as i64;
const KEEP: &str = "-1";
const HOUR_MS: i64 = 3_600_000;

pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        name: "cleanup.policy",
        kind: LIST,
        documentation: "`delete` deletes old segments, `compact` keeps the last record of each key; both may be given.",
        default: |_| "delete".to_owned(),
        is_good: |value| elements(value).all(|policy| matches!(policy, "delete" | "compact")),
    },
    Setting {
        name: "compression.gzip.level",
        kind: INT,
        documentation: "No effect: batches are kept as they came.",
        default: |_| "-1".to_owned(),
        is_good: |value| is_in(value, -1, 9),
    },
    Setting {
        name: "compression.lz4.level",
        kind: INT,
        documentation: "No effect: batches are kept as they came.",
        default: |_| "9".to_owned(),
        is_good: |value| is_in(value, 1, 17),
    },
    Setting {
        name: "compression.type",
        kind: STRING,
        documentation: "Only `producer` is supported: batches are kept as they came.",
        default: |_| "producer".to_owned(),
        is_good: |value| value == "producer",
    },
    Setting {
        name: "compression.zstd.level",
        kind: INT,
        documentation: "No effect: batches are kept as they came.",
        default: |_| "3".to_owned(),
        is_good: |value| is_in(value, -131_072, 22),
    },
    Setting {
        name: "delete.retention.ms",
        kind: LONG,
        documentation: "How long a tombstone stays after it was first cleaned, in milliseconds.",
        default: |_| "86400000".to_owned(),
        is_good: |value| is_in(value, 0, i64::MAX),
    },
    Setting {
        name: "file.delete.delay.ms",
        kind: LONG,
        documentation: "No effect: files are deleted at once.",
        default: |_| "60000".to_owned(),
        is_good: |value| is_in(value, 0, i64::MAX),
    },
    Setting {
        name: "flush.messages",
        kind: LONG,
        documentation: "No effect: the broker's `durability` decides.",
        default: |_| "9223372036854775807".to_owned(),
        is_good: |value| is_in(value, 1, i64::MAX),
    },
    Setting {
        name: "flush.ms",
        kind: LONG,
        documentation: "No effect: the broker's `durability` decides.",
        default: |_| "9223372036854775807".to_owned(),
        is_good: |value| is_in(value, 0, i64::MAX),
    },
    Setting {
        name: "index.interval.bytes",
        kind: INT,
        documentation: "No effect.",
        default: |_| "4096".to_owned(),
        is_good: |value| is_in(value, 0, INT_MAX),
    },
    Setting {
        name: "max.compaction.lag.ms",
        kind: LONG,
        documentation: "With an older record a log is compacted whatever its dirty ratio, in milliseconds.",
        default: |_| "9223372036854775807".to_owned(),
        is_good: |value| is_in(value, 1, i64::MAX),
    },
    Setting {
        name: "max.message.bytes",
        kind: INT,
        documentation: "The largest record batch, in bytes.",
        default: |config| config.message_bytes_max.to_string(),
        is_good: |value| is_in(value, 0, INT_MAX),
    },
    Setting {
        name: "message.timestamp.after.max.ms",
        kind: LONG,
        documentation: "How far a record's time may lie in the future, in milliseconds.",
        default: |config| config.after_max_ms.to_string(),
        is_good: |value| is_in(value, 0, i64::MAX),
    },
    Setting {
        name: "message.timestamp.before.max.ms",
        kind: LONG,
        documentation: "How far a record's time may lie in the past, in milliseconds.",
        default: |config| config.before_max_ms.to_string(),
        is_good: |value| is_in(value, 0, i64::MAX),
    },
    Setting {
        name: "message.timestamp.type",
        kind: STRING,
        documentation: "CreateTime keeps the producer's time, LogAppendTime writes the broker's.",
        default: |config| timestamp_type(config),
        is_good: |value| matches!(value, "CreateTime" | "LogAppendTime"),
    },
    Setting {
        name: "min.cleanable.dirty.ratio",
        kind: DOUBLE,
        documentation: "A log is compacted when more than this share of its bytes is not compacted yet.",
        default: |_| "0.5".to_owned(),
        is_good: |value| {
            value
                .trim()
                .parse()
                .is_ok_and(|ratio: f64| (0.0..=1.0).contains(&ratio))
        },
    },
    Setting {
        name: "min.compaction.lag.ms",
        kind: LONG,
        documentation: "Younger records are not compacted, in milliseconds.",
        default: |_| "0".to_owned(),
        is_good: |value| is_in(value, 0, i64::MAX),
    },
    Setting {
        name: "min.insync.replicas",
        kind: INT,
        documentation: "Only 1: there is one node.",
        default: |_| "1".to_owned(),
        is_good: |value| value.trim() == "1",
    },
    Setting {
        name: "preallocate",
        kind: BOOLEAN,
        documentation: "No effect: files grow as they are written.",
        default: |_| "false".to_owned(),
        is_good: |value| is_boolean(value),
    },
    Setting {
        name: "retention.bytes",
        kind: LONG,
        documentation: "Oldest segments are deleted while a partition is larger, in bytes; -1 keeps them.",
        default: |config| {
            config
                .retention_bytes
                .map_or_else(|| KEEP.to_owned(), |bytes| bytes.to_string())
        },
        is_good: |value| is_in(value, -1, i64::MAX),
    },
    Setting {
        name: "retention.ms",
        kind: LONG,
        documentation: "Older segments are deleted, in milliseconds; -1 keeps them.",
        default: |config| config.retention_ms.map_or_else(|| KEEP.to_owned(), |ms| ms.to_string()),
        is_good: |value| is_in(value, -1, i64::MAX),
    },
    Setting {
        name: "segment.bytes",
        kind: INT,
        documentation: "A segment is closed at this size, in bytes.",
        default: |config| config.segment_bytes.to_string(),
        is_good: |value| is_in(value, 1 << 10, INT_MAX),
    },
    Setting {
        name: "segment.index.bytes",
        kind: INT,
        documentation: "No effect.",
        default: |_| "10485760".to_owned(),
        is_good: |value| is_in(value, 4, INT_MAX),
    },
    Setting {
        name: "segment.jitter.ms",
        kind: LONG,
        documentation: "No effect.",
        default: |_| "0".to_owned(),
        is_good: |value| is_in(value, 0, i64::MAX),
    },
    Setting {
        name: "segment.ms",
        kind: LONG,
        documentation: "A segment is closed at this age, in milliseconds.",
        default: |config| config.segment_ms.to_string(),
        is_good: |value| is_in(value, 1, i64::MAX),
    },
    Setting {
        name: "unclean.leader.election.enable",
        kind: BOOLEAN,
        documentation: "No effect: there is one node.",
        default: |_| "false".to_owned(),
        is_good: |value| is_boolean(value),
    },
];

pub(crate) fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// The elements of a list.
pub(crate) fn elements(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim)
}

fn is_in(value: &str, least: i64, most: i64) -> bool {
    value.trim().parse().is_ok_and(|n: i64| (least..=most).contains(&n))
}

fn is_boolean(value: &str) -> bool {
    ["true", "false"]
        .iter()
        .any(|known| value.trim().eq_ignore_ascii_case(known))
}

fn timestamp_type(config: &LogConfig) -> String {
    match config.timestamp_type {
        TimestampType::Create => "CreateTime".to_owned(),
        TimestampType::LogAppend => "LogAppendTime".to_owned(),
    }
}

/// Refuses what a topic cannot have.
pub(crate) fn check_config(config: &TopicConfig) -> Result<(), LogError> {
    let invalid = |reason| Err(LogError::refused(ResponseError::InvalidConfig, reason));
    for (name, value) in config {
        match setting(name) {
            None => return invalid(format!("Unknown topic config name: {name}")),
            Some(setting) if !(setting.is_good)(value) => {
                return invalid(format!("Invalid value {value} for configuration {name}"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

pub(crate) fn log_defaults(config: &BrokerConfig) -> LogConfig {
    LogConfig {
        segment_bytes: config.segment_bytes,
        segment_ms: 7 * 24 * HOUR_MS,
        message_bytes_max: config.limits.message_bytes_max,
        timestamp_type: TimestampType::Create,
        before_max_ms: i64::MAX,
        after_max_ms: HOUR_MS,
        retention_ms: config.retention.map(|retention| retention.as_millis() as i64),
        retention_bytes: config.retention_bytes,
        deletes: true,
        compaction: None,
        waits_for_disk: config.durability == Durability::Fsync,
    }
}

/// What the broker's defaults and a topic's settings come to.
pub(crate) fn log_config(defaults: &LogConfig, config: &TopicConfig) -> LogConfig {
    let number = |name: &str| config.get(name).and_then(|value| value.trim().parse::<i64>().ok());
    let has_policy = |policy: &str| {
        let given = config.get("cleanup.policy").map_or("delete", String::as_str);
        elements(given).any(|one| one == policy)
    };
    let kept_or = |name: &str, default: Option<i64>| number(name).map_or(default, |n| (n >= 0).then_some(n));
    let retention_bytes = kept_or("retention.bytes", defaults.retention_bytes.map(|bytes| bytes as i64));
    LogConfig {
        segment_bytes: number("segment.bytes").map_or(defaults.segment_bytes, |n| n as u64),
        segment_ms: number("segment.ms").unwrap_or(defaults.segment_ms),
        message_bytes_max: number("max.message.bytes").map_or(defaults.message_bytes_max, |n| n as usize),
        timestamp_type: match config.get("message.timestamp.type").map(String::as_str) {
            Some("LogAppendTime") => TimestampType::LogAppend,
            _ => TimestampType::Create,
        },
        before_max_ms: number("message.timestamp.before.max.ms").unwrap_or(defaults.before_max_ms),
        after_max_ms: number("message.timestamp.after.max.ms").unwrap_or(defaults.after_max_ms),
        retention_ms: kept_or("retention.ms", defaults.retention_ms),
        retention_bytes: retention_bytes.map(|bytes| bytes as u64),
        deletes: has_policy("delete"),
        compaction: has_policy("compact").then(|| compaction(config)),
        waits_for_disk: defaults.waits_for_disk,
    }
}

fn compaction(config: &TopicConfig) -> CompactionConfig {
    let default = CompactionConfig::default();
    let ms = |name: &str, default: i64| {
        let given = config.get(name).and_then(|value| value.trim().parse().ok());
        given.unwrap_or(default)
    };
    let ratio = config.get("min.cleanable.dirty.ratio");
    CompactionConfig {
        dirty_ratio_min: ratio
            .and_then(|value| value.trim().parse().ok())
            .unwrap_or(default.dirty_ratio_min),
        lag_min_ms: ms("min.compaction.lag.ms", default.lag_min_ms),
        lag_max_ms: ms("max.compaction.lag.ms", default.lag_max_ms),
        delete_retention_ms: ms("delete.retention.ms", default.delete_retention_ms),
    }
}
