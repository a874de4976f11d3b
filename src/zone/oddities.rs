//! What works, but probably not as intended: each is a warning.

use super::check::{Draft, has};
use super::scan::Position;
use super::{RRset, parameters, rtype, type_name};
use crate::model::Name;

/// Warns of the oddities at one name.
pub(super) fn warn(
    origin: &Name,
    name: &Name,
    sets: &[(RRset, Position)],
    draft: &Draft,
    warn: &mut dyn FnMut(Position, String),
) {
    for (set, at) in sets {
        match set.rtype {
            rtype::NS => {
                for server in set.rdata.iter().filter_map(|rdata| Name::from_wire(rdata).ok()) {
                    if is_unknown(origin, name, &server, draft) {
                        warn(*at, format!("no address for the name server {server} of {name}"));
                    }
                }
            }
            // RFC 6672 §2.3; the name is served as a delegation.
            rtype::DNAME if name != origin && has(sets, rtype::NS) => {
                warn(*at, format!("the DNAME at {name} has no effect beside its delegation (RFC 6672 §2.3)"));
            }
            rtype::DNAME if name.is_wildcard() => {
                warn(
                    *at,
                    format!("the DNAME redirects nothing but names below {name} itself (RFC 6672 §3.3)"),
                );
            }
            rtype::SVCB | rtype::HTTPS if set.rdata.iter().any(|rdata| lacks_alpn(rdata)) => {
                warn(
                    *at,
                    "no-default-alpn without alpn: clients ignore this record (RFC 9460 §7.1.1)".to_owned(),
                );
            }
            _ => {}
        }
        for target in aliases(set, draft) {
            let rtype = type_name(set.rtype);
            warn(*at, format!("the {rtype} of {name} names an alias, {target} (RFC 2181 §10.3)"));
        }
    }
}

/// Whether a name server should have an address in the zone, but has none: without it, one below the cut that it serves
/// cannot be found (RFC 1034 §4.2.1), and one elsewhere in the zone does not exist.
fn is_unknown(origin: &Name, cut: &Name, server: &Name, draft: &Draft) -> bool {
    // Aliases have a warning of their own.
    let known = [rtype::A, rtype::AAAA, rtype::NS, rtype::CNAME];
    let has_data =
        |name: &Name| draft.get(name).is_some_and(|sets| known.iter().any(|rtype| has(sets, *rtype)));
    if !server.is_at_or_below(origin) || has_data(server) {
        return false;
    }
    cut == origin || server.is_at_or_below(cut) || !is_answered_from_above(origin, server, draft)
}

/// Whether a name that owns nothing may lie in another zone, below a DNAME, or be matched by a wildcard.
fn is_answered_from_above(origin: &Name, name: &Name, draft: &Draft) -> bool {
    let mut above = name.parent();
    while let Some(ancestor) = above.filter(|ancestor| ancestor.is_at_or_below(origin)) {
        let wildcard = Name::from_wire(&[b"\x01*", ancestor.as_wire()].concat());
        let redirects =
            |sets: &Vec<_>| ancestor != *origin && has(sets, rtype::NS) || has(sets, rtype::DNAME);
        if draft.get(&ancestor).is_some_and(redirects) || wildcard.is_ok_and(|name| draft.contains_key(&name))
        {
            return true;
        }
        above = ancestor.parent();
    }
    false
}

/// The targets of an NS or MX RRset that own a CNAME in this zone.
fn aliases<'a>(set: &'a RRset, draft: &'a Draft) -> impl Iterator<Item = Name> + 'a {
    let skipped = match set.rtype {
        rtype::NS => Some(0),
        rtype::MX => Some(2),
        _ => None,
    };
    let targets =
        skipped.into_iter().flat_map(|bytes| set.rdata.iter().filter_map(move |rdata| rdata.get(bytes..)));
    let names = targets.filter_map(|wire| Name::from_wire(wire).ok());
    names.filter(|name| draft.get(name).is_some_and(|sets| has(sets, rtype::CNAME)))
}

/// Whether a record of SVCB or HTTPS has no-default-alpn, but no alpn.
fn lacks_alpn(rdata: &[u8]) -> bool {
    let keys: Vec<u16> = parameters::keys(rdata).collect();
    keys.contains(&parameters::NO_DEFAULT_ALPN) && !keys.contains(&parameters::ALPN)
}
