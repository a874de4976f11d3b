//! `portolan check --delegation`: compares each zone's delegation at its parent with the zone itself.
//!
//! `ask` finds the parent and queries its servers; this compares and reports.

mod ask;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

pub(super) use ask::Asker;

use crate::model::Name;
use crate::zone::{Served, rtype};

/// Name servers and their addresses, as a zone or its parent has them.
#[derive(Debug, Default)]
struct Delegation {
    servers: BTreeSet<Name>,
    addresses: BTreeMap<Name, BTreeSet<IpAddr>>,
    /// Key tags of DS records.
    signers: BTreeSet<u16>,
}

/// The answer of one of the parent's servers, or why there is none.
struct ParentAnswer {
    server: String,
    delegation: Result<Delegation, String>,
}

/// The outcome of a zone's check.
pub(super) struct ZoneResult {
    /// Sentences, with a line feed after each line.
    pub(super) text: String,
    /// Whether there is nothing to change.
    pub(super) is_good: bool,
}

/// Checks the delegation of a zone.
pub(super) fn check(zone: &Served, asker: &Asker) -> ZoneResult {
    let origin = &zone.origin;
    let parent = match asker.parent_of(origin) {
        Ok(parent) => parent,
        Err(why) => {
            return ZoneResult {
                text: format!("{origin}: its parent cannot be found: {why}\n"),
                is_good: false,
            };
        }
    };
    let answers = parent.servers.iter().map(|(name, address)| ParentAnswer {
        server: format!("{name} at {address}"),
        delegation: asker.delegation(*address, origin),
    });
    compare(origin, &parent.name, &own(zone), &answers.collect::<Vec<_>>())
}

/// The name servers that a zone names, with its addresses of those within it.
fn own(zone: &Served) -> Delegation {
    let servers = zone.apex().rrset(rtype::NS).into_iter().flat_map(|set| &set.rdata);
    let servers: BTreeSet<Name> = servers.filter_map(|rdata| Name::from_wire(rdata).ok()).collect();
    let addresses = |name: &Name| {
        let node = zone.node(name.as_wire())?;
        let v4 = node.rrset(rtype::A).into_iter().flat_map(|set| &set.rdata);
        let v4 = v4.filter_map(|rdata| <[u8; 4]>::try_from(&**rdata).ok()).map(IpAddr::from);
        let v6 = node.rrset(rtype::AAAA).into_iter().flat_map(|set| &set.rdata);
        let v6 = v6.filter_map(|rdata| <[u8; 16]>::try_from(&**rdata).ok()).map(IpAddr::from);
        Some((name.clone(), v4.chain(v6).collect()))
    };
    let addresses = servers.iter().filter_map(addresses).collect();
    Delegation { servers, addresses, signers: BTreeSet::new() }
}

fn compare(origin: &Name, parent: &Name, own: &Delegation, answers: &[ParentAnswer]) -> ZoneResult {
    let mut changes: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut failures = String::new();
    let mut answered = Vec::new();
    for ParentAnswer { server, delegation } in answers {
        match delegation {
            Err(why) => {
                let _ = writeln!(failures, "  {server} could not be queried: {why}");
            }
            Ok(theirs) => {
                answered.push(server.as_str());
                for change in differences(origin, own, theirs) {
                    changes.entry(change).or_default().push(server);
                }
            }
        }
    }
    let is_good = changes.is_empty() && !answered.is_empty();
    let mut text = match (answered.as_slice(), changes.len()) {
        ([], _) => format!("{origin}: none of the name servers of {parent} could be queried\n"),
        (_, 0) => {
            format!("{origin}: the delegation at {parent} matches the zone ({})\n", answered.join(", "))
        }
        (_, 1) => format!("{origin}: one thing to change at {parent}\n"),
        (_, many) => format!("{origin}: {many} things to change at {parent}\n"),
    };
    for (change, servers) in &changes {
        // A difference at only some of the servers is usually about to reach the others.
        let whose = if servers.len() == answered.len() {
            String::new()
        } else {
            format!(" ({})", servers.join(", "))
        };
        let _ = writeln!(text, "  {change}{whose}");
    }
    ZoneResult { text: text + &failures, is_good }
}

/// What to change at the parent so that it matches the zone.
fn differences(origin: &Name, own: &Delegation, theirs: &Delegation) -> Vec<String> {
    let mut changes = Vec::new();
    let none = BTreeSet::new();
    for server in own.servers.difference(&theirs.servers) {
        changes.push(format!("add `{origin} NS {server}`: the zone names this server"));
    }
    for server in theirs.servers.difference(&own.servers) {
        changes.push(format!(
            "remove `{origin} NS {server}`, or add it to the zone: the zone does not name this server"
        ));
    }
    for server in own.servers.iter().filter(|server| server.is_at_or_below(origin)) {
        let ours = own.addresses.get(server).unwrap_or(&none);
        let glue = theirs.addresses.get(server).unwrap_or(&none);
        for address in ours.difference(glue) {
            let why = if glue.is_empty() {
                "without it resolvers cannot find this server"
            } else {
                "the zone has this address"
            };
            changes.push(format!("add the glue `{server} {} {address}`: {why}", type_of(*address)));
        }
        for address in glue.difference(ours) {
            changes.push(format!(
                "remove the glue `{server} {} {address}`: the zone does not have this address",
                type_of(*address)
            ));
        }
    }
    for tag in &theirs.signers {
        changes.push(format!(
            "remove `{origin} DS {tag} …`: the zone is not signed, so validating resolvers refuse every answer"
        ));
    }
    changes
}

fn type_of(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "A" } else { "AAAA" }
}
