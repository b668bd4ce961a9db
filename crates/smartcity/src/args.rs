//! Groups of flags that several commands share, and how flags become settings. A flag overrides the setting of the same
//! meaning; nothing has a default here.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::config::Flags;

/// Pairs of setting and flag, for those flags that were given.
macro_rules! flags {
    ($($path:literal = $flag:expr),* $(,)?) => {
        [$($flag.as_ref().map(|flag| ($path, flag.to_string()))),*]
            .into_iter()
            .flatten()
            .collect::<crate::config::Flags>()
    };
}
pub(crate) use flags;

// The structs have no comments of their own: clap would print them.

#[derive(Debug, Args)]
pub(crate) struct LakeArgs {
    /// Lake location: a folder, or s3://bucket/prefix
    #[arg(long, value_name = "PATH")]
    lake: Option<String>,
}

impl LakeArgs {
    pub(crate) fn flags(&self) -> Flags {
        flags! { "lake.path" = self.lake }
    }
}

#[derive(Debug, Args)]
pub(crate) struct WriteArgs {
    /// What a write waits for: fsync, so that a power cut takes nothing; os, which is faster
    #[arg(long, value_parser = ["fsync", "os"])]
    durability: Option<String>,
    /// Encoding of new files: what every reader takes, or fewer bytes
    #[arg(long, value_name = "PROFILE", value_parser = ["compatible", "compact"])]
    parquet_profile: Option<String>,
}

impl WriteArgs {
    pub(crate) fn flags(&self) -> Flags {
        flags! {
            "lake.durability" = self.durability,
            "broker.durability" = self.durability,
            "parquet.profile" = self.parquet_profile,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct StreamsArgs {
    /// Folder of stream declarations instead of the built-in ones
    #[arg(long, value_name = "DIR")]
    streams: Option<PathBuf>,
}

impl StreamsArgs {
    pub(crate) fn flags(&self) -> Flags {
        flags! { "streams.dir" = display(&self.streams) }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ApplicationArgs {
    /// Owner of the offsets in the tables
    #[arg(long)]
    application: Option<String>,
}

impl ApplicationArgs {
    pub(crate) fn flags(&self) -> Flags {
        flags! { "ingest.application" = self.application }
    }
}

#[derive(Debug, Args)]
pub(crate) struct KafkaArgs {
    /// The Kafka cluster, several addresses separated by commas
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_servers: Option<String>,
}

impl KafkaArgs {
    pub(crate) fn flags(&self) -> Flags {
        flags! { "kafka.bootstrap_servers" = self.bootstrap_servers }
    }
}

#[derive(Debug, Args)]
pub(crate) struct FleetArgs {
    /// What drives through the city
    #[arg(long, value_enum)]
    pub(crate) profile: Option<Profile>,
    /// The same seed draws the same run
    #[arg(long)]
    seed: Option<u64>,
    /// How many vehicles the fleet has
    #[arg(long, value_name = "N")]
    vehicles: Option<u32>,
    /// How often in a second each vehicle of the fleet sends its five records
    #[arg(long, value_name = "R")]
    rate: Option<f64>,
}

impl FleetArgs {
    /// All but the profile, which is another setting for each command.
    pub(crate) fn flags(&self) -> Flags {
        flags! {
            "simulator.seed" = self.seed,
            "simulator.vehicles" = self.vehicles,
            "simulator.rate" = self.rate,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct PaceArgs {
    /// Event time of the start: ISO 8601 in UTC, now, or rush-hour
    #[arg(long, value_name = "TIME")]
    pub(crate) start: Option<String>,
    /// max, a duration per step (5s), or a speed-up of event time (60x)
    #[arg(long)]
    pub(crate) pace: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Profile {
    /// One vehicle from London to Birmingham, as in the tutorial
    Classic,
    /// Vehicles on real roads, with traffic, weather and incidents
    Fleet,
}

impl Profile {
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Profile::Classic => "classic",
            Profile::Fleet => "fleet",
        }
    }
}

pub(crate) fn display(path: &Option<PathBuf>) -> Option<String> {
    path.as_ref().map(|path| path.display().to_string())
}
