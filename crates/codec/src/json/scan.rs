//! The general path: any record in one pass along the declaration's tree, into slots.
//!
//! Fields that no one declared are kept as compact JSON text that has the message's own shape, so that what stood at
//! `location.alt` or `location[2]` of the message stands there in the text as well; array elements before it that were
//! declared, or dropped, are `null` there. What a declared struct holds beside its members goes there too, and a value
//! that differs from the one of a better place of its field: nothing of a message is lost.

use std::ops::Range;

use model::FieldType;

use super::parser::{Parser, Part, Token, unescape};
use super::values;
use crate::error::Fault;
use crate::error_class::ErrorClass;
use crate::layout::{ArrayNode, ElementLayout, FieldRule, Layout, Node, ObjectNode};
use crate::row::Row;

/// What one record holds; reused from record to record.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// By the numbers of [`Layout`].
    pub(super) slots: Vec<Token>,
    /// Where the values stood and went, in their order: what a shape is made from.
    pub(super) marks: Vec<Mark>,
    /// Whether other records with the same bytes between their values have the same marks.
    pub(super) repeatable: bool,
    /// Where the elements stand, in a stream that has them.
    pub(super) elements: Vec<(u32, u32)>,
    /// Whether there was an array of them.
    pub(super) found_elements: bool,
    /// Objects and arrays open around an element.
    element_depth: u32,
    /// Where the extra text of an element belongs in that of its message.
    pub(super) hole: Hole,
    /// Slots whose values are kept in the extra text, though a field has its place there; none while it is empty.
    kept: Vec<bool>,
    /// A key with its escapes resolved.
    key: Vec<u8>,
    /// By slot of an object's member, or of the object itself for its first: position of the declared member that last
    /// came after it. Producers send the keys in the same order.
    after: Vec<u16>,
}

/// The place of the array of elements in a message's extra text, which is written with an empty array there.
#[derive(Debug, Clone, Default)]
pub(super) struct Hole {
    /// Between the brackets.
    pub(super) at: usize,
    /// What to leave out where the element has nothing to put there: the array with its key, and the objects around it
    /// that hold nothing else.
    pub(super) without: Range<usize>,
}

/// A value of the record: its bytes, the objects and arrays around it, and where it went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) depth: u32,
    pub(super) target: Target,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    Slot(u16),
    /// The bytes it became in [`Row::extra`].
    Extra {
        start: u32,
        end: u32,
    },
}

/// How a value is reached from the object or array around it.
#[derive(Clone, Copy)]
enum Step {
    /// The key's bytes, with their quotes.
    Key {
        start: u32,
        end: u32,
    },
    Element,
}

impl Scan {
    pub(super) fn new(layout: &Layout) -> Self {
        Self {
            slots: vec![Token::Missing; layout.slots],
            after: vec![0; layout.slots],
            ..Self::default()
        }
    }

    fn clear(&mut self) {
        self.slots.fill(Token::Missing);
        self.marks.clear();
        self.repeatable = true;
        self.elements.clear();
        self.found_elements = false;
        self.hole = Hole::default();
    }

    /// Reads a record: its tokens into the slots, what no one declared into `row.extra`. On a fault neither holds anything
    /// of use.
    pub(super) fn read(&mut self, part: Part<'_>, layout: &Layout, row: &mut Row) -> Result<(), Fault> {
        self.kept.clear();
        if let Err(error) = simdutf8::compat::from_utf8(part.bytes) {
            return Err(Fault::at(ErrorClass::InvalidUtf8, error.valid_up_to(), "not UTF-8"));
        }
        self.walk(part, layout, row)
    }

    /// Reads one of the elements that [`Self::read`] found, as [`Self::read`] does a record.
    pub(super) fn read_element(
        &mut self,
        part: Part<'_>,
        layout: &Layout,
        elements: &ElementLayout,
        row: &mut Row,
    ) -> Result<(), Fault> {
        self.kept.clear();
        self.walk_element(part, layout, elements, row)
    }

    /// Whether the record that was just read holds values that no column takes, as a better place of their field counts.
    pub(super) fn finds_others(
        &mut self,
        record: &[u8],
        layout: &Layout,
        fields: impl Iterator<Item = usize>,
        row: &mut Row,
    ) -> bool {
        values::find_others(record, &self.slots, layout, fields, row, &mut self.kept)
    }

