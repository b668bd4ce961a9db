//! The last offset of each key, in memory that is bounded before the first key comes.
//!
//! A key is kept as 128 bits of its SHA-256: who writes to a topic must not be able to make two keys look the same.

use ring::digest::{SHA256, digest};

type Hash = [u8; 16];

/// Bytes of one place of the table.
const ENTRY_BYTES: usize = size_of::<(Hash, i64)>();
/// Of this many places three hold a key, so that a search is short.
const PLACES: usize = 4;
const FREE: i64 = -1;

/// Open addressing in a table whose size does not change.
#[derive(Debug)]
pub(super) struct KeyMap {
    entries: Vec<(Hash, i64)>,
    len: usize,
    /// Of what the map has seen.
    latest_offset: i64,
}

impl KeyMap {
    /// With room for `keys`, or for as many as fit into `bytes_max`; at least one.
    pub(super) fn new(keys: u64, bytes_max: usize) -> Self {
        let places_max = (bytes_max / ENTRY_BYTES).max(PLACES);
        let places = usize::try_from(keys).unwrap_or(usize::MAX);
        let places = places.saturating_add(places / 3).saturating_add(PLACES).min(places_max);
        Self {
            entries: vec![([0; 16], FREE); places],
            len: 0,
            latest_offset: -1,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.entries.len() * ENTRY_BYTES
    }

    /// Takes note of a key's record, which comes behind all before; false when there is no room for another key.
    pub(super) fn put(&mut self, key: &[u8], offset: i64) -> bool {
        let hash = hash(key);
        let place = self.place(&hash);
        if self.entries[place].1 == FREE {
            if self.len + 1 > self.entries.len() / PLACES * (PLACES - 1) {
                return false;
            }
            self.len += 1;
        }
        self.entries[place] = (hash, offset);
        self.latest_offset = offset;
        true
    }

    /// Takes note that everything before this offset has been seen.
    pub(super) fn seen_before(&mut self, offset: i64) {
        self.latest_offset = self.latest_offset.max(offset - 1);
    }

    pub(super) fn latest_offset(&self) -> i64 {
        self.latest_offset
    }

    /// The last offset of a key; `None` when it has no record in the part of the log that was read.
    pub(super) fn get(&self, key: &[u8]) -> Option<i64> {
        let offset = self.entries[self.place(&hash(key))].1;
        (offset != FREE).then_some(offset)
    }

    /// Where a key is or belongs; there is always a free place to end at.
    fn place(&self, hash: &Hash) -> usize {
        let mut start = [0; 8];
        start.copy_from_slice(&hash[..8]);
        let mut place = (u64::from_le_bytes(start) % self.entries.len() as u64) as usize;
        while self.entries[place].1 != FREE && self.entries[place].0 != *hash {
            place = (place + 1) % self.entries.len();
        }
        place
    }
}

fn hash(key: &[u8]) -> Hash {
    let mut hash = [0; 16];
    hash.copy_from_slice(&digest(&SHA256, key).as_ref()[..16]);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_of_each_key_is_kept_until_the_room_ends() {
        let mut map = KeyMap::new(u64::MAX, 100 * ENTRY_BYTES);
        assert_eq!(map.bytes(), 100 * ENTRY_BYTES);
        let mut offset = 0;
        for round in 0..3 {
            for key in 0..75_u32 {
                assert!(map.put(&key.to_be_bytes(), offset), "{round}");
                offset += 1;
            }
        }
        assert!(!map.put(b"one more", offset));
        assert_eq!(map.latest_offset(), offset - 1);
        for key in 0..75_u32 {
            assert_eq!(map.get(&key.to_be_bytes()), Some(150 + i64::from(key)));
        }
        assert_eq!(map.get(b"one more"), None);
        assert!(
            map.put(&7_u32.to_be_bytes(), offset),
            "a key that is there needs no room"
        );
    }

    #[test]
    fn little_is_taken_for_few_keys_and_one_always_fits() {
        assert!(KeyMap::new(30, 1 << 30).bytes() <= 50 * ENTRY_BYTES);
        let mut map = KeyMap::new(0, 0);
        assert!(map.put(b"", 5) && map.get(b"") == Some(5) && map.get(b"x").is_none());
    }
}
