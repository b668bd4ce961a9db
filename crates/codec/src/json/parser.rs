//! JSON by RFC 8259 and nothing more, straight from the bytes: no tree, no allocation, no recursion.
//!
//! Strings are checked (control characters, escapes, surrogates) and left where they are; numbers are read once, while
//! they are checked. UTF-8 is the caller's to check, for a whole record at once; `non_ascii` says whether there is need.

use super::number::{Number, read_number};
use crate::error::Fault;
use crate::error_class::ErrorClass;

/// Open objects and arrays at any point of a record, the record's own included.
pub const NESTING_MAX: u32 = 128;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A value as it stands in the record, checked but not yet validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Missing,
    Null,
    True,
    False,
    /// A string's content, between the quotes.
    Text {
        start: u32,
        end: u32,
        escaped: bool,
    },
    Number(Number),
    /// An object or an array.
    Nested {
        start: u32,
        end: u32,
    },
}

impl Token {
    /// Its bytes of the record, a text's without the quotes; empty for words and for nothing.
    pub(super) fn span(self) -> (u32, u32) {
        match self {
            Token::Text { start, end, .. } | Token::Nested { start, end } => (start, end),
            Token::Number(number) => (number.start, number.end),
            Token::Missing | Token::Null | Token::True | Token::False => (0, 0),
        }
    }
}

/// Where a record, or an element of one, stands: from `start` to the end of `bytes`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) start: usize,
    /// The bytes are known to be UTF-8.
    pub(super) is_utf8: bool,
}

impl<'a> Part<'a> {
    /// A record, from behind its byte order mark, which some writers put in front of any UTF-8.
    #[inline]
    pub(super) fn whole(record: &'a [u8]) -> Self {
        Self {
            bytes: record,
            start: if record.starts_with(BYTE_ORDER_MARK) {
                BYTE_ORDER_MARK.len()
            } else {
                0
            },
            is_utf8: false,
        }
    }
}

pub(super) struct Parser<'a> {
    bytes: &'a [u8],
    pub(super) at: usize,
    /// Bits of the bytes seen in strings; those of `HIGH_BITS` tell of bytes that are not ASCII. May overrun a
    /// string's end by a few bytes, which costs a needless check of UTF-8 at worst.
    seen: u64,
    /// Takes one half of a surrogate pair for a character: whoever reads the value again finds it.
    pub(super) allow_lone_surrogates: bool,
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

