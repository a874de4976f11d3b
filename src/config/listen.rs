//! `[dns]` and `[control]`: where this node listens, and who may control it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::model::{
    AllowedClients, Identity, KeyPrefix, MAX_IDENTITY, Networks, QueryLog, RateLimit, TcpLimits,
};

use super::Spot;
use super::abuse::{self, Cookies};
use super::claim::{Claims, Transports};
use super::keys::Shape::{
    AddressPort, Boolean, Either, False, Fields, Integer, List, OneOrMany, Prefix, Text, Words,
};
use super::keys::{Keys, default, key, otherwise, required};
use super::table::{Table, Value};
use super::{query_log, text};

/// `[dns]`: the name server.
#[derive(Clone, Debug, PartialEq)]
pub struct Dns {
    /// Addresses for UDP and TCP; at least one, without duplicates.
    pub listen: Vec<SocketAddr>,
    /// UDP workers per address, at most 1024; 0: one per core.
    pub workers: usize,
    /// Whether EDNS Client Subnet (RFC 7871) is used and echoed.
    pub ecs: bool,
    /// The prefix lengths of the client address that shares and hashes are keyed on.
    pub key_prefix: KeyPrefix,
    /// Whether `_portolan.NAME` TXT shows clients how they are steered.
    pub debug_names: bool,
    /// What the server reveals about itself.
    pub identity: Identity,
    /// DNS cookies.
    pub cookies: Cookies,
    /// The limits on UDP responses, if there are any.
    pub rate_limit: Option<RateLimit>,
    /// Who may ask; everyone by default.
    pub allow: AllowedClients,
    /// The proxies whose PROXY headers are believed.
    pub proxies: Networks,
    /// Limits of DNS over TCP.
    pub tcp: TcpLimits,
    /// Where queries are logged, if they are.
    pub query_log: Option<QueryLog>,
}

/// `[control]`: API and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// TCP address; `None` for `listen = false`.
    pub listen: Option<SocketAddr>,
    /// Unix socket; `None` for `socket = false`.
    pub socket: Option<PathBuf>,
    /// The group that may use the socket, besides the user that runs the node.
    pub group: Option<NamedGroup>,
    /// The names by which clients address this node over TCP, besides its own.
    pub hosts: Vec<String>,
    /// Who may read over TCP.
    pub read: Read,
    /// The tokens that may make changes over TCP.
    pub tokens: Vec<Token>,
    /// The files for TLS at `listen`; `None` without TLS.
    pub tls: Option<ControlTls>,
    /// TCP address of a listener that has only `/metrics`.
    pub metrics: Option<SocketAddr>,
}

/// `[control] tls`: files, which the config names but does not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlTls {
    /// PEM file of the certificate and those that lead to its authority.
    pub cert: NamedFile,
    /// PEM file of its private key.
    pub key: NamedFile,
    /// PEM file of the authorities of client certificates, if clients must have one.
    pub client_ca: Option<NamedFile>,
}

/// A group of users of this host, and where the config names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedGroup {
    /// Its name.
    pub name: String,
    /// Where the config names it.
    pub at: Spot,
}

/// A file, and where the config names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// Its path.
    pub path: PathBuf,
    /// Where the config names it.
    pub at: Spot,
}

/// Who may read over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Everyone who reaches the listener.
    Anyone,
    /// The bearers of a token, of whatever role.
    Token,
}

impl Control {
    /// Where the API listens unless the config says otherwise.
    pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8053);
    /// The path of the socket unless the config says otherwise.
    pub const DEFAULT_SOCKET: &str = "/run/portolan/control.sock";
}

impl Default for Control {
    fn default() -> Self {
        Self {
            listen: Some(Self::DEFAULT_LISTEN),
            socket: Some(Self::DEFAULT_SOCKET.into()),
            group: None,
            hosts: Vec::new(),
            read: Read::Anyone,
            tokens: Vec::new(),
            tls: None,
            metrics: None,
        }
    }
}

/// A token that lets its bearer make changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its name, which identifies the bearer.
    pub name: String,
    /// What it permits.
    pub role: Role,
    /// SHA-256 of the token; the token itself is never in a config.
    pub sha256: [u8; 32],
}

/// What a token permits; each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Read only.
    Viewer,
    /// Drain, force and restore.
    Operator,
    /// Everything, including changes that the safety rules forbid.
    Admin,
}

