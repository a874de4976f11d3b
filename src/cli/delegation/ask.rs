//! Questions to resolvers and to a parent's name servers.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};

use super::Delegation;
use crate::model::Name;

/// How long one datagram or connection is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Datagrams sent before a server counts as silent.
const TRIES: usize = 2;

/// Addresses of a parent that are asked; even the root has no more worth asking.
const MOST_SERVERS: usize = 26;

/// The payload that DNS Flag Day 2020 found to fit nearly every path.
const PAYLOAD: u16 = 1232;

/// Where the system's resolvers are named.
const RESOLV_CONF: &str = "/etc/resolv.conf";

const DNS_PORT: u16 = 53;

/// Asks.
pub(crate) struct Asker {
    /// Tried in this order.
    pub(super) resolvers: Vec<SocketAddr>,
    /// The port of the parent's name servers.
    pub(super) port: u16,
}

/// A zone and the addresses of its name servers.
pub(super) struct Parent {
    pub(super) name: Name,
    pub(super) servers: Vec<(Name, IpAddr)>,
}

impl Asker {
    /// One that uses the resolver given, ADDR or ADDR:PORT, or else the system's.
    pub(crate) fn new(resolver: Option<&str>) -> Result<Self> {
        let resolvers = match resolver {
            Some(written) => {
                let address = written.parse().or_else(|_| Ok(SocketAddr::new(written.parse()?, DNS_PORT)));
                vec![address.map_err(|_: std::net::AddrParseError| {
                    anyhow::anyhow!("{written:?} is no resolver: write ADDR or ADDR:PORT")
                })?]
            }
            None => {
                let text = std::fs::read_to_string(RESOLV_CONF).with_context(|| {
                    format!("cannot read {RESOLV_CONF}; name a resolver with `--resolver ADDR`")
                })?;
                resolvers_of(&text)
            }
        };
        if resolvers.is_empty() {
            bail!("{RESOLV_CONF} names no resolver; name one with `--resolver ADDR`");
        }
        Ok(Self { resolvers, port: DNS_PORT })
    }

    /// The zone that delegates `origin`: the nearest name above it with name servers of its own.
    pub(super) fn parent_of(&self, origin: &Name) -> Result<Parent, String> {
        let mut above = origin.parent();
        while let Some(name) = above {
            let reply = self.resolve(&name, RecordType::NS)?;
            let servers: Vec<Name> = targets(&reply.answers, &name).collect();
            if servers.is_empty() {
                above = name.parent();
                continue;
            }
            let mut found = Vec::new();
            let mut why = format!("the name servers of {name} have no addresses");
            for server in servers {
                for rtype in [RecordType::A, RecordType::AAAA] {
                    match self.resolve(&server, rtype) {
                        Ok(reply) => {
                            let addresses = reply.answers.iter().filter_map(address);
                            found.extend(addresses.map(|address| (server.clone(), address)));
                        }
                        Err(failed) => why = failed,
                    }
                }
            }
            if found.is_empty() {
                return Err(why);
            }
            found.truncate(MOST_SERVERS);
            return Ok(Parent { name, servers: found });
        }
        Err("no name above it has name servers".into())
    }

    /// What a name server of the parent says of the delegation of `origin`.
    pub(super) fn delegation(&self, server: IpAddr, origin: &Name) -> Result<Delegation, String> {
        let server = SocketAddr::new(server, self.port);
        let reply = ask(server, origin, RecordType::NS, false)?;
        // NXDOMAIN is an answer: there is no delegation.
        if !matches!(reply.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain) {
            return Err(format!("it answers {}", reply.metadata.response_code));
        }
        // A server of the zone itself has the records in its answer, any other in a referral.
        let servers = targets(reply.answers.iter().chain(&reply.authorities), origin).collect();
        let mut found = Delegation { servers, ..Delegation::default() };
        for record in &reply.additionals {
            if let (Some(owner), Some(address)) = (name_of(&record.name), address(record)) {
                found.addresses.entry(owner).or_default().insert(address);
            }
        }
        let reply = ask(server, origin, RecordType::DS, false)?;
        let signers = reply.answers.iter().filter(|record| is_at(record, origin)).filter_map(|record| {
            let RData::Unknown { code: RecordType::DS, rdata } = &record.data else { return None };
            rdata.anything.first_chunk().map(|tag| u16::from_be_bytes(*tag))
        });
        found.signers.extend(signers);
        Ok(found)
    }

