//! Replies in a canonical form that removes legitimate differences: the order of records, the case of names and how
//! they are compressed, the UDP payload that the server advertises, its own options.

use std::fmt::Write as _;

use domain::base::{Message, ParsedName, Record};
use domain::rdata::AllRecordData;

/// A reply, its records as text in lower case, sorted.
#[derive(PartialEq, Eq)]
pub(super) struct Reply {
    /// The RCODE, with its extension by EDNS.
    pub(super) rcode: u16,
    pub(super) authoritative: bool,
    pub(super) truncated: bool,
    /// DO and version from its OPT record.
    pub(super) edns: Option<(bool, u8)>,
    pub(super) answer: Vec<String>,
    pub(super) authority: Vec<String>,
    pub(super) additional: Vec<String>,
}

impl Reply {
    pub(super) fn read(bytes: &[u8]) -> Self {
        let message = Message::from_octets(bytes).expect("a header");
        let header = message.header();
        assert!(header.qr(), "a reply");
        let opt = message.opt();
        let (_, answer, authority, additional) = message.sections().expect("whole sections");
        Self {
            rcode: opt
                .as_ref()
                .map_or_else(|| header.rcode().to_int().into(), |opt| opt.rcode(header).to_int()),
            authoritative: header.aa(),
            truncated: header.tc(),
            edns: opt.map(|opt| (opt.dnssec_ok(), opt.version())),
            answer: texts(answer),
            authority: texts(authority),
            additional: texts(additional),
        }
    }

    /// A readable description of the difference, if any.
    pub(super) fn difference(&self, theirs: &Self) -> Option<String> {
        // RFC 2181 §9: with TC set, "the DNS client should ignore that response".
        let is_the_same = if self.truncated && theirs.truncated {
            (self.rcode, self.edns) == (theirs.rcode, theirs.edns)
        } else {
            self == theirs
        };
        if is_the_same {
            return None;
        }
        let mut text = format!("  ours   {}\n  theirs {}\n", self.head(), theirs.head());
        for (section, ours, theirs) in [
            ("answer", &self.answer, &theirs.answer),
            ("authority", &self.authority, &theirs.authority),
            ("additional", &self.additional, &theirs.additional),
        ] {
            for (sign, these, those) in [('+', ours, theirs), ('-', theirs, ours)] {
                for record in these.iter().filter(|record| !those.contains(record)) {
                    let _ = writeln!(text, "  {sign} {section}: {record}");
                }
            }
        }
        Some(text)
    }

    fn head(&self) -> String {
        let Self { rcode, authoritative, truncated, edns, answer, authority, additional } = self;
        let counts = [answer.len(), authority.len(), additional.len()];
        format!("rcode {rcode} aa {authoritative} tc {truncated} edns {edns:?} records {counts:?}")
    }
}

type Data<'a> = AllRecordData<&'a [u8], ParsedName<&'a [u8]>>;

fn texts<'a>(
    section: impl Iterator<
        Item = Result<domain::base::ParsedRecord<'a, &'a [u8]>, domain::base::wire::ParseError>,
    >,
) -> Vec<String> {
    let mut texts: Vec<String> = section
        .map(|record| record.expect("a whole record"))
        .filter(|record| record.rtype() != domain::base::Rtype::OPT)
        .map(|record| {
            let record: Record<_, Data<'_>> = record.to_any_record().expect("data of its type");
            let (owner, ttl, rtype) = (record.owner(), record.ttl().as_secs(), record.rtype());
            format!("{owner} {ttl} {rtype} {}", record.data()).to_ascii_lowercase()
        })
        .collect();
    texts.sort();
    texts
}
