//! When something made of several parts is healthy.

use super::{EndpointRef, Fraction, ProbeId, RegionId};

/// A tree over checks, endpoints and regions. `probe = [...]` of an endpoint, `healthy_when` and `require` of a region
/// are short forms of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Every part.
    All(Vec<Self>),
    /// One part.
    Any(Vec<Self>),
    /// This many parts, at least 1.
    AtLeast(usize, Vec<Self>),
    /// This share of the parts, rounded up, at least one of them.
    Fraction(Fraction, Vec<Self>),
    /// The opposite.
    Not(Box<Self>),
    /// A probe of the address in question.
    Check(ProbeId),
    /// An endpoint, here or in another region.
    Endpoint(EndpointRef),
    /// Another region.
    Region(RegionId),
}

impl Condition {
    /// Holds whatever happens.
    pub const ALWAYS: Self = Self::All(Vec::new());

    /// All of these probes.
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

    /// The probes it names, each once, in order.
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
