//! `smartcity config show`

use std::path::Path;

use anyhow::Result;

use crate::config::{Config, DEFAULT, effective, shown};

pub(crate) fn run(file: Option<&Path>, default: bool) -> Result<()> {
    if default {
        print!("{DEFAULT}");
        return Ok(());
    }
    let flags = Vec::new();
    Config::load(file, std::env::vars(), &flags)?;
    print!("{}", shown(effective(file, std::env::vars(), &flags)?));
    Ok(())
}
