//! The actions of the Delta log, typed (PROTOCOL.md, "Actions").
//!
//! One set of structs reads and writes the log, so that no two parts of the program can differ in what they see in it.
//! What a later version of the protocol adds is kept: unknown fields of a known action and unknown actions are written
//! back as they were read.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde::{Deserialize as DeriveDeserialize, Serialize as DeriveSerialize};
use serde_json::{Map, Value};

use crate::delta::deletion_vector::DeletionVector;

/// Partition column (its physical name) to serialized value; `None` is null.
pub type PartitionValues = BTreeMap<String, Option<String>>;

/// Free key-value pairs of a file or a checkpoint.
pub type Tags = BTreeMap<String, Option<String>>;

/// One line of a commit or one row of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Add(Box<Add>),
    Remove(Box<Remove>),
    Cdc(Box<Cdc>),
    Metadata(Box<Metadata>),
    Protocol(Protocol),
    Txn(Txn),
    CommitInfo(Box<CommitInfo>),
    DomainMetadata(DomainMetadata),
    CheckpointMetadata(CheckpointMetadata),
    Sidecar(Sidecar),
    /// An action this version does not know, whole.
    Unknown(Map<String, Value>),
}

/// A logical file that is part of the table from this version on.
#[derive(Debug, Clone, PartialEq, DeriveSerialize, DeriveDeserialize)]
#[serde(rename_all = "camelCase")]
pub struct Add {
    /// URI-encoded; relative to the table, or absolute.
    pub path: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub partition_values: PartitionValues,
    /// Bytes.
    pub size: i64,
    /// Milliseconds since the epoch.
    #[serde(default)]
    pub modification_time: i64,
    #[serde(default = "yes")]
    pub data_change: bool,
    /// JSON text (PROTOCOL.md, "Per-file Statistics").
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_vector: Option<DeletionVector>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_row_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_row_commit_version: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clustering_provider: Option<String>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Add {
    /// What identifies the logical file.
    pub fn key(&self) -> FileKey {
        FileKey::new(&self.path, self.deletion_vector.as_ref())
    }

    /// A tag's value.
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags.as_ref()?.get(name)?.as_deref()
    }

    /// The `remove` of this file, with what the protocol wants a tombstone to tell of it.
    pub fn to_remove(&self, now_ms: i64, data_change: bool) -> Remove {
        Remove {
            path: self.path.clone(),
            deletion_timestamp: Some(now_ms),
            data_change,
            extended_file_metadata: Some(true),
            partition_values: Some(self.partition_values.clone()),
            size: Some(self.size),
            stats: None,
            tags: None,
            deletion_vector: self.deletion_vector.clone(),
            base_row_id: self.base_row_id,
            default_row_commit_version: self.default_row_commit_version,
            rest: Map::new(),
        }
    }
}

/// A logical file that is no part of the table any more; a tombstone until it expires.
#[derive(Debug, Clone, PartialEq, DeriveSerialize, DeriveDeserialize)]
#[serde(rename_all = "camelCase")]
pub struct Remove {
    pub path: String,
    /// Milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<i64>,
    #[serde(default = "yes")]
    pub data_change: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extended_file_metadata: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition_values: Option<PartitionValues>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_vector: Option<DeletionVector>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_row_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_row_commit_version: Option<i64>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Remove {
    /// What identifies the logical file.
    pub fn key(&self) -> FileKey {
        FileKey::new(&self.path, self.deletion_vector.as_ref())
    }
}

/// Path and deletion vector: the primary key of a logical file. The same data file with another deletion vector is
/// another logical file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileKey(Box<str>);

impl FileKey {
    fn new(path: &str, deletion_vector: Option<&DeletionVector>) -> Self {
        match deletion_vector {
            None => Self(path.into()),
            // No path holds a NUL.
            Some(vector) => Self(format!("{path}\0{}", vector.unique_id()).into()),
        }
    }
}

/// A file of row-level changes.
#[derive(Debug, Clone, PartialEq, DeriveSerialize, DeriveDeserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cdc {
    pub path: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub partition_values: PartitionValues,
    pub size: i64,
    #[serde(default)]
    pub data_change: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The table's metadata; the newest replaces those before it whole.
#[derive(Debug, Clone, PartialEq, DeriveSerialize, DeriveDeserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default)]
    pub format: Format,
    /// JSON text of a [`crate::delta::schema::StructType`].
    pub schema_string: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub partition_columns: Vec<String>,
    /// Milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_time: Option<i64>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub configuration: BTreeMap<String, String>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Metadata {
    /// A table property.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.configuration.get(name).map(String::as_str)
    }
}

