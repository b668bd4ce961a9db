//! The SASL mechanisms that are spoken, by their registered names.

use std::str::FromStr;

use crate::credential::Hash;

/// A way to prove a password.
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
            Mechanism::ScramSha256 => Hash::Sha256.mechanism(),
            Mechanism::ScramSha512 => Hash::Sha512.mechanism(),
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
