//! Who may ask: SASL with PLAIN and SCRAM, as Kafka's clients speak it (KIP-43, KIP-84, KIP-152, KIP-368).
//!
//! A connection begins with at most ApiVersions, then SaslHandshake names a mechanism, then tokens go back and forth;
//! only then is any other request taken. Whatever else is asked before ends the connection, as Kafka does it. A refused
//! client cannot tell a user that does not exist from a wrong password: not by the message, not by where the
//! conversation ends, not by the work it takes.
//!
//! After version 0 of the handshake the tokens come without a request around them. librdkafka, kafka-python and the Java
//! client of today do not need it, but Go clients built on older versions of Sarama do, and Kafka 4 still takes it.

mod scram;
mod users;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    ApiKey, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::StrBytes;
use parking_lot::RwLock;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::config::Entropy;
use crate::error::BrokerError;
use crate::reload::Stamp;

pub use users::{read_private, replace_user, user_entries};

use scram::{ClientFirst, Conversation, Credential, Hash, NONCE_BYTES};
use users::Users;

/// A new connection has to be let in by then.
pub(crate) const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(30);
/// What is waited before a failure is told, so that guessing is slow (`connection.failed.authentication.delay.ms`).
pub(crate) const FAILURE_DELAY: Duration = Duration::from_millis(100);
/// Largest frame of a client that has not been let in, in bytes.
pub(crate) const FRAME_BYTES_MAX: usize = 16 << 10;
/// A session is renewed at most this often (KIP-368).
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);
/// Passwords being hashed at one time; further ones wait.
const CHECKS_MAX: usize = 2;

/// A way to prove who one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// The password itself (RFC 4616): over TLS, or on the loopback.
    Plain,
    /// Proof of the password by HMAC-SHA-256 (RFC 7677).
    ScramSha256,
    /// Proof of the password by HMAC-SHA-512.
    ScramSha512,
}

impl Mechanism {
    /// All that there are.
    pub const ALL: [Mechanism; 3] = [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512];

    /// As SASL registers it.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl FromStr for Mechanism {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|mechanism| mechanism.name() == text);
        known.ok_or_else(|| format!("`{text}` is no mechanism; there are PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512"))
    }
}

/// Who may connect.
#[derive(Debug, Clone)]
pub struct SaslConfig {
    /// The file of users, made with [`user_entries`]; it is read again when it changes.
    pub users: PathBuf,
    /// What clients may choose from.
    pub mechanisms: Vec<Mechanism>,
    /// Clients have to prove themselves again after this long (`connections.max.reauth.ms`); `None` asks once.
    pub session_lifetime: Option<Duration>,
}

impl SaslConfig {
    /// Every mechanism, and sessions that last as long as their connection.
    pub fn new(users: impl Into<PathBuf>) -> Self {
        Self {
            users: users.into(),
            mechanisms: Mechanism::ALL.to_vec(),
            session_lifetime: None,
        }
    }
}

/// Why a client was not let in. Never holds what the client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Credentials,
    OtherAuthorization,
    OtherUser,
    OtherMechanism,
    NonceTwice,
    Malformed(&'static str),
}

impl Failure {
    /// What the client is told, in Kafka's words: the same for a wrong password, an unknown user and a broken token.
    fn told(self, mechanism: Mechanism, again: bool) -> String {
        let during = if again { "re-authentication" } else { "authentication" };
        match self {
            Failure::Credentials if mechanism == Mechanism::Plain => {
                "Authentication failed: Invalid username or password".to_owned()
            }
            Failure::Credentials | Failure::NonceTwice | Failure::Malformed(_) => format!(
                "Authentication failed during {during} due to invalid credentials with SASL mechanism {}",
                mechanism.name()
            ),
            Failure::OtherAuthorization => {
                "Authentication failed: Client requested an authorization id that is different from username".to_owned()
            }
            Failure::OtherUser => "Cannot change principals during re-authentication".to_owned(),
            Failure::OtherMechanism => format!(
                "SASL mechanism '{}' requested by client is not supported for re-authentication with another one",
                mechanism.name()
            ),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Credentials => f.write_str("unknown user or wrong password"),
            Failure::OtherAuthorization => f.write_str("asked to act for another user"),
            Failure::OtherUser => f.write_str("another user than before"),
            Failure::OtherMechanism => f.write_str("another mechanism than before"),
            Failure::NonceTwice => f.write_str(
                "the client repeats its nonce, as librdkafka before 2.6.1 does and Kafka 4 refuses: use PLAIN or a newer one",
            ),
            Failure::Malformed(what) => write!(f, "{what} cannot be read"),
        }
    }
}

