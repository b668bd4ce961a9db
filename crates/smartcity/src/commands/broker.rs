//! `smartcity broker`

use anyhow::Result;
use broker::{Broker, BrokerConfig};

use crate::config::Config;
use crate::wiring::{block_on, init_logging, stop_on_signals};

pub(crate) fn run(config: &Config) -> Result<()> {
    init_logging("info");
    block_on(async {
        let stop = stop_on_signals()?;
        let broker = start(config).await?;
        eprintln!(
            "kafka broker at {}, topics in {}",
            broker.address(),
            config.broker.data_dir.display()
        );
        eprintln!("one node for laptops, tests and edge boxes; Ctrl-C ends it");
        stop.cancelled().await;
        Ok(broker.shutdown().await?)
    })
}

pub(crate) async fn start(config: &Config) -> Result<Broker> {
    let settings = BrokerConfig {
        num_partitions: config.broker.partitions,
        retention: Some(config.broker.retention),
        ..BrokerConfig::new(config.broker.listen, &config.broker.data_dir)
    };
    Ok(Broker::start(settings).await?)
}
