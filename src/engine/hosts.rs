//! Endpoints by host name: what resolvers told of each host, and the tasks that ask them again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::event::EventKind;
use crate::model::{Name, Topology};
use crate::net::resolver::{Found, Lookup, Resolver};
use crate::snapshot::Plan;

/// The shortest time between two lookups of a host, however short its TTL, and the time to the next after a
/// failure.
const LEAST_TTL: Duration = Duration::from_secs(5);

/// The longest time between two lookups of a host, however long its TTL.
const MOST_TTL: Duration = Duration::from_secs(60 * 60);

/// The addresses taken of one host; of more, the least of each family.
const MOST_ADDRESSES: usize = 16;

/// Lookups under way at once; further ones wait their turn.
const LOOKUPS_AT_ONCE: usize = 32;

/// A host, and what came of a lookup.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) host: Name,
    pub(super) lookup: Lookup,
}

/// What is known of every host that is to be resolved.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts(BTreeMap<Name, Known>);

/// What is known of a host.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The last good answer of each family, sorted.
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
    /// Both of them, as they are used.
    addresses: Vec<IpAddr>,
    /// Whether anything was told of it, good or bad.
    is_asked: bool,
    is_failing: bool,
}

impl Hosts {
    /// From now on exactly the hosts of this topology; what is known of those that stay is kept.
    pub(super) fn set(&mut self, topology: &Topology) {
        let mut before = std::mem::take(&mut self.0);
        let hosts = topology.resolved_hosts().into_iter();
        self.0 = hosts.map(|host| (host.clone(), before.remove(host).unwrap_or_default())).collect();
    }

    /// Whether every host has been asked for once.
    pub(super) fn all_asked(&self) -> bool {
        self.0.values().all(|known| known.is_asked)
    }

    /// The plan with the addresses known; `None` if it has them already.
    pub(super) fn resolved(&self, plan: &Plan) -> Option<Arc<Plan>> {
        let known = |host: &Name| self.0.get(host).map_or(&[][..], |known| &known.addresses);
        let mut endpoints = plan.topology.regions.iter().flat_map(|region| &region.endpoints);
        let is_new = endpoints.any(|it| it.resolved_host().is_some_and(|host| it.addresses != known(host)));
        is_new.then(|| Arc::new(plan.resolved(known)))
    }

    /// Takes an answer in, and tells what is new: other addresses, the first failure, the end of failures.
    pub(super) fn take_in(&mut self, Answered { host, lookup }: Answered) -> Option<EventKind> {
        // An answer may come in after a reload that needs it no longer.
        let known = self.0.get_mut(&host)?;
        let (was_failing, before) = (known.is_failing, known.addresses.clone());
        let failure = known.take_in(lookup);
        known.is_asked = true;
        known.is_failing = failure.is_some();
        let addresses = known.addresses.clone();
        match failure {
            Some(why) if !was_failing => Some(EventKind::Unresolved { host, why, kept: addresses }),
            Some(_) if addresses == before => None,
            None if addresses == before && !was_failing => None,
            _ => Some(EventKind::Resolved { host, addresses }),
        }
    }
}

impl Known {
    /// A family that cannot be had keeps what it had, and so do both where the host has no address at all: that
    /// is more often a mistake of its zone than meant. Returns why the answer is not whole.
    fn take_in(&mut self, lookup: Lookup) -> Option<String> {
        let is_nothing = |found: &Result<Found, String>| !matches!(found, Ok(it) if !it.addresses.is_empty());
        let failure = match (&lookup.v4, &lookup.v6) {
            (Err(why), Err(other)) if why == other => Some(why.clone()),
            (Err(why), Err(other)) => Some(format!("IPv4: {why}; IPv6: {other}")),
            (Err(why), Ok(_)) => Some(format!("IPv4: {why}")),
            (Ok(_), Err(why)) => Some(format!("IPv6: {why}")),
            (Ok(_), Ok(_)) if is_nothing(&lookup.v4) && is_nothing(&lookup.v6) => {
                Some("it has no address".into())
            }
            (Ok(_), Ok(_)) => None,
        };
        if is_nothing(&lookup.v4) && is_nothing(&lookup.v6) {
            return failure;
        }
        let known = [(&mut self.v4, lookup.v4), (&mut self.v6, lookup.v6)];
        for (kept, found) in known.into_iter().filter_map(|(kept, found)| Some((kept, found.ok()?))) {
            *kept = found.addresses;
            kept.sort_unstable();
            kept.dedup();
        }
        // Sorted, so that all nodes take the same of too many; a family leaves the other half of the room.
        let room = |other: &[IpAddr]| MOST_ADDRESSES - other.len().min(MOST_ADDRESSES / 2);
        let (v4, v6) = (self.v4.iter().take(room(&self.v6)), self.v6.iter().take(room(&self.v4)));
        self.addresses = v4.chain(v6).copied().collect();
        failure
    }
}

