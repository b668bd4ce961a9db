//! A stream's declaration, prepared for the decoder: the places of a message numbered, and the rules of each field.

use std::fmt::Write;
use std::ops::Range;

use model::{FieldType, PathNode, Stream, Written, decimal, decimal_bounds};

use crate::error_class::ErrorClass;
use crate::validate::{IS_NUMBER, IS_TEXT};

/// Values of a set that an error names.
const SHOWN_OF_SET_MAX: usize = 20;

/// What the decoder knows of a stream.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) fields: Vec<FieldRule>,
    /// The field whose value is the whole message.
    pub(crate) message: Option<u16>,
    /// A field has more than one place.
    pub(crate) has_alternatives: bool,
    pub(crate) root: Node,
    pub(crate) elements: Option<ElementLayout>,
    /// Slots for one record: first every place, a field's places side by side in the order of their rank, then every
    /// inner object and array.
    pub(crate) slots: usize,
}

/// Elements of a message that become rows of their own. The fields of the message beside them are its envelope.
#[derive(Debug)]
pub(crate) struct ElementLayout {
    /// One element.
    pub(crate) node: Node,
    /// Slot of the array.
    pub(crate) array: u16,
    /// Elements of a message, at most.
    pub(crate) max: u32,
    /// Slots of one element.
    pub(crate) slots: Vec<u16>,
    /// Fields with a place in the element, in declared order.
    pub(crate) fields: Vec<u16>,
    /// The other fields, in declared order.
    pub(crate) envelope: Vec<u16>,
    /// A field has places in the element and in the envelope.
    pub(crate) is_mixed: bool,
}

/// One field, or a part of one with a nested type: where its value may be and what it must be.
#[derive(Debug)]
pub(crate) struct FieldRule {
    /// Of a part, with what leads to it: `readings[*].value`.
    pub(crate) name: String,
    pub(crate) field_type: FieldType,
    pub(crate) nullable: bool,
    /// Slots of its places, best first; none for a part.
    pub(crate) places: Range<usize>,
    pub(crate) limits: Limits,
    pub(crate) one_of: Vec<String>,
    /// `None` where values have the usual form alone.
    pub(crate) written: Option<Box<Written>>,
    /// A text needs no more than to be one: no set, nothing about how it is written.
    pub(crate) is_plain_text: bool,
    /// The element of an array, the value of a map, the members of a struct.
    pub(crate) parts: Vec<FieldRule>,
    /// Names of a struct's members, as its message has them.
    pub(crate) keys: Vec<Box<[u8]>>,
    /// Its number among the field and its parts, the field's own being 0.
    pub(crate) number: u16,
    /// Values that one of its values puts into columns at least: those of a struct's members, which may all be null.
    pub(crate) cells: usize,
    /// A struct is in it, which may hold what it does not declare.
    pub(crate) has_structs: bool,
}

/// Inclusive bounds in the type of the field; the widest where none are declared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) int_min: i64,
    pub(crate) int_max: i64,
    pub(crate) double_min: f64,
    pub(crate) double_max: f64,
    /// In units of the type's scale.
    pub(crate) decimal_min: i128,
    pub(crate) decimal_max: i128,
}

/// A declared part of a message.
#[derive(Debug)]
pub(crate) enum Node {
    Place {
        slot: u16,
        field: u16,
        /// Its value goes to `_extra` too: it is the envelope's, and whether it counts differs from element to element.
        is_kept: bool,
    },
    Object(ObjectNode),
    Array(ArrayNode),
    /// The array of the elements; what is in one of them is [`ElementLayout::node`].
    Elements {
        slot: u16,
    },
}

#[derive(Debug)]
pub(crate) struct ObjectNode {
    pub(crate) slot: u16,
    pub(crate) children: Vec<(Box<[u8]>, Node)>,
    /// Positions in `children` in the order of their keys.
    by_key: Vec<u16>,
}

#[derive(Debug)]
pub(crate) struct ArrayNode {
    pub(crate) slot: u16,
    pub(crate) children: Vec<(usize, Node)>,
}

impl Layout {
    /// The field that a slot is a place of.
    pub(crate) fn field_of(&self, slot: usize) -> Option<usize> {
        self.fields.iter().position(|rule| rule.places.contains(&slot))
    }

