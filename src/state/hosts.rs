//! The addresses of the hosts of endpoints, as reported by resolvers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::State;
use super::event::EventKind;
use crate::model::{Due, Found, Lookup, Name, Topology, Unix};

/// The maximum number of addresses used of one host; if it has more, the lowest of each family are used.
const MAX_ADDRESSES: usize = 16;

/// All hosts to resolve, with what is known of each.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts(BTreeMap<Name, KnownHost>);

/// What is known of a host.
#[derive(Clone, Debug, Default)]
pub struct KnownHost {
    /// The last good answer of each family, sorted.
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
    /// The addresses in use, of both families.
    addresses: Vec<IpAddr>,
    /// When it will be looked up again; `None` before the first lookup.
    next: Option<Unix>,
    failure: Option<LookupFailure>,
}

/// Why a host cannot be resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupFailure {
    /// The failure of the last lookup.
    pub why: String,
    /// When lookups began to fail.
    pub since: Unix,
}

/// What is known of a host that is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostStatus {
    /// The host.
    pub host: Name,
    /// The addresses in use, IPv4 before IPv6, each sorted; those of the last good answer, of this run or the last, while
    /// lookups fail.
    pub addresses: Vec<IpAddr>,
    /// Whether it has been looked up.
    pub is_looked_up: bool,
    /// Why the last lookup failed; `None` if it succeeded.
    pub failure: Option<LookupFailure>,
}

impl State {
    /// The addresses of the hosts whose addresses have changed since the last call, to be saved for a restart.
    pub fn take_changed_hosts(&mut self) -> BTreeMap<Name, Vec<IpAddr>> {
        let changed = std::mem::take(&mut self.changed_hosts).into_iter();
        let with_addresses = |host: Name| {
            let addresses = self.hosts.addresses(&host).to_vec();
            (host, addresses)
        };
        changed.map(with_addresses).collect()
    }
}

impl Hosts {
    /// Replaces the hosts by those of this topology; what is known of hosts that stay is kept.
    pub(super) fn set(&mut self, topology: &Topology) {
        let mut before = std::mem::take(&mut self.0);
        let hosts = topology.resolved_hosts().into_iter();
        self.0 = hosts.map(|host| (host.clone(), before.remove(host).unwrap_or_default())).collect();
    }

    /// Restores the addresses of the last run. They are used until a lookup succeeds.
    pub(super) fn restore(&mut self, saved: &BTreeMap<Name, Vec<IpAddr>>) {
        for (host, known) in &mut self.0 {
            if let Some(addresses) = saved.get(host) {
                (known.v4, known.v6) = addresses.iter().partition(|address| address.is_ipv4());
                known.use_lowest();
            }
        }
    }

    /// Whether every host has been looked up at least once.
    pub(super) fn all_looked_up(&self) -> bool {
        self.0.values().all(|known| known.next.is_some())
    }

    /// The addresses of a host, IPv4 before IPv6, each sorted; before the first good answer those of the last run, which
    /// may be none.
    pub(super) fn addresses(&self, host: &Name) -> &[IpAddr] {
        self.0.get(host).map_or(&[], |known| &known.addresses)
    }

    /// The status of each host, in order of name.
    pub(super) fn status(&self) -> Vec<HostStatus> {
        let status = |(host, known): (&Name, &KnownHost)| HostStatus {
            host: host.clone(),
            addresses: known.addresses.clone(),
            is_looked_up: known.next.is_some(),
            failure: known.failure.clone(),
        };
        self.0.iter().map(status).collect()
    }

    /// The earliest time at which the addresses of a host can change.
    pub(super) fn due(&self, host: &Name) -> Due {
        let next = self.0.get(host).and_then(|known| known.next);
        next.map_or(Due::ANY_TIME, Due::at)
    }

    /// Applies the result of a lookup. Returns an event if the addresses changed, or if failures began or ended.
    pub(super) fn apply(&mut self, host: Name, lookup: Lookup, now: Unix) -> Option<EventKind> {
        // The result may arrive after a reload that removed the host.
        let known = self.0.get_mut(&host)?;
        let (failing_since, before) = (known.failure.take().map(|it| it.since), known.addresses.clone());
        let was_failing = failing_since.is_some();
        known.next = Some(now.after(lookup.pause()));
        let failure = known.apply(lookup);
        let since = failing_since.unwrap_or(now);
        known.failure = failure.clone().map(|why| LookupFailure { why, since });
        let addresses = known.addresses.clone();
        match failure {
            Some(why) if !was_failing => Some(EventKind::Unresolved { host, why, kept: addresses }),
            Some(_) if addresses == before => None,
            None if addresses == before && !was_failing => None,
            _ => Some(EventKind::Resolved { host, addresses }),
        }
    }
}

