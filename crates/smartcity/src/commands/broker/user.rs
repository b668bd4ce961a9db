//! `smartcity broker user`

use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use auth::{SystemEntropy, read_private, replace_private, replace_user, user_entries};

use crate::exit::usage;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As the client gives it
    name: String,
    /// Put the lines into this file instead, in place of the user's old ones; made when missing
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// Take the user out of the file
    #[arg(long, requires = "users", conflicts_with = "password_file")]
    remove: bool,
    /// Read the password from the first line of this file instead of stdin
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Rounds of hashing, for whoever has stolen the file as for every client that connects
    #[arg(long, value_name = "N", default_value_t = 8192)]
    iterations: u32,
}

/// A longer line is no password.
const PASSWORD_BYTES_MAX: u64 = 4096;

pub(super) fn run(user: &Args) -> Result<()> {
    if user.remove {
        return store(user, "");
    }
    let password = password(user)?;
    let entries = user_entries(&user.name, &password, user.iterations, &SystemEntropy)?;
    if user.users.is_some() {
        return store(user, &entries);
    }
    print!("{entries}");
    Ok(())
}

/// The first line of the file or of stdin; asked for, and not shown, at a terminal.
fn password(user: &Args) -> Result<String> {
    let line = match &user.password_file {
        Some(path) => read_private(path)?.lines().next().unwrap_or_default().to_owned(),
        None if io::stdin().is_terminal() => {
            let typed = rpassword::prompt_password(format!("password of {}: ", user.name));
            let typed = typed.context("cannot read the password")?;
            let again = rpassword::prompt_password("once more: ").context("cannot read the password")?;
            if typed != again {
                return Err(usage("the two passwords differ"));
            }
            typed
        }
        None => {
            let mut line = String::new();
            let mut stdin = io::Read::take(io::stdin().lock(), PASSWORD_BYTES_MAX);
            stdin
                .read_line(&mut line)
                .context("cannot read the password from stdin")?;
            line
        }
    };
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(usage(
            "there is no password: write it to stdin, or name a file with --password-file",
        ));
    }
    Ok(password.to_owned())
}

fn store(user: &Args, entries: &str) -> Result<()> {
    let Some(path) = &user.users else { return Ok(()) };
    let before = if path.exists() {
        read_private(path)?
    } else {
        String::new()
    };
    let after = replace_user(&before, &user.name, entries);
    if user.remove && after.lines().eq(before.lines()) {
        return Err(usage(format!("{} has no user `{}`", path.display(), user.name)));
    }
    replace_private(path, &after)?;
    let done = if user.remove { "removed from" } else { "written to" };
    eprintln!("user {} {done} {}", user.name, path.display());
    Ok(())
}
