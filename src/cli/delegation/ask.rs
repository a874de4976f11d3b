//! Queries to resolvers and to the name servers of a parent zone.
//!
//! The parent's servers are asked one by one, without recursion, and what matters is the referral that each of them
//! sends. hickory's `Resolver` chooses servers by itself and turns replies without an answer into errors, so this
//! uses its clients for a single server instead.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use hickory_proto::op::{DnsRequestOptions, DnsResponse, Query, ResponseCode};
use hickory_proto::rr::{Name as DnsName, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinDecodable as _;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::tcp::TcpClientStream;
use hickory_resolver::net::udp::UdpClientStream;
use hickory_resolver::net::xfer::{DnsHandle as _, FirstAnswer as _};
use hickory_resolver::system_conf::read_system_conf;
use tokio::runtime::Runtime;

use super::Delegation;
use crate::model::Name;

/// How long to wait for a server's answer over UDP, in which the query is sent up to three times, and over TCP.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The most addresses of a parent to ask: as many as the root has.
const MOST_SERVERS: usize = 26;

const DNS_PORT: u16 = 53;

/// Asks resolvers for the parent of a zone, and the parent's servers for the zone.
pub(crate) struct Asker {
    /// Tried in this order.
    pub(super) resolvers: Vec<SocketAddr>,
    /// The port of the parent's name servers.
    port: u16,
    runtime: Runtime,
}

/// A zone and the addresses of its name servers.
pub(super) struct Parent {
    pub(super) name: Name,
    pub(super) servers: Vec<(Name, IpAddr)>,
}

impl Asker {
    /// Uses the resolver given as ADDR or ADDR:PORT, or else the system's.
    pub(crate) fn new(resolver: Option<&str>) -> Result<Self> {
        let resolvers = match resolver {
            Some(written) => {
                let address = written.parse().or_else(|_| Ok(SocketAddr::new(written.parse()?, DNS_PORT)));
                vec![address.map_err(|_: std::net::AddrParseError| {
                    anyhow::anyhow!("{written:?} is not a valid resolver: write ADDR or ADDR:PORT")
                })?]
            }
            None => {
                let (config, _) = read_system_conf()
                    .context("cannot use /etc/resolv.conf; name a resolver with `--resolver ADDR`")?;
                config.name_servers().iter().map(|server| SocketAddr::new(server.ip, DNS_PORT)).collect()
            }
        };
        Self::with(resolvers, DNS_PORT)
    }

    pub(super) fn with(resolvers: Vec<SocketAddr>, port: u16) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { resolvers, port, runtime })
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

    /// The delegation of `origin` at a name server of the parent.
    pub(super) fn delegation(&self, server: IpAddr, origin: &Name) -> Result<Delegation, String> {
        let server = SocketAddr::new(server, self.port);
        let mut options = DnsRequestOptions::default();
        options.recursion_desired = false;
        let reply = self.ask(server, origin, RecordType::NS, options)?;
        // NXDOMAIN means that there is no delegation.
        if !matches!(reply.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain) {
            return Err(format!("it answers {}", reply.metadata.response_code));
        }
        // A server of the zone itself sends the records in the answer section, any other in a referral.
        let servers = targets(reply.answers.iter().chain(&reply.authorities), origin).collect();
        let mut found = Delegation { servers, ..Delegation::default() };
        for record in &reply.additionals {
            if let (Some(owner), Some(address)) = (name_of(&record.name), address(record)) {
                found.addresses.entry(owner).or_default().insert(address);
            }
        }
        let reply = self.ask(server, origin, RecordType::DS, options)?;
        let signers = reply.answers.iter().filter(|record| is_at(record, origin)).filter_map(|record| {
            let RData::Unknown { code: RecordType::DS, rdata } = &record.data else { return None };
            rdata.anything.first_chunk().map(|tag| u16::from_be_bytes(*tag))
        });
        found.signers.extend(signers);
        Ok(found)
    }

    /// Asks the resolvers in turn until one answers.
    fn resolve(&self, name: &Name, rtype: RecordType) -> Result<DnsResponse, String> {
        let mut failed = Vec::new();
        for resolver in &self.resolvers {
            match self.ask(*resolver, name, rtype, DnsRequestOptions::default()) {
                Ok(reply) => match reply.metadata.response_code {
                    ResponseCode::NoError | ResponseCode::NXDomain => return Ok(reply),
                    code => failed.push(format!("the resolver {resolver} answers {code} for {name} {rtype}")),
                },
                Err(why) => failed.push(format!("the resolver {resolver}: {why}")),
            }
        }
        Err(failed.join("; "))
    }

    fn ask(
        &self,
        server: SocketAddr,
        name: &Name,
        rtype: RecordType,
        options: DnsRequestOptions,
    ) -> Result<DnsResponse, String> {
        let name = DnsName::from_bytes(name.as_wire()).map_err(|e| e.to_string())?;
        let asked = ask(server, Query::query(name, rtype), options);
        self.runtime.block_on(asked).map_err(|e| e.to_string())
    }
}

fn name_of(name: &DnsName) -> Option<Name> {
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

/// Asks over UDP, and again over TCP if the answer was truncated.
pub(super) async fn ask(
    server: SocketAddr,
    query: Query,
    options: DnsRequestOptions,
) -> Result<DnsResponse, NetError> {
    let provider = TokioRuntimeProvider::default();
    let udp = UdpClientStream::builder(server, provider.clone()).with_timeout(Some(TIMEOUT)).exchange();
    let reply = udp.lookup(query.clone(), options).first_answer().await?;
    if !reply.metadata.truncation {
        return Ok(reply);
    }
    let tcp = TcpClientStream::exchange(server, None, TIMEOUT, None, provider).await?;
    let reply = tcp.lookup(query.clone(), options).first_answer().await?;
    // Unlike the UDP client, the TCP client does not compare the question.
    if reply.queries == [query] { Ok(reply) } else { Err("it answers another question over TCP".into()) }
}
