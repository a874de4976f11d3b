//! `[safety]`: what neither automation nor operators may do.

use std::net::SocketAddr;
use std::time::Duration;

use super::Fraction;

/// `[safety]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Regions that each service keeps in every address family, as far as it has as many. 0 turns the rule off.
    pub min_regions: usize,
    /// When this node doubts its own network rather than what it probes.
    pub suspect_self: Option<SuspectSelf>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { min_regions: 1, suspect_self: None }
    }
}

/// `suspect_self`: many checks that start to fail within one interval point at this node's own network.
#[derive(Clone, Debug, PartialEq)]
pub struct SuspectSelf {
    /// The share of all checks that must fail.
    pub share: Fraction,
    /// The least number of checks that must fail, at least 1.
    pub min: usize,
    /// Addresses outside that must fail, too, if there are any: one that can be reached clears this node.
    pub anchors: Vec<SocketAddr>,
    /// How long the last standing is kept at most.
    pub at_most: Duration,
}

impl Default for SuspectSelf {
    /// Six of ten checks, three at least, for two minutes.
    fn default() -> Self {
        Self {
            share: Fraction::SIXTY_PERCENT,
            min: 3,
            anchors: Vec::new(),
            at_most: Duration::from_secs(120),
        }
    }
}

/// A rule by its name in the config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// `min_regions`
    MinRegions,
    /// `suspect_self`
    SuspectSelf,
}

impl Rule {
    /// Every rule, in the order of the config.
    pub const ALL: [Self; 2] = [Self::MinRegions, Self::SuspectSelf];

    /// The name in the config, in status, events and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MinRegions => "min_regions",
            Self::SuspectSelf => "suspect_self",
        }
    }
}
