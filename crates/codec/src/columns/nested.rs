//! Columns of arrays, maps and structs: the parts' columns, and which of their rows are whose.

use std::mem::replace;
use std::sync::Arc;

use arrow_array::{ArrayRef, ListArray, MapArray, StructArray};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, FieldRef, Fields};
use model::FieldType;

use super::{Column, Nulls, room_for};
use crate::row::{Scratch, Value};

#[derive(Debug)]
pub(super) struct Nested {
    kind: Kind,
    nulls: Nulls,
}

#[derive(Debug)]
enum Kind {
    Array {
        field: FieldRef,
        offsets: Vec<i32>,
        element: Column,
    },
    Map {
        entries: FieldRef,
        offsets: Vec<i32>,
        key: Column,
        value: Column,
    },
    Struct {
        fields: Fields,
        rows: usize,
        members: Vec<Column>,
    },
}

impl Nested {
    pub(super) fn new(field_type: &FieldType, nullable: bool) -> Self {
        let kind = match (field_type, field_type.arrow()) {
            (FieldType::Array(element), DataType::List(field)) => Kind::Array {
                field,
                offsets: vec![0],
                element: Column::new(element, true),
            },
            (FieldType::Map(value), DataType::Map(entries, _)) => Kind::Map {
                entries,
                offsets: vec![0],
                key: Column::new(&FieldType::String, false),
                value: Column::new(value, true),
            },
            (FieldType::Struct(members), DataType::Struct(fields)) => Kind::Struct {
                fields,
                rows: 0,
                members: members
                    .iter()
                    .map(|member| Column::new(&member.field_type, true))
                    .collect(),
            },
            _ => unreachable!("{field_type} is nested"),
        };
        Self {
            kind,
            nulls: Nulls::new(nullable),
        }
    }

    /// Appends the value that begins at `at` of [`Scratch::nested`]; where the next one begins.
    pub(super) fn append(&mut self, record: &[u8], scratch: &Scratch, at: usize) -> usize {
        self.nulls.append(true);
        let mut next = at + 1;
        match (&mut self.kind, scratch.nested[at]) {
            (Kind::Array { offsets, element, .. }, Value::Items(count)) => {
                for _ in 0..count {
                    next = element.append_part(record, scratch, next);
                }
                // Far below 2 GiB of bytes make them.
                offsets.push(element.len() as i32);
            }
            (
                Kind::Map {
                    offsets, key, value, ..
                },
                Value::Items(count),
            ) => {
                for _ in 0..count {
                    next = key.append_part(record, scratch, next);
                    next = value.append_part(record, scratch, next);
                }
                offsets.push(key.len() as i32);
            }
            (Kind::Struct { rows, members, .. }, Value::Members(count)) => {
                for _ in 0..count {
                    let Value::Member(member) = scratch.nested[next] else {
                        unreachable!("a member is announced")
                    };
                    next = members[member as usize].append_part(record, scratch, next + 1);
                }
                *rows += 1;
                members
                    .iter_mut()
                    .filter(|member| member.len() < *rows)
                    .for_each(Column::append_null);
            }
            (kind, value) => unreachable!("{value:?} is no value of {kind:?}"),
        }
        next
    }

    pub(super) fn append_null(&mut self) {
        self.nulls.append(false);
        match &mut self.kind {
            Kind::Array { offsets, .. } | Kind::Map { offsets, .. } => {
                offsets.push(offsets.last().copied().unwrap_or_default());
            }
            Kind::Struct { rows, members, .. } => {
                *rows += 1;
                members.iter_mut().for_each(Column::append_null);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        match &self.kind {
            Kind::Array { offsets, .. } | Kind::Map { offsets, .. } => offsets.len() - 1,
            Kind::Struct { rows, .. } => *rows,
        }
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.nulls.truncate(rows);
        let cut = |offsets: &mut Vec<i32>| {
            offsets.truncate(rows + 1);
            offsets.last().map_or(0, |end| *end as usize)
        };
        match &mut self.kind {
            Kind::Array { offsets, element, .. } => element.truncate(cut(offsets)),
            Kind::Map {
                offsets, key, value, ..
            } => {
                let entries = cut(offsets);
                key.truncate(entries);
                value.truncate(entries);
            }
            Kind::Struct { rows: own, members, .. } => {
                *own = (*own).min(rows);
                members.iter_mut().for_each(|member| member.truncate(rows));
            }
        }
    }

    /// Bytes of the values so far.
    pub(super) fn bytes(&self) -> usize {
        match &self.kind {
            Kind::Array { offsets, element, .. } => size_of_val(&offsets[1..]) + element.bytes(),
            Kind::Map {
                offsets, key, value, ..
            } => size_of_val(&offsets[1..]) + key.bytes() + value.bytes(),
            Kind::Struct { members, .. } => members.iter().map(Column::bytes).sum(),
        }
    }

    pub(super) fn take(&mut self) -> ArrayRef {
        let nulls = self.nulls.take();
        match &mut self.kind {
            Kind::Array {
                field,
                offsets,
                element,
            } => Arc::new(ListArray::new(
                Arc::clone(field),
                take_offsets(offsets),
                element.take(None),
                nulls,
            )),
            Kind::Map {
                entries,
                offsets,
                key,
                value,
            } => {
                let DataType::Struct(fields) = entries.data_type() else {
                    unreachable!("the entries of a map are a struct")
                };
                let both = StructArray::new(fields.clone(), vec![key.take(None), value.take(None)], None);
                Arc::new(MapArray::new(
                    Arc::clone(entries),
                    take_offsets(offsets),
                    both,
                    nulls,
                    false,
                ))
            }
            Kind::Struct { fields, rows, members } => {
                *rows = 0;
                let columns = members.iter_mut().map(|member| member.take(None)).collect();
                Arc::new(StructArray::new(fields.clone(), columns, nulls))
            }
        }
    }
}

fn take_offsets(offsets: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let mut next = room_for(offsets.len(), None);
    next.push(0);
    OffsetBuffer::new(ScalarBuffer::from(replace(offsets, next)))
}
