//! How a test says that it cannot run here: what it needs is not on this machine. The one way; a test of the workspace looks
//! for others. Tests include this file by its path, so that no crate is needed for it.

/// Says that a test is skipped for want of `what`. The test then returns.
///
/// # Panics
/// Where `CI` is set: a machine that checks changes must have all that tests need.
pub(crate) fn skip(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "CI must have {what}");
    // Straight to the handle: the test harness hides what `eprintln!` prints in a passing test.
    use std::io::Write as _;
    writeln!(std::io::stderr(), "SKIPPED: {what} is not on this machine").ok();
}
