//! The Arrow schema that stands in a Parquet file beside Parquet's own.

use arrow_ipc::{convert::fb_to_schema, root_as_message};
use arrow_schema::Schema;
use base64::{Engine, prelude::BASE64_STANDARD};
use parquet::{arrow::ARROW_SCHEMA_META_KEY, file::metadata::ParquetMetaData};

use crate::{Format, Limits, ReadError, ipc::check_schema, table::Budget};

/// What comes before the message: a mark, and its length.
const PREFIX: [u8; 4] = [0xff; 4];

/// Reads it, if there is one. It is checked before it is made into objects; whether it makes sense
/// the library says.
pub(super) fn read(
    metadata: &ParquetMetaData,
    limits: &Limits,
    budget: &Budget,
) -> Result<Option<Schema>, ReadError> {
    let pairs = metadata.file_metadata().key_value_metadata();
    // Of several the library takes the last.
    let pair = pairs.and_then(|pairs| pairs.iter().rfind(|pair| pair.key == ARROW_SCHEMA_META_KEY));
    let Some(text) = pair.and_then(|pair| pair.value.as_ref()) else { return Ok(None) };
    let Ok(bytes) = BASE64_STANDARD.decode(text) else { return Ok(None) };
    let message = match bytes.strip_prefix(&PREFIX) {
        Some(rest) => rest.get(4..).unwrap_or_default(),
        None => bytes.as_slice(),
    };
    let Ok(message) = root_as_message(message) else { return Ok(None) };
    let Some(schema) = message.header_as_schema() else { return Ok(None) };
    check_schema(schema, Format::Parquet, limits, budget)?;
    Ok(Some(fb_to_schema(schema)))
}
