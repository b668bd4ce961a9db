//! Names that must not repeat: cluster, topics, members.
//!
//! They need to be different, not secret, so they come from a counter stirred with the start time and the process id
//! rather than from a random source reached for.

use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

#[derive(Debug)]
pub(crate) struct Ids {
    seed: u64,
    next: AtomicU64,
}

impl Ids {
    pub(crate) fn new(now_ms: i64) -> Self {
        Self {
            seed: stir(now_ms as u64) ^ stir(u64::from(std::process::id()) << 32),
            next: AtomicU64::new(1),
        }
    }

    pub(crate) fn uuid(&self) -> Uuid {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let high = stir(self.seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let low = stir(high ^ self.seed.rotate_left(17) ^ n);
        uuid::Builder::from_random_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes()).into_uuid()
    }

    pub(crate) fn member(&self, client_id: &str) -> String {
        format!("{client_id}-{}", self.uuid())
    }
}

/// SplitMix64's finalizer (Steele, Lea, Flood 2014).
fn stir(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 128 bits in the 22 characters of base64url that Kafka uses for ids.
pub(crate) fn base64_id(id: Uuid) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = id.as_u128();
    (0..22)
        .map(|i| {
            let index = if i < 21 {
                (bits >> (122 - 6 * i)) & 63
            } else {
                (bits << 4) & 63
            };
            char::from(ALPHABET[index as usize])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_encode_as_kafka_does() {
        let ids = Ids::new(7);
        assert_ne!(ids.uuid(), ids.uuid());
        assert_eq!(base64_id(Uuid::nil()), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(base64_id(Uuid::from_u128(u128::MAX)), "_____________________w");
    }
}
