//! Who may ask: SASL as Kafka's clients frame it (KIP-43, KIP-84, KIP-152, KIP-368); the mechanisms are `auth`'s.
//!
//! A connection begins with at most ApiVersions, then SaslHandshake names a mechanism, then tokens go back and forth;
//! only then is any other request taken. Whatever else is asked before ends the connection, as Kafka does it. A refused
//! client cannot tell a user that does not exist from a wrong password: not by the message, not by where the
//! conversation ends, not by the work it takes.
//!
//! After version 0 of the handshake the tokens come without a request around them. librdkafka, kafka-python and the Java
//! client of today do not need it, but Go clients built on older versions of Sarama do, and Kafka 4 still takes it.

mod refusal;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use auth::{Authenticator, Entropy, Exchange, Mechanism, Step};
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    ApiKey, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use crate::error::BrokerError;

use refusal::Refusal;

/// A new connection has to be let in by then.
pub(crate) const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(30);
/// What is waited before a failure is told, so that guessing is slow (`connection.failed.authentication.delay.ms`).
pub(crate) const FAILURE_DELAY: Duration = Duration::from_millis(100);
/// Largest frame of a client that has not been let in, in bytes.
pub(crate) const FRAME_BYTES_MAX: usize = 16 << 10;
/// A session is renewed at most this often (KIP-368).
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);

/// Who may connect.
#[derive(Debug, Clone)]
pub struct SaslConfig {
    /// The file of users, made with [`auth::user_entries`]; it is read again when it changes.
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

/// The broker's side: users and what is asked of them.
#[derive(Debug)]
pub(crate) struct Sasl {
    mechanisms: Vec<Mechanism>,
    session_lifetime: Option<Duration>,
    authenticator: Authenticator,
}

impl Sasl {
    pub(crate) fn open(config: &SaslConfig, entropy: &Arc<dyn Entropy>) -> Result<Self, BrokerError> {
        Ok(Self {
            mechanisms: config.mechanisms.clone(),
            session_lifetime: config.session_lifetime,
            authenticator: Authenticator::open(&config.users, Arc::clone(entropy))?,
        })
    }

    /// Reads the users again when their file has changed.
    pub(crate) fn reload(&self) {
        self.authenticator.reload();
    }

    fn mechanism(&self, name: &str) -> Option<Mechanism> {
        let mut enabled = self.mechanisms.iter().copied();
        enabled.find(|mechanism| mechanism.name() == name)
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
        /// `Err` to refuse the first token, whatever it is.
        exchange: Result<Exchange, Refusal>,
    },
}

#[derive(Debug)]
struct Identity {
    user: String,
    mechanism: Mechanism,
    expires: Option<Instant>,
    renewed: Option<Instant>,
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
        let mechanisms = sasl.mechanisms.iter();
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
        let exchange = if changed {
            Err(Refusal::OtherMechanism)
        } else {
            Ok(Exchange::new(mechanism))
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
                let lifetime = sasl.session_lifetime.filter(|_| matches!(self.stage, Stage::Open));
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
        let step = match exchange {
            Ok(exchange) => exchange
                .step(&sasl.authenticator, token)
                .await
                .map_err(Refusal::Authentication),
            Err(refusal) => Err(refusal),
        };
        let step = step.and_then(|step| match (&step, &self.identity) {
            (Step::Done(_, user), Some(before)) if *user != before.user => Err(Refusal::OtherUser),
            _ => Ok(step),
        });
        match step {
            Ok(Step::Continue(token, exchange)) => {
                self.stage = Stage::Tokens {
                    mechanism,
                    framed,
                    exchange: Ok(exchange),
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
                    expires: sasl.session_lifetime.map(|lifetime| now + lifetime),
                    renewed: again.then_some(now),
                });
                Ok(token)
            }
            Err(refusal) => {
                count(mechanism.name(), "refused");
                let reason = format!("authentication by {} failed: {refusal}", mechanism.name());
                Err((refusal.message(mechanism, again), reason))
            }
        }
    }
}

impl Identity {
    fn may_renew(&self) -> bool {
        self.expires.is_some() && self.renewed.is_none_or(|renewed| renewed.elapsed() >= RENEWAL_INTERVAL)
    }
}

fn count(mechanism: &'static str, outcome: &'static str) {
    metrics::counter!("smartcity_broker_authentications", "mechanism" => mechanism, "outcome" => outcome).increment(1);
}
