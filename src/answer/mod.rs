//! From the bytes of a query to the bytes of its reply: all that an authoritative server does with one
//! message. Synchronous and without I/O: listeners, benches and fuzzers call the same [`handle`].
//!
//! The plainest answers take the `express` lane. For all others, `resolve` walks from the question's name over
//! CNAMEs to what answers it; `dynamic` writes what services answer, `debug` why; `additional` adds the addresses
//! that go with it; `identity` answers for the server itself. What is said is streamed straight into [`Reply::bytes`].

mod additional;
mod debug;
mod dynamic;
mod express;
mod identity;
mod resolve;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use dynamic::family;

use dynamic::{Scratch, answering};

use crate::model::{RegionId, ServiceId, Unix};
use crate::snapshot::Snapshot;
use crate::wire::{
    CLASS_CH, ClientSubnet, Edns, ExtendedError, MAX_UDP_PAYLOAD, MIN_UDP_PAYLOAD, Offer, Query,
    ResponseCode, Writer,
};

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Where the query came from.
    pub address: SocketAddr,
    /// How it came.
    pub transport: Transport,
}

/// How a query came, which bounds its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// At most [`MAX_UDP_PAYLOAD`] bytes, and no more than the client takes.
    Udp,
    /// At most 65535 bytes; also for TLS, HTTPS and QUIC.
    Tcp,
}

/// How long a TCP connection may be without a query, as those are told who ask (RFC 7828). RFC 7766 §6.2.3 wants
/// "the order of a few seconds".
pub const TCP_IDLE: Duration = Duration::from_secs(10);

/// The reply and what is kept from query to query so that none allocates it anew. One per worker.
#[derive(Debug)]
pub struct Reply {
    /// The message to send, after [`Outcome::Answered`].
    pub bytes: Vec<u8>,
    scratch: Scratch,
    random: u64,
}

impl Reply {
    /// A reply whose draws for `share = "random"` follow from `seed`: seed each worker differently.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let bytes = Vec::with_capacity(usize::from(MAX_UDP_PAYLOAD));
        Self { bytes, scratch: Scratch::default(), random: seed }
    }

    /// The next number of SplitMix64, which visits every 64-bit number once.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// What became of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// [`Reply::bytes`] holds the reply.
    Answered {
        /// RCODE with its extension by EDNS: 0 to 4095.
        rcode: u16,
        /// What kind of answer it is.
        kind: Kind,
        /// TC is set.
        truncated: bool,
    },
    /// It deserves no reply.
    Dropped,
}

/// What kind of answer a query got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// From a zone's text.
    Static,
    /// By steering.
    Dynamic {
        /// The service asked for.
        service: ServiceId,
        /// The region chosen, if any.
        region: Option<RegionId>,
    },
    /// There is no such name or no such data.
    Negative,
    /// To the name servers of a zone below.
    Referral,
    /// Malformed, not supported or not ours to answer.
    Refused,
}

/// Answers one message. The reply replaces what is in `reply.bytes`.
///
/// Never panics, whatever `query` holds.
pub fn handle(snapshot: &Snapshot, query: &[u8], peer: Peer, now: Unix, reply: &mut Reply) -> Outcome {
    respond(Path::Express, snapshot, Query::read(query).as_ref(), peer, now, reply)
}

/// As [`handle`], but always by the general path: what the express lane is held to.
pub fn handle_generally(
    snapshot: &Snapshot,
    query: &[u8],
    peer: Peer,
    now: Unix,
    reply: &mut Reply,
) -> Outcome {
    respond(Path::General, snapshot, Query::decode(query).as_ref(), peer, now, reply)
}

/// How an answer is made.
#[derive(Clone, Copy, PartialEq)]
enum Path {
    /// By the express lane if it takes it.
    Express,
    General,
}

