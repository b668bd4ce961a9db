//! `smartcity broker`

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use auth::TlsConfig;
use broker::{Broker, BrokerConfig, SaslConfig};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use serve::http::{Health, HttpServer, StatusSource};

use crate::config::{self, Config};
use crate::exit::usage;
use crate::wiring::{block_on, init_logging, init_metrics, stop_on_signals};

pub(crate) fn run(config: &Config) -> Result<()> {
    init_logging("info");
    block_on(async {
        let stop = stop_on_signals()?;
        let metrics = config.broker.http_listen.map(|_| init_metrics()).transpose()?;
        let broker = Arc::new(start(config).await?);
        eprintln!(
            "kafka broker at {}, topics in {}",
            broker.address(),
            config.broker.data_dir.display()
        );
        let http = match config.broker.http_listen.zip(metrics) {
            Some((address, metrics)) => {
                let status = Arc::new(BrokerStatus {
                    broker: Arc::clone(&broker),
                    metrics,
                    started: Instant::now(),
                });
                let http = HttpServer::start(address, status).await?;
                eprintln!("metrics at http://{}/metrics", http.address());
                Some(http)
            }
            None => None,
        };
        eprintln!("one node for laptops, tests and edge boxes; Ctrl-C ends it");
        stop.cancelled().await;
        if let Some(http) = http {
            http.shutdown().await;
        }
        match Arc::into_inner(broker) {
            Some(broker) => Ok(broker.shutdown().await?),
            // An HTTP request is still being answered: what is acknowledged is in the files all the same.
            None => Ok(()),
        }
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
        flush: config.broker.flush,
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

/// The broker as HTTP shows it.
struct BrokerStatus {
    broker: Arc<Broker>,
    metrics: PrometheusHandle,
    started: Instant,
}

impl StatusSource for BrokerStatus {
    fn progress(&self) -> Value {
        json!({ "address": self.broker.address().to_string(), "uptime_seconds": self.started.elapsed().as_secs() })
    }

    fn health(&self) -> Health {
        match self.broker.storage_error() {
            None => Health::Well(json!({ "uptime_seconds": self.started.elapsed().as_secs() })),
            Some(error) => Health::Unwell(format!("records cannot be written: {error}")),
        }
    }

    fn metrics(&self) -> String {
        self.metrics.render()
    }
}