pub(super) const DNS: Keys = Keys {
    known: &[
        key(
            "listen",
            OneOrMany(&AddressPort),
            required("[\"0.0.0.0:53\", \"[::]:53\"]"),
            "addresses to listen on, UDP and TCP; IPv6 sockets accept IPv6 only",
        ),
        key(
            "workers",
            Integer(0, MOST_WORKERS),
            default("0"),
            "UDP workers per address; 0 means one per core",
        ),
        key("ecs", Boolean, default("true"), "whether to use EDNS Client Subnet (RFC 7871)"),
        key(
            "key_prefix",
            Fields(&KEY_PREFIX),
            otherwise("", "as shown there"),
            "client prefix that `share` uses as its key",
        ),
        key(
            "debug_names",
            Boolean,
            default("false"),
            "whether TXT queries for _portolan.NAME return the epoch and the decision for the client, for each service NAME",
        ),
        key(
            "identity",
            Fields(&IDENTITY),
            otherwise("", "nothing"),
            "what the server reveals about itself; other identity queries are refused",
        ),
        key(
            "cookies",
            Either(&[Boolean, Fields(&abuse::COOKIES)]),
            default("true"),
            "whether to grant DNS cookies (RFC 7873), by which clients prove their address; true uses a random secret",
        ),
        key(
            "rate_limit",
            Either(&[Fields(&abuse::RATE_LIMIT), False]),
            otherwise("{ responses_per_second = 20 }", "false"),
            "limits on UDP responses to clients without a valid cookie, per client prefix and worker",
        ),
        key(
            "allow",
            List(&Prefix),
            otherwise("[\"10.0.0.0/8\", \"2001:db8::/32\"]", "everyone"),
            "prefixes of clients that may ask; others are refused over UDP and disconnected over TCP",
        ),
        key("tcp", Fields(&abuse::TCP), otherwise("", "as shown there"), "limits of DNS over TCP"),
        abuse::PROXY_PROTOCOL_FROM,
        key(
            "query_log",
            Fields(&query_log::QUERY_LOG),
            otherwise("", "none"),
            "who asked what, and what the answer was; nothing waits for it, and a reload opens the file again",
        ),
    ],
    later: &["tls", "transfer"],
};
const KEY_PREFIX: Keys = Keys {
    known: &[
        key("v4", Integer(0, 32), default("24"), "prefix length for IPv4, in bits"),
        key("v6", Integer(0, 128), default("56"), "prefix length for IPv6, in bits"),
    ],
    later: &[],
};
const IDENTITY: Keys = Keys {
    known: &[
        key(
            "version",
            Text,
            otherwise("\"9.9\"", "refused"),
            "answer to CHAOS TXT version.bind and version.server",
        ),
        key(
            "hostname",
            Text,
            otherwise("\"ns1\"", "refused"),
            "answer to CHAOS TXT hostname.bind and id.server",
        ),
        key(
            "nsid",
            Either(&[Text, False]),
            otherwise("\"ns1\"", "`hostname`"),
            "value of the EDNS option NSID; false: no NSID",
        ),
    ],
    later: &[],
};
pub(super) const CONTROL: Keys = Keys {
    known: &[
        key(
            "listen",
            Either(&[AddressPort, False]),
            default("\"127.0.0.1:8053\""),
            "TCP address to listen on; false: no TCP listener",
        ),
        key(
            "socket",
            Either(&[Text, False]),
            default("\"/run/portolan/control.sock\""),
            "path of the Unix socket; false: no socket",
        ),
        key(
            "group",
            Text,
            otherwise("\"portolan\"", "nobody else"),
            "group whose members may do everything at the socket, like root and the user that runs the node",
        ),
        key(
            "hosts",
            List(&Text),
            otherwise("[\"ns1.example.com\"]", "[node] name alone"),
            "names by which clients address the API over TCP, besides addresses, localhost and [node] name; others are refused",
        ),
        key(
            "read",
            Words(&["anyone", "token"]),
            default("\"anyone\""),
            "who may read over TCP: \"anyone\", or only holders of a token (\"token\"), whatever its role; /livez and /readyz need none",
        ),
        key(
            "token",
            List(&Fields(&TOKEN)),
            otherwise("", "none"),
            "bearer tokens that allow changes over TCP, and reads where those need one",
        ),
        key("tls", Fields(&TLS), otherwise("", "no TLS"), "TLS at `listen`; a reload reads the files again"),
        key(
            "metrics",
            AddressPort,
            otherwise("\"127.0.0.1:9153\"", "no such listener"),
            "TCP address of a listener for /metrics alone, without tokens and TLS",
        ),
    ],
    later: &[],
};
const TLS: Keys = Keys {
    known: &[
        key(
            "cert",
            Text,
            required("\"control.pem\""),
            "PEM file of the certificate, followed by those that lead to its authority",
        ),
        key(
            "key",
            Text,
            required("\"control.key\""),
            "PEM file of its private key, to which not every user may have access",
        ),
        key(
            "client_ca",
            Text,
            otherwise("\"clients.pem\"", "clients need no certificate"),
            "PEM file of certificate authorities; clients must have a certificate of one of them",
        ),
    ],
    later: &[],
};
const TOKEN: Keys = Keys {
    known: &[
        key("name", Text, required("\"ci\""), "name of its holder, shown in logs and overrides"),
        key(
            "role",
            Words(&["viewer", "operator", "admin"]),
            required("\"operator\""),
            "\"viewer\" may only read, \"operator\" may make changes, \"admin\" may also override safety rules",
        ),
        key(
            "sha256",
            Text,
            required("\"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\""),
            "SHA-256 of the token: printf %s \"$TOKEN\" | sha256sum",
        ),
    ],
    later: &[],
};

