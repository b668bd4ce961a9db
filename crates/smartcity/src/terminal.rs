//! What a terminal at stdout has room for.

use std::io::{self, IsTerminal as _};

use terminal_size::{Width, terminal_size_of};

/// Columns taken for a terminal that does not say how wide it is.
const WIDTH: usize = 80;

/// The terminal's width in characters; `None` when stdout is not a terminal.
pub(crate) fn stdout_width() -> Option<usize> {
    let stdout = io::stdout();
    stdout.is_terminal().then(|| match terminal_size_of(&stdout) {
        Some((Width(columns), _)) if columns > 0 => usize::from(columns),
        _ => WIDTH,
    })
}
