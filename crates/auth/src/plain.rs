//! PLAIN (RFC 4616): one token with the password in it.

use crate::credential::PASSWORD_BYTES_MAX;
use crate::error::Failure;

/// User and password of a token.
pub(crate) fn parse(token: &[u8]) -> Result<(&str, &str), Failure> {
    let bad = || Failure::Malformed("the PLAIN token");
    let text = std::str::from_utf8(token).map_err(|_| bad())?;
    let parts: Vec<&str> = text.splitn(4, '\0').collect();
    match parts[..] {
        [_, "", _] | [_, _, ""] => Err(bad()),
        [authorization, user, _] if !authorization.is_empty() && authorization != user => {
            Err(Failure::OtherAuthorization)
        }
        // Hashing takes a time that grows with it, and no user has such a password.
        [_, _, password] if password.len() > PASSWORD_BYTES_MAX => Err(Failure::Credentials),
        [_, user, password] => Ok((user, password)),
        _ => Err(bad()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn plain_tokens_are_three_parts() {
        assert_eq!(parse(b"\0me\0pw").unwrap(), ("me", "pw"));
        assert_eq!(parse(b"me\0me\0pw").unwrap(), ("me", "pw"));
        assert_eq!(parse(b"you\0me\0pw"), Err(Failure::OtherAuthorization));
        for bad in [
            &b""[..],
            b"\0",
            b"\0me",
            b"\0\0pw",
            b"\0me\0",
            b"\0me\0pw\0",
            b"\0me\0\xff",
        ] {
            assert!(matches!(parse(bad), Err(Failure::Malformed(_))), "{bad:?}");
        }
        let long = format!("\0me\0{}", "p".repeat(PASSWORD_BYTES_MAX + 1));
        assert_eq!(parse(long.as_bytes()), Err(Failure::Credentials));
    }
}
