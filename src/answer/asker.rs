//! The client that an answer is chosen for, and when.

use std::net::IpAddr;

use super::Arrival;
use crate::model::Unix;
use crate::wire::Query;

/// What an answer depends on besides the question.
pub(super) struct Asker {
    /// The client that the resolver asks for, or the sender of the query.
    pub(super) client: IpAddr,
    pub(super) dnssec_ok: bool,
    pub(super) now: Unix,
    pub(super) draw: u64,
}

impl Asker {
    /// `ecs` is whether client subnets are used.
    pub(super) fn of(query: &Query<'_>, arrival: &Arrival, ecs: bool, now: Unix, draw: u64) -> Self {
        let subnet = query.edns.as_ref().and_then(|edns| edns.subnet.as_ref()).filter(|_| ecs);
        let client = subnet.and_then(|subnet| subnet.address()).unwrap_or_else(|| arrival.peer.ip());
        let dnssec_ok = query.edns.as_ref().is_some_and(|edns| edns.dnssec_ok);
        Self { client: client.to_canonical(), dnssec_ok, now, draw }
    }
}
