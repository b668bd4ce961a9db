//! Deletion vectors: which rows of a data file are deleted without rewriting it (PROTOCOL.md, "Deletion Vectors").
//! Read for every table; this program writes none.

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use roaring::{RoaringBitmap, RoaringTreemap};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::LakeError;
use crate::delta::location::TableLocation;

/// First bytes of a serialized vector, little endian.
const MAGIC: u32 = 1_681_511_377;
/// The same of the older format, big endian.
const MAGIC_NATIVE: u32 = 1_681_511_376;
/// Version of a file of vectors.
const FILE_VERSION: u8 = 1;
/// Characters of a UUID in Z85.
const UUID_CHARACTERS: usize = 20;

/// Where a file's deletion vector is: the descriptor in an `add` or `remove`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletionVector {
    /// `u`: a file beside the data, named by a UUID; `i`: in this descriptor; `p`: a file with an absolute path.
    pub storage_type: String,
    pub path_or_inline_dv: String,
    /// Start within the file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i32>,
    /// Of the serialized vector.
    pub size_in_bytes: i32,
    /// Rows that it deletes.
    pub cardinality: i64,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl DeletionVector {
    /// Tells the vectors of one data file apart.
    pub fn unique_id(&self) -> String {
        match self.offset {
            None => format!("{}{}", self.storage_type, self.path_or_inline_dv),
            Some(offset) => format!("{}{}@{offset}", self.storage_type, self.path_or_inline_dv),
        }
    }

    /// The positions of the deleted rows in the data file, from 0. Checks checksum, size and cardinality.
    pub async fn read(&self, location: &TableLocation) -> Result<RoaringTreemap, LakeError> {
        let unusable = |why: String| {
            LakeError::unusable(
                location.table(),
                format!("its deletion vector {}: {why}", self.unique_id()),
            )
        };
        let bytes = match self.file(location).map_err(unusable)? {
            None => Bytes::from(self.inline().map_err(unusable)?),
            Some(path) => {
                let start = u64::try_from(self.offset.unwrap_or(0)).map_err(|error| unusable(error.to_string()))?;
                let size = u64::try_from(self.size_in_bytes).map_err(|error| unusable(error.to_string()))?;
                let failed = |error| LakeError::store("read", path.to_string(), error);
                let version = location.store().get_range(&path, 0..1).await.map_err(failed)?;
                if version[..] != [FILE_VERSION] {
                    return Err(unusable(format!("{path} is of the unknown file version {version:?}")));
                }
                // Its size before it, its checksum behind it.
                let framed = location.store().get_range(&path, start..start + size + 8).await;
                unframed(&framed.map_err(failed)?, size).map_err(unusable)?
            }
        };
        let vector = parse(&bytes).map_err(unusable)?;
        if vector.len() != self.cardinality.unsigned_abs() {
            return Err(unusable(format!(
                "it deletes {} rows, its descriptor says {}",
                vector.len(),
                self.cardinality
            )));
        }
        Ok(vector)
    }

    /// The file it lies in; `None` when it is inline.
    fn file(&self, location: &TableLocation) -> Result<Option<Path>, String> {
        match self.storage_type.as_str() {
            "i" => Ok(None),
            "p" => location.data_path(&self.path_or_inline_dv).map(Some),
            "u" => {
                let text = &self.path_or_inline_dv;
                let split = text
                    .len()
                    .checked_sub(UUID_CHARACTERS)
                    .filter(|at| text.is_char_boundary(*at));
                let (prefix, encoded) = text.split_at(split.ok_or("its name is too short")?);
                let id = z85::decode(encoded).map_err(|error| error.to_string())?;
                let id = Uuid::from_slice(&id).map_err(|error| error.to_string())?;
                let name = format!("deletion_vector_{id}.bin");
                let folder = location
                    .path()
                    .parts()
                    .chain(Path::from(prefix).parts())
                    .collect::<Path>();
                Ok(Some(folder.join(name)))
            }
            other => Err(format!("unknown storage type `{other}`")),
        }
    }

    fn inline(&self) -> Result<Vec<u8>, String> {
        let mut bytes = z85::decode(&self.path_or_inline_dv).map_err(|error| error.to_string())?;
        // Z85 works in groups of four bytes; the last may be filled up.
        let size = usize::try_from(self.size_in_bytes).map_err(|error| error.to_string())?;
        if bytes.len() < size {
            return Err(format!("{} bytes inline, {size} declared", bytes.len()));
        }
        bytes.truncate(size);
        Ok(bytes)
    }
}