const LISTENERS: &str = "a list of addresses such as [\"0.0.0.0:53\", \"[::]:53\"]";
const A_LISTENER: &str = "an address such as \"127.0.0.1:8053\"";
const MOST_WORKERS: u64 = 1024;
const READERS: [(&str, Read); 2] = [("anyone", Read::Anyone), ("token", Read::Token)];

/// Reads both tables. Their TCP listeners are added to those that are claimed.
pub(super) fn read(root: &Table<'_>, claims: &mut Claims) -> (Option<Dns>, Control) {
    let dns = root.get("dns").and_then(|value| read_dns(&value, claims));
    let control = root.get("control").and_then(|value| read_control(&value, claims));
    (dns, control.unwrap_or_default())
}

fn read_dns(value: &Value<'_>, claims: &mut Claims) -> Option<Dns> {
    let table = value.table("dns", &DNS)?;
    let mut listen = Vec::new();
    for item in table.need("listen").and_then(|value| value.one_or_many(LISTENERS)).unwrap_or_default() {
        listen.extend(
            item.parsed(A_LISTENER, text::listener)
                .and_then(|address| claims.add(&item, address, Transports::Both)),
        );
    }
    let workers = table.get("workers").and_then(|value| value.integer(0..=MOST_WORKERS));
    let dns = Dns {
        listen,
        workers: workers.unwrap_or(0) as usize,
        ecs: table.get("ecs").and_then(|value| value.boolean()).unwrap_or(true),
        key_prefix: table.get("key_prefix").and_then(|value| read_key_prefix(&value)).unwrap_or_default(),
        debug_names: table.get("debug_names").and_then(|value| value.boolean()).unwrap_or(false),
        identity: table.get("identity").and_then(|value| read_identity(&value)).unwrap_or_default(),
        cookies: abuse::read_cookies(&table),
        rate_limit: abuse::read_rate_limit(&table),
        allow: table.get("allow").map(|value| abuse::read_allowed(&value)).unwrap_or_default(),
        proxies: abuse::read_proxies(&table),
        tcp: table.get("tcp").and_then(|value| abuse::read_tcp(&value)).unwrap_or_default(),
        query_log: query_log::read(&table),
    };
    abuse::advise(&table, claims.addresses());
    Some(dns)
}

fn read_identity(value: &Value<'_>) -> Option<Identity> {
    let table = value.table("dns.identity", &IDENTITY)?;
    let text = |value: Value<'_>| {
        let text = value.text("a text")?;
        if text.len() > MAX_IDENTITY {
            return value
                .fail(format!("the text has {} bytes, but at most {MAX_IDENTITY} are allowed", text.len()));
        }
        Some(text.to_owned())
    };
    let (version, hostname) = (table.get("version").and_then(text), table.get("hostname").and_then(text));
    let nsid = match table.get("nsid") {
        None => hostname.clone(),
        Some(value) if value.as_boolean() == Some(false) => None,
        Some(value) => text(value),
    };
    Some(Identity { version, hostname, nsid })
}

fn read_key_prefix(value: &Value<'_>) -> Option<KeyPrefix> {
    let table = value.table("dns.key_prefix", &KEY_PREFIX)?;
    let default = KeyPrefix::default();
    let bits = |key, most| table.get(key).and_then(|value| value.integer(0..=most)).map(|bits| bits as u8);
    Some(KeyPrefix { v4: bits("v4", 32).unwrap_or(default.v4), v6: bits("v6", 128).unwrap_or(default.v6) })
}

