//! The file of users: a line for each name and mechanism, `name:` and the credential as RFC 5803 writes it,
//!
//! ```text
//! alice:SCRAM-SHA-256$4096:<salt>$<stored key>:<server key>
//! ```
//!
//! with `#` for comments. No password can be read out of it, but it can be tried against: nobody else may read it.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::Path;

use crate::credential::{Credential, Hash, ITERATIONS_MIN, PASSWORD_BYTES_MAX, SALT_BYTES, SHAPE, check_iterations};
use crate::entropy::Entropy;
use crate::error::AuthError;
use crate::secret_file::read_private;

/// Longest name of a user, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// The users of a file.
pub(crate) struct Users {
    credentials: BTreeMap<String, Vec<Credential>>,
    /// Makes up credentials of users that are not there; as secret as the file, and the same for as long as it is.
    decoy_key: Vec<u8>,
    /// What a made-up credential has.
    iterations: NonZeroU32,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users {{ {} users, .. }}", self.credentials.len())
    }
}

impl Users {
    /// # Errors
    /// The file cannot be read, others may read it, or a line is not understood.
    pub(crate) fn read(path: &Path) -> Result<Self, AuthError> {
        let text = read_private(path)?;
        Self::parse(&text).map_err(|(line, reason)| AuthError::Users {
            path: path.to_path_buf(),
            reason: format!("line {line}: {reason}"),
        })
    }

    /// The error is the line's number and what is wrong with it; it never quotes the line.
    pub(crate) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut users = Self {
            credentials: BTreeMap::new(),
            decoy_key: Vec::new(),
            iterations: NonZeroU32::new(ITERATIONS_MIN).unwrap_or(NonZeroU32::MIN),
        };
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, credential) = entry(line).map_err(|reason| (index + 1, reason))?;
            users.decoy_key = Hash::Sha256.hmac(&credential.server_key, &users.decoy_key);
            users.iterations = users.iterations.max(credential.iterations);
            let credentials = users.credentials.entry(name.to_owned()).or_default();
            if credentials.iter().any(|known| known.hash == credential.hash) {
                return Err((index + 1, format!("`{name}` has this mechanism already")));
            }
            credentials.push(credential);
        }
        Ok(users)
    }

    pub(crate) fn len(&self) -> usize {
        self.credentials.len()
    }

    /// The user's credential; for one that is not there another that looks the same and fits no password.
    pub(crate) fn credential(&self, name: &str, hash: Hash) -> Credential {
        let known = self.credentials.get(name).into_iter().flatten();
        let known = known.into_iter().find(|credential| credential.hash == hash);
        // Made up in either case, to take the same time.
        let mut salt = Hash::Sha256.hmac(&self.decoy_key, name.as_bytes());
        salt.truncate(SALT_BYTES);
        let decoy = Credential {
            hash,
            iterations: self.iterations,
            salt,
            // No digest anyone knows the source of.
            stored_key: vec![0; hash.len()],
            server_key: vec![0; hash.len()],
        };
        known.cloned().unwrap_or(decoy)
    }

    /// For a password that came as it is, which can be checked against either hash.
    pub(crate) fn any_credential(&self, name: &str) -> Credential {
        let hash = self.credentials.get(name).and_then(|known| known.first());
        self.credential(name, hash.map_or(Hash::Sha256, |credential| credential.hash))
    }
}

fn entry(line: &str) -> Result<(&str, Credential), String> {
    let (name, credential) = line.split_once(':').ok_or(SHAPE)?;
    check_name(name).map_err(|reason| format!("a name {reason}"))?;
    Ok((name, Credential::parse(credential)?))
}

/// The lines of a users file that let `name` in with this password, one by each SCRAM mechanism, so that a client may
/// choose; PLAIN is checked against either. The salts come from `entropy`.
///
/// # Errors
/// A name, a password or a count of iterations that the file cannot hold.
pub fn user_entries(name: &str, password: &str, iterations: u32, entropy: &dyn Entropy) -> Result<String, AuthError> {
    let fault = |setting, reason| AuthError::Setting { name: setting, reason };
    check_name(name).map_err(|reason| fault("user", reason))?;
    let iterations = check_iterations(iterations).map_err(|reason| fault("iterations", reason))?;
    if password.is_empty() || password.len() > PASSWORD_BYTES_MAX || password.contains('\0') {
        let reason = format!("must have 1 to {PASSWORD_BYTES_MAX} bytes, none of them 0");
        return Err(fault("password", reason));
    }
    let line = |hash| {
        let mut salt = vec![0; SALT_BYTES];
        entropy.fill(&mut salt);
        let credential = Credential::derive(hash, password.as_bytes(), salt, iterations);
        format!("{name}:{}\n", credential.to_text())
    };
    Ok(Hash::ALL.map(line).concat())
}

/// A users file with the lines of `name` replaced by `entries`, which may be empty; comments and order are kept.
pub fn replace_user(file: &str, name: &str, entries: &str) -> String {
    let of_user = |line: &&str| line.trim().split_once(':').is_some_and(|(known, _)| known == name);
    let kept = file.lines().filter(|line| !of_user(line));
    kept.map(|line| format!("{line}\n")).collect::<String>() + entries
}

