//! `smartcity broker`

use anyhow::Result;
use broker::{Broker, BrokerConfig, SaslConfig, TlsConfig};

use crate::config::{self, Config};
use crate::exit::usage;
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
    let advertised = config.broker.advertised.clone();
    let settings = BrokerConfig {
        advertised: advertised.map(|at| (at.host, at.port)),
        tls: tls(&config.broker.tls)?,
        sasl: sasl(&config.broker.sasl),
        num_partitions: config.broker.partitions,
        retention: Some(config.broker.retention),
        ..BrokerConfig::new(config.broker.listen, &config.broker.data_dir)
    };
    Ok(Broker::start(settings).await?)
}

fn tls(settings: &config::BrokerTls) -> Result<Option<TlsConfig>> {
    match (&settings.certificate_chain, &settings.key) {
        (None, None) => Ok(None),
        (Some(certificate_chain), Some(key)) => Ok(Some(TlsConfig {
            client_auth: settings.client_auth,
            client_ca: settings.client_ca.clone(),
            ..TlsConfig::new(certificate_chain, key)
        })),
        _ => Err(usage("broker.tls needs both certificate_chain and key")),
    }
}

fn sasl(settings: &config::BrokerSasl) -> Option<SaslConfig> {
    let users = settings.users.as_ref()?;
    Some(SaslConfig {
        mechanisms: settings.mechanisms.clone(),
        session_lifetime: Some(settings.session_lifetime).filter(|lifetime| !lifetime.is_zero()),
        ..SaslConfig::new(users)
    })
}
