//! A stream's declaration, prepared for the decoder: the places of a message numbered, and the rules of each field.

use std::fmt::Write;
use std::ops::Range;

use model::{FieldType, PathNode, Stream};

use crate::error_class::ErrorClass;

/// Values of a set that an error names.
const SHOWN_OF_SET_MAX: usize = 20;

/// What the decoder knows of a stream.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) fields: Vec<FieldRule>,
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

/// One field: where its value may be and what it must be.
#[derive(Debug)]
pub(crate) struct FieldRule {
    pub(crate) name: String,
    pub(crate) field_type: FieldType,
    pub(crate) nullable: bool,
    /// Slots of its places, best first.
    pub(crate) places: Range<usize>,
    pub(crate) limits: Limits,
    pub(crate) one_of: Vec<String>,
}

/// Inclusive bounds in the type of the field; the widest where none are declared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) int_min: i64,
    pub(crate) int_max: i64,
    pub(crate) double_min: f64,
    pub(crate) double_max: f64,
}

/// A declared part of a message.
#[derive(Debug)]
pub(crate) enum Node {
    Place {
        slot: u16,
        field: u16,
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
                FieldRule {
                    name: field.name.clone(),
                    field_type: field.field_type,
                    nullable: field.nullable,
                    places: first..places,
                    limits: Limits::new(field.field_type, field.min, field.max),
                    one_of: field.one_of.clone(),
                }
            })
            .collect();
        let mut numbering = Numbering {
            fields: &fields,
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
            fields,
            root,
            elements,
            slots,
        }
    }
}

struct Numbering<'a> {
    fields: &'a [FieldRule],
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
            },
            PathNode::Object(children) => Node::Object(self.object(children)),
            PathNode::Elements(element) => {
                let slot = self.next_slot();
                let element = self.node(element);
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
    fn new(field_type: FieldType, min: Option<f64>, max: Option<f64>) -> Self {
        let (type_min, type_max) = match field_type {
            FieldType::Integer => (i64::from(i32::MIN), i64::from(i32::MAX)),
            _ => (i64::MIN, i64::MAX),
        };
        Self {
            // The cast saturates, so a bound beyond the type is the type's own.
            int_min: min.map_or(type_min, |min| min.ceil() as i64),
            int_max: max.map_or(type_max, |max| max.floor() as i64),
            double_min: min.unwrap_or(f64::NEG_INFINITY),
            double_max: max.unwrap_or(f64::INFINITY),
        }
    }
}

impl FieldRule {
    /// Appends the limit that a value broke.
    pub(crate) fn describe_limit(&self, class: ErrorClass, text: &mut String) {
        // Writing to a String does not fail.
        let _ = match class {
            ErrorClass::WrongType => write!(text, " {}", self.field_type.as_str()),
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
}
