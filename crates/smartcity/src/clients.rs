//! What commands open as the settings say: Kafka, the lake, SQL over it.

use std::sync::Arc;

use anyhow::Result;
use kafka::KafkaConfig;
use lake::{Lake, Names, Root};
use model::SystemClock;
use serve::sql::{Engine, EngineSettings, TimeTravel};

use crate::config::Config;
use crate::exit::usage;

/// The cluster that the settings name.
///
/// # Errors
/// All properties that cannot be used.
pub(crate) fn kafka_config(config: &Config) -> Result<KafkaConfig> {
    kafka_config_of(config, &config.kafka.bootstrap_servers)
}

/// The same for another cluster.
pub(crate) fn kafka_config_of(config: &Config, bootstrap_servers: &str) -> Result<KafkaConfig> {
    let kafka = KafkaConfig {
        properties: config.kafka.properties.clone(),
        ..KafkaConfig::new(bootstrap_servers)
    };
    kafka.check()?;
    Ok(kafka)
}

pub(crate) async fn open_lake(config: &Config) -> Result<Lake> {
    let (clock, variables) = (Arc::new(SystemClock), std::env::vars());
    let lake = Lake::at(
        &config.lake.path,
        config.lake.durability,
        variables,
        clock,
        Names::random(),
    )
    .await?;
    Ok(lake.with_parquet_profile(config.parquet.profile))
}

/// SQL over the lake, within the memory that queries may take.
pub(crate) async fn open_engine(config: &Config, time_travel: TimeTravel) -> Result<Engine> {
    let settings = EngineSettings {
        time_travel,
        memory_bytes: config.query.memory_bytes_max,
        ..EngineSettings::default()
    };
    let root = Root::at(&config.lake.path, std::env::vars())?;
    Ok(Engine::on(root, settings).await?)
}

/// The same for a command that needs tables; their names.
pub(crate) async fn open_tables(config: &Config) -> Result<(Engine, Vec<String>)> {
    let engine = open_engine(config, TimeTravel::default()).await?;
    let names = engine.table_names().await?;
    match names.is_empty() {
        true => Err(usage(format!("there are no tables in {}", config.lake.path))),
        false => Ok((engine, names)),
    }
}
