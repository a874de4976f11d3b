//! `[node]`, `[log]`, `[safety]` and `[journal]`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::model::{Destinations, Rules, Service, SuspectSelf};

use super::Spot;
use super::keys::Shape::{Any, Boolean, Fields, Integer, List, OneOrMany, Prefix, Text, Time, Words};
use super::keys::{Keys, default, key, otherwise, required};
use super::table::{At, Table, Value};
use super::text;

/// `[node]`: settings of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name in status and metrics; `None`: the host name.
    pub name: Option<String>,
    /// The directory for state that survives restarts; `None`: in memory only.
    pub state_dir: Option<PathBuf>,
    /// The user to run as once every socket is bound; `None`: the one that starts the node.
    pub user: Option<String>,
    /// Whether the process gives up rights that it does not need, by Landlock.
    pub landlock: bool,
    /// The resolvers for endpoints with a host name, over UDP and TCP; empty: the system's.
    pub resolvers: Vec<SocketAddr>,
    /// Where the hosts that resolvers look up may be.
    pub destinations: Destinations,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            name: None,
            state_dir: None,
            user: None,
            landlock: true,
            resolvers: Vec::new(),
            destinations: Destinations::default(),
        }
    }
}

/// The table `[log]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The format of lines; `None`: text on a terminal, otherwise JSON.
    pub format: Option<LogFormat>,
    /// The least severe level that is logged.
    pub level: LogLevel,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Readable text.
    Text,
}

/// Log levels, the most severe first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the variants are the usual levels")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

pub(super) const NODE: Keys = Keys {
    known: &[
        key("name", Text, otherwise("\"ns1\"", "the host name"), "its name in status and metrics"),
        key(
            "state_dir",
            Text,
            otherwise("\"/var/lib/portolan\"", "kept in memory only"),
            "directory for overrides and verdicts that survive a restart",
        ),
        key(
            "user",
            Text,
            otherwise("\"portolan\"", "the user that starts the node"),
            "user to become once every socket is bound; the node must be started as root",
        ),
        key(
            "landlock",
            Boolean,
            default("true"),
            "whether the node gives up the right to execute programs and to write files outside of its state, where the kernel has Landlock",
        ),
        key(
            "resolver",
            OneOrMany(&Text),
            otherwise("[\"192.0.2.53\", \"[2001:db8::53]:5353\"]", "those of /etc/resolv.conf"),
            "resolvers that look up endpoints with `host` but no `address`, and ACME servers, at port 53 unless given",
        ),
        key(
            "private_networks",
            List(&Prefix),
            otherwise("[\"10.0.0.0/8\", \"fd00::/8\"]", "none"),
            "networks that are not public whose addresses resolvers may report for a `host`: others of private, loopback and link-local networks are never probed nor answered",
        ),
    ],
    later: &[],
};
pub(super) const LOG: Keys = Keys {
    known: &[
        key(
            "format",
            Words(&["json", "text"]),
            otherwise("\"json\"", "\"text\" on a terminal, else \"json\""),
            "format of each line: \"json\" or \"text\"",
        ),
        key(
            "level",
            Words(&["error", "warn", "info", "debug", "trace"]),
            default("\"info\""),
            "lowest level to log: \"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
        ),
    ],
    later: &[],
};
pub(super) const SAFETY: Keys = Keys {
    known: &[
        key(
            "min_regions",
            Integer(0, u16::MAX as u64),
            default("1"),
            "minimum number of usable regions for each service and address family: below it, regions that fail softly are held and operators' changes are refused; 0: no minimum",
        ),
        key(
            "suspect_self",
            Fields(&SUSPECT_SELF),
            otherwise("", "only an alarm"),
            "when many checks start to fail at once, this node suspects its own network and keeps the last standing",
        ),
    ],
    later: &["min_capacity", "max_withdrawals"],
};
pub(super) const JOURNAL: Keys = Keys {
    known: &[key(
        "retention",
        Fields(&RETENTION),
        otherwise("", "as many as there is room for"),
        "which events and entries of the audit log are kept",
    )],
    later: &[],
};
const RETENTION: Keys = Keys {
    known: &[key(
        "age",
        Time,
        required("\"30d\""),
        "those that are older are removed, from the journal, too; at most some thousands are kept in any case",
    )],
    later: &["size"],
};
const SUSPECT_SELF: Keys = Keys {
    known: &[
        key(
            "share",
            Text,
            default("\"60%\""),
            "share of all checks that must start to fail within one interval",
        ),
        key("min", Integer(1, u32::MAX as u64), default("3"), "minimum number of such checks"),
        key(
            "anchors",
            Any(&Text),
            otherwise("[\"tcp:192.0.2.250:53\"]", "none"),
            "external addresses, probed once a second by a TCP handshake: if one answers, this node's network works",
        ),
        key("at_most", Time, default("\"2m\""), "maximum time to keep the last standing"),
    ],
    later: &[],
};

