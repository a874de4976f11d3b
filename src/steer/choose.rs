//! The choice for one query: which regions of a ranking may be used right now, and which one of a tie group gets
//! the client.

use std::net::IpAddr;
use std::time::Duration;

use super::admission::{Admission, Admitted, Pass};
use super::compiled::{Compiled, Terms};
use super::rank::{RankedRegion, Ranking, rank};
use super::selection::{Host, Selection};
use super::trace::{DropReason, Note, Recording, Stage, Trace};
use crate::geo::Place;
use crate::model::{AllDown, Family, RegionId, ServiceId, Share, Topology, Ttl, Unix};
use crate::pick::{Hash, draw, rendezvous};
use crate::standing::{Candidate, LastGood, Pool, Standing};

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

/// The working state of one choice.
pub(super) struct Chooser<'a, T> {
    pub(super) admission: Admission<'a>,
    pub(super) request: &'a SteeringRequest,
    pub(super) terms: Terms,
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
        let &SteeringRequest { service, family, unix, .. } = request;
        let admission = Admission { topology, standing, service, family, unix, set };
        let mut chooser = Chooser { admission, request, terms, client, key, trace };
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
        for pass in Pass::USUAL {
            if let Some(found) = self.pass(pass, ranking, into) {
                return found;
            }
        }
        if ranking.groups.is_empty() {
            // Fences exclude the client from every region: this is not an outage.
            return self.configured_fallback(into).unwrap_or((None, Answer::NoData));
        }
        let resorts = self.admission.resorts(ranking).into_iter().flatten();
        if let Some(found) = resorts.into_iter().find_map(|pass| self.pass(pass, ranking, into)) {
            return found;
        }
        // Without a fallback SERVFAIL, so that resolvers ask again instead of caching a negative answer.
        self.configured_fallback(into).unwrap_or((None, Answer::Servfail))
    }

    /// The answer configured for when no region serves (`fallback` or `cname`), if any.
    fn configured_fallback<S: Selection>(&self, into: &mut S) -> Option<(Option<RegionId>, Answer)> {
        let answer = match &self.admission.service().steering.all_down {
            AllDown::Cname(_) => Answer::Alias,
            AllDown::Fallback(addresses) => {
                into.add_fallback(addresses, self.request.family);
                if into.is_empty() { Answer::NoData } else { Answer::Endpoints }
            }
            AllDown::All | AllDown::LastGood(_) | AllDown::Servfail => return None,
        };
        Some((None, answer))
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
        let Admitted { factor, note, drained_share } = self.admission.admits(pass, ranked.region)?;
        // Independent of the share key, so that a drain keeps the same clients away in every window.
        if drained_share > 0.0 && self.client.with(ranked.hash.0).with(2).unit() < drained_share {
            return Err(DropReason::PartlyDrained(drained_share));
        }
        Ok((factor, note))
    }

    /// Adds the region's endpoints to the answer.
    fn endpoints<S: Selection>(&self, pass: Pass, region: RegionId, into: &mut S) -> Answer {
        let pool = self.admission.standing.region(region).pool(self.request.family);
        self.draw(candidates(pool, pass), into);
        if !into.is_empty() {
            Answer::Endpoints
        } else if self.admission.standing.region(region).unresolved {
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
        let mut own = self.admission.standing.overrides_of(self.request.service).iter();
        let mut regions = ranking.groups.iter().flatten();
        draws
            || own.any(|it| it.action.is_partial())
            || regions.any(|ranked| self.admission.standing.region(ranked.region).drained_share() > 0.0)
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
