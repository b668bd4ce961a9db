//! What every profile hands out: records in one reused buffer, in the order they are due.

use std::ops::Range;

use crate::Message;

/// Records of one moment, or of a part of one. Cleared and filled again, so that no record costs an allocation.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// Lines of `faults.ndjson` and `situations.ndjson` that belong to this batch; empty unless the run keeps a ledger.
    pub(crate) faults: Vec<u8>,
    pub(crate) situations: Vec<u8>,
}

/// One record for a Kafka topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Index into [`crate::STREAMS`].
    pub stream: usize,
    /// Number of the device within the run.
    pub device: u32,
    /// Counted from 0 at the run's start; all records of a step belong together.
    pub step: u64,
    /// When the device measured, microseconds since the epoch; a faulty clock may have written another time.
    pub event_time_us: i64,
    /// When it is to be sent, on the same clock: the event time, unless the record is held up.
    pub due_us: i64,
    pub key: &'a [u8],
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Whether the value is one JSON object.
    pub is_json: bool,
}

#[derive(Debug, Clone)]
struct Entry {
    stream: u8,
    is_null: bool,
    is_json: bool,
    device: u32,
    step: u64,
    event_time_us: i64,
    due_us: i64,
    key: Range<u32>,
    value: Range<u32>,
}

/// What a record needs besides its bytes.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) stream: usize,
    pub(crate) device: u32,
    pub(crate) step: u64,
    pub(crate) event_time_us: i64,
    pub(crate) due_us: i64,
    /// Where the key stands in the batch's bytes.
    pub(crate) key: Range<u32>,
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.faults.clear();
        self.situations.clear();
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        self.entries.iter().map(|entry| Record {
            stream: usize::from(entry.stream),
            device: entry.device,
            step: entry.step,
            event_time_us: entry.event_time_us,
            due_us: entry.due_us,
            key: self.slice(&entry.key),
            value: (!entry.is_null).then(|| self.slice(&entry.value)),
            is_json: entry.is_json,
        })
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Lines of the ledger of faults (NDJSON).
    pub fn faults(&self) -> &[u8] {
        &self.faults
    }

    /// Lines of the ledger of situations (NDJSON).
    pub fn situations(&self) -> &[u8] {
        &self.situations
    }

    fn slice(&self, range: &Range<u32>) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }

    /// Ends a record whose value stands at `value` in the bytes; `None` makes a tombstone.
    pub(crate) fn push(&mut self, head: &Head, value: Option<Range<u32>>, is_json: bool) {
        self.entries.push(Entry {
            stream: head.stream as u8,
            is_null: value.is_none(),
            is_json,
            device: head.device,
            step: head.step,
            event_time_us: head.event_time_us,
            due_us: head.due_us,
            key: head.key.clone(),
            value: value.unwrap_or(0..0),
        });
    }

    pub(crate) fn at(&self) -> u32 {
        self.bytes.len() as u32
    }

    /// Takes over a whole message.
    pub(crate) fn push_message(&mut self, stream: usize, message: &Message, step: u64, event_time_us: i64) {
        let start = self.at();
        self.bytes.extend_from_slice(message.key.as_bytes());
        let key = start..self.at();
        self.bytes.extend_from_slice(&message.value);
        let head = Head {
            stream,
            device: 0,
            step,
            event_time_us,
            due_us: event_time_us,
            key: key.clone(),
        };
        self.push(&head, Some(key.end..self.at()), true);
    }
}

impl Record<'_> {
    /// The record bound for `topic` as one line for people and pipes, without a line end:
    /// `{"topic":..,"key":..,"value":{..}}`. A value that is no JSON stands there as text, a tombstone as null.
    pub fn write_line(&self, topic: &str, out: &mut Vec<u8>) {
        let quoted = |text: &[u8]| serde_json::Value::from(String::from_utf8_lossy(text)).to_string();
        out.extend_from_slice(b"{\"topic\":\"");
        out.extend_from_slice(topic.as_bytes());
        out.extend_from_slice(b"\",\"key\":");
        out.extend_from_slice(quoted(self.key).as_bytes());
        out.extend_from_slice(b",\"value\":");
        match self.value {
            None => out.extend_from_slice(b"null"),
            Some(value) if self.is_json => out.extend_from_slice(value),
            Some(value) => out.extend_from_slice(quoted(value).as_bytes()),
        }
        out.push(b'}');
    }
}

/// A profile of the simulator under way: records step by step, in the order they are due.
pub trait Profile: Send {
    /// Fills the batch with what comes next, in place of what it held; `false` when nothing comes any more. A batch may
    /// be empty.
    fn fill(&mut self, batch: &mut Batch) -> bool;

    /// Ends the run at the next step: what is held up is handed out at once, then nothing comes any more.
    fn stop(&mut self);

    /// How many steps there are in all; `None` when there is no end.
    fn steps(&self) -> Option<u64>;
}