    /// Reads the record again, with the values that [`Self::finds_others`] found in its extra text.
    #[cold]
    pub(super) fn read_again(&mut self, part: Part<'_>, layout: &Layout, row: &mut Row) -> Result<(), Fault> {
        self.walk(part, layout, row)?;
        self.repeatable = false;
        Ok(())
    }

    /// The same of an element.
    #[cold]
    pub(super) fn read_element_again(
        &mut self,
        part: Part<'_>,
        layout: &Layout,
        elements: &ElementLayout,
        row: &mut Row,
    ) -> Result<(), Fault> {
        self.walk_element(part, layout, elements, row)?;
        self.repeatable = false;
        Ok(())
    }

    fn walk(&mut self, part: Part<'_>, layout: &Layout, row: &mut Row) -> Result<(), Fault> {
        self.clear();
        row.extra.clear();
        row.extra_fields = 0;
        let mut walk = Walk {
            record: part.bytes,
            parser: Parser::starting_at(part.bytes, part.start),
            elements_max: layout.elements.as_ref().map_or(0, |elements| elements.max as usize),
            layout,
            scan: self,
            row,
        };
        walk.record(&layout.root)
    }

    fn walk_element(
        &mut self,
        part: Part<'_>,
        layout: &Layout,
        elements: &ElementLayout,
        row: &mut Row,
    ) -> Result<(), Fault> {
        for slot in &elements.slots {
            self.slots[*slot as usize] = Token::Missing;
        }
        self.marks.clear();
        self.repeatable = true;
        row.extra.clear();
        row.extra_fields = 0;
        let mut walk = Walk {
            record: part.bytes,
            parser: Parser::starting_at(part.bytes, part.start),
            elements_max: 0,
            layout,
            scan: self,
            row,
        };
        walk.element(&elements.node)
    }
}

struct Walk<'a> {
    record: &'a [u8],
    parser: Parser<'a>,
    elements_max: usize,
    layout: &'a Layout,
    scan: &'a mut Scan,
    row: &'a mut Row,
}

