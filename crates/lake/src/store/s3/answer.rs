//! An answer of S3's other than the one that was hoped for, in the words of its documentation.

use std::fmt;

/// What was asked, of what, and what S3 said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// As IAM names it: `s3:PutObject`.
    pub(crate) action: &'static str,
    /// As a policy names it: `arn:aws:s3:::bucket/key`.
    pub(crate) resource: String,
    pub(crate) status: u16,
    /// S3's error code, such as `AccessDenied`; empty when the body holds none.
    pub(crate) code: String,
    pub(crate) message: String,
}

/// What an answer asks of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Overloaded or out of order: the same request may do later, and this one may have been done.
    Transient,
    /// Another conditional PUT of this key was under way (409): neither done nor taken, ask again.
    Contended,
    /// These credentials may not, or are none: a person must act.
    Denied,
    /// The bucket is not there.
    NoBucket,
    /// The request itself is wrong for this endpoint (region, signature version): a person must act.
    Refused,
}

impl Answer {
    /// From S3's error document; other bodies leave the code empty.
    pub(crate) fn new(action: &'static str, resource: String, status: u16, body: &str) -> Self {
        Self {
            action,
            resource,
            status,
            code: element(body, "Code").unwrap_or_default().to_owned(),
            message: element(body, "Message").unwrap_or_default().to_owned(),
        }
    }

    /// By the status and, where one status has several meanings, the code ("Error responses", Amazon S3 API Reference).
    pub(crate) fn class(&self) -> Class {
        match (self.status, self.code.as_str()) {
            (_, "NoSuchBucket") => Class::NoBucket,
            (401 | 403, _) | (400, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => Class::Denied,
            (409, _) => Class::Contended,
            (400, "RequestTimeout" | "IncompleteBody" | "BadDigest") | (408 | 429 | 500.., _) => Class::Transient,
            _ => Class::Refused,
        }
    }

    /// The bucket as a lake's location names it.
    pub(crate) fn bucket(&self) -> String {
        let name = self.resource.trim_start_matches("arn:aws:s3:::");
        format!("s3://{}", name.split('/').next().unwrap_or(name))
    }

    /// What a person can do, where the code tells more than the status.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        Some(match self.code.as_str() {
            "ExpiredToken" | "TokenRefreshRequired" => {
                "the session's credentials have expired and were given as fixed keys: renew them, or use a role that \
                 is refreshed by itself (web identity, task or instance role)"
            }
            "InvalidAccessKeyId" | "InvalidToken" => "check AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN",
            "SignatureDoesNotMatch" => "check AWS_SECRET_ACCESS_KEY, and AWS_REGION",
            "RequestTimeTooSkewed" => "set this machine's clock",
            "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException" => {
                "check AWS_REGION"
            }
            _ if self.action == "s3:GetObject" => {
                "allow it; without s3:ListBucket on the bucket S3 also says so of objects that are not there"
            }
            _ => "allow the action on the resource, or use other credentials",
        })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}: HTTP {}", self.action, self.resource, self.status)?;
        match (self.code.as_str(), self.message.as_str()) {
            ("", "") => Ok(()),
            (code, "") => write!(f, " {code}"),
            (code, message) => write!(f, " {code} ({message})"),
        }
    }
}

impl std::error::Error for Answer {}

/// The text of the first element of this name. The error document is flat, and its texts are for people.
fn element<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, code: &str) -> Answer {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m.</Message></Error>");
        Answer::new("s3:PutObject", "arn:aws:s3:::b/k".to_owned(), status, &body)
    }

    #[test]
    fn answers_are_sorted_by_what_to_do() {
        for (status, code, class) in [
            (403, "AccessDenied", Class::Denied),
            (403, "InvalidAccessKeyId", Class::Denied),
            (401, "Unauthorized", Class::Denied),
            (400, "ExpiredToken", Class::Denied),
            (400, "AuthorizationHeaderMalformed", Class::Refused),
            (400, "RequestTimeout", Class::Transient),
            (301, "PermanentRedirect", Class::Refused),
            (404, "NoSuchBucket", Class::NoBucket),
            (409, "ConditionalRequestConflict", Class::Contended),
            (429, "TooManyRequests", Class::Transient),
            (500, "InternalError", Class::Transient),
            (503, "SlowDown", Class::Transient),
        ] {
            assert_eq!(answer(status, code).class(), class, "{status} {code}");
        }
    }

    #[test]
    fn an_answer_names_action_and_resource() {
        assert_eq!(
            answer(403, "AccessDenied").to_string(),
            "s3:PutObject on arn:aws:s3:::b/k: HTTP 403 AccessDenied (m.)"
        );
        assert_eq!(answer(404, "NoSuchBucket").bucket(), "s3://b");
        let page = Answer::new("s3:GetObject", "r".to_owned(), 502, "<html>Bad gateway</html>");
        assert_eq!(page.to_string(), "s3:GetObject on r: HTTP 502");
    }
}
