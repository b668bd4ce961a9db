//! The topics: what exists, with which id, partitions and settings.
//!
//! The folder is the catalogue. A topic is made beside its place and renamed into it, and deleted by being renamed
//! away, so that each is one step: `topics/<name>/topic.json`, `topics/<name>/<partition>/`.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::config::BrokerConfig;
use crate::error::{AtPath, BrokerError};
use crate::files::{self, sync_dir, sync_parent, write_atomically};
use crate::ids::Ids;
use crate::log::{LogConfig, LogError};
use crate::partition::Partition;
use crate::settings::{TopicConfig, check_config, log_config, log_defaults};

const DESCRIPTION: &str = "topic.json";

/// Where Kafka keeps what groups have committed, and its transactions. Here journals have both (`groups`,
/// `transactions`), and these topics are empty: clients see them as Kafka's, internal ones, from the moment that a
/// coordinator was asked for.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";
pub(crate) const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// Whether a topic is the broker's own: no client writes to it.
pub(crate) fn is_internal(name: &str) -> bool {
    matches!(name, OFFSETS_TOPIC | TRANSACTIONS_TOPIC)
}

/// The settings that Kafka gives an internal topic.
fn internal_config() -> TopicConfig {
    [
        ("cleanup.policy", "compact"),
        ("compression.type", "producer"),
        ("segment.bytes", "104857600"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    pub(crate) partitions: RwLock<Vec<Arc<Partition>>>,
    /// The settings that were given; all others are the broker's.
    pub(crate) config: RwLock<TopicConfig>,
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
        files::create_dir_all(&dir).at("create", &dir)?;
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
                // Made or deleted halfway when the last run ended; no client knows that it exists.
                files::remove_dir_all(&path).at("delete", &path)?;
                continue;
            }
            let description = path.join(DESCRIPTION);
            let bytes = fs::read(&description).at("read", &description)?;
            let described: Description = serde_json::from_slice(&bytes).map_err(|error| BrokerError::DataDir {
                dir: path.clone(),
                reason: error.to_string(),
            })?;
            let log_config = log_config(&defaults, &described.config);
            let partitions = open_partitions(&path, 0..described.partitions, &log_config, now_ms).map_err(storage)?;
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

    /// Every partition, with its topic's name.
    pub(crate) fn partitions(&self) -> Vec<(String, Arc<Partition>)> {
        let of = |topic: &Arc<Topic>| {
            let partitions = topic.partitions.read();
            let named = partitions.iter().map(|p| (topic.name.clone(), Arc::clone(p)));
            named.collect::<Vec<_>>()
        };
        self.all().iter().flat_map(of).collect()
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
        // Kafka's metrics once could not tell them apart.
        if let Some(other) = self.by_name.read().keys().find(|other| collide(name, other)) {
            return Err(LogError::refused(
                ResponseError::InvalidTopicException,
                format!("Topic '{name}' collides with existing topic: {other}"),
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
            let _ = files::remove_dir_all(&making);
        }
        made?;
        let log_config = log_config(&self.defaults, &description.config);
        let logs = open_partitions(&place, 0..partitions, &log_config, now_ms)?;
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

    /// Makes an internal topic that is not there yet. Without it everything works but the sight of it, so a failure is
    /// no one's error.
    pub(crate) fn ensure_internal(&self, name: &str, ids: &Ids, now_ms: i64) {
        if self.topic(name).is_some() {
            return;
        }
        match self.create(name, 1, internal_config(), ids, now_ms) {
            Ok(_) => {}
            Err(error) if error.code() == ResponseError::TopicAlreadyExists => {}
            // Each client that looks for its coordinator tries again.
            Err(error) => tracing::debug!(topic = name, %error, "an internal topic could not be created"),
        }
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
        files::create_dir(making).map_err(failed(making))?;
        write_description(making, description)?;
        files::rename(making, place).map_err(failed(place))?;
        sync_parent(place).map_err(failed(place))
    }

    pub(crate) fn delete(&self, name: &str) -> Result<Arc<Topic>, LogError> {
        let _changing = self.changing.lock();
        let Some(topic) = self.topic(name) else {
            return Err(unknown_topic(name));
        };
        if is_internal(name) {
            return Err(LogError::refused(
                ResponseError::TopicDeletionDisabled,
                format!("Topic '{name}' is internal: delete consumer groups instead."),
            ));
        }
        let place = self.dir.join(name);
        let grave = self.dir.join(format!("~deleted-{}", topic.id));
        let failed = |source| LogError::Storage {
            action: "delete",
            path: place.clone(),
            source,
        };
        // Before the name is free: what the cleaner has under way must not come into another topic's folder.
        let set_deleted = |is_deleted| {
            let partitions = topic.partitions.read();
            partitions.iter().for_each(|it| it.log.lock().set_deleted(is_deleted));
        };
        set_deleted(true);
        // What upkeep writes now is for this topic's folder.
        let partitions = topic.partitions.read().clone();
        let _maintenance: Vec<_> = partitions.iter().map(|it| it.maintenance.lock()).collect();
        files::rename(&place, &grave)
            .inspect_err(|_| set_deleted(false))
            .map_err(failed)?;
        sync_parent(&place).map_err(failed)?;
        self.by_name.write().remove(name);
        if let Err(error) = files::remove_dir_all(&grave) {
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
        let added = open_partitions(&place, have..count, &log_config, now_ms)?;
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

/// Opens or makes these partitions; their folders' names are on the disk then.
fn open_partitions(
    dir: &Path,
    indexes: Range<i32>,
    config: &LogConfig,
    now_ms: i64,
) -> Result<Vec<Arc<Partition>>, LogError> {
    let partitions = indexes
        .map(|index| Partition::open(dir, index, config.clone(), now_ms).map(Arc::new))
        .collect::<Result<_, _>>()?;
    if config.waits_for_disk {
        sync_dir(dir).map_err(|source| LogError::Storage {
            action: "sync",
            path: dir.to_path_buf(),
            source,
        })?;
    }
    Ok(partitions)
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
        error => BrokerError::DataDir {
            dir: PathBuf::new(),
            reason: error.to_string(),
        },
    }
}

fn collide(name: &str, other: &str) -> bool {
    let unified = |c: char| if c == '.' { '_' } else { c };
    name.len() == other.len() && name.chars().map(unified).eq(other.chars().map(unified))
}

pub(crate) fn is_legal_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=249).contains(&name.len()) && name.chars().all(legal) && name != "." && name != ".."
}
