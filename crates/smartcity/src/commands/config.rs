//! `smartcity config show`

use std::path::Path;

use anyhow::Result;

use crate::config::{Config, DEFAULT, effective, shown};

pub(crate) fn run(file: Option<&Path>, default: bool) -> Result<()> {
    if default {
        print!("{DEFAULT}");
        return Ok(());
    }
    let settings = effective(file, std::env::vars(), &Vec::new())?;
    Config::from_settings(settings.clone())?;
    print!("{}", shown(settings));
    Ok(())
}
