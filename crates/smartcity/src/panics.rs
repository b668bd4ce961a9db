//! What is printed when the program has a bug: one line that says so and what to do, not a panic's report.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};

/// From here on, panics of any thread are reported in this way. What they end is not changed.
pub(crate) fn install() {
    panic::set_hook(Box::new(|panic| {
        eprintln!("{}", report(panic, &Backtrace::capture()));
    }));
}

/// The line, and a backtrace where `RUST_BACKTRACE` asked for one.
fn report(panic: &PanicHookInfo<'_>, backtrace: &Backtrace) -> String {
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map_or_else(String::new, |place| format!(" ({place})"));
    let line = format!(
        "internal error: {}{place}; this is a bug of smartcity {}, please report this line and the command to its issue tracker",
        message.replace('\n', " "),
        env!("CARGO_PKG_VERSION")
    );
    match backtrace.status() {
        BacktraceStatus::Captured => format!("{line}\n{backtrace}"),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_bug_is_one_line() {
        static SEEN: Mutex<String> = Mutex::new(String::new());
        let before = panic::take_hook();
        panic::set_hook(Box::new(|panic| {
            // Not another test's.
            if panic
                .location()
                .is_some_and(|place| place.file().ends_with("panics.rs"))
            {
                *SEEN.lock().unwrap() = report(panic, &Backtrace::disabled());
            }
        }));
        let ended = std::thread::spawn(|| panic!("two\nlines of {}", 1)).join();
        panic::set_hook(before);
        assert!(ended.is_err());
        let seen = SEEN.lock().unwrap().clone();
        assert!(
            seen.starts_with("internal error: two lines of 1 (") && seen.contains("panics.rs:"),
            "{seen}"
        );
        assert_eq!(seen.lines().count(), 1);
    }
}
