//! The command line: reads settings, wires the crates, prints. Protocols and formats are the other crates'.

mod cli;
mod commands;
mod config;
mod declarations;
mod exit;
mod simulation;
mod status;
mod wiring;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