/// How long events and entries of the audit log may be kept: as good as for ever.
const MOST_AGE: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How long `suspect_self` may keep the last verdicts: longer would hide a real outage.
const MOST_KEPT: Duration = Duration::from_secs(60 * 60);

/// Where the config sets what depends on the host.
#[derive(Default)]
pub(super) struct NodeSpots {
    pub(super) state_dir: Option<Spot>,
    pub(super) user: Option<Spot>,
}

/// Reads `[node]`.
pub(super) fn read_node(root: &Table<'_>) -> (Node, NodeSpots) {
    let Some(table) = root.get("node").and_then(|value| value.table("node", &NODE)) else {
        return <_>::default();
    };
    let name = table
        .get("name")
        .and_then(|value| value.parsed("a name", |text| text::own_name(text).map(|()| text.to_owned())));
    let state_dir = table.get("state_dir").and_then(|value| Some((value.text("a folder")?, value.span)));
    let user =
        table.get("user").and_then(|value| Some((value.text("the name of a user")?.to_owned(), value.span)));
    let landlock = table.get("landlock").and_then(|value| value.boolean()).unwrap_or(true);
    let mut resolvers = Vec::new();
    let items = table.get("resolver").and_then(|value| value.one_or_many("a list of resolvers"));
    for item in items.unwrap_or_default() {
        let Some(resolver) = item.parsed("an address such as \"192.0.2.53\"", resolver) else { continue };
        if resolvers.contains(&resolver) {
            item.fail::<()>(format!("resolver {resolver} is listed twice"));
        }
        resolvers.push(resolver);
    }
    let private = table.get("private_networks").and_then(|value| value.items("a list of networks"));
    let private = private.into_iter().flatten();
    let destinations = private.filter_map(|item| private_network(&item)).collect();
    let (state_dir, state_dir_at) =
        state_dir.map(|(path, at)| (root.report.resolve(path), root.report.spot(at))).unzip();
    let (user, user_at) = user.map(|(name, at)| (name, root.report.spot(at))).unzip();
    let spots = NodeSpots { state_dir: state_dir_at, user: user_at };
    (Node { name, state_dir, user, landlock, resolvers, destinations }, spots)
}

fn private_network(item: &Value<'_>) -> Option<IpNet> {
    let network = item.parsed("a network such as \"10.0.0.0/8\"", text::prefix)?;
    if Destinations::is_public_network(network) {
        item.report.warning(
            item.span.clone(),
            format!("{network} is public, so listing it has no effect"),
            "public addresses are always used; remove it",
        );
    }
    Some(network)
}

