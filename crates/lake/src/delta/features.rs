//! What a table's features and properties ask of its writers, and whether this one does it (PROTOCOL.md, "Table Features",
//! "Additional Requirements for Writers", "Table Properties").
//!
//! A feature binds only where it is active: supported by the protocol and used by the metadata. What is active and not
//! done here is refused by its name before the first write, with the way out. `docs/design/tables.md` has the table.

use serde_json::Value;

use crate::delta::action::{Metadata, Protocol};
use crate::delta::schema::{StructField, StructType};

/// Table property: rows may only be added.
const APPEND_ONLY: &str = "delta.appendOnly";
/// Table property: changes of rows are written as change data.
const CHANGE_DATA_FEED: &str = "delta.enableChangeDataFeed";
/// Table property: when a checkpoint may leave out an application's transaction, and with it the recorded offset.
const TXN_RETENTION: &str = "delta.setTransactionRetentionDuration";
/// Table property: versions between two checkpoints.
const CHECKPOINT_INTERVAL: &str = "delta.checkpointInterval";

/// A writer feature that the protocol versions 2 to 6 imply: name, and the first version that has it.
const IMPLIED: [(&str, i32); 7] = [
    ("appendOnly", 2),
    ("invariants", 2),
    ("checkConstraints", 3),
    ("changeDataFeed", 4),
    ("generatedColumns", 4),
    ("columnMapping", 5),
    ("identityColumns", 6),
];

/// Features that are done, or that ask nothing of who appends files, replaces files and deletes no log entry. Changes of
/// rows on `appendOnly` and `changeDataFeed` are refused one by one ([`check_rewritable`]).
const DONE: [&str; 8] = [
    "appendOnly",
    "changeDataFeed",
    "checkpointProtection",
    "deletionVectors",
    "domainMetadata",
    "timestampNtz",
    "v2Checkpoint",
    "vacuumProtocolCheck",
];

/// A table as its log describes it, and the writer's columns.
struct Table<'a> {
    metadata: &'a Metadata,
    schema: &'a StructType,
    declared: &'a StructType,
    /// Columns of the metadata domain `delta.clustering`.
    clustered_by: &'a [String],
}

