//! What a server keeps of a password (RFC 5802): enough to check a proof, not enough to make one.
//!
//! As text it is what RFC 5803 writes and PostgreSQL keeps as well:
//!
//! ```text
//! SCRAM-SHA-256$4096:<salt>$<stored key>:<server key>
//! ```
//!
//! Passwords are taken as the UTF-8 bytes they are, as Kafka and its clients do; no SASLprep. A client that normalizes
//! (libpq does) has to be given a password that is normalized already, as every ASCII one is.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq;

/// Fewest PBKDF2 rounds of a credential (RFC 7677).
pub const ITERATIONS_MIN: u32 = 4096;
/// Most PBKDF2 rounds of a credential: a client has to do them as well, at every connection.
pub const ITERATIONS_MAX: u32 = 1_000_000;
/// Longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// Length of the salts made here, in bytes.
pub(crate) const SALT_BYTES: usize = 16;
/// Salts of other makers, in bytes.
const SALT_BYTES_MIN: usize = 8;
const SALT_BYTES_MAX: usize = 1024;

/// What a line of the file of users looks like.
pub(crate) const SHAPE: &str = "expected name:SCRAM-SHA-256$iterations:salt$stored-key:server-key";

/// The hash that a SCRAM mechanism is built on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    pub(crate) const ALL: [Hash; 2] = [Hash::Sha256, Hash::Sha512];

    pub(crate) fn mechanism(self) -> &'static str {
        match self {
            Hash::Sha256 => "SCRAM-SHA-256",
            Hash::Sha512 => "SCRAM-SHA-512",
        }
    }

    pub(crate) fn digest(self, data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, data).as_ref().to_vec()
    }

    pub(crate) fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), data).as_ref().to_vec()
    }

    /// Bytes of a digest.
    pub(crate) fn len(self) -> usize {
        match self {
            Hash::Sha256 => digest::SHA256_OUTPUT_LEN,
            Hash::Sha512 => digest::SHA512_OUTPUT_LEN,
        }
    }

    fn salted_password(self, password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Vec<u8> {
        let algorithm = match self {
            Hash::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Hash::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let mut salted = vec![0; self.len()];
        pbkdf2::derive(algorithm, iterations, salt, password, &mut salted);
        salted
    }
}

/// A user's password under one hash.
#[derive(Clone)]
pub(crate) struct Credential {
    pub(crate) hash: Hash,
    pub(crate) iterations: NonZeroU32,
    pub(crate) salt: Vec<u8>,
    pub(crate) stored_key: Vec<u8>,
    pub(crate) server_key: Vec<u8>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hash, iterations) = (self.hash, self.iterations);
        write!(f, "Credential {{ hash: {hash:?}, iterations: {iterations}, .. }}")
    }
}

impl Credential {
    pub(crate) fn derive(hash: Hash, password: &[u8], salt: Vec<u8>, iterations: NonZeroU32) -> Self {
        let salted = hash.salted_password(password, &salt, iterations);
        Self {
            hash,
            iterations,
            salt,
            stored_key: hash.digest(&hash.hmac(&salted, b"Client Key")),
            server_key: hash.hmac(&salted, b"Server Key"),
        }
    }

    /// Whether this is the password: as much work as making the credential.
    pub(crate) fn fits(&self, password: &[u8]) -> bool {
        let other = Self::derive(self.hash, password, self.salt.clone(), self.iterations);
        equal(&self.stored_key, &other.stored_key)
    }

    /// Reads the text form. The error never quotes it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let shape = || SHAPE.to_owned();
        let (mechanism, rest) = text.split_once('$').ok_or_else(shape)?;
        let hash = Hash::ALL
            .into_iter()
            .find(|hash| hash.mechanism() == mechanism)
            .ok_or_else(|| "the mechanism must be SCRAM-SHA-256 or SCRAM-SHA-512".to_owned())?;
        let (salted, keys) = rest.split_once('$').ok_or_else(shape)?;
        let (iterations, salt) = salted.split_once(':').ok_or_else(shape)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or_else(shape)?;
        let iterations = iterations.parse().map_err(|_| shape())?;
        let bytes = |text: &str| BASE64.decode(text).map_err(|_| shape());
        let credential = Self {
            hash,
            iterations: check_iterations(iterations).map_err(|reason| format!("iterations {reason}"))?,
            salt: bytes(salt)?,
            stored_key: bytes(stored_key)?,
            server_key: bytes(server_key)?,
        };
        let is_key = |key: &[u8]| key.len() == hash.len();
        let is_salt = (SALT_BYTES_MIN..=SALT_BYTES_MAX).contains(&credential.salt.len());
        if is_salt && is_key(&credential.stored_key) && is_key(&credential.server_key) {
            Ok(credential)
        } else {
            Err(shape())
        }
    }

    /// The text form. Not `Display`: it can be tried against.
    pub(crate) fn to_text(&self) -> String {
        format!(
            "{}${}:{}${}:{}",
            self.hash.mechanism(),
            self.iterations,
            BASE64.encode(&self.salt),
            BASE64.encode(&self.stored_key),
            BASE64.encode(&self.server_key)
        )
    }
}

/// In a time that does not tell where they differ.
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

pub(crate) fn check_iterations(iterations: u32) -> Result<NonZeroU32, String> {
    NonZeroU32::new(iterations)
        .filter(|n| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&n.get()))
        .ok_or_else(|| format!("must be {ITERATIONS_MIN} to {ITERATIONS_MAX}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_knows_its_password_and_shows_no_keys() {
        for hash in Hash::ALL {
            let rounds = check_iterations(4096).unwrap();
            let credential = Credential::derive(hash, b"pencil", vec![7; 16], rounds);
            assert!(credential.fits(b"pencil") && !credential.fits(b"pencils") && !credential.fits(b""));
            assert_eq!(
                format!("{credential:?}"),
                format!("Credential {{ hash: {hash:?}, iterations: 4096, .. }}")
            );
            assert!(Credential::parse(&credential.to_text()).unwrap().fits(b"pencil"));
        }
    }

    /// As PostgreSQL keeps the password `pencil` under the salt of RFC 7677.
    #[test]
    fn what_postgresql_keeps_is_read() {
        let kept = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                    wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        assert!(Credential::parse(kept).unwrap().fits(b"pencil"));
    }

    #[test]
    fn salts_have_bounds() {
        let with_salt = |bytes: usize| {
            let rounds = check_iterations(4096).unwrap();
            let credential = Credential::derive(Hash::Sha256, b"pw", vec![1; bytes], rounds);
            Credential::parse(&credential.to_text()).is_ok()
        };
        assert!(!with_salt(7) && with_salt(8) && with_salt(1024) && !with_salt(1025));
    }
}
