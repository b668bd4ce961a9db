//! What no one declared of a message with elements, for the column `_extra` of each of its rows.
//!
//! A row's text has the message's shape with the row's element alone in the array: `{"firmware":"1.2","readings":
//! [{"unit":"C"}]}`. So it reads as a message with one element, and fields that are declared later are found in it.

use super::scan::Hole;
use crate::row::Row;

/// The text of the message around its elements, reused from message to message.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    /// For an element that adds nothing; empty when the message does not either.
    alone: Vec<u8>,
    /// Around what an element adds.
    before: Vec<u8>,
    after: Vec<u8>,
    /// Values in it.
    fields: usize,
    /// A row's text under construction.
    whole: Vec<u8>,
}

impl Envelope {
    /// Takes over the text of a message that was just read, with its hole.
    pub(super) fn set(&mut self, row: &Row, hole: &Hole) {
        let text = row.extra.as_slice();
        self.fields = row.extra_fields;
        let (before, after) = text.split_at(hole.at);
        self.before.clear();
        self.before.extend_from_slice(before);
        self.after.clear();
        self.after.extend_from_slice(after);
        self.alone.clear();
        let (left, mut right) = (&text[..hole.without.start], &text[hole.without.end..]);
        // The comma before the hole went with it; where it was the first, the one behind it is too many.
        if left.last() == Some(&b'{') && right.first() == Some(&b',') {
            right = &right[1..];
        }
        self.alone.extend_from_slice(left);
        self.alone.extend_from_slice(right);
    }

    /// Makes the extra text of an element that of its row.
    #[inline]
    pub(super) fn complete(&mut self, row: &mut Row) {
        row.extra_fields += self.fields;
        if row.extra.is_empty() {
            row.extra.extend_from_slice(&self.alone);
        } else if !self.before.is_empty() {
            self.whole.clear();
            self.whole.extend_from_slice(&self.before);
            self.whole.extend_from_slice(&row.extra);
            self.whole.extend_from_slice(&self.after);
            std::mem::swap(&mut self.whole, &mut row.extra);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.before.len() + self.after.len()
    }
}