fn check_name(name: &str) -> Result<(), String> {
    let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.trim() == name && !name.starts_with('#');
    if fits && !name.contains(|c: char| c == ':' || c.is_control()) {
        return Ok(());
    }
    Err(format!(
        "must have 1 to {NAME_BYTES_MAX} bytes, no colon, no control characters, no space around it and no # in front"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::authenticator::tests::Foreseen;

    fn entries(name: &str, password: &str) -> String {
        user_entries(name, password, 4096, &Foreseen(9)).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let file = format!("# people\n\n{}{}", entries("alice", "wonder"), entries("b o b", "pw"));
        let users = Users::parse(&file).unwrap();
        assert_eq!(users.len(), 2);
        for hash in Hash::ALL {
            assert!(users.credential("alice", hash).fits(b"wonder"));
            assert!(!users.credential("b o b", hash).fits(b"wonder"));
        }
        assert!(users.any_credential("b o b").fits(b"pw"));
        assert!(!file.contains("wonder"));
    }

    /// Written by the broker of version 0.1.0 (commit 79bc174), with the password `wonder`.
    #[test]
    fn a_file_of_an_earlier_version_is_read() {
        let file = include_str!("../tests/users-0.1.0");
        let users = Users::parse(file).unwrap();
        for hash in Hash::ALL {
            assert!(users.credential("alice", hash).fits(b"wonder"));
        }
        let bob = user_entries("bob", "builder", 4096, &Foreseen(9)).unwrap();
        let users = Users::parse(&replace_user(file, "bob", &bob)).unwrap();
        assert!(users.any_credential("alice").fits(b"wonder") && users.any_credential("bob").fits(b"builder"));
    }

    #[test]
    fn one_user_is_replaced_and_the_rest_is_kept() {
        let file = format!("# people\n{}{}", entries("al", "1"), entries("alice", "2"));
        let users = Users::parse(&replace_user(&file, "al", &entries("al", "3"))).unwrap();
        assert!(users.any_credential("al").fits(b"3") && users.any_credential("alice").fits(b"2"));
        let without = replace_user(&file, "alice", "");
        assert!(without.starts_with("# people\nal:") && !without.contains("alice"));
    }

    #[test]
    fn nobody_looks_like_somebody() {
        let users = Users::parse(&entries("alice", "wonder")).unwrap();
        let (nobody, again) = (
            users.credential("bob", Hash::Sha512),
            users.credential("bob", Hash::Sha512),
        );
        assert_eq!((nobody.salt.len(), nobody.iterations.get()), (SALT_BYTES, 4096));
        assert_eq!(nobody.salt, again.salt);
        assert_ne!(nobody.salt, users.credential("carol", Hash::Sha512).salt);
        assert!(!nobody.fits(b"") && !nobody.fits(b"wonder"));
    }

    #[test]
    fn mistakes_name_the_line_and_quote_no_secret() {
        let good = entries("alice", "wonder");
        let (first, _) = good.split_once('\n').unwrap();
        for (bad, part) in [
            ("alice:wonder".to_owned(), "expected name:SCRAM"),
            ("wonder".to_owned(), "expected name:SCRAM"),
            (first.replace("SHA-256", "SHA-1"), "must be SCRAM-SHA-256"),
            (first.replace("4096", "4095"), "iterations must be 4096"),
            (first.replace("alice", " "), "expected name"),
            (format!("{first}A"), "expected name"),
            (first.replace("SHA-256", "SHA-512"), "expected name"),
            (format!("{first}\n{first}"), "already"),
        ] {
            let (line, reason) = Users::parse(&format!("# one\n{bad}")).unwrap_err();
            assert!(
                line >= 2 && (reason.contains(part) || part == "expected name"),
                "{bad}: {reason}"
            );
            assert!(!reason.contains("wonder"));
        }
        for (name, password, iterations) in [("", "x", 4096), ("a:b", "x", 4096), ("a", "", 4096), ("a", "x", 1)] {
            assert!(user_entries(name, password, iterations, &Foreseen(0)).is_err());
        }
        let (long, longer) = ("n".repeat(NAME_BYTES_MAX), "n".repeat(NAME_BYTES_MAX + 1));
        assert!(user_entries(&long, "x", 4096, &Foreseen(0)).is_ok());
        assert!(user_entries(&longer, "x", 4096, &Foreseen(0)).is_err());
        let long = "p".repeat(PASSWORD_BYTES_MAX + 1);
        let error = user_entries("a", &long, 4096, &Foreseen(0)).unwrap_err().to_string();
        assert!(!error.contains("ppp"), "{error}");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("users");
        fs::write(&path, entries("alice", "wonder")).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Users::read(&path).unwrap_err().to_string();
            assert!(
                error.contains("chmod 600") && error.contains(&format!("{mode:o}")),
                "{error}"
            );
        }
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Users::read(&path).unwrap().len(), 1);
        }
    }
}
