//! The config file: TOML text in, the model out, or every error in it with file, line and column.
//!
//! [`load`] parses the text into tables with source positions (`toml`'s `DeTable`) and passes each to a
//! hand-written reader. A reader that finds an error adds it to the one `Report` and continues, so
//! one run shows every error of every table. Zone files, the latency table and trusted authorities are read through
//! the loader passed in. What only a running node can open, such as geo databases, is named with its [`Spot`], so that
//! the module that opens it ([`prepare`](crate::prepare)) can report errors there. This module does no I/O of its own.
//!
//! Bottom up: `diagnostic` (what is wrong and where), `source` (what is read), `report` (collects diagnostics), `text` (values written as
//! strings), `keys` (the keys of each table), `table` (typed access to tables), then one file per
//! table of the config. [`schema`] and [`reference()`] render `keys` for editors and for people.

mod abuse;
mod advice;
mod alias;
mod claim;
mod diagnostic;
mod fence;
mod geo;
mod keys;
mod kind;
mod latency;
mod listen;
mod node;
mod place;
mod probe;
mod proxy;
mod query_log;
mod reference;
mod region;
mod report;
mod restart;
mod scope;
mod service;
mod source;
mod steering;
mod table;
mod text;
mod zones;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use toml::de::DeTable;

pub use abuse::Cookies;
pub use diagnostic::{Diagnostic, Diagnostics, MOST_SHOWN, Severity, Spot};
pub use geo::{Geo, GeoDatabase, GeoSource};
pub use listen::{Control, ControlTls, Dns, NamedFile, NamedGroup, Read, Role, Token};
pub use node::{Log, LogFormat, LogLevel, Node};
pub use proxy::discovered_backends;
pub use proxy::{
    AcmeCertificate, AcmeChallenge, CertificateFiles, CertificateSource, ClientCertificates, ExternalAccount,
    PoolTls, ProxyTls, Tickets,
};
pub use reference::{reference, schema};
pub use restart::AtStart;
pub use source::{FileKind, Source, Unfit, how_to_fix, why_unreadable};

use crate::model::{BackendReach, Name, PlaceKey, Proxy, Rules, Topology};
use crate::zone::Zones;

use claim::Claims;
use keys::Shape::{Fields, Integer, List, Named};
use keys::{Keys, key, otherwise, required};
use place::Names;
use report::{Report, Unreadable, text_of};
use table::Table;

/// Where the config is if nothing names it.
pub const DEFAULT_PATH: &str = "/etc/portolan/portolan.toml";

/// A valid config.
#[derive(Debug)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// Settings of this process.
    pub node: Node,
    /// Where the config sets `state_dir`.
    pub state_dir_at: Option<Spot>,
    /// Where the config sets `user` of `[node]`.
    pub user_at: Option<Spot>,
    /// Logging.
    pub log: Log,
    /// The name server, if this node is one.
    pub dns: Option<Dns>,
    /// The regional balancer, if this node is one.
    pub proxy: Option<Proxy>,
    /// Where the config has `[proxy]`.
    pub proxy_at: Option<Spot>,
    /// The balancer's certificates and how it uses TLS.
    pub proxy_tls: ProxyTls,
    /// The API and metrics.
    pub control: Control,
    /// The geo databases and network overrides.
    pub geo: Geo,
    /// The safety rules that bind automation and operators.
    pub safety: Rules,
    /// How long events and entries of the audit log are kept, if there is room for that many; `None`: as long as there is
    /// room.
    pub retention: Option<std::time::Duration>,
    /// The zones, with every service at its name.
    pub zones: Zones,
    /// Regions, services and what they refer to.
    pub topology: Topology,
    /// Where each probe is defined, by [`ProbeId`](crate::model::ProbeId).
    pub probes_at: Vec<Spot>,
    /// Every host of an endpoint or backend, and where the config names it.
    pub hosts: Vec<(Name, Spot)>,
    /// Every place that the config names, and where it does.
    pub places: Vec<(PlaceKey, Spot)>,
    /// What works, but probably not as intended. Warnings only.
    pub warnings: Diagnostics,
}

