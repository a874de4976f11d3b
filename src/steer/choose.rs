//! The choice for one query: which regions of a ranking may be used right now, and which one of a tie group gets
//! the client.

use std::net::IpAddr;
use std::time::Duration;

use super::compiled::{Compiled, Terms};
use super::rank::{RankedRegion, Ranking, rank};
use super::selection::{Host, Selection};
use super::trace::{DropReason, Note, Recording, Stage, Trace};
use crate::geo::Place;
use crate::model::{AllDown, Family, RegionId, Service, ServiceId, Share, Topology, Ttl, Unix};
use crate::pick::{Hash, draw, rendezvous};
use crate::standing::{
    Action, Candidate, Cause, LOST_TOGETHER, LastGood, LastResortClass, Pool, SetId, Standing, Usable,
};

/// One query, as far as steering needs it.
#[derive(Clone, Copy, Debug)]
pub struct SteeringRequest {
    /// The service asked for.
    pub service: ServiceId,
    /// The client's address: from ECS if there is one, otherwise the resolver's.
    pub client: IpAddr,
    /// The kind of data asked for: IPv4 addresses, IPv6 addresses or host names.
    pub family: Family,
    /// The time of the query.
    pub unix: Unix,
    /// A random number; only used with [`Share::Random`].
    pub draw: u64,
}

/// The result of steering one query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The region that the client is sent to; `None` if none was chosen.
    pub region: Option<RegionId>,
    /// What to answer.
    pub answer: Answer,
    /// How long the answer may be cached.
    pub ttl: Ttl,
    /// The ECS scope: clients that share this many leading address bits have the same ranking and share key.
    pub scope: u8,
}

/// What to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The addresses or hosts that were chosen.
    Endpoints,
    /// A CNAME to the name configured in `all_down`.
    Alias,
    /// NODATA: the name exists, but has no records of this family for this client.
    NoData,
    /// SERVFAIL: there is nothing that could be answered.
    Servfail,
}

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

/// The working state of one choice.
pub(super) struct Chooser<'a, T> {
    pub(super) topology: &'a Topology,
    pub(super) standing: &'a Standing,
    pub(super) request: &'a SteeringRequest,
    pub(super) terms: Terms,
    /// The set of regions that the client may be sent to.
    set: SetId,
    /// Hash of the service and the client's key prefix.
    pub(super) client: Hash,
    /// `client`, mixed with the time window or the query's random number as the kind of share requires.
    key: Hash,
    pub(super) trace: &'a mut T,
}

impl Compiled {
    /// Chooses the region and its endpoints for a client, and replaces the contents of `addresses` with their
    /// addresses.
    pub fn choose<T: Trace>(
        &self,
        topology: &Topology,
        standing: &Standing,
        request: &SteeringRequest,
        addresses: &mut Vec<IpAddr>,
        trace: &mut T,
    ) -> Choice {
        addresses.clear();
        self.select(topology, standing, request, addresses, trace)
    }

    /// Like [`Compiled::choose`], for [`Family::Host`]: replaces the contents of `hosts` with the endpoints.
    pub fn choose_hosts<T: Trace>(
        &self,
        topology: &Topology,
        standing: &Standing,
        request: &SteeringRequest,
        hosts: &mut Vec<Host>,
        trace: &mut T,
    ) -> Choice {
        hosts.clear();
        self.select(topology, standing, request, hosts, trace)
    }

    fn select<S: Selection, T: Trace>(
        &self,
        topology: &Topology,
        standing: &Standing,
        request: &SteeringRequest,
        into: &mut S,
        trace: &mut T,
    ) -> Choice {
        let terms = self.services[request.service.0 as usize];
        let (ranking, set, prefix_len) = self.ranking(terms, request.client);
        let client = self.client_hash(terms, request.client);
        let key = share_key(terms, client, request);
        let mut chooser = Chooser { topology, standing, request, terms, set, client, key, trace };
        let (region, answer) = chooser.run(ranking, into);
        let scope = self.scope(chooser.is_keyed(ranking), request.client, prefix_len);
        let ttl = if terms.ttl.is_computed() {
            terms.ttl.within(chooser.due(ranking, region).left(request.unix))
        } else {
            terms.ttl.max
        };
        Choice { region, answer, ttl, scope }
    }

    /// Makes the same choice as [`Compiled::choose`] and records every stage of it. The ranking is recomputed by the
    /// function that compiled it; the rest is `choose` itself.
    pub fn explain(
        &self,
        topology: &Topology,
        standing: &Standing,
        place: &Place,
        request: &SteeringRequest,
        addresses: &mut Vec<IpAddr>,
    ) -> (Choice, Recording) {
        let mut recording = Recording::default();
        let ranking = rank(topology, topology.service(request.service), place, &mut recording);
        debug_assert_eq!(&ranking, self.ranking(self.services[request.service.0 as usize], request.client).0);
        let choice = if request.family == Family::Host {
            self.choose_hosts(topology, standing, request, &mut Vec::new(), &mut recording)
        } else {
            self.choose(topology, standing, request, addresses, &mut recording)
        };
        (choice, recording)
    }

