//! `portolan check --delegation`: what the parent's name servers say of each zone, held to the zone itself.
//!
//! Finding the parent and asking its servers is `ask`; here is what is compared and what is said of it.

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

/// What one of the parent's servers said, or why it said nothing.
struct Told {
    server: String,
    said: Result<Delegation, String>,
}

/// What was found out about a zone's delegation.
pub(super) struct Verdict {
    /// Sentences, each line ended.
    pub(super) text: String,
    /// Whether there is nothing to change.
    pub(super) is_good: bool,
}

/// Asks the parent about a zone.
pub(super) fn check(zone: &Served, asker: &Asker) -> Verdict {
    let origin = &zone.origin;
    let parent = match asker.parent_of(origin) {
        Ok(parent) => parent,
        Err(why) => {
            return Verdict {
                text: format!("{origin}: its parent cannot be found: {why}\n"),
                is_good: false,
            };
        }
    };
    let told = parent.servers.iter().map(|(name, address)| Told {
        server: format!("{name} at {address}"),
        said: asker.delegation(*address, origin),
    });
    compare(origin, &parent.name, &own(zone), &told.collect::<Vec<_>>())
}

/// The name servers that a zone itself names, with the addresses that it has of those within it.
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

fn compare(origin: &Name, parent: &Name, own: &Delegation, told: &[Told]) -> Verdict {
    let mut changes: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut silent = String::new();
    let mut heard = Vec::new();
    for Told { server, said } in told {
        match said {
            Err(why) => {
                let _ = writeln!(silent, "  {server} could not be asked: {why}");
            }
            Ok(theirs) => {
                heard.push(server.as_str());
                for change in differences(origin, own, theirs) {
                    changes.entry(change).or_default().push(server);
                }
            }
        }
    }
    let is_good = changes.is_empty() && !heard.is_empty();
    let mut text = match (heard.as_slice(), changes.len()) {
        ([], _) => format!("{origin}: none of the name servers of {parent} could be asked\n"),
        (_, 0) => format!("{origin}: {parent} delegates it as the zone says ({})\n", heard.join(", ")),
        (_, 1) => format!("{origin}: one thing to change at {parent}\n"),
        (_, many) => format!("{origin}: {many} things to change at {parent}\n"),
    };
    for (change, servers) in &changes {
        // What is wrong at some of the servers alone is usually on its way to the others.
        let whose =
            if servers.len() == heard.len() { String::new() } else { format!(" ({})", servers.join(", ")) };
        let _ = writeln!(text, "  {change}{whose}");
    }
    Verdict { text: text + &silent, is_good }
}

/// What to change at the parent so that it says what the zone says.
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
                "without it nobody finds this server"
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