/// A vector out of its frame in a file: size, bytes, CRC-32, numbers big endian.
fn unframed(framed: &Bytes, size: u64) -> Result<Bytes, String> {
    let size = size as usize;
    if framed.len() != size + 8 {
        return Err(format!("its file ends after {} of {} bytes", framed.len(), size + 8));
    }
    let number = |at: usize| u32::from_be_bytes([framed[at], framed[at + 1], framed[at + 2], framed[at + 3]]);
    if number(0) as usize != size {
        return Err(format!("its file says {} bytes, its descriptor {size}", number(0)));
    }
    let bytes = framed.slice(4..4 + size);
    let checksum = crc32fast::hash(&bytes);
    if checksum != number(4 + size) {
        return Err(format!(
            "its checksum is {checksum:08x}, its file says {:08x}",
            number(4 + size)
        ));
    }
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> Result<RoaringTreemap, String> {
    let (magic, bitmaps) = bytes.split_first_chunk::<4>().ok_or("it is empty")?;
    if u32::from_le_bytes(*magic) == MAGIC {
        return RoaringTreemap::deserialize_from(bitmaps).map_err(|error| error.to_string());
    }
    if u32::from_be_bytes(*magic) == MAGIC_NATIVE {
        return parse_native(bitmaps);
    }
    Err(format!(
        "its format is {}, which is not known",
        u32::from_le_bytes(*magic)
    ))
}

/// The format before the portable one, in which the protocol's inline example is: the number of bitmaps, and of each its
/// size and itself, numbers big endian. The bitmap at place n holds the rows whose upper half is n.
fn parse_native(bytes: &[u8]) -> Result<RoaringTreemap, String> {
    let ends = || "it ends too early".to_owned();
    let number = |bytes: &mut &[u8]| {
        let (number, rest) = bytes.split_first_chunk::<4>().ok_or_else(ends)?;
        *bytes = rest;
        Ok::<u32, String>(u32::from_be_bytes(*number))
    };
    let mut rest = bytes;
    let mut bitmaps = Vec::new();
    for key in 0..number(&mut rest)? {
        let size = number(&mut rest)? as usize;
        let (bitmap, after) = rest.split_at_checked(size).ok_or_else(ends)?;
        bitmaps.push((
            key,
            RoaringBitmap::deserialize_from(bitmap).map_err(|error| error.to_string())?,
        ));
        rest = after;
    }
    Ok(RoaringTreemap::from_bitmaps(bitmaps))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use object_store::{ObjectStore, ObjectStoreExt};
    use url::Url;

    use super::*;

    fn location(store: Arc<dyn ObjectStore>) -> TableLocation {
        let url = Url::parse("s3://bucket/lake/data/t/").unwrap();
        TableLocation::new(store, Path::from("lake/data/t"), url)
    }

    fn descriptor(storage_type: &str, text: &str, offset: Option<i32>, size: i32, cardinality: i64) -> DeletionVector {
        DeletionVector {
            storage_type: storage_type.to_owned(),
            path_or_inline_dv: text.to_owned(),
            offset,
            size_in_bytes: size,
            cardinality,
            rest: Map::new(),
        }
    }

    fn serialized(rows: &[u64]) -> Vec<u8> {
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        rows.iter()
            .copied()
            .collect::<RoaringTreemap>()
            .serialize_into(&mut bytes)
            .unwrap();
        bytes
    }

    #[tokio::test]
    async fn the_protocols_inline_example_reads_as_it_says() {
        let vector = descriptor("i", "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L", None, 40, 6);
        let rows = vector.read(&location(Arc::new(InMemory::new()))).await.unwrap();
        assert_eq!(rows.iter().collect::<Vec<_>>(), [3, 4, 7, 11, 18, 29]);
    }

    #[tokio::test]
    async fn a_file_holds_several_and_damage_is_found() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let (first, second) = (serialized(&[1]), serialized(&[0, 70_000, 1 << 33]));
        let mut file = vec![FILE_VERSION];
        for bytes in [&first, &second] {
            file.extend((bytes.len() as u32).to_be_bytes());
            file.extend(bytes);
            file.extend(crc32fast::hash(bytes).to_be_bytes());
        }
        // The name of the protocol's first example, with its random prefix.
        let path = Path::from("lake/data/t/ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin");
        store.put(&path, file.clone().into()).await.unwrap();
        let offset = (1 + 8 + first.len()) as i32;
        let vector = descriptor("u", "ab^-aqEH.-t@S}K{vb[*k^", Some(offset), second.len() as i32, 3);
        let location = location(Arc::clone(&store));
        let rows = vector.read(&location).await.unwrap();
        assert_eq!(rows.iter().collect::<Vec<_>>(), [0, 70_000, 1 << 33]);
        let absolute = format!("s3://bucket/{path}");
        let same = descriptor("p", &absolute, Some(1), first.len() as i32, 1);
        assert_eq!(same.read(&location).await.unwrap().iter().collect::<Vec<_>>(), [1]);
        let elsewhere = descriptor("p", "s3://other/x.bin", Some(1), first.len() as i32, 1);
        assert!(elsewhere.read(&location).await.is_err());

        let wrong = descriptor("u", "ab^-aqEH.-t@S}K{vb[*k^", Some(offset), second.len() as i32, 4);
        let error = wrong.read(&location).await.unwrap_err().to_string();
        assert!(error.contains("it deletes 3 rows, its descriptor says 4"), "{error}");
        let last = file.len() - 6;
        file[last] ^= 1;
        store.put(&path, file.into()).await.unwrap();
        let error = vector.read(&location).await.unwrap_err().to_string();
        assert!(error.contains("checksum"), "{error}");
    }
}
