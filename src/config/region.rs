//! `[region.NAME]`: places that serve, and their endpoints.

use std::net::{IpAddr, SocketAddr};

use crate::model::{
    Condition, Endpoint, EndpointRef, Fraction, Kind, Location, Probe, ProbeId, Reach, Region, RegionId,
    Weight,
};

use super::keys::Shape::{Address, Any, Either, Fields, Integer, List, OneOrMany, Text, Words};
use super::keys::{Keys, default, key, otherwise, required};
use super::place::{LOCATION, Names, location};
use super::table::{Entry, Table, Value};
use super::text;

pub(super) const REGION: Keys = Keys {
    known: &[
        key("location", Fields(&LOCATION), otherwise("", "unknown"), "its location"),
        key(
            "capacity",
            Integer(1, u64::MAX),
            otherwise("40000", "unlimited"),
            "requests per second that it can serve; only displayed so far, steering ignores it",
        ),
        key(
            "healthy_when",
            Either(&[Words(&["any", "all"]), Fields(&HEALTHY)]),
            default("\"any\""),
            "how many of its endpoints must be up: \"any\", \"all\", or a table",
        ),
        key(
            "require",
            Any(&Text),
            default("[]"),
            "what else must be up: NAME (an endpoint of this region), endpoint/REGION/NAME or region/REGION",
        ),
        key("endpoint", List(&Fields(&ENDPOINT)), required(""), "an endpoint: a balancer of the region"),
    ],
    later: &[],
};
const ENDPOINT: Keys = Keys {
    known: &[
        key("name", Text, required("\"lb1\""), "name, unique within the region"),
        key(
            "address",
            OneOrMany(&Address),
            otherwise("[\"192.0.2.10\", \"2001:db8::10\"]", "`host`"),
            "IPv4 and IPv6 addresses; each is probed separately",
        ),
        key(
            "host",
            Text,
            otherwise("\"lb.example.net\"", "`address`"),
            "host name to answer in services of type \"cname\", \"srv\" and \"mx\"; without `address`, it is also resolved to get the addresses, again whenever their TTL expires, and the last ones are kept while that fails",
        ),
        key(
            "weight",
            Integer(0, Weight::MAX.0 as u64),
            default("100"),
            "weight within the region; 0: only if all weights are 0",
        ),
        key(
            "probe",
            Any(&Text),
            otherwise("[\"edge\"]", "always up"),
            "probes, all of which must pass; []: none, without a warning",
        ),
    ],
    later: &[],
};
const HEALTHY: Keys = Keys {
    known: &[
        key("at_least", Integer(1, u16::MAX as u64), otherwise("2", "`fraction`"), "at least this many"),
        key("fraction", Text, otherwise("\"50%\"", "`at_least`"), "at least this share of them, rounded up"),
    ],
    later: &[],
};

const MOST_ENDPOINTS: usize = u16::MAX as usize;
const DEFAULT_WEIGHT: Weight = Weight(100);

/// Reads every `[region.NAME]`; the result has one region per name, complete unless an error was reported.
pub(super) fn read_all(names: &Names<'_>, entries: &[Entry<'_>], probes: &Names<'_>) -> Vec<Region> {
    debug_assert_eq!(names.len(), entries.len());
    let tables: Vec<_> =
        entries.iter().map(|entry| entry.value.table(format!("region.{}", entry.name), &REGION)).collect();
    // Endpoints first: `require` may name those of a later region.
    let endpoints: Vec<Vec<Endpoint>> = tables
        .iter()
        .map(|table| table.as_ref().map(|it| read_endpoints(it, probes)).unwrap_or_default())
        .collect();
    let require = |table: &Option<Table<'_>>, own| {
        table.as_ref().map(|it| read_require(it, own, names, &endpoints)).unwrap_or_default()
    };
    let required: Vec<_> =
        tables.iter().enumerate().map(|(own, table)| require(table, RegionId(own as u16))).collect();
    let rows = entries.iter().zip(&tables).zip(endpoints.into_iter().zip(required));
    let region =
        |own: usize, entry: &Entry<'_>, table: &Option<Table<'_>>, endpoints: Vec<Endpoint>, require| {
            let id = RegionId(own as u16);
            let need = table.as_ref().and_then(|it| read_need(it, &endpoints)).unwrap_or(Need::Any);
            Region {
                name: entry.name.into(),
                location: table.as_ref().and_then(read_location).unwrap_or_default(),
                capacity: table.as_ref().and_then(read_capacity),
                healthy_when: healthy_when(id, need, &endpoints, require),
                endpoints,
            }
        };
    rows.enumerate()
        .map(|(own, ((entry, table), (endpoints, require)))| region(own, entry, table, endpoints, require))
        .collect()
}

