//! Commands and flags. A flag overrides the setting of the same meaning; nothing has a default here.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands;
use crate::config::{Config, Flags};

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
    Up(Up),
    /// Send simulated sensor messages to Kafka, or print them
    Simulate(Simulate),
    /// Land Kafka topics in the lake, exactly once
    Ingest(Ingest),
    /// Ask the lake a question in SQL
    Query(Query),
    /// Tell what the lake holds of each stream, its dead letters, and the fields that no one declared
    Status(Status),
    /// Look after the lake's tables
    Lake {
        #[command(subcommand)]
        command: LakeCommand,
    },
    /// The records that could not become rows
    Dlq {
        #[command(subcommand)]
        command: DlqCommand,
    },
    /// Run the embedded Kafka broker, or name its users
    Broker(Broker),
    /// Show the settings in force
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// What drives through the city
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    /// The same seed draws the same run
    #[arg(long)]
    seed: Option<u64>,
    /// How many vehicles the fleet has
    #[arg(long, value_name = "N")]
    vehicles: Option<u32>,
    /// How often in a second each vehicle of the fleet sends its five records
    #[arg(long, value_name = "R")]
    rate: Option<f64>,
    /// Event time of the start: ISO 8601 in UTC, now, or rush-hour
    #[arg(long, value_name = "TIME")]
    start: Option<String>,
    /// max, a duration per step (5s), or a speed-up of event time (60x)
    #[arg(long)]
    pace: Option<String>,
    /// The longest a record waits for its commit
    #[arg(long, value_name = "DURATION")]
    latency: Option<String>,
    /// Folder for the lake and the broker's topics [default: ./smartcity-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Folder of stream declarations instead of the built-in ones
    #[arg(long, value_name = "DIR")]
    streams: Option<PathBuf>,
    /// Where the embedded broker listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    kafka_listen: Option<String>,
    /// Where progress, health and metrics are shown; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    http_listen: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// What drives through the city
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    /// The same seed draws the same run
    #[arg(long)]
    seed: Option<u64>,
    /// How many vehicles the fleet has
    #[arg(long, value_name = "N")]
    vehicles: Option<u32>,
    /// How often in a second each vehicle of the fleet sends its five records
    #[arg(long, value_name = "R")]
    rate: Option<f64>,
    /// How much event time the fleet's run lasts [default: until stopped]
    #[arg(long, value_name = "DURATION")]
    duration: Option<String>,
    /// Threads that make the fleet's records; 0 means one per core
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// What goes wrong: none, malformed, disorder, everything, or a TOML file of rates
    #[arg(long, value_name = "FILE|NAME")]
    faults: Option<String>,
    /// Folder for the ledger: every fault, every incident, every situation to alert on
    #[arg(long, value_name = "DIR")]
    truth: Option<PathBuf>,
    /// Let traffic cameras send pictures
    #[arg(long)]
    snapshots: bool,
    /// Event time of the start: ISO 8601 in UTC, now, or rush-hour
    #[arg(long, value_name = "TIME")]
    start: Option<String>,
    /// max, a duration per step (5s), or a speed-up of event time (60x)
    #[arg(long)]
    pace: Option<String>,
    /// Print {"topic":..,"key":..,"value":{..}} lines to stdout instead of sending
    #[arg(long, conflicts_with = "bootstrap_servers")]
    pub(crate) print: bool,
    /// The cluster to send to
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_servers: Option<String>,
    /// Print the summary as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Ingest {
    /// The cluster to read from
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_servers: Option<String>,
    /// What holds the tables: a folder, or s3://bucket/prefix
    #[arg(long, value_name = "PATH")]
    lake: Option<String>,
    /// Stop when everything that Kafka held at the start has landed
    #[arg(long)]
    pub(crate) until_caught_up: bool,
    /// The longest a record waits for its commit
    #[arg(long, value_name = "DURATION")]
    latency: Option<String>,
    /// Folder of stream declarations instead of the built-in ones
    #[arg(long, value_name = "DIR")]
    streams: Option<PathBuf>,
    /// Land only these streams
    #[arg(long, value_name = "STREAM", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Owner of the offsets in the tables
    #[arg(long)]
    application: Option<String>,
    /// Consumer group
    #[arg(long, value_name = "GROUP")]
    group_id: Option<String>,
    /// Where to begin a partition that has never landed
    #[arg(long, value_parser = ["earliest", "latest"])]
    starting_offsets: Option<String>,
    /// Whether to stop when records are gone from Kafka before they have landed, instead of recording them in `gaps`
    #[arg(long, value_name = "BOOL")]
    fail_on_data_loss: Option<bool>,
    /// How much of a stream may be broken before it is stopped: all, none, or a share such as 5%
    #[arg(long, value_name = "SHARE")]
    errors_tolerance: Option<String>,
    /// Threads that decode and encode; 0 means one per core
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Where progress, health and metrics are shown [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    http_listen: Option<String>,
    /// Print the summary as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Query {
    /// One statement; only reading is allowed
    pub(crate) sql: String,
    /// How to print the result; json is one object per line
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: Format,
    /// What holds the tables: a folder, or s3://bucket/prefix
    #[arg(long, value_name = "PATH")]
    lake: Option<String>,
    /// Read every table at this version
    #[arg(long, value_name = "N", conflicts_with = "as_of")]
    pub(crate) at_version: Option<i64>,
    /// Read every table as it was at this time: ISO 8601 in UTC
    #[arg(long, value_name = "TIME")]
    pub(crate) as_of: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// What holds the tables: a folder, or s3://bucket/prefix
    #[arg(long, value_name = "PATH")]
    lake: Option<String>,
    /// Folder of stream declarations instead of the built-in ones
    #[arg(long, value_name = "DIR")]
    streams: Option<PathBuf>,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
enum LakeCommand {
    /// Prove that the tables hold each record once, as it was committed; exit code 3 when they do not
    Verify(Verify),
    /// Move values that came before their field was declared from `_extra` into its column
    Backfill(Backfill),
}

#[derive(Debug, Subcommand)]
enum DlqCommand {
    /// Count the dead letters by topic, stage, class and field
    List(DlqList),
    /// Print dead letters, the place of the fault marked
    Show(DlqShow),
    /// Judge dead letters by the present declarations and land the good ones, exactly once
    Replay(DlqReplay),
}

#[derive(Debug, Args)]
pub(crate) struct DlqList {
    /// What holds the tables: a folder, or s3://bucket/prefix
    #[arg(long, value_name = "PATH")]
    lake: Option<String>,
    /// Only those that fulfil a condition on the table dead_letters
    #[arg(long, value_name = "SQL")]
    pub(crate) r#where: Option<String>,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DlqShow {
    /// What holds the tables: a folder, or s3://bucket/prefix
    #[arg(long, value_name = "PATH")]
    lake: Option<String>,
    /// Only those that fulfil a condition on the table dead_letters
    #[arg(long, value_name = "SQL")]
    pub(crate) r#where: Option<String>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) limit: u64,
    /// Print one JSON object per line, with all columns
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DlqReplay {
    /// What holds the tables: a folder, or s3://bucket/prefix
    #[arg(long, value_name = "PATH")]
    lake: Option<String>,
    /// Only those that fulfil a condition on the table dead_letters
    #[arg(long, value_name = "SQL")]
    pub(crate) r#where: Option<String>,
    /// Tell what would become of them and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Folder of stream declarations instead of the built-in ones
    #[arg(long, value_name = "DIR")]
    streams: Option<PathBuf>,
    /// Owner of the offsets in the tables
    #[arg(long)]
    application: Option<String>,
    /// Print the counts as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Backfill {
    /// What holds the tables: a folder, or s3://bucket/prefix
    #[arg(long, value_name = "PATH")]
    lake: Option<String>,
    /// Only these streams
    #[arg(long, value_name = "STREAM", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Tell what would be moved and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Folder of stream declarations instead of the built-in ones
    #[arg(long, value_name = "DIR")]
    streams: Option<PathBuf>,
    /// Owner of the offsets in the tables
    #[arg(long)]
    application: Option<String>,
    /// Print the counts as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// What holds the tables: a folder, or s3://bucket/prefix
    #[arg(long, value_name = "PATH")]
    lake: Option<String>,
    /// Check only these tables
    #[arg(long, value_name = "TABLE", value_delimiter = ',')]
    pub(crate) table: Vec<String>,
    /// Compare every row and dead letter with its record in Kafka
    #[arg(long)]
    pub(crate) against_kafka: bool,
    /// The cluster to compare with
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_servers: Option<String>,
    /// Folder of stream declarations instead of the built-in ones
    #[arg(long, value_name = "DIR")]
    streams: Option<PathBuf>,
    /// Print the findings as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Broker {
    #[command(subcommand)]
    command: Option<BrokerCommand>,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where to keep the topics
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Partitions of a topic whose creator does not say
    #[arg(long, value_name = "N")]
    partitions: Option<u16>,
    /// What a power cut may take: os, a duration, or always for nothing
    #[arg(long, value_name = "WHEN")]
    flush: Option<String>,
    /// Where health and metrics are shown [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    http_listen: Option<String>,
    /// What clients are told to connect to, where it is not --listen
    #[arg(long, value_name = "HOST:PORT")]
    advertised: Option<String>,
    /// Certificate chain for TLS, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Private key of the certificate, PEM, readable by its owner alone
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// File of the users who may connect, made by `broker user`
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum BrokerCommand {
    /// Let a user in, or change the password: reads it from stdin and prints the lines for the file of users
    User(BrokerUser),
}

#[derive(Debug, Args)]
pub(crate) struct BrokerUser {
    /// As the client gives it
    pub(crate) name: String,
    /// Put the lines into this file instead, in place of the user's old ones; made when missing
    #[arg(long, value_name = "FILE")]
    pub(crate) users: Option<PathBuf>,
    /// Take the user out of the file
    #[arg(long, requires = "users", conflicts_with = "password_file")]
    pub(crate) remove: bool,
    /// Read the password from the first line of this file instead of stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Rounds of hashing, for whoever has stolen the file as for every client that connects
    #[arg(long, value_name = "N", default_value_t = 8192)]
    pub(crate) iterations: u32,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the settings in force as TOML, secrets masked
    Show {
        /// Print the commented defaults instead
        #[arg(long)]
        default: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Profile {
    /// One vehicle from London to Birmingham, as in the tutorial
    Classic,
    /// Vehicles on real roads, with traffic, weather and incidents
    Fleet,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    Table,
    Csv,
    Json,
    Parquet,
}

/// Pairs of setting and flag, for those flags that were given.
macro_rules! flags {
    ($($path:literal = $flag:expr),* $(,)?) => {
        [$($flag.as_ref().map(|flag| ($path, flag.to_string()))),*].into_iter().flatten().collect::<Flags>()
    };
}

impl Cli {
    pub(crate) fn run(self) -> Result<()> {
        let file = self.config.as_deref();
        let load = |flags: &Flags| Config::load(file, std::env::vars(), flags);
        match self.command {
            Command::Up(up) => commands::up::run(&load(&up.flags())?),
            Command::Simulate(simulate) => commands::simulate::run(&load(&simulate.flags())?, &simulate),
            Command::Ingest(ingest) => commands::ingest::run(&load(&ingest.flags())?, &ingest),
            Command::Query(query) => commands::query::run(&load(&lake_flag(&query.lake))?, &query),
            Command::Lake { command } => match command {
                LakeCommand::Verify(verify) => commands::lake::verify(&load(&verify.flags())?, &verify),
                LakeCommand::Backfill(backfill) => commands::backfill::run(&load(&backfill.flags())?, &backfill),
            },
            Command::Status(status) => commands::status::run(&load(&status.flags())?, &status),
            Command::Dlq { command } => match command {
                DlqCommand::List(list) => commands::dlq::list(&load(&lake_flag(&list.lake))?, &list),
                DlqCommand::Show(show) => commands::dlq::show(&load(&lake_flag(&show.lake))?, &show),
                DlqCommand::Replay(replay) => commands::dlq::replay(&load(&replay.flags())?, &replay),
            },
            Command::Broker(Broker {
                command: Some(BrokerCommand::User(user)),
                ..
            }) => commands::broker_user::run(&user),
            Command::Broker(broker) => commands::broker::run(&load(&broker.flags())?),
            Command::Config {
                command: ConfigCommand::Show { default },
            } => commands::config::run(file, default),
        }
    }
}

fn display(path: &Option<PathBuf>) -> Option<String> {
    path.as_ref().map(|path| path.display().to_string())
}

impl Profile {
    fn setting(self) -> &'static str {
        match self {
            Profile::Classic => "classic",
            Profile::Fleet => "fleet",
        }
    }
}

impl Up {
    fn flags(&self) -> Flags {
        let below = |name: &str| self.data_dir.as_ref().map(|dir| dir.join(name).display().to_string());
        flags! {
            "up.profile" = self.profile.map(Profile::setting),
            "up.start" = self.start,
            "up.pace" = self.pace,
            "up.latency" = self.latency,
            "simulator.seed" = self.seed,
            "simulator.vehicles" = self.vehicles,
            "simulator.rate" = self.rate,
            "lake.path" = below("lake"),
            "broker.data_dir" = below("broker"),
            "streams.dir" = display(&self.streams),
            "broker.listen" = self.kafka_listen,
            "http.listen" = self.http_listen,
        }
    }
}

impl Simulate {
    fn flags(&self) -> Flags {
        flags! {
            "simulator.profile" = self.profile.map(Profile::setting),
            "simulator.seed" = self.seed,
            "simulator.vehicles" = self.vehicles,
            "simulator.rate" = self.rate,
            "simulator.duration" = self.duration,
            "simulator.threads" = self.threads,
            "simulator.faults" = self.faults,
            "simulator.truth" = display(&self.truth),
            "simulator.snapshots" = self.snapshots.then_some(true),
            "simulator.start" = self.start,
            "simulator.pace" = self.pace,
            "kafka.bootstrap_servers" = self.bootstrap_servers,
        }
    }
}

impl Ingest {
    fn flags(&self) -> Flags {
        flags! {
            "kafka.bootstrap_servers" = self.bootstrap_servers,
            "kafka.group_id" = self.group_id,
            "lake.path" = self.lake,
            "ingest.latency" = self.latency,
            "ingest.application" = self.application,
            "ingest.starting_offsets" = self.starting_offsets,
            "ingest.fail_on_data_loss" = self.fail_on_data_loss,
            "ingest.errors_tolerance" = self.errors_tolerance,
            "ingest.workers" = self.workers,
            "streams.dir" = display(&self.streams),
            "ingest.http_listen" = self.http_listen,
        }
    }
}

fn lake_flag(lake: &Option<String>) -> Flags {
    flags! { "lake.path" = lake }
}

/// Whose tables, and by which declarations.
fn table_flags(lake: &Option<String>, streams: &Option<PathBuf>, application: &Option<String>) -> Flags {
    flags! {
        "lake.path" = lake,
        "streams.dir" = display(streams),
        "ingest.application" = application,
    }
}

impl DlqReplay {
    fn flags(&self) -> Flags {
        table_flags(&self.lake, &self.streams, &self.application)
    }
}

impl Status {
    fn flags(&self) -> Flags {
        table_flags(&self.lake, &self.streams, &None)
    }
}

impl Backfill {
    fn flags(&self) -> Flags {
        table_flags(&self.lake, &self.streams, &self.application)
    }
}

impl Verify {
    fn flags(&self) -> Flags {
        flags! {
            "lake.path" = self.lake,
            "kafka.bootstrap_servers" = self.bootstrap_servers,
            "streams.dir" = display(&self.streams),
        }
    }
}

impl Broker {
    fn flags(&self) -> Flags {
        flags! {
            "broker.listen" = self.listen,
            "broker.data_dir" = display(&self.data_dir),
            "broker.partitions" = self.partitions,
            "broker.flush" = self.flush,
            "broker.http_listen" = self.http_listen,
            "broker.advertised" = self.advertised,
            "broker.tls.certificate_chain" = display(&self.tls_certificate),
            "broker.tls.key" = display(&self.tls_key),
            "broker.sasl.users" = display(&self.users),
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
