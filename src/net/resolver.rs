//! The addresses of hosts, from resolvers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name as DnsName, RData, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinEncodable};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};

use crate::model::{Destinations, Found, Lookup, Name, ServiceRecord};

/// How long to wait for one answer of one resolver.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How many times each resolver is asked before the lookup fails.
const ATTEMPTS: usize = 2;

/// Asks resolvers; caches nothing itself.
pub struct Resolver {
    resolver: TokioResolver,
    /// Those of the config; empty: the system's.
    servers: Box<[SocketAddr]>,
    destinations: Destinations,
}

impl Resolver {
    /// Uses these resolvers, or without any those of /etc/resolv.conf, over UDP and, if an answer is truncated,
    /// over TCP. Ignores the other settings of that file, such as search domains and timeouts, and the hosts file,
    /// so that all nodes find the same. Uses only addresses that `destinations` include.
    ///
    /// # Errors
    /// A message, if /etc/resolv.conf cannot be read or names no resolver.
    pub fn new(servers: &[SocketAddr], destinations: Destinations) -> Result<Self, String> {
        let asked = if servers.is_empty() { of_system()? } else { servers.iter().map(server).collect() };
        let config = ResolverConfig::from_parts(None, Vec::new(), asked);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.timeout = TIMEOUT;
        options.attempts = ATTEMPTS;
        // Callers ask again by the TTL.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let resolver = builder.build().map_err(|e| e.to_string())?;
        Ok(Self { resolver, servers: servers.into(), destinations })
    }

    /// The addresses of a host, following CNAMEs.
    pub async fn addresses(&self, host: &Name) -> Lookup {
        let (v4, v6) = tokio::join!(self.lookup(host, RecordType::A), self.lookup(host, RecordType::AAAA));
        Lookup { v4, v6 }
    }

    /// The SRV records of a name (RFC 2782), following CNAMEs, with their lowest TTL. A single record whose target is the root
    /// stands for none.
    ///
    /// # Errors
    /// Why there is no answer, as a clause.
    pub async fn services(&self, name: &Name) -> Result<(Vec<ServiceRecord>, Duration), String> {
        let name = DnsName::from_bytes(name.as_wire()).map_err(|e| e.to_string())?;
        let found = match self.resolver.lookup(name, RecordType::SRV).await {
            Ok(found) => found,
            Err(NetError::Dns(DnsError::NoRecordsFound(none)))
                if none.response_code == ResponseCode::NoError =>
            {
                return Ok((Vec::new(), Duration::ZERO));
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => return Err(none.response_code.to_string()),
            Err(NetError::Dns(DnsError::ResponseCode(code))) => return Err(code.to_string()),
            Err(error) => return Err(error.to_string()),
        };
        let ttl = found.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
        let services = found.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) if !srv.target.is_root() => Some(ServiceRecord {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: Name::from_wire(&srv.target.to_lowercase().to_bytes().ok()?).ok()?,
            }),
            _ => None,
        });
        Ok((services.collect(), Duration::from_secs(ttl.into())))
    }

    async fn lookup(&self, host: &Name, rtype: RecordType) -> Result<Found, String> {
        // From wire format it is absolute: no search domain is tried.
        let name = DnsName::from_bytes(host.as_wire()).map_err(|e| e.to_string())?;
        match self.resolver.lookup(name, rtype).await {
            Ok(found) => {
                let records = found.answers();
                let addresses = records.iter().filter_map(|record| record.data.ip_addr());
                let ttl = records.iter().map(|record| record.ttl).min();
                found_of(addresses, ttl.map(|ttl| Duration::from_secs(ttl.into())), &self.destinations)
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none)))
                if none.response_code == ResponseCode::NoError =>
            {
                Ok(Found {
                    addresses: Vec::new(),
                    refused: None,
                    ttl: none.negative_ttl.map(|ttl| Duration::from_secs(ttl.into())),
                })
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => Err(none.response_code.to_string()),
            Err(NetError::Dns(DnsError::ResponseCode(code))) => Err(code.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Whether the config says the same.
impl PartialEq for Resolver {
    fn eq(&self, other: &Self) -> bool {
        self.servers == other.servers && self.destinations == other.destinations
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

fn of_system() -> Result<Vec<NameServerConfig>, String> {
    let (config, _) =
        hickory_resolver::system_conf::read_system_conf().map_err(|e| format!("/etc/resolv.conf: {e}"))?;
    Ok(config.name_servers().to_vec())
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    server.connections.iter_mut().for_each(|connection| connection.port = address.port());
    server
}

/// The usable addresses of an answer. An answer that has only others is a failure, so that the last good one stays in use.
fn found_of(
    addresses: impl Iterator<Item = IpAddr>,
    ttl: Option<Duration>,
    destinations: &Destinations,
) -> Result<Found, String> {
    let mut found = Found { ttl, ..Found::default() };
    for address in addresses {
        match destinations.refusal(address) {
            None => found.addresses.push(address),
            Some(why) => {
                found.refused.get_or_insert_with(|| format!("{address} {why}"));
            }
        }
    }
    match found.refused {
        Some(why) if found.addresses.is_empty() => Err(why),
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_usable_addresses_is_a_failure() {
        let found = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|text| text.parse::<IpAddr>().expect("an address"));
            let found = found_of(addresses, None, &Destinations::default());
            found.map(|found| (found.addresses.len(), found.refused))
        };
        let refused = "10.0.0.1 is not public; list its network in `[node] private_networks` to use it";
        assert_eq!(found(&[]), Ok((0, None)));
        assert_eq!(found(&["192.0.2.1"]), Ok((1, None)));
        assert_eq!(found(&["192.0.2.1", "10.0.0.1", "::1"]), Ok((1, Some(refused.into()))));
        assert_eq!(found(&["10.0.0.1"]), Err(refused.into()));
        assert_eq!(found(&["0.0.0.0"]), Err("0.0.0.0 cannot be connected to".into()));
    }
}
