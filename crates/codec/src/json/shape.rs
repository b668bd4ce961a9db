//! The planned path: producers repeat themselves, so a record is first tried against the bytes between the values of
//! former records.
//!
//! A shape is a record with its values taken out. A record that has the same bytes between its values is valid JSON of
//! the same structure, because any JSON value may stand where one stood; so the shape says at once which value belongs
//! to which field, and what no one declared. Values are validated as they are met, by the same rules as on the general
//! path. On any difference, and on any fault, the general path decides from the start and is the only
//! one that counts: the two cannot disagree.

use model::FieldType;

use super::parser::{Parser, Part, Token};
use super::scan::{Mark, Scan, Target, append_compact};
use super::values;
use crate::layout::{FieldRule, Layout};
use crate::row::{Row, Scratch, Value};
use crate::validate;

/// The ways of writing a record seen lately, the last one used first.
#[derive(Debug)]
pub(super) struct Shapes {
    known: Vec<Shape>,
    /// Values of a record whose fields have a better place in it.
    others: Others,
    shapes_max: usize,
    /// Numbers the shapes; 0 is none.
    last_id: u64,
    /// Shapes are worth their making when records come back to them. Where they do not (keys in random order, say),
    /// `wait` records go by before the next is made, twice as many each time.
    wait: u32,
    wait_next: u32,
}

/// By field.
type Others = Vec<(u16, Token)>;

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
    goes_to: GoesTo,
}

/// What becomes of a value.
#[derive(Debug, Clone, Copy)]
enum GoesTo {
    /// It is the field's. Where the record has other places of that field, a null here leaves the field to them.
    Field { field: u16, alone: bool },
    /// A better place of this field counts; a record whose value here differs is not read by shape.
    Other { field: u16 },
    /// It is no field's.
    Nowhere,
    /// It is kept; `text_end` is the end of the text before it in [`Shape::extra`].
    Extra { text_end: u32 },
}

const HEAD: usize = 16;

impl Shapes {
    pub(super) fn new(shapes_max: usize) -> Self {
        Self {
            known: Vec::new(),
            others: Vec::new(),
            shapes_max,
            last_id: 0,
            wait: 0,
            wait_next: 0,
        }
    }

    /// Reads a good record, or element, of a known shape into `row`; `false` when it is none.
    #[inline]
    pub(super) fn read(&mut self, part: Part<'_>, layout: &Layout, row: &mut Row) -> bool {
        let Self { known, others, .. } = self;
        let Some(at) = known.iter().position(|shape| shape.read(part, layout, row, others)) else {
            return false;
        };
        if at > 0 {
            self.known[..=at].rotate_right(1);
        }
        self.known[0].uses = self.known[0].uses.saturating_add(1);
        true
    }

