//! Writes the reduced database.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, UNIX_EPOCH};

use ipnet::IpNet;
use mmdb_writer::{IpVersion, Ipv4Aliasing, Value, Writer};

use super::database::{Database, GeoError};
use super::index::Index;
use super::reduce::{self, GridPoint, Kept, reduce};

/// The `database_type` of databases made by [`build`].
const KIND: &str = "Portolan-Place";

/// Merges databases as [`Index::compile`] does and writes a reduced MMDB with countries and rounded coordinates.
/// The same input makes the same bytes; the build time is that of the newest input.
///
/// # Errors
/// [`GeoError::NoPlaces`] if no input has countries, [`GeoError::Write`] if the result cannot be written.
pub fn build(databases: &[Database]) -> Result<Vec<u8>, GeoError> {
    let index = Index::compile(databases, &[], &[]);
    let v4 = reduce(&index, true, &reduce::V4);
    let v6 = reduce(&index, false, &reduce::V6);
    let kinds = databases.iter().map(Database::kind).collect::<Vec<_>>().join(", ");
    if v4.is_empty() && v6.is_empty() {
        return Err(GeoError::NoPlaces { kind: kinds });
    }
    let built = databases.iter().map(Database::built).max().unwrap_or_default();
    let mut writer = Writer::builder(KIND)
        .description(&[("en", &format!("Countries and rounded coordinates, reduced from: {kinds}"))])
        .ip_version(IpVersion::V6)
        // Sources have their own data for 2001::/32 and 2002::/16; the reader handles mapped addresses.
        .ipv4_aliasing(Ipv4Aliasing::Disabled)
        .build_epoch(UNIX_EPOCH + Duration::from_secs(built))
        .build();
    let mut values = HashMap::new();
    for (kept, v4) in v4.iter().map(|kept| (kept, true)).chain(v6.iter().map(|kept| (kept, false))) {
        let value = values.entry(kept.spot).or_insert_with(|| value(kept.spot)).clone();
        writer.insert_value(prefix(kept, v4)?, value).map_err(|e| GeoError::Write(e.to_string()))?;
    }
    writer.to_bytes().map_err(|e| GeoError::Write(e.to_string()))
}

/// Compresses a database with zstd, like the one in `geodb/`. [`Database::read`] accepts the result.
///
/// # Errors
/// [`GeoError::Compression`] if compression fails.
pub fn compress(mmdb: &[u8]) -> Result<Vec<u8>, GeoError> {
    zstd::bulk::compress(mmdb, COMPRESSION_LEVEL).map_err(|e| GeoError::Compression(e.to_string()))
}

/// The highest level: the database is compressed once, and decompression is equally fast for all levels.
const COMPRESSION_LEVEL: i32 = 22;

fn prefix(kept: &Kept, v4: bool) -> Result<IpNet, GeoError> {
    let address = if v4 {
        IpAddr::V4(Ipv4Addr::from_bits((kept.bits >> 32) as u32))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(u128::from(kept.bits) << 64))
    };
    IpNet::new(address, kept.len).map_err(|e| GeoError::Write(e.to_string()))
}

fn value(spot: GridPoint) -> Value {
    let country = ("country_code", Value::from(spot.country.to_string()));
    match spot.degrees() {
        Some(point) => Value::map([
            country,
            ("latitude", Value::Float(point.lat)),
            ("longitude", Value::Float(point.lon)),
        ]),
        None => Value::map([country]),
    }
}
