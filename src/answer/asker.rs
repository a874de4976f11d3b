//! The client that an answer is chosen for, and when.

use std::net::IpAddr;

use super::Arrival;
use crate::model::Unix;
use crate::wire::Query;

/// The client that an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address, or that of its subnet; an IPv4-mapped one as the IPv4 address in it.
    pub address: IpAddr,
    /// The length of the client subnet (RFC 7871) that the address is from; `None` if it is that of whoever asked.
    pub subnet: Option<u8>,
}

/// What an answer depends on besides the question.
pub(super) struct Asker {
    /// The client that the resolver asks for, or the sender of the query.
    pub(super) client: IpAddr,
    /// The length of the client subnet that it is from.
    pub(super) subnet: Option<u8>,
    pub(super) dnssec_ok: bool,
    pub(super) now: Unix,
    pub(super) draw: u64,
}

impl Asker {
    /// `ecs` is whether client subnets are used.
    pub(super) fn of(query: &Query<'_>, arrival: &Arrival, ecs: bool, now: Unix, draw: u64) -> Self {
        let subnet = query.edns.as_ref().and_then(|edns| edns.subnet.as_ref()).filter(|_| ecs);
        let named = subnet.and_then(|subnet| Some((subnet.address()?, subnet.source)));
        let address = named.map_or_else(|| arrival.peer.ip(), |(address, _)| address);
        let client = address.to_canonical();
        let subnet =
            named.map(|(_, length)| if client == address { length } else { length.saturating_sub(MAPPED) });
        let dnssec_ok = query.edns.as_ref().is_some_and(|edns| edns.dnssec_ok);
        Self { client, subnet, dnssec_ok, now, draw }
    }

    pub(super) fn client(&self) -> Client {
        Client { address: self.client, subnet: self.subnet }
    }
}

/// The length of `::ffff:0:0/96`, which IPv4-mapped addresses are in (RFC 4291 §2.5.5.2).
const MAPPED: u8 = 96;
