//! DNS messages: reads what a query asks and writes its reply.
//!
//! `header` and `edns` each implement both directions of their part of a message, for every way of reading a query
//! or writing a reply; `cookie` makes and verifies the server cookies of EDNS. `common` reads the queries that nearly all
//! resolvers send, `read` all others, record by record: what a name server must refuse (a malformed client subnet, two OPT
//! records) is not normalised away, and the cost of a hostile message is bounded by its length. Records are copied from the
//! zone's wire data into the buffer that is sent, without an allocation. Nothing here decides answers.

mod common;
pub mod cookie;
mod denial;
pub mod edns;
mod header;
mod names;
mod query;
mod question;
mod read;
mod reply;
mod subnet;
mod text;
mod tsig;

pub use denial::Denial;
pub use header::{Counts, HEADER, Header, Status};
pub use hickory_proto::op::ResponseCode;
pub use query::{Content, Fault, Query};
pub use question::{LowerName, Question};
pub use reply::{Owner, Section, Writer};
pub use subnet::ClientSubnet;
pub use text::{rdata_text, record_text};
pub use tsig::Tsig;

/// The largest UDP payload sent and advertised: fits every path without fragments (DNS flag day 2020).
pub const MAX_UDP_PAYLOAD: u16 = 1232;
/// The largest UDP payload for a client without EDNS (RFC 1035 §4.2.1).
pub const MIN_UDP_PAYLOAD: u16 = 512;
/// The most entries of a message that are read, over all its sections. A query has a question, an OPT record and perhaps
/// a TSIG or SIG(0) record; the rest is leeway. Whatever its length, no more names than this are skipped.
pub const MAX_ENTRIES: u32 = 16;
/// The class Internet.
pub const CLASS_IN: u16 = 1;
/// The class Chaos, for questions about the server itself.
pub const CLASS_CH: u16 = 3;
/// Any class, as QCLASS (RFC 1035 §3.2.5). Zones have records of the class Internet only.
pub const CLASS_ANY: u16 = 255;

/// The mnemonic of an RCODE, extended ones included; its number if it has none (RFC 6895 §2.3).
#[must_use]
pub fn rcode_name(rcode: u16) -> String {
    const MNEMONICS: [&str; 12] = [
        "NOERROR",
        "FORMERR",
        "SERVFAIL",
        "NXDOMAIN",
        "NOTIMP",
        "REFUSED",
        "YXDOMAIN",
        "YXRRSET",
        "NXRRSET",
        "NOTAUTH",
        "NOTZONE",
        "DSOTYPENI",
    ];
    match rcode {
        // In the RCODE of a message; in a TSIG record 16 is BADSIG.
        16 => "BADVERS".to_owned(),
        23 => "BADCOOKIE".to_owned(),
        _ => MNEMONICS.get(usize::from(rcode)).map_or_else(|| rcode.to_string(), ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::rcode_name;
    use hickory_proto::op::ResponseCode;

    #[test]
    fn rcodes_have_the_names_that_dig_prints() {
        let codes =
            [ResponseCode::NoError, ResponseCode::NXDomain, ResponseCode::YXDomain, ResponseCode::BADVERS];
        let names: Vec<_> = codes.map(|code| rcode_name(code.into())).into();
        assert_eq!(names, ["NOERROR", "NXDOMAIN", "YXDOMAIN", "BADVERS"]);
        assert_eq!(rcode_name(4095), "4095");
    }
}
