//! Where a client is, and for which prefix that holds.
//!
//! [`Database`] is one decoded MMDB file; [`builtin()`] the one inside the program. [`Index`] lays databases
//! and the config's own networks over one another, and is what a query asks. [`build`] makes the reduced
//! file that `geodb/` holds, and [`compare()`] measures what the reduction costs.

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
pub use index::{Index, Located, Override, PlaceId};
pub use range_map::RangeMap;
pub use write::{build, compress};

/// All that steering can tell about a group of clients. Clients of one place are steered alike but for
/// their share key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// Where it is; may be unknown.
    pub location: Location,
    /// The prefixes named by the config (`net:` keys) that contain it, longest first.
    pub nets: Box<[IpNet]>,
    /// `[[geo.network]] regions`: these first, in this order, whatever the rank.
    pub first: Box<[RegionId]>,
    /// Where this was learned.
    pub source: Source,
}

/// Where a location was learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Source {
    /// Nobody knows where it is.
    #[default]
    Nowhere,
    /// A `[[geo.network]]` entry.
    Override(IpNet),
    /// The database at this index of `[geo] database`.
    Database(u8),
}

#[cfg(test)]
mod tests;
