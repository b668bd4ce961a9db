//! `smartcity broker`

mod user;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ::broker::{Broker, BrokerConfig, SaslConfig};
use anyhow::{Context as _, Result};
use auth::TlsConfig;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use serve::http::{Health, HttpServer, StatusSource};

use crate::args::{display, flags};
use crate::config::{self, BrokerSasl, BrokerTls, Config, Flags, HostPort};
use crate::exit::usage;
use crate::process::{block_on, init_logging, init_metrics, stop_on_signals};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where to keep the topics
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Partitions of a topic whose creator does not say
    #[arg(long, value_name = "N")]
    partitions: Option<u16>,
    /// What a power cut may take: nothing acknowledged (fsync) or what the system had not written yet (os)
    #[arg(long, value_name = "fsync|os")]
    durability: Option<String>,
    /// Where health and metrics are shown [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    http_listen: Option<String>,
    /// What clients are told to connect to, where it is not --listen
    #[arg(long, value_name = "HOST:PORT")]
    advertised: Option<String>,
    /// Certificate chain for TLS, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Private key of the certificate, PEM, readable by its owner alone
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// File of the users who may connect, made by `broker user`
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Let a user in, or change the password: reads it from stdin and prints the lines for the file of users
    User(user::Args),
}

impl Args {
    fn flags(&self) -> Flags {
        flags! {
            "broker.listen" = self.listen,
            "broker.data_dir" = display(&self.data_dir),
            "broker.partitions" = self.partitions,
            "broker.durability" = self.durability,
            "broker.http_listen" = self.http_listen,
            "broker.advertised" = self.advertised,
            "broker.tls.certificate_chain" = display(&self.tls_certificate),
            "broker.tls.key" = display(&self.tls_key),
            "broker.sasl.users" = display(&self.users),
        }
    }
}

pub(crate) fn run(file: Option<&Path>, args: &Args) -> Result<()> {
    match &args.command {
        Some(Command::User(args)) => user::run(args),
        None => serve(&config::load(file, &args.flags())?),
    }
}

fn serve(config: &Config) -> Result<()> {
    init_logging("info");
    block_on(async {
        let stop = stop_on_signals(config.shutdown_timeout)?;
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
    let listen = resolve(&config.broker.listen).await?;
    let advertised = config.broker.advertised.clone();
    let settings = BrokerConfig {
        advertised: advertised.map(|at| (at.host, at.port)),
        tls: tls(&config.broker.tls)?,
        sasl: sasl(&config.broker.sasl),
        num_partitions: config.broker.partitions,
        retention: Some(config.broker.retention),
        durability: config.broker.durability,
        ..BrokerConfig::new(listen, &config.broker.data_dir)
    };
    Ok(Broker::start(settings).await?)
}

/// The address that a host name stands for. Where it stands for several, one that others can reach comes first, so that
/// the broker refuses it if it is open to everyone, and IPv4 comes before IPv6, as clients look.
async fn resolve(listen: &HostPort) -> Result<SocketAddr> {
    let HostPort { host, port } = listen;
    let found = tokio::net::lookup_host((host.as_str(), *port)).await;
    let mut addresses: Vec<_> = found
        .with_context(|| format!("cannot resolve `{host}`, where the broker is to listen"))?
        .collect();
    addresses.sort_by_key(|address| (address.ip().is_loopback(), address.is_ipv6()));
    let first = addresses.first().copied();
    first.with_context(|| format!("`{host}`, where the broker is to listen, has no address"))
}

fn tls(settings: &BrokerTls) -> Result<Option<TlsConfig>> {
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

fn sasl(settings: &BrokerSasl) -> Option<SaslConfig> {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn host_names_are_resolved_and_their_addresses_decide() {
        for (host, is_loopback) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("::1", true),
            ("0.0.0.0", false),
        ] {
            let listen = HostPort {
                host: host.to_owned(),
                port: 9092,
            };
            let address = resolve(&listen).await.unwrap();
            assert_eq!(
                (address.ip().is_loopback(), address.port()),
                (is_loopback, 9092),
                "{host}"
            );
        }
        let listen = HostPort {
            host: "no such host".to_owned(),
            port: 1,
        };
        let error = resolve(&listen).await.unwrap_err();
        assert!(error.to_string().contains("`no such host`"), "{error}");
    }
}
