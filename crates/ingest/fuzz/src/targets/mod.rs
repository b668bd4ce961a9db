//! What the fuzz targets check. The decoder is `crate::decode`, wherever this is built.

mod declaration;
mod json_schema;
mod oracle;
mod records;

pub use declaration::declaration;
pub use records::decode;
