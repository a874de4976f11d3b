//! A geo database, decoded from the bytes of an MMDB file.

use std::fmt;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use maxminddb::{LookupResult, MaxMindDbError, Reader, WithinOptions};
use rustc_hash::FxHashMap;

use super::range_map::RangeMap;
use super::record::Record;
use crate::model::{Country, Location};

/// A decoded MMDB file: address ranges → index into its distinct locations.
#[derive(Clone, Debug)]
pub struct Database {
    ranges: RangeMap<u32>,
    /// Distinct locations; the first is the unknown one.
    locations: Box<[Location]>,
    kind: String,
    built: u64,
}

/// Why bytes are not a valid geo database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GeoError {
    /// Not an MMDB, or too damaged to open.
    NotMmdb(String),
    /// An MMDB without any countries, coordinates or ASNs.
    NoPlaces {
        /// `database_type` of its metadata.
        kind: String,
    },
    /// An MMDB with damaged contents.
    Corrupt(String),
    /// The compressed file cannot be decompressed.
    Compression(String),
    /// The database cannot be written.
    Write(String),
}

impl fmt::Display for GeoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMmdb(why) => write!(f, "not a MaxMind DB (.mmdb) file: {why}"),
            Self::NoPlaces { kind } => write!(
                f,
                "the database is of type {kind:?} and has no places: expected countries, coordinates or ASNs"
            ),
            Self::Corrupt(why) => write!(f, "the database is damaged: {why}"),
            Self::Compression(why) => write!(f, "the compressed database cannot be unpacked: {why}"),
            Self::Write(why) => write!(f, "the database cannot be written: {why}"),
        }
    }
}

impl std::error::Error for GeoError {}

impl From<MaxMindDbError> for GeoError {
    fn from(error: MaxMindDbError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

impl Database {
    /// Decodes an MMDB, plain or compressed by zstd. Supports GeoIP2's nested schema, the flat schemas of DB-IP and
    /// IPinfo, and ASN files. Each distinct data record is decoded once.
    ///
    /// # Errors
    /// If the bytes are not an MMDB, are damaged anywhere, or hold no place data.
    pub fn read(bytes: &[u8]) -> Result<Self, GeoError> {
        if !bytes.starts_with(&ZSTD_MAGIC) {
            return Self::read_plain(bytes);
        }
        Self::read_plain(&unpack(bytes, UNPACKED_MAX)?)
    }

    fn read_plain(bytes: &[u8]) -> Result<Self, GeoError> {
        let reader = Reader::from_source(bytes).map_err(|e| GeoError::NotMmdb(e.to_string()))?;
        let metadata = reader.metadata();
        let (kind, built) = (metadata.database_type.clone(), metadata.build_epoch);
        // A tree of n nodes has n + 1 leaves. A damaged one that reaches nodes by several paths can have up to 2^128.
        let leaves_max = metadata.node_count as usize * 2 + 2;
        let mut places = Places::new();
        let mut starts = Starts::default();
        let every_leaf = WithinOptions::default().include_networks_without_data();
        for (count, leaf) in reader.networks(every_leaf)?.enumerate() {
            if count >= leaves_max {
                return Err(GeoError::Corrupt("its search tree has a cycle or shared nodes".into()));
            }
            let leaf = leaf?;
            starts.push(&leaf, places.index(&leaf)?)?;
        }
        if places.locations.len() == 1 {
            return Err(GeoError::NoPlaces { kind });
        }
        let ranges = starts.ranges();
        Ok(Self { ranges, locations: places.locations.into(), kind, built })
    }

    /// The location of an address.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> &Location {
        self.location(self.ranges.lookup(address).0)
    }

    /// Address ranges → index for [`Database::location`].
    #[must_use]
    pub fn ranges(&self) -> &RangeMap<u32> {
        &self.ranges
    }

    /// The location at an index from [`Database::ranges`].
    #[must_use]
    pub fn location(&self, index: u32) -> &Location {
        &self.locations[index as usize]
    }

    /// The number of distinct locations, including the unknown one.
    #[must_use]
    pub fn location_count(&self) -> usize {
        self.locations.len()
    }

    /// `database_type` of its metadata.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// When it was built, in seconds since 1970.
    #[must_use]
    pub fn built(&self) -> u64 {
        self.built
    }

    /// Heap size in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.ranges.memory_bytes() + size_of_val(&*self.locations)
    }
}

