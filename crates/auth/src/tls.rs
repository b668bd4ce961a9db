//! TLS 1.2 and 1.3 for a server, with or without certificates of clients, from PEM files.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{DEFAULT_VERSIONS, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::error::AuthError;
use crate::reload::Reloaded;
use crate::secret_file::{read_private, read_public};

/// A client that has connected must have agreed by then.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether clients show a certificate (Kafka's `ssl.client.auth`).
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

/// Files of a server's certificate, all PEM. They are read again when they change.
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

/// Why a client's handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client wants something else, or its certificate is not good.
    #[error("TLS handshake failed: {0}")]
    Refused(io::Error),
    /// The client said nothing, or not enough.
    #[error("TLS handshake failed: not done within {HANDSHAKE_TIMEOUT:?}")]
    TimedOut,
}

/// The server's side of TLS.
pub struct TlsServer {
    config: TlsConfig,
    server: Reloaded<ServerConfig>,
}

/// The files, never what is in them.
impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl TlsServer {
    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be read, others may read the key, or what they hold does not make a server.
    pub fn open(config: &TlsConfig) -> Result<Self, AuthError> {
        let files = [&config.certificate_chain, &config.key];
        let files = files.into_iter().chain(&config.client_ca).cloned().collect();
        Ok(Self {
            config: config.clone(),
            server: Reloaded::open(files, || server_config(config))?,
        })
    }

    /// Reads the files again when one has changed; open connections keep what they have, and the former certificates
    /// stay when the new ones cannot be used. To be called now and then, off the threads that serve connections.
    pub fn reload(&self) {
        match self.server.reload(|| server_config(&self.config)) {
            None => {}
            Some(Ok(_)) => {
                tracing::info!(certificate = %self.config.certificate_chain.display(), "certificates read again");
            }
            Some(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "certificates cannot be read again; the former ones stay"
                );
            }
        }
    }

    /// Agrees with a client, within 10 s.
    ///
    /// # Errors
    /// The client is not let in.
    pub async fn accept<C>(&self, connection: C) -> Result<TlsStream<C>, HandshakeError>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.server.current());
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(connection)).await {
            Ok(accepted) => accepted.map_err(HandshakeError::Refused),
            Err(_) => Err(HandshakeError::TimedOut),
        }
    }
}

fn server_config(config: &TlsConfig) -> Result<ServerConfig, AuthError> {
    let fault = |path: &Path, reason: String| AuthError::Tls {
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
    let provider = Arc::new(ring::default_provider());
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
            return Err(AuthError::Setting {
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

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthError> {
    let pem = read_public(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(AuthError::Tls {
            path: path.to_path_buf(),
            reason: "it holds no certificates in PEM".to_owned(),
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use tempfile::TempDir;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::ClientConfig;
    use tokio_rustls::rustls::pki_types::ServerName;

    use super::*;

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// Writes `server.pem` and `server.key`; gives the key's text.
    fn certify(dir: &Path, authority: &CertifiedIssuer<'static, KeyPair>) -> String {
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        fs::write(dir.join("server.pem"), params.signed_by(&key, authority).unwrap().pem()).unwrap();
        fs::write(dir.join("server.key"), key.serialize_pem()).unwrap();
        fs::set_permissions(dir.join("server.key"), Permissions::from_mode(0o600)).unwrap();
        key.serialize_pem()
    }

    fn open(dir: &Path) -> TlsServer {
        TlsServer::open(&TlsConfig::new(dir.join("server.pem"), dir.join("server.key"))).unwrap()
    }

    /// Whether a client that trusts this authority gets through.
    async fn connects(server: &TlsServer, authority: &CertifiedIssuer<'static, KeyPair>) -> bool {
        let mut roots = RootCertStore::empty();
        let pem = authority.pem();
        roots
            .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
            .unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(DEFAULT_VERSIONS)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (near, far) = tokio::io::duplex(1 << 16);
        let connector = TlsConnector::from(Arc::new(client));
        let connected = connector.connect(ServerName::try_from("localhost").unwrap(), near);
        let (connected, accepted) = tokio::join!(connected, server.accept(far));
        connected.is_ok() && accepted.is_ok()
    }

    #[test]
    fn certificates_are_read_again_when_they_change_and_stay_when_they_are_broken() {
        let (dir, old, new) = (TempDir::new().unwrap(), authority(), authority());
        certify(dir.path(), &old);
        let server = open(dir.path());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            assert!(connects(&server, &old).await && !connects(&server, &new).await);
            certify(dir.path(), &new);
            server.reload();
            assert!(connects(&server, &new).await && !connects(&server, &old).await);
            fs::write(dir.path().join("server.pem"), "no certificate").unwrap();
            server.reload();
            assert!(connects(&server, &new).await);
        });
    }

    #[test]
    fn no_key_is_shown() {
        let (dir, authority) = (TempDir::new().unwrap(), authority());
        let key = certify(dir.path(), &authority);
        let mut shown = format!("{:?}", open(dir.path()));
        fs::write(dir.path().join("server.pem"), &key).unwrap();
        let error = TlsServer::open(&TlsConfig::new(
            dir.path().join("server.pem"),
            dir.path().join("server.key"),
        ));
        let error = error.unwrap_err();
        shown += &format!("{error} {error:?}");
        assert!(
            shown.contains("server.key") && shown.contains("no certificates"),
            "{shown}"
        );
        for line in key.lines().filter(|line| !line.starts_with("---")) {
            assert!(!shown.contains(line), "{shown}");
        }
    }
}