/// A feature that is refused where it is active.
struct Refused {
    name: &'static str,
    what: &'static str,
    /// What of the table makes it active; empty where nothing does.
    uses: fn(&Table<'_>) -> Vec<String>,
    way_out: &'static str,
}

const REFUSED: [Refused; 11] = [
    Refused {
        name: "invariants",
        what: "column invariants, which are not evaluated",
        uses: |table| columns_with(table.schema, "delta.invariants"),
        way_out: "remove `delta.invariants` from the columns' metadata",
    },
    Refused {
        name: "checkConstraints",
        what: "CHECK constraints, which are not evaluated",
        uses: |table| {
            let all = table.metadata.configuration.iter();
            let constraints = all.filter_map(|(key, value)| Some((key.strip_prefix("delta.constraints.")?, value)));
            constraints.map(|(name, value)| format!("{name}: {value}")).collect()
        },
        way_out: "ALTER TABLE ... DROP CONSTRAINT, and declare `min`, `max` or `values` of the field in the stream",
    },
    Refused {
        name: "generatedColumns",
        what: "generated columns, which are not computed",
        uses: |table| columns_with(table.schema, "delta.generationExpression"),
        way_out: "compute the values in a query or view, in a column of its own table",
    },
    Refused {
        name: "identityColumns",
        what: "identity columns, whose numbers are not given",
        uses: |table| columns_with(table.schema, "delta.identity.start"),
        way_out: "drop the columns; `_topic`, `_partition` and `_offset` identify a row",
    },
    Refused {
        name: "allowColumnDefaults",
        what: "default values of columns that the stream does not declare, which are not filled in",
        uses: |table| {
            let undeclared = |column: &String| table.declared.field(column).is_none();
            columns_with(table.schema, "CURRENT_DEFAULT")
                .into_iter()
                .filter(undeclared)
                .collect()
        },
        way_out: "ALTER TABLE ... ALTER COLUMN ... DROP DEFAULT",
    },
    Refused {
        name: "columnMapping",
        what: "column mapping: files are written by the columns' own names",
        uses: |table| property(table, "delta.columnMapping.mode", |mode| mode != "none"),
        way_out: "ALTER TABLE ... SET TBLPROPERTIES ('delta.columnMapping.mode' = 'none'), which rewrites the table",
    },
    Refused {
        name: "rowTracking",
        what: "row tracking: rows get no ids",
        uses: |table| match table.metadata.property("delta.rowTrackingSuspended") {
            Some("true") => Vec::new(),
            _ => vec!["not suspended".to_owned()],
        },
        way_out: "ALTER TABLE ... DROP FEATURE rowTracking, or the property delta.rowTrackingSuspended = true",
    },
    Refused {
        name: "inCommitTimestamp",
        what: "in-commit timestamps, which are not written",
        uses: |table| property(table, "delta.enableInCommitTimestamps", |value| value == "true"),
        way_out: "ALTER TABLE ... SET TBLPROPERTIES ('delta.enableInCommitTimestamps' = 'false')",
    },
    Refused {
        name: "clustering",
        what: "clustering: files may lack statistics of its columns",
        uses: |table| table.clustered_by.to_vec(),
        way_out: "ALTER TABLE ... CLUSTER BY NONE",
    },
    Refused {
        name: "icebergCompatV1",
        what: "Iceberg compatibility, which needs column mapping",
        uses: |table| property(table, "delta.enableIcebergCompatV1", |value| value == "true"),
        way_out: "ALTER TABLE ... SET TBLPROPERTIES ('delta.enableIcebergCompatV1' = 'false')",
    },
    Refused {
        name: "icebergCompatV2",
        what: "Iceberg compatibility, which needs column mapping",
        uses: |table| property(table, "delta.enableIcebergCompatV2", |value| value == "true"),
        way_out: "ALTER TABLE ... SET TBLPROPERTIES ('delta.enableIcebergCompatV2' = 'false')",
    },
];

/// Whether files may be added to the table. `declared` are the writer's columns, `clustered_by` those of the domain
/// `delta.clustering`. The error names every feature in the way, what of the table uses it, and the way out.
pub(crate) fn check_writable(
    protocol: &Protocol,
    metadata: &Metadata,
    schema: &StructType,
    declared: &StructType,
    clustered_by: &[String],
) -> Result<(), String> {
    if !(0..=7).contains(&protocol.min_writer_version) {
        let version = protocol.min_writer_version;
        return Err(format!(
            "it asks for Delta writer version {version}; this version of smartcity knows 1 to 7"
        ));
    }
    let table = Table {
        metadata,
        schema,
        declared,
        clustered_by,
    };
    let refusals: Vec<String> = supported(protocol)
        .into_iter()
        .filter_map(|feature| refusal(feature, &table))
        .collect();
    match refusals.is_empty() {
        // Writers read the log, so what binds readers binds them.
        true => protocol.check_readable(),
        false => Err(refusals.join("; ")),
    }
}

/// Whether rows may be changed or removed.
pub(crate) fn check_rewritable(protocol: &Protocol, metadata: &Metadata) -> Result<(), String> {
    let supported = supported(protocol);
    for (feature, name, why) in [
        ("appendOnly", APPEND_ONLY, "its rows may not be changed or removed"),
        (
            "changeDataFeed",
            CHANGE_DATA_FEED,
            "changes of its rows would have to be written to the change data feed, which is not done",
        ),
    ] {
        if supported.contains(&feature) && is_true(metadata, name) {
            return Err(format!(
                "{name} is true: {why}. To go on, ALTER TABLE ... SET TBLPROPERTIES ('{name}' = 'false')"
            ));
        }
    }
    Ok(())
}

/// Whether checkpoints of other writers may leave out what an application has recorded.
pub(crate) fn lets_txns_expire(metadata: &Metadata) -> bool {
    metadata.property(TXN_RETENTION).is_some()
}

/// Versions between two checkpoints; `None` when the table asks for checkpoints that this program does not write.
pub(crate) fn checkpoint_interval(metadata: &Metadata, default: i64) -> Option<i64> {
    // Our checkpoints have the files' statistics as JSON.
    let as_struct = metadata.property("delta.checkpoint.writeStatsAsStruct") == Some("true");
    let no_json = metadata.property("delta.checkpoint.writeStatsAsJson") == Some("false");
    if as_struct || no_json {
        return None;
    }
    let interval = metadata
        .property(CHECKPOINT_INTERVAL)
        .and_then(|text| text.parse().ok());
    Some(interval.filter(|interval| *interval > 0).unwrap_or(default))
}

/// The names of the writer features that a table supports.
fn supported(protocol: &Protocol) -> Vec<&str> {
    match protocol.min_writer_version {
        7 => protocol.writer_features.iter().flatten().map(String::as_str).collect(),
        version => {
            let implied = IMPLIED.iter().filter(|(_, first)| *first <= version);
            implied.map(|(name, _)| *name).collect()
        }
    }
}

fn refusal(feature: &str, table: &Table<'_>) -> Option<String> {
    if DONE.contains(&feature) {
        return None;
    }
    let Some(refused) = REFUSED.iter().find(|refused| refused.name == feature) else {
        return Some(format!(
            "it has the table feature `{feature}`, which this version of smartcity does not support. To go on, ALTER TABLE \
             ... DROP FEATURE {feature}"
        ));
    };
    let uses = (refused.uses)(table);
    (!uses.is_empty()).then(|| {
        format!(
            "it has {} (table feature `{feature}`, {}). To go on, {}",
            refused.what,
            uses.join(", "),
            refused.way_out
        )
    })
}

fn property(table: &Table<'_>, name: &str, is_active: fn(&str) -> bool) -> Vec<String> {
    let value = table.metadata.property(name).filter(|value| is_active(value));
    value.map(|value| format!("{name} = {value}")).into_iter().collect()
}

fn is_true(metadata: &Metadata, name: &str) -> bool {
    metadata
        .property(name)
        .is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// The names of columns, nested ones too, whose metadata has this key.
fn columns_with(schema: &StructType, key: &str) -> Vec<String> {
    let mut found = Vec::new();
    schema.walk(&mut |field: &StructField| {
        if field.metadata.get(key).is_some_and(|value| !value.is_null()) {
            found.push(field.name.clone());
        }
    });
    found
}

/// The columns that the configuration of the domain `delta.clustering` names. A nested one is a path.
pub(crate) fn clustering_columns(configuration: &str) -> Vec<String> {
    let parsed: Value = serde_json::from_str(configuration).unwrap_or_default();
    let columns = parsed["clusteringColumns"].as_array().into_iter().flatten();
    let name = |column: &Value| match column {
        Value::String(name) => name.clone(),
        Value::Array(path) => path.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("."),
        other => other.to_string(),
    };
    columns.map(name).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    fn protocol(writer: i32, features: &[&str]) -> Protocol {
        let features: Vec<String> = features.iter().map(|name| (*name).to_owned()).collect();
        Protocol {
            min_reader_version: 1,
            min_writer_version: writer,
            reader_features: None,
            writer_features: (writer == 7).then_some(features),
            rest: Map::new(),
        }
    }

    fn metadata(properties: Value) -> Metadata {
        serde_json::from_value(json!({
            "id": "i", "format": {"provider": "parquet", "options": {}}, "schemaString": "{}", "partitionColumns": [],
            "configuration": properties,
        }))
        .unwrap()
    }

    /// A column `a`, which is declared, and `b`, which is not and has this metadata.
    fn check(protocol: &Protocol, properties: Value, of_column: Value, clustered_by: &[&str]) -> Result<(), String> {
        let field =
            |name: &str, metadata: Value| json!({"name": name, "type": "long", "nullable": true, "metadata": metadata});
        let schema = |fields: Vec<Value>| serde_json::from_value(json!({"type": "struct", "fields": fields})).unwrap();
        let clustered_by: Vec<String> = clustered_by.iter().map(|name| (*name).to_owned()).collect();
        check_writable(
            protocol,
            &metadata(properties),
            &schema(vec![field("a", json!({})), field("b", of_column)]),
            &schema(vec![field("a", json!({}))]),
            &clustered_by,
        )
    }

    /// Feature, first version that implies it, properties and column metadata that make it active.
    fn active() -> Vec<(&'static str, Option<i32>, Value, Value)> {
        let none = || json!({});
        vec![
            ("invariants", Some(2), none(), json!({"delta.invariants": "{}"})),
            (
                "checkConstraints",
                Some(3),
                json!({"delta.constraints.fast": "a > 1"}),
                none(),
            ),
            (
                "generatedColumns",
                Some(4),
                none(),
                json!({"delta.generationExpression": "a + 1"}),
            ),
            (
                "columnMapping",
                Some(5),
                json!({"delta.columnMapping.mode": "name"}),
                none(),
            ),
            ("identityColumns", Some(6), none(), json!({"delta.identity.start": 1})),
            ("allowColumnDefaults", None, none(), json!({"CURRENT_DEFAULT": "1"})),
            ("rowTracking", None, none(), none()),
            (
                "inCommitTimestamp",
                None,
                json!({"delta.enableInCommitTimestamps": "true"}),
                none(),
            ),
            (
                "icebergCompatV1",
                None,
                json!({"delta.enableIcebergCompatV1": "true"}),
                none(),
            ),
            (
                "icebergCompatV2",
                None,
                json!({"delta.enableIcebergCompatV2": "true"}),
                none(),
            ),
            ("catalogManaged", None, none(), none()),
            ("materializePartitionColumns", None, none(), none()),
        ]
    }

    #[test]
    fn what_is_active_is_refused_by_name_with_the_way_out() {
        for (feature, implied, properties, of_column) in active() {
            let listed = protocol(7, &["appendOnly", feature]);
            let error = check(&listed, properties.clone(), of_column.clone(), &[]).unwrap_err();
            assert!(error.contains(feature) && error.contains("To go on, "), "{error}");
            if let Some(first) = implied {
                let error = check(&protocol(first, &[]), properties.clone(), of_column.clone(), &[]).unwrap_err();
                assert!(error.contains(feature), "{error}");
                // Before it, and where the feature is not listed, the same words mean nothing.
                assert_eq!(
                    check(&protocol(first - 1, &[]), properties.clone(), of_column.clone(), &[]),
                    Ok(())
                );
                assert_eq!(check(&protocol(7, &[]), properties, of_column, &[]), Ok(()));
            }
        }
        let clustered = protocol(7, &["clustering", "domainMetadata"]);
        let error = check(&clustered, json!({}), json!({}), &["a"]).unwrap_err();
        assert!(
            error.contains("CLUSTER BY NONE") && error.contains("(table feature `clustering`, a)"),
            "{error}"
        );
        // All of them at once.
        let both = json!({"delta.constraints.x": "a > 1", "delta.columnMapping.mode": "id"});
        let error = check(
            &protocol(7, &["checkConstraints", "columnMapping"]),
            both,
            json!({}),
            &[],
        )
        .unwrap_err();
        assert!(
            error.contains("checkConstraints") && error.contains("columnMapping"),
            "{error}"
        );
    }

    #[test]
    fn what_is_supported_and_not_used_is_written() {
        let listed: Vec<&str> = active().iter().map(|(feature, ..)| *feature).collect();
        let harmless = ["rowTracking", "catalogManaged", "materializePartitionColumns"];
        let listed: Vec<&str> = listed.into_iter().filter(|name| !harmless.contains(name)).collect();
        assert_eq!(check(&protocol(7, &listed), json!({}), json!({}), &[]), Ok(()));
        assert_eq!(
            check(&protocol(7, &DONE), json!({"delta.appendOnly": "true"}), json!({}), &[]),
            Ok(())
        );
        let suspended = json!({"delta.rowTrackingSuspended": "true"});
        assert_eq!(
            check(&protocol(7, &["rowTracking", "clustering"]), suspended, json!({}), &[]),
            Ok(())
        );
        for version in 1..=6 {
            assert_eq!(check(&protocol(version, &[]), json!({}), json!({}), &[]), Ok(()));
        }
        let error = check(&protocol(8, &[]), json!({}), json!({}), &[]).unwrap_err();
        assert!(error.contains("writer version 8"), "{error}");
    }

    #[test]
    fn rows_are_changed_only_where_no_property_forbids_it() {
        for (name, feature, first) in [(APPEND_ONLY, "appendOnly", 2), (CHANGE_DATA_FEED, "changeDataFeed", 4)] {
            let set = metadata(json!({ name: "true" }));
            for protocol in [protocol(first, &[]), protocol(7, &[feature])] {
                assert!(check_rewritable(&protocol, &set).unwrap_err().contains(name));
                assert_eq!(check_rewritable(&protocol, &metadata(json!({ name: "false" }))), Ok(()));
            }
            assert_eq!(check_rewritable(&protocol(7, &[]), &set), Ok(()));
        }
    }

    #[test]
    fn checkpoints_are_as_far_apart_as_the_table_says() {
        let interval = |properties| checkpoint_interval(&metadata(properties), 100);
        assert_eq!(interval(json!({})), Some(100));
        assert_eq!(interval(json!({CHECKPOINT_INTERVAL: "10"})), Some(10));
        assert_eq!(interval(json!({CHECKPOINT_INTERVAL: "0"})), Some(100));
        assert_eq!(interval(json!({"delta.checkpoint.writeStatsAsStruct": "true"})), None);
        assert_eq!(interval(json!({"delta.checkpoint.writeStatsAsJson": "false"})), None);
    }

    #[test]
    fn clustering_columns_are_read_from_their_domain() {
        let text = r#"{"clusteringColumns":[["a"],["b","c"]],"domainName":"delta.clustering"}"#;
        assert_eq!(clustering_columns(text), ["a", "b.c"]);
        assert_eq!(clustering_columns(r#"{"clusteringColumns":["x"]}"#), ["x"]);
        assert_eq!(clustering_columns("{}"), [""; 0]);
    }
}