/// The tasks that ask, one for each host.
#[derive(Debug)]
pub(super) struct Asking {
    answers: mpsc::Sender<Answered>,
    tasks: JoinSet<()>,
}

impl Asking {
    pub(super) fn new(answers: mpsc::Sender<Answered>) -> Self {
        Self { answers, tasks: JoinSet::new() }
    }

    /// From now on exactly these hosts are asked for, of this resolver, the first time at once.
    pub(super) fn set(&mut self, hosts: &Hosts, resolver: Option<Resolver>) {
        // Dropped, the tasks before end.
        self.tasks = JoinSet::new();
        let Some(resolver) = resolver.map(Arc::new) else { return };
        let turns = Arc::new(Semaphore::new(LOOKUPS_AT_ONCE));
        for host in hosts.0.keys() {
            let (host, resolver, turns) = (host.clone(), Arc::clone(&resolver), Arc::clone(&turns));
            let look_up = move |host: Name| {
                let (resolver, turns) = (Arc::clone(&resolver), Arc::clone(&turns));
                async move {
                    let _turn = turns.acquire().await;
                    let lookup = resolver.addresses(&host).await;
                    Answered { host, lookup }
                }
            };
            self.tasks.spawn(again_and_again(host, look_up, self.answers.clone()));
        }
    }
}

/// Looks a host up, and again whenever the answer runs out, until nobody takes answers any more.
async fn again_and_again<F: Future<Output = Answered>>(
    host: Name,
    look_up: impl Fn(Name) -> F,
    answers: mpsc::Sender<Answered>,
) {
    loop {
        let answered = look_up(host.clone()).await;
        let pause = pause(&answered.lookup);
        if answers.send(answered).await.is_err() {
            return;
        }
        sleep(pause).await;
    }
}

