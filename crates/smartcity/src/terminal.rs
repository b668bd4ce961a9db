//! Lines that fit a terminal: what matters most comes first, and what is left out is counted.

use std::io::IsTerminal;
use std::os::fd::AsFd;

/// The width of a terminal that does not tell.
const WIDTH: usize = 80;

/// Columns of the terminal that a stream goes to; `None` when it is none. `COLUMNS` counts where the terminal does not tell.
pub(crate) fn width_of(stream: &(impl IsTerminal + AsFd)) -> Option<usize> {
    if !stream.is_terminal() {
        return None;
    }
    let asked = terminal_size::terminal_size_of(stream).map(|(width, _)| usize::from(width.0));
    let named = || std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let width = asked.filter(|width| *width > 0).or_else(named);
    Some(width.filter(|width| *width > 0).unwrap_or(WIDTH))
}

/// The width of stdout's terminal in characters; `None` when stdout is none.
pub(crate) fn stdout_width() -> Option<usize> {
    width_of(&std::io::stdout())
}

/// The parts in one line of at most `width` columns. All of `first` come before any of `then`; those of `then` that have no
/// room are counted as `noun`, and what is too long even so is cut.
pub(crate) fn line(first: &[String], then: &[String], noun: &str, width: usize) -> String {
    for kept in (0..=then.len()).rev() {
        let mut parts: Vec<&str> = first.iter().chain(&then[..kept]).map(String::as_str).collect();
        let rest = match then.len() - kept {
            0 => String::new(),
            left => format!("+{left} {noun}"),
        };
        parts.extend((!rest.is_empty()).then_some(rest.as_str()));
        let line = parts.join(" · ");
        if line.chars().count() <= width {
            return line;
        }
        if kept == 0 {
            // The count stays, unless nothing else would.
            let tail = if rest.is_empty() {
                String::new()
            } else {
                format!(" · {rest}")
            };
            let room = width.saturating_sub(tail.chars().count());
            return match room >= tail.chars().count() {
                true => cut(&first.join(" · "), room) + &tail,
                false => cut(&line, width),
            };
        }
    }
    String::new()
}

/// At most `width` columns of a text; a cut shows.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_is_kept_and_what_is_left_out_is_counted() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let first = texts(&["1000/s", "lag 0", "3 dead letters"]);
        let then = texts(&["vehicle 200/s", "gps 200/s", "traffic 200/s"]);
        for width in 10..120 {
            let line = line(&first, &then, "streams", width);
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
        assert_eq!(
            line(&first, &then, "streams", 120),
            "1000/s · lag 0 · 3 dead letters · vehicle 200/s · gps 200/s · traffic 200/s"
        );
        assert_eq!(
            line(&first, &then, "streams", 60),
            "1000/s · lag 0 · 3 dead letters · vehicle 200/s · +2 streams"
        );
        assert_eq!(
            line(&first, &then, "streams", 50),
            "1000/s · lag 0 · 3 dead letters · +3 streams"
        );
        assert_eq!(
            line(&first, &then, "streams", 40),
            "1000/s · lag 0 · 3 dead le… · +3 streams"
        );
        assert_eq!(line(&first, &then, "streams", 20), "1000/s · lag 0 · 3 …");
    }
}
