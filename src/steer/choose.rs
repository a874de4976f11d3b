//! The choice for one query: what of a ranking may be used right now, and who of a tie group gets the client.

use std::net::IpAddr;
use std::time::Duration;

use super::compiled::{Compiled, Terms};
use super::rank::{RankedRegion, Ranking, rank};
use super::selection::{Host, Selection};
use super::trace::{Note, Recording, Stage, Trace, Why};
use crate::geo::Place;
use crate::model::{AllDown, Due, Family, RegionId, Service, ServiceId, Share, Topology, Ttl, Unix};
use crate::pick::{Hash, draw, rendezvous};
use crate::standing::{
    Action, Candidate, Cause, DEGRADED_SHARE, HARD_DOWN, Pool, ServiceStanding, Standing, Usable,
};

/// A question to steering.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// For which service.
    pub service: ServiceId,
    /// For whom.
    pub client: IpAddr,
    /// A, AAAA or names.
    pub family: Family,
    /// When.
    pub unix: Unix,
    /// A random number; used with [`Share::Random`] only.
    pub draw: u64,
}

/// Its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Where the client is sent; `None` if no region was chosen.
    pub region: Option<RegionId>,
    /// What to answer.
    pub answer: Answer,
    /// For how long.
    pub ttl: Ttl,
    /// For how many bits of the client's address the same ranking and share key hold.
    pub scope: u8,
}

/// What to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The addresses chosen, or the hosts.
    Addresses,
    /// A CNAME to the name that `all_down` gives.
    Alias,
    /// The name exists, but has nothing of this family for this client.
    NoData,
    /// The name cannot be answered.
    Servfail,
}

/// Regions that were last to serve within this many seconds of each other were lost together.
const LOST_TOGETHER_SECS: u64 = 60;

/// Who may be chosen. They are tried in this order until somebody may.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pass {
    /// What is up, forced up or held.
    Eligible,
    /// The same, partial drains set aside: nobody else serves.
    DrainedInPart,
    /// What nobody knows of.
    Unknown,
    /// `all_down = { last_good }`: what served last, no earlier than this.
    LastGood(Unix),
    /// `all_down = "all"`: whatever no operator withdrew.
    AllDown,
    /// Every region has been withdrawn by an operator: whatever there is.
    Anything,
}

/// One choice being made.
struct Chooser<'a, T> {
    compiled: &'a Compiled,
    topology: &'a Topology,
    standing: &'a Standing,
    asked: &'a Asked,
    terms: Terms,
    /// Hash of the service and the client's key prefix.
    client: Hash,
    /// `client` and, by the kind of share, the window or the draw.
    key: Hash,
    trace: &'a mut T,
}

impl Compiled {
    /// Chooses the region and its endpoints for a client; their addresses replace what is in `addresses`.
    pub fn choose<T: Trace>(
        &self,
        topology: &Topology,
        standing: &Standing,
        asked: &Asked,
        addresses: &mut Vec<IpAddr>,
        trace: &mut T,
    ) -> Choice {
        addresses.clear();
        self.select(topology, standing, asked, addresses, trace)
    }

    /// As [`Compiled::choose`] for [`Family::Host`]: the endpoints themselves replace what is in `hosts`.
    pub fn choose_hosts<T: Trace>(
        &self,
        topology: &Topology,
        standing: &Standing,
        asked: &Asked,
        hosts: &mut Vec<Host>,
        trace: &mut T,
    ) -> Choice {
        hosts.clear();
        self.select(topology, standing, asked, hosts, trace)
    }

    fn select<S: Selection, T: Trace>(
        &self,
        topology: &Topology,
        standing: &Standing,
        asked: &Asked,
        into: &mut S,
        trace: &mut T,
    ) -> Choice {
        let terms = self.services[asked.service.0 as usize];
        let (ranking, prefix_len) = self.ranking(terms, asked.client);
        let client = self.client_hash(terms, asked.client);
        let key = share_key(terms, client, asked);
        let mut chooser = Chooser { compiled: self, topology, standing, asked, terms, client, key, trace };
        let (region, answer) = chooser.run(ranking, into);
        let scope = self.scope(chooser.is_keyed(ranking), asked.client, prefix_len);
        let ttl = if terms.ttl.is_computed() {
            terms.ttl.within(chooser.due(ranking, region).left(asked.unix))
        } else {
            terms.ttl.max
        };
        Choice { region, answer, ttl, scope }
    }

