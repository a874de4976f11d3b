//! The rules of a zone: one SOA at the apex, no names outside it, no other data at an alias.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use smallvec::smallvec;

use super::scan::{Position, Record, Scanned};
use super::{MAX_ERRORS, NameHash, RRset, Zone, ZoneError, oddities, rtype, type_name};
use crate::model::{Name, Ttl};

/// The RRsets of one name, each with the line of its first record.
pub(super) type Draft = HashMap<Name, Vec<(RRset, Position)>, NameHash>;

/// Checks scanned records against the rules of a zone.
pub(super) fn check(origin: &Name, mut scanned: Scanned) -> Result<Zone, Vec<ZoneError>> {
    let mut errors = std::mem::take(&mut scanned.errors);
    let syntax_is_fine = errors.is_empty();
    let mut warnings = Vec::new();
    let records = std::mem::take(&mut scanned.records);
    let draft = group(origin, records, &scanned, &mut warnings);
    if syntax_is_fine {
        require_apex(origin, &draft, &scanned, &mut errors);
    }
    let has_dnames = draft.values().any(|sets| has(sets, rtype::DNAME));
    for (name, sets) in &draft {
        if has_dnames {
            check_not_redirected(origin, name, sets, &draft, &scanned, &mut errors);
        }
        check_name(origin, name, sets, &scanned, &mut errors);
        let mut warn = |at, message| warnings.push(scanned.problem(at, 1, message));
        oddities::warn(origin, name, sets, &draft, &mut warn);
    }
    for problems in [&mut errors, &mut warnings] {
        problems.sort_by_cached_key(|problem| {
            let file = scanned.files.iter().position(|file| *file == problem.file);
            (file, problem.line, problem.column, problem.message.clone())
        });
        problems.truncate(MAX_ERRORS);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let names: HashMap<_, Vec<_>, _> = draft
        .into_iter()
        .map(|(name, sets)| (name, sets.into_iter().map(|(set, _)| set).collect()))
        .collect();
    let soa = names[origin].iter().find(|set| set.rtype == rtype::SOA).expect("an apex was required");
    let (serial, minimum) = serial_and_minimum(&soa.rdata[0]);
    Ok(Zone { origin: origin.clone(), serial, negative_ttl: soa.ttl.min(Ttl(minimum)), names, warnings })
}

/// SERIAL and MINIMUM from a SOA's data, which ends in five 32-bit numbers (RFC 1035 §3.3.13).
fn serial_and_minimum(soa: &[u8]) -> (u32, u32) {
    let number = |from_end: usize| {
        let at = soa.len() - from_end;
        u32::from_be_bytes([soa[at], soa[at + 1], soa[at + 2], soa[at + 3]])
    };
    (number(20), number(4).min(Ttl::MAX.0))
}

/// Groups records into RRsets, without duplicates and without records outside the zone.
fn group(origin: &Name, records: Vec<Record>, scanned: &Scanned, warnings: &mut Vec<ZoneError>) -> Draft {
    let mut draft = Draft::default();
    for record in records {
        if !record.owner.is_at_or_below(origin) {
            let message = format!("{} lies outside the zone {origin}; the record is ignored", record.owner);
            warnings.push(scanned.problem(record.at, 1, message));
            continue;
        }
        let sets = match draft.entry(record.owner) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Vec::with_capacity(1)),
        };
        let Some((set, _)) = sets.iter_mut().find(|(set, _)| set.rtype == record.rtype) else {
            let set = RRset { rtype: record.rtype, ttl: record.ttl, rdata: smallvec![record.rdata] };
            sets.push((set, record.at));
            continue;
        };
        if set.ttl != record.ttl {
            // RFC 2181 §5.2: "the TTLs of all RRs in an RRSet must be the same"
            set.ttl = set.ttl.min(record.ttl);
            let set = type_name(record.rtype);
            let message =
                format!("the TTLs of this {set} RRset differ; the smallest is served (RFC 2181 §5.2)");
            warnings.push(scanned.problem(record.at, 1, message));
        }
        if set.rdata.iter().any(|data| are_equal(record.rtype, data, &record.rdata)) {
            let message = "this record is a duplicate; it is served once (RFC 2181 §5)".to_owned();
            warnings.push(scanned.problem(record.at, 1, message));
        } else {
            set.rdata.push(record.rdata);
        }
    }
    draft
}

