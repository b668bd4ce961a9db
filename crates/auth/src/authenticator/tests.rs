//! Whole exchanges, with a client that is written from the RFCs.

use std::fs::{self, Permissions};
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::*;
use crate::credential::equal;
use crate::users::{replace_user, user_entries};

/// The same byte over and over.
#[derive(Debug)]
pub(crate) struct Foreseen(pub(crate) u8);

impl Entropy for Foreseen {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0);
    }
}

struct Server {
    runtime: Runtime,
    authenticator: Authenticator,
    dir: TempDir,
}

impl Server {
    /// With one user: alice, wonder.
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("users");
        write(&path, &user_entries("alice", "wonder", 4096, &Foreseen(9)).unwrap());
        Self {
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
            authenticator: Authenticator::open(&path, Arc::new(Foreseen(7))).unwrap(),
            dir,
        }
    }

    fn step(&self, exchange: Exchange, token: &[u8]) -> Result<Step, Failure> {
        self.runtime.block_on(exchange.step(&self.authenticator, token))
    }

    /// What a SCRAM client with this password comes to: the user, or the failure.
    fn scram(&self, exchange: Exchange, named: &str, password: &str) -> Result<String, Failure> {
        let hash = match exchange.mechanism() {
            Mechanism::ScramSha512 => Hash::Sha512,
            _ => Hash::Sha256,
        };
        let bare = format!("n={named},r=abcdefgh");
        let Step::Continue(challenge, exchange) = self.step(exchange, format!("n,,{bare}").as_bytes())? else {
            panic!("a first message does not end an exchange");
        };
        let challenge = String::from_utf8(challenge).unwrap();
        let attribute = |name: &str| {
            let attributes = challenge.split(',');
            attributes
                .filter_map(|a| a.strip_prefix(name))
                .next()
                .unwrap()
                .to_owned()
        };
        let rounds = NonZeroU32::new(attribute("i=").parse().unwrap()).unwrap();
        let salt = BASE64.decode(attribute("s=")).unwrap();
        let salted = salted(hash, password.as_bytes(), &salt, rounds);
        let client_key = hash.hmac(&salted, b"Client Key");
        let without_proof = format!("c=biws,r={}", attribute("r="));
        let signed = format!("{bare},{challenge},{without_proof}");
        let signature = hash.hmac(&hash.digest(&client_key), signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(k, s)| k ^ s).collect();
        let last = format!("{without_proof},p={}", BASE64.encode(proof));
        match self.step(exchange, last.as_bytes())? {
            Step::Done(token, user) => {
                let verifier = hash.hmac(&hash.hmac(&salted, b"Server Key"), signed.as_bytes());
                assert_eq!(token, format!("v={}", BASE64.encode(verifier)).into_bytes());
                Ok(user)
            }
            Step::Continue(..) => panic!("a final message ends an exchange"),
        }
    }
}

