//! The planned path: producers repeat themselves, so a record is first tried against the bytes between the values of
//! former records.
//!
//! A shape is a record with its values taken out. A record that has the same bytes between its values is valid JSON of
//! the same structure, because any JSON value may stand where one stood; so the shape says at once which value belongs
//! to which field, and what no one declared. On any difference the general path decides, which also words every fault.

use super::parser::{Parser, Token};
use super::scan::{Mark, Scan, Target, append_compact};

/// The ways of writing a record seen lately, the last one used first.
#[derive(Debug)]
pub(super) struct Shapes {
    known: Vec<Shape>,
    shapes_max: usize,
    /// Numbers the shapes; 0 is none.
    last_id: u64,
    /// Shapes are worth their making when records come back to them. Where they do not (keys in random order, say),
    /// `wait` records go by before the next is made, twice as many each time.
    wait: u32,
    wait_next: u32,
}

/// A shape replaced after fewer uses than this was made in vain.
const USES_MIN: u32 = 16;
const WAIT_MAX: u32 = 4096;
/// Bytes and values of the largest record worth remembering.
const SHAPE_BYTES_MAX: usize = 64 << 10;
const SHAPE_VALUES_MAX: usize = 4096;

#[derive(Debug)]
struct Shape {
    id: u64,
    uses: u32,
    segments: Vec<Segment>,
    /// All literals' bytes beyond their first 16, then those after the last value.
    bytes: Vec<u8>,
    tail: usize,
    /// The text around the kept values in `_extra`, and the text after the last of them.
    extra: Vec<u8>,
    extra_tail: usize,
    extra_fields: usize,
}

/// The bytes before a value, and where the value goes.
#[derive(Debug)]
struct Segment {
    /// Its first 16 bytes as two words in memory order, compared under a mask: a call to compare memory would take
    /// longer than most literals do.
    head: [u64; 2],
    mask: [u64; 2],
    len: u32,
    /// End of its further bytes in [`Shape::bytes`].
    rest_end: u32,
    depth: u32,
    /// A slot; or for a value to keep the end of the text before it in [`Shape::extra`].
    goes_to: GoesTo,
}

#[derive(Debug)]
enum GoesTo {
    Slot(u16),
    Extra { text_end: u32 },
}

const HEAD: usize = 16;

impl Shapes {
    pub(super) fn new(shapes_max: usize) -> Self {
        Self {
            known: Vec::new(),
            shapes_max,
            last_id: 0,
            wait: 0,
            wait_next: 0,
        }
    }

    /// Reads a record by a known shape; `false` when none fits.
    #[inline]
    pub(super) fn read(&mut self, record: &[u8], scan: &mut Scan) -> bool {
        let Some(at) = self.known.iter().position(|shape| shape.read(record, scan)) else {
            return false;
        };
        if at > 0 {
            self.known[..=at].rotate_right(1);
        }
        self.known[0].uses = self.known[0].uses.saturating_add(1);
        true
    }

    /// Remembers the shape of a record that the general path has read.
    pub(super) fn learn(&mut self, record: &[u8], scan: &Scan) {
        if self.shapes_max == 0 || !scan.repeatable {
            return;
        }
        if self.wait > 0 {
            self.wait -= 1;
            return;
        }
        self.last_id += 1;
        let Some(shape) = Shape::new(self.last_id, record, scan) else {
            return;
        };
        if self.known.len() >= self.shapes_max
            && let Some(replaced) = self.known.pop()
        {
            let in_vain = replaced.uses < USES_MIN;
            self.wait_next = if in_vain {
                (self.wait_next * 2 + 1).min(WAIT_MAX)
            } else {
                0
            };
            self.wait = self.wait_next;
        }
        self.known.insert(0, shape);
    }
}

