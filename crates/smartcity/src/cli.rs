//! The commands there are, and the flags that all of them take.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::commands::{broker, config, dlq, ingest, lake, query, simulate, status, up};

/// A city's sensor streams from Kafka into a Delta Lake, exactly once
#[derive(Debug, Parser)]
#[command(name = "smartcity", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Settings file, also by SMARTCITY_CONFIG [default: smartcity.toml, when there is one]
    #[arg(long, global = true, value_name = "FILE", env = "SMARTCITY_CONFIG", hide_env = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All of it in one process: a broker, a simulated city, ingest, a lake
    Up(up::Args),
    /// Send simulated sensor messages to Kafka, or print them
    Simulate(simulate::Args),
    /// Ingest Kafka topics into the lake, exactly once
    Ingest(ingest::Args),
    /// Ask the lake a question in SQL
    Query(query::Args),
    /// Show what the lake holds of each stream, its dead letters, and the fields that no one declared
    Status(status::Args),
    /// Look after the lake's tables
    Lake {
        #[command(subcommand)]
        command: lake::Command,
    },
    /// The records that could not become rows
    Dlq {
        #[command(subcommand)]
        command: dlq::Command,
    },
    /// Run the embedded Kafka broker, or name its users
    Broker(broker::Args),
    /// Show the settings in force
    Config {
        #[command(subcommand)]
        command: config::Command,
    },
}

impl Cli {
    pub(crate) fn run(self) -> Result<()> {
        let file = self.config.as_deref();
        match self.command {
            Command::Up(args) => up::run(file, &args),
            Command::Simulate(args) => simulate::run(file, &args),
            Command::Ingest(args) => ingest::run(file, &args),
            Command::Query(args) => query::run(file, &args),
            Command::Status(args) => status::run(file, &args),
            Command::Lake { command } => lake::run(file, &command),
            Command::Dlq { command } => dlq::run(file, &command),
            Command::Broker(args) => broker::run(file, &args),
            Command::Config { command } => config::run(file, &command),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