    /// Hash of a service and of the prefix of the client's address that is its share key.
    fn client_hash(&self, terms: Terms, client: IpAddr) -> Hash {
        let prefix_len = u32::from(self.key_prefix.bits(client));
        match client {
            IpAddr::V4(v4) => {
                let host = u32::MAX.checked_shr(prefix_len).unwrap_or(0);
                terms.hash.with(4).with(u64::from(v4.to_bits() & !host))
            }
            IpAddr::V6(v6) => {
                let bits = v6.to_bits() & !u128::MAX.checked_shr(prefix_len).unwrap_or(0);
                terms.hash.with(6).with((bits >> 64) as u64).with(bits as u64)
            }
        }
    }

    /// The ECS scope of an answer: the prefix for which the ranking holds, but no shorter than the share key if a
    /// draw may have been involved.
    fn scope(&self, is_keyed: bool, client: IpAddr, prefix_len: u8) -> u8 {
        if is_keyed { prefix_len.max(self.key_prefix.bits(client)) } else { prefix_len }
    }
}

/// The key of a client's draws. Windows are as long as the TTL, and their start is offset per client, so that the
/// clients of a resolver do not all move at once.
fn share_key(terms: Terms, client: Hash, request: &SteeringRequest) -> Hash {
    match terms.share {
        Share::Hash => client,
        Share::Random => client.with(request.draw),
        Share::Weighted => client.with(window(terms, client, request.unix).0),
    }
}

/// The number of the time window that a client is in at `now`, and when that window ends.
pub(super) fn window(terms: Terms, client: Hash, now: Unix) -> (u64, Unix) {
    let length = u64::from(terms.ttl.max.0.max(1));
    let phase = client.with(1).0 % length;
    let number = (now.0.as_secs() + phase) / length;
    let end = (number + 1).saturating_mul(length).saturating_sub(phase);
    (number, Unix(Duration::from_secs(end)))
}