/// How the table's files are encoded; Parquet in every table there is.
#[derive(Debug, Clone, PartialEq, Eq, DeriveSerialize, DeriveDeserialize)]
pub struct Format {
    pub provider: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub options: BTreeMap<String, String>,
}

impl Default for Format {
    fn default() -> Self {
        Self {
            provider: "parquet".to_owned(),
            options: BTreeMap::new(),
        }
    }
}

/// What a client must implement to read and to write the table.
#[derive(Debug, Clone, PartialEq, DeriveSerialize, DeriveDeserialize)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    pub min_reader_version: i32,
    pub min_writer_version: i32,
    /// There when `min_reader_version` is 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reader_features: Option<Vec<String>>,
    /// There when `min_writer_version` is 7.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writer_features: Option<Vec<String>>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// How far an application has come.
#[derive(Debug, Clone, PartialEq, DeriveSerialize, DeriveDeserialize)]
#[serde(rename_all = "camelCase")]
pub struct Txn {
    pub app_id: String,
    /// The application's own: here the next offset to read.
    pub version: i64,
    /// Milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<i64>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Configuration of a named domain.
#[derive(Debug, Clone, PartialEq, DeriveSerialize, DeriveDeserialize)]
#[serde(rename_all = "camelCase")]
pub struct DomainMetadata {
    pub domain: String,
    #[serde(default)]
    pub configuration: String,
    /// A tombstone.
    #[serde(default)]
    pub removed: bool,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Marks a checkpoint of the V2 spec.
#[derive(Debug, Clone, PartialEq, DeriveSerialize, DeriveDeserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointMetadata {
    pub version: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A file in `_delta_log/_sidecars` with file actions of a V2 checkpoint.
#[derive(Debug, Clone, PartialEq, DeriveSerialize, DeriveDeserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sidecar {
    /// URI-encoded; a name in `_sidecars`, or a longer path that ends there.
    pub path: String,
    pub size_in_bytes: i64,
    /// Milliseconds since the epoch.
    #[serde(default)]
    pub modification_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Where a commit came from. The protocol lets a writer put any JSON here, so a field of another type than ours is no
/// error: it stays in `rest`.
#[derive(Debug, Clone, PartialEq, Default, DeriveSerialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitInfo {
    /// Milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<i64>,
    /// First among the fields that follow when the table has in-commit timestamps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_commit_timestamp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_parameters: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_metrics: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_version: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation_level: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_blind_append: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_info: Option<String>,
    /// This writer's: unique, and the same each time the same batch is tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_id: Option<String>,
    /// This writer's: the offsets that the commit covers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spans: Option<Vec<CommitSpan>>,
    /// This writer's: records that Kafka gave in these spans, rows and dead letters together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// This writer's: rows and dead letters that these records make, where a record makes several or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elements: Option<u64>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Offsets `[from, to)` of one topic partition.
#[derive(Debug, Clone, PartialEq, Eq, DeriveSerialize, DeriveDeserialize)]
pub struct CommitSpan {
    pub topic: String,
    pub partition: i32,
    pub from: i64,
    pub to: i64,
    /// Of a replay: the dead letter of this one message became so many rows and dead letters of elements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elements: Option<u64>,
}

impl CommitInfo {
    /// A number among the operation's metrics, which Spark writes as text.
    pub fn metric(&self, name: &str) -> Option<u64> {
        match self.operation_metrics.as_ref()?.get(name)? {
            Value::String(text) => text.parse().ok(),
            value => value.as_u64(),
        }
    }
}

impl<'de> Deserialize<'de> for CommitInfo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut rest = Map::deserialize(deserializer)?;
        Ok(CommitInfo {
            timestamp: take(&mut rest, "timestamp"),
            in_commit_timestamp: take(&mut rest, "inCommitTimestamp"),
            operation: take(&mut rest, "operation"),
            operation_parameters: take(&mut rest, "operationParameters"),
            operation_metrics: take(&mut rest, "operationMetrics"),
            read_version: take(&mut rest, "readVersion"),
            isolation_level: take(&mut rest, "isolationLevel"),
            is_blind_append: take(&mut rest, "isBlindAppend"),
            engine_info: take(&mut rest, "engineInfo"),
            commit_id: take(&mut rest, "commitId"),
            spans: take(&mut rest, "spans"),
            records: take(&mut rest, "records"),
            elements: take(&mut rest, "elements"),
            rest,
        })
    }
}

