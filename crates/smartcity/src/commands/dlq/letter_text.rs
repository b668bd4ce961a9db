//! A dead letter for a person: its bytes made readable, the place of the fault marked.

use std::fmt::Write;

use ingest::replay::Letter;

/// Characters of a value shown, around the fault where it has a place.
const WIDTH: usize = 100;
/// What stands on a line beside a value: its name, and that it is cut off.
const BESIDE: usize = 9 + "...".len() + "... (1000000 bytes more)".len();

/// `terminal` is the width of the terminal that it has to fit.
pub(super) fn text(letter: &Letter, terminal: Option<usize>) -> String {
    let width = terminal.map_or(WIDTH, |terminal| terminal.saturating_sub(BESIDE).clamp(10, WIDTH));
    let mut out = String::new();
    let field = letter
        .field
        .as_ref()
        .map_or(String::new(), |field| format!(", field {field}"));
    // Writing to a String does not fail.
    let _ = writeln!(out, "{}: {} / {}{field}", letter.id, letter.stage, letter.error_class);
    let _ = writeln!(out, "  error  {}", letter.error);
    if let Some(key) = &letter.key {
        let _ = writeln!(out, "  key    {}", Readable::of(key).cut(0, width).0);
    }
    match &letter.value {
        None => out.push_str("  value  null\n"),
        Some(value) => {
            let readable = Readable::of(value);
            let fault = place(&letter.error).map(|byte| readable.column(byte));
            let (shown, mark) = readable.cut(fault.unwrap_or(0), width);
            let _ = writeln!(out, "  value  {shown}");
            if fault.is_some() {
                let _ = writeln!(out, "         {:>1$}", "^", mark + 1);
            }
        }
    }
    out.push('\n');
    out
}

/// The byte that an error text names at its end.
fn place(error: &str) -> Option<usize> {
    let (_, after) = error.rsplit_once("(byte ")?;
    after.strip_suffix(')')?.parse().ok()
}

/// Bytes as text, with a column for each byte.
struct Readable {
    /// Pieces of text, each with the byte it stands for.
    pieces: Vec<(usize, String)>,
}

impl Readable {
    /// Printable characters as they are, all else escaped.
    fn of(bytes: &[u8]) -> Self {
        let (mut pieces, mut at) = (Vec::new(), 0);
        for chunk in bytes.utf8_chunks() {
            for character in chunk.valid().chars() {
                let piece = match character {
                    '\\' => "\\".to_owned(),
                    character if character.is_control() => character.escape_default().to_string(),
                    character => character.to_string(),
                };
                pieces.push((at, piece));
                at += character.len_utf8();
            }
            for byte in chunk.invalid() {
                pieces.push((at, format!("\\x{byte:02x}")));
                at += 1;
            }
        }
        Self { pieces }
    }

    /// The piece that a byte belongs to, or the end.
    fn column(&self, byte: usize) -> usize {
        self.pieces.partition_point(|(at, _)| *at <= byte).saturating_sub(1)
            + usize::from(self.pieces.last().is_some_and(|(at, piece)| byte >= at + piece.len()))
    }

    /// Pieces around one, no wider together than this (or one), and the column at which that one now stands.
    fn cut(&self, around: usize, width: usize) -> (String, usize) {
        let wide = |piece: usize| self.pieces[piece].1.chars().count();
        let middle = around.min(self.pieces.len());
        let (mut from, mut room) = (middle, width / 2);
        while from > 0 && wide(from - 1) <= room {
            from -= 1;
            room -= wide(from);
        }
        let (mut to, mut room) = (middle, width - width / 2 + room);
        while to < self.pieces.len() && (wide(to) <= room || to == middle) {
            room = room.saturating_sub(wide(to));
            to += 1;
        }
        // What the end left free.
        while from > 0 && wide(from - 1) <= room {
            from -= 1;
            room -= wide(from);
        }
        let mut text = String::from(if from > 0 { "..." } else { "" });
        let mut mark = text.len();
        for (index, (_, piece)) in self.pieces.iter().enumerate().take(to).skip(from) {
            if index < around {
                mark += piece.chars().count();
            }
            text.push_str(piece);
        }
        if to < self.pieces.len() {
            let _ = write!(text, "... ({} bytes more)", self.pieces.len() - to);
        }
        (text, mark)
    }
}

#[cfg(test)]
mod tests {
    use model::{RecordId, TopicPartition};

    use super::*;

    fn letter(value: &[u8], error: &str) -> Letter {
        Letter {
            id: RecordId::new(TopicPartition::new("gps_data", 3), 17, None),
            kafka_timestamp_us: None,
            key: Some(b"car-1".to_vec()),
            value: Some(value.to_vec()),
            stage: "schema".to_owned(),
            error_class: "wrong_type".to_owned(),
            error: error.to_owned(),
            field: Some("speed".to_owned()),
        }
    }

    /// The character above the mark.
    fn marked(text: &str) -> char {
        let lines: Vec<&str> = text.lines().collect();
        let value = lines.iter().position(|line| line.starts_with("  value")).unwrap();
        let column = lines[value + 1].chars().position(|character| character == '^').unwrap();
        lines[value].chars().nth(column).unwrap()
    }

    #[test]
    fn marks_the_byte_at_fault() {
        let value = br#"{"id":"a","speed":"fast"}"#;
        let shown = text(&letter(value, r#"speed "fast" is no number (byte 18)"#), None);
        insta::assert_snapshot!(shown, @r#"
        gps_data[3] offset 17: schema / wrong_type, field speed
          error  speed "fast" is no number (byte 18)
          key    car-1
          value  {"id":"a","speed":"fast"}
                                   ^
        "#);
    }

    #[test]
    fn marks_it_in_long_and_in_unreadable_values() {
        let long = format!(r#"{{"note":"{}","speed":X}}"#, "ö\u{1}".repeat(400));
        let at = long.find('X').unwrap();
        let shown = text(
            &letter(long.as_bytes(), &format!("unexpected character (byte {at})")),
            None,
        );
        assert_eq!(marked(&shown), 'X', "{shown}");
        assert!(shown.contains("..."), "{shown}");
        let mut broken = b"{\"a\":\"\xff\xfe\",".to_vec();
        broken.push(b'!');
        let at = broken.len() - 1;
        assert_eq!(
            marked(&text(&letter(&broken, &format!("no key (byte {at})")), None)),
            '!'
        );
    }

    #[test]
    fn a_fault_at_the_end_is_behind_the_last_character() {
        let shown = text(&letter(b"{\"a\":", "it ends too early (byte 5)"), None);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[4].find('^'), Some(lines[3].len()), "{shown}");
    }

    #[test]
    fn a_value_fits_the_terminal() {
        let value = format!(r#"{{"note":"{}","speed":X}}"#, "ö\u{1}".repeat(400));
        let at = value.find('X').unwrap();
        for place in [0, 3, at / 2, at, value.len()] {
            for terminal in 60..140 {
                let shown = text(
                    &letter(value.as_bytes(), &format!("it is bad (byte {place})")),
                    Some(terminal),
                );
                let value = shown.lines().find(|line| line.starts_with("  value")).unwrap();
                assert!(value.chars().count() <= terminal, "{terminal}: {value}");
            }
        }
    }
}
