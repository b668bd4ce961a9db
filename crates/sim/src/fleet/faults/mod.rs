//! Disorder on demand: what goes wrong with devices and records, how often, and what becomes of it.
//!
//! Whether a record is hit follows from the seed, the device and the time, like everything else. A record has one fault at
//! most; episodes of a device or a partition come on top, as they only move or mark records. Each fault is a line of the
//! ledger (`faults.ndjson`), with the outcome that a right consumer gives the record.

mod episodes;
mod mutate;
mod partition;

use serde::Deserialize;

pub(super) use episodes::{Episode, clock_skew_us, partition_stall, silence, stuck_sensor};
pub(super) use mutate::{Outcome, mutate};
pub(super) use partition::murmur2_partition;

use crate::fleet::draw::{For, Key, unit};

/// No record is held up longer; what a run must look back to begin in its middle.
pub(super) const DELAY_MAX_US: i64 = 900_000_000;

/// How often what goes wrong. All 0 by default: nothing does.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Share of records that are sent 1 to 10 minutes late.
    pub late: f64,
    /// Share of records that are sent up to 8 seconds late, so that others overtake them.
    pub out_of_order: f64,
    /// Share of records that are sent twice.
    pub duplicate: f64,
    /// Share of records that are malformed, for each of the dead letters' classes.
    pub null_value: f64,
    pub empty: f64,
    pub invalid_utf8: f64,
    pub not_json: f64,
    pub not_an_object: f64,
    pub too_deep: f64,
    pub lone_surrogate: f64,
    pub duplicate_key: f64,
    pub missing_field: f64,
    pub wrong_type: f64,
    pub not_finite: f64,
    pub bad_timestamp: f64,
    pub out_of_range: f64,
    /// Emergency records alone have a field with a set.
    pub not_in_set: f64,
    /// Share of records with a nullable field under another name.
    pub renamed_field: f64,
    /// Share of records with a field that no one declared.
    pub extra_field: f64,
    /// Share of records with a value in another unit.
    pub wrong_unit: f64,
    /// Share of devices whose clock is wrong, by 5 seconds to 10 minutes.
    pub clock_skew: f64,
    /// Chance in an hour that a device goes silent for half a minute to 4 minutes, and then sends all at once.
    pub silence: f64,
    /// Chance in an hour that a vehicle's speed sensor holds its value for 1 to 10 minutes.
    pub stuck_sensor: f64,
    /// Chance in an hour that a partition stalls for 1 to 5 minutes.
    pub lagging_partition: f64,
    /// Partitions of a topic; 0 counts as 4.
    pub partitions: u32,
}

/// Faults of single records, in the order in which the shares are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Late,
    OutOfOrder,
    Duplicate,
    NullValue,
    Empty,
    InvalidUtf8,
    NotJson,
    NotAnObject,
    TooDeep,
    LoneSurrogate,
    DuplicateKey,
    MissingField,
    WrongType,
    NotFinite,
    BadTimestamp,
    OutOfRange,
    NotInSet,
    RenamedField,
    ExtraField,
    WrongUnit,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Kind::Late => "late",
            Kind::OutOfOrder => "out_of_order",
            Kind::Duplicate => "duplicate",
            Kind::NullValue => "null_value",
            Kind::Empty => "empty",
            Kind::InvalidUtf8 => "invalid_utf8",
            Kind::NotJson => "not_json",
            Kind::NotAnObject => "not_an_object",
            Kind::TooDeep => "too_deep",
            Kind::LoneSurrogate => "lone_surrogate",
            Kind::DuplicateKey => "duplicate_key",
            Kind::MissingField => "missing_field",
            Kind::WrongType => "wrong_type",
            Kind::NotFinite => "not_finite",
            Kind::BadTimestamp => "bad_timestamp",
            Kind::OutOfRange => "out_of_range",
            Kind::NotInSet => "not_in_set",
            Kind::RenamedField => "renamed_field",
            Kind::ExtraField => "extra_field",
            Kind::WrongUnit => "wrong_unit",
        }
    }

    /// Whether the record ends as a dead letter, whose class then has the kind's name.
    pub(super) fn is_malformed(self) -> bool {
        !matches!(
            self,
            Kind::Late | Kind::OutOfOrder | Kind::Duplicate | Kind::RenamedField | Kind::ExtraField | Kind::WrongUnit
        )
    }
}

/// Faults that are known by a name, each a file of rates.
const PRESETS: [(&str, &str); 4] = [
    ("none", ""),
    ("malformed", include_str!("../../../data/faults/malformed.toml")),
    ("disorder", include_str!("../../../data/faults/disorder.toml")),
    ("everything", include_str!("../../../data/faults/everything.toml")),
];

