//! Which Parquet a table's files are: page version, codec and, column by column, the encoding.
//!
//! `docs/design/tables.md` says which reader takes what, with the sources, and has the measurements behind each choice.

use arrow_schema::{DataType, Field as ArrowField, Schema};
use model::{EXTRA, Stream};
use parquet::basic::{Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::schema::types::ColumnPath;

use crate::LakeError;
use crate::delta::action::Metadata;

/// Table property: the codec of new files. It wins over the profile's (PROTOCOL.md, "Table Properties").
const CODEC: &str = "delta.parquet.compression.codec";
/// Table property: the page version of new files, `1.0.0` or `2.MINOR.PATCH` (PROTOCOL.md, "Table Properties").
const FORMAT_VERSION: &str = "delta.parquet.format.version";

/// Delta's custom for bounds of texts.
const TEXT_BOUND_BYTES: usize = 32;

/// A dictionary of numbers is given up beyond this size, in bytes: two thousand values. Values that repeat stay below it;
/// for others the attempt must be cheap, since each file makes it again.
const NUMBERS_DICTIONARY_BYTES: usize = 16 << 10;

/// Which encodings a writer uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ParquetProfile {
    /// What every reader of the field takes: plain values and dictionaries in snappy.
    #[default]
    Compatible,
    /// Fewer bytes, for those who know their readers: `BYTE_STREAM_SPLIT` for doubles, `DELTA_BINARY_PACKED` for
    /// timestamps and offsets, zstd. Spark 4.0 and earlier cannot read such doubles.
    Compact,
}

/// What the writer of a lake asks for; a table's own properties win.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ParquetSettings {
    pub(crate) profile: ParquetProfile,
    /// Instead of the codec of profile and property.
    pub(crate) compression: Option<Compression>,
}

/// The Parquet of one table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ParquetFormat {
    profile: ParquetProfile,
    compression: Compression,
    version: WriterVersion,
}

impl ParquetFormat {
    /// Of a table with this metadata.
    ///
    /// # Errors
    /// A property of the table names a codec or version that there is not.
    pub(crate) fn of(table: &str, settings: ParquetSettings, metadata: Option<&Metadata>) -> Result<Self, LakeError> {
        let property = |name| metadata.and_then(|metadata| metadata.property(name));
        let of_table = property(CODEC).map(|text| codec(text).ok_or((CODEC, text, CODECS)));
        let version = property(FORMAT_VERSION).map_or(Ok(WriterVersion::PARQUET_1_0), |text| {
            version(text).ok_or((FORMAT_VERSION, text, "1.0.0 or 2.MINOR.PATCH, such as 2.12.0"))
        });
        let unknown = |(property, found, known): (&str, &str, &str)| {
            let why = format!("its property `{property}` is `{found}`; set it to {known}");
            LakeError::unusable(table, why)
        };
        let of_table = of_table.transpose().map_err(unknown)?;
        Ok(Self {
            profile: settings.profile,
            compression: settings
                .compression
                .or(of_table)
                .unwrap_or(settings.profile.compression()),
            version: version.map_err(unknown)?,
        })
    }

    /// What a file's name says of the codec, as Spark names files.
    pub(crate) fn suffix(&self) -> &'static str {
        match self.compression {
            Compression::UNCOMPRESSED => ".parquet",
            Compression::SNAPPY => ".snappy.parquet",
            Compression::GZIP(_) => ".gz.parquet",
            Compression::LZO => ".lzo.parquet",
            Compression::BROTLI(_) => ".br.parquet",
            Compression::LZ4 => ".lz4.parquet",
            Compression::ZSTD(_) => ".zstd.parquet",
            Compression::LZ4_RAW => ".lz4raw.parquet",
        }
    }

    /// Settings for a stream's files. Statistics of ids and of `_extra` prune nothing.
    pub(crate) fn stream_properties(&self, stream: &Stream, file_schema: &Schema) -> WriterProperties {
        let mut builder = self.base();
        for column in file_schema.fields() {
            let declared = stream.field_index(column.name()).map(|index| &stream.fields[index]);
            let unique = declared.is_some_and(|field| field.unique);
            builder = self.encode(builder, column, unique);
            if unique || column.name() == EXTRA {
                builder = builder.set_column_statistics_enabled(path(column), EnabledStatistics::None);
            }
        }
        builder.build()
    }

    /// Settings for dead letters and the tables beside them: raw bytes are as they came, so bounds of them are of no use.
    pub(crate) fn system_properties(&self, file_schema: &Schema) -> WriterProperties {
        let mut builder = self.base();
        for column in file_schema.fields() {
            builder = self.encode(builder, column, false);
            match column.data_type() {
                DataType::Binary => {
                    builder = builder
                        .set_column_dictionary_enabled(path(column), false)
                        .set_column_statistics_enabled(path(column), EnabledStatistics::None);
                }
                DataType::List(_) => {
                    builder = builder.set_column_statistics_enabled(path(column), EnabledStatistics::None)
                }
                _ => {}
            }
        }
        builder.build()
    }

    fn base(&self) -> WriterPropertiesBuilder {
        WriterProperties::builder()
            .set_created_by(concat!("smartcity version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_writer_version(self.version)
            .set_compression(self.compression)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_statistics_truncate_length(Some(TEXT_BOUND_BYTES))
    }

    /// A dictionary helps where values repeat, which ids, offsets and `_extra` do not.
    fn encode(&self, builder: WriterPropertiesBuilder, column: &ArrowField, unique: bool) -> WriterPropertiesBuilder {
        let path = path(column);
        let plain = |builder: WriterPropertiesBuilder, encoding| {
            builder
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path.clone(), encoding)
        };
        match (self.profile, column.data_type()) {
            (ParquetProfile::Compact, DataType::Float64) => plain(builder, Encoding::BYTE_STREAM_SPLIT),
            (ParquetProfile::Compact, DataType::Timestamp(..)) => plain(builder, Encoding::DELTA_BINARY_PACKED),
            (ParquetProfile::Compact, DataType::Int64) if unique || grows(column) => {
                plain(builder, Encoding::DELTA_BINARY_PACKED)
            }
            _ if unique || grows(column) || column.name() == EXTRA => plain(builder, Encoding::PLAIN),
            (_, DataType::Float64 | DataType::Timestamp(..) | DataType::Int64) => {
                builder.set_column_dictionary_page_size_limit(path, NUMBERS_DICTIONARY_BYTES)
            }
            _ => builder,
        }
    }
}