impl<'a> Parser<'a> {
    #[inline]
    pub(super) fn starting_at(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
            seen: 0,
            allow_lone_surrogates: false,
        }
    }

    pub(super) fn non_ascii(&self) -> bool {
        self.seen & HIGH_BITS != 0
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    #[inline]
    pub(super) fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// The fault of what is, or is not, at the present byte.
    #[cold]
    pub(super) fn unexpected(&self, what: &'static str) -> Fault {
        let cut_off = self.at >= self.bytes.len();
        Fault::at(ErrorClass::NotJson, self.at, if cut_off { "cut off" } else { what })
    }

    /// Reads a value. `depth` counts the objects and arrays open around it.
    #[inline]
    pub(super) fn value(&mut self, depth: u32) -> Result<Token, Fault> {
        match self.peek() {
            Some(b'"') => {
                let (start, end, escaped) = self.text()?;
                Ok(Token::Text { start, end, escaped })
            }
            Some(b'-' | b'0'..=b'9') => read_number(self.bytes, &mut self.at).map(Token::Number),
            _ => self.other_value(depth),
        }
    }

    fn other_value(&mut self, depth: u32) -> Result<Token, Fault> {
        match self.peek() {
            Some(b'{' | b'[') => {
                let start = self.at as u32;
                self.nested(depth)?;
                Ok(Token::Nested {
                    start,
                    end: self.at as u32,
                })
            }
            Some(b'n') => self.word(b"null", Token::Null),
            Some(b't') => self.word(b"true", Token::True),
            Some(b'f') => self.word(b"false", Token::False),
            _ => Err(self.unexpected("a value should start here")),
        }
    }

    fn word(&mut self, word: &[u8], token: Token) -> Result<Token, Fault> {
        let same = self.rest().iter().zip(word).take_while(|(a, b)| a == b).count();
        self.at += same;
        if same == word.len() {
            return Ok(token);
        }
        Err(self.unexpected("neither null, true nor false"))
    }

    /// Reads a string, from its opening quote: where its content stands and whether it has escapes.
    #[inline]
    fn text(&mut self) -> Result<(u32, u32, bool), Fault> {
        self.at += 1;
        let start = self.at as u32;
        self.find_string_stop();
        let escaped = self.peek() != Some(b'"');
        if escaped {
            self.string_with_escapes()?;
        } else {
            self.at += 1;
        }
        Ok((start, self.at as u32 - 1, escaped))
    }

    /// Reads a string that has no escapes; `None` for anything else, with the parser anywhere.
    #[inline]
    pub(super) fn plain_text(&mut self) -> Option<(u32, u32)> {
        if self.peek() != Some(b'"') {
            return None;
        }
        self.at += 1;
        let start = self.at as u32;
        self.find_string_stop();
        if self.peek() != Some(b'"') {
            return None;
        }
        self.at += 1;
        Some((start, self.at as u32 - 1))
    }

    /// Reads a number; `None` for anything else, with the parser anywhere.
    #[inline]
    pub(super) fn number(&mut self) -> Option<Number> {
        read_number(self.bytes, &mut self.at).ok()
    }

    /// Moves to the next quote, backslash or control character, eight bytes at a time.
    #[inline]
    fn find_string_stop(&mut self) {
        let (words, _) = self.rest().as_chunks::<8>();
        for word in words {
            let word = u64::from_le_bytes(*word);
            self.seen |= word;
            // Flipping bit 1 turns a quote (0x22) into 0x20 and leaves the control characters below that. A byte that
            // is found borrows from the one above it, so the lowest bit set is true; those above it may lie.
            let quotes_and_controls = (word ^ (ONES * 0x02)).wrapping_sub(ONES * 0x21);
            let backslashes = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
            let stops = (quotes_and_controls | backslashes) & !word & HIGH_BITS;
            if stops != 0 {
                self.at += stops.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
        self.find_string_stop_at_the_end();
    }

    #[cold]
    fn find_string_stop_at_the_end(&mut self) {
        while let Some(byte) = self.peek() {
            self.seen |= u64::from(byte);
            if matches!(byte, b'"' | b'\\' | 0..0x20) {
                return;
            }
            self.at += 1;
        }
    }

    /// The rest of a string, from its first escape or fault.
    #[cold]
    fn string_with_escapes(&mut self) -> Result<(), Fault> {
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                _ => return Err(self.unexpected("a control character in a string")),
            }
            self.find_string_stop();
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        let start = self.at;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                self.at += 1;
                let lone = match self.allow_lone_surrogates {
                    true => Ok(()),
                    false => Err(Fault::at(
                        ErrorClass::LoneSurrogate,
                        start,
                        "one half of a surrogate pair",
                    )),
                };
                match self.hex4()? {
                    0xDC00..=0xDFFF => lone,
                    0xD800..=0xDBFF if self.rest().starts_with(b"\\u") => {
                        // What follows an allowed half is read for itself.
                        let after_first = self.at;
                        self.at += 2;
                        match self.hex4()? {
                            0xDC00..=0xDFFF => Ok(()),
                            _ => {
                                self.at = after_first;
                                lone
                            }
                        }
                    }
                    // Cut off in the pair is cut off, no lone half.
                    0xD800..=0xDBFF if matches!(self.rest(), [] | [b'\\']) => {
                        self.at = self.bytes.len();
                        Err(self.unexpected(""))
                    }
                    0xD800..=0xDBFF => lone,
                    _ => Ok(()),
                }
            }
            _ => Err(self.unexpected("no such escape")),
        }
    }

    fn hex4(&mut self) -> Result<u32, Fault> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| (byte as char).to_digit(16));
            unit = unit * 16 + digit.ok_or_else(|| self.unexpected("no hexadecimal digit"))?;
            self.at += 1;
        }
        Ok(unit)
    }

    /// Skips an object or array. The kinds of the open ones are bits of one integer, so depth costs no stack.
    fn nested(&mut self, depth: u32) -> Result<(), Fault> {
        let mut objects: u128 = 0;
        let mut open = 0;
        loop {
            // At a value.
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    let object = bracket == b'{';
                    if depth + open >= NESTING_MAX {
                        return Err(Fault::at(ErrorClass::TooDeep, self.at, "nested deeper than 128"));
                    }
                    open += 1;
                    objects = objects << 1 | u128::from(object);
                    self.at += 1;
                    self.skip_whitespace();
                    let is_empty = self.peek() == Some(if object { b'}' } else { b']' });
                    if !is_empty {
                        if object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                _ => {
                    self.value(depth)?;
                }
            }
            // After a value, or at the end of an empty object or array.
            loop {
                self.skip_whitespace();
                let object = objects & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.skip_whitespace();
                        if object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if object => {}
                    Some(b']') if !object => {}
                    _ if object => return Err(self.unexpected("neither `,` nor `}` after a value")),
                    _ => return Err(self.unexpected("neither `,` nor `]` after a value")),
                }
                self.at += 1;
                open -= 1;
                objects >>= 1;
                if open == 0 {
                    return Ok(());
                }
            }
        }
    }

    /// Reads a key and its colon, up to the value; where the key's text stands and whether it has escapes.
    #[inline]
    pub(super) fn key(&mut self) -> Result<(u32, u32, bool), Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("no key in quotes"));
        }
        let key = self.text()?;
        if self.peek() != Some(b':') {
            self.skip_whitespace();
            if self.peek() != Some(b':') {
                return Err(self.unexpected("no `:` after a key"));
            }
        }
        self.at += 1;
        self.skip_whitespace();
        Ok(key)
    }
}

/// Appends a string's content with its escapes resolved; the content has passed [`Parser::string`].
pub(super) fn unescape(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = memchr::memchr(b'\\', text) {
        out.extend_from_slice(&text[..at]);
        let escape = text.get(at + 1).copied().unwrap_or_default();
        text = text.get(at + 2..).unwrap_or_default();
        let byte = match escape {
            b'b' => 0x08,
            b'f' => 0x0C,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let (character, len) = unescape_unicode(text);
                text = text.get(len..).unwrap_or_default();
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            other => other,
        };
        out.push(byte);
    }
    out.extend_from_slice(text);
}

/// The character of `XXXX` or of `XXXX\uXXXX`, and how many bytes it took.
fn unescape_unicode(text: &[u8]) -> (char, usize) {
    let unit = |from: usize| {
        let digits = text.get(from..from + 4).unwrap_or_default();
        digits.iter().fold(0, |unit, byte| {
            unit * 16 + (*byte as char).to_digit(16).unwrap_or_default()
        })
    };
    let (code, len) = match unit(0) {
        high @ 0xD800..=0xDBFF => (0x1_0000 + ((high - 0xD800) << 10) + (unit(6) & 0x3FF), 10),
        code => (code, 4),
    };
    (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), len)
}
