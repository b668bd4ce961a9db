//! The shape of every request, checked before it is decoded.
//!
//! The codec makes room for as many elements as an array says it has before it reads the first; a few hostile bytes
//! could ask for hundreds of gigabytes. So a request is first walked by its shape: every count and length must fit the
//! bytes that are there.
//!
//! A shape lists a request's fields in order: `b` `h` `i` `l` are integers of 1, 2, 4 and 8 bytes, `u` a UUID, `s` a
//! string, `y` bytes, `[x]` an array of one of these, `{..}` an array of structs. `3+:`, `-5:` and `8-10:` limit the next
//! field to versions. Flexible versions end each struct with tagged fields. Source: Kafka's message definitions.

use kafka_protocol::messages::ApiKey;

const SHAPES: &[(ApiKey, &str)] = &[
    (ApiKey::Produce, "s h i {-12:s 13+:u {i y}}"),
    (
        ApiKey::Fetch,
        "-14:i i i i b 7+:i 7+:i {-12:s 13+:u {i 9+:i l 12+:i 5+:l i}} 7+:{-12:s 13+:u [i]} 11+:s",
    ),
    (ApiKey::ListOffsets, "i 2+:b {s {i 4+:i l}} 10+:i"),
    (ApiKey::Metadata, "{10+:u s} 4+:b 8-10:b 8+:b"),
    (ApiKey::OffsetCommit, "s i s 7+:s -4:l {s {i l 6+:i s}}"),
    (ApiKey::OffsetFetch, "-7:s -7:{s [i]} 8+:{s 9+:s 9+:i {s [i]}} 7+:b"),
    (ApiKey::FindCoordinator, "-3:s 1+:b 4+:[s]"),
    (ApiKey::JoinGroup, "s i 1+:i s 5+:s s {s y} 8+:s"),
    (ApiKey::Heartbeat, "s i s 3+:s"),
    (ApiKey::LeaveGroup, "s -2:s 3+:{s s 5+:s}"),
    (ApiKey::SyncGroup, "s i s 3+:s 5+:s 5+:s {s y}"),
    (ApiKey::DescribeGroups, "[s] 3+:b"),
    (ApiKey::ListGroups, "4+:[s] 5+:[s]"),
    (ApiKey::SaslHandshake, "s"),
    (ApiKey::ApiVersions, "3+:s 3+:s"),
    (ApiKey::CreateTopics, "{s i h {i [i]} {s s}} i b"),
    (ApiKey::DeleteTopics, "6+:{s u} -5:[s] i"),
    (ApiKey::DeleteRecords, "{s {i l}} i"),
    (ApiKey::InitProducerId, "s i 3+:l 3+:h"),
    (ApiKey::OffsetForLeaderEpoch, "3+:i {s {i i i}}"),
    (ApiKey::AddPartitionsToTxn, "s l h {s [i]}"),
    (ApiKey::AddOffsetsToTxn, "s l h s"),
    (ApiKey::EndTxn, "s l h b"),
    (ApiKey::TxnOffsetCommit, "s s l h 3+:i 3+:s 3+:s {s {i l 2+:i s}}"),
    (ApiKey::DescribeConfigs, "{b s [s]} b 3+:b"),
    (ApiKey::AlterConfigs, "{b s {s s}} b"),
    (ApiKey::DescribeLogDirs, "{s [i]}"),
    (ApiKey::SaslAuthenticate, "y"),
    (ApiKey::CreatePartitions, "{s i {[i]}} i b"),
    (ApiKey::DeleteGroups, "[s]"),
    (ApiKey::IncrementalAlterConfigs, "{b s {s b s}} b"),
    (ApiKey::OffsetDelete, "s {s {i}}"),
    (ApiKey::DescribeCluster, "b 1+:b 2+:b"),
    (ApiKey::DescribeProducers, "{s [i]}"),
    (ApiKey::DescribeTransactions, "[s]"),
    (ApiKey::ListTransactions, "[s] [l] 1+:l"),
];

/// Elements of all arrays of a request, and tagged fields, together. An element takes up to some 200 bytes decoded, so
/// this bounds what a request grows to: 20 MB. A request that names every partition of a full broker a few times fits.
const ELEMENTS_MAX: usize = 100_000;
/// As in Kafka, whichever way a length is written.
const STRING_MAX: i64 = i16::MAX as i64;

