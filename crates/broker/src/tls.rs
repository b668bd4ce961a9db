//! TLS 1.2 and 1.3 on the listener, with or without certificates of clients.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BufMut;
use parking_lot::RwLock;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{DEFAULT_VERSIONS, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::auth::read_private;
use crate::error::{AtPath as _, BrokerError};
use crate::reload::Stamp;

/// A client that has connected must have agreed by then.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether clients show a certificate (`ssl.client.auth`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// One that is shown has to be good.
    Requested,
    /// Without a good one there is no connection.
    Required,
}

impl FromStr for ClientAuth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(ClientAuth::None),
            "requested" => Ok(ClientAuth::Requested),
            "required" => Ok(ClientAuth::Required),
            _ => Err(format!("`{text}` must be none, requested or required")),
        }
    }
}

/// Files of the listener's certificate, all PEM. They are read again when they change.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// The certificate, then those between it and the root.
    pub certificate_chain: PathBuf,
    /// Its private key, not encrypted; nobody else may read the file.
    pub key: PathBuf,
    /// Roots of clients' certificates.
    pub client_ca: Option<PathBuf>,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
}

impl TlsConfig {
    /// Clients are not asked for certificates.
    pub fn new(certificate_chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            certificate_chain: certificate_chain.into(),
            key: key.into(),
            client_ca: None,
            client_auth: ClientAuth::None,
        }
    }
}

/// A client's connection, encrypted or not.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(crate) async fn read_buf(&mut self, buffer: &mut impl BufMut) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read_buf(buffer).await,
            Stream::Tls(stream) => stream.read_buf(buffer).await,
        }
    }
}

/// The broker's side of TLS.
#[derive(Debug)]
pub(crate) struct Tls {
    config: TlsConfig,
    server: RwLock<Arc<ServerConfig>>,
    stamp: Stamp,
}

impl Tls {
    pub(crate) fn open(config: &TlsConfig) -> Result<Self, BrokerError> {
        let files = [&config.certificate_chain, &config.key];
        let stamp = Stamp::new(files.into_iter().chain(&config.client_ca));
        Ok(Self {
            config: config.clone(),
            server: RwLock::new(Arc::new(server_config(config)?)),
            stamp,
        })
    }

    /// Reads the files again when one has changed; connections that are open keep what they have.
    pub(crate) fn reload(&self) {
        if !self.stamp.changed() {
            return;
        }
        match server_config(&self.config) {
            Ok(server) => {
                tracing::info!("certificates read again");
                *self.server.write() = Arc::new(server);
            }
            Err(error) => tracing::warn!(%error, "certificates cannot be read again; those of before stay"),
        }
    }

    /// Agrees with a client. The error is for the log.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Result<Stream, String> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.server.read()));
        let accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
        let accepted = match accepted {
            Ok(Ok(stream)) => return Ok(Stream::Tls(Box::new(stream))),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not done within {HANDSHAKE_TIMEOUT:?}"),
        };
        metrics::counter!("smartcity_broker_tls_handshake_failures").increment(1);
        Err(format!("TLS handshake failed: {accepted}"))
    }
}

fn server_config(config: &TlsConfig) -> Result<ServerConfig, BrokerError> {
    let fault = |path: &Path, reason: String| BrokerError::Tls {
        path: path.to_path_buf(),
        reason,
    };
    let chain = certificates(&config.certificate_chain)?;
    let key = read_private(&config.key)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| {
        let reason = "it holds no private key in PEM (PKCS#8, PKCS#1 or SEC1, not encrypted)";
        fault(&config.key, reason.to_owned())
    })?;
    // Named, because other crates of the program may bring a second provider.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = match (&config.client_ca, config.client_auth) {
        (_, ClientAuth::None) => None,
        (Some(path), _) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| fault(path, error.to_string()))?;
            }
            Some((path, roots))
        }
        (None, _) => {
            return Err(BrokerError::Config {
                name: "tls.client_ca",
                reason: "must name the roots of clients' certificates when tls.client_auth asks for them".to_owned(),
            });
        }
    };
    let verifier = match roots {
        None => WebPkiClientVerifier::no_client_auth(),
        Some((path, roots)) => {
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            let builder = match config.client_auth {
                ClientAuth::Required => builder,
                _ => builder.allow_unauthenticated(),
            };
            builder.build().map_err(|error| fault(path, error.to_string()))?
        }
    };
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(DEFAULT_VERSIONS)
        .map(|builder| builder.with_client_cert_verifier(verifier))
        .and_then(|builder| builder.with_single_cert(chain, key))
        .map_err(|error| fault(&config.certificate_chain, error.to_string()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, BrokerError> {
    let pem = fs::read(path).at("read", path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(BrokerError::Tls {
            path: path.to_path_buf(),
            reason: "it holds no certificates in PEM".to_owned(),
        }),
    }
}
