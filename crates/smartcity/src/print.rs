//! What goes to stdout and stderr. The standard macros panic where the reader has gone (`smartcity status | head`) or the
//! disk is full; these, of the same names, end the command instead: quietly in the first case, with an error in the second.

use std::fmt;
use std::io::{self, ErrorKind, Write as _};

use anyhow::{Context as _, Result};

/// To stdout.
macro_rules! print {
    ($($text:tt)*) => { $crate::print::to_stdout(format_args!($($text)*)) };
}

/// A line to stdout.
macro_rules! println {
    () => { $crate::print::to_stdout(format_args!("\n")) };
    ($($text:tt)*) => { $crate::print::to_stdout(format_args!("{}\n", format_args!($($text)*))) };
}

/// A line to stderr, if there is anyone to read it.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::print::to_stderr(format_args!($($text)*)) };
}

/// Ends the process when stdout takes no more: with exit code 0 when its reader has gone, for then it has seen enough.
pub(crate) fn to_stdout(text: fmt::Arguments<'_>) {
    if let Err(error) = io::stdout().lock().write_fmt(text) {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("error: cannot write to stdout: {error}");
        std::process::exit(1);
    }
}

/// The same for a command whose exit code says what it found: when the reader has gone, the rest is not printed.
pub(crate) fn until_closed(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    unless_closed(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

pub(crate) fn to_stderr(text: fmt::Arguments<'_>) {
    // Without a reader there is nobody to say that to.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// What the standard library still holds back of stdout, at the end of a command.
pub(crate) fn flush() -> Result<()> {
    unless_closed(io::stdout().lock().flush())
}

fn unless_closed(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to stdout"),
    }
}
