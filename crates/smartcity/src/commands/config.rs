//! `smartcity config`

use std::path::Path;

use anyhow::Result;

use crate::config::{DEFAULT, show};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print the settings in force as TOML, secrets masked
    Show {
        /// Print the commented defaults instead
        #[arg(long)]
        default: bool,
    },
}

pub(crate) fn run(file: Option<&Path>, command: &Command) -> Result<()> {
    match command {
        Command::Show { default: true } => print!("{DEFAULT}"),
        Command::Show { default: false } => print!("{}", show(file)?),
    }
    Ok(())
}