/// The first bytes of a zstd frame (RFC 8878 §3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The most bytes of decompressed data: more than any database of cities has, and not enough to fill the memory.
pub(super) const UNPACKED_MAX: u64 = 512 << 20;

/// Decompresses data, of which a few kilobytes can hold gigabytes.
pub(super) fn unpack(bytes: &[u8], most: u64) -> Result<Vec<u8>, GeoError> {
    let failed = |error: std::io::Error| GeoError::Compression(error.to_string());
    let mut plain = Vec::new();
    let decoder = zstd::Decoder::new(bytes).map_err(failed)?;
    decoder.take(most + 1).read_to_end(&mut plain).map_err(failed)?;
    if plain.len() as u64 > most {
        return Err(GeoError::Compression(format!("it has more than {most} bytes")));
    }
    Ok(plain)
}

/// A location as a hash key: coordinates are represented by their bits.
type LocationKey = (Option<Country>, Option<(u32, u32)>, [u8; 4], Option<u32>);

fn key(location: &Location) -> LocationKey {
    let [a, b, c] = location.subdivision.map_or([0; 3], |code| code.0);
    let continent = location.continent.map_or(0, |continent| continent as u8 + 1);
    (
        location.country,
        location.point.map(|point| (point.lat.to_bits(), point.lon.to_bits())),
        [continent, a, b, c],
        location.asn,
    )
}

/// Decoded records by their offset in the file and by their location.
struct Places {
    locations: Vec<Location>,
    by_offset: FxHashMap<usize, u32>,
    by_key: FxHashMap<LocationKey, u32>,
}

impl Places {
    fn new() -> Self {
        let nowhere = Location::default();
        let by_key = FxHashMap::from_iter([(key(&nowhere), 0)]);
        Self { locations: vec![nowhere], by_offset: FxHashMap::default(), by_key }
    }

    fn index(&mut self, leaf: &LookupResult<'_, &[u8]>) -> Result<u32, GeoError> {
        let Some(offset) = leaf.offset() else { return Ok(0) };
        if let Some(index) = self.by_offset.get(&offset) {
            return Ok(*index);
        }
        let location = match leaf.decode::<Record>() {
            Ok(record) => record.unwrap_or_default().location(),
            // A record that is not a map matches none of the known schemas.
            Err(MaxMindDbError::Decoding { .. }) => Location::default(),
            Err(error) => return Err(error.into()),
        };
        let index = *self.by_key.entry(key(&location)).or_insert_with(|| {
            self.locations.push(location);
            (self.locations.len() - 1) as u32
        });
        self.by_offset.insert(offset, index);
        Ok(index)
    }
}

/// The first address of each value, in address order; value 0 begins after the last network before a gap.
#[derive(Default)]
struct Starts {
    v4: Vec<(Ipv4Addr, u32)>,
    v6: Vec<(Ipv6Addr, u32)>,
    /// The first address after the last IPv6 network.
    v6_next: u128,
}

impl Starts {
    fn push(&mut self, leaf: &LookupResult<'_, &[u8]>, index: u32) -> Result<(), GeoError> {
        let network = leaf.network()?;
        match network.ip() {
            // A tree that has a leaf for any IPv4 address has leaves for all of them.
            IpAddr::V4(start) => self.v4.push((start, index)),
            IpAddr::V6(start) => {
                let bits = start.to_bits();
                // The iteration skips aliases of the IPv4 part: their locations are unknown.
                if bits > self.v6_next {
                    self.v6.push((Ipv6Addr::from_bits(self.v6_next), 0));
                }
                self.v6.push((start, index));
                let size = 1_u128.checked_shl(128 - u32::from(network.prefix())).unwrap_or(0);
                self.v6_next = bits.wrapping_add(size);
                // A leaf that spans ::/96 applies to all of IPv4, too.
                if bits == 0 && network.prefix() <= 96 {
                    self.v4.push((Ipv4Addr::UNSPECIFIED, index));
                }
            }
        }
        Ok(())
    }

    fn ranges(mut self) -> RangeMap<u32> {
        if self.v6_next != 0 {
            self.v6.push((Ipv6Addr::from_bits(self.v6_next), 0));
        }
        RangeMap::from_starts(0, self.v4, self.v6)
    }
}
