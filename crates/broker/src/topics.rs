//! The topics: what exists, with which id, partitions and settings.
//!
//! The directory is the catalogue. A topic is made beside its place and renamed into it, and deleted by being renamed
//! away, so that each is one step: `topics/<name>/topic.json`, `topics/<name>/<partition>/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kafka_protocol::error::ResponseError;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::config::BrokerConfig;
use crate::error::{AtPath, BrokerError};
use crate::ids::Ids;
use crate::journal::{sync_parent, write_atomically};
use crate::log::{LogConfig, LogError, PartitionLog, TimestampType};

const DESCRIPTION: &str = "topic.json";

pub(crate) type TopicConfig = BTreeMap<String, String>;

#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    pub(crate) partitions: RwLock<Vec<Arc<Partition>>>,
    /// The settings that were given; all others are the broker's.
    pub(crate) config: RwLock<TopicConfig>,
}

#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) index: i32,
    pub(crate) log: Mutex<PartitionLog>,
    /// Fetches that wait for records here.
    waiting: Mutex<Vec<Arc<Notify>>>,
    /// Held while files are synced: who comes later waits for what is under way.
    syncing: Mutex<()>,
    sync_failures: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Topics {
    dir: PathBuf,
    defaults: LogConfig,
    partitions_max: usize,
    by_name: RwLock<BTreeMap<String, Arc<Topic>>>,
    /// Held while the set of topics or one topic's shape changes.
    changing: Mutex<()>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Description {
    #[serde(with = "uuid_text")]
    id: Uuid,
    partitions: i32,
    #[serde(default)]
    config: TopicConfig,
}

mod uuid_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use uuid::Uuid;

    pub(super) fn serialize<S: Serializer>(id: &Uuid, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Uuid, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl Partition {
    fn open(dir: &Path, index: i32, config: LogConfig, now_ms: i64) -> Result<Self, LogError> {
        let log = PartitionLog::open(&dir.join(index.to_string()), config, now_ms)?;
        Ok(Self {
            index,
            log: Mutex::new(log),
            waiting: Mutex::default(),
            syncing: Mutex::default(),
            sync_failures: AtomicU64::new(0),
        })
    }

    /// Syncs what has been appended. Blocks for as long as the disk takes.
    pub(crate) fn sync(&self) -> Result<(), LogError> {
        let _turn = self.syncing.lock();
        let unsynced = self.log.lock().take_unsynced();
        for (file, path) in unsynced {
            if let Err(source) = file.sync_data() {
                self.sync_failures.fetch_add(1, Ordering::Relaxed);
                return Err(LogError::Storage {
                    action: "sync",
                    path,
                    source,
                });
            }
        }
        Ok(())
    }

    /// A failed sync may have been somebody else's and have taken one's own records with it: whoever needs theirs on
    /// the disk compares this before they append and behind their own sync.
    pub(crate) fn sync_failures(&self) -> u64 {
        self.sync_failures.load(Ordering::Relaxed)
    }

    /// Wakes every fetch that waits here.
    pub(crate) fn wake(&self) {
        for notify in self.waiting.lock().iter() {
            notify.notify_one();
        }
    }

    pub(crate) fn wait_with(&self, notify: &Arc<Notify>) {
        self.waiting.lock().push(Arc::clone(notify));
    }

    pub(crate) fn stop_waiting(&self, notify: &Arc<Notify>) {
        self.waiting.lock().retain(|waiting| !Arc::ptr_eq(waiting, notify));
    }
}

impl Topic {
    pub(crate) fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        self.partitions.read().get(usize::try_from(index).ok()?).cloned()
    }

    pub(crate) fn partition_count(&self) -> i32 {
        self.partitions.read().len() as i32
    }
}

impl Topics {
    pub(crate) fn open(config: &BrokerConfig) -> Result<Self, BrokerError> {
        let dir = config.data_dir.join("topics");
        fs::create_dir_all(&dir).at("create", &dir)?;
        let now_ms = config.clock.now_ms();
        let defaults = log_defaults(config);
        let mut by_name = BTreeMap::new();
        for entry in fs::read_dir(&dir).at("list", &dir)? {
            let entry = entry.at("list", &dir)?;
            let path = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with('~') {
                // Made or deleted halfway when the last run ended; nobody was told that it exists.
                fs::remove_dir_all(&path).at("delete", &path)?;
                continue;
            }
            let description = path.join(DESCRIPTION);
            let bytes = fs::read(&description).at("read", &description)?;
            let described: Description = serde_json::from_slice(&bytes).map_err(|error| BrokerError::DataDir {
                dir: path.clone(),
                reason: error.to_string(),
            })?;
            let log_config = log_config(&defaults, &described.config);
            let partitions = (0..described.partitions)
                .map(|index| Partition::open(&path, index, log_config.clone(), now_ms).map(Arc::new))
                .collect::<Result<_, _>>()
                .map_err(storage)?;
            let topic = Topic {
                name: name.clone(),
                id: described.id,
                partitions: RwLock::new(partitions),
                config: RwLock::new(described.config),
            };
            by_name.insert(name, Arc::new(topic));
        }
        Ok(Self {
            dir,
            defaults,
            partitions_max: config.limits.partitions_max,
            by_name: RwLock::new(by_name),
            changing: Mutex::new(()),
        })
    }

    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        self.by_name.read().values().cloned().collect()
    }

    pub(crate) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.by_name.read().get(name).cloned()
    }

    pub(crate) fn topic_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.by_name.read().values().find(|topic| topic.id == id).cloned()
    }

    pub(crate) fn partition(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        self.topic(topic)?.partition(index)
    }

    /// Checks what [`Topics::create`] would refuse.
    pub(crate) fn check_create(&self, name: &str, partitions: i32, config: &TopicConfig) -> Result<(), LogError> {
        if !is_legal_name(name) {
            return Err(LogError::refused(
                ResponseError::InvalidTopicException,
                "a topic name has 1 to 249 characters of a-z, A-Z, 0-9, '.', '_' and '-', and is not '.' or '..'",
            ));
        }
        if self.topic(name).is_some() {
            return Err(LogError::refused(
                ResponseError::TopicAlreadyExists,
                format!("Topic '{name}' already exists."),
            ));
        }
        if partitions < 1 {
            return Err(LogError::refused(
                ResponseError::InvalidPartitions,
                "Number of partitions must be larger than 0.",
            ));
        }
        self.check_room(partitions)?;
        check_config(config)
    }

    pub(crate) fn create(
        &self,
        name: &str,
        partitions: i32,
        config: TopicConfig,
        ids: &Ids,
        now_ms: i64,
    ) -> Result<Arc<Topic>, LogError> {
        let _changing = self.changing.lock();
        self.check_create(name, partitions, &config)?;
        let description = Description {
            id: ids.uuid(),
            partitions,
            config,
        };
        let making = self.dir.join(format!("~making-{}", description.id));
        let place = self.dir.join(name);
        let made = self.make(&making, &place, &description);
        if made.is_err() {
            // What is left of it is removed at the next start at the latest.
            let _ = fs::remove_dir_all(&making);
        }
        made?;
        let log_config = log_config(&self.defaults, &description.config);
        let logs = (0..partitions)
            .map(|index| Partition::open(&place, index, log_config.clone(), now_ms).map(Arc::new))
            .collect::<Result<_, _>>()?;
        let topic = Arc::new(Topic {
            name: name.to_owned(),
            id: description.id,
            partitions: RwLock::new(logs),
            config: RwLock::new(description.config),
        });
        self.by_name.write().insert(name.to_owned(), Arc::clone(&topic));
        tracing::info!(topic = name, partitions, "topic created");
        Ok(topic)
    }

    fn make(&self, making: &Path, place: &Path, description: &Description) -> Result<(), LogError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| LogError::Storage {
                action: "create",
                path,
                source,
            }
        };
        fs::create_dir(making).map_err(failed(making))?;
        write_description(making, description)?;
        fs::rename(making, place).map_err(failed(place))?;
        sync_parent(place).map_err(failed(place))
    }

    pub(crate) fn delete(&self, name: &str) -> Result<Arc<Topic>, LogError> {
        let _changing = self.changing.lock();
        let Some(topic) = self.topic(name) else {
            return Err(unknown_topic(name));
        };
        let place = self.dir.join(name);
        let grave = self.dir.join(format!("~deleted-{}", topic.id));
        let failed = |source| LogError::Storage {
            action: "delete",
            path: place.clone(),
            source,
        };
        fs::rename(&place, &grave).map_err(failed)?;
        sync_parent(&place).map_err(failed)?;
        self.by_name.write().remove(name);
        if let Err(error) = fs::remove_dir_all(&grave) {
            tracing::warn!(topic = name, %error, "files of a deleted topic are left until the next start");
        }
        topic.partitions.read().iter().for_each(|partition| partition.wake());
        tracing::info!(topic = name, "topic deleted");
        Ok(topic)
    }

    pub(crate) fn add_partitions(
        &self,
        name: &str,
        count: i32,
        validate_only: bool,
        now_ms: i64,
    ) -> Result<(), LogError> {
        let _changing = self.changing.lock();
        let topic = self.topic(name).ok_or_else(|| unknown_topic(name))?;
        let have = topic.partition_count();
        if count <= have {
            return Err(LogError::refused(
                ResponseError::InvalidPartitions,
                format!("The topic {name} currently has {have} partition(s); {count} would not be an increase."),
            ));
        }
        self.check_room(count - have)?;
        if validate_only {
            return Ok(());
        }
        let place = self.dir.join(name);
        let config = topic.config.read().clone();
        let log_config = log_config(&self.defaults, &config);
        let added = (have..count)
            .map(|index| Partition::open(&place, index, log_config.clone(), now_ms).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        write_description(
            &place,
            &Description {
                id: topic.id,
                partitions: count,
                config,
            },
        )?;
        topic.partitions.write().extend(added);
        Ok(())
    }

    pub(crate) fn set_config(&self, name: &str, config: TopicConfig, validate_only: bool) -> Result<(), LogError> {
        let _changing = self.changing.lock();
        let topic = self.topic(name).ok_or_else(|| unknown_topic(name))?;
        check_config(&config)?;
        if validate_only {
            return Ok(());
        }
        let place = self.dir.join(name);
        let description = Description {
            id: topic.id,
            partitions: topic.partition_count(),
            config,
        };
        write_description(&place, &description)?;
        let log_config = log_config(&self.defaults, &description.config);
        for partition in topic.partitions.read().iter() {
            partition.log.lock().set_config(log_config.clone());
        }
        *topic.config.write() = description.config;
        Ok(())
    }

    pub(crate) fn defaults(&self) -> &LogConfig {
        &self.defaults
    }

    fn check_room(&self, more: i32) -> Result<(), LogError> {
        let have: i64 = self
            .by_name
            .read()
            .values()
            .map(|topic| i64::from(topic.partition_count()))
            .sum();
        if have + i64::from(more) > self.partitions_max as i64 {
            return Err(LogError::refused(
                ResponseError::PolicyViolation,
                format!(
                    "{have} partitions exist and {} is this broker's limit",
                    self.partitions_max
                ),
            ));
        }
        Ok(())
    }
}

