//! The geo database embedded in the program.

use super::database::{Database, GeoError};

/// See `geodb/README.md`.
const REDUCED: &[u8] = include_bytes!("../../geodb/places.mmdb.zst");

/// Decodes the embedded database: countries and coordinates, built by [`build`](super::build) from DB-IP City Lite.
/// Takes a noticeable fraction of a second, so call it once.
///
/// # Errors
/// Only if the program file itself is damaged.
pub fn builtin() -> Result<Database, GeoError> {
    Database::read(REDUCED)
}