/// How long an answer is good for.
fn pause(lookup: &Lookup) -> Duration {
    let (Ok(v4), Ok(v6)) = (&lookup.v4, &lookup.v6) else { return LEAST_TTL };
    let least = [v4.ttl, v6.ttl].into_iter().flatten().min();
    least.unwrap_or(LEAST_TTL).clamp(LEAST_TTL, MOST_TTL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Endpoint, Region};

    fn found(addresses: &[&str], ttl: u64) -> Result<Found, String> {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        Ok(Found { addresses, ttl: Some(Duration::from_secs(ttl)) })
    }

    fn failed() -> Result<Found, String> {
        Err("timed out".into())
    }

    fn host() -> Name {
        "lb.example.net.".parse().expect("a name")
    }

    /// One host, told of by these answers: what is said of each, and the addresses after it.
    fn told(answers: Vec<(Result<Found, String>, Result<Found, String>)>) -> Vec<(Option<String>, String)> {
        let mut hosts = Hosts([(host(), Known::default())].into());
        let mut said = Vec::new();
        for (v4, v6) in answers {
            let event = hosts.take_in(Answered { host: host(), lookup: Lookup { v4, v6 } });
            let addresses: Vec<_> = hosts.0[&host()].addresses.iter().map(ToString::to_string).collect();
            said.push((event.map(|event| event.to_string()), addresses.join(" ")));
        }
        said
    }

    #[test]
    fn failures_and_empty_answers_keep_the_last_good_one() {
        let said = told(vec![
            (found(&["192.0.2.2", "192.0.2.1", "192.0.2.2"], 60), found(&["2001:db8::1"], 60)),
            (found(&["192.0.2.1", "192.0.2.2"], 60), found(&["2001:db8::1"], 60)),
            (failed(), failed()),
            (found(&[], 60), found(&[], 60)),
            (failed(), found(&[], 60)),
            (found(&["192.0.2.3"], 60), failed()),
            (found(&["192.0.2.3"], 60), found(&["2001:db8::1"], 60)),
            (found(&[], 60), found(&["2001:db8::2"], 60)),
        ]);
        let expected = [
            (
                Some("lb.example.net. has 192.0.2.1, 192.0.2.2, 2001:db8::1"),
                "192.0.2.1 192.0.2.2 2001:db8::1",
            ),
            (None, "192.0.2.1 192.0.2.2 2001:db8::1"),
            (
                Some(
                    "lb.example.net. cannot be resolved: timed out; kept: 192.0.2.1, 192.0.2.2, 2001:db8::1",
                ),
                "192.0.2.1 192.0.2.2 2001:db8::1",
            ),
            (None, "192.0.2.1 192.0.2.2 2001:db8::1"),
            (None, "192.0.2.1 192.0.2.2 2001:db8::1"),
            (Some("lb.example.net. has 192.0.2.3, 2001:db8::1"), "192.0.2.3 2001:db8::1"),
            (Some("lb.example.net. has 192.0.2.3, 2001:db8::1"), "192.0.2.3 2001:db8::1"),
            (Some("lb.example.net. has 2001:db8::2"), "2001:db8::2"),
        ];
        for (said, expected) in said.iter().zip(expected) {
            assert_eq!((said.0.as_deref(), &*said.1), expected);
        }
    }

    #[test]
    fn of_too_many_the_least_of_each_family_are_taken() {
        let v4: Vec<String> = (1..=40).rev().map(|n| format!("192.0.2.{n}")).collect();
        let v4: Vec<&str> = v4.iter().map(String::as_str).collect();
        let v6: Vec<String> = (1..=9).map(|n| format!("2001:db8::{n}")).collect();
        let v6: Vec<&str> = v6.iter().map(String::as_str).collect();
        let said = told(vec![(found(&v4, 60), found(&[], 60)), (found(&v4, 60), found(&v6, 60))]);
        let (mut alone, both) = (said[0].1.split(' '), said[1].1.split(' '));
        assert_eq!((alone.clone().count(), alone.next_back()), (16, Some("192.0.2.16")));
        let both: Vec<_> = both.collect();
        assert_eq!((both.len(), both[7], both[8], both[15]), (16, "192.0.2.8", "2001:db8::1", "2001:db8::8"));
    }

    #[test]
    fn a_reload_keeps_what_is_known_and_forgets_what_is_gone() {
        let endpoint = |host: Name| Endpoint {
            name: "a".into(),
            addresses: Vec::new(),
            host: Some(host),
            is_resolved: true,
            weight: crate::model::Weight(1),
            probes: Vec::new(),
        };
        let region = |host: Name| Region {
            name: "r".into(),
            location: crate::model::Location::default(),
            capacity: None,
            healthy_when: crate::model::Need::Any,
            require: Vec::new(),
            endpoints: vec![endpoint(host)],
        };
        let topology = |host: Name| Topology { regions: vec![region(host)], ..Topology::default() };
        let mut hosts = Hosts::default();
        hosts.set(&topology(host()));
        assert!(!hosts.all_asked());
        let lookup = Lookup { v4: found(&["192.0.2.1"], 60), v6: found(&[], 60) };
        hosts.take_in(Answered { host: host(), lookup: lookup.clone() });
        hosts.set(&topology(host()));
        let plan = Arc::new(Plan { topology: topology(host()), ..Plan::default() });
        let addresses =
            |hosts: &Hosts| Some(hosts.resolved(&plan)?.topology.regions[0].endpoints[0].addresses.clone());
        assert_eq!(addresses(&hosts), Some(vec![IpAddr::from([192, 0, 2, 1])]));
        assert!(hosts.all_asked());
        hosts.set(&topology("other.example.net.".parse().expect("a name")));
        assert!(hosts.take_in(Answered { host: host(), lookup }).is_none(), "nobody needs it any more");
        assert!(addresses(&hosts).is_none() && !hosts.all_asked());
    }

    #[tokio::test(start_paused = true)]
    async fn lookups_follow_the_ttl_within_bounds() {
        let ttls = [(0, 60), (30, 20), (1_000_000, 2_000_000)];
        let mut lookups: Vec<Lookup> = ttls
            .iter()
            .map(|(v4, v6)| Lookup { v4: found(&["192.0.2.1"], *v4), v6: found(&[], *v6) })
            .collect();
        lookups.push(Lookup { v4: failed(), v6: found(&["2001:db8::1"], 600) });
        lookups.push(Lookup { v4: found(&["192.0.2.1"], 60), v6: found(&[], 60) });
        let lookups = std::sync::Mutex::new(lookups.into_iter());
        let (answers, mut queue) = mpsc::channel(1);
        let look_up = async |host| {
            let lookup = lookups.lock().expect("no panic").next().expect("no lookup too many");
            Answered { host, lookup }
        };
        let asking = again_and_again(host(), look_up, answers);
        let times = async {
            let start = tokio::time::Instant::now();
            let mut times = Vec::new();
            for _ in 0..5 {
                queue.recv().await.expect("an answer");
                times.push(start.elapsed().as_secs());
            }
            times
        };
        let times = tokio::select! {
            () = asking => panic!("it ended"),
            times = times => times,
        };
        assert_eq!(times, [0, 5, 25, 25 + 3600, 25 + 3600 + 5]);
    }
}