impl Walk<'_> {
    fn record(&mut self, root: &Node) -> Result<(), Fault> {
        self.parser.skip_whitespace();
        let Some(first) = self.parser.peek() else {
            return Err(Fault::at(ErrorClass::Empty, 0, "no value"));
        };
        let start = self.parser.at;
        let is_of_shape = match (root, first) {
            (Node::Object(object), b'{') => {
                self.row.extra.push(b'{');
                self.object(object, 1)?;
                self.close(0, 1, b'{');
                true
            }
            (Node::Elements { slot }, b'[') => {
                self.elements(*slot, 1)?;
                true
            }
            _ => {
                self.parser.value(0)?;
                false
            }
        };
        if let Some(field) = self.layout.message {
            let slot = self.layout.fields[field as usize].places.start;
            self.scan.slots[slot] = Token::Nested {
                start: start as u32,
                end: self.parser.at as u32,
            };
        }
        self.parser.skip_whitespace();
        if self.parser.peek().is_some() {
            return Err(self.parser.unexpected("something follows the value"));
        }
        match (is_of_shape, root) {
            (true, _) => Ok(()),
            (false, Node::Elements { .. }) => Err(Fault::at(ErrorClass::NoElements, start, "no array of records")),
            (false, _) => Err(Fault::at(ErrorClass::NotAnObject, start, "no object")),
        }
    }

    /// Reads one element, to its end.
    fn element(&mut self, node: &Node) -> Result<(), Fault> {
        let depth = self.scan.element_depth;
        let start = self.parser.at;
        match (node, self.parser.peek()) {
            (Node::Object(object), Some(b'{')) => {
                self.row.extra.push(b'{');
                self.object(object, depth + 1)?;
                self.close(0, 1, b'{');
                Ok(())
            }
            (Node::Array(array), Some(b'[')) => {
                self.row.extra.push(b'[');
                self.array(array, depth + 1)?;
                self.close(0, 1, b'[');
                Ok(())
            }
            (Node::Place { .. }, _) => self.declared(node, Step::Element, depth),
            (Node::Array(_), _) => Err(Fault::at(ErrorClass::WrongType, start, "the element is no array")),
            _ => Err(Fault::at(ErrorClass::NotAnObject, start, "the element is no object")),
        }
    }

    /// Reads the array of the elements, from its bracket: where each of them stands. `depth` counts it. What is wrong
    /// with one that is JSON shows when it is read by itself.
    fn elements(&mut self, slot: u16, depth: u32) -> Result<(), Fault> {
        let start = self.parser.at;
        self.scan.slots[slot as usize] = Token::Nested {
            start: start as u32,
            end: start as u32,
        };
        self.scan.found_elements = true;
        self.scan.element_depth = depth;
        self.parser.at += 1;
        self.parser.skip_whitespace();
        if self.parser.peek() == Some(b']') {
            self.parser.at += 1;
            return Ok(());
        }
        self.parser.allow_lone_surrogates = true;
        loop {
            if self.scan.elements.len() >= self.elements_max {
                return Err(Fault::at(
                    ErrorClass::TooManyElements,
                    start,
                    "more elements than elements_max allows",
                ));
            }
            let from = self.parser.at as u32;
            self.parser.value(depth)?;
            self.scan.elements.push((from, self.parser.at as u32));
            self.parser.skip_whitespace();
            match self.parser.peek() {
                Some(b',') => self.parser.at += 1,
                Some(b']') => break,
                _ => return Err(self.parser.unexpected("neither `,` nor `]` after a value")),
            }
            self.parser.skip_whitespace();
        }
        self.parser.at += 1;
        self.parser.allow_lone_surrogates = false;
        Ok(())
    }

    /// Reads a declared object, from its brace. `depth` counts the open ones, this one included; a declaration's paths
    /// are short, so this recursion is.
    fn object(&mut self, node: &ObjectNode, depth: u32) -> Result<(), Fault> {
        self.parser.at += 1;
        self.parser.skip_whitespace();
        if self.parser.peek() == Some(b'}') {
            self.parser.at += 1;
            return Ok(());
        }
        let mut before = node.slot as usize;
        loop {
            let key_start = self.parser.at;
            let (start, end, escaped) = self.parser.key()?;
            let text = &self.record[start as usize..end as usize];
            let guess = self.scan.after[before] as usize;
            let found = if escaped {
                self.scan.key.clear();
                unescape(text, &mut self.scan.key);
                node.find(&self.scan.key, guess)
            } else {
                node.find(text, guess)
            };
            let step = Step::Key {
                start: start - 1,
                end: end + 1,
            };
            match found {
                None => self.keep(step, depth)?,
                Some(at) => {
                    let child = &node.children[at].1;
                    self.scan.after[before] = at as u16;
                    before = child.slot();
                    if self.scan.slots[before] != Token::Missing {
                        return Err(duplicate(child, key_start));
                    }
                    self.declared(child, step, depth)?;
                }
            }
            self.parser.skip_whitespace();
            match self.parser.peek() {
                Some(b',') => self.parser.at += 1,
                Some(b'}') => {
                    self.parser.at += 1;
                    return Ok(());
                }
                _ => return Err(self.parser.unexpected("neither `,` nor `}` after a value")),
            }
            self.parser.skip_whitespace();
        }
    }

    /// Reads a declared array, from its bracket.
    fn array(&mut self, node: &ArrayNode, depth: u32) -> Result<(), Fault> {
        self.parser.at += 1;
        self.parser.skip_whitespace();
        if self.parser.peek() == Some(b']') {
            self.parser.at += 1;
            return Ok(());
        }
        let mut kept = self.row.extra.len();
        for index in 0.. {
            match node.find(index) {
                None => {
                    self.keep(Step::Element, depth)?;
                    kept = self.row.extra.len();
                }
                Some(child) => {
                    let before = self.row.extra.len();
                    self.declared(child, Step::Element, depth)?;
                    if self.row.extra.len() > before {
                        kept = self.row.extra.len();
                    } else {
                        // Keeps the place of those that follow; dropped again when none does.
                        self.step(Step::Element);
                        self.row.extra.extend_from_slice(b"null");
                    }
                }
            }
            self.parser.skip_whitespace();
            match self.parser.peek() {
                Some(b',') => self.parser.at += 1,
                Some(b']') => break,
                _ => return Err(self.parser.unexpected("neither `,` nor `]` after a value")),
            }
            self.parser.skip_whitespace();
        }
        self.parser.at += 1;
        self.row.extra.truncate(kept);
        Ok(())
    }

    /// Reads a value that the declaration knows.
    fn declared(&mut self, node: &Node, step: Step, depth: u32) -> Result<(), Fault> {
        let start = self.parser.at as u32;
        let (slot, bracket) = match node {
            Node::Place { slot, field, is_kept } => {
                let token = self.parser.value(depth)?;
                self.scan.slots[*slot as usize] = token;
                let end = self.parser.at as u32;
                let rule = &self.layout.fields[*field as usize];
                if *is_kept || self.scan.kept.get(*slot as usize) == Some(&true) {
                    if token != Token::Null {
                        self.keep_bytes(step, start);
                    }
                } else if rule.has_structs && matches!(token, Token::Nested { .. }) {
                    self.keep_rest(rule, step, start)?;
                }
                self.scan.marks.push(Mark {
                    start,
                    end,
                    depth,
                    target: Target::Slot(*slot),
                });
                return Ok(());
            }
            Node::Object(object) => (object.slot, b'{'),
            Node::Array(array) => (array.slot, b'['),
            Node::Elements { slot } => (*slot, b'['),
        };
        if self.parser.peek() != Some(bracket) {
            return match node {
                // The message is bad, whatever it is.
                Node::Elements { .. } => {
                    self.scan.slots[slot as usize] = self.parser.value(depth)?;
                    Ok(())
                }
                _ => self.another_shape(slot, step, depth),
            };
        }
        self.scan.slots[slot as usize] = Token::Nested { start, end: start };
        let before = self.row.extra.len();
        self.step(step);
        self.row.extra.push(bracket);
        let opened = self.row.extra.len();
        match node {
            Node::Place { .. } => {}
            Node::Object(object) => self.object(object, depth + 1)?,
            Node::Array(array) => self.array(array, depth + 1)?,
            Node::Elements { slot } => {
                self.row.extra.push(b']');
                self.scan.hole = Hole {
                    at: opened,
                    without: before..self.row.extra.len(),
                };
                return self.elements(*slot, depth + 1);
            }
        }
        self.close(before, opened, bracket);
        Ok(())
    }

    /// Ends an object or array of the extra text that begins, with what leads to it, at `before`, and whose content
    /// begins at `opened`. Nothing of it stays where it has no content.
    fn close(&mut self, before: usize, opened: usize, bracket: u8) {
        if self.row.extra.len() == opened {
            self.row.extra.truncate(before);
            return;
        }
        let has_only_the_hole = self.scan.hole.without == (opened..self.row.extra.len());
        // Two above an opening bracket is its closing one, in ASCII.
        self.row.extra.push(bracket + 2);
        if has_only_the_hole {
            self.scan.hole.without = before..self.row.extra.len();
        }
    }

    /// A value of another type where fields are declared inside an object or array: they are missing, and the value is
    /// kept unless it is null.
    fn another_shape(&mut self, slot: u16, step: Step, depth: u32) -> Result<(), Fault> {
        if self.parser.rest().starts_with(b"null") {
            self.scan.slots[slot as usize] = self.parser.value(depth)?;
            return Ok(());
        }
        self.scan.repeatable = false;
        self.scan.slots[slot as usize] = Token::Null;
        self.keep(step, depth)
    }

    /// Reads a value that no one declared.
    fn keep(&mut self, step: Step, depth: u32) -> Result<(), Fault> {
        let start = self.parser.at as u32;
        self.parser.value(depth)?;
        let end = self.parser.at as u32;
        let target = self.keep_bytes(step, start);
        self.scan.marks.push(Mark {
            start,
            end,
            depth,
            target,
        });
        Ok(())
    }

    /// Puts the value that was just read, from `start` on, into the extra text.
    fn keep_bytes(&mut self, step: Step, start: u32) -> Target {
        self.step(step);
        let extra_start = self.row.extra.len() as u32;
        append_compact(&self.record[start as usize..self.parser.at], &mut self.row.extra);
        self.row.extra_fields += 1;
        Target::Extra {
            start: extra_start,
            end: self.row.extra.len() as u32,
        }
    }

    /// Puts what the structs of a declared value hold beside their members into the extra text; the value was just read,
    /// from `start` on.
    fn keep_rest(&mut self, rule: &FieldRule, step: Step, start: u32) -> Result<(), Fault> {
        let (end, before) = (self.parser.at, self.row.extra.len());
        self.parser.at = start as usize;
        self.rest(rule, step)?;
        self.parser.at = end;
        if self.row.extra.len() > before {
            // Others with the same bytes between their values may have other rests.
            self.scan.repeatable = false;
        }
        Ok(())
    }

    /// The rest of one value of a declared type. It is known to be JSON, so its depth needs no count.
    fn rest(&mut self, rule: &FieldRule, step: Step) -> Result<(), Fault> {
        let bracket = match (&rule.field_type, self.parser.peek()) {
            (FieldType::Array(_), Some(b'[')) if rule.has_structs => b'[',
            (FieldType::Map(_) | FieldType::Struct(_), Some(b'{')) if rule.has_structs => b'{',
            // It is a column's, or a fault.
            _ => {
                self.parser.value(0)?;
                return Ok(());
            }
        };
        let before = self.row.extra.len();
        self.step(step);
        self.row.extra.push(bracket);
        let opened = self.row.extra.len();
        // Up to where there is something to keep: placeholders at the end of an array say nothing.
        let mut kept = opened;
        self.parser.at += 1;
        self.parser.skip_whitespace();
        let mut is_empty = self.parser.peek() == Some(bracket + 2);
        while !is_empty {
            let before_part = self.row.extra.len();
            match bracket {
                b'[' => {
                    self.rest(&rule.parts[0], Step::Element)?;
                    if self.row.extra.len() == before_part {
                        self.step(Step::Element);
                        self.row.extra.extend_from_slice(b"null");
                    } else {
                        kept = self.row.extra.len();
                    }
                }
                _ => {
                    self.rest_of_member(rule)?;
                    kept = self.row.extra.len();
                }
            }
            self.parser.skip_whitespace();
            is_empty = self.parser.peek() != Some(b',');
            if !is_empty {
                self.parser.at += 1;
                self.parser.skip_whitespace();
            }
        }
        self.parser.at += 1;
        self.row.extra.truncate(kept);
        self.close(before, opened, bracket);
        Ok(())
    }

    /// The rest of an object's member, from its key.
    fn rest_of_member(&mut self, rule: &FieldRule) -> Result<(), Fault> {
        let (start, end, escaped) = self.parser.key()?;
        let step = Step::Key {
            start: start - 1,
            end: end + 1,
        };
        let part = match rule.field_type {
            FieldType::Struct(_) => {
                let mut name = &self.record[start as usize..end as usize];
                if escaped {
                    self.scan.key.clear();
                    unescape(name, &mut self.scan.key);
                    name = &self.scan.key;
                }
                rule.keys
                    .iter()
                    .position(|known| **known == *name)
                    .map(|at| &rule.parts[at])
            }
            _ => rule.parts.first(),
        };
        match part {
            Some(part) => self.rest(part, step),
            None => {
                let start = self.parser.at as u32;
                self.parser.value(0)?;
                self.keep_bytes(step, start);
                Ok(())
            }
        }
    }

    /// Writes what leads to a value of the extra text.
    fn step(&mut self, step: Step) {
        if !matches!(self.row.extra.last(), Some(b'{' | b'[')) {
            self.row.extra.push(b',');
        }
        if let Step::Key { start, end } = step {
            self.row
                .extra
                .extend_from_slice(&self.record[start as usize..end as usize]);
            self.row.extra.push(b':');
        }
    }
}

fn duplicate(node: &Node, at: usize) -> Fault {
    let fault = Fault::at(ErrorClass::DuplicateKey, at, "its key occurs twice in one object");
    match node {
        Node::Place { field, .. } => Fault {
            field: Some(*field),
            ..fault
        },
        Node::Object(_) | Node::Array(_) | Node::Elements { .. } => Fault {
            what: "a declared key occurs twice in one object",
            ..fault
        },
    }
}

/// Appends a valid JSON value without the white space between its tokens.
pub(super) fn append_compact(value: &[u8], out: &mut Vec<u8>) {
    if !matches!(value.first(), Some(b'{' | b'[')) {
        out.extend_from_slice(value);
        return;
    }
    let (mut in_string, mut escaped) = (false, false);
    for byte in value {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' if !in_string => continue,
            b'"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && !escaped && *byte == b'\\';
        out.push(*byte);
    }
}