fn respond(
    path: Path,
    snapshot: &Snapshot,
    query: Option<&Query<'_>>,
    peer: Peer,
    now: Unix,
    reply: &mut Reply,
) -> Outcome {
    let draw = reply.draw();
    let Reply { bytes, scratch, .. } = reply;
    let Some(query) = query else {
        bytes.clear();
        return Outcome::Dropped;
    };
    let edns = query.edns.as_ref();
    let limit = limit(edns, peer.transport);
    let question = match &query.question {
        Some(question) if query.fault.is_none() && resolve::refusal(question).is_none() => question,
        _ => {
            let writer = Writer::start(bytes, query, limit, offer(snapshot, peer.transport));
            return unasked(snapshot, query, writer);
        }
    };
    let subnet = edns.and_then(|edns| edns.subnet.as_ref()).filter(|_| snapshot.plan.ecs);
    let dnssec_ok = edns.is_some_and(|edns| edns.dnssec_ok);
    let asker = resolve::Asker { client: client_of(subnet, peer), dnssec_ok, now, draw };
    let found = resolve::find(snapshot, question, question.name());
    if path == Path::Express
        && let Some(outcome) =
            express::answer(snapshot, query, found, &asker, limit, &mut scratch.addresses, bytes)
    {
        return outcome;
    }
    let mut writer = Writer::start(bytes, query, limit, offer(snapshot, peer.transport));
    let resolved = resolve::resolve(snapshot, question, found, &asker, scratch, &mut writer);
    let scope = subnet.map_or(0, |subnet| scope_within(subnet, resolved.scope));
    match (resolved.rcode, resolved.kind) {
        (ResponseCode::Refused, _) => writer.explain(ExtendedError::NOT_AUTHORITATIVE),
        (ResponseCode::ServFail, Kind::Dynamic { .. }) => writer.explain(ExtendedError::ALL_DOWN),
        _ => {}
    }
    writer.finish(resolved.rcode, resolved.authoritative, scope);
    let truncated = writer.is_truncated();
    Outcome::Answered { rcode: resolved.rcode.into(), kind: resolved.kind, truncated }
}

/// Answers what no zone is asked for.
fn unasked(snapshot: &Snapshot, query: &Query<'_>, writer: Writer<'_>) -> Outcome {
    let Some(question) = query.question.as_ref().filter(|_| query.fault.is_none()) else {
        let rcode = query.fault.unwrap_or(ResponseCode::FormErr);
        let error = (rcode == ResponseCode::NotImp).then_some(ExtendedError::NOT_SUPPORTED);
        return refuse(writer, rcode, error);
    };
    if question.class == CLASS_CH {
        return identity::answer(&snapshot.plan.identity, question, writer);
    }
    let (rcode, error) = resolve::refusal(question).unzip();
    refuse(writer, rcode.unwrap_or(ResponseCode::Refused), error)
}

/// Whom an answer is for: the client that the resolver asks for, or else the resolver.
fn client_of(subnet: Option<&ClientSubnet>, peer: Peer) -> IpAddr {
    subnet.and_then(|subnet| subnet.address()).unwrap_or_else(|| peer.address.ip()).to_canonical()
}

/// The scope in terms of the subnet's own family; `scope` counts the bits of the client it stands for.
fn scope_within(subnet: &ClientSubnet, scope: u8) -> u8 {
    match subnet.address() {
        // RFC 7871 §7.2.1: with a source prefix of 0 the scope is 0, too.
        None => 0,
        // RFC 4291 §2.5.5.2: an IPv4-mapped address stands for the IPv4 address in its last 32 bits.
        Some(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => MAPPED_PREFIX + scope,
        Some(_) => scope,
    }
}

/// Length of `::ffff:0:0/96`.
const MAPPED_PREFIX: u8 = 96;

/// The bytes a reply may have.
fn limit(edns: Option<&Edns>, transport: Transport) -> u16 {
    match (transport, edns) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, None) => MIN_UDP_PAYLOAD,
        // RFC 6891 §6.2.3: "Values lower than 512 MUST be treated as equal to 512."
        (Transport::Udp, Some(edns)) => edns.payload.clamp(MIN_UDP_PAYLOAD, MAX_UDP_PAYLOAD),
    }
}

fn offer(snapshot: &Snapshot, transport: Transport) -> Offer<'_> {
    let tenths = (TCP_IDLE.as_millis() / 100) as u16;
    Offer {
        subnet: snapshot.plan.ecs,
        nsid: snapshot.plan.identity.nsid.as_deref().map(str::as_bytes),
        keepalive: (transport == Transport::Tcp).then_some(tenths),
    }
}

fn refuse(mut writer: Writer<'_>, rcode: ResponseCode, error: Option<ExtendedError>) -> Outcome {
    if let Some(error) = error {
        writer.explain(error);
    }
    writer.finish(rcode, false, 0);
    Outcome::Answered { rcode: rcode.into(), kind: Kind::Refused, truncated: false }
}

#[cfg(test)]
mod tests {
    use super::Reply;

    #[test]
    fn draws_follow_from_the_seed() {
        // The first numbers of SplitMix64 for seed 1234567, as published with it.
        let mut reply = Reply::new(1_234_567);
        let drawn: Vec<_> = std::iter::repeat_with(|| reply.draw()).take(3).collect();
        assert_eq!(drawn, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }
}