/// Whether `body` has the shape of such a request, so that decoding it allocates no more than it holds.
pub(super) fn fits(api_key: ApiKey, version: i16, body: &[u8]) -> bool {
    let Some((_, shape)) = SHAPES.iter().find(|(key, _)| *key == api_key) else {
        return false;
    };
    let flexible = api_key.request_header_version(version) >= 2;
    let mut walk = Walk {
        version,
        flexible,
        body,
        elements_left: ELEMENTS_MAX,
    };
    walk.fields(shape.as_bytes()).is_some() && (!flexible || walk.tagged_fields().is_some())
}

struct Walk<'a> {
    version: i16,
    flexible: bool,
    body: &'a [u8],
    elements_left: usize,
}

impl Walk<'_> {
    fn fields(&mut self, mut shape: &[u8]) -> Option<()> {
        while let Some((&first, rest)) = shape.split_first() {
            if first == b' ' {
                shape = rest;
                continue;
            }
            let (wanted, field) = self.version_limit(shape)?;
            let (field, rest) = field.split_at(field_len(field));
            if wanted {
                self.field(field)?;
            }
            shape = rest;
        }
        Some(())
    }

    fn field(&mut self, field: &[u8]) -> Option<()> {
        match field {
            [b'b'] => self.skip(1),
            [b'h'] => self.skip(2),
            [b'i'] => self.skip(4),
            [b'l'] => self.skip(8),
            [b'u'] => self.skip(16),
            [b's'] => {
                let length = if self.flexible {
                    self.compact()?
                } else {
                    i64::from(i16::from_be_bytes(self.take()?))
                };
                if length > STRING_MAX {
                    return None;
                }
                self.skip(length.max(0) as usize)
            }
            [b'y'] => {
                let length = self.length()?;
                self.skip(length)
            }
            [b'[', element, b']'] => {
                for _ in 0..self.count()? {
                    self.field(&[*element])?;
                }
                Some(())
            }
            [b'{', fields @ .., b'}'] => {
                for _ in 0..self.count()? {
                    self.fields(fields)?;
                    if self.flexible {
                        self.tagged_fields()?;
                    }
                }
                Some(())
            }
            _ => None,
        }
    }

    /// Reads a limit such as `3+:`, if there is one, and says whether it holds.
    fn version_limit<'s>(&self, shape: &'s [u8]) -> Option<(bool, &'s [u8])> {
        let colon = shape.iter().take(6).position(|&byte| byte == b':');
        let Some(colon) = colon.filter(|&at| shape[..at].iter().all(|b| b.is_ascii_digit() || b"+-".contains(b)))
        else {
            return Some((true, shape));
        };
        let limit = std::str::from_utf8(&shape[..colon]).ok()?;
        let holds = if let Some(from) = limit.strip_suffix('+') {
            self.version >= from.parse().ok()?
        } else {
            let (from, to) = limit.split_once('-')?;
            (from.is_empty() || self.version >= from.parse().ok()?) && self.version <= to.parse().ok()?
        };
        Some((holds, &shape[colon + 1..]))
    }

    fn tagged_fields(&mut self) -> Option<()> {
        let count = self.varint()?;
        if count > self.body.len() as u64 {
            return None;
        }
        self.elements_left = self.elements_left.checked_sub(count as usize)?;
        for _ in 0..count {
            self.varint()?;
            let size = self.varint()?;
            self.skip(usize::try_from(size).ok()?)?;
        }
        Some(())
    }

    /// An element takes a byte at least.
    fn count(&mut self) -> Option<usize> {
        let count = self.length().filter(|&count| count <= self.body.len())?;
        self.elements_left = self.elements_left.checked_sub(count)?;
        Some(count)
    }

    /// A length of -1 stands for null.
    fn length(&mut self) -> Option<usize> {
        let length = if self.flexible {
            self.compact()?
        } else {
            i64::from(i32::from_be_bytes(self.take()?))
        };
        (length >= -1).then_some(length.max(0) as usize)
    }

    fn compact(&mut self) -> Option<i64> {
        Some(self.varint()? as i64 - 1)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for i in 0..5 {
            let [byte] = self.take()?;
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.body.split_first_chunk()?;
        self.body = rest;
        Some(*taken)
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.body = self.body.get(bytes..)?;
        Some(())
    }
}

