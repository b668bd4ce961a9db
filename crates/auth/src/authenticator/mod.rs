//! The server's side of authentication: users, and one client's exchange after the other.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::credential::{Credential, Hash, PASSWORD_BYTES_MAX};
use crate::entropy::Entropy;
use crate::error::{AuthError, Failure};
use crate::mechanism::Mechanism;
use crate::plain;
use crate::reload::Reloaded;
use crate::scram::{ClientFirst, Conversation, NONCE_BYTES};
use crate::users::{NAME_BYTES_MAX, Users};

/// Largest token of a client, in bytes; the largest that a well-meaning one sends has some 2 KiB.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;
/// Passwords being hashed at one time. Further ones wait: as many as the server has connections.
const CHECKS_MAX: usize = 2;

/// The users of a file, for any number of servers and connections at once.
#[derive(Debug)]
pub struct Authenticator {
    file: PathBuf,
    users: Reloaded<Users>,
    entropy: Arc<dyn Entropy>,
    checks: Semaphore,
}

impl Authenticator {
    /// Reads the file of users, made of [`user_entries`](crate::user_entries). Nonces come from `entropy`.
    ///
    /// # Errors
    /// The file cannot be read, others may read it, or a line is not understood.
    pub fn open(users: &Path, entropy: Arc<dyn Entropy>) -> Result<Self, AuthError> {
        let read = Reloaded::open(vec![users.to_path_buf()], || Users::read(users))?;
        tracing::info!(file = %users.display(), users = read.current().len(), "users read");
        Ok(Self {
            file: users.to_path_buf(),
            users: read,
            entropy,
            checks: Semaphore::new(CHECKS_MAX),
        })
    }

    /// Reads the users again when their file has changed; the former ones stay when it cannot be read. Exchanges under
    /// way keep the credential that they began with. To be called now and then, off the threads that serve connections.
    pub fn reload(&self) {
        let file = self.file.display();
        match self.users.reload(|| Users::read(&self.file)) {
            None => {}
            Some(Ok(users)) => tracing::info!(%file, users = users.len(), "users read again"),
            Some(Err(error)) => {
                tracing::warn!(%file, error = &error as &dyn std::error::Error, "users cannot be read again; the former ones stay");
            }
        }
    }

    /// Checks a password that came as it is: PLAIN, HTTP's Basic, PostgreSQL's cleartext. Takes as long for an unknown
    /// user. Hashing is slow on purpose, so it runs on the runtime's blocking threads, a few at a time.
    ///
    /// # Errors
    /// [`Failure::Credentials`].
    pub async fn verify_password(&self, user: &str, password: &str) -> Result<(), Failure> {
        // No user has such a name or password, and hashing takes a time that grows with it.
        if user.len() > NAME_BYTES_MAX || password.len() > PASSWORD_BYTES_MAX {
            return Err(Failure::Credentials);
        }
        let credential: Credential = self.users.current().any_credential(user);
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

/// One client's authentication by one mechanism, token by token (RFC 4422).
pub struct Exchange {
    mechanism: Mechanism,
    /// Known before the exchange; else the tokens name it.
    user: Option<String>,
    state: State,
}

enum State {
    First,
    Final {
        conversation: Box<Conversation>,
        user: String,
    },
}

/// What a token led to.
pub enum Step {
    /// The exchange goes on: the server's token, and what takes the client's next one.
    Continue(Vec<u8>, Exchange),
    /// The client is who it says: the server's last token, which may be empty, and the user.
    Done(Vec<u8>, String),
}

/// Never what the client sent.
impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::First => "first",
            State::Final { .. } => "final",
        };
        write!(f, "Exchange {{ {}, {state} token due, .. }}", self.mechanism.name())
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Continue(_, exchange) => write!(f, "Continue({exchange:?})"),
            Step::Done(..) => f.write_str("Done"),
        }
    }
}

impl Exchange {
    /// An exchange whose tokens name the user, as in Kafka.
    pub fn new(mechanism: Mechanism) -> Self {
        Self {
            mechanism,
            user: None,
            state: State::First,
        }
    }

    /// An exchange for a user whom the protocol has named before. The name in SCRAM's messages is ignored then;
    /// PostgreSQL's clients leave it empty.
    pub fn for_user(mechanism: Mechanism, user: impl Into<String>) -> Self {
        Self {
            user: Some(user.into()),
            ..Self::new(mechanism)
        }
    }

    /// By which mechanism.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Takes the client's next token.
    ///
    /// # Errors
    /// The client is not let in; the exchange is over.
    pub async fn step(self, authenticator: &Authenticator, token: &[u8]) -> Result<Step, Failure> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Failure::Malformed("a token that is too long"));
        }
        match (self.state, self.mechanism) {
            (State::Final { conversation, user }, _) => {
                let token = conversation.finish(token)?;
                Ok(Step::Done(token, user))
            }
            (State::First, Mechanism::Plain) => {
                let (named, password) = plain::parse(token)?;
                if self.user.is_some_and(|user| user != named) {
                    return Err(Failure::OtherAuthorization);
                }
                authenticator.verify_password(named, password).await?;
                Ok(Step::Done(Vec::new(), named.to_owned()))
            }
            (State::First, Mechanism::ScramSha256) => {
                first(authenticator, self.mechanism, Hash::Sha256, self.user, token)
            }
            (State::First, Mechanism::ScramSha512) => {
                first(authenticator, self.mechanism, Hash::Sha512, self.user, token)
            }
        }
    }
}

fn first(
    authenticator: &Authenticator,
    mechanism: Mechanism,
    hash: Hash,
    user: Option<String>,
    token: &[u8],
) -> Result<Step, Failure> {
    let first = ClientFirst::parse(token)?;
    let user = user.unwrap_or_else(|| first.user.clone());
    if user.is_empty() || user.len() > NAME_BYTES_MAX {
        return Err(Failure::Malformed("the user's name"));
    }
    let credential = authenticator.users.current().credential(&user, hash);
    let mut nonce = [0; NONCE_BYTES];
    authenticator.entropy.fill(&mut nonce);
    let (conversation, token) = Conversation::begin(first, credential, &nonce);
    let exchange = Exchange {
        mechanism,
        user: None,
        state: State::Final {
            conversation: Box::new(conversation),
            user,
        },
    };
    Ok(Step::Continue(token, exchange))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests;
