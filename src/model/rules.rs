//! `[safety]`: the rules that restrict automation and operators.

use std::net::SocketAddr;
use std::time::Duration;

use super::Fraction;

/// The safety rules, as configured in `[safety]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// The minimum number of regions that every service keeps in every address family; all of its regions if it has
    /// fewer. 0 disables the rule.
    pub min_regions: usize,
    /// When this node suspects its own network rather than the probed addresses; `None` if never.
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
    /// The minimum share of all checks that must fail.
    pub share: Fraction,
    /// The minimum number of checks that must fail, at least 1.
    pub min: usize,
    /// External addresses. If any of them can be reached, this node's network is considered to work.
    pub anchors: Vec<SocketAddr>,
    /// The maximum time for which the last standing stays in use.
    pub at_most: Duration,
}

impl Default for SuspectSelf {
    /// 60 % of all checks, but at least three, for at most two minutes.
    fn default() -> Self {
        Self {
            share: Fraction::SIXTY_PERCENT,
            min: 3,
            anchors: Vec::new(),
            at_most: Duration::from_secs(120),
        }
    }
}

/// A safety rule.
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
