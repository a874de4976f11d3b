//! Where a client is, and for which prefix that is true.
//!
//! [`Database`] is one decoded MMDB file; [`builtin()`] is the one embedded in the program. [`Index`] merges
//! databases and the config's own networks, and is what queries use. [`build`] makes the reduced file in `geodb/`,
//! and [`compare()`] measures what the reduction costs.

mod builtin;
mod compare;
mod countries;
mod database;
mod index;
mod membership;
mod range_map;
mod ranges;
mod record;
mod reduce;
mod write;

use ipnet::IpNet;

use crate::model::{Location, RegionId};

pub use builtin::builtin;
pub use compare::{Agreement, Draw, Sampling, compare};
pub use countries::{centre_of, continent_of, countries};
pub use database::{Database, GeoError};
pub use index::{Index, Located, NetworkOverride, PlaceId};
pub use range_map::RangeMap;
pub use write::{build, compress};

/// Everything that steering knows about a group of clients. Clients of the same place are steered alike, except for
/// their share key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// The location, which may be unknown.
    pub location: Location,
    /// The prefixes named by the config (`net:` keys) that contain it, longest first.
    pub nets: Box<[IpNet]>,
    /// `[[geo.network]] regions`: these come first, in this order, regardless of the rank.
    pub first: Box<[RegionId]>,
    /// The origin of the location.
    pub source: Source,
}

/// The origin of a location.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Source {
    /// The location is unknown.
    #[default]
    Nowhere,
    /// A `[[geo.network]]` entry.
    Override(IpNet),
    /// The database at this index of `[geo] database`.
    Database(u8),
}

#[cfg(test)]
mod tests;
