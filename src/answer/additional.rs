//! Addresses that go with an answer or a referral (RFC 1034 §4.3.2 step 6).

use crate::wire::{LowerName, Owner, Section, Writer};
use crate::zone::{Node, RRset, Served, Zones, rtype};

/// The most records of an RRset whose target addresses are added.
const MAX_TARGETS: usize = 16;
/// Priority of an SVCB or HTTPS record in AliasMode (RFC 9460 §2.4.1).
const ALIAS_MODE: &[u8] = &[0, 0];
const ROOT: &[u8] = &[0];

/// The name that a record refers to, in the case of its data. SVCB may refer to its own owner.
fn target<'a>(rtype: u16, rdata: &'a [u8], owner: &'a [u8]) -> Option<&'a [u8]> {
    match rtype {
        rtype::NS => Some(rdata),
        rtype::MX => rdata.get(2..),
        rtype::SRV => rdata.get(6..),
        rtype::SVCB | rtype::HTTPS => {
            let (priority, rest) = rdata.split_at_checked(2)?;
            let length = LowerName::of(rest)?.as_wire().len();
            match &rest[..length] {
                // RFC 9460 §2.5: "." is no service at all in AliasMode and the owner in ServiceMode.
                ROOT if priority == ALIAS_MODE => None,
                ROOT => Some(owner),
                target => Some(target),
            }
        }
        _ => None,
    }
}

/// Adds the addresses of the names that an RRset refers to, as far as zones here have them. Addresses of dynamic
/// names need a query of their own, which steering answers.
pub(super) fn addresses(zones: &Zones, owner: &[u8], set: &RRset, writer: &mut Writer<'_>) {
    let records = || set.rdata.iter().take(MAX_TARGETS);
    let targets = || records().filter_map(|rdata| target(set.rtype, rdata, owner));
    for (index, target) in targets().enumerate() {
        // Several records may have one target, such as the ports of a host: the first adds it.
        if targets().take(index).any(|before| before.eq_ignore_ascii_case(target)) {
            continue;
        }
        let Some(node) = zones.find(target).node() else { continue };
        // RFC 9460 §4.1: "A, AAAA, and SVCB RRs ... for any TargetNames that are in the zone".
        let is_service = matches!(set.rtype, rtype::SVCB | rtype::HTTPS);
        if let Some(next) = node.rrset(set.rtype).filter(|next| is_service && !std::ptr::eq(*next, set)) {
            writer.rrset(Section::Additional, Owner::Name(target), next);
        }
        write_addresses(Section::Additional, target, node, writer);
    }
}

/// Adds the addresses of one name, as far as zones here have them.
pub(super) fn addresses_of(zones: &Zones, target: &[u8], writer: &mut Writer<'_>) {
    if let Some(node) = zones.find(target).node() {
        write_addresses(Section::Additional, target, node, writer);
    }
}

/// Adds glue to a referral: it must have all addresses of name servers below the cut (RFC 9471 §3), and may have
/// others of the zone.
pub(super) fn glue(zone: &Served, cut: &[u8], servers: &RRset, writer: &mut Writer<'_>) {
    // Required glue goes first, so that optional addresses do not take its place.
    for (section, most) in [(Section::Glue, usize::MAX), (Section::Additional, MAX_TARGETS)] {
        for target in servers.rdata.iter().take(most) {
            if writer.is_truncated() {
                return;
            }
            let is_below = is_at_or_below(target, cut);
            if is_below != (section == Section::Glue) {
                continue;
            }
            if let Some(node) = zone.node(target) {
                write_addresses(section, target, node, writer);
            }
        }
    }
}

fn write_addresses(section: Section, target: &[u8], node: &Node, writer: &mut Writer<'_>) {
    for rtype in [rtype::A, rtype::AAAA] {
        if let Some(set) = node.rrset(rtype) {
            writer.rrset(section, Owner::Name(target), set);
        }
    }
}

/// Whether a name equals another or lies below it.
fn is_at_or_below(name: &[u8], ancestor: &[u8]) -> bool {
    let mut rest = name;
    loop {
        if rest.len() <= ancestor.len() {
            return rest.eq_ignore_ascii_case(ancestor);
        }
        rest = &rest[usize::from(rest[0]) + 1..];
    }
}
