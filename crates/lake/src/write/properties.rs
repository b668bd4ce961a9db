//! How a table's Parquet files are written: measured settings, column by column.

use arrow_schema::{DataType, Field as ArrowField, Schema};
use model::{EXTRA, Stream};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

/// Delta's custom for bounds of texts.
const TEXT_BOUND_BYTES: usize = 32;

/// zstd 1: half the bytes of snappy, and hardly more time.
pub(crate) fn compression() -> Compression {
    Compression::ZSTD(ZstdLevel::default())
}

/// Settings for a stream's files.
///
/// A dictionary only helps where values repeat: ids, times,
/// offsets and measurements skip the attempt. Times and offsets grow slowly, so their differences pack into a few bits;
/// the bytes of doubles compress better side by side. Statistics of ids and of `_extra` prune nothing.
pub(crate) fn stream_properties(stream: &Stream, file_schema: &Schema, compression: Compression) -> WriterProperties {
    let mut builder = base(compression);
    for column in file_schema.fields() {
        let declared = stream.field_index(column.name()).map(|index| &stream.fields[index]);
        let unique = declared.is_some_and(|field| field.unique);
        builder = encode(builder, column, unique);
        if unique || column.name() == EXTRA {
            builder = builder.set_column_statistics_enabled(path(column), EnabledStatistics::None);
        }
    }
    builder.build()
}

/// Settings for dead letters: raw bytes are as they came, so bounds of them are of no use.
pub(crate) fn letter_properties(file_schema: &Schema, compression: Compression) -> WriterProperties {
    let mut builder = base(compression);
    for column in file_schema.fields() {
        builder = encode(builder, column, false);
        match column.data_type() {
            DataType::Binary => {
                builder = builder
                    .set_column_dictionary_enabled(path(column), false)
                    .set_column_statistics_enabled(path(column), EnabledStatistics::None);
            }
            DataType::List(_) => builder = builder.set_column_statistics_enabled(path(column), EnabledStatistics::None),
            _ => {}
        }
    }
    builder.build()
}

fn base(compression: Compression) -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_created_by(concat!("smartcity ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(compression)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_statistics_truncate_length(Some(TEXT_BOUND_BYTES))
}

fn encode(builder: WriterPropertiesBuilder, column: &ArrowField, unique: bool) -> WriterPropertiesBuilder {
    let encoding = match column.data_type() {
        DataType::Float64 => Some(Encoding::BYTE_STREAM_SPLIT),
        DataType::Timestamp(..) => Some(Encoding::DELTA_BINARY_PACKED),
        DataType::Int64 if unique || grows(column) => Some(Encoding::DELTA_BINARY_PACKED),
        _ if unique || column.name() == EXTRA => Some(Encoding::PLAIN),
        _ => None,
    };
    match encoding {
        None => builder,
        Some(encoding) => builder
            .set_column_dictionary_enabled(path(column), false)
            .set_column_encoding(path(column), encoding),
    }
}

/// Kafka offsets: in a stream's table `_offset`, among the dead letters `offset`.
fn grows(column: &ArrowField) -> bool {
    matches!(column.name().as_str(), model::OFFSET | "offset")
}

fn path(column: &ArrowField) -> ColumnPath {
    ColumnPath::new(vec![column.name().clone()])
}
