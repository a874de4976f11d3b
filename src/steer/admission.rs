//! Which regions may be used right now: the part of a choice that is the same for all clients of a ranking.

use std::time::Duration;

use super::rank::Ranking;
use super::trace::{DropReason, Note};
use crate::model::{AllDown, Family, RegionId, Service, ServiceId, Topology, Unix};
use crate::standing::{Action, Cause, LOST_TOGETHER, LastResortClass, SetId, Standing, Usable};

/// Which regions may be chosen. Passes are tried in this order until one finds a region.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pass {
    /// Regions that are up, forced up or held.
    Eligible,
    /// The same, ignoring partial drains, since no other region serves.
    PartlyDrained,
    /// Regions whose state is unknown.
    Unknown,
    /// `all_down = { last_good }`: regions that stopped serving no earlier than this.
    LastGood(Unix),
    /// `all_down = "all"`: the most promising regions.
    LastResort(LastResortClass),
}

impl Pass {
    /// The passes that every service has.
    pub(super) const USUAL: [Self; 3] = [Self::Eligible, Self::PartlyDrained, Self::Unknown];
}

/// What decides whether a region may be used: everything but the client.
#[derive(Clone, Copy)]
pub(super) struct Admission<'a> {
    pub(super) topology: &'a Topology,
    pub(super) standing: &'a Standing,
    pub(super) service: ServiceId,
    pub(super) family: Family,
    pub(super) unix: Unix,
    /// The set of regions that the clients may be sent to.
    pub(super) set: SetId,
}

/// A region that a pass admits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admitted {
    /// The fraction of its weight at which it takes part in the draw.
    pub(super) factor: f64,
    pub(super) note: Note,
    /// The share of the clients that a partial drain keeps away from it.
    pub(super) drained_share: f64,
}

impl<'a> Admission<'a> {
    /// Whether a pass admits a region.
    #[inline]
    pub(super) fn admits(&self, pass: Pass, id: RegionId) -> Result<Admitted, DropReason> {
        let admitted = |(factor, note)| Admitted { factor, note, drained_share: 0.0 };
        match pass {
            Pass::Eligible => {
                let (factor, note) = self.eligible(id)?;
                let region = self.standing.region(id);
                let within = self.standing.within(self.service, id);
                let partial = within.filter(|action| action.is_partial()).map_or(0.0, Action::drained_share);
                let drained_share = region.drained_share().max(partial);
                let forced = within == Some(Action::Up) || region.action == Some(Action::Up);
                let note = if forced && note == Note::Plain { Note::Forced } else { note };
                Ok(Admitted { factor, note, drained_share })
            }
            Pass::PartlyDrained => {
                let (factor, _) = self.eligible(id)?;
                Ok(admitted((factor, Note::PartlyDrained)))
            }
            Pass::Unknown if self.usable(id) == Usable::IfNothingElse => Ok(admitted((1.0, Note::Unknown))),
            Pass::LastGood(since) if self.stopped_serving(id) >= Some(since) => {
                Ok(admitted((1.0, Note::LastGood)))
            }
            Pass::LastResort(best) if self.resort(id) == best => Ok(admitted((1.0, Note::LastResort))),
            Pass::Unknown | Pass::LastGood(_) | Pass::LastResort(_) => Err(DropReason::Unknown),
        }
    }

    /// The passes that `all_down` allows once the others have found no region, in order.
    pub(super) fn resorts(&self, ranking: &Ranking) -> [Option<Pass>; 2] {
        match &self.service().steering.all_down {
            AllDown::All => [None, self.last_resort(ranking)],
            AllDown::LastGood(age) => {
                [self.last_good(ranking, *age).map(Pass::LastGood), self.last_resort(ranking)]
            }
            AllDown::Servfail | AllDown::Fallback(_) | AllDown::Cname(_) => [None, None],
        }
    }

    /// The service as configured. Only needed while no region serves.
    pub(super) fn service(&self) -> &'a Service {
        self.topology.service(self.service)
    }

    /// The most promising regions; `None` if there are none that may be answered.
    fn last_resort(&self, ranking: &Ranking) -> Option<Pass> {
        let resorts = ranking.groups.iter().flatten().map(|ranked| self.resort(ranked.region));
        resorts.min().filter(|best| *best != LastResortClass::Never).map(Pass::LastResort)
    }

    /// How promising a region is as a last resort.
    fn resort(&self, region: RegionId) -> LastResortClass {
        self.standing.last_resort(self.service, region, self.family)
    }

    /// The earliest time at which a region may have stopped serving and still count as last good. Considers the regions
    /// that the clients may be sent to and that no operator withdrew; `None` if the latest stopped longer ago than
    /// `age`.
    fn last_good(&self, ranking: &Ranking, age: Duration) -> Option<Unix> {
        let served = ranking.groups.iter().flatten().filter_map(|ranked| self.stopped_serving(ranked.region));
        let latest = served.max()?;
        let together = Unix(latest.0.saturating_sub(LOST_TOGETHER));
        (self.unix.since(latest) <= age).then_some(together)
    }

    /// When a region stopped serving; `None` if it serves, never did, or was withdrawn by an operator.
    fn stopped_serving(&self, region: RegionId) -> Option<Unix> {
        let is_withdrawn = matches!(self.usable(region), Usable::No(cause) if cause.is_operator());
        let pool = self.standing.region(region).pool(self.family);
        pool.last_good.as_ref().filter(|_| !is_withdrawn).map(|good| good.until)
    }

    fn usable(&self, region: RegionId) -> Usable {
        self.standing.usable_within(self.service, region, self.family)
    }

    fn eligible(&self, id: RegionId) -> Result<(f64, Note), DropReason> {
        match self.usable(id) {
            Usable::Yes(factor) if factor < 1.0 => Ok((factor, Note::Degraded)),
            Usable::Yes(factor) => match self.standing.region(id).kept_by {
                Some(rule) => Ok((factor, Note::Held(rule))),
                None => Ok((factor, Note::Plain)),
            },
            Usable::IfNothingElse => Err(DropReason::Unknown),
            Usable::No(cause @ Cause::Probes(_)) => {
                match self.standing.held(Some(self.service), self.set, self.family, id) {
                    Some(rule) => Ok((1.0, Note::Held(rule))),
                    None if self.standing.region(id).usable().is_eligible() => {
                        Err(DropReason::FamilyDown(self.family))
                    }
                    None => Err(DropReason::Withdrawn(cause)),
                }
            }
            Usable::No(cause) => Err(DropReason::Withdrawn(cause)),
        }
    }
}
