//! Settings: `default.toml`, then the user's file, then the environment, then flags; each layer may set only what the
//! first one names, so that a misspelt key is refused.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use auth::{ClientAuth, Mechanism};
use broker::Flush;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use toml::{Table, Value};

use crate::exit::usage;

/// The commented file that `config show --default` prints and every default comes from.
pub(crate) const DEFAULT: &str = include_str!("default.toml");
/// The user's file, when it is there and no other is named.
const FILE: &str = "smartcity.toml";
/// Tables whose keys are the user's own.
const FREE_TABLES: [&str; 2] = ["kafka.properties", "topics"];
/// Variables with our prefix that are no settings.
const NOT_SETTINGS: [&str; 3] = ["SMARTCITY_CACHE", "SMARTCITY_CONFIG", "SMARTCITY_PYTHON"];
/// The original's own variables.
const ORIGINAL: [(&str, &str); 6] = [
    ("KAFKA_BOOTSTRAP_SERVERS", "kafka.bootstrap_servers"),
    ("VEHICLE_TOPIC", "topics.vehicle_data"),
    ("GPS_TOPIC", "topics.gps_data"),
    ("TRAFFIC_TOPIC", "topics.traffic_data"),
    ("WEATHER_TOPIC", "topics.weather_data"),
    ("EMERGENCY_TOPIC", "topics.emergency_data"),
];

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Config {
    pub(crate) kafka: Kafka,
    pub(crate) lake: Lake,
    pub(crate) streams: Streams,
    pub(crate) topics: BTreeMap<String, String>,
    pub(crate) ingest: Ingest,
    pub(crate) up: Up,
    pub(crate) simulator: Simulator,
    pub(crate) broker: Broker,
    pub(crate) http: Http,
    pub(crate) query: Query,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Kafka {
    pub(crate) bootstrap_servers: String,
    pub(crate) group_id: String,
    pub(crate) properties: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Lake {
    pub(crate) path: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Streams {
    #[serde(deserialize_with = "optional")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Ingest {
    pub(crate) application: String,
    pub(crate) starting_offsets: StartingOffsets,
    pub(crate) fail_on_data_loss: bool,
    #[serde(deserialize_with = "parsed")]
    pub(crate) errors_tolerance: ErrorsTolerance,
    pub(crate) errors_window: u64,
    #[serde(deserialize_with = "optional")]
    pub(crate) dlq_topic: Option<String>,
    #[serde(deserialize_with = "duration")]
    pub(crate) latency: Duration,
    pub(crate) batch_records_max: u64,
    pub(crate) batch_bytes_max: usize,
    pub(crate) open_bytes_max: usize,
    pub(crate) workers: usize,
    pub(crate) queued_bytes_max: usize,
    #[serde(deserialize_with = "optional")]
    pub(crate) http_listen: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StartingOffsets {
    Earliest,
    Latest,
}

/// How much of a stream may be broken, in Kafka Connect's words or as a share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ErrorsTolerance {
    All,
    None,
    Percent(f64),
}

impl FromStr for ErrorsTolerance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text
            .strip_suffix('%')
            .and_then(|share| share.trim().parse::<f64>().ok());
        match (text, percent) {
            ("all", _) => Ok(Self::All),
            ("none", _) => Ok(Self::None),
            (_, Some(percent)) if (0.0..=100.0).contains(&percent) => Ok(Self::Percent(percent)),
            (text, _) => Err(format!(
                "`{text}` is no tolerance; write all, none or a share such as 5%"
            )),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Up {
    #[serde(deserialize_with = "duration")]
    pub(crate) latency: Duration,
    pub(crate) profile: Profile,
    #[serde(deserialize_with = "unless_empty")]
    pub(crate) start: Option<Start>,
    #[serde(deserialize_with = "unless_empty")]
    pub(crate) pace: Option<Pace>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Simulator {
    pub(crate) profile: Profile,
    pub(crate) seed: u64,
    pub(crate) start: Start,
    #[serde(deserialize_with = "unless_empty")]
    pub(crate) pace: Option<Pace>,
    pub(crate) vehicles: u32,
    pub(crate) rate: f64,
    #[serde(deserialize_with = "unless_empty")]
    pub(crate) duration: Option<Span>,
    pub(crate) threads: usize,
    pub(crate) snapshots: bool,
    pub(crate) faults: String,
    #[serde(deserialize_with = "optional")]
    pub(crate) truth: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Profile {
    Classic,
    Fleet,
}

/// Event time of the departure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Now,
    /// Half past seven, UTC, of the latest working day.
    RushHour,
    /// Microseconds since the epoch.
    At(i64),
}

/// A duration as a setting that may be left empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// How fast steps follow each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    Max,
    PerStep(Duration),
    /// Event time runs so many times as fast as the clock.
    SpeedUp(f64),
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Broker {
    pub(crate) listen: SocketAddr,
    #[serde(deserialize_with = "optional")]
    pub(crate) advertised: Option<HostPort>,
    pub(crate) data_dir: PathBuf,
    pub(crate) partitions: i32,
    #[serde(deserialize_with = "duration")]
    pub(crate) retention: Duration,
    #[serde(deserialize_with = "flush")]
    pub(crate) flush: Flush,
    #[serde(deserialize_with = "optional")]
    pub(crate) http_listen: Option<SocketAddr>,
    pub(crate) tls: BrokerTls,
    pub(crate) sasl: BrokerSasl,
}

/// A host, by name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl FromStr for HostPort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = "write host:port, or [address]:port for IPv6";
        let (host, port) = text.rsplit_once(':').ok_or(wanted)?;
        let port = port.parse().map_err(|_| wanted)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match bare.unwrap_or(host) {
            "" => Err(wanted),
            host if host.contains(':') && bare.is_none() => Err(wanted),
            host => Ok(HostPort {
                host: host.to_owned(),
                port,
            }),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct BrokerTls {
    #[serde(deserialize_with = "optional")]
    pub(crate) certificate_chain: Option<PathBuf>,
    #[serde(deserialize_with = "optional")]
    pub(crate) key: Option<PathBuf>,
    #[serde(deserialize_with = "parsed")]
    pub(crate) client_auth: ClientAuth,
    #[serde(deserialize_with = "optional")]
    pub(crate) client_ca: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct BrokerSasl {
    #[serde(deserialize_with = "optional")]
    pub(crate) users: Option<PathBuf>,
    #[serde(deserialize_with = "list")]
    pub(crate) mechanisms: Vec<Mechanism>,
    #[serde(deserialize_with = "duration")]
    pub(crate) session_lifetime: Duration,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Http {
    #[serde(deserialize_with = "optional")]
    pub(crate) listen: Option<SocketAddr>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Query {
    pub(crate) memory_bytes_max: usize,
}

/// Settings from flags: path and text.
pub(crate) type Flags = Vec<(&'static str, String)>;

impl Config {
    /// Puts the layers together. `file` is the one the user named; `environment` is what `std::env::vars` gives.
    pub(crate) fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: &Flags,
    ) -> Result<Config> {
        Config::from_settings(effective(file, environment, flags)?)
    }

    /// Reads the settings of all layers.
    pub(crate) fn from_settings(settings: Table) -> Result<Config> {
        settings
            .try_into()
            .map_err(|error: toml::de::Error| usage(error.to_string().trim_end().replace("\nin ", ", in ")))
    }
}

/// All layers as one table.
pub(crate) fn effective(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &Flags,
) -> Result<Table> {
    let mut settings: Table = DEFAULT.parse().context("the built-in default.toml")?;
    let known = known_paths(&settings);
    let default_file = Path::new(FILE);
    match file {
        Some(file) => merge_file(&mut settings, file, &known)?,
        None if default_file.exists() => merge_file(&mut settings, default_file, &known)?,
        None => {}
    }

    let environment: BTreeMap<String, String> = environment.collect();
    for (variable, path) in ORIGINAL {
        if let Some(text) = environment.get(variable) {
            set(&mut settings, path, text).with_context(|| format!("environment variable {variable}"))?;
        }
    }
    let variables: BTreeMap<String, &str> = known.iter().map(|path| (variable_of(path), path.as_str())).collect();
    for (variable, text) in &environment {
        if !variable.starts_with("SMARTCITY_") || NOT_SETTINGS.contains(&variable.as_str()) {
            continue;
        }
        let topic = variable
            .strip_prefix("SMARTCITY_TOPICS_")
            .map(|stream| format!("topics.{}", stream.to_lowercase()));
        let Some(path) = topic.as_deref().or(variables.get(variable).copied()) else {
            let hint = nearest(variable, variables.keys().map(String::as_str));
            return Err(usage(format!("environment variable {variable} is no setting{hint}")));
        };
        set(&mut settings, path, text).with_context(|| format!("environment variable {variable}"))?;
    }
    for (path, text) in flags {
        set(&mut settings, path, text)?;
    }
    Ok(settings)
}

fn merge_file(settings: &mut Table, file: &Path, known: &[String]) -> Result<()> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| usage(format!("cannot read {name}: {error}")))?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| line_at(&text, span.start));
        usage(format!("{name}:{line}: {}", error.message()))
    })?;
    merge(settings, &table, "", known).map_err(|(path, message)| {
        let key = path.rsplit('.').next().unwrap_or_default();
        let line = text.lines().position(|line| {
            let line = line.trim_start();
            line.strip_prefix('[').unwrap_or(line).contains(key)
        });
        usage(format!("{name}:{}: {message}", line.unwrap_or_default() + 1))
    })
}

/// Lays `over` on `settings`. The error is the key's path and what is wrong with it.
fn merge(settings: &mut Table, over: &Table, prefix: &str, known: &[String]) -> Result<(), (String, String)> {
    for (key, value) in over {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        match (settings.get_mut(key), value) {
            (Some(Value::Table(inner)), Value::Table(over)) => merge(inner, over, &path, known)?,
            (Some(Value::Table(_)), _) => return Err((path.clone(), format!("`{path}` is a table"))),
            (Some(Value::Float(_)), Value::Integer(whole)) => {
                settings.insert(key.clone(), Value::Float(*whole as f64));
            }
            (Some(Value::String(_)), Value::String(_))
            | (Some(Value::Integer(_)), Value::Integer(_))
            | (Some(Value::Float(_)), Value::Float(_))
            | (Some(Value::Boolean(_)), Value::Boolean(_)) => drop(settings.insert(key.clone(), value.clone())),
            (Some(default), _) => {
                let message = format!("`{path}` must be a {}, not a {}", default.type_str(), value.type_str());
                return Err((path, message));
            }
            (None, Value::String(_)) if FREE_TABLES.contains(&prefix) => {
                settings.insert(key.clone(), value.clone());
            }
            (None, _) if FREE_TABLES.contains(&prefix) => {
                return Err((path.clone(), format!("`{path}` must be a string")));
            }
            (None, _) => {
                let tables = known
                    .iter()
                    .filter_map(|path| path.rsplit_once('.'))
                    .map(|(table, _)| table);
                let hint = nearest(&path, known.iter().map(String::as_str).chain(tables));
                let message = format!("unknown setting `{path}`{hint}");
                return Err((path, message));
            }
        }
    }
    Ok(())
}

/// Sets one known path from text, as the type its default has.
fn set(settings: &mut Table, path: &str, text: &str) -> Result<()> {
    let (parents, key) = path.rsplit_once('.').unwrap_or(("", path));
    let mut table = settings;
    for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
        table = match table.get_mut(parent) {
            Some(Value::Table(inner)) => inner,
            _ => bail!("`{path}` is no setting"),
        };
    }
    let value = match table.get(key) {
        Some(Value::Integer(_)) => Value::Integer(
            text.parse()
                .map_err(|_| usage(format!("`{path}` must be a whole number, not `{text}`")))?,
        ),
        Some(Value::Float(_)) => Value::Float(
            text.parse()
                .map_err(|_| usage(format!("`{path}` must be a number, not `{text}`")))?,
        ),
        Some(Value::Boolean(_)) => Value::Boolean(
            text.parse()
                .map_err(|_| usage(format!("`{path}` must be true or false, not `{text}`")))?,
        ),
        _ => Value::String(text.to_owned()),
    };
    table.insert(key.to_owned(), value);
    Ok(())
}

/// The dotted paths of all settings but the free ones.
fn known_paths(defaults: &Table) -> Vec<String> {
    let mut paths = Vec::new();
    let mut tables = vec![(String::new(), defaults)];
    while let Some((prefix, table)) = tables.pop() {
        for (key, value) in table {
            let path = if prefix.is_empty() {
                key.clone()
            } else {
                format!("{prefix}.{key}")
            };
            match value {
                Value::Table(inner) => tables.push((path, inner)),
                _ => paths.push(path),
            }
        }
    }
    paths
}

fn variable_of(path: &str) -> String {
    format!("SMARTCITY_{}", path.replace('.', "_").to_uppercase())
}

/// `; did you mean ...?` when something is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let best = known
        .map(|known| (strsim::damerau_levenshtein(word, known), known))
        .min();
    match best {
        Some((distance, known)) if distance <= 2 + word.len() / 6 => format!("; did you mean `{known}`?"),
        _ => String::new(),
    }
}

fn line_at(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// The settings as TOML, without what may be secret.
pub(crate) fn shown(mut settings: Table) -> String {
    if let Some(Value::Table(kafka)) = settings.get_mut("kafka")
        && let Some(Value::Table(properties)) = kafka.get_mut("properties")
    {
        for (_, value) in properties.iter_mut().filter(|(key, _)| kafka::is_secret(key)) {
            *value = Value::String("***".to_owned());
        }
    }
    toml::to_string(&settings).unwrap_or_default()
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map_err(D::Error::custom)
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| format!("`{text}` is no duration; write it as 500ms, 10s or 5min"))
}

fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// Separated by commas.
fn list<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| word.parse().map_err(D::Error::custom)).collect()
}

