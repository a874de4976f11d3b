//! The addresses of hosts, as resolvers report them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name as DnsName, RecordType};
use hickory_proto::serialize::binary::BinDecodable;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};

use crate::model::{Found, Lookup, Name};

/// How long one resolver is waited for, once.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How often each is asked before the lookup fails.
const ATTEMPTS: usize = 2;

/// Asks resolvers; remembers nothing itself.
pub struct Resolver(TokioResolver);

impl Resolver {
    /// Asks these, over UDP and, if an answer does not fit, TCP; those of /etc/resolv.conf if there are none.
    /// What else that file says, search domains and times, does not matter here, nor does the hosts file: all
    /// nodes shall find the same.
    ///
    /// # Errors
    /// A clause for people, if /etc/resolv.conf cannot be read or names nobody.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, String> {
        let servers = if servers.is_empty() { of_system()? } else { servers.iter().map(server).collect() };
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.timeout = TIMEOUT;
        options.attempts = ATTEMPTS;
        // Whoever asks keeps time by the TTL.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        builder.build().map(Self).map_err(|e| e.to_string())
    }

    /// The addresses of a host, at the end of its CNAMEs.
    pub async fn addresses(&self, host: &Name) -> Lookup {
        let (v4, v6) = tokio::join!(self.look_up(host, RecordType::A), self.look_up(host, RecordType::AAAA));
        Lookup { v4, v6 }
    }

    async fn look_up(&self, host: &Name, rtype: RecordType) -> Result<Found, String> {
        // From wire format it is absolute: no search domain is tried.
        let name = DnsName::from_bytes(host.as_wire()).map_err(|e| e.to_string())?;
        match self.0.lookup(name, rtype).await {
            Ok(found) => {
                let records = found.answers();
                let addresses = records.iter().filter_map(|record| record.data.ip_addr());
                let ttl = records.iter().map(|record| record.ttl).min();
                Ok(Found {
                    addresses: addresses.filter(is_destination).collect(),
                    ttl: ttl.map(|ttl| Duration::from_secs(ttl.into())),
                })
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none)))
                if none.response_code == ResponseCode::NoError =>
            {
                Ok(Found {
                    addresses: Vec::new(),
                    ttl: none.negative_ttl.map(|ttl| Duration::from_secs(ttl.into())),
                })
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => Err(none.response_code.to_string()),
            Err(NetError::Dns(DnsError::ResponseCode(code))) => Err(code.to_string()),
            Err(error) => Err(error.to_string()),
        }
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

/// Whether a client could connect to it: whoever blocks a name answers 0.0.0.0 and the like.
fn is_destination(address: &IpAddr) -> bool {
    let is_mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    !(address.is_unspecified() || address.is_multicast() || *address == IpAddr::from([255; 4]) || is_mapped)
}
