//! SCRAM, the server's side (RFC 5802, RFC 7677): messages, and the check of a client's proof.
//!
//! Names are taken as the UTF-8 bytes they are, as Kafka and its clients do; no SASLprep. Channel binding is not offered.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::credential::{Credential, equal};
use crate::error::Failure;

/// Of the server's half of the nonce, in bytes; text has a third more.
pub(crate) const NONCE_BYTES: usize = 24;
const CLIENT_NONCE_MAX: usize = 1024;

/// The first message of a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClientFirst {
    gs2_header: String,
    bare: String,
    /// Empty where the protocol names the user elsewhere, as PostgreSQL's clients do.
    pub(crate) user: String,
    nonce: String,
}

impl ClientFirst {
    pub(crate) fn parse(token: &[u8]) -> Result<Self, Failure> {
        let message = text(token)?;
        let bad = || Failure::Malformed("the first SCRAM message");
        let mut parts = message.splitn(3, ',');
        let (binding, authorization, bare) = (
            parts.next().ok_or_else(bad)?,
            parts.next().ok_or_else(bad)?,
            parts.next().ok_or_else(bad)?,
        );
        if !matches!(binding, "n" | "y") {
            return Err(Failure::Malformed(
                "channel binding is not offered: the first SCRAM message",
            ));
        }
        // A mandatory extension (`m=`) would stand before the name; we know none.
        let mut attributes = bare.split(',');
        let user = attributes.next().and_then(|a| a.strip_prefix("n=")).ok_or_else(bad)?;
        let nonce = attributes.next().and_then(|a| a.strip_prefix("r=")).ok_or_else(bad)?;
        if nonce.is_empty() || nonce.len() > CLIENT_NONCE_MAX || !nonce.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(bad());
        }
        let user = unescaped(user).ok_or_else(bad)?;
        let authorized = match authorization.strip_prefix("a=") {
            Some(name) => unescaped(name).filter(|name| !name.is_empty()).ok_or_else(bad)? == user,
            None if authorization.is_empty() => true,
            None => return Err(bad()),
        };
        if !authorized {
            return Err(Failure::OtherAuthorization);
        }
        Ok(Self {
            gs2_header: format!("{binding},{authorization},"),
            bare: bare.to_owned(),
            user,
            nonce: nonce.to_owned(),
        })
    }
}

/// A conversation that waits for the client's proof.
#[derive(Debug)]
pub(crate) struct Conversation {
    credential: Credential,
    first: ClientFirst,
    nonce: String,
    server_first: String,
}

impl Conversation {
    /// Answers the first message. Whether the credential is a real one decides nothing before the end.
    pub(crate) fn begin(first: ClientFirst, credential: Credential, nonce: &[u8; NONCE_BYTES]) -> (Self, Vec<u8>) {
        let nonce = format!("{}{}", first.nonce, BASE64.encode(nonce));
        let salt = BASE64.encode(&credential.salt);
        let server_first = format!("r={nonce},s={salt},i={}", credential.iterations);
        let token = server_first.clone().into_bytes();
        let conversation = Self {
            credential,
            first,
            nonce,
            server_first,
        };
        (conversation, token)
    }

    /// Checks the proof and makes the server's signature.
    pub(crate) fn finish(&self, token: &[u8]) -> Result<Vec<u8>, Failure> {
        let message = text(token)?;
        let bad = || Failure::Malformed("the final SCRAM message");
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or_else(bad)?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|a| a.strip_prefix("c=")).ok_or_else(bad)?;
        let nonce = attributes.next().and_then(|a| a.strip_prefix("r=")).ok_or_else(bad)?;
        if nonce.strip_prefix(&self.first.nonce) == Some(&self.nonce) {
            // Not what the RFC has (CVE-2024-56128 came of being lenient here), but worth a name in the log.
            return Err(Failure::RepeatedNonce);
        }
        if binding != BASE64.encode(&self.first.gs2_header) || nonce != self.nonce {
            return Err(bad());
        }
        let proof = BASE64.decode(proof).map_err(|_| bad())?;
        let Credential {
            hash,
            stored_key,
            server_key,
            ..
        } = &self.credential;
        let signed = format!("{},{},{without_proof}", self.first.bare, self.server_first);
        let signature = hash.hmac(stored_key, signed.as_bytes());
        if proof.len() != signature.len() {
            return Err(bad());
        }
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(p, s)| p ^ s).collect();
        if !equal(&hash.digest(&client_key), stored_key) {
            return Err(Failure::Credentials);
        }
        let verifier = BASE64.encode(hash.hmac(server_key, signed.as_bytes()));
        Ok(format!("v={verifier}").into_bytes())
    }
}

