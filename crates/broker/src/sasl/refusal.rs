//! Why a client is refused: what it is told, in Kafka's words, and what the log says.

use std::fmt;

use auth::{Failure, Mechanism};

/// Why a client was not let in. Never holds what the client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Authentication(Failure),
    /// A session is renewed by the user who began it (KIP-368),
    OtherUser,
    /// and by the same mechanism.
    OtherMechanism,
}

impl Refusal {
    /// What the client is told: the same for a wrong password, an unknown user and a broken token.
    pub(super) fn message(self, mechanism: Mechanism, again: bool) -> String {
        let during = if again { "re-authentication" } else { "authentication" };
        match self {
            Refusal::Authentication(Failure::Credentials) if mechanism == Mechanism::Plain => {
                "Authentication failed: Invalid username or password".to_owned()
            }
            Refusal::Authentication(Failure::OtherAuthorization) => {
                "Authentication failed: Client requested an authorization id that is different from username".to_owned()
            }
            Refusal::Authentication(Failure::Credentials | Failure::RepeatedNonce | Failure::Malformed(_)) => format!(
                "Authentication failed during {during} due to invalid credentials with SASL mechanism {}",
                mechanism.name()
            ),
            Refusal::OtherUser => "Cannot change principals during re-authentication".to_owned(),
            Refusal::OtherMechanism => format!(
                "SASL mechanism '{}' requested by client is not supported for re-authentication with another one",
                mechanism.name()
            ),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Authentication(failure) => failure.fmt(f),
            Refusal::OtherUser => f.write_str("another user than before"),
            Refusal::OtherMechanism => f.write_str("another mechanism than before"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_is_told_names_no_cause() {
        let message = |failure, mechanism| Refusal::Authentication(failure).message(mechanism, false);
        for mechanism in [Mechanism::ScramSha256, Mechanism::ScramSha512] {
            assert_eq!(
                message(Failure::Credentials, mechanism),
                message(Failure::Malformed("x"), mechanism)
            );
        }
    }
}