/// A field that is of our type; any other stays where it is.
fn take<T: serde::de::DeserializeOwned>(from: &mut Map<String, Value>, name: &str) -> Option<T> {
    let value = T::deserialize(from.get(name)?).ok()?;
    from.shift_remove(name);
    Some(value)
}

fn yes() -> bool {
    true
}

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Serialize for Action {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_map(Some(1))?;
        match self {
            Action::Add(add) => line.serialize_entry("add", add)?,
            Action::Remove(remove) => line.serialize_entry("remove", remove)?,
            Action::Cdc(cdc) => line.serialize_entry("cdc", cdc)?,
            Action::Metadata(metadata) => line.serialize_entry("metaData", metadata)?,
            Action::Protocol(protocol) => line.serialize_entry("protocol", protocol)?,
            Action::Txn(txn) => line.serialize_entry("txn", txn)?,
            Action::CommitInfo(info) => line.serialize_entry("commitInfo", info)?,
            Action::DomainMetadata(domain) => line.serialize_entry("domainMetadata", domain)?,
            Action::CheckpointMetadata(metadata) => line.serialize_entry("checkpointMetadata", metadata)?,
            Action::Sidecar(sidecar) => line.serialize_entry("sidecar", sidecar)?,
            Action::Unknown(unknown) => {
                for (name, value) in unknown {
                    line.serialize_entry(name, value)?;
                }
            }
        }
        line.end()
    }
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ActionVisitor)
    }
}

struct ActionVisitor;

impl<'de> Visitor<'de> for ActionVisitor {
    type Value = Action;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an action of the Delta log")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut line: A) -> Result<Action, A::Error> {
        let mut known: Option<Action> = None;
        let mut unknown = Map::new();
        while let Some(name) = line.next_key::<String>()? {
            let action = match name.as_str() {
                "add" => line.next_value::<Option<_>>()?.map(Action::Add),
                "remove" => line.next_value::<Option<_>>()?.map(Action::Remove),
                "cdc" => line.next_value::<Option<_>>()?.map(Action::Cdc),
                "metaData" => line.next_value::<Option<_>>()?.map(Action::Metadata),
                "protocol" => line.next_value::<Option<_>>()?.map(Action::Protocol),
                "txn" => line.next_value::<Option<_>>()?.map(Action::Txn),
                "commitInfo" => line.next_value::<Option<_>>()?.map(Action::CommitInfo),
                "domainMetadata" => line.next_value::<Option<_>>()?.map(Action::DomainMetadata),
                "checkpointMetadata" => line.next_value::<Option<_>>()?.map(Action::CheckpointMetadata),
                "sidecar" => line.next_value::<Option<_>>()?.map(Action::Sidecar),
                _ => {
                    unknown.insert(name, line.next_value()?);
                    None
                }
            };
            if let Some(action) = action
                && known.replace(action).is_some()
            {
                return Err(A::Error::custom("one line holds more than one action"));
            }
        }
        Ok(known.unwrap_or(Action::Unknown(unknown)))
    }
}

/// The actions of a commit file, or of a checkpoint in JSON.
pub fn parse_lines(bytes: &[u8]) -> Result<Vec<Action>, serde_json::Error> {
    let lines = bytes.split(|byte| *byte == b'\n');
    let filled = lines.filter(|line| !line.iter().all(u8::is_ascii_whitespace));
    filled.map(serde_json::from_slice).collect()
}

