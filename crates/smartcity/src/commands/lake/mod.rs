//! `smartcity lake`

mod backfill;
mod history;
mod verify;

use std::path::Path;

use anyhow::Result;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Prove that the tables hold each record once, as it was committed; exit code 3 when they do not
    Verify(verify::Args),
    /// List the versions of the tables, to read them as they were: query --at-version, --as-of
    History(history::Args),
    /// Move values that came before their field was declared from `_extra` into its column
    Backfill(backfill::Args),
}

pub(crate) fn run(file: Option<&Path>, command: &Command) -> Result<()> {
    match command {
        Command::Verify(args) => verify::run(file, args),
        Command::History(args) => history::run(file, args),
        Command::Backfill(args) => backfill::run(file, args),
    }
}