    pub(crate) fn new(stream: &Stream) -> Self {
        let mut places = 0;
        let fields: Vec<FieldRule> = stream
            .fields
            .iter()
            .map(|field| {
                let first = places;
                places += field.from.len();
                let written = (!field.written.is_usual()).then(|| field.written.clone());
                FieldRule {
                    nullable: field.nullable,
                    places: first..places,
                    limits: Limits::new(&field.field_type, field.min, field.max),
                    is_plain_text: field.one_of.is_empty() && !field.written.trim && field.written.nulls.is_empty(),
                    one_of: field.one_of.clone(),
                    ..FieldRule::new(&field.name, &field.field_type, written.as_ref(), &mut 0)
                }
            })
            .collect();
        let message = stream.fields.iter().position(|field| field.is_message());
        let is_mixed = |field: &model::Field| {
            field.from.iter().any(model::Path::is_of_elements) && !field.from.iter().all(model::Path::is_of_elements)
        };
        let mixed: Vec<bool> = stream.fields.iter().map(is_mixed).collect();
        let mut numbering = Numbering {
            fields: &fields,
            mixed: &mixed,
            in_element: false,
            slots: places,
            element: None,
        };
        let root = numbering.node(stream.plan());
        let slots = numbering.slots;
        let element = numbering.element.take();
        let elements = stream.elements.as_ref().zip(element).map(|(elements, (array, node))| {
            let mut of_element = Vec::new();
            node.collect_slots(&mut of_element);
            let has_place = |places: &Range<usize>| places.clone().any(|slot| of_element.contains(&(slot as u16)));
            let is_whole = |places: &Range<usize>| places.clone().all(|slot| of_element.contains(&(slot as u16)));
            let (own, envelope): (Vec<u16>, Vec<u16>) =
                (0..fields.len() as u16).partition(|field| has_place(&fields[*field as usize].places));
            ElementLayout {
                is_mixed: own.iter().any(|field| !is_whole(&fields[*field as usize].places)),
                node,
                array,
                max: elements.max,
                fields: own,
                envelope,
                slots: of_element,
            }
        });
        Self {
            message: message.map(|field| field as u16),
            has_alternatives: fields.iter().any(|rule| rule.places.len() > 1),
            fields,
            root,
            elements,
            slots,
        }
    }
}

struct Numbering<'a> {
    fields: &'a [FieldRule],
    /// Of each field, whether it has places in the element and in the envelope.
    mixed: &'a [bool],
    in_element: bool,
    slots: usize,
    /// The array of the elements and what is in one of them.
    element: Option<(u16, Node)>,
}

impl Numbering<'_> {
    fn node(&mut self, node: &PathNode) -> Node {
        match node {
            PathNode::Field { field, rank } => Node::Place {
                slot: (self.fields[*field].places.start + rank) as u16,
                field: *field as u16,
                is_kept: self.mixed[*field] && !self.in_element,
            },
            PathNode::Object(children) => Node::Object(self.object(children)),
            PathNode::Elements(element) => {
                let slot = self.next_slot();
                self.in_element = true;
                let element = self.node(element);
                self.in_element = false;
                self.element = Some((slot, element));
                Node::Elements { slot }
            }
            PathNode::Array(children) => {
                let slot = self.next_slot();
                let mut children: Vec<_> = children.iter().map(|(index, node)| (*index, self.node(node))).collect();
                children.sort_by_key(|(index, _)| *index);
                Node::Array(ArrayNode { slot, children })
            }
        }
    }

    fn object(&mut self, children: &[(String, PathNode)]) -> ObjectNode {
        let slot = self.next_slot();
        let children: Vec<(Box<[u8]>, Node)> = children
            .iter()
            .map(|(key, node)| (key.as_bytes().into(), self.node(node)))
            .collect();
        let mut by_key: Vec<u16> = (0..children.len() as u16).collect();
        by_key.sort_by(|a, b| children[*a as usize].0.cmp(&children[*b as usize].0));
        ObjectNode { slot, children, by_key }
    }

    fn next_slot(&mut self) -> u16 {
        self.slots += 1;
        // At most 4000 places of 16 steps each, by the rules for declarations: below 65,536.
        (self.slots - 1) as u16
    }
}

impl ObjectNode {
    /// Position of a key among the children; `guess` is tried first.
    #[inline]
    pub(crate) fn find(&self, key: &[u8], guess: usize) -> Option<usize> {
        if self.children.get(guess).is_some_and(|(known, _)| **known == *key) {
            return Some(guess);
        }
        let found = self
            .by_key
            .binary_search_by(|at| (*self.children[*at as usize].0).cmp(key));
        found.ok().map(|at| self.by_key[at] as usize)
    }
}

impl Node {
    pub(crate) fn slot(&self) -> usize {
        match self {
            Node::Place { slot, .. } | Node::Elements { slot } => *slot as usize,
            Node::Object(object) => object.slot as usize,
            Node::Array(array) => array.slot as usize,
        }
    }

    /// Its slot and those of all that is in it.
    fn collect_slots(&self, slots: &mut Vec<u16>) {
        slots.push(self.slot() as u16);
        match self {
            Node::Place { .. } | Node::Elements { .. } => {}
            Node::Object(object) => object.children.iter().for_each(|(_, node)| node.collect_slots(slots)),
            Node::Array(array) => array.children.iter().for_each(|(_, node)| node.collect_slots(slots)),
        }
    }
}

impl ArrayNode {
    pub(crate) fn find(&self, index: usize) -> Option<&Node> {
        let found = self.children.binary_search_by_key(&index, |(known, _)| *known);
        found.ok().map(|at| &self.children[at].1)
    }
}