/// `healthy_when` as written.
enum Need {
    Any,
    All,
    AtLeast(usize),
    Fraction(Fraction),
}

/// The condition of a region: enough of the endpoints that take clients, and everything in `require`.
fn healthy_when(id: RegionId, need: Need, endpoints: &[Endpoint], mut require: Vec<Condition>) -> Condition {
    let endpoint = |index: usize| Condition::Endpoint(EndpointRef { region: id, index: index as u16 });
    let own: Vec<Condition> = counted(endpoints).map(endpoint).collect();
    let own = match need {
        Need::Any => Condition::Any(own),
        Need::All => Condition::All(own),
        Need::AtLeast(count) => Condition::AtLeast(count, own),
        Need::Fraction(share) => Condition::Fraction(share, own),
    };
    if require.is_empty() {
        return own;
    }
    require.insert(0, own);
    Condition::All(require)
}

/// No rule uses it yet, although a user who sets it expects that.
fn read_capacity(table: &Table<'_>) -> Option<u64> {
    let capacity = table.get("capacity")?.integer(1..=u64::MAX)?;
    table.report.warning(
        table.key_span("capacity"),
        "`capacity` is only displayed: it limits nothing",
        "give the region a smaller `weight` in the `regions` of services where it ties with others, if it should get fewer clients",
    );
    Some(capacity)
}

fn read_location(table: &Table<'_>) -> Option<Location> {
    location(&table.get("location")?, table.path("location"))
}

/// The address of an endpoint; names and ports have keys of their own.
fn own_address(written: &str) -> Result<IpAddr, String> {
    text::destination(written).map_err(|why| match written.parse::<SocketAddr>() {
        Ok(with_port) => format!("{why}: write {}, and the port in its probe", with_port.ip()),
        Err(_)
            if written.starts_with(char::is_alphabetic)
                && written.contains('.')
                && !written.contains(':') =>
        {
            format!("{why}: write a name as `host`")
        }
        Err(_) => why,
    })
}

fn read_endpoints(table: &Table<'_>, probes: &Names<'_>) -> Vec<Endpoint> {
    let Some(value) = table.need("endpoint") else { return Vec::new() };
    let items = value.items("a list of endpoints").unwrap_or_default();
    if items.len() > MOST_ENDPOINTS {
        value.fail::<()>(format!("at most {MOST_ENDPOINTS} endpoints, found {}", items.len()));
    }
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for item in &items {
        let endpoint = item.table(table.path("endpoint"), &ENDPOINT).map(|it| read_endpoint(&it, probes));
        let Some((name, endpoint)) = endpoint else { continue };
        if let Some(name) = name
            && endpoints.iter().any(|other| other.name == endpoint.name)
        {
            name.fail::<()>(format!("endpoint `{}` is defined twice", endpoint.name));
        }
        endpoints.push(endpoint);
    }
    endpoints
}