    /// Asks the resolvers in turn until one answers.
    fn resolve(&self, name: &Name, rtype: RecordType) -> Result<Message, String> {
        let mut failed = Vec::new();
        for resolver in &self.resolvers {
            match ask(*resolver, name, rtype, true) {
                Ok(reply) => match reply.metadata.response_code {
                    ResponseCode::NoError | ResponseCode::NXDomain => return Ok(reply),
                    code => failed.push(format!("the resolver {resolver} answers {code} for {name} {rtype}")),
                },
                Err(why) => failed.push(format!("the resolver {resolver}: {why}")),
            }
        }
        Err(failed.join("; "))
    }
}

/// The addresses behind `nameserver` in the text of resolv.conf(5).
pub(super) fn resolvers_of(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok()).flatten()
    };
    text.lines().filter_map(address).map(|address| SocketAddr::new(address, DNS_PORT)).collect()
}

fn name_of(name: &hickory_proto::rr::Name) -> Option<Name> {
    name.to_lowercase().to_ascii().parse().ok()
}

fn is_at(record: &Record, name: &Name) -> bool {
    name_of(&record.name).as_ref() == Some(name)
}

/// The name servers of `owner` among records.
fn targets<'a>(records: impl IntoIterator<Item = &'a Record>, owner: &Name) -> impl Iterator<Item = Name> {
    records.into_iter().filter(move |record| is_at(record, owner)).filter_map(|record| match &record.data {
        RData::NS(target) => name_of(&target.0),
        _ => None,
    })
}

fn address(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(address) => Some(address.0.into()),
        RData::AAAA(address) => Some(address.0.into()),
        _ => None,
    }
}

/// Asks over UDP, and again over TCP if the answer was cut.
fn ask(server: SocketAddr, name: &Name, rtype: RecordType, recursion: bool) -> Result<Message, String> {
    let mut query = Message::query();
    query.metadata.recursion_desired = recursion;
    let owner = hickory_proto::rr::Name::from_ascii(name.to_string()).map_err(|e| e.to_string())?;
    query.add_query(Query::query(owner, rtype));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    query.set_edns(edns);
    let bytes = query.to_vec().map_err(|e| e.to_string())?;
    let answers = |reply: &Message| {
        let question = reply.queries.first();
        reply.metadata.id == query.metadata.id
            && question.is_some_and(|it| {
                it.query_class() == DNSClass::IN
                    && it.query_type() == rtype
                    && name_of(it.name()).as_ref() == Some(name)
            })
    };
    let spoken = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer".to_owned(),
        _ => error.to_string(),
    };
    let mut reply = Err(io::ErrorKind::TimedOut.into());
    for _ in 0..TRIES {
        reply = over_udp(server, &bytes, &answers);
        if reply.is_ok() {
            break;
        }
    }
    let reply = reply.map_err(spoken)?;
    if !reply.metadata.truncation {
        return Ok(reply);
    }
    let reply = over_tcp(server, &bytes).map_err(spoken)?;
    if answers(&reply) { Ok(reply) } else { Err("it answers another question over TCP".into()) }
}

fn over_udp(server: SocketAddr, query: &[u8], answers: &dyn Fn(&Message) -> bool) -> io::Result<Message> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.send(query)?;
    let deadline = Instant::now() + PATIENCE;
    let mut space = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut space)?;
        // What is no answer to this question may be somebody's guess: the answer may still come.
        if let Ok(reply) = Message::from_vec(&space[..length])
            && answers(&reply)
        {
            return Ok(reply);
        }
    }
}

fn over_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes)?;
    Message::from_vec(&bytes).map_err(io::Error::other)
}