/// The broker's side: users and what is asked of them.
#[derive(Debug)]
pub(crate) struct Sasl {
    config: SaslConfig,
    users: RwLock<Arc<Users>>,
    stamp: Stamp,
    entropy: Arc<dyn Entropy>,
    checks: Semaphore,
}

impl Sasl {
    pub(crate) fn open(config: &SaslConfig, entropy: &Arc<dyn Entropy>) -> Result<Self, BrokerError> {
        let stamp = Stamp::new([&config.users]);
        let users = Users::read(&config.users)?;
        tracing::info!(file = %config.users.display(), users = users.len(), "users read");
        Ok(Self {
            config: config.clone(),
            users: RwLock::new(Arc::new(users)),
            stamp,
            entropy: Arc::clone(entropy),
            checks: Semaphore::new(CHECKS_MAX),
        })
    }

    /// Reads the users again when their file has changed; those of before stay when it cannot be read.
    pub(crate) fn reload(&self) {
        if !self.stamp.changed() {
            return;
        }
        let file = self.config.users.display();
        match Users::read(&self.config.users) {
            Ok(users) => {
                tracing::info!(%file, users = users.len(), "users read again");
                *self.users.write() = Arc::new(users);
            }
            Err(error) => tracing::warn!(%file, %error, "users cannot be read again; those of before stay"),
        }
    }

    fn mechanism(&self, name: &str) -> Option<Mechanism> {
        let enabled = self.config.mechanisms.iter().copied();
        enabled.into_iter().find(|mechanism| mechanism.name() == name)
    }

    fn users(&self) -> Arc<Users> {
        Arc::clone(&self.users.read())
    }
}

/// How far a connection has come.
#[derive(Debug)]
pub(crate) struct Session {
    stage: Stage,
    identity: Option<Identity>,
    deadline: Instant,
}

#[derive(Debug)]
enum Stage {
    /// Let in, or everyone is.
    Open,
    /// Nothing has been said.
    Start,
    /// ApiVersions has been answered.
    Versions,
    /// A mechanism has been agreed on.
    Tokens {
        mechanism: Mechanism,
        /// Whether tokens come in SaslAuthenticate requests.
        framed: bool,
        exchange: Exchange,
    },
}

#[derive(Debug)]
enum Exchange {
    Plain,
    ScramFirst(Hash),
    ScramFinal(Box<Conversation>),
    Refused(Failure),
}

#[derive(Debug)]
struct Identity {
    user: String,
    mechanism: Mechanism,
    expires: Option<Instant>,
    renewed: Option<Instant>,
}

/// What a token led to.
enum Step {
    Next(Vec<u8>, Exchange),
    Done(Vec<u8>, String),
}

/// The end of a connection: why, for the log.
pub(crate) type Closing = Option<String>;

impl Session {
    pub(crate) fn new(sasl: Option<&Sasl>) -> Self {
        Self {
            stage: if sasl.is_some() { Stage::Start } else { Stage::Open },
            identity: None,
            deadline: Instant::now() + AUTHENTICATION_TIMEOUT,
        }
    }