impl Config {
    /// Every prefix named by a `net:` key: in geo tables, groups, fences and latencies. Sorted, without
    /// duplicates.
    #[must_use]
    pub fn nets(&self) -> Vec<IpNet> {
        let nets = self.places.iter().filter_map(|(place, _)| match place {
            PlaceKey::Net(net) => Some(*net),
            _ => None,
        });
        nets.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

const ROOT: Keys = Keys {
    known: &[
        key("version", Integer(VERSION, VERSION), required("1"), "version of the config format"),
        key("node", Fields(&node::NODE), otherwise("", "as shown there"), "this node"),
        key("log", Fields(&node::LOG), otherwise("", "as shown there"), "the log, on standard error"),
        key("dns", Fields(&listen::DNS), otherwise("", "no name server"), "the name server"),
        key("control", Fields(&listen::CONTROL), otherwise("", "as shown there"), "the API and metrics"),
        key("geo", Fields(&geo::GEO), otherwise("", "as shown there"), "how clients are located"),
        key(
            "latency",
            Fields(&latency::LATENCY),
            otherwise("", "estimated by distance"),
            "known round-trip times",
        ),
        key("group", Named(&place::GROUP), otherwise("eea", "none"), "a named set of places"),
        key(
            "probe",
            Named(&probe::PROBE),
            otherwise("edge", "none"),
            "a probe that endpoints and pools refer to by name",
        ),
        key("region", Named(&region::REGION), otherwise("eu-west", "none"), "a region"),
        key(
            "zone",
            List(&Fields(&zones::ZONE)),
            otherwise("", "none"),
            "a zone: static records and services",
        ),
        key(
            "policy",
            Named(&steering::POLICY),
            otherwise("nearby", "none"),
            "steering keys that several services share",
        ),
        key(
            "service",
            List(&Fields(&service::SERVICE)),
            otherwise("", "none"),
            "a service: a name that is answered by steering",
        ),
        key("proxy", Fields(&proxy::PROXY), otherwise("", "no balancer"), "the regional balancer"),
        key(
            "safety",
            Fields(&node::SAFETY),
            otherwise("", "as shown there"),
            "limits on what automation and operators may do",
        ),
        key(
            "journal",
            Fields(&node::JOURNAL),
            otherwise("", "as shown there"),
            "what the node keeps of the past",
        ),
    ],
    later: &["include", "alert", "cluster", "tsig"],
};

/// The only version of the config format.
const VERSION: u64 = 1;

/// Parses an address to listen on: `192.0.2.1:80`, `[::]:80`.
///
/// # Errors
/// A readable clause, if the text is not such an address.
pub fn parse_listener(text: &str) -> Result<SocketAddr, String> {
    text::listener(text)
}

/// Parses where a backend is: `10.0.0.1:8080`, `[2001:db8::1]:8080`, `app.internal:8080`.
///
/// # Errors
/// A readable clause, if the text is not such a place.
pub fn parse_backend(text: &str) -> Result<(BackendReach, u16), String> {
    proxy::backend_place(text)
}

/// Parses a duration in the config's syntax: "250ms", "5s", "10m", "1h30m".
///
/// # Errors
/// A readable clause, if the text is not a duration.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    text::duration(text)
}

/// Why a config is rejected.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Every error and warning in it.
    pub diagnostics: Diagnostics,
    /// The geo databases that it names: they can still be checked, so that one run shows every error.
    pub databases: Vec<GeoDatabase>,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.diagnostics.fmt(f)
    }
}

impl std::error::Error for Refused {}

