//! What commands open as the settings say: Kafka, the lake, SQL over it.

use std::sync::Arc;

use anyhow::Result;
use kafka::KafkaConfig;
use lake::{Lake, Names};
use model::SystemClock;
use serve::sql::{Engine, EngineSettings, TimeTravel};

use crate::config::Config;
use crate::exit::usage;

pub(crate) fn kafka_config(config: &Config) -> KafkaConfig {
    KafkaConfig {
        properties: config.kafka.properties.clone(),
        ..KafkaConfig::new(&config.kafka.bootstrap_servers)
    }
}

pub(crate) async fn open_lake(config: &Config) -> Result<Lake> {
    let lake = Lake::open(&config.lake.path, Arc::new(SystemClock), Names::random()).await?;
    Ok(lake.with_parquet_profile(config.parquet.profile))
}

/// SQL over the lake, within the memory that queries may take.
pub(crate) async fn open_engine(config: &Config, time_travel: TimeTravel) -> Result<Engine> {
    let settings = EngineSettings {
        time_travel,
        memory_bytes: config.query.memory_bytes_max,
        ..EngineSettings::default()
    };
    Ok(Engine::open_with(&config.lake.path, settings).await?)
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