fn read_endpoint<'a>(table: &Table<'a>, probes: &Names<'_>) -> (Option<Value<'a>>, Endpoint) {
    let written = table.need("name");
    let name = written
        .as_ref()
        .and_then(|value| value.parsed("a name", |text| text::own_name(text).map(|()| text.to_owned())));
    let host = table.get("host").and_then(|value| {
        let host = value.parsed("a name such as \"lb.example.net\"", text::target)?;
        value.report.host(value.span, &host);
        Some(host)
    });
    let addresses = if table.has("host") { table.get("address") } else { table.need("address") };
    let mut found = Vec::new();
    let items = addresses.and_then(|value| value.one_or_many("a list of addresses such as [\"192.0.2.10\"]"));
    for item in items.unwrap_or_default() {
        let Some(address) = item.parsed("an address such as \"192.0.2.10\"", own_address) else {
            continue;
        };
        if found.contains(&address) {
            item.fail::<()>(format!("address {address} is listed twice"));
        }
        found.push(address);
    }
    let probed = read_probes(table, probes);
    if let Some(name) = name.as_ref().filter(|_| !table.has("probe")) {
        table.report.warning(
            table.key_span("name"),
            format!("endpoint `{name}` has no probe: it counts as up whatever happens to it"),
            "name its probes in `probe`, or write `probe = []` if that is what you want",
        );
    }
    let weight = table.get("weight").and_then(|value| read_weight(&value)).unwrap_or(DEFAULT_WEIGHT);
    let named = name.is_some();
    let reach = match host {
        None => Reach::Addresses(found),
        // Without probes it is resolved only if a service answers its addresses: see `alias`.
        Some(host) if !table.has("address") && !probed.is_empty() => Reach::Resolved(host),
        Some(host) => Reach::Named(host, found),
    };
    let name = name.unwrap_or_default();
    let endpoint = Endpoint { name, reach, weight, healthy_when: Condition::checks(probed) };
    (written.filter(|_| named), endpoint)
}

/// Reads the names in `probe`.
pub(super) fn read_probes(table: &Table<'_>, probes: &Names<'_>) -> Vec<ProbeId> {
    let mut found = Vec::new();
    for item in table.get("probe").map(|value| probe_items(&value)).unwrap_or_default() {
        if let Some(path) = item.as_text().filter(|it| it.starts_with('/')) {
            let path = text::shortened(path);
            let message = format!("{path:?} is a path, not the name of a probe");
            let help = format!(
                "define [probe.health] with `kind = \"http\"` and `path = {path:?}`, and write `probe = [\"health\"]`"
            );
            item.report.error_with_help(item.span.clone(), message, help);
            continue;
        }
        let Some(index) = probes.refer(&item) else { continue };
        let id = ProbeId(index as u16);
        if found.contains(&id) {
            item.fail::<()>(format!("probe `{}` is listed twice", probes.name(index)));
        }
        found.push(id);
    }
    found
}

/// `probe = []` means none.
fn probe_items<'a>(value: &Value<'a>) -> Vec<Value<'a>> {
    if value.is_empty_list() { Vec::new() } else { value.one_or_many("a list of probes").unwrap_or_default() }
}

/// Reads a weight from 0 to [`Weight::MAX`].
pub(super) fn read_weight(value: &Value<'_>) -> Option<Weight> {
    value.integer(0..=u64::from(Weight::MAX.0)).map(|weight| Weight(weight as u32))
}

fn read_need(region: &Table<'_>, endpoints: &[Endpoint]) -> Option<Need> {
    const WHAT: &str = "\"any\", \"all\", { at_least = 2 } or { fraction = \"50%\" }";
    let value = region.get("healthy_when")?;
    if !value.is_table() {
        return match value.as_text() {
            Some("any") => Some(Need::Any),
            Some("all") => Some(Need::All),
            _ => value.expected(WHAT),
        };
    }
    let table = value.table(region.path("healthy_when"), &HEALTHY)?;
    match (table.get("at_least"), table.get("fraction")) {
        (Some(value), None) => {
            let count = value.integer(1..=u64::from(u16::MAX))? as usize;
            let (all, counted) = (endpoints.len(), counted(endpoints).count());
            if all == 0 || count <= counted {
                return Some(Need::AtLeast(count));
            }
            value.fail(if counted == all {
                format!("at least {count} endpoints must be up, but the region has {all}")
            } else {
                format!(
                    "at least {count} endpoints must be up, but only {counted} of the region's {all} count: those of weight 0 do not"
                )
            })
        }
        (None, Some(value)) => value.parsed("a share such as \"50%\"", text::share).map(Need::Fraction),
        _ => value.fail(format!("expected {WHAT}")),
    }
}