impl Shape {
    fn new(id: u64, record: &[u8], scan: &Scan) -> Option<Self> {
        if record.len() > SHAPE_BYTES_MAX || scan.marks.len() > SHAPE_VALUES_MAX {
            return None;
        }
        let (mut bytes, mut extra) = (Vec::new(), Vec::new());
        let (mut record_at, mut extra_at) = (0, 0);
        let segments = scan
            .marks
            .iter()
            .map(
                |Mark {
                     start,
                     end,
                     depth,
                     target,
                 }| {
                    let literal = &record[record_at..*start as usize];
                    record_at = *end as usize;
                    bytes.extend_from_slice(literal.get(HEAD..).unwrap_or_default());
                    let goes_to = match *target {
                        Target::Slot(slot) => GoesTo::Slot(slot),
                        Target::Extra { start, end } => {
                            extra.extend_from_slice(&scan.extra[extra_at..start as usize]);
                            extra_at = end as usize;
                            GoesTo::Extra {
                                text_end: extra.len() as u32,
                            }
                        }
                    };
                    let (head, mask) = head_and_mask(literal);
                    let (len, rest_end) = (literal.len() as u32, bytes.len() as u32);
                    Segment {
                        head,
                        mask,
                        len,
                        rest_end,
                        depth: *depth,
                        goes_to,
                    }
                },
            )
            .collect();
        let (tail, extra_tail) = (bytes.len(), extra.len());
        bytes.extend_from_slice(&record[record_at..]);
        extra.extend_from_slice(&scan.extra[extra_at..]);
        Some(Self {
            id,
            uses: 0,
            segments,
            bytes,
            tail,
            extra,
            extra_tail,
            extra_fields: scan.extra_fields,
        })
    }

    /// Reads a record of this shape; `false` when it is not. Then the scan holds nothing of use.
    #[inline]
    fn read(&self, record: &[u8], scan: &mut Scan) -> bool {
        if scan.shape != self.id {
            scan.slots.fill(Token::Missing);
            scan.shape = self.id;
        }
        scan.extra.clear();
        let mut parser = Parser::new(record);
        let (mut rest_from, mut text_from) = (0, 0);
        for segment in &self.segments {
            if !segment.fits(parser.rest(), &self.bytes[rest_from..segment.rest_end as usize]) {
                return false;
            }
            rest_from = segment.rest_end as usize;
            parser.at += segment.len as usize;
            let start = parser.at;
            let Ok(token) = parser.value(segment.depth) else {
                return false;
            };
            match segment.goes_to {
                GoesTo::Slot(slot) => scan.slots[slot as usize] = token,
                GoesTo::Extra { text_end } => {
                    scan.extra.extend_from_slice(&self.extra[text_from..text_end as usize]);
                    text_from = text_end as usize;
                    append_compact(&record[start..parser.at], &mut scan.extra);
                }
            }
        }
        if parser.rest() != &self.bytes[self.tail..] {
            return false;
        }
        scan.extra.extend_from_slice(&self.extra[self.extra_tail..]);
        scan.extra_fields = self.extra_fields;
        // The bytes between the values are known; only strings can hold others.
        !parser.non_ascii() || simdutf8::basic::from_utf8(record).is_ok()
    }
}

impl Segment {
    /// Whether `text` starts with this literal, whose bytes after the head are `rest`.
    #[inline]
    fn fits(&self, text: &[u8], rest: &[u8]) -> bool {
        match text.first_chunk::<HEAD>() {
            Some(head) => {
                let [low, high] = words(head);
                let difference = (low ^ self.head[0]) & self.mask[0] | (high ^ self.head[1]) & self.mask[1];
                difference == 0 && (rest.is_empty() || text[HEAD..].starts_with(rest))
            }
            None => self.fits_at_the_end(text),
        }
    }

    /// As [`Self::fits`], where fewer than 16 bytes are left.
    fn fits_at_the_end(&self, text: &[u8]) -> bool {
        let mut padded = [0; HEAD];
        padded[..text.len()].copy_from_slice(text);
        let [low, high] = words(&padded);
        let difference = (low ^ self.head[0]) & self.mask[0] | (high ^ self.head[1]) & self.mask[1];
        difference == 0 && self.len as usize <= text.len()
    }
}

fn head_and_mask(literal: &[u8]) -> ([u64; 2], [u64; 2]) {
    let len = literal.len().min(HEAD);
    let (mut head, mut mask) = ([0; HEAD], [0; HEAD]);
    head[..len].copy_from_slice(&literal[..len]);
    mask[..len].fill(0xFF);
    (words(&head), words(&mask))
}

#[inline]
fn words(bytes: &[u8; HEAD]) -> [u64; 2] {
    let both = u128::from_le_bytes(*bytes);
    [both as u64, (both >> 64) as u64]
}
