//! Exit codes and how an error is told: a short fact, then the causes, then a way out on its own line.

use std::fmt;
use std::process::ExitCode;

use auth::AuthError;
use broker::BrokerError;
use ingest::IngestError;
use lake::LakeError;

/// Wrong usage or configuration (exit code 2).
#[derive(Debug)]
struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// An error that the user mends by changing a flag, a setting or a file.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Usage(message.into()))
}

/// Data that is lost, doubled or changed (exit code 3).
#[derive(Debug)]
struct Damaged(String);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Damaged {}

/// A check that has found what must not be.
pub(crate) fn damaged(message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Damaged(message.into()))
}

/// Prints the error to stderr and says how to exit: 1 failed, 2 wrong usage or configuration, 3 data loss found.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error}");
    let mut told = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Many errors print their cause as well.
        if !told.contains(&cause) {
            eprintln!("  caused by: {cause}");
            told.push_str(&cause);
        }
    }
    if let Some(hint) = hint(error) {
        eprintln!("hint: {hint}");
    }
    code(error)
}

fn code(error: &anyhow::Error) -> ExitCode {
    let is_usage = error.chain().any(|cause| {
        cause.is::<Usage>()
            || cause.is::<model::DeclarationErrors>()
            || matches!(cause.downcast_ref(), Some(kafka::KafkaError::Config(_)))
            || matches!(cause.downcast_ref(), Some(IngestError::NoTopics { .. }))
            || matches!(
                cause.downcast_ref(),
                Some(LakeError::Location { .. } | LakeError::Missing { .. })
            )
            || cause.downcast_ref().is_some_and(is_auth_usage)
            || matches!(
                cause.downcast_ref(),
                Some(BrokerError::Config { .. } | BrokerError::NotLoopback { .. })
            )
            || matches!(cause.downcast_ref(), Some(BrokerError::Auth(error)) if is_auth_usage(error))
            || matches!(
                cause.downcast_ref(),
                Some(serve::sql::SqlError {
                    kind: serve::sql::ErrorKind::Usage,
                    ..
                })
            )
    });
    if is_usage {
        return ExitCode::from(2);
    }
    let lost = error.chain().any(|cause| {
        cause.is::<Damaged>()
            || matches!(
                cause.downcast_ref(),
                Some(IngestError::DataLoss { .. } | IngestError::TopicRecreated { .. })
            )
    });
    ExitCode::from(if lost { 3 } else { 1 })
}

/// Whether a file of users or certificates is to be mended, and not the system.
fn is_auth_usage(error: &AuthError) -> bool {
    !matches!(error, AuthError::Io { .. })
}

fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        if let Some(IngestError::DataLoss { .. }) = cause.downcast_ref() {
            return Some(
                "nothing was written past the gap. If the records are gone for good, --fail-on-data-loss false records \
                 the gap in the table `gaps` and goes on behind it. A topic that was recreated is ingested under another \
                 --application, or into another lake."
                    .to_owned(),
            );
        }
        if let Some(IngestError::TopicRecreated { topic, found, .. }) = cause.downcast_ref() {
            return Some(format!(
                "nothing of the new topic was taken for the old one's. Ingest it into another lake, or under another \
                 --application beside the old rows. If the cluster was migrated and this topic holds the same records at \
                 the same offsets, say so once: --migrated-topic {topic}={found}"
            ));
        }
        if let Some(IngestError::NoTopics { .. }) = cause.downcast_ref() {
            return Some(
                "name the streams to ingest with --only, their topics in [topics] of the settings, or another cluster with \
                 --bootstrap-servers"
                    .to_owned(),
            );
        }
        if let Some(IngestError::ShutdownTimeout { .. }) = cause.downcast_ref() {
            return Some("nothing is lost: the next start reads on from what is committed".to_owned());
        }
        if let Some(IngestError::Lake { source, .. }) = cause.downcast_ref() {
            return lake_hint(source);
        }
        if let Some(error) = cause.downcast_ref::<LakeError>() {
            return lake_hint(error);
        }
        if let Some(BrokerError::NotLoopback { .. }) = cause.downcast_ref() {
            return Some(
                "for `smartcity broker`, name a certificate with --tls-certificate and --tls-key, and users with --users \
                 (smartcity broker user NAME --users FILE makes them)"
                    .to_owned(),
            );
        }
        match cause.downcast_ref() {
            Some(kafka::KafkaError::Unreachable { .. }) => Some(
                "is the broker running? Name another with --bootstrap-servers, or start one: smartcity broker"
                    .to_owned(),
            ),
            Some(kafka::KafkaError::OffsetOutOfRange { .. }) => {
                Some("start again: the offsets are checked at the start".to_owned())
            }
            _ => None,
        }
    })
}

fn lake_hint(error: &LakeError) -> Option<String> {
    if error.is_out_of_space() {
        return Some("free some space and start again: it goes on from the last commit, nothing is lost".to_owned());
    }
    if let Some(hint) = error.hint() {
        return Some(hint.to_owned());
    }
    match error {
        LakeError::Missing { .. } => Some("start one with `smartcity up`, or name another with --lake".to_owned()),
        LakeError::SchemaDiffers { .. } => Some("change the declaration back, or land into another lake".to_owned()),
        LakeError::Denied { .. } => {
            Some("check who owns the folder and whether the disk is mounted read-only".to_owned())
        }
        _ => None,
    }
}
