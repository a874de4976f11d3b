//! What steering tells of its work.

use std::time::Duration;

use crate::model::{Family, PlaceKey, RegionId, Rule};
use crate::standing::Cause;

/// The stages of a choice, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Where a region may be used.
    Fence,
    /// What puts one region before another.
    Rank,
    /// Regions that tie, and weights.
    TieGroups,
    /// What may be used right now.
    Eligible,
    /// The draw within a tie group.
    Share,
    /// How long the answer may be kept, where that is computed.
    Ttl,
}

/// Why a region stays in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Note {
    /// Nothing to say.
    Plain,
    /// Its place in the order of the config, from 1.
    Position(usize),
    /// Kilometres from the client.
    Kilometres(f64),
    /// Milliseconds from the client, by table.
    Measured(f64),
    /// Milliseconds from the client, estimated from so many kilometres.
    Estimated {
        /// The estimate.
        millis: f64,
        /// The distance it comes from.
        km: f64,
    },
    /// A `geo` entry names it.
    Geo(PlaceKey),
    /// A `[[geo.network]]` entry puts it first.
    NetworkFirst,
    /// The client cannot be located, or not be measured from: the order of the config holds.
    Unlocated,
    /// In the tie group of this number, from 1.
    TieGroup(usize),
    /// A safety rule holds it though probes found it down.
    Held(Rule),
    /// An operator forced it up.
    Forced,
    /// A partial drain keeps this client away, but nobody else serves.
    DrainedInPart,
    /// Nobody knows whether it is up, and nothing else is.
    Unknown,
    /// It is slow: it takes part at a reduced weight.
    Degraded,
    /// Every region is down: answered as the `all_down` policy says.
    AllDown,
    /// It won the draw among this many.
    Won {
        /// How many took part.
        among: usize,
    },
    /// It can change so soon.
    MayChange(Duration),
    /// The client's share is drawn anew so soon.
    WindowEnds(Duration),
}

/// Why a region is out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// The fence at this place among those of the service keeps this client from it.
    Fenced(usize),
    /// Weight 0 beside others that have weight.
    NoWeight,
    /// It is withdrawn.
    Withdrawn(Cause),
    /// Nobody knows whether it is up, while others are known to be.
    Unknown,
    /// It is up, but its addresses of the family asked for are down.
    FamilyDown(Family),
    /// A partial drain keeps this client from it.
    KeptAway(f64),
    /// A tie group before its own had somebody eligible.
    LaterGroup,
    /// Another won the draw.
    LostDraw,
}

/// Told of each region that stays in or drops out at a stage.
pub trait Trace {
    /// Whether anybody listens; work that only serves the trace is skipped otherwise.
    const LISTENS: bool;

    /// It stays in.
    fn kept(&mut self, stage: Stage, region: RegionId, note: impl FnOnce() -> Note);

    /// It drops out.
    fn dropped(&mut self, stage: Stage, region: RegionId, why: impl FnOnce() -> Why);
}

/// Nobody listens.
#[derive(Clone, Copy, Debug)]
pub struct NoTrace;

impl Trace for NoTrace {
    const LISTENS: bool = false;

    #[inline]
    fn kept(&mut self, _: Stage, _: RegionId, _: impl FnOnce() -> Note) {}

    #[inline]
    fn dropped(&mut self, _: Stage, _: RegionId, _: impl FnOnce() -> Why) {}
}

/// Everything that was told, in order.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// What was told.
    pub entries: Vec<Entry>,
}

/// One thing that was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// At which stage.
    pub stage: Stage,
    /// Of which region.
    pub region: RegionId,
    /// Why it stays in, or why it drops out.
    pub verdict: Result<Note, Why>,
}

impl Trace for Recording {
    const LISTENS: bool = true;

    fn kept(&mut self, stage: Stage, region: RegionId, note: impl FnOnce() -> Note) {
        self.entries.push(Entry { stage, region, verdict: Ok(note()) });
    }

    fn dropped(&mut self, stage: Stage, region: RegionId, why: impl FnOnce() -> Why) {
        self.entries.push(Entry { stage, region, verdict: Err(why()) });
    }
}
