//! Conditions: when something that has several parts is healthy.

use super::{EndpointRef, Fraction, ProbeId, RegionId};

/// A boolean expression over checks, endpoints and regions. `probe = [...]` of an endpoint, and `healthy_when` and
/// `require` of a region, are shorthand for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// All parts are healthy.
    All(Vec<Self>),
    /// At least one part is healthy.
    Any(Vec<Self>),
    /// At least this many parts are healthy; the number is at least 1.
    AtLeast(usize, Vec<Self>),
    /// At least this share of the parts is healthy, rounded up to a whole number of at least 1.
    Fraction(Fraction, Vec<Self>),
    /// The part is not healthy.
    Not(Box<Self>),
    /// The check of the address in question by this probe passes.
    Check(ProbeId),
    /// The endpoint, in this or another region, is healthy.
    Endpoint(EndpointRef),
    /// The other region is healthy.
    Region(RegionId),
}

impl Condition {
    /// Always true.
    pub const ALWAYS: Self = Self::All(Vec::new());

    /// The condition that all of these probes pass.
    #[must_use]
    pub fn checks(probes: impl IntoIterator<Item = ProbeId>) -> Self {
        Self::All(probes.into_iter().map(Self::Check).collect())
    }

    /// Calls `visit` with every leaf, in order.
    pub fn leaves(&self, visit: &mut impl FnMut(&Self)) {
        match self {
            Self::All(parts) | Self::Any(parts) | Self::AtLeast(_, parts) | Self::Fraction(_, parts) => {
                parts.iter().for_each(|part| part.leaves(visit));
            }
            Self::Not(part) => part.leaves(visit),
            Self::Check(_) | Self::Endpoint(_) | Self::Region(_) => visit(self),
        }
    }

    /// The probes it names, each once, in order of first appearance.
    #[must_use]
    pub fn probes(&self) -> Vec<ProbeId> {
        let mut found = Vec::new();
        self.leaves(&mut |leaf| {
            if let Self::Check(probe) = leaf
                && !found.contains(probe)
            {
                found.push(*probe);
            }
        });
        found
    }
}