/// PBKDF2 by its definition (RFC 8018), for one block.
fn salted(hash: Hash, password: &[u8], salt: &[u8], rounds: NonZeroU32) -> Vec<u8> {
    let mut last = hash.hmac(password, &[salt, &1_u32.to_be_bytes()].concat());
    let mut sum = last.clone();
    for _ in 1..rounds.get() {
        last = hash.hmac(password, &last);
        sum.iter_mut().zip(&last).for_each(|(s, l)| *s ^= l);
    }
    sum
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn the_right_password_is_let_in_by_every_mechanism() {
    let server = Server::new();
    for mechanism in [Mechanism::ScramSha256, Mechanism::ScramSha512] {
        let exchange = || Exchange::new(mechanism);
        assert_eq!(server.scram(exchange(), "alice", "wonder").unwrap(), "alice");
        assert_eq!(server.scram(exchange(), "alice", "other"), Err(Failure::Credentials));
        assert_eq!(server.scram(exchange(), "bob", "wonder"), Err(Failure::Credentials));
        assert!(matches!(
            server.scram(exchange(), "", "wonder"),
            Err(Failure::Malformed(_))
        ));
    }
    let plain = |token: &str| server.step(Exchange::new(Mechanism::Plain), token.as_bytes());
    assert!(matches!(plain("\0alice\0wonder"), Ok(Step::Done(token, user)) if token.is_empty() && user == "alice"));
    for bad in ["\0alice\0other", "\0bob\0wonder"] {
        assert!(matches!(plain(bad), Err(Failure::Credentials)), "{bad}");
    }
}

/// libpq names the user in the start-up packet and leaves the name in SCRAM empty.
#[test]
fn a_user_named_before_the_exchange_is_the_one_who_counts() {
    let server = Server::new();
    let exchange = |user: &str| Exchange::for_user(Mechanism::ScramSha256, user);
    assert_eq!(server.scram(exchange("alice"), "", "wonder").unwrap(), "alice");
    assert_eq!(server.scram(exchange("alice"), "bob", "wonder").unwrap(), "alice");
    assert_eq!(
        server.scram(exchange("bob"), "alice", "wonder"),
        Err(Failure::Credentials)
    );
    let plain = server.step(Exchange::for_user(Mechanism::Plain, "bob"), b"\0alice\0wonder");
    assert!(matches!(plain, Err(Failure::OtherAuthorization)));
}

#[test]
fn an_unknown_user_is_challenged_as_a_known_one() {
    let server = Server::new();
    let challenge = |user: &str| {
        let token = format!("n,,n={user},r=x");
        match server.step(Exchange::new(Mechanism::ScramSha256), token.as_bytes()) {
            Ok(Step::Continue(token, _)) => String::from_utf8(token).unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let (known, unknown) = (challenge("alice"), challenge("bob"));
    assert_eq!(known.len(), unknown.len());
    assert_eq!(unknown, challenge("bob"), "the same salt each time");
}

#[test]
fn inputs_have_limits() {
    let server = Server::new();
    let long = "n".repeat(NAME_BYTES_MAX + 1);
    let first = |token: &[u8]| server.step(Exchange::new(Mechanism::ScramSha256), token);
    assert!(matches!(
        first(format!("n,,n={long},r=x").as_bytes()),
        Err(Failure::Malformed(_))
    ));
    assert!(matches!(
        first(&vec![b'n'; TOKEN_BYTES_MAX + 1]),
        Err(Failure::Malformed(_))
    ));
    let verify = |user: &str, password: &str| {
        let verified = server.authenticator.verify_password(user, password);
        server.runtime.block_on(verified)
    };
    assert_eq!(verify("alice", "wonder"), Ok(()));
    assert_eq!(verify(&long, "wonder"), Err(Failure::Credentials));
    assert_eq!(
        verify("alice", &"p".repeat(PASSWORD_BYTES_MAX + 1)),
        Err(Failure::Credentials)
    );
}

#[test]
fn users_are_read_again_when_their_file_changes_and_stay_when_it_is_broken() {
    let server = Server::new();
    let path = server.dir.path().join("users");
    let lets_in = |user: &str| {
        server.authenticator.reload();
        let verified = server.authenticator.verify_password(user, "pw");
        server.runtime.block_on(verified).is_ok()
    };
    let file = fs::read_to_string(&path).unwrap();
    let with_bob = replace_user(&file, "bob", &user_entries("bob", "pw", 4096, &Foreseen(1)).unwrap());
    assert!(!lets_in("bob"));
    write(&path, &with_bob);
    assert!(lets_in("bob"));
    write(&path, "no file of users");
    assert!(lets_in("bob"));
    write(&path, &file);
    assert!(!lets_in("bob"));
    // A mended permission is a change too.
    fs::write(&path, &with_bob).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert!(!lets_in("bob"));
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert!(lets_in("bob"));
    fs::remove_file(&path).unwrap();
    assert!(lets_in("bob"));
}

#[test]
fn nothing_secret_is_shown() {
    let server = Server::new();
    let file = fs::read_to_string(server.dir.path().join("users")).unwrap();
    let secrets: Vec<String> = file
        .split(['$', ':', '\n'])
        .filter(|part| part.len() > 20)
        .map(str::to_owned)
        .collect();
    assert!(secrets.len() >= 6);
    let users = server.authenticator.users.current();
    let step = server.step(Exchange::new(Mechanism::ScramSha256), b"n,,n=alice,r=mynonce");
    let Ok(Step::Continue(_, exchange)) = &step else {
        panic!("{step:?}")
    };
    let failure = server
        .step(Exchange::new(Mechanism::Plain), b"\0alice\0sesame")
        .unwrap_err();
    let shown = [
        format!("{:?}", server.authenticator),
        format!("{users:?} {:?}", users.any_credential("alice")),
        format!("{exchange:?} {step:?}"),
        format!("{failure} {failure:?}"),
    ];
    // Keys could be shown as lists of numbers as well.
    let key = users.any_credential("alice").stored_key;
    let numbers = format!("{}, {}, {}", key[0], key[1], key[2]);
    for text in shown {
        for secret in secrets
            .iter()
            .map(String::as_str)
            .chain(["mynonce", "sesame", &numbers])
        {
            assert!(!text.contains(secret), "{text}");
        }
    }
    assert!(equal(b"a", b"a") && !equal(b"a", b"b") && !equal(b"a", b"aa"));
}