/// How much of a shape its first field takes.
fn field_len(shape: &[u8]) -> usize {
    let mut depth = 0_usize;
    for (i, byte) in shape.iter().enumerate() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    shape.len()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use bytes::{BufMut, BytesMut};
    use kafka_protocol::messages::*;
    use kafka_protocol::protocol::Encodable;
    use proptest::prelude::*;

    use super::*;
    use crate::api::versions::SPOKEN;

    /// An empty request of every kind, as the codec writes it.
    pub(in super::super) fn encoded(api_key: ApiKey, version: i16) -> BytesMut {
        let mut body = BytesMut::new();
        macro_rules! encode {
            ($($key:ident => $request:ident),* $(,)?) => {
                match api_key {
                    $(ApiKey::$key => $request::default().encode(&mut body, version).unwrap(),)*
                    other => panic!("no request for {other:?}"),
                }
            };
        }
        encode!(
            Produce => ProduceRequest, Fetch => FetchRequest, ListOffsets => ListOffsetsRequest,
            Metadata => MetadataRequest, OffsetCommit => OffsetCommitRequest, OffsetFetch => OffsetFetchRequest,
            FindCoordinator => FindCoordinatorRequest, JoinGroup => JoinGroupRequest, Heartbeat => HeartbeatRequest,
            LeaveGroup => LeaveGroupRequest, SyncGroup => SyncGroupRequest, DescribeGroups => DescribeGroupsRequest,
            ListGroups => ListGroupsRequest, ApiVersions => ApiVersionsRequest, CreateTopics => CreateTopicsRequest,
            DeleteTopics => DeleteTopicsRequest, DeleteRecords => DeleteRecordsRequest,
            InitProducerId => InitProducerIdRequest, OffsetForLeaderEpoch => OffsetForLeaderEpochRequest,
            AddPartitionsToTxn => AddPartitionsToTxnRequest, AddOffsetsToTxn => AddOffsetsToTxnRequest,
            EndTxn => EndTxnRequest, TxnOffsetCommit => TxnOffsetCommitRequest,
            DescribeConfigs => DescribeConfigsRequest, AlterConfigs => AlterConfigsRequest,
            DescribeLogDirs => DescribeLogDirsRequest, CreatePartitions => CreatePartitionsRequest,
            DeleteGroups => DeleteGroupsRequest, IncrementalAlterConfigs => IncrementalAlterConfigsRequest,
            OffsetDelete => OffsetDeleteRequest, DescribeCluster => DescribeClusterRequest,
            DescribeProducers => DescribeProducersRequest, DescribeTransactions => DescribeTransactionsRequest,
            ListTransactions => ListTransactionsRequest, SaslHandshake => SaslHandshakeRequest,
            SaslAuthenticate => SaslAuthenticateRequest,
        );
        body
    }

    #[test]
    fn every_spoken_version_of_every_request_has_its_shape() {
        for (api_key, name, versions) in SPOKEN {
            for version in versions.clone() {
                let body = encoded(*api_key, version);
                assert!(fits(*api_key, version, &body), "{name} {version} does not fit");
                for cut in 0..body.len() {
                    assert!(
                        !fits(*api_key, version, &body[..cut]),
                        "{name} {version} fits when cut at {cut}"
                    );
                }
            }
        }
    }

    #[test]
    fn absurd_counts_are_refused() {
        let mut body = BytesMut::new();
        body.put_i32(i32::MAX);
        assert!(!fits(ApiKey::Metadata, 1, &body));
        assert!(!fits(ApiKey::Metadata, 12, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0]));
        assert!(!fits(ApiKey::Metadata, 12, &[0xff; 64]));
    }

    #[test]
    fn a_request_that_would_grow_is_refused() {
        // Empty names, each a byte here and a struct once decoded.
        let request = |count: usize| {
            let mut body = BytesMut::new();
            for byte in [count + 1, (count + 1) >> 7, (count + 1) >> 14].map(|bits| bits as u8 & 0x7f) {
                body.put_u8(byte | 0x80);
            }
            body[2] &= 0x7f;
            body.put_bytes(1, count);
            body.put_slice(&[0, 0]);
            body
        };
        assert!(fits(ApiKey::DescribeGroups, 5, &request(ELEMENTS_MAX)));
        assert!(!fits(ApiKey::DescribeGroups, 5, &request(ELEMENTS_MAX + 1)));
        let mut long = BytesMut::new();
        long.put_slice(&[2, 0x81, 0x80, 0x02]);
        long.put_bytes(b'g', 1 << 15);
        long.put_slice(&[0, 0]);
        assert!(!fits(ApiKey::DescribeGroups, 5, &long));
    }

    proptest! {
        #[test]
        fn random_bytes_are_walked_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), pick in any::<usize>()) {
            let (api_key, _, versions) = &SPOKEN[pick % SPOKEN.len()];
            for version in versions.clone() {
                fits(*api_key, version, &bytes);
            }
        }
    }
}