impl KnownHost {
    /// A family whose lookup failed keeps its addresses. If the host has no address at all, both families do: that is
    /// more often a mistake in its zone than intended. Returns why the answer is incomplete, if it is.
    pub fn apply(&mut self, lookup: Lookup) -> Option<String> {
        let is_nothing = |found: &Result<Found, String>| !matches!(found, Ok(it) if !it.addresses.is_empty());
        // An answer is incomplete, too, if some of its addresses are not used.
        let problem = |found: &Result<Found, String>| match found {
            Ok(found) => found.refused.clone(),
            Err(why) => Some(why.clone()),
        };
        let failure = match (problem(&lookup.v4), problem(&lookup.v6)) {
            (Some(why), Some(other)) if why == other => Some(why),
            (Some(why), Some(other)) => Some(format!("IPv4: {why}; IPv6: {other}")),
            (Some(why), None) => Some(format!("IPv4: {why}")),
            (None, Some(why)) => Some(format!("IPv6: {why}")),
            (None, None) if is_nothing(&lookup.v4) && is_nothing(&lookup.v6) => {
                Some("it has no address".into())
            }
            (None, None) => None,
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
        self.use_lowest();
        failure
    }

    /// All addresses of the last good answers, IPv4 before IPv6, each sorted.
    pub fn all(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.iter().chain(&self.v6).copied()
    }

    fn use_lowest(&mut self) {
        // Addresses are sorted, so that all nodes use the same ones if there are too many. Each family leaves up to
        // half of the limit to the other.
        let limit = |other: &[IpAddr]| MAX_ADDRESSES - other.len().min(MAX_ADDRESSES / 2);
        let (v4, v6) = (self.v4.iter().take(limit(&self.v6)), self.v6.iter().take(limit(&self.v4)));
        self.addresses = v4.chain(v6).copied().collect();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn found(addresses: &[&str], ttl: u64) -> Result<Found, String> {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        Ok(Found { addresses, refused: None, ttl: Some(Duration::from_secs(ttl)) })
    }

    fn failed() -> Result<Found, String> {
        Err("timed out".into())
    }

    fn host() -> Name {
        "lb.example.net.".parse().expect("a name")
    }

    /// Applies these answers for one host. Returns the event of each, and the addresses after it.
    fn events(answers: Vec<(Result<Found, String>, Result<Found, String>)>) -> Vec<(Option<String>, String)> {
        let mut hosts = Hosts([(host(), KnownHost::default())].into());
        let mut reported = Vec::new();
        for (v4, v6) in answers {
            let event = hosts.apply(host(), Lookup { v4, v6 }, Unix::default());
            let addresses: Vec<_> = hosts.0[&host()].addresses.iter().map(ToString::to_string).collect();
            reported.push((event.map(|event| event.to_string()), addresses.join(" ")));
        }
        reported
    }

    #[test]
    fn failures_and_empty_answers_keep_the_last_good_one() {
        let reported = events(vec![
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
        for (reported, expected) in reported.iter().zip(expected) {
            assert_eq!((reported.0.as_deref(), &*reported.1), expected);
        }
    }

    #[test]
    fn an_answer_with_refused_addresses_is_incomplete() {
        let partly = |address| {
            found(&[address], 60)
                .map(|found| Found { refused: Some("10.0.0.1 is not public".into()), ..found })
        };
        let refused = || Err("10.0.0.1 is not public".into());
        let reported = events(vec![
            (found(&["192.0.2.1"], 60), found(&[], 60)),
            (refused(), found(&[], 60)),
            (partly("192.0.2.2"), found(&[], 60)),
            (partly("192.0.2.2"), found(&[], 60)),
            (found(&["192.0.2.2"], 60), found(&[], 60)),
        ]);
        let expected = [
            (Some("lb.example.net. has 192.0.2.1"), "192.0.2.1"),
            (
                Some("lb.example.net. cannot be resolved: IPv4: 10.0.0.1 is not public; kept: 192.0.2.1"),
                "192.0.2.1",
            ),
            (Some("lb.example.net. has 192.0.2.2"), "192.0.2.2"),
            (None, "192.0.2.2"),
            (Some("lb.example.net. has 192.0.2.2"), "192.0.2.2"),
        ];
        for (reported, expected) in reported.iter().zip(expected) {
            assert_eq!((reported.0.as_deref(), &*reported.1), expected);
        }
    }

    #[test]
    fn the_lowest_addresses_of_each_family_are_used() {
        let v4: Vec<String> = (1..=40).rev().map(|n| format!("192.0.2.{n}")).collect();
        let v4: Vec<&str> = v4.iter().map(String::as_str).collect();
        let v6: Vec<String> = (1..=9).map(|n| format!("2001:db8::{n}")).collect();
        let v6: Vec<&str> = v6.iter().map(String::as_str).collect();
        let reported = events(vec![(found(&v4, 60), found(&[], 60)), (found(&v4, 60), found(&v6, 60))]);
        let (mut alone, both) = (reported[0].1.split(' '), reported[1].1.split(' '));
        assert_eq!((alone.clone().count(), alone.next_back()), (16, Some("192.0.2.16")));
        let both: Vec<_> = both.collect();
        assert_eq!((both.len(), both[7], both[8], both[15]), (16, "192.0.2.8", "2001:db8::1", "2001:db8::8"));
    }
}