/// Reads a config and the files it names; paths in it are relative to its own folder.
///
/// # Errors
/// Every error in it, if there is one. A config with nothing but warnings is valid and carries them in
/// [`Config::warnings`].
pub fn load(path: &Path, read: &dyn Fn(&Source<'_>) -> io::Result<Vec<u8>>) -> Result<Config, Refused> {
    let text = text_of(&FileKind::Config.at(path), read)
        .map_err(|error| Refused { diagnostics: unreadable(path, error), databases: Vec::new() })?;
    let report = Report::new(path, &text, read);
    let (document, errors) = DeTable::parse_recoverable(&text);
    for error in &errors {
        report.syntax(error);
    }
    let root = Table::root(&report, document.get_ref(), &ROOT);
    let config = decode(path, &root);
    advice::on_listeners(&root);
    let (places, hosts) = (report.take_places(), report.take_hosts());
    let diagnostics = report.finish();
    if diagnostics.has_errors() {
        return Err(Refused { diagnostics, databases: config.geo.databases });
    }
    Ok(Config { places, hosts, warnings: diagnostics, ..config })
}

/// Reads only where to reach a node with this config: errors in other parts of it must not keep commands from the
/// running node.
///
/// # Errors
/// Every error, if there is one in `[control]` or `[dns]`, or the file cannot be read.
pub fn load_control(
    path: &Path,
    read: &dyn Fn(&Source<'_>) -> io::Result<Vec<u8>>,
) -> Result<Control, Diagnostics> {
    let text = text_of(&FileKind::Config.at(path), read).map_err(|error| unreadable(path, error))?;
    let report = Report::new(path, &text, read);
    let (document, _) = DeTable::parse_recoverable(&text);
    let root = Table::root(&report, document.get_ref(), &ROOT);
    let before = report.errors();
    let mut claims = Claims::default();
    let (_, control) = listen::read(&root, &mut claims);
    claims.check_default(&report, &control);
    if report.errors() > before { Err(report.finish()) } else { Ok(control) }
}

/// The diagnostics of a config file that cannot be read as text.
fn unreadable(path: &Path, error: Unreadable) -> Diagnostics {
    let (line, column) = error.place().unwrap_or((1, 1));
    let (message, help) = match &error {
        Unreadable::NotText { why, .. } => (why.clone(), None),
        Unreadable::Failed(error) => {
            let help = match error.kind() {
                io::ErrorKind::NotFound => {
                    (path == Path::new(DEFAULT_PATH)).then_some("name the config with `-c FILE`")
                }
                _ => Some(how_to_fix(error)),
            };
            (format!("{}: {}", FileKind::Config, why_unreadable(error)), help)
        }
    };
    let diagnostic = Diagnostic {
        severity: Severity::Error,
        file: path.to_path_buf(),
        line,
        column,
        end_column: column + 1,
        message,
        help: help.map(str::to_owned),
    };
    Diagnostics::new(path, vec![diagnostic], BTreeMap::new())
}

/// Reads table by table. The result is complete unless an error was reported.
fn decode(path: &Path, root: &Table<'_>) -> Config {
    if let Some(value) = root.need("version")
        && value.as_integer() != Some(VERSION.into())
    {
        value.expected::<()>(&format!("version {VERSION} of the config's format"));
    }
    let (node, spots) = node::read_node(root);
    let (group_names, group_entries) = Names::read(root, "group");
    let (probe_names, probe_entries) = Names::read(root, "probe");
    let (region_names, region_entries) = Names::read(root, "region");
    let (policy_names, policy_entries) = Names::read(root, "policy");
    let groups = place::read_groups(&group_names, &group_entries);
    let mut claims = Claims::default();
    let (dns, control) = listen::read(root, &mut claims);
    let probes = probe::read_all(&probe_names, &probe_entries);
    let mut regions = region::read_all(&region_names, &region_entries, &probe_names);
    region::warn_of_bare_handshakes(&regions, &region_entries, &probes);
    probe::need_ports(&probe_entries, &probes, &regions);
    let (proxy, pools, proxy_tls) = match proxy::read(root, &probe_names, &mut claims) {
        Some((proxy, pools, tls)) => (Some(proxy), pools, tls),
        None => (None, Vec::new(), ProxyTls::default()),
    };
    claims.check_default(root.report, &control);
    let policies = steering::read_policies(&policy_names, &policy_entries);
    let services = service::read_all(
        root,
        &scope::Scope {
            region_names: &region_names,
            group_names: &group_names,
            groups: &groups,
            policy_names: &policy_names,
            policies: &policies,
            regions: &regions,
            probes: &probes,
        },
    );
    let read_zones = zones::read_all(root);
    alias::resolve(&services, &mut regions);
    alias::check(root.report, &read_zones.zones, &services, &regions);
    let zones = read_zones.join(root.report, &services);
    // Regions named only by geo networks and latencies are never chosen.
    region_names.warn_of_unused(&region_entries, "service", "name it in a service's `regions`, or remove it");
    policy_names.warn_of_unused(&policy_entries, "service", "name it in a service's `policy`, or remove it");
    probe_names.warn_of_unused(
        &probe_entries,
        "endpoint or pool",
        "name it in the `probe` of an endpoint or pool, or remove it",
    );
    let geo = geo::read(root, &region_names);
    let latency = latency::read(root, &group_names, &region_names);
    group_names.warn_of_unused(
        &group_entries,
        "fence, geo table or latency",
        "name it as \"group:NAME\", or remove it",
    );
    advice::on_shared_addresses(root.report, &services, &regions);
    advice::on_families(root.report, &services, &regions);
    let safety = node::read_safety(root, &services);
    Config {
        file: path.to_path_buf(),
        node,
        state_dir_at: spots.state_dir,
        user_at: spots.user,
        log: node::read_log(root),
        dns,
        proxy_at: proxy.is_some().then(|| root.report.spot(root.key_span("proxy"))),
        proxy,
        proxy_tls,
        control,
        geo,
        safety,
        retention: node::read_retention(root),
        zones,
        topology: Topology {
            groups,
            latency,
            services: services.into_iter().map(|service| service.value).collect(),
            probes: probes.into_iter().flatten().collect(),
            regions,
            pools,
        },
        probes_at: probe_entries.iter().map(|entry| root.report.spot(entry.span.clone())).collect(),
        // Filled in after every reader has run.
        hosts: Vec::new(),
        places: Vec::new(),
        warnings: Diagnostics::default(),
    }
}