impl Limits {
    fn new(field_type: &FieldType, min: Option<f64>, max: Option<f64>) -> Self {
        let (type_min, type_max) = match field_type {
            FieldType::Integer => (i64::from(i32::MIN), i64::from(i32::MAX)),
            _ => (i64::MIN, i64::MAX),
        };
        let (decimal_min, decimal_max) = match field_type {
            FieldType::Decimal { precision, scale } => decimal_bounds(*precision, *scale, min, max),
            _ => (0, 0),
        };
        Self {
            // The cast saturates, so a bound beyond the type is the type's own.
            int_min: min.map_or(type_min, |min| min.ceil() as i64),
            int_max: max.map_or(type_max, |max| max.floor() as i64),
            double_min: min.unwrap_or(f64::NEG_INFINITY),
            double_max: max.unwrap_or(f64::INFINITY),
            decimal_min,
            decimal_max,
        }
    }
}

impl FieldRule {
    /// A rule without places and bounds, as parts have it; `numbered` counts the parts of the field.
    fn new(name: &str, field_type: &FieldType, written: Option<&Written>, numbered: &mut u16) -> Self {
        let number = *numbered;
        let mut part = |name: String, field_type: &FieldType| {
            // At most 200, by the rules for declarations.
            *numbered += 1;
            FieldRule::new(&name, field_type, written, numbered)
        };
        let (parts, keys): (Vec<FieldRule>, Vec<Box<[u8]>>) = match field_type {
            FieldType::Array(element) => (vec![part(format!("{name}[*]"), element)], Vec::new()),
            FieldType::Map(value) => (vec![part(format!("{name}.*"), value)], Vec::new()),
            FieldType::Struct(members) => members
                .iter()
                .map(|member| {
                    let rule = part(format!("{name}.{}", member.name), &member.field_type);
                    (rule, Box::from(member.name.as_bytes()))
                })
                .unzip(),
            _ => (Vec::new(), Vec::new()),
        };
        Self {
            name: name.to_owned(),
            field_type: field_type.clone(),
            nullable: true,
            places: 0..0,
            limits: Limits::new(field_type, None, None),
            one_of: Vec::new(),
            written: written.cloned().map(Box::new),
            is_plain_text: written.is_none_or(|written| !written.trim && written.nulls.is_empty()),
            has_structs: matches!(field_type, FieldType::Struct(_)) || parts.iter().any(|part| part.has_structs),
            cells: match field_type {
                FieldType::Struct(_) => parts.iter().map(|part| part.cells).sum(),
                _ => 1,
            },
            parts,
            keys,
            number,
        }
    }

    /// The field itself, or the part of this number.
    pub(crate) fn numbered(&self, number: u16) -> &FieldRule {
        let after = self.parts.iter().rposition(|part| part.number <= number);
        match after {
            Some(at) if self.number != number => self.parts[at].numbered(number),
            _ => self,
        }
    }

    /// Whether a text means null.
    pub(crate) fn is_null_text(&self, text: &[u8]) -> bool {
        self.written.as_ref().is_some_and(|written| {
            let text = if written.trim { text.trim_ascii() } else { text };
            written.nulls.iter().any(|null| null.as_bytes() == text)
        })
    }

    /// Appends the limit that a value broke.
    pub(crate) fn describe_limit(&self, class: ErrorClass, what: &str, text: &mut String) {
        // Writing to a String does not fail.
        let _ = match class {
            ErrorClass::WrongType => write!(text, " {}{}", self.field_type, self.hint(what)),
            ErrorClass::OutOfRange if matches!(self.field_type, FieldType::Decimal { .. }) => {
                let FieldType::Decimal { scale, .. } = self.field_type else {
                    return;
                };
                let shown = |units| decimal::text(units, scale);
                let (min, max) = (shown(self.limits.decimal_min), shown(self.limits.decimal_max));
                write!(text, " {min} to {max}")
            }
            ErrorClass::OutOfRange => match (self.limits.double_min, self.limits.double_max) {
                (min, f64::INFINITY) => write!(text, " {min} or more"),
                (f64::NEG_INFINITY, max) => write!(text, " {max} or less"),
                (min, max) => write!(text, " {min} to {max}"),
            },
            ErrorClass::NotInSet => {
                let shown = &self.one_of[..self.one_of.len().min(SHOWN_OF_SET_MAX)];
                let more = match self.one_of.len() - shown.len() {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                write!(text, " {}{more}", shown.join(", "))
            }
            _ => Ok(()),
        };
    }

    /// What a declaration could say to take such a value, where that is likely.
    fn hint(&self, what: &str) -> &'static str {
        let written = self.written.as_deref();
        let takes_counts = written.is_some_and(|written| written.epoch.is_some());
        let takes_text = written.is_some_and(|written| written.in_text || written.decimal_comma);
        match &self.field_type {
            FieldType::Timestamp | FieldType::Date if what == IS_NUMBER && !takes_counts => {
                ": ISO 8601 text, or a count since 1970 where the declaration has `epoch`"
            }
            FieldType::Integer | FieldType::Long | FieldType::Double | FieldType::Boolean
                if what == IS_TEXT && !takes_text =>
            {
                "; text is taken where the declaration has `in_text = true`"
            }
            _ => "",
        }
    }
}