fn read_control(value: &Value<'_>, claims: &mut Claims) -> Option<Control> {
    let table = value.table("control", &CONTROL)?;
    let default = Control::default();
    let listen = match table.get("listen") {
        None => default.listen,
        Some(value) if value.as_boolean() == Some(false) => None,
        Some(value) => value
            .parsed("an address such as \"127.0.0.1:8053\", or false", text::listener)
            .and_then(|address| claims.add_control(&value, address)),
    };
    let socket = match table.get("socket") {
        None => default.socket,
        Some(value) if value.as_boolean() == Some(false) => None,
        Some(value) => value.text("a path, or false").map(|path| value.report.resolve(path)),
    };
    let group = table.get("group").and_then(|value| read_group(&value, socket.is_some()));
    let mut tokens: Vec<Token> = Vec::new();
    for item in table.get("token").and_then(|value| value.items("a list of tokens")).unwrap_or_default() {
        let Some(token) = read_token(&item) else { continue };
        if tokens.iter().any(|other| other.name == token.name) {
            item.fail::<()>(format!("token `{}` is defined twice", token.name));
        }
        tokens.push(token);
    }
    let names = table.get("hosts").and_then(|value| value.items("a list of names")).unwrap_or_default();
    let hosts = names.iter().filter_map(|item| item.parsed("a host name", text::host));
    let hosts = hosts.map(|host| host.to_str().into_owned()).collect();
    let read = table.get("read").and_then(|value| value.choice(&READERS, &[])).unwrap_or(default.read);
    let tls = table.get("tls").and_then(|value| read_tls(&value));
    let metrics = table.get("metrics").and_then(|value| {
        let address = value.parsed("an address such as \"127.0.0.1:9153\"", text::listener)?;
        claims.add(&value, address, Transports::Tcp)
    });
    let control = Control { listen, socket, group, hosts, read, tokens, tls, metrics };
    warn_of_exposure(&table, &control);
    Some(control)
}

fn read_group(value: &Value<'_>, has_socket: bool) -> Option<NamedGroup> {
    let name = value.text("the name of a group")?;
    if !has_socket {
        return value.fail("there is no socket for a group: `socket` is false");
    }
    Some(NamedGroup { name: name.to_owned(), at: value.report.spot(value.span.clone()) })
}

fn read_tls(value: &Value<'_>) -> Option<ControlTls> {
    let table = value.table("control.tls", &TLS)?;
    let file = |value: Value<'_>| named_file(&value, "the path of a PEM file");
    let (cert, key) = (table.need("cert").and_then(file), table.need("key").and_then(file));
    let client_ca = table.get("client_ca").and_then(file);
    Some(ControlTls { cert: cert?, key: key?, client_ca })
}

/// A file that is read later; `what` describes the value.
pub(super) fn named_file(value: &Value<'_>, what: &str) -> Option<NamedFile> {
    let path = value.report.resolve(value.text(what)?);
    Some(NamedFile { path, at: value.report.spot(value.span.clone()) })
}

/// Warns of what strangers could read or overhear.
fn warn_of_exposure(table: &Table<'_>, control: &Control) {
    if control.read == Read::Token && control.tokens.is_empty() {
        table.report.warning(
            table.key_span("read"),
            "reads over TCP need a token, but there is none",
            "define one with `[[control.token]]`; the socket needs none",
        );
    }
    let Some(listen) = control.listen.filter(|listen| !listen.ip().is_loopback()) else { return };
    if control.read == Read::Anyone {
        table.report.warning(
            table.key_span("listen"),
            format!("anyone who can reach {listen} can read status, events and metrics"),
            "set `read` = \"token\", or listen on a loopback address",
        );
    }
    if control.tls.is_none() {
        table.report.warning(
            table.key_span("listen"),
            format!("tokens and replies cross the network to and from {listen} unencrypted"),
            "set `tls`, or listen on a loopback address",
        );
    }
}

fn read_token(value: &Value<'_>) -> Option<Token> {
    let table = value.table("control.token", &TOKEN)?;
    let roles = [("viewer", Role::Viewer), ("operator", Role::Operator), ("admin", Role::Admin)];
    let name = table
        .need("name")
        .and_then(|value| value.parsed("a name", |text| text::own_name(text).map(|()| text.to_owned())));
    let role = table.need("role").and_then(|value| value.choice(&roles, &[]));
    let sha256 = table
        .need("sha256")
        .and_then(|value| value.parsed("a SHA-256 in 64 hexadecimal digits", text::sha256));
    Some(Token { name: name?, role: role?, sha256: sha256? })
}
