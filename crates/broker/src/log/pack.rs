//! Compressing the records of a batch again, after the cleaner has taken some away.

use bytes::{BufMut, BytesMut};
use kafka_protocol::compression::{Compressor, Gzip, Lz4, Snappy, Zstd};

/// The records as the codec of this number in a batch's attributes packs them.
pub(super) fn pack(compression: i16, records: &[u8]) -> Result<BytesMut, &'static str> {
    let mut packed = BytesMut::new();
    let put = |to: &mut BytesMut| {
        to.put_slice(records);
        Ok(())
    };
    let done = match compression {
        0 => put(&mut packed),
        1 => Gzip::compress(&mut packed, put),
        2 => Snappy::compress(&mut packed, put),
        3 => Lz4::compress(&mut packed, put),
        4 => Zstd::compress(&mut packed, put),
        _ => return Err("unknown compression type"),
    };
    done.map_err(|_| "records cannot be compressed")?;
    Ok(packed)
}