/// Whether the data of two records of a type is equal. Case does not matter in names (RFC 1035 §2.3.3), which come
/// last in these types.
fn are_equal(rtype: u16, one: &[u8], other: &[u8]) -> bool {
    let name = match rtype {
        rtype::NS | rtype::PTR => 0,
        rtype::MX => 2,
        rtype::SRV => 6,
        _ => return one == other,
    };
    one.len() == other.len()
        && one[..name] == other[..name]
        && one[name..].eq_ignore_ascii_case(&other[name..])
}

fn require_apex(origin: &Name, draft: &Draft, scanned: &Scanned, errors: &mut Vec<ZoneError>) {
    let start = Position { file: 0, line: 1 };
    let has = |rtype| draft.get(origin).is_some_and(|sets| sets.iter().any(|(set, _)| set.rtype == rtype));
    if !has(rtype::SOA) {
        let message = format!("no SOA record at {origin}, the apex of the zone");
        errors.push(scanned.problem(start, 1, message));
    }
    if !has(rtype::NS) {
        let message = format!("no NS record at {origin}, the apex of the zone");
        errors.push(scanned.problem(start, 1, message));
    }
}

/// A name below a DNAME is never answered.
fn check_not_redirected(
    origin: &Name,
    name: &Name,
    sets: &[(RRset, Position)],
    draft: &Draft,
    scanned: &Scanned,
    errors: &mut Vec<ZoneError>,
) {
    let above = std::iter::successors(Some(name.clone()), |name| name.parent().filter(|_| name != origin));
    for above in above.skip(1) {
        if draft.get(&above).is_some_and(|sets| has(sets, rtype::DNAME)) {
            let message = format!("{name} lies below the DNAME at {above} (RFC 6672 §2.4)");
            errors.push(scanned.problem(sets[0].1, 1, message));
        }
    }
}

/// The rules for the RRsets of one name.
fn check_name(
    origin: &Name,
    name: &Name,
    sets: &[(RRset, Position)],
    scanned: &Scanned,
    errors: &mut Vec<ZoneError>,
) {
    let mut error = |at: Position, message: String| errors.push(scanned.problem(at, 1, message));
    for (set, at) in sets {
        let rtype = || type_name(set.rtype);
        match set.rtype {
            rtype::SOA if name != origin => {
                error(*at, format!("SOA at {name}; it belongs at the apex, {origin}"));
            }
            // RFC 2181 §10.1: one alias has one canonical name; RFC 1035 §5.2: "exactly one SOA RR".
            rtype::SOA | rtype::CNAME | rtype::DNAME if set.rdata.len() > 1 => {
                error(*at, format!("{} {} records at {name}; only one is allowed", set.rdata.len(), rtype()));
            }
            rtype::NS if name.is_wildcard() => {
                error(
                    *at,
                    format!(
                        "NS at the wildcard {name} has no defined meaning (RFC 4592 §4.2); delegate each name, with \
                         $GENERATE if there are many"
                    ),
                );
            }
            rtype::DS if !has(sets, rtype::NS) || name == origin => {
                error(*at, format!("DS at {name} without a delegation there (RFC 4035 §2.4)"));
            }
            _ => {}
        }
        // RFC 1034 §3.6.2: "If a CNAME RR is present at a node, no other data should be present";
        // RFC 4034 §4 and §6 except RRSIG and NSEC.
        let beside = |set: &RRset| ![rtype::CNAME, rtype::RRSIG, rtype::NSEC].contains(&set.rtype);
        if set.rtype == rtype::CNAME
            && let Some((other, at)) = sets.iter().find(|(set, _)| beside(set))
        {
            let other = type_name(other.rtype);
            error(*at, format!("{other} beside a CNAME at {name} (RFC 1034 §3.6.2)"));
        }
    }
}

pub(super) fn has(sets: &[(RRset, Position)], rtype: u16) -> bool {
    sets.iter().any(|(set, _)| set.rtype == rtype)
}
