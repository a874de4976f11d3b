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

use serde::Serialize;

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
#[derive(Debug, Serialize)]
pub(super) struct ZoneResult {
    zone: String,
    /// Whether there is nothing to change.
    pub(super) matches: bool,
    /// `None` if it cannot be found.
    parent: Option<String>,
    /// Why the parent cannot be found.
    why: Option<String>,
    /// The servers of the parent that answered.
    answered: Vec<String>,
    changes: Vec<Change>,
    unanswered: Vec<Unanswered>,
}

/// Something to change at the parent.
#[derive(Debug, Serialize)]
struct Change {
    /// What to do and why.
    change: String,
    /// The servers of the parent that differ.
    servers: Vec<String>,
}

/// A server of the parent that could not be queried.
#[derive(Debug, Serialize)]
struct Unanswered {
    server: String,
    why: String,
}

/// Checks the delegation of a zone.
pub(super) fn check(zone: &Served, asker: &Asker) -> ZoneResult {
    let origin = &zone.origin;
    let parent = match asker.parent_of(origin) {
        Ok(parent) => parent,
        Err(why) => {
            return ZoneResult {
                zone: origin.to_string(),
                matches: false,
                parent: None,
                why: Some(why.to_string()),
                answered: Vec::new(),
                changes: Vec::new(),
                unanswered: Vec::new(),
            };
        }
    };
    let answers = parent.servers.iter().map(|(name, address)| ParentAnswer {
        server: format!("{name} at {address}"),
        delegation: asker.delegation(*address, origin),
    });
    compare(origin, &parent.name, &own(zone), answers.collect())
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

fn compare(origin: &Name, parent: &Name, own: &Delegation, answers: Vec<ParentAnswer>) -> ZoneResult {
    let mut changes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut answered, mut unanswered) = (Vec::new(), Vec::new());
    for ParentAnswer { server, delegation } in answers {
        match delegation {
            Err(why) => unanswered.push(Unanswered { server, why }),
            Ok(theirs) => {
                for change in differences(origin, own, &theirs) {
                    changes.entry(change).or_default().push(server.clone());
                }
                answered.push(server);
            }
        }
    }
    ZoneResult {
        zone: origin.to_string(),
        matches: changes.is_empty() && !answered.is_empty(),
        parent: Some(parent.to_string()),
        why: None,
        answered,
        changes: changes.into_iter().map(|(change, servers)| Change { change, servers }).collect(),
        unanswered,
    }
}

impl ZoneResult {
    /// Sentences, with a line feed after each line.
    pub(super) fn text(&self) -> String {
        let origin = &self.zone;
        let Some(parent) = &self.parent else {
            let why = self.why.as_deref().unwrap_or_default();
            return format!("{origin}: its parent cannot be found: {why}\n");
        };
        let mut text = match (self.answered.as_slice(), self.changes.len()) {
            ([], _) => format!("{origin}: none of the name servers of {parent} could be queried\n"),
            (servers, 0) => {
                format!("{origin}: the delegation at {parent} matches the zone ({})\n", servers.join(", "))
            }
            (_, 1) => format!("{origin}: one thing to change at {parent}\n"),
            (_, many) => format!("{origin}: {many} things to change at {parent}\n"),
        };
        for Change { change, servers } in &self.changes {
            // A difference at only some of the servers is usually about to reach the others.
            let whose = if servers.len() == self.answered.len() {
                String::new()
            } else {
                format!(" ({})", servers.join(", "))
            };
            let _ = writeln!(text, "  {change}{whose}");
        }
        for Unanswered { server, why } in &self.unanswered {
            let _ = writeln!(text, "  {server} could not be queried: {why}");
        }
        text
    }
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
