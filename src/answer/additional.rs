//! Addresses that go with an answer or a referral (RFC 1034 §4.3.2 step 6).

use hickory_proto::ProtoError;

use crate::wire::{LowerName, Owner, Section, Writer};
use crate::zone::{Found, Node, RRset, Served, Zones, rtype};

/// Targets of one RRset whose addresses are looked up.
const MAX_TARGETS: usize = 16;

/// The names that records of a type refer to, with the offset of the name in their data.
fn targets(set: &RRset) -> impl Iterator<Item = &[u8]> {
    let offset = match set.rtype {
        rtype::NS => Some(0),
        rtype::MX => Some(2),
        rtype::SRV => Some(6),
        _ => None,
    };
    let data =
        offset.into_iter().flat_map(|offset| set.rdata.iter().filter_map(move |rdata| rdata.get(offset..)));
    data.take(MAX_TARGETS)
}

/// Adds the addresses, as far as zones here have them, of what an RRset refers to. Those of dynamic names are
/// left to a query of their own, which steering answers for its asker.
pub(super) fn addresses(zones: &Zones, set: &RRset, writer: &mut Writer<'_>) -> Result<(), ProtoError> {
    targets(set).try_for_each(|target| addresses_of(zones, target, writer))
}

/// The same of one name.
pub(super) fn addresses_of(zones: &Zones, target: &[u8], writer: &mut Writer<'_>) -> Result<(), ProtoError> {
    let Some(name) = LowerName::of(target) else { return Ok(()) };
    if let Found::Node { node, .. } | Found::Wildcard { node, .. } = zones.find(name.as_wire()) {
        write(Section::Additional, target, node, writer)?;
    }
    Ok(())
}

/// Adds glue to a referral: addresses of name servers below the cut must be in it, others of the zone may.
pub(super) fn glue(
    zone: &Served,
    cut: &[u8],
    servers: &RRset,
    writer: &mut Writer<'_>,
) -> Result<(), ProtoError> {
    // What must be in goes first, so that what may be does not take its room.
    for section in [Section::Glue, Section::Additional] {
        for target in targets(servers) {
            let Some(name) = LowerName::of(target) else { continue };
            let is_below = is_at_or_below(name.as_wire(), cut);
            if is_below != (section == Section::Glue) {
                continue;
            }
            if let Some(node) = zone.node(name.as_wire()) {
                write(section, target, node, writer)?;
            }
        }
    }
    Ok(())
}

fn write(section: Section, target: &[u8], node: &Node, writer: &mut Writer<'_>) -> Result<(), ProtoError> {
    for rtype in [rtype::A, rtype::AAAA] {
        if let Some(set) = node.rrset(rtype) {
            writer.rrset(section, Owner::Name(target), set)?;
        }
    }
    Ok(())
}

/// Whether a name is another or lies below it.
fn is_at_or_below(name: &[u8], ancestor: &[u8]) -> bool {
    let mut rest = name;
    loop {
        if rest.len() <= ancestor.len() {
            return rest == ancestor;
        }
        rest = &rest[usize::from(rest[0]) + 1..];
    }
}