fn text(token: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(token).map_err(|_| Failure::Malformed("a SCRAM message"))
}

/// `=2C` and `=3D` stand for comma and equals sign; no other `=` may occur.
fn unescaped(name: &str) -> Option<String> {
    let mut pieces = name.split('=');
    let mut plain = pieces.next()?.to_owned();
    for piece in pieces {
        let (sign, rest) = match piece.strip_prefix("2C") {
            Some(rest) => (',', rest),
            None => ('=', piece.strip_prefix("3D")?),
        };
        plain.push(sign);
        plain.push_str(rest);
    }
    Some(plain)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::credential::{Hash, check_iterations};

    /// The conversation printed in RFC 7677, section 3.
    fn of_the_rfc() -> Conversation {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let credential = Credential::derive(Hash::Sha256, b"pencil", salt, check_iterations(4096).unwrap());
        let first = ClientFirst::parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        let (mut conversation, token) = Conversation::begin(first, credential, &[0; NONCE_BYTES]);
        assert!(token.starts_with(b"r=rOprNGfwEbeRWgbNEkqO"));
        // The document's nonce is no base64 of 24 bytes.
        conversation.nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned();
        conversation.server_first = format!("r={},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", conversation.nonce);
        conversation
    }

    const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,";

    #[test]
    fn the_example_of_rfc_7677_holds() {
        let token = format!("{FINAL}p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        let answer = of_the_rfc().finish(token.as_bytes()).unwrap();
        assert_eq!(answer, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn wrong_proofs_nonces_and_bindings_fail() {
        let conversation = of_the_rfc();
        let flipped = format!("{FINAL}p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVA=");
        assert_eq!(conversation.finish(flipped.as_bytes()), Err(Failure::Credentials));
        let twice = FINAL.replace("r=", "r=rOprNGfwEbeRWgbNEkqO") + "p=AAAA";
        assert_eq!(conversation.finish(twice.as_bytes()), Err(Failure::RepeatedNonce));
        for bad in [
            "c=biws,r=rOprNGfwEbeRWgbNEkqO,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".to_owned(),
            FINAL.replace("biws", "eSws") + "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            format!("{FINAL}p=AAAA"),
            format!("{FINAL}p=***"),
            FINAL.to_owned(),
            String::new(),
        ] {
            assert!(
                matches!(conversation.finish(bad.as_bytes()), Err(Failure::Malformed(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn first_messages_are_read_as_the_rfc_has_them() {
        let user = |message: &str| ClientFirst::parse(message.as_bytes()).map(|first| first.user);
        assert_eq!(user("n,,n=a=2Cb=3Dc,r=x").unwrap(), "a,b=c");
        assert_eq!(user("y,a=me,n=me,r=x,ext=1").unwrap(), "me");
        assert_eq!(user("n,a=you,n=me,r=x"), Err(Failure::OtherAuthorization));
        for bad in [
            "",
            "n",
            "n,,",
            "n,,n=me",
            "n,,n=me,r=",
            "n,,n=a=b,r=x",
            "n,b,n=me,r=x",
            "n,,m=1,n=me,r=x",
            "p=tls-unique,,n=me,r=x",
            "n,,n=me,r=\u{e9}",
        ] {
            assert!(matches!(user(bad), Err(Failure::Malformed(_))), "{bad}");
        }
        assert!(ClientFirst::parse(&[0xff, 0xfe]).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_are_refused_without_harm(token in prop::collection::vec(any::<u8>(), 0..200), text in "[nyp=,ar0-9A-Za-z+/]{0,60}") {
            let conversation = of_the_rfc();
            for token in [&token[..], text.as_bytes()] {
                let _ = ClientFirst::parse(token);
                prop_assert!(conversation.finish(token).is_err());
            }
        }
    }
}
