//! The trace of a choice: which regions each stage keeps or drops, and why.

use std::time::Duration;

use crate::model::{Family, PlaceKey, RegionId, Rule};
use crate::standing::Cause;

/// The stages of a choice, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Fences: drops the regions that the client must not be sent to.
    Fence,
    /// The order of regions by rank.
    Rank,
    /// Tie groups, and weights within them.
    TieGroups,
    /// Which regions may be used right now.
    Eligible,
    /// The draw within a tie group.
    Share,
    /// The TTL of the answer, if it is computed.
    Ttl,
}

/// Why a region was kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Note {
    /// Nothing worth mentioning.
    Plain,
    /// Its position in the config, counted from 1.
    Position(usize),
    /// Its distance from the client in kilometres.
    Kilometres(f64),
    /// The round-trip time from the client in milliseconds, from the latency table.
    Measured(f64),
    /// The round-trip time from the client, estimated from the distance.
    Estimated {
        /// The estimated round-trip time in milliseconds.
        millis: f64,
        /// The distance in kilometres that it was estimated from.
        km: f64,
    },
    /// The `geo` entry for this place lists it.
    Geo(PlaceKey),
    /// A `[[geo.network]]` entry puts it first.
    NetworkFirst,
    /// The client's location or its distance from the region is unknown: the order of the config applies.
    Unlocated,
    /// The number of its tie group, counted from 1.
    TieGroup(usize),
    /// A safety rule holds it, although probes found it down.
    Held(Rule),
    /// An operator forced it up.
    Forced,
    /// A partial drain keeps this client away, but no other region serves.
    PartlyDrained,
    /// Its state is unknown, and no other region is up.
    Unknown,
    /// It is degraded and takes part at a reduced weight.
    Degraded,
    /// Every region is down, and it is among those that served last.
    LastGood,
    /// Every region is down, and it is among the most promising.
    LastResort,
    /// It won the draw among this many.
    Won {
        /// The number of regions that took part.
        among: usize,
    },
    /// Its standing can change after this long at the earliest.
    MayChange(Duration),
    /// The client's share is drawn again after this long.
    WindowEnds(Duration),
}

/// Why a region was dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DropReason {
    /// The service's fence with this index excludes this client.
    Fenced(usize),
    /// Its weight is 0, and others in its tie group have weight.
    NoWeight,
    /// It is withdrawn, by probes or by an operator.
    Withdrawn(Cause),
    /// Its state is unknown, and others are known to be up.
    Unknown,
    /// It is up, but its addresses of the family asked for are down.
    FamilyDown(Family),
    /// A partial drain of this share of clients keeps this client away.
    PartlyDrained(f64),
    /// An earlier tie group had an eligible region.
    LaterGroup,
    /// Another region won the draw.
    LostDraw,
}

/// Receives each region that is kept or dropped at a stage.
pub trait Trace {
    /// Whether entries are recorded. If not, work that only serves the trace is skipped.
    const ENABLED: bool;

    /// Records that a stage kept a region.
    fn kept(&mut self, stage: Stage, region: RegionId, note: impl FnOnce() -> Note);

    /// Records that a stage dropped a region.
    fn dropped(&mut self, stage: Stage, region: RegionId, why: impl FnOnce() -> DropReason);
}

/// Records nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoTrace;

impl Trace for NoTrace {
    const ENABLED: bool = false;

    #[inline]
    fn kept(&mut self, _: Stage, _: RegionId, _: impl FnOnce() -> Note) {}

    #[inline]
    fn dropped(&mut self, _: Stage, _: RegionId, _: impl FnOnce() -> DropReason) {}
}

/// Records everything, in order.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// The entries, oldest first.
    pub entries: Vec<Entry>,
}

/// One region at one stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The stage.
    pub stage: Stage,
    /// The region.
    pub region: RegionId,
    /// Why the region was kept (`Ok`) or dropped (`Err`).
    pub verdict: Result<Note, DropReason>,
}

impl Trace for Recording {
    const ENABLED: bool = true;

    fn kept(&mut self, stage: Stage, region: RegionId, note: impl FnOnce() -> Note) {
        self.entries.push(Entry { stage, region, verdict: Ok(note()) });
    }

    fn dropped(&mut self, stage: Stage, region: RegionId, why: impl FnOnce() -> DropReason) {
        self.entries.push(Entry { stage, region, verdict: Err(why()) });
    }
}
