//! The unit that moves between stages: the records of one partition's fetch as one buffer, with their offsets and
//! timestamps beside it. No record is an allocation of its own.

use crate::{Span, TopicPartition};

/// Records of one partition in offset order, with the span they cover.
#[derive(Debug, Clone)]
pub struct Chunk {
    topic_partition: TopicPartition,
    span: Span,
    bytes: Vec<u8>,
    records: Vec<Entry>,
}

/// Where a record's parts lie in the buffer: value, then key, then encoded headers.
#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: i64,
    timestamp_ms: i64,
    start: usize,
    value_len: u32,
    key_len: u32,
    headers_len: u32,
}

/// The length that stands for a null key or value.
const NULL: u32 = u32::MAX;

/// One record, borrowed from its chunk.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    pub offset: i64,
    /// Kafka's timestamp (create or append time, as the topic says), milliseconds since the epoch; -1 when the record
    /// has none.
    pub timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    headers: &'a [u8],
}

impl Chunk {
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// The same records under another name of their topic.
    #[must_use]
    pub fn of_topic(mut self, topic: impl Into<std::sync::Arc<str>>) -> Self {
        self.topic_partition = TopicPartition::new(topic, self.topic_partition.partition);
        self
    }

    /// The offsets this chunk accounts for; every record's offset lies in it.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of memory held, for back-pressure.
    pub fn bytes(&self) -> usize {
        self.bytes.capacity() + self.records.capacity() * size_of::<Entry>()
    }

    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        self.records.iter().map(|entry| {
            let (value, at) = self.part(entry.start, entry.value_len);
            let (key, at) = self.part(at, entry.key_len);
            let headers = &self.bytes[at..at + entry.headers_len as usize];
            Record {
                offset: entry.offset,
                timestamp_ms: entry.timestamp_ms,
                key,
                value,
                headers,
            }
        })
    }

    #[inline]
    fn part(&self, start: usize, len: u32) -> (Option<&[u8]>, usize) {
        match len {
            NULL => (None, start),
            len => {
                let end = start + len as usize;
                (Some(&self.bytes[start..end]), end)
            }
        }
    }
}

impl<'a> Record<'a> {
    /// Name and value of each header, in the order they were sent; a name may repeat.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> {
        let mut rest = self.headers;
        std::iter::from_fn(move || {
            let (name_len, after) = rest.split_first_chunk::<4>()?;
            let (name, after) = after.split_at(u32::from_le_bytes(*name_len) as usize);
            let (value_len, after) = after.split_first_chunk::<4>()?;
            let value = match u32::from_le_bytes(*value_len) {
                NULL => (None, after),
                len => {
                    let (value, after) = after.split_at(len as usize);
                    (Some(value), after)
                }
            };
            rest = value.1;
            Some((std::str::from_utf8(name).unwrap_or_default(), value.0))
        })
    }
}

/// Fills a [`Chunk`]; the source's side of the hand-off.
#[derive(Debug)]
pub struct ChunkBuilder {
    topic_partition: TopicPartition,
    from: i64,
    bytes: Vec<u8>,
    records: Vec<Entry>,
}

impl ChunkBuilder {
    /// A chunk whose span starts at `from`: the offset after the last one handed out for this partition.
    pub fn new(topic_partition: TopicPartition, from: i64) -> Self {
        Self {
            topic_partition,
            from,
            bytes: Vec::new(),
            records: Vec::new(),
        }
    }

    /// As [`Self::new`], with room for so many records and bytes.
    pub fn with_capacity(topic_partition: TopicPartition, from: i64, records: usize, bytes: usize) -> Self {
        Self {
            topic_partition,
            from,
            bytes: Vec::with_capacity(bytes),
            records: Vec::with_capacity(records),
        }
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of payload so far.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Appends one record; `headers` are name and value in sending order. Kafka's own limits keep every part below
    /// 2 GiB, which the lengths here rely on.
    pub fn push<'h>(
        &mut self,
        offset: i64,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) {
        debug_assert!(offset >= self.records.last().map_or(self.from, |last| last.offset + 1));
        let start = self.bytes.len();
        let value_len = self.append(value);
        let key_len = self.append(key);
        let headers_start = self.bytes.len();
        for (name, value) in headers {
            self.bytes.extend_from_slice(&(name.len() as u32).to_le_bytes());
            self.bytes.extend_from_slice(name.as_bytes());
            self.bytes
                .extend_from_slice(&value.map_or(NULL, |value| value.len() as u32).to_le_bytes());
            self.bytes.extend_from_slice(value.unwrap_or_default());
        }
        let headers_len = (self.bytes.len() - headers_start) as u32;
        self.records.push(Entry {
            offset,
            timestamp_ms,
            start,
            value_len,
            key_len,
            headers_len,
        });
    }

    fn append(&mut self, part: Option<&[u8]>) -> u32 {
        match part {
            None => NULL,
            Some(part) => {
                self.bytes.extend_from_slice(part);
                part.len() as u32
            }
        }
    }

    /// Ends the chunk at `to`, the next offset to read.
    pub fn finish(self, to: i64) -> Chunk {
        debug_assert!(self.records.last().is_none_or(|last| last.offset < to));
        Chunk {
            topic_partition: self.topic_partition,
            span: Span::new(self.from, to),
            bytes: self.bytes,
            records: self.records,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_went_in() {
        let mut builder = ChunkBuilder::new(TopicPartition::new("t", 2), 10);
        builder.push(10, 5, Some(b"k"), Some(b"value"), []);
        builder.push(
            12,
            -1,
            None,
            None,
            [("a", Some(&b"1"[..])), ("a", None), ("", Some(b""))],
        );
        builder.push(13, 7, Some(b""), Some(b""), []);
        let chunk = builder.finish(20);

        assert_eq!(chunk.span(), Span::new(10, 20));
        let records: Vec<_> = chunk.iter().collect();
        assert_eq!(
            (records[0].offset, records[0].key, records[0].value),
            (10, Some(&b"k"[..]), Some(&b"value"[..]))
        );
        assert_eq!(
            (records[1].timestamp_ms, records[1].key, records[1].value),
            (-1, None, None)
        );
        let headers: Vec<_> = records[1].headers().collect();
        assert_eq!(headers, [("a", Some(&b"1"[..])), ("a", None), ("", Some(&b""[..]))]);
        assert_eq!((records[2].key, records[2].value), (Some(&b""[..]), Some(&b""[..])));
        assert_eq!(records[0].headers().count(), 0);
    }
}
