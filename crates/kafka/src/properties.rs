//! The user's own properties of Kafka's clients: which client each is for, and which of them are not the user's to set.
//!
//! Exactly once rests on some of them. A properties file that was copied from a Java consumer has `enable.auto.commit` and
//! `partition.assignment.strategy` in it as a rule, and a program that took them would lose records without a word.

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError as Native;

use crate::{KafkaError, is_secret};

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Consumer,
    Producer,
    /// Asks for topics, and creates them.
    Admin,
}

impl Role {
    /// Before a property that is for this role alone, as in Kafka Streams.
    fn prefix(self) -> &'static str {
        match self {
            Role::Consumer => "consumer.",
            Role::Producer => "producer.",
            Role::Admin => "admin.",
        }
    }
}

const ROLES: [Role; 3] = [Role::Consumer, Role::Producer, Role::Admin];

/// A property that has one right value, by librdkafka's names and their aliases.
struct Reserved {
    names: &'static [&'static str],
    /// The values that change nothing; none where another setting holds it.
    allowed: &'static [&'static str],
    why: &'static str,
}

const RESERVED: [Reserved; 14] = [
    Reserved {
        names: &["bootstrap.servers", "metadata.broker.list"],
        allowed: &[],
        why: "set kafka.bootstrap_servers instead",
    },
    Reserved {
        names: &["group.id"],
        allowed: &[],
        why: "set kafka.group_id instead",
    },
    Reserved {
        names: &["enable.auto.commit", "auto.commit.enable"],
        allowed: &["false"],
        why: "offsets are committed in the table, together with the rows",
    },
    Reserved {
        names: &["enable.auto.offset.store"],
        allowed: &["false"],
        why: "offsets are committed in the table, together with the rows",
    },
    Reserved {
        names: &["offset.store.method", "offset.store.path"],
        allowed: &["broker"],
        why: "offsets are committed in the table, together with the rows",
    },
    Reserved {
        names: &["auto.offset.reset"],
        allowed: &["error"],
        why: "the table says where to read on; set ingest.starting_offsets for the first start",
    },
    Reserved {
        names: &["isolation.level"],
        allowed: &["read_committed"],
        why: "records of aborted transactions must not become rows",
    },
    Reserved {
        names: &["partition.assignment.strategy", "group.remote.assignor"],
        allowed: &["cooperative-sticky"],
        why: "partitions are taken over one at a time, at the table's offsets",
    },
    Reserved {
        names: &["group.protocol"],
        allowed: &["classic"],
        why: "partitions are taken over one at a time, at the table's offsets",
    },
    Reserved {
        names: &["enable.partition.eof"],
        allowed: &["true"],
        why: "the end of a partition tells which offsets hold no record",
    },
    Reserved {
        names: &["allow.auto.create.topics"],
        allowed: &["false"],
        why: "asking for a topic must not create it",
    },
    Reserved {
        names: &["enable.idempotence"],
        allowed: &["true"],
        why: "a record that is sent again must not be in the topic twice",
    },
    Reserved {
        names: &["acks", "request.required.acks"],
        allowed: &["all", "-1"],
        why: "an acknowledged record must survive the loss of a broker",
    },
    Reserved {
        names: &["transactional.id", "delivery.report.only.error"],
        allowed: &[],
        why: "the producer counts on what it is told of deliveries",
    },
];

/// The properties of one role: those without a prefix, then its own.
pub(crate) fn of_role<'a>(
    properties: impl Iterator<Item = (&'a String, &'a String)> + Clone,
    role: Role,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let all = properties.clone().filter(|(key, _)| split(key).0.is_none());
    let own = properties.filter(move |(key, _)| split(key).0 == Some(role));
    all.chain(own).map(|(key, value)| (split(key).1, value.as_str()))
}

/// The role that a property is for, where it is for one alone, and the property.
fn split(key: &str) -> (Option<Role>, &str) {
    let mut roles = ROLES.into_iter();
    let prefixed = roles.find_map(|role| Some((Some(role), key.strip_prefix(role.prefix())?)));
    prefixed.unwrap_or((None, key))
}