impl<T: Trace> Chooser<'_, T> {
    fn run<S: Selection>(&mut self, ranking: &Ranking, into: &mut S) -> (Option<RegionId>, Answer) {
        for pass in [Pass::Eligible, Pass::PartlyDrained, Pass::Unknown] {
            if let Some(found) = self.pass(pass, ranking, into) {
                return found;
            }
        }
        if ranking.groups.is_empty() {
            // Fences exclude the client from every region: this is not an outage.
            return self.configured_fallback(into).unwrap_or((None, Answer::NoData));
        }
        match &self.service().steering.all_down {
            AllDown::Servfail => (None, Answer::Servfail),
            AllDown::Fallback(_) | AllDown::Cname(_) => {
                self.configured_fallback(into).unwrap_or((None, Answer::NoData))
            }
            AllDown::All => self.last_resort(ranking, into),
            AllDown::LastGood(age) => {
                let last_good = self.last_good(ranking, *age).map(Pass::LastGood);
                last_good
                    .and_then(|pass| self.pass(pass, ranking, into))
                    .unwrap_or_else(|| self.last_resort(ranking, into))
            }
        }
    }

    /// The service as configured. Only needed while no region serves; everything else is in `terms`.
    fn service(&self) -> &Service {
        self.topology.service(self.request.service)
    }

    /// The most promising regions, in the order of the ranking.
    fn last_resort<S: Selection>(&mut self, ranking: &Ranking, into: &mut S) -> (Option<RegionId>, Answer) {
        let resorts = ranking.groups.iter().flatten().map(|ranked| self.resort(ranked.region));
        match resorts.min() {
            Some(best) if best != LastResortClass::Never => {
                self.pass(Pass::LastResort(best), ranking, into).unwrap_or((None, Answer::NoData))
            }
            // SERVFAIL, so that resolvers ask again instead of caching a negative answer.
            _ => (None, Answer::Servfail),
        }
    }

    /// How promising a region is as a last resort.
    fn resort(&self, region: RegionId) -> LastResortClass {
        let pool = self.standing.region(region).pool(self.request.family);
        match self.standing.within(self.request.service, region) {
            Some(Action::Down) => LastResortClass::Never,
            Some(action) if action.withdraws() && pool.last_resort.class > LastResortClass::Drained => {
                pool.last_resort.class.max(LastResortClass::DrainedDown)
            }
            Some(action) if action.withdraws() => LastResortClass::Drained,
            _ => pool.last_resort.class,
        }
    }

    /// The answer configured for when no region serves (`fallback` or `cname`), if any.
    fn configured_fallback<S: Selection>(&self, into: &mut S) -> Option<(Option<RegionId>, Answer)> {
        let answer = match &self.service().steering.all_down {
            AllDown::Cname(_) => Answer::Alias,
            AllDown::Fallback(addresses) => {
                into.add_fallback(addresses, self.request.family);
                if into.is_empty() { Answer::NoData } else { Answer::Endpoints }
            }
            AllDown::All | AllDown::LastGood(_) | AllDown::Servfail => return None,
        };
        Some((None, answer))
    }

    /// The earliest time at which a region may have stopped serving and still count as last good. Considers the regions
    /// that this client may be sent to and that no operator withdrew; `None` if the latest stopped longer ago than
    /// `age`.
    fn last_good(&self, ranking: &Ranking, age: Duration) -> Option<Unix> {
        let served = ranking.groups.iter().flatten().filter_map(|ranked| self.stopped_serving(ranked.region));
        let latest = served.max()?;
        let together = Unix(latest.0.saturating_sub(LOST_TOGETHER));
        (self.request.unix.since(latest) <= age).then_some(together)
    }

    /// When a region stopped serving; `None` if it serves, never did, or was withdrawn by an operator.
    fn stopped_serving(&self, region: RegionId) -> Option<Unix> {
        let is_withdrawn = matches!(self.usable(region), Usable::No(cause) if cause.is_operator());
        let pool = self.standing.region(region).pool(self.request.family);
        pool.last_good.as_ref().filter(|_| !is_withdrawn).map(|good| good.until)
    }

    fn usable(&self, region: RegionId) -> Usable {
        self.standing.usable_within(self.request.service, region, self.request.family)
    }

    /// Tries the tie groups in order: the first one with a region that the pass admits decides.
    fn pass<S: Selection>(
        &mut self,
        pass: Pass,
        ranking: &Ranking,
        into: &mut S,
    ) -> Option<(Option<RegionId>, Answer)> {
        let mut found = None;
        for group in &ranking.groups {
            if found.is_some() {
                for ranked in group {
                    self.trace.dropped(Stage::Eligible, ranked.region, || DropReason::LaterGroup);
                }
            } else {
                found = self.group(pass, group, into);
            }
            if found.is_some() && !T::ENABLED {
                break;
            }
        }
        found
    }

    fn group<S: Selection>(
        &mut self,
        pass: Pass,
        group: &[RankedRegion],
        into: &mut S,
    ) -> Option<(Option<RegionId>, Answer)> {
        let mut among = 0;
        let mut best: Option<(f64, RegionId)> = None;
        for ranked in group {
            let Some(factor) = self.admit(pass, ranked) else { continue };
            among += 1;
            // A group of one needs no draw.
            let drawn =
                if group.len() == 1 { 0.0 } else { draw(self.key, ranked.hash, ranked.weight * factor) };
            if best.is_none_or(|(least, _)| drawn < least) {
                best = Some((drawn, ranked.region));
            }
        }
        let (_, winner) = best?;
        if T::ENABLED {
            let lost = group.iter().filter(|ranked| ranked.region != winner);
            let lost: Vec<_> =
                lost.filter(|ranked| self.is_admitted(pass, ranked)).map(|r| r.region).collect();
            self.trace.kept(Stage::Share, winner, || Note::Won { among });
            for region in lost {
                self.trace.dropped(Stage::Share, region, || DropReason::LostDraw);
            }
        }
        Some((Some(winner), self.endpoints(pass, winner, into)))
    }

    /// Whether a region takes part in its group's draw, and at what part of its weight.
    fn admit(&mut self, pass: Pass, ranked: &RankedRegion) -> Option<f64> {
        let verdict = self.verdict(pass, ranked);
        match verdict {
            Ok((_, note)) => self.trace.kept(Stage::Eligible, ranked.region, || note),
            // Only the first pass records why a region may not be used; later ones record what they admit.
            Err(why) if pass == Pass::Eligible => {
                self.trace.dropped(Stage::Eligible, ranked.region, || why);
            }
            Err(_) => {}
        }
        verdict.ok().map(|(factor, _)| factor)
    }

    fn is_admitted(&self, pass: Pass, ranked: &RankedRegion) -> bool {
        self.verdict(pass, ranked).is_ok()
    }

    #[inline]
    pub(super) fn verdict(&self, pass: Pass, ranked: &RankedRegion) -> Result<(f64, Note), DropReason> {
        let region = self.standing.region(ranked.region);
        let within = self.standing.within(self.request.service, ranked.region);
        match pass {
            Pass::Eligible => {
                let (factor, note) = self.eligible(ranked.region)?;
                let partial = within.filter(|action| action.is_partial()).map_or(0.0, Action::drained_share);
                let drained_share = region.drained_share().max(partial);
                // Independent of the share key, so that a drain keeps the same clients away in every window.
                if drained_share > 0.0 && self.client.with(ranked.hash.0).with(2).unit() < drained_share {
                    return Err(DropReason::PartlyDrained(drained_share));
                }
                let forced = within == Some(Action::Up) || region.action == Some(Action::Up);
                Ok((factor, if forced && note == Note::Plain { Note::Forced } else { note }))
            }
            Pass::PartlyDrained => {
                let (factor, _) = self.eligible(ranked.region)?;
                Ok((factor, Note::PartlyDrained))
            }
            Pass::Unknown if self.usable(ranked.region) == Usable::IfNothingElse => Ok((1.0, Note::Unknown)),
            Pass::LastGood(since) if self.stopped_serving(ranked.region) >= Some(since) => {
                Ok((1.0, Note::LastGood))
            }
            Pass::LastResort(best) if self.resort(ranked.region) == best => Ok((1.0, Note::LastResort)),
            Pass::Unknown | Pass::LastGood(_) | Pass::LastResort(_) => Err(DropReason::Unknown),
        }
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
                let SteeringRequest { service, family, .. } = *self.request;
                match self.standing.held(Some(service), self.set, family, id) {
                    Some(rule) => Ok((1.0, Note::Held(rule))),
                    None if self.standing.region(id).usable().is_eligible() => {
                        Err(DropReason::FamilyDown(family))
                    }
                    None => Err(DropReason::Withdrawn(cause)),
                }
            }
            Usable::No(cause) => Err(DropReason::Withdrawn(cause)),
        }
    }

    /// Adds the region's endpoints to the answer.
    fn endpoints<S: Selection>(&self, pass: Pass, region: RegionId, into: &mut S) -> Answer {
        let pool = self.standing.region(region).pool(self.request.family);
        self.draw(candidates(pool, pass), into);
        if !into.is_empty() {
            Answer::Endpoints
        } else if self.standing.region(region).unresolved {
            // Its hosts are not resolved yet: SERVFAIL, so that resolvers ask again instead of caching NODATA.
            Answer::Servfail
        } else {
            Answer::NoData
        }
    }

    /// Adds up to `answers` endpoints in the order of their draws: how often each comes first follows the weights.
    fn draw<S: Selection>(&self, candidates: &[Candidate], into: &mut S) {
        let wanted = self.terms.answers as usize;
        match candidates {
            [] => {}
            [only] => into.add(only),
            several if wanted == 1 => {
                let drawn = several.iter().map(|c| (c, endpoint_hash(c), c.weight));
                if let Some(winner) = rendezvous(self.key, drawn) {
                    into.add(winner);
                }
            }
            several => self.draw_several(several, wanted, into),
        }
    }

    /// The `wanted` lowest draws, in order. Quadratic, but the numbers are small and nothing is allocated.
    fn draw_several<S: Selection>(&self, candidates: &[Candidate], wanted: usize, into: &mut S) {
        let mut least = f64::NEG_INFINITY;
        for _ in 0..wanted.min(candidates.len()) {
            let draws = candidates.iter().map(|c| (draw(self.key, endpoint_hash(c), c.weight), c));
            let next = draws.filter(|(drawn, _)| *drawn > least).min_by(|(a, _), (b, _)| a.total_cmp(b));
            let Some((drawn, candidate)) = next else { break };
            least = drawn;
            into.add(candidate);
        }
    }

    /// Whether the client's prefix can affect the answer beyond the ranking. If so, the ECS scope is no shorter than the
    /// key. A random share draws anew for every query, whatever the prefix; a partial drain never does.
    fn is_keyed(&self, ranking: &Ranking) -> bool {
        let draws = self.terms.share != Share::Random && (ranking.ties || ranking.most_endpoints > 1);
        let mut own = self.standing.overrides_of(self.request.service).iter();
        let mut regions = ranking.groups.iter().flatten();
        draws
            || own.any(|it| it.action.is_partial())
            || regions.any(|ranked| self.standing.region(ranked.region).drained_share() > 0.0)
    }
}

/// The endpoints of a pool to choose from in a pass.
fn candidates(pool: &Pool, pass: Pass) -> &[Candidate] {
    match (pass, &pool.last_good) {
        (Pass::LastGood(_), Some(LastGood { candidates, .. })) => candidates,
        (Pass::LastResort(_), _) => &pool.last_resort.candidates,
        _ => &pool.candidates,
    }
}

fn endpoint_hash(candidate: &Candidate) -> Hash {
    Hash(candidate.hash).with(3)
}