fn optional<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|error| D::Error::custom(format!("`{text}`: {error}"))),
    }
}

fn flush<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Flush, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "os" => Ok(Flush::Os),
        "always" => Ok(Flush::Always),
        text => match humantime::parse_duration(text) {
            Ok(every) if !every.is_zero() => Ok(Flush::Interval(every)),
            _ => Err(D::Error::custom(format!(
                "`{text}` is not os, always or a duration such as 1s"
            ))),
        },
    }
}

/// A setting that empty text leaves to its reader.
fn unless_empty<'de, D: Deserializer<'de>, T: FromStr<Err = String>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(D::Error::custom),
    }
}

impl FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let speed_up = text.strip_suffix('x').and_then(|times| times.parse::<f64>().ok());
        match (text, speed_up) {
            ("max", _) => Ok(Pace::Max),
            (_, Some(times)) if times.is_finite() && times > 0.0 => Ok(Pace::SpeedUp(times)),
            (text, _) => parse_duration(text)
                .map(Pace::PerStep)
                .map_err(|_| format!("`{text}` is no pace; write max, a duration per step (5s) or a speed-up (60x)")),
        }
    }
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "now" => Ok(Start::Now),
            "rush-hour" => Ok(Start::RushHour),
            text => model::event_time::parse(text.as_bytes())
                .map(Start::At)
                .ok_or_else(|| format!("`{text}` is no time; write now, rush-hour or 2026-01-01T00:00:00")),
        }
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_duration(text).map(Span)
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, environment: &[(&str, &str)], flags: &Flags) -> Result<Config> {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), file).unwrap();
        let environment = environment
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Config::load(Some(path.path()), environment, flags)
    }

    fn error(file: &str, environment: &[(&str, &str)]) -> String {
        let error = format!("{:#}", load(file, environment, &Vec::new()).unwrap_err());
        error
            .rsplit_once('/')
            .map_or(error.clone(), |(_, last)| last.to_owned())
    }

    #[test]
    fn every_setting_has_a_default() {
        let config = load("", &[], &Vec::new()).unwrap();
        assert_eq!(config.up.pace, None);
        assert_eq!(config.up.profile, Profile::Fleet);
        assert_eq!(config.simulator.rate, 1.0);
        assert_eq!(config.ingest.latency, Duration::from_secs(10));
        assert_eq!(config.http.listen, Some("127.0.0.1:9090".parse().unwrap()));
        assert_eq!(config.streams.dir, None);
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let file = "[ingest]\nlatency = \"1s\"\nworkers = 3\n[topics]\ngps_data = \"file\"\n";
        let environment = [
            ("SMARTCITY_INGEST_LATENCY", "2s"),
            ("GPS_TOPIC", "original"),
            ("VEHICLE_TOPIC", "v"),
            ("SMARTCITY_TOPICS_VEHICLE_DATA", "w"),
            ("HOME", "x"),
        ];
        let config = load(file, &environment, &vec![("lake.path", "/l".to_owned())]).unwrap();
        assert_eq!(config.ingest.latency, Duration::from_secs(2));
        assert_eq!(config.ingest.workers, 3);
        assert_eq!(config.topics["gps_data"], "original");
        assert_eq!(config.topics["vehicle_data"], "w");
        assert_eq!(config.lake.path, "/l");
    }

    #[test]
    fn a_mistake_names_its_place_and_the_nearest_right_key() {
        let has = |text: String, part: &str| assert!(text.contains(part), "wanted {part}\n   got {text}");
        has(
            error("\n[ingest]\nlatancy = \"1s\"\n", &[]),
            ":3: unknown setting `ingest.latancy`; did you mean `ingest.latency`?",
        );
        has(
            error("[ingset]\nlatency = \"1s\"\n", &[]),
            ":1: unknown setting `ingset`; did you mean `ingest`?",
        );
        has(
            error("[ingest]\nworkers = \"two\"\n", &[]),
            ":2: `ingest.workers` must be a integer, not a string",
        );
        has(error("[ingest\n", &[]), ":1: ");
        has(
            error("[ingest]\nlatency = \"soon\"\n", &[]),
            "`soon` is no duration; write it as 500ms, 10s or 5min",
        );
        has(
            error("[broker]\nflush = \"never\"\n", &[]),
            "`never` is not os, always or a duration such as 1s",
        );
        has(
            error("", &[("SMARTCITY_INGEST_LATENCI", "1s")]),
            "environment variable SMARTCITY_INGEST_LATENCI is no setting; did you mean `SMARTCITY_INGEST_LATENCY`?",
        );
        has(
            error("", &[("SMARTCITY_INGEST_WORKERS", "two")]),
            "`ingest.workers` must be a whole number, not `two`",
        );
    }

    #[test]
    fn the_brokers_doors_are_read() {
        let file = "[broker.sasl]\nusers = \"u\"\nmechanisms = \"SCRAM-SHA-512, PLAIN\"\nsession_lifetime = \"1h\"\n";
        let environment = [
            ("SMARTCITY_BROKER_ADVERTISED", "kafka.example:9093"),
            ("SMARTCITY_BROKER_TLS_CLIENT_AUTH", "required"),
        ];
        let broker = load(file, &environment, &Vec::new()).unwrap().broker;
        assert_eq!(broker.sasl.mechanisms, [Mechanism::ScramSha512, Mechanism::Plain]);
        assert_eq!(broker.sasl.session_lifetime, Duration::from_secs(3600));
        assert_eq!(broker.tls.client_auth, ClientAuth::Required);
        assert_eq!((broker.tls.key, broker.sasl.users), (None, Some("u".into())));
        assert_eq!(broker.advertised.unwrap().host, "kafka.example");
        let host = |text: &str| text.parse::<HostPort>().map(|at| at.host);
        assert_eq!(host("[::1]:9092").unwrap(), "::1");
        for bad in ["host", ":1", "host:", "::1:9092", "host:99999", "[]:1"] {
            assert!(host(bad).is_err(), "{bad}");
        }
        let told = error("[broker.sasl]\nmechanisms = \"GSSAPI\"\n", &[]);
        assert!(told.contains("`GSSAPI` is no mechanism"), "{told}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut settings: Table = DEFAULT.parse().unwrap();
        let properties = "\"sasl.password\" = \"hunter2\"\n\"client.rack\" = \"a\"\n"
            .parse()
            .unwrap();
        settings["kafka"]
            .as_table_mut()
            .unwrap()
            .insert("properties".to_owned(), Value::Table(properties));
        let shown = shown(settings);
        assert!(
            !shown.contains("hunter2") && shown.contains("***") && shown.contains("client.rack"),
            "{shown}"
        );
    }
}