    /// When a connection that has not been let in is given up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let waiting = self.identity.is_none() && !matches!(self.stage, Stage::Open);
        waiting.then_some(self.deadline)
    }

    /// Whether the next frame is a token and no request.
    pub(crate) fn expects_raw_token(&self) -> bool {
        matches!(self.stage, Stage::Tokens { framed: false, .. })
    }

    /// Whether this request may be answered now; if not, why the connection ends.
    pub(crate) fn admit(&mut self, api_key: ApiKey) -> Result<(), String> {
        match (&self.stage, api_key) {
            (Stage::Open, ApiKey::SaslHandshake) => Ok(()),
            (Stage::Open, _) => {
                let expires = self.identity.as_ref().and_then(|identity| identity.expires);
                if expires.is_some_and(|expires| expires < Instant::now()) {
                    return Err("the session has expired and was not renewed".to_owned());
                }
                Ok(())
            }
            (Stage::Start, ApiKey::ApiVersions) => {
                self.stage = Stage::Versions;
                Ok(())
            }
            (Stage::Start | Stage::Versions, ApiKey::SaslHandshake) => Ok(()),
            (Stage::Tokens { .. }, ApiKey::SaslAuthenticate) => Ok(()),
            (..) => Err(format!("{api_key:?} was asked where authentication is due")),
        }
    }

    pub(crate) fn handshake(
        &mut self,
        sasl: Option<&Sasl>,
        version: i16,
        request: &SaslHandshakeRequest,
    ) -> (SaslHandshakeResponse, Closing) {
        let again = match (&self.stage, &mut self.identity) {
            (Stage::Open, Some(identity)) => identity.may_renew(),
            (stage, _) => !matches!(stage, Stage::Open),
        };
        let Some(sasl) = sasl.filter(|_| again) else {
            let answer = SaslHandshakeResponse::default().with_error_code(ResponseError::IllegalSaslState.code());
            return (answer, None);
        };
        let mechanisms = sasl.config.mechanisms.iter();
        let mechanisms = mechanisms.map(|mechanism| StrBytes::from_static_str(mechanism.name()));
        let answer = SaslHandshakeResponse::default().with_mechanisms(mechanisms.collect());
        let Some(mechanism) = sasl.mechanism(&request.mechanism) else {
            count("other", "unsupported");
            let answer = answer.with_error_code(ResponseError::UnsupportedSaslMechanism.code());
            return (answer, Some("a mechanism was asked for that is not enabled".to_owned()));
        };
        let changed = self
            .identity
            .as_ref()
            .is_some_and(|before| before.mechanism != mechanism);
        let exchange = match mechanism {
            _ if changed => Exchange::Refused(Failure::OtherMechanism),
            Mechanism::Plain => Exchange::Plain,
            Mechanism::ScramSha256 => Exchange::ScramFirst(Hash::Sha256),
            Mechanism::ScramSha512 => Exchange::ScramFirst(Hash::Sha512),
        };
        self.stage = Stage::Tokens {
            mechanism,
            framed: version >= 1,
            exchange,
        };
        (answer, None)
    }

    pub(crate) async fn authenticate(
        &mut self,
        sasl: Option<&Sasl>,
        request: SaslAuthenticateRequest,
    ) -> (SaslAuthenticateResponse, Closing) {
        // Without an error the message is empty and not null, as Kafka has it.
        let answer = SaslAuthenticateResponse::default().with_error_message(Some(StrBytes::default()));
        let text = |text: String| Some(StrBytes::from_string(text));
        let Some(sasl) = sasl.filter(|_| matches!(self.stage, Stage::Tokens { .. })) else {
            let told = "SaslAuthenticate request received after successful authentication".to_owned();
            let answer = answer.with_error_code(ResponseError::IllegalSaslState.code());
            return (answer.with_error_message(text(told)), None);
        };
        match self.token(sasl, &request.auth_bytes).await {
            Ok(token) => {
                let lifetime = sasl
                    .config
                    .session_lifetime
                    .filter(|_| matches!(self.stage, Stage::Open));
                let lifetime_ms = lifetime.map_or(0, |lifetime| lifetime.as_millis() as i64);
                (
                    answer
                        .with_auth_bytes(token.into())
                        .with_session_lifetime_ms(lifetime_ms),
                    None,
                )
            }
            Err((told, reason)) => {
                let answer = answer.with_error_code(ResponseError::SaslAuthenticationFailed.code());
                (answer.with_error_message(text(told)), Some(reason))
            }
        }
    }

    /// A token that came by itself: the token to send back, or why the connection ends.
    pub(crate) async fn raw_token(&mut self, sasl: Option<&Sasl>, token: &Bytes) -> Result<Vec<u8>, String> {
        let sasl = sasl.ok_or_else(|| "a token without SASL".to_owned())?;
        self.token(sasl, token).await.map_err(|(_, reason)| reason)
    }

    /// The error is what the client is told, and why for the log.
    async fn token(&mut self, sasl: &Sasl, token: &[u8]) -> Result<Vec<u8>, (String, String)> {
        let Stage::Tokens {
            mechanism,
            framed,
            exchange,
        } = std::mem::replace(&mut self.stage, Stage::Versions)
        else {
            return Err((String::new(), "a token before a handshake".to_owned()));
        };
        let again = self.identity.is_some();
        let step = sasl.step(exchange, token).await;
        let step = step.and_then(|step| match (&step, &self.identity) {
            (Step::Done(_, user), Some(before)) if *user != before.user => Err(Failure::OtherUser),
            _ => Ok(step),
        });
        match step {
            Ok(Step::Next(token, exchange)) => {
                self.stage = Stage::Tokens {
                    mechanism,
                    framed,
                    exchange,
                };
                Ok(token)
            }
            Ok(Step::Done(token, user)) => {
                count(mechanism.name(), "accepted");
                tracing::debug!(user, mechanism = mechanism.name(), again, "authenticated");
                let now = Instant::now();
                self.stage = Stage::Open;
                self.identity = Some(Identity {
                    user,
                    mechanism,
                    expires: sasl.config.session_lifetime.map(|lifetime| now + lifetime),
                    renewed: again.then_some(now),
                });
                Ok(token)
            }
            Err(failure) => {
                count(mechanism.name(), "refused");
                let reason = format!("authentication by {} failed: {failure}", mechanism.name());
                Err((failure.told(mechanism, again), reason))
            }
        }
    }
}

