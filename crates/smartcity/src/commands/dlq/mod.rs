//! `smartcity dlq`

mod letter_text;
mod list;
mod query;
mod replay;
mod show;

use std::path::Path;

use anyhow::Result;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Count the dead letters by topic, stage, class and field
    List(list::Args),
    /// Print dead letters, the place of the fault marked
    Show(show::Args),
    /// Decode dead letters by the present declarations and commit those that are valid now, exactly once
    Replay(replay::Args),
}

pub(crate) fn run(file: Option<&Path>, command: &Command) -> Result<()> {
    match command {
        Command::List(args) => list::run(file, args),
        Command::Show(args) => show::run(file, args),
        Command::Replay(args) => replay::run(file, args),
    }
}