    /// Remembers the shape of a good record, or element, that the general path has read.
    pub(super) fn learn(&mut self, part: Part<'_>, layout: &Layout, scan: &Scan, row: &Row) {
        if self.shapes_max == 0 || !scan.repeatable {
            return;
        }
        if self.wait > 0 {
            self.wait -= 1;
            return;
        }
        self.last_id += 1;
        let Some(shape) = Shape::new(self.last_id, part, layout, scan, row) else {
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
    fn new(id: u64, part: Part<'_>, layout: &Layout, scan: &Scan, row: &Row) -> Option<Self> {
        let Part {
            bytes: record, start, ..
        } = part;
        if record.len() - start > SHAPE_BYTES_MAX || scan.marks.len() > SHAPE_VALUES_MAX {
            return None;
        }
        let (mut bytes, mut extra) = (Vec::new(), Vec::new());
        let (mut record_at, mut extra_at) = (start, 0);
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
                        Target::Slot(slot) => place(slot as usize, layout, scan),
                        Target::Extra { start, end } => {
                            extra.extend_from_slice(&row.extra[extra_at..start as usize]);
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
        extra.extend_from_slice(&row.extra[extra_at..]);
        Some(Self {
            id,
            uses: 0,
            segments,
            bytes,
            tail,
            extra,
            extra_tail,
            extra_fields: row.extra_fields,
        })
    }

    /// Reads a good record of this shape; `false` when it is none. Then `row` holds nothing of use.
    #[inline]
    fn read(&self, part: Part<'_>, layout: &Layout, row: &mut Row, others: &mut Others) -> bool {
        let Part {
            bytes: record, start, ..
        } = part;
        if row.plan != self.id {
            row.clear_planned(layout);
            row.plan = self.id;
        }
        row.scratch.reset();
        row.extra.clear();
        others.clear();
        let mut parser = Parser::starting_at(record, start);
        let (mut rest_from, mut text_from) = (0, 0);
        for segment in &self.segments {
            if !segment.fits(parser.rest(), &self.bytes[rest_from..segment.rest_end as usize]) {
                return false;
            }
            rest_from = segment.rest_end as usize;
            parser.at += segment.len as usize;
            let start = parser.at;
            match segment.goes_to {
                GoesTo::Field { field, alone } => {
                    let rule = &layout.fields[field as usize];
                    let value = match usual_value(record, &mut parser, rule) {
                        Some(value) => value,
                        None => {
                            parser.at = start;
                            match unusual_value(record, &mut parser, segment.depth, rule, &mut row.scratch) {
                                Some(Value::Null) if !alone => return false,
                                Some(value) => value,
                                None => return false,
                            }
                        }
                    };
                    row.values[field as usize] = value;
                }
                GoesTo::Other { field } => {
                    let Ok(token) = parser.value(segment.depth) else {
                        return false;
                    };
                    // The better place may come later.
                    others.push((field, token));
                }
                GoesTo::Nowhere => {
                    if parser.value(segment.depth).is_err() {
                        return false;
                    }
                }
                GoesTo::Extra { text_end } => {
                    if parser.value(segment.depth).is_err() {
                        return false;
                    }
                    row.extra.extend_from_slice(&self.extra[text_from..text_end as usize]);
                    text_from = text_end as usize;
                    append_compact(&record[start..parser.at], &mut row.extra);
                }
            }
        }
        if parser.rest() != &self.bytes[self.tail..] {
            return false;
        }
        if row.scratch.has_rest || !others.is_empty() && !are_said(record, others, layout, row) {
            return false;
        }
        row.extra.extend_from_slice(&self.extra[self.extra_tail..]);
        row.extra_fields = self.extra_fields;
        // The bytes between the values are known; only strings can hold others.
        part.is_utf8 || !parser.non_ascii() || simdutf8::basic::from_utf8(record).is_ok()
    }
}

/// Whether the fields' values say what these tokens do, so that nothing is lost without them.
#[inline(never)]
fn are_said(record: &[u8], others: &Others, layout: &Layout, row: &mut Row) -> bool {
    others.iter().all(|(field, token)| {
        let value = row.values[*field as usize];
        values::is_same(record, *token, value, &layout.fields[*field as usize], &mut row.scratch)
    })
}

/// Where the value of a place goes in records with the same places as this one.
fn place(slot: usize, layout: &Layout, scan: &Scan) -> GoesTo {
    let Some(field) = layout.field_of(slot) else {
        return GoesTo::Nowhere;
    };
    let places = layout.fields[field].places.clone();
    let filled = |slot: &usize| scan.slots[*slot] != Token::Missing;
    if places
        .clone()
        .take_while(|other| *other < slot)
        .any(|other| filled(&other))
    {
        return GoesTo::Other { field: field as u16 };
    }
    let alone = places.filter(filled).count() == 1;
    GoesTo::Field {
        field: field as u16,
        alone,
    }
}

/// Reads and validates a value of the field's own type, written in the usual way; `None` for any other.
#[inline]
fn usual_value(record: &[u8], parser: &mut Parser<'_>, rule: &FieldRule) -> Option<Value> {
    match &rule.field_type {
        FieldType::String | FieldType::Timestamp => {
            let (start, end) = parser.plain_text()?;
            validate::text(&record[start as usize..end as usize], (start, end), rule).ok()
        }
        FieldType::Double => values::double(record, parser.number()?, rule).ok(),
        FieldType::Integer | FieldType::Long => values::integer(record, parser.number()?, rule).ok(),
        _ => None,
    }
}

/// Reads and validates any value: a null, a boolean, text with escapes, all that is nested. `None` when it is wrong.
#[inline(never)]
fn unusual_value(
    record: &[u8],
    parser: &mut Parser<'_>,
    depth: u32,
    rule: &FieldRule,
    scratch: &mut Scratch,
) -> Option<Value> {
    let token = parser.value(depth).ok()?;
    values::from_token(record, token, rule, scratch).ok()
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
