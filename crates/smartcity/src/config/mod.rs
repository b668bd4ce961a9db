//! Settings: `default.toml`, then the user's file, then the environment, then flags.
//!
//! `layers` lays them over each other and knows where each value comes from; a layer may set only what the first one
//! names, so that a misspelt key is refused. `settings` says what there is, `values` how each kind of value is written.
//! All mistakes of all layers are reported at once, each with its place and the value.
//!
//! Not `figment`: it knows which file a value comes from but not the line, and brings a second version of `toml`.

mod layers;
mod settings;
mod values;

#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::Result;

use layers::Layers;

pub(crate) use layers::{DEFAULT, Flags, nearest};
pub(crate) use settings::{BrokerSasl, BrokerTls, Config, Profile, Simulator, StartingOffsets};
pub(crate) use values::{ErrorsTolerance, HostPort, Pace, Span, Start};

/// The settings in force. `file` is the one that the user named.
///
/// # Errors
/// All mistakes, each with its place.
pub(crate) fn load(file: Option<&Path>, flags: &Flags) -> Result<Config> {
    Config::load(file, std::env::vars(), flags)
}

/// The settings in force as TOML, without what may be secret.
///
/// # Errors
/// As [`load`].
pub(crate) fn show(file: Option<&Path>) -> Result<String> {
    let mut layers = Layers::read(file, std::env::vars(), &Vec::new());
    Config::read(&mut layers);
    layers.check()?;
    Ok(layers.shown())
}

impl Config {
    /// Puts the layers together. `environment` is what `std::env::vars` gives.
    fn load(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>, flags: &Flags) -> Result<Config> {
        let mut layers = Layers::read(file, environment, flags);
        let config = Config::read(&mut layers);
        layers.check()?;
        for warning in layers.warnings() {
            eprintln!("warning: {warning}");
        }
        Ok(config)
    }
}
