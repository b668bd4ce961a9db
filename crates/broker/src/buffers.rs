//! The buffers of large requests: few, and of all connections together.
//!
//! A connection that kept the buffer of its last large request would let many connections hold much between them, and
//! blocks freed one by one between longer-lived small ones stay with the allocator instead of going back to the system.

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

/// Kept for the next large request, in number and in bytes each; what is beyond is freed.
const SPARE_MAX: usize = 8;
const SPARE_BYTES_MAX: usize = 2 << 20;

#[derive(Debug, Default)]
pub(crate) struct Buffers {
    spare: Mutex<Vec<BytesMut>>,
}

impl Buffers {
    /// An empty buffer, the one used last if there is one.
    pub(crate) fn take(&self) -> BytesMut {
        self.spare.lock().pop().unwrap_or_default()
    }

    /// Takes back the buffer of a request, unless something of the request is still referred to.
    pub(crate) fn give_back(&self, request: Bytes) {
        let Ok(mut buffer) = request.try_into_mut() else { return };
        buffer.clear();
        if buffer.capacity() > SPARE_BYTES_MAX {
            return;
        }
        let mut spare = self.spare.lock();
        if spare.len() < SPARE_MAX {
            spare.push(buffer);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn spare(buffers: &Buffers) -> usize {
        buffers.spare.lock().len()
    }

    #[test]
    fn a_buffer_is_used_again() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        buffer.extend_from_slice(&[1; 100_000]);
        let (block, capacity) = (buffer.as_ptr(), buffer.capacity());
        buffers.give_back(buffer.freeze());
        let again = buffers.take();
        assert_eq!((again.as_ptr(), again.capacity(), again.len()), (block, capacity, 0));
    }

    #[test]
    fn few_are_kept_and_none_that_is_huge_or_in_use() {
        let buffers = Buffers::default();
        for _ in 0..2 * SPARE_MAX {
            buffers.give_back(vec![0; 100_000].into());
        }
        assert_eq!(spare(&buffers), SPARE_MAX);
        let buffers = Buffers::default();
        buffers.give_back(vec![0; SPARE_BYTES_MAX + 1].into());
        let request = Bytes::from(vec![0; 100_000]);
        let part = request.slice(5..10);
        buffers.give_back(request);
        assert_eq!(spare(&buffers), 0);
        drop(part);
    }
}
