//! The questions: every name of the zones, and names above, next to and below them, each for many types.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use portolan::model::Name;
use portolan::zone::{Zone, rtype};

use crate::harness::Numbers;

/// A query.
pub(super) struct Question {
    pub(super) name: Name,
    pub(super) rtype: u16,
    /// The UDP payload that its OPT record states, if it has one.
    pub(super) payload: Option<u16>,
    pub(super) dnssec_ok: bool,
    pub(super) tcp: bool,
    /// A mask whose bits turn letters into capitals.
    case: u64,
}

/// The types asked for at every name; most names have only some of them.
const TYPES: [u16; 14] = [
    rtype::A,
    rtype::AAAA,
    rtype::NS,
    rtype::SOA,
    rtype::DS,
    rtype::CNAME,
    rtype::DNAME,
    rtype::MX,
    rtype::TXT,
    rtype::SRV,
    rtype::HTTPS,
    rtype::NSEC,
    rtype::ANY,
    65280,
];

/// UDP payload, DO, and whether to use TCP.
const MODES: [(Option<u16>, bool, bool); 8] = [
    (None, false, false),
    (None, false, true),
    (Some(100), false, false),
    (Some(512), true, false),
    (Some(1232), false, false),
    (Some(1232), true, false),
    (Some(4096), false, false),
    (Some(1232), true, true),
];

/// Everything to ask of a server with these zones; the same in every run.
pub(super) fn of(zones: &[Zone]) -> Vec<Question> {
    let mut types: BTreeMap<Name, BTreeSet<u16>> = BTreeMap::new();
    let mut add = |wire: &[u8], own: &[u16]| {
        if let Ok(name) = Name::from_wire(wire) {
            types.entry(name).or_insert_with(|| TYPES.into()).extend(own);
        }
    };
    for (owner, sets) in zones.iter().flat_map(|zone| &zone.names) {
        let own: Vec<u16> = sets.iter().map(|set| set.rtype).collect();
        add(owner.as_wire(), &own);
        for below in [&b"\x05below"[..], b"\x01*", b"\x01x\x05below"] {
            add(&[below, owner.as_wire()].concat(), &own);
        }
        let mut above = owner.parent();
        while let Some(name) = above {
            add(name.as_wire(), &[]);
            add(&[b"\x08beside-x", name.as_wire()].concat(), &[]);
            above = name.parent();
        }
    }
    let mut numbers = Numbers(4711);
    let mut questions = Vec::new();
    for (name, types) in &types {
        for rtype in types {
            let (payload, dnssec_ok, tcp) = MODES[numbers.next() as usize % MODES.len()];
            let case = numbers.next();
            questions.push(Question { name: name.clone(), rtype: *rtype, payload, dnssec_ok, tcp, case });
        }
    }
    questions
}

impl Question {
    /// A question for the SOA record of a zone, over UDP without EDNS.
    pub(super) fn plain(origin: &str) -> Self {
        let name = origin.parse().expect("a name");
        Self { name, rtype: rtype::SOA, payload: None, dnssec_ok: false, tcp: false, case: 0 }
    }

    /// The query as a message.
    pub(super) fn message(&self) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(self.payload.is_some())];
        message.extend(self.name.as_wire().iter().enumerate().map(|(index, byte)| {
            let is_capital = self.case >> (index % 64) & 1 == 1;
            if is_capital { byte.to_ascii_uppercase() } else { *byte }
        }));
        message.extend(self.rtype.to_be_bytes());
        message.extend([0, 1]);
        if let Some(payload) = self.payload {
            message.extend([0, 0, 41]);
            message.extend(payload.to_be_bytes());
            message.extend([0, 0, u8::from(self.dnssec_ok) << 7, 0, 0, 0]);
        }
        message
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rtype = domain::base::Rtype::from_int(self.rtype);
        write!(f, "{} {rtype}", self.name)?;
        if let Some(payload) = self.payload {
            write!(f, " payload {payload}")?;
        }
        if self.dnssec_ok {
            f.write_str(" DO")?;
        }
        if self.tcp { f.write_str(" TCP") } else { Ok(()) }
    }
}
