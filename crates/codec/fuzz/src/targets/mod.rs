//! What the fuzz targets check.

mod declaration;
mod json_schema;
mod oracle;
mod records;

pub use declaration::declaration;
pub use records::decode;