/// One line of JSON per action, as a commit file holds them.
pub fn to_lines<'a>(actions: impl IntoIterator<Item = &'a Action>) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::new();
    for action in actions {
        serde_json::to_writer(&mut bytes, action)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(line: &str) -> Action {
        let action: Action = serde_json::from_str(line).unwrap();
        let back: Value = serde_json::to_value(&action).unwrap();
        assert_eq!(back, serde_json::from_str::<Value>(line).unwrap());
        action
    }

    #[test]
    fn known_actions_keep_fields_they_do_not_know() {
        let add = round_trip(
            r#"{"add":{"path":"a%20b.parquet","partitionValues":{"d":"2026-01-01","n":null},"size":3,"modificationTime":4,
                "dataChange":false,"stats":"{}","tags":{"crc32c":"00"},"baseRowId":7,"defaultRowCommitVersion":8,
                "clusteringProvider":"liquid","deletionVector":{"storageType":"u","pathOrInlineDv":"x","offset":1,
                "sizeInBytes":2,"cardinality":3,"later":true},"later":[1,2]}}"#,
        );
        let Action::Add(add) = add else { panic!("{add:?}") };
        assert_eq!(add.tag("crc32c"), Some("00"));
        assert_eq!(add.rest["later"], serde_json::json!([1, 2]));
        assert_eq!(add.partition_values["n"], None);
        for line in [
            r#"{"remove":{"path":"a","deletionTimestamp":1,"dataChange":true,"x":1}}"#,
            r#"{"cdc":{"path":"_change_data/a","partitionValues":{},"size":1,"dataChange":false}}"#,
            r#"{"metaData":{"id":"i","format":{"provider":"parquet","options":{}},"schemaString":"{}","partitionColumns":[],"configuration":{"k":"v"},"x":{}}}"#,
            r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["a"],"writerFeatures":["a"]}}"#,
            r#"{"txn":{"appId":"a","version":-4,"lastUpdated":5}}"#,
            r#"{"domainMetadata":{"domain":"d","configuration":"{}","removed":false}}"#,
            r#"{"checkpointMetadata":{"version":1,"tags":{"a":"b"}}}"#,
            r#"{"sidecar":{"path":"s.parquet","sizeInBytes":1,"modificationTime":2}}"#,
            r#"{"someday":{"a":[1]},"more":2}"#,
        ] {
            round_trip(line);
        }
    }

    #[test]
    fn a_commit_info_of_any_shape_is_read() {
        let info = round_trip(r#"{"commitInfo":{"operation":7,"spans":"none","records":-1,"commitId":"c","x":null}}"#);
        let Action::CommitInfo(info) = info else {
            panic!("{info:?}")
        };
        assert_eq!((info.operation, info.spans, info.records), (None, None, None));
        assert_eq!(info.commit_id.as_deref(), Some("c"));
        let info = round_trip(
            r#"{"commitInfo":{"operationMetrics":{"numOutputRows":"12","n":3},"spans":[{"topic":"t","partition":0,"from":1,"to":2}]}}"#,
        );
        let Action::CommitInfo(info) = info else {
            panic!("{info:?}")
        };
        assert_eq!(
            (info.metric("numOutputRows"), info.metric("n"), info.metric("x")),
            (Some(12), Some(3), None)
        );
        assert_eq!(info.spans.unwrap().len(), 1);
    }

    #[test]
    fn nulls_beside_an_action_are_passed_over_and_two_actions_refused() {
        let action: Action = serde_json::from_str(r#"{"add":null,"txn":{"appId":"a","version":1}}"#).unwrap();
        assert!(matches!(action, Action::Txn(_)));
        let two = r#"{"txn":{"appId":"a","version":1},"remove":{"path":"p"}}"#;
        assert!(serde_json::from_str::<Action>(two).is_err());
        assert_eq!(parse_lines(b"\n{\"x\":1}\r\n\n").unwrap().len(), 1);
        assert!(parse_lines(b"{\"add\":{}}").is_err());
    }

    #[test]
    fn a_deletion_vector_makes_another_logical_file() {
        let line = |vector: &str| format!(r#"{{"remove":{{"path":"p","dataChange":true{vector}}}}}"#);
        let keys: Vec<FileKey> = [
            "",
            r#","deletionVector":{"storageType":"i","pathOrInlineDv":"x","sizeInBytes":1,"cardinality":1}"#,
        ]
        .iter()
        .map(|vector| match round_trip(&line(vector)) {
            Action::Remove(remove) => remove.key(),
            other => panic!("{other:?}"),
        })
        .collect();
        assert_ne!(keys[0], keys[1]);
    }
}