    /// Makes a choice as [`Compiled::choose`] does, and tells every stage of it: the ranking is worked out anew
    /// by the function that compiled it, the rest is `choose` itself.
    pub fn explain(
        &self,
        topology: &Topology,
        standing: &Standing,
        place: &Place,
        asked: &Asked,
        addresses: &mut Vec<IpAddr>,
    ) -> (Choice, Recording) {
        let mut recording = Recording::default();
        let ranking = rank(topology, topology.service(asked.service), place, &mut recording);
        debug_assert_eq!(&ranking, self.ranking(self.services[asked.service.0 as usize], asked.client).0);
        let choice = if asked.family == Family::Host {
            self.choose_hosts(topology, standing, asked, &mut Vec::new(), &mut recording)
        } else {
            self.choose(topology, standing, asked, addresses, &mut recording)
        };
        (choice, recording)
    }

    /// Hash of a service and the part of a client's address that its shares are keyed on.
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

    /// The scope of an answer: where the ranking holds, and no wider than a share key where one was drawn.
    fn scope(&self, is_keyed: bool, client: IpAddr, prefix_len: u8) -> u8 {
        if is_keyed { prefix_len.max(self.key_prefix.bits(client)) } else { prefix_len }
    }
}

/// What a client draws with. Windows are as long as the TTL, and each client's begin at a moment of its own,
/// so that a resolver's clients do not all move at once.
fn share_key(terms: Terms, client: Hash, asked: &Asked) -> Hash {
    match terms.share {
        Share::Hash => client,
        Share::Random => client.with(asked.draw),
        Share::Weighted => client.with(window(terms, client, asked.unix).0),
    }
}

/// The number of a client's time window at a moment, and when that window ends.
fn window(terms: Terms, client: Hash, now: Unix) -> (u64, Unix) {
    let length = u64::from(terms.ttl.max.0.max(1));
    let phase = client.with(1).0 % length;
    let number = (now.0.as_secs() + phase) / length;
    let end = (number + 1).saturating_mul(length).saturating_sub(phase);
    (number, Unix(Duration::from_secs(end)))
}