impl ParquetProfile {
    fn compression(self) -> Compression {
        match self {
            ParquetProfile::Compatible => Compression::SNAPPY,
            ParquetProfile::Compact => Compression::ZSTD(ZstdLevel::default()),
        }
    }
}

const CODECS: &str = "uncompressed, snappy, gzip, lz4_raw or zstd";

/// By the names that the protocol has for them, and `lz4` in the framing that is not deprecated.
fn codec(name: &str) -> Option<Compression> {
    Some(match name.to_ascii_lowercase().as_str() {
        "uncompressed" | "none" => Compression::UNCOMPRESSED,
        "snappy" => Compression::SNAPPY,
        "gzip" => Compression::GZIP(GzipLevel::default()),
        "lz4" | "lz4_raw" => Compression::LZ4_RAW,
        "zstd" => Compression::ZSTD(ZstdLevel::default()),
        _ => return None,
    })
}

fn version(text: &str) -> Option<WriterVersion> {
    let mut numbers = text.split('.').map(|number| number.parse::<u32>().ok());
    let version = (numbers.next()??, numbers.next()??, numbers.next()??);
    match (version, numbers.next()) {
        ((1, 0, 0), None) => Some(WriterVersion::PARQUET_1_0),
        ((2, _, _), None) => Some(WriterVersion::PARQUET_2_0),
        _ => None,
    }
}

/// Kafka offsets: in a stream's table `_offset`, among the dead letters `offset`.
fn grows(column: &ArrowField) -> bool {
    matches!(column.name().as_str(), model::OFFSET | "offset")
}

fn path(column: &ArrowField) -> ColumnPath {
    ColumnPath::new(vec![column.name().clone()])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata(properties: serde_json::Value) -> Metadata {
        serde_json::from_value(json!({
            "id": "i", "format": {"provider": "parquet", "options": {}}, "schemaString": "{}", "partitionColumns": [],
            "configuration": properties,
        }))
        .unwrap()
    }

    #[test]
    fn the_tables_properties_win_over_the_profile() {
        let of = |properties, profile| {
            let settings = ParquetSettings {
                profile,
                compression: None,
            };
            ParquetFormat::of("t", settings, Some(&metadata(properties)))
        };
        for (codec, suffix) in [
            ("none", ".parquet"),
            ("SNAPPY", ".snappy.parquet"),
            ("gzip", ".gz.parquet"),
            ("lz4", ".lz4raw.parquet"),
            ("zstd", ".zstd.parquet"),
        ] {
            for profile in [ParquetProfile::Compatible, ParquetProfile::Compact] {
                assert_eq!(of(json!({ CODEC: codec }), profile).unwrap().suffix(), suffix);
            }
        }
        let compatible = of(json!({}), ParquetProfile::Compatible).unwrap();
        assert_eq!(compatible.suffix(), ".snappy.parquet");
        assert_eq!(compatible.version, WriterVersion::PARQUET_1_0);
        let compact = of(json!({FORMAT_VERSION: "2.12.0"}), ParquetProfile::Compact).unwrap();
        assert_eq!(
            (compact.suffix(), compact.version),
            (".zstd.parquet", WriterVersion::PARQUET_2_0)
        );
        for (property, value) in [(CODEC, "zip"), (FORMAT_VERSION, "3.0.0"), (FORMAT_VERSION, "2")] {
            let error = of(json!({ property: value }), ParquetProfile::Compatible).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(property) && error.contains(value), "{error}");
        }
    }
}
