//! Geo databases, plain and compressed: rejected, or consistent for every lookup.

use std::net::IpAddr;

use portolan::geo::{Database, Index, compress};

/// Ranges looked up per database.
const MAX_ASKED: usize = 1_000;

/// Reads bytes as a database, as they are and compressed.
pub(crate) fn read(bytes: &[u8]) {
    let plain = Database::read(bytes);
    if let Ok(database) = &plain {
        is_sound(database);
    }
    // A compressed database inside a compressed one is not valid.
    let compressed = Database::read(&compress(bytes).expect("any bytes can be compressed"));
    match (plain, compressed) {
        (Ok(plain), Ok(compressed)) => {
            assert!(plain.ranges().iter().eq(compressed.ranges().iter()));
            assert_eq!(plain.location_count(), compressed.location_count());
            let index = Index::compile(&[plain], &[], &[]);
            assert!(index.places().contains(index.locate(IpAddr::from([192, 0, 2, 1])).place));
        }
        (Err(_), Err(_)) => {}
        (Ok(_), Err(error)) => assert!(is_compressed(bytes), "only the plain one is accepted: {error}"),
        (Err(error), Ok(_)) => panic!("only the compressed one is accepted: {error}"),
    }
}

fn is_compressed(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
}

/// Ranges cover each family once and in order, and lookups agree with them.
fn is_sound(database: &Database) {
    let mut last: Option<IpAddr> = None;
    for (first, end, index) in database.ranges().iter().take(MAX_ASKED) {
        assert!(first <= end, "{first} to {end}");
        let follows = match (last, first) {
            (Some(IpAddr::V4(last)), IpAddr::V4(first)) => {
                last.to_bits().checked_add(1) == Some(first.to_bits())
            }
            (Some(IpAddr::V6(last)), IpAddr::V6(first)) => {
                last.to_bits().checked_add(1) == Some(first.to_bits())
            }
            (Some(IpAddr::V4(last)), IpAddr::V6(first)) => last.is_broadcast() && first.is_unspecified(),
            (Some(IpAddr::V6(_)), IpAddr::V4(_)) => false,
            (None, first) => first.is_unspecified(),
        };
        assert!(follows, "{first} follows {last:?}");
        last = Some(end);
        let location = database.location(index);
        for address in [first, end] {
            // An IPv4-mapped address is looked up as IPv4.
            if address.to_canonical() == address {
                assert_eq!(database.lookup(address), location, "{address}");
            }
        }
        let point = location.point;
        assert!(point.is_none_or(|p| p.lat.abs() <= 90.0 && p.lon.abs() <= 180.0), "{point:?}");
    }
}
