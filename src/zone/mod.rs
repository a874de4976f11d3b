//! Zones: RFC 1035 text in, one tree of static RRsets and dynamic names out.
//!
//! [`Zone::read`] splits the text into logical lines (`lines`), rewrites what the scanner does not support
//! (`dialect`, `fields`, `generate`), scans each line into records (`scan`) and checks them against the rules of a zone
//! (`check`, `oddities`). [`Zones::build`] adds the dynamic names to the same tree and computes in advance what lookups need:
//! empty non-terminals, what lies below a delegation or a DNAME, where wildcards are. [`Zones::find`] then
//! implements RFC 1034 §4.3.2 with the wildcards of RFC 4592, without allocation and with at most one hash per
//! label.

mod build;
mod challenge;
mod check;
mod dialect;
mod fields;
mod find;
mod generate;
mod hash;
mod lines;
mod location;
mod oddities;
mod parameters;
mod scan;
#[cfg(test)]
mod tests;
mod tokens;

use std::collections::HashMap;
use std::fmt;

use smallvec::SmallVec;

pub use build::{Dynamic, Node, Served, Zones, ZonesError};
pub use find::Found;
pub use hash::NameHash;

use crate::model::{Name, Ttl};

/// Record types that the name server itself treats specially (IANA's registry of RR types).
#[allow(missing_docs, reason = "the constants are the mnemonics")]
pub mod rtype {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const HINFO: u16 = 13;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const DNAME: u16 = 39;
    pub const OPT: u16 = 41;
    pub const DS: u16 = 43;
    pub const RRSIG: u16 = 46;
    pub const NSEC: u16 = 47;
    pub const TLSA: u16 = 52;
    pub const SVCB: u16 = 64;
    pub const HTTPS: u16 = 65;
    pub const NXNAME: u16 = 128;
    pub const TKEY: u16 = 249;
    pub const TSIG: u16 = 250;
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
    pub const MAILB: u16 = 253;
    pub const MAILA: u16 = 254;
    pub const ANY: u16 = 255;
    pub const CAA: u16 = 257;
}

/// All records of one owner, type and class (RFC 2181 §5); the class is always IN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RRset {
    /// The type's number.
    pub rtype: u16,
    /// The one TTL of all its records.
    pub ttl: Ttl,
    /// The data of each record in uncompressed wire format, in the order of the file; never empty.
    pub rdata: SmallVec<[RecordData; 1]>,
}

/// The data of one record. An address fits into the RRset itself, so that answers need no further memory access.
pub type RecordData = SmallVec<[u8; 16]>;

impl RRset {
    /// Substitutes this DNAME in a name below its owner, which begins at `offset` of `name`. `None` if the result
    /// exceeds 255 bytes, which is YXDOMAIN (RFC 6672 §2.2).
    #[must_use]
    pub fn substitute(&self, name: &[u8], offset: usize) -> Option<Box<[u8]>> {
        let made = [&name[..offset], &self.rdata[0]].concat();
        (made.len() <= 255).then(|| made.into_boxed_slice())
    }
}

/// Names looked up for one answer, including the question's own. A longer chain of CNAMEs and DNAMEs ends there,
/// and the resolver follows the rest by itself.
pub const MAX_ALIASES: usize = 8;

/// A zone as read from its text: checked, but not yet joined with the dynamic names.
#[derive(Clone, Debug)]
pub struct Zone {
    /// The name of its apex.
    pub origin: Name,
    /// SERIAL of its SOA.
    pub serial: u32,
    /// How long negative answers may be cached: min(TTL of the SOA, MINIMUM) (RFC 2308 §3).
    pub negative_ttl: Ttl,
    /// The static names that own records.
    pub names: HashMap<Name, Vec<RRset>, NameHash>,
    /// Oddities that do not keep the zone from being served, in the order of the text; at most [`MAX_ERRORS`].
    pub warnings: Vec<ZoneError>,
}

impl Zone {
    /// Reads a zone from RFC 1035 master-file text.
    ///
    /// `file` names the text in messages. `include` returns the text of each `$INCLUDE`, given the path as written,
    /// also in included files. It decides what paths are relative to and which files may be read; its error becomes
    /// the message.
    ///
    /// # Errors
    /// Every independent error, in the order of the text, at most [`MAX_ERRORS`].
    pub fn read(
        origin: &Name,
        text: &str,
        file: &str,
        include: &mut dyn FnMut(&str) -> Result<String, String>,
    ) -> Result<Self, Vec<ZoneError>> {
        check::check(origin, scan::scan(origin, text, file, include))
    }
}

/// Errors reported for one zone; more than that usually share a cause.
pub const MAX_ERRORS: usize = 100;

/// Something wrong or odd in a zone's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneError {
    /// The file, as it was named to [`Zone::read`] or by `$INCLUDE`.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// A sentence without a full stop.
    pub message: String,
}

impl fmt::Display for ZoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

impl std::error::Error for ZoneError {}

/// The mnemonic of a record type, `TYPE12345` if it has none (RFC 3597 §5).
fn type_name(rtype: u16) -> String {
    domain::base::Rtype::from_int(rtype).to_string()
}