fn write_description(dir: &Path, description: &Description) -> Result<(), LogError> {
    let path = dir.join(DESCRIPTION);
    let failed = |source| LogError::Storage {
        action: "write",
        path: path.clone(),
        source,
    };
    let bytes = serde_json::to_vec_pretty(description).map_err(|error| failed(error.into()))?;
    write_atomically(&path, &bytes).map_err(failed)
}

pub(crate) fn unknown_topic(name: &str) -> LogError {
    LogError::refused(
        ResponseError::UnknownTopicOrPartition,
        format!("This server does not host topic '{name}'."),
    )
}

fn storage(error: LogError) -> BrokerError {
    match error {
        LogError::Storage { action, path, source } => BrokerError::Io { action, path, source },
        LogError::Refused(_, reason) => BrokerError::DataDir {
            dir: PathBuf::new(),
            reason,
        },
    }
}

fn is_legal_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=249).contains(&name.len()) && name.chars().all(legal) && name != "." && name != ".."
}

/// A setting that a topic can have: name, its value when not given, Kafka's config type, a sentence about it.
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    /// Kafka's numbers: 1 boolean, 2 string, 3 int, 5 long, 7 list.
    pub(crate) kind: i8,
    pub(crate) documentation: &'static str,
    pub(crate) default: fn(&LogConfig) -> String,
}

