//! Where a client is, and for which prefix that holds.

mod membership;
mod standin;
pub use standin::*;

use ipnet::IpNet;

use crate::model::{Location, RegionId};

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
