//! How each kind of value is written as text.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use lake::Location;

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
    /// Event time runs this many times as fast as the clock.
    SpeedUp(f64),
}

/// A host, by name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = || format!("`{text}` is no address; write host:port, or [address]:port for IPv6");
        let (host, port) = text.rsplit_once(':').ok_or_else(wanted)?;
        let port = port.parse().map_err(|_| wanted())?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match bare.unwrap_or(host) {
            "" => Err(wanted()),
            host if host.contains(':') && bare.is_none() => Err(wanted()),
            host => Ok(HostPort {
                host: host.to_owned(),
                port,
            }),
        }
    }
}

impl FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let speed_up = text.strip_suffix('x').and_then(|times| times.parse::<f64>().ok());
        match (text, speed_up) {
            ("max", _) => Ok(Pace::Max),
            (_, Some(times)) if times.is_finite() && times > 0.0 => Ok(Pace::SpeedUp(times)),
            (text, _) => duration(text)
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
            text => {
                // A date alone is its midnight.
                let midnight = || model::event_time::parse(format!("{text}T00:00:00").as_bytes());
                let time = model::event_time::parse(text.as_bytes()).or_else(midnight);
                time.map(Start::At)
                    .ok_or_else(|| format!("`{text}` is no time; write now, rush-hour or 2026-01-01T00:00:00"))
            }
        }
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        duration(text).map(Span)
    }
}

/// 500ms, 10s, 5min.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| format!("`{text}` is no duration; write it as 500ms, 10s or 5min"))
}

/// Where a lake is.
pub(super) fn location(text: &str) -> Result<Location, String> {
    text.parse().map_err(|error: lake::LakeError| error.to_string())
}

/// Where to listen.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let parsed = text.parse();
    parsed.map_err(|_| format!("`{text}` is no address; write 127.0.0.1:9092 or [::1]:9092"))
}

/// Several values separated by commas.
pub(super) fn list<T: FromStr<Err = String>>(text: &str) -> Result<Vec<T>, String> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(str::parse).collect()
}

/// Names with a value each, `a=1, b=2`.
pub(super) fn pairs(text: &str) -> Result<BTreeMap<String, String>, String> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let pair = |word: &str| {
        let (name, value) = word.split_once('=').map(|(name, value)| (name.trim(), value.trim()))?;
        (!name.is_empty() && !value.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    };
    words
        .map(|word| pair(word).ok_or_else(|| format!("`{word}` is no pair; write topic=id")))
        .collect()
}

/// One of a few words.
pub(super) fn one_of<T: Copy>(text: &str, known: &[(&str, T)]) -> Result<T, String> {
    let found = known.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        format!("`{text}` is none of {}", words.join(", "))
    })
}