/// All that is wrong with these properties, one line each.
pub(crate) fn check<'a>(properties: impl Iterator<Item = (&'a String, &'a String)>) -> Result<(), KafkaError> {
    let mistakes: Vec<String> = properties.filter_map(|(key, value)| mistake(key, value)).collect();
    match mistakes.is_empty() {
        true => Ok(()),
        false => Err(KafkaError::Config(mistakes.join("\n  "))),
    }
}

fn mistake(key: &str, value: &str) -> Option<String> {
    let property = split(key).1;
    if let Some(reserved) = RESERVED.iter().find(|reserved| reserved.names.contains(&property)) {
        let is_ours = reserved
            .allowed
            .iter()
            .any(|ours| ours.eq_ignore_ascii_case(value.trim()));
        return (!is_ours).then(|| format!("{key}={value} cannot be set: {}", reserved.why));
    }
    let shown = if is_secret(property) { "***" } else { value };
    match ClientConfig::new().set(property, value).create_native_config() {
        Ok(_) => None,
        Err(Native::ClientConfig(_, text, ..)) => Some(format!("{key}={shown}: {text}")),
        Err(error) => Some(format!("{key}={shown}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(properties: &[(&str, &str)]) -> Option<String> {
        let own = properties
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let own: std::collections::BTreeMap<String, String> = own.collect();
        check(own.iter()).err().map(|error| error.to_string())
    }

    #[test]
    fn what_exactly_once_rests_on_is_refused_by_name() {
        for reserved in &RESERVED {
            for name in reserved.names {
                for prefix in ["", "consumer.", "producer.", "admin."] {
                    let key = format!("{prefix}{name}");
                    let told = refused(&[(&key, "surely-not")]).unwrap_or_default();
                    assert!(
                        told.contains(&format!("{key}=surely-not")) && told.contains(reserved.why),
                        "{key}: {told}"
                    );
                }
                for value in reserved.allowed {
                    assert_eq!(refused(&[(name, value)]), None, "{name}={value}");
                }
            }
        }
    }

    #[test]
    fn reserved_names_are_librdkafkas() {
        for name in RESERVED.iter().flat_map(|reserved| reserved.names) {
            let set = ClientConfig::new().set(*name, "1").create_native_config();
            let is_unknown = matches!(&set, Err(Native::ClientConfig(_, text, ..)) if text.contains("No such"));
            assert!(!is_unknown, "{name}");
        }
    }

    #[test]
    fn all_mistakes_are_reported_at_once_and_no_secret() {
        let told = refused(&[
            ("enable.auto.commit", "TRUE"),
            ("isolation.level", "read_uncommitted"),
            (
                "key.deserializer",
                "org.apache.kafka.common.serialization.StringDeserializer",
            ),
            ("socket.timeout.ms", "soon"),
            ("producer.sasl.passwort", "hunter2"),
            ("client.rack", "a"),
            ("consumer.fetch.min.bytes", "10"),
        ])
        .unwrap_or_default();
        for part in [
            "enable.auto.commit=TRUE",
            "isolation.level=read_uncommitted",
            "key.deserializer=",
            "socket.timeout.ms=soon",
            "producer.sasl.passwort=",
        ] {
            assert!(told.contains(part), "{part} is not in: {told}");
        }
        assert!(!told.contains("client.rack") && !told.contains("fetch.min"), "{told}");
        let told = refused(&[("sasl.password.typo", "hunter2")]).unwrap_or_default();
        assert!(
            told.contains("sasl.password.typo") && !told.contains("hunter2"),
            "{told}"
        );
    }

    #[test]
    fn each_role_has_its_own() {
        let own = [
            ("client.rack", "a"),
            ("consumer.client.rack", "b"),
            ("producer.linger.ms", "7"),
        ];
        let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let own: std::collections::BTreeMap<String, String> = own.into();
        let of = |role| of_role(own.iter(), role).collect::<Vec<_>>();
        assert_eq!(of(Role::Admin), [("client.rack", "a")]);
        // The last one wins.
        assert_eq!(of(Role::Consumer), [("client.rack", "a"), ("client.rack", "b")]);
        assert_eq!(of(Role::Producer), [("client.rack", "a"), ("linger.ms", "7")]);
    }
}
