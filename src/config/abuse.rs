//! `cookies`, `rate_limit`, `allow`, `proxy_protocol_from` and `tcp` of `[dns]`: how the name server treats clients that
//! may mean harm.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::model::{AllowedClients, KeyPrefix, Networks, RateLimit, TcpLimits};

use super::diagnostic::Spot;
use super::keys::Shape::{Integer, List, Prefix, Text, Time};
use super::keys::{Key, Keys, default, key, otherwise, required};
use super::table::{At, Table, Value};
use super::text;

/// DNS cookies (RFC 7873).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cookies {
    /// Ignored.
    Off,
    /// With a secret that this process makes up.
    #[default]
    OwnSecret,
    /// With the secrets in a file.
    SecretFile {
        /// The file.
        path: PathBuf,
        /// Where the config names it.
        at: Spot,
    },
}

pub(super) const COOKIES: Keys = Keys {
    known: &[key(
        "secret_file",
        Text,
        required("\"cookies.secret\""),
        "file with the secret that nodes share, 32 hexadecimal digits; a second line is a secret that is also accepted, for rotation",
    )],
    later: &[],
};

pub(super) const TCP: Keys = Keys {
    known: &[
        key(
            "connections",
            Integer(1, MOST_CONNECTIONS),
            otherwise("1024", "1024, or what the limit of open files allows"),
            "most connections open at a time, over all addresses",
        ),
        key(
            "per_prefix",
            Integer(1, MOST_CONNECTIONS),
            otherwise("256", "a quarter of `connections`"),
            "most of them from one client prefix (IPv4 /24, IPv6 /48); a newer connection replaces the one idle for longest",
        ),
        key("idle", Time, default("\"10s\""), "how long a connection may be without a query"),
    ],
    later: &[],
};

pub(super) const RATE_LIMIT: Keys = Keys {
    known: &[
        per_second("responses_per_second", default("20"), "UDP responses per second about one name"),
        per_second(
            "errors_per_second",
            otherwise("20", "`responses_per_second`"),
            "UDP responses per second that are errors",
        ),
        per_second("all_per_second", otherwise("1000", "no limit"), "UDP responses per second of any kind"),
        key(
            "slip",
            Integer(0, MOST_SLIP),
            default("2"),
            "one of this many responses beyond the limit is replaced by a short one, the others are dropped; 0: all are dropped, 1: none",
        ),
        key(
            "window",
            Time,
            default("\"15s\""),
            "how long a prefix far above the limit must be quiet, at most, before it is answered again",
        ),
        key("v4_prefix", Integer(0, 32), default("24"), "length of the IPv4 prefixes that share a limit"),
        key("v6_prefix", Integer(0, 128), default("56"), "length of the IPv6 prefixes that share a limit"),
        key(
            "exempt",
            List(&Prefix),
            otherwise("[\"10.0.0.0/8\"]", "none"),
            "prefixes of clients without a limit",
        ),
    ],
    later: &[],
};

pub(super) const PROXY_PROTOCOL_FROM: Key = key(
    "proxy_protocol_from",
    List(&Prefix),
    otherwise("[\"10.0.0.10/32\"]", "none"),
    "prefixes of proxies whose TCP connections begin with a PROXY header (version 1 or 2), which names the client",
);

/// A limit, which holds per client prefix and UDP worker.
const fn per_second(name: &'static str, given: super::keys::Given, about: &'static str) -> Key {
    key(name, Integer(1, MOST_PER_SECOND), given, about)
}

const MOST_PER_SECOND: u64 = RateLimit::MOST_PER_SECOND as u64;
/// With fewer short responses than one in ten, hardly any client would get one.
const MOST_SLIP: u64 = 10;
/// The window's shortest length: that of the credit.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);

/// The range of `[dns] tcp` for numbers of connections. One address has no more ports.
const MOST_CONNECTIONS: u64 = 65_535;
/// The range of idle times: within a second distant clients could not follow one query by another.
const IDLE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(10 * 60);

pub(super) fn read_allowed(value: &Value<'_>) -> AllowedClients {
    prefixes(value).into_iter().map(|prefix| prefix.value).collect()
}

pub(super) fn read_proxies(dns: &Table<'_>) -> Networks {
    let Some(value) = dns.get("proxy_protocol_from") else { return Networks::default() };
    let prefixes = prefixes(&value);
    for At { value: prefix, span } in prefixes.iter().filter(|prefix| prefix.value.prefix_len() == 0) {
        dns.report.warning(
            span.clone(),
            format!("{prefix} makes a proxy of every TCP client, and each may claim any address"),
            "list only the addresses of your proxies",
        );
    }
    prefixes.into_iter().map(|prefix| prefix.value).collect()
}