impl Identity {
    fn may_renew(&self) -> bool {
        self.expires.is_some() && self.renewed.is_none_or(|renewed| renewed.elapsed() >= RENEWAL_INTERVAL)
    }
}

impl Sasl {
    async fn step(&self, exchange: Exchange, token: &[u8]) -> Result<Step, Failure> {
        match exchange {
            Exchange::Refused(failure) => Err(failure),
            Exchange::Plain => {
                let (user, password) = plain(token)?;
                let credential = self.users().any_credential(user);
                self.check(credential, password).await?;
                Ok(Step::Done(Vec::new(), user.to_owned()))
            }
            Exchange::ScramFirst(hash) => {
                let first = ClientFirst::parse(token)?;
                let credential = self.users().credential(&first.user, hash);
                let mut nonce = [0; NONCE_BYTES];
                self.entropy.fill(&mut nonce);
                let (conversation, token) = Conversation::begin(first, credential, &nonce);
                Ok(Step::Next(token, Exchange::ScramFinal(Box::new(conversation))))
            }
            Exchange::ScramFinal(conversation) => {
                let token = conversation.finish(token)?;
                Ok(Step::Done(token, conversation.user().to_owned()))
            }
        }
    }

    /// Hashing is made to be slow: off the threads that answer requests, and few at a time.
    async fn check(&self, credential: Credential, password: &str) -> Result<(), Failure> {
        let password = password.to_owned();
        let _permit = self.checks.acquire().await.map_err(|_| Failure::Credentials)?;
        let fits = tokio::task::spawn_blocking(move || credential.fits(password.as_bytes())).await;
        if fits.unwrap_or(false) {
            Ok(())
        } else {
            Err(Failure::Credentials)
        }
    }
}

/// User and password of a PLAIN token (RFC 4616).
fn plain(token: &[u8]) -> Result<(&str, &str), Failure> {
    let bad = || Failure::Malformed("the PLAIN token");
    let text = std::str::from_utf8(token).map_err(|_| bad())?;
    let parts: Vec<&str> = text.split('\0').collect();
    match parts[..] {
        [_, "", _] | [_, _, ""] => Err(bad()),
        [authorization, user, _] if !authorization.is_empty() && authorization != user => {
            Err(Failure::OtherAuthorization)
        }
        [_, user, password] => Ok((user, password)),
        _ => Err(bad()),
    }
}

fn count(mechanism: &'static str, outcome: &'static str) {
    metrics::counter!("smartcity_broker_authentications", "mechanism" => mechanism, "outcome" => outcome).increment(1);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn plain_tokens_are_three_parts() {
        assert_eq!(plain(b"\0me\0pw").unwrap(), ("me", "pw"));
        assert_eq!(plain(b"me\0me\0pw").unwrap(), ("me", "pw"));
        assert_eq!(plain(b"you\0me\0pw"), Err(Failure::OtherAuthorization));
        for bad in [
            &b""[..],
            b"\0",
            b"\0me",
            b"\0\0pw",
            b"\0me\0",
            b"\0me\0pw\0",
            b"\0me\0\xff",
        ] {
            assert!(matches!(plain(bad), Err(Failure::Malformed(_))), "{bad:?}");
        }
    }

    #[test]
    fn what_a_client_is_told_names_no_cause() {
        for mechanism in [Mechanism::ScramSha256, Mechanism::ScramSha512] {
            assert_eq!(
                Failure::Credentials.told(mechanism, false),
                Failure::Malformed("x").told(mechanism, false)
            );
        }
    }
}