/// The endpoints that count towards the health of their region: those with a weight above 0, or all if none has one.
fn counted(endpoints: &[Endpoint]) -> impl Iterator<Item = usize> {
    let all_zero = endpoints.iter().all(|it| it.weight.0 == 0);
    let counts = move |(index, it): (usize, &Endpoint)| (all_zero || it.weight.0 > 0).then_some(index);
    endpoints.iter().enumerate().filter_map(counts)
}

/// Reads `"lb1"` (in the same region), `"endpoint/REGION/NAME"` or `"region/REGION"`.
fn read_require(
    table: &Table<'_>,
    own: RegionId,
    names: &Names<'_>,
    endpoints: &[Vec<Endpoint>],
) -> Vec<Condition> {
    let Some(value) = table.get("require") else { return Vec::new() };
    if value.is_empty_list() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for item in value.one_or_many("a list of endpoints such as [\"lb1\"]").unwrap_or_default() {
        let what =
            "an endpoint such as \"lb1\" or \"endpoint/eu-west/lb1\", or a region such as \"region/eu-west\"";
        let required = |text: &str| match text.strip_prefix("region/") {
            Some(region) => region_ref(region, own, names).map(Condition::Region),
            None => endpoint_ref(text, own, names, endpoints).map(Condition::Endpoint),
        };
        let Some(condition) = item.parsed(what, required) else { continue };
        if found.contains(&condition) {
            item.fail::<()>("this is listed twice");
        }
        found.push(condition);
    }
    found
}

fn region_ref(text: &str, own: RegionId, names: &Names<'_>) -> Result<RegionId, String> {
    let region = RegionId(names.index(text)? as u16);
    if region == own { Err("a region cannot require itself".into()) } else { Ok(region) }
}

fn endpoint_ref(
    text: &str,
    own: RegionId,
    names: &Names<'_>,
    endpoints: &[Vec<Endpoint>],
) -> Result<EndpointRef, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let (region, name) = match parts[..] {
        [name] => (own, name),
        ["endpoint", region, name] => (RegionId(names.index(region)? as u16), name),
        _ => {
            return Err(format!(
                "{:?} is not a valid endpoint: write NAME or endpoint/REGION/NAME",
                text::shortened(text)
            ));
        }
    };
    let there = &endpoints[usize::from(region.0)];
    let index = there.iter().position(|it| it.name == name).ok_or_else(|| {
        let hint = text::did_you_mean(name, there.iter().map(|it| it.name.as_str()));
        let region = names.name(usize::from(region.0));
        format!("endpoint `{}` is not defined in region `{region}`{hint}", text::shortened(name))
    })?;
    Ok(EndpointRef { region, index: index as u16 })
}

/// Warns of regions probed by TCP handshakes alone.
pub(super) fn warn_of_bare_handshakes(regions: &[Region], entries: &[Entry<'_>], probes: &[Option<Probe>]) {
    for (region, entry) in regions.iter().zip(entries) {
        let mut used = region.endpoints.iter().flat_map(|it| it.healthy_when.probes()).peekable();
        let is_bare = |id: ProbeId| {
            probes[usize::from(id.0)].as_ref().is_some_and(|probe| matches!(probe.kind, Kind::Tcp { .. }))
        };
        if used.peek().is_some() && used.all(is_bare) {
            entry.value.report.warning(
                entry.span.clone(),
                format!("region `{}` is probed by TCP handshakes alone", region.name),
                "a balancer completes handshakes while everything behind it is down; add a probe of kind http or https",
            );
        }
    }
}