impl Faults {
    /// The names that [`Self::preset`] knows.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(name, _)| *name)
    }

    /// Faults known by a name.
    pub fn preset(name: &str) -> Option<Self> {
        let (_, text) = PRESETS.iter().find(|(known, _)| *known == name)?;
        Some(Self::parse(text).expect("a test reads all presets"))
    }

    /// Reads rates from TOML; what is not named is 0.
    ///
    /// # Errors
    /// What is wrong with the text, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let faults: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let of_records = faults.of_records();
        let rates = of_records.iter().map(|(_, rate)| *rate).chain([
            faults.clock_skew,
            faults.silence,
            faults.stuck_sensor,
            faults.lagging_partition,
        ]);
        for rate in rates {
            if !(0.0..=1.0).contains(&rate) {
                return Err(format!("{rate} is no rate: it must lie between 0 and 1"));
            }
        }
        let sum: f64 = of_records.iter().map(|(_, rate)| rate).sum();
        if sum > 1.0 {
            return Err(format!(
                "a record has one fault at most, but the rates of records add up to {sum}"
            ));
        }
        Ok(faults)
    }

    /// Partitions of a topic.
    pub(super) fn partitions(&self) -> u32 {
        if self.partitions == 0 { 4 } else { self.partitions }
    }

    fn of_records(&self) -> [(Kind, f64); 20] {
        [
            (Kind::Late, self.late),
            (Kind::OutOfOrder, self.out_of_order),
            (Kind::Duplicate, self.duplicate),
            (Kind::NullValue, self.null_value),
            (Kind::Empty, self.empty),
            (Kind::InvalidUtf8, self.invalid_utf8),
            (Kind::NotJson, self.not_json),
            (Kind::NotAnObject, self.not_an_object),
            (Kind::TooDeep, self.too_deep),
            (Kind::LoneSurrogate, self.lone_surrogate),
            (Kind::DuplicateKey, self.duplicate_key),
            (Kind::MissingField, self.missing_field),
            (Kind::WrongType, self.wrong_type),
            (Kind::NotFinite, self.not_finite),
            (Kind::BadTimestamp, self.bad_timestamp),
            (Kind::OutOfRange, self.out_of_range),
            (Kind::NotInSet, self.not_in_set),
            (Kind::RenamedField, self.renamed_field),
            (Kind::ExtraField, self.extra_field),
            (Kind::WrongUnit, self.wrong_unit),
        ]
    }

    /// Whether anything can go wrong at all.
    pub fn any(&self) -> bool {
        let episodes = self.clock_skew + self.silence + self.stuck_sensor + self.lagging_partition;
        episodes > 0.0 || self.of_records().iter().any(|(_, rate)| *rate > 0.0)
    }
}

/// The shares of records laid end to end, for one draw to fall on.
#[derive(Debug, Clone)]
pub(super) struct Lottery(Vec<(f64, Kind)>);

impl Lottery {
    pub(super) fn new(faults: &Faults) -> Self {
        let mut sum = 0.0;
        let ends = faults.of_records().into_iter().filter(|(_, rate)| *rate > 0.0);
        Self(
            ends.map(|(kind, rate)| {
                sum += rate;
                (sum, kind)
            })
            .collect(),
        )
    }

    /// The fault of a record, by the draw behind it.
    #[inline]
    pub(super) fn draw(&self, draw: Key) -> Option<Kind> {
        let drawn = unit(draw.of(For::Fault).word());
        if self.0.last().is_none_or(|(end, _)| drawn >= *end) {
            return None;
        }
        self.0.iter().find(|(end, _)| drawn < *end).map(|(_, kind)| *kind)
    }
}

/// How long a record is held up.
pub(super) fn delay_us(kind: Kind, draw: Key) -> i64 {
    let draw = draw.of(For::Fault).with(1);
    match kind {
        Kind::Late => (draw.between(60.0, 600.0) * 1e6) as i64,
        Kind::OutOfOrder => (draw.between(1.0, 8.0) * 1e6) as i64,
        // The second copy: half of them at once.
        Kind::Duplicate if draw.happens(0.5) => (draw.with(1).between(1.0, 30.0) * 1e6) as i64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_read_and_told_apart() {
        for name in Faults::presets() {
            let faults = Faults::preset(name).unwrap();
            assert_eq!(faults.any(), name != "none", "{name}");
        }
        assert_eq!(Faults::preset("nothing"), None);
        let everything = Faults::preset("everything").unwrap();
        assert!(everything.of_records().iter().all(|(_, rate)| *rate == 0.01));
    }

    #[test]
    fn rates_are_checked() {
        assert!(Faults::parse("late = 1.5").unwrap_err().contains("1.5"));
        assert!(Faults::parse("lat = 0.1").unwrap_err().contains("unknown field `lat`"));
        assert!(Faults::parse("late = 0.6\nempty = 0.6").unwrap_err().contains("1.2"));
    }

    #[test]
    fn each_kind_has_its_share() {
        let lottery = Lottery::new(&Faults::preset("everything").unwrap());
        let mut counts = std::collections::BTreeMap::new();
        let n = 200_000;
        for record in 0..n {
            if let Some(kind) = lottery.draw(Key::new(record)) {
                *counts.entry(kind.as_str()).or_insert(0) += 1;
            }
        }
        assert_eq!(counts.len(), 20);
        for (kind, count) in counts {
            let share = f64::from(count) / n as f64;
            assert!((share - 0.01).abs() < 0.001, "{kind}: {share}");
        }
    }
}