/// Reads a list of prefixes.
pub(super) fn prefixes(value: &Value<'_>) -> Vec<At<IpNet>> {
    let items = value.items("a list of prefixes such as [\"10.0.0.0/8\"]").unwrap_or_default();
    let prefix = |item: &Value<'_>| {
        item.parsed("a prefix such as \"10.0.0.0/8\"", text::prefix).map(|prefix| item.at(prefix))
    };
    items.iter().filter_map(prefix).collect()
}

pub(super) fn read_tcp(value: &Value<'_>) -> Option<TcpLimits> {
    let table = value.table("dns.tcp", &TCP)?;
    let count = |key| table.get(key).and_then(|value| value.integer(1..=MOST_CONNECTIONS));
    let (connections, per_prefix) = (count("connections"), count("per_prefix"));
    if let (Some(connections), Some(per_prefix), Some(value)) =
        (connections, per_prefix, table.get("per_prefix"))
        && per_prefix > connections
    {
        value.fail::<()>(format!("`per_prefix` exceeds `connections`, which is {connections}"));
    }
    let idle = table.get("idle").and_then(|value| value.duration(IDLE));
    Some(TcpLimits {
        connections: connections.map(|count| count as usize),
        per_prefix: per_prefix.map(|count| count as usize),
        idle: idle.unwrap_or_else(|| TcpLimits::default().idle),
    })
}

pub(super) fn read_cookies(dns: &Table<'_>) -> Cookies {
    let Some(value) = dns.get("cookies") else { return Cookies::default() };
    match value.as_boolean() {
        Some(true) => Cookies::OwnSecret,
        Some(false) => Cookies::Off,
        None => read_secret_file(&value).unwrap_or_default(),
    }
}

fn read_secret_file(value: &Value<'_>) -> Option<Cookies> {
    if !value.is_table() {
        return value.expected("true, false or { secret_file = \"…\" }");
    }
    let file = value.table("dns.cookies", &COOKIES)?.need("secret_file")?;
    let path = value.report.resolve(file.text("the path of a file")?);
    Some(Cookies::SecretFile { path, at: value.report.spot(file.span) })
}

pub(super) fn read_rate_limit(dns: &Table<'_>) -> Option<RateLimit> {
    let value = dns.get("rate_limit")?;
    if value.as_boolean() == Some(false) {
        return None;
    }
    if !value.is_table() {
        return value.expected("false or a table such as { responses_per_second = 20 }");
    }
    let table = value.table("dns.rate_limit", &RATE_LIMIT)?;
    let usual = RateLimit::default();
    let integer = |key, from, to| table.get(key).and_then(|value| value.integer(from..=to));
    let per_second = |key| integer(key, 1, MOST_PER_SECOND).map(|number| number as u32);
    let responses_per_second = per_second("responses_per_second").unwrap_or(usual.responses_per_second);
    let window = table.get("window").and_then(|it| it.duration(SHORTEST_WINDOW..=RateLimit::LONGEST_WINDOW));
    let exempt = table.get("exempt").and_then(|value| value.items("a list of prefixes"));
    let exempt = exempt.into_iter().flatten();
    Some(RateLimit {
        responses_per_second,
        errors_per_second: per_second("errors_per_second").unwrap_or(responses_per_second),
        all_per_second: per_second("all_per_second"),
        slip: integer("slip", 0, MOST_SLIP).map_or(usual.slip, |slip| slip as u32),
        window: window.unwrap_or(usual.window),
        prefix: KeyPrefix {
            v4: integer("v4_prefix", 0, 32).map_or(usual.prefix.v4, |bits| bits as u8),
            v6: integer("v6_prefix", 0, 128).map_or(usual.prefix.v6, |bits| bits as u8),
        },
        exempt: exempt
            .filter_map(|item| item.parsed("a prefix such as \"10.0.0.0/8\"", text::prefix))
            .collect(),
    })
}

/// Warns of a listener that strangers may reach while `rate_limit` is not mentioned.
pub(super) fn advise<'l>(dns: &Table<'_>, mut listeners: impl Iterator<Item = &'l At<SocketAddr>>) {
    if dns.has("rate_limit") || dns.report.errors() > 0 {
        return;
    }
    if let Some(At { value, span }) = listeners.find(|address| is_public(address.value.ip())) {
        dns.report.warning(
            span.clone(),
            format!("strangers may reach {value}, and their responses are not limited"),
            "with a forged source address they could flood a victim; set `rate_limit = {}`, or false to keep it so",
        );
    }
}

/// Whether strangers may reach an address: it is a wildcard or not of a private range.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let is_shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64; // RFC 6598
            !(v4.is_loopback() || v4.is_private() || v4.is_link_local() || is_shared)
        }
        IpAddr::V6(v6) => !(v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()),
    }
}