const KEEP: &str = "-1";

pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        name: "cleanup.policy",
        kind: 7,
        documentation: "Only `delete` is supported.",
        default: |_| "delete".to_owned(),
    },
    Setting {
        name: "compression.type",
        kind: 2,
        documentation: "Only `producer` is supported: batches are kept as they came.",
        default: |_| "producer".to_owned(),
    },
    Setting {
        name: "max.message.bytes",
        kind: 3,
        documentation: "The largest record batch, in bytes.",
        default: |config| config.message_bytes_max.to_string(),
    },
    Setting {
        name: "message.timestamp.type",
        kind: 2,
        documentation: "CreateTime keeps the producer's time, LogAppendTime writes the broker's.",
        default: |config| match config.timestamp_type {
            TimestampType::Create => "CreateTime".to_owned(),
            TimestampType::LogAppend => "LogAppendTime".to_owned(),
        },
    },
    Setting {
        name: "min.insync.replicas",
        kind: 3,
        documentation: "Only 1: there is one node.",
        default: |_| "1".to_owned(),
    },
    Setting {
        name: "retention.bytes",
        kind: 5,
        documentation: "Oldest segments are deleted while a partition is larger, in bytes; -1 keeps them.",
        default: |config| {
            config
                .retention_bytes
                .map_or_else(|| KEEP.to_owned(), |bytes| bytes.to_string())
        },
    },
    Setting {
        name: "retention.ms",
        kind: 5,
        documentation: "Older segments are deleted, in milliseconds; -1 keeps them.",
        default: |config| config.retention_ms.map_or_else(|| KEEP.to_owned(), |ms| ms.to_string()),
    },
    Setting {
        name: "segment.bytes",
        kind: 3,
        documentation: "A segment is closed at this size, in bytes.",
        default: |config| config.segment_bytes.to_string(),
    },
    Setting {
        name: "segment.ms",
        kind: 5,
        documentation: "A segment is closed at this age, in milliseconds.",
        default: |config| config.segment_ms.to_string(),
    },
];