impl<T: Trace> Chooser<'_, T> {
    fn run<S: Selection>(&mut self, ranking: &Ranking, into: &mut S) -> (Option<RegionId>, Answer) {
        for pass in [Pass::Eligible, Pass::DrainedInPart, Pass::Unknown] {
            if let Some(found) = self.pass(pass, ranking, into) {
                return found;
            }
        }
        if ranking.groups.is_empty() {
            // Fenced off from every region: that is no outage.
            return self.instead(into).unwrap_or((None, Answer::NoData));
        }
        match &self.service().steering.all_down {
            AllDown::Servfail => (None, Answer::Servfail),
            AllDown::Fallback(_) | AllDown::Cname(_) => self.instead(into).unwrap_or((None, Answer::NoData)),
            AllDown::All => self.as_if_up(ranking, into),
            AllDown::LastGood(age) => {
                let last_good = self.last_good(*age).map(Pass::LastGood);
                last_good
                    .and_then(|pass| self.pass(pass, ranking, into))
                    .unwrap_or_else(|| self.as_if_up(ranking, into))
            }
        }
    }

    /// The service itself, for what only matters while no region serves.
    fn service(&self) -> &Service {
        self.topology.service(self.asked.service)
    }

    fn as_if_up<S: Selection>(&mut self, ranking: &Ranking, into: &mut S) -> (Option<RegionId>, Answer) {
        self.pass(Pass::AllDown, ranking, into)
            .or_else(|| self.pass(Pass::Anything, ranking, into))
            .unwrap_or((None, Answer::NoData))
    }

    /// What is answered in the place of regions, if the config names it.
    fn instead<S: Selection>(&self, into: &mut S) -> Option<(Option<RegionId>, Answer)> {
        let answer = match &self.service().steering.all_down {
            AllDown::Cname(_) => Answer::Alias,
            AllDown::Fallback(addresses) => {
                into.fall_back(addresses, self.asked.family);
                if into.is_empty() { Answer::NoData } else { Answer::Addresses }
            }
            AllDown::All | AllDown::LastGood(_) | AllDown::Servfail => return None,
        };
        Some((None, answer))
    }

    /// The earliest moment of last service that counts as last good.
    fn last_good(&self, age: Duration) -> Option<Unix> {
        let served = |id: RegionId| self.standing.region(id).last_served(self.asked.unix);
        let latest = self.service().members.iter().filter_map(|member| served(member.region)).max()?;
        let together = Unix(latest.0.saturating_sub(Duration::from_secs(LOST_TOGETHER_SECS)));
        (self.asked.unix.since(latest) <= age).then_some(together)
    }

    /// Tries the tie groups in order; the first with somebody who may be chosen decides.
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
                    self.trace.dropped(Stage::Eligible, ranked.region, || Why::LaterGroup);
                }
            } else {
                found = self.group(pass, group, into);
            }
            if found.is_some() && !T::LISTENS {
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
        if T::LISTENS {
            let lost = group.iter().filter(|ranked| ranked.region != winner);
            let lost: Vec<_> =
                lost.filter(|ranked| self.is_admitted(pass, ranked)).map(|r| r.region).collect();
            self.trace.kept(Stage::Share, winner, || Note::Won { among });
            for region in lost {
                self.trace.dropped(Stage::Share, region, || Why::LostDraw);
            }
        }
        Some((Some(winner), self.endpoints(pass, winner, into)))
    }

    /// Whether a region takes part in its group's draw, and at what part of its weight.
    fn admit(&mut self, pass: Pass, ranked: &RankedRegion) -> Option<f64> {
        let verdict = self.verdict(pass, ranked);
        match verdict {
            Ok((_, note)) => self.trace.kept(Stage::Eligible, ranked.region, || note),
            // Only the first pass tells why a region may not be used; later ones tell whom they let in.
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
    fn verdict(&self, pass: Pass, ranked: &RankedRegion) -> Result<(f64, Note), Why> {
        let region = self.standing.region(ranked.region);
        let pool = region.pool(self.asked.family);
        let word = self.standing.within(self.asked.service, ranked.region);
        let withdrawn = word.is_some_and(ServiceStanding::withdraws);
        let forced = region.action == Some(Action::Up) || word.is_some_and(|w| w.action == Action::Up);
        let usable = if withdrawn { Usable::No(Cause::Operator) } else { pool.usable };
        match pass {
            Pass::Eligible if forced && !withdrawn => Ok((1.0, Note::Forced)),
            Pass::Eligible => {
                let kept_away = region.kept_away.max(word.map_or(0.0, |w| w.kept_away));
                let factor = self.eligible(ranked.region, pool, usable)?;
                // Independent of the share's key: a drain keeps the same clients away from window to window.
                if kept_away > 0.0 && self.client.with(ranked.hash.0).with(2).unit() < kept_away {
                    return Err(Why::KeptAway(kept_away));
                }
                Ok(factor)
            }
            Pass::DrainedInPart => {
                let (factor, _) = self.eligible(ranked.region, pool, usable)?;
                Ok((factor, Note::DrainedInPart))
            }
            Pass::Unknown if usable == Usable::IfNothingElse => Ok((1.0, Note::Unknown)),
            Pass::LastGood(since)
                if region.last_served(self.asked.unix) >= Some(since)
                    && usable != Usable::No(Cause::Operator) =>
            {
                Ok((1.0, Note::AllDown))
            }
            Pass::AllDown
                if usable != Usable::No(Cause::Operator)
                    && !self.topology.region(ranked.region).is_unresolved() =>
            {
                Ok((1.0, Note::AllDown))
            }
            Pass::Anything => Ok((1.0, Note::AllDown)),
            _ => Err(Why::Unknown),
        }
    }

    fn eligible(&self, region: RegionId, pool: &Pool, usable: Usable) -> Result<(f64, Note), Why> {
        match usable {
            Usable::Full => Ok((1.0, Note::Plain)),
            Usable::Reduced => Ok((DEGRADED_SHARE, Note::Degraded)),
            Usable::IfNothingElse => Err(Why::Unknown),
            Usable::No(Cause::Probes(_)) if self.may_be_held(region, pool) => Ok((1.0, Note::Held)),
            Usable::No(cause) if self.standing.region(region).usable().is_eligible() => match cause {
                Cause::Probes(_) => Err(Why::FamilyDown(self.asked.family)),
                Cause::Operator => Err(Why::Withdrawn(cause)),
            },
            Usable::No(cause) => Err(Why::Withdrawn(cause)),
        }
    }

    /// Held by safety, and with something to answer that does not fail hard.
    fn may_be_held(&self, region: RegionId, pool: &Pool) -> bool {
        self.standing.is_held_for(self.asked.service, self.terms.set, region)
            && (!pool.configured || pool.best != HARD_DOWN)
    }

    /// Puts the region's endpoints into the answer.
    fn endpoints<S: Selection>(&self, pass: Pass, region: RegionId, into: &mut S) -> Answer {
        let standing = self.standing.region(region);
        let pool = standing.pool(self.asked.family);
        let every = &self.compiled.everything[usize::from(region.0)][self.asked.family as usize];
        let candidates: &[Candidate] = match pass {
            Pass::Eligible | Pass::DrainedInPart | Pass::Unknown if !pool.candidates.is_empty() => {
                &pool.candidates
            }
            _ => every,
        };
        let wanted = self.terms.answers as usize;
        if wanted >= candidates.len() {
            candidates.iter().for_each(|candidate| into.take(candidate));
        } else if wanted == 1 {
            let drawn = candidates.iter().map(|c| (c, endpoint_hash(c), c.weight));
            if let Some(winner) = rendezvous(self.key, drawn) {
                into.take(winner);
            }
        } else {
            self.draw_several(candidates, wanted, into);
        }
        if !into.is_empty() {
            Answer::Addresses
        } else if self.topology.region(region).is_unresolved() {
            // It has addresses, but nobody knows them: resolvers shall ask again, not keep that there are none.
            Answer::Servfail
        } else {
            Answer::NoData
        }
    }

    /// The `wanted` least draws, in their order. Quadratic in small numbers, and without allocating.
    fn draw_several<S: Selection>(&self, candidates: &[Candidate], wanted: usize, into: &mut S) {
        let mut least = f64::NEG_INFINITY;
        for _ in 0..wanted {
            let draws = candidates.iter().map(|c| (draw(self.key, endpoint_hash(c), c.weight), c));
            let next = draws.filter(|(drawn, _)| *drawn > least).min_by(|(a, _), (b, _)| a.total_cmp(b));
            let Some((drawn, candidate)) = next else { break };
            least = drawn;
            into.take(candidate);
        }
    }

    /// When any of what the choice was made by can change at the earliest.
    fn due(&mut self, ranking: &Ranking, region: Option<RegionId>) -> Due {
        let chosen = ranking.groups.iter().flatten().find(|ranked| Some(ranked.region) == region);
        let verdict = chosen.map(|ranked| self.verdict(Pass::Eligible, ranked));
        let is_held = matches!(verdict, Some(Ok((_, Note::Held))));
        let by_itself = matches!(verdict, Some(Ok(_))) && !is_held;
        let pool = region.map(|region| self.standing.region(region).pool(self.asked.family));
        let has_good = pool.is_some_and(|pool| !pool.configured || pool.best.serves());
        let withdrawn = matches!(verdict, Some(Err(Why::Withdrawn(_))));
        let serves = ranking.groups.is_empty() || (has_good && !is_held && !withdrawn);
        let mut due = Due::NEVER;
        for group in &ranking.groups {
            for ranked in group {
                // How hard failures are decides what is held in, and what of the down is answered: each look
                // may tell otherwise.
                let member = if serves {
                    self.standing.dues.of_member(self.asked.service, ranked.region)
                } else {
                    Due::ANY_TIME
                };
                let left = member.left(self.asked.unix);
                self.trace.kept(Stage::Ttl, ranked.region, || Note::MayChange(left));
                due = due.min(member);
            }
            // Who is eligible by itself was chosen whatever the groups behind it are.
            if by_itself && group.iter().any(|ranked| Some(ranked.region) == region) {
                break;
            }
        }
        if let Some(region) = region
            && self.terms.share == Share::Weighted
            && self.is_drawn(ranking, region)
        {
            let (_, end) = window(self.terms, self.client, self.asked.unix);
            self.trace.kept(Stage::Ttl, region, || Note::WindowEnds(end.since(self.asked.unix)));
            due = due.min(Due::at(end));
        }
        due
    }

    /// Whether a region, or what is answered of it, was drawn from several.
    fn is_drawn(&self, ranking: &Ranking, region: RegionId) -> bool {
        let endpoints = self.topology.region(region).endpoints.len();
        let among = |group: &[RankedRegion]| group.len() > 1 && group.iter().any(|r| r.region == region);
        endpoints > self.terms.answers as usize || ranking.groups.iter().any(|group| among(group))
    }

    /// Whether the client's key can make a difference under this ranking: then scopes are no wider than the key.
    fn is_keyed(&self, ranking: &Ranking) -> bool {
        ranking.ties
            || ranking.most_endpoints > self.terms.answers as usize
            || !self.standing.services.is_empty()
            || self.standing.drains_in_part
    }
}

/// An endpoint's identity is its place in the region: the region has been chosen already.
fn endpoint_hash(candidate: &Candidate) -> Hash {
    Hash(u64::from(candidate.endpoint.index)).with(3)
}