/// An address, with or without a port.
fn resolver(text: &str) -> Result<SocketAddr, String> {
    const DNS_PORT: u16 = 53;
    let written = match text.parse::<SocketAddr>() {
        Ok(written) => written,
        Err(_) => SocketAddr::new(text::destination(text)?, DNS_PORT),
    };
    if written.port() == 0 {
        return Err(format!("{written} has no port to ask at"));
    }
    text::destination(&written.ip().to_string()).map(|ip: IpAddr| SocketAddr::new(ip, written.port()))
}

pub(super) fn read_log(root: &Table<'_>) -> Log {
    let Some(table) = root.get("log").and_then(|value| value.table("log", &LOG)) else {
        return Log::default();
    };
    let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    Log {
        format: table.get("format").and_then(|value| value.choice(&formats, &[])),
        level: table.get("level").and_then(|value| value.choice(&levels, &[])).unwrap_or_default(),
    }
}

pub(super) fn read_retention(root: &Table<'_>) -> Option<Duration> {
    let journal = root.get("journal")?.table("journal", &JOURNAL)?;
    let retention = journal.get("retention")?.table(journal.path("retention"), &RETENTION)?;
    retention.need("age")?.duration(Duration::from_secs(1)..=MOST_AGE)
}

pub(super) fn read_safety(root: &Table<'_>, services: &[At<Service>]) -> Rules {
    let Some(table) = root.get("safety").and_then(|value| value.table("safety", &SAFETY)) else {
        return Rules::default();
    };
    let min_regions = table.get("min_regions").and_then(|value| read_min_regions(&value, services));
    let suspect_self = table
        .get("suspect_self")
        .and_then(|value| value.table(table.path("suspect_self"), &SUSPECT_SELF))
        .map(|table| read_suspect_self(&table));
    let default = Rules::default();
    Rules { min_regions: min_regions.unwrap_or(default.min_regions), suspect_self }
}

fn read_min_regions(value: &Value<'_>, services: &[At<Service>]) -> Option<usize> {
    let min_regions = value.integer(0..=u64::from(u16::MAX))? as usize;
    let is_short = |service: &&At<Service>| service.value.members.len() < min_regions;
    // Regions may be missing because of an error.
    if value.report.errors() == 0
        && let Some(At { value: service, .. }) = services.iter().find(is_short)
    {
        let of = service.members.len();
        value.report.warning(
            value.span.clone(),
            format!("`min_regions` = {min_regions}, but {} has {of} region{}", service.name, if of == 1 { "" } else { "s" }),
            "neither soft failures nor operators can then withdraw a region of it; lower it, or give the service more regions",
        );
    }
    Some(min_regions)
}

fn read_suspect_self(table: &Table<'_>) -> SuspectSelf {
    let anchors = table.get("anchors").map(|value| {
        let items = if value.is_empty_list() { None } else { value.one_or_many("a list of anchors") };
        let anchor = |item: Value<'_>| item.parsed("an anchor such as \"tcp:192.0.2.250:53\"", anchor);
        items.unwrap_or_default().into_iter().filter_map(anchor).collect()
    });
    let share = table.get("share").and_then(|value| value.parsed("a share such as \"60%\"", text::share));
    let min = table.get("min").and_then(|value| value.integer(1..=u64::from(u32::MAX)));
    let at_most = table.get("at_most").and_then(|value| value.duration(Duration::from_secs(1)..=MOST_KEPT));
    let default = SuspectSelf::default();
    SuspectSelf {
        share: share.unwrap_or(default.share),
        min: min.map_or(default.min, |min| min as usize),
        anchors: anchors.unwrap_or_default(),
        at_most: at_most.unwrap_or(default.at_most),
    }
}

/// Parses `tcp:ADDRESS:PORT`.
fn anchor(text: &str) -> Result<SocketAddr, String> {
    let address = text.strip_prefix("tcp:").and_then(|address| address.parse::<SocketAddr>().ok());
    address
        .filter(|address| address.port() > 0)
        .ok_or_else(|| format!("{:?} is not a valid anchor: write tcp:ADDRESS:PORT", text::shortened(text)))
}