fn log_defaults(config: &BrokerConfig) -> LogConfig {
    LogConfig {
        segment_bytes: config.segment_bytes,
        segment_ms: 7 * 24 * 3600 * 1000,
        message_bytes_max: config.limits.message_bytes_max,
        timestamp_type: TimestampType::Create,
        retention_ms: config.retention.map(|retention| retention.as_millis() as i64),
        retention_bytes: config.retention_bytes,
        deletes: true,
    }
}

/// Refuses what a topic cannot have.
pub(crate) fn check_config(config: &TopicConfig) -> Result<(), LogError> {
    let fault = |name: &str, value: &str| {
        Err(LogError::refused(
            ResponseError::InvalidConfig,
            format!("Invalid value {value} for configuration {name}"),
        ))
    };
    for (name, value) in config {
        let number = || value.trim().parse::<i64>();
        let good = match name.as_str() {
            "cleanup.policy" => value == "delete",
            "compression.type" => value == "producer",
            "max.message.bytes" => number().is_ok_and(|n| (0..=i64::from(i32::MAX)).contains(&n)),
            "message.timestamp.type" => matches!(value.as_str(), "CreateTime" | "LogAppendTime"),
            "min.insync.replicas" => value == "1",
            "retention.bytes" | "retention.ms" => number().is_ok_and(|n| n >= -1),
            "segment.bytes" => number().is_ok_and(|n| (1024..=i64::from(i32::MAX)).contains(&n)),
            "segment.ms" => number().is_ok_and(|n| n >= 1),
            // What other brokers know and this one has no use for is taken and kept.
            "delete.retention.ms"
            | "file.delete.delay.ms"
            | "flush.messages"
            | "flush.ms"
            | "index.interval.bytes"
            | "max.compaction.lag.ms"
            | "message.timestamp.before.max.ms"
            | "message.timestamp.after.max.ms"
            | "message.timestamp.difference.max.ms"
            | "message.downconversion.enable"
            | "message.format.version"
            | "min.cleanable.dirty.ratio"
            | "min.compaction.lag.ms"
            | "preallocate"
            | "segment.index.bytes"
            | "segment.jitter.ms"
            | "unclean.leader.election.enable" => true,
            _ => {
                return Err(LogError::refused(
                    ResponseError::InvalidConfig,
                    format!("Unknown topic config name: {name}"),
                ));
            }
        };
        if !good {
            return fault(name, value);
        }
    }
    Ok(())
}

fn log_config(defaults: &LogConfig, config: &TopicConfig) -> LogConfig {
    let number = |name: &str| config.get(name).and_then(|value| value.trim().parse::<i64>().ok());
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
        retention_ms: kept_or("retention.ms", defaults.retention_ms),
        retention_bytes: retention_bytes.map(|bytes| bytes as u64),
        deletes: true,
    }
}
