//! Where Portolan answers differently, and why.

use portolan::model::Name;
use portolan::zone::rtype;

use super::questions::Question;
use super::reply::Reply;

/// An intended difference.
pub(super) struct Choice {
    /// The reason, with the section that allows it.
    pub(super) why: &'static str,
    /// The servers that differ in this way.
    pub(super) peers: &'static [&'static str],
    applies: fn(&Question, &Reply, &Reply) -> bool,
}

impl Choice {
    pub(super) fn explains(&self, peer: &str, question: &Question, ours: &Reply, theirs: &Reply) -> bool {
        self.peers.contains(&peer) && (self.applies)(question, ours, theirs)
    }
}

/// The first that applies counts.
pub(super) const LIST: &[Choice] = &[
    Choice {
        why: "RFC 8482 §4.2: ANY is answered with HINFO or with the alias",
        peers: &["knot", "nsd"],
        applies: |question, ours, theirs| {
            let is_minimal = ours.answer.iter().any(|it| it.contains(" hinfo \"rfc8482\"") || is_alias(it));
            // NSD makes clients over UDP retry over TCP before it looks up the name.
            question.rtype == rtype::ANY && (is_minimal || theirs.truncated && theirs.answer.is_empty())
        },
    },
    Choice {
        why: "RFC 4035 §3.1.4: DS goes with a referral for those who set DO, also in a zone without signatures",
        peers: &["knot", "nsd"],
        applies: |question, ours, theirs| {
            let without_ds = ours.authority.iter().filter(|it| !it.contains(" ds "));
            question.dnssec_ok
                && without_ds.eq(&theirs.authority)
                && (ours.rcode, &ours.answer, &ours.additional)
                    == (theirs.rcode, &theirs.answer, &theirs.additional)
        },
    },
    Choice {
        why: "RFC 9471 §3.1: glue that does not fit sets TC",
        peers: &["nsd"],
        applies: |_, ours, theirs| {
            let is_referral = !ours.authoritative && theirs.authority.iter().all(|it| it.contains(" ns "));
            is_referral && ours.truncated && ours.rcode == 0 && theirs.answer.is_empty()
        },
    },
    Choice {
        why: "RFC 2308 §3: the SOA of a negative answer that does not fit sets TC",
        peers: &["knot"],
        applies: |_, ours, theirs| {
            ours.truncated && ours.answer == theirs.answer && theirs.authority.is_empty() && !theirs.truncated
        },
    },
    Choice {
        why: "RFC 1034 §4.3.2 step 3a: aliases are followed from zone to zone",
        peers: &["knot"],
        applies: |_, ours, theirs| {
            let theirs_is_part = theirs.answer.iter().all(|record| ours.answer.contains(record));
            theirs_is_part && theirs.rcode == 0 && theirs.answer.iter().any(|it| leaves_its_zone(it))
        },
    },
    Choice {
        why: "RFC 2308 §5: a zone served here is not denied even if the zone above does not delegate it",
        peers: &["knot"],
        applies: |question, ours, theirs| {
            let is_its_ds = question.rtype == rtype::DS && question.name.to_string() == "uncut.example.";
            is_its_ds && (ours.rcode, theirs.rcode) == (0, 3) && ours.authority == theirs.authority
        },
    },
    Choice {
        why: "RFC 1034 §3.6.2: an alias without NSEC of its own is one for NSEC, too",
        peers: &["knot"],
        applies: |question, ours, theirs| {
            question.rtype == rtype::NSEC
                && theirs.answer.is_empty()
                && ours.answer.iter().any(|it| is_alias(it))
        },
    },
    Choice {
        why: "RFC 2181 §5: no record appears twice in an answer, not even in a loop of aliases",
        peers: &["knot"],
        applies: |_, ours, theirs| {
            let mut once = theirs.answer.clone();
            once.dedup();
            once == ours.answer && once.len() < theirs.answer.len() && ours.rcode == theirs.rcode
        },
    },
    Choice {
        why: "RFC 1034 §4.3.2 step 6: useful addresses are added, of wildcards and of other zones, too",
        peers: &["knot", "nsd"],
        applies: |_, ours, theirs| {
            let theirs_is_part = theirs.additional.iter().all(|record| ours.additional.contains(record));
            theirs_is_part && !ours.answer.is_empty() && is_the_same_but_for_additional(ours, theirs)
        },
    },
    Choice {
        why: "RFC 6672 §3.2: the DNAME of an answer is owned by the name above, a wildcard's own name, too",
        peers: &["knot"],
        applies: |question, ours, theirs| {
            let wildcard = "*.wild-dname.example.".parse().expect("a name");
            let is_below = question.name.is_at_or_below(&wildcard) && question.name != wildcard;
            is_below && (ours.rcode, &ours.additional) == (theirs.rcode, &theirs.additional)
        },
    },
    Choice {
        why: "RFC 2181 §6.1: glue is not authoritative, so that it is not added to answers",
        peers: &["knot"],
        applies: |question, ours, theirs| {
            question.name.to_string() == "mx.example." && is_the_same_but_for_additional(ours, theirs)
        },
    },
];

fn is_the_same_but_for_additional(ours: &Reply, theirs: &Reply) -> bool {
    (&ours.answer, &ours.authority, ours.truncated, ours.authoritative, ours.rcode, ours.edns)
        == (
            &theirs.answer,
            &theirs.authority,
            theirs.truncated,
            theirs.authoritative,
            theirs.rcode,
            theirs.edns,
        )
}

fn is_alias(record: &str) -> bool {
    record.contains(" cname ") || record.contains(" dname ")
}

/// Whether a record is a CNAME from one of these zones into another.
fn leaves_its_zone(record: &str) -> bool {
    let zone_of = |name: &str| {
        let name: Name = name.parse().expect("a name");
        let origins = super::ZONES.iter().map(|(origin, _)| origin.parse().expect("a name"));
        origins.filter(|origin| name.is_at_or_below(origin)).max_by_key(Name::label_count)
    };
    let fields: Vec<_> = record.split(' ').collect();
    fields[2] == "cname" && zone_of(fields[3]).is_some_and(|zone| Some(zone) != zone_of(fields[0]))
}
