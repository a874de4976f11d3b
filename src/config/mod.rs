//! The config file: TOML text in, the model out, or every mistake in it at its file, line and column.
//!
//! [`load`] parses the text into tables that know their places (`toml`'s `DeTable`) and hands each to a
//! reader written by hand. A reader that finds something wrong writes it into the one `Report` and goes on, so
//! one run shows every mistake of every table. What the config names — zone files, the latency table, trusted
//! authorities — is read through the loader passed in: this room does no I/O of its own.
//!
//! From the ground up: `diagnostic` (what is wrong and where), `report` (where it is written down), `text`
//! (texts with a meaning), `table` (typed access to tables), then a file per table of the config.

mod diagnostic;
mod geo;
mod latency;
mod listen;
mod node;
mod place;
mod probe;
mod region;
mod report;
mod restart;
mod service;
mod steering;
mod table;
mod text;
mod zones;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use toml::de::DeTable;

pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use geo::{Geo, GeoSource};
pub use listen::{Control, Dns, Role, Token};
pub use node::{Log, LogFormat, LogLevel, Node, Safety};
pub use restart::AtStart;

use crate::model::{FenceRule, PlaceKey, Topology};
use crate::zone::Zone;

use place::Names;
use report::{Report, Unreadable, text_of};
use table::{Keys, Table};

/// A config that was found in order.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// This process.
    pub node: Node,
    /// Its log.
    pub log: Log,
    /// The name server, if this node is one.
    pub dns: Option<Dns>,
    /// API, dashboard and metrics.
    pub control: Control,
    /// Where clients are looked up.
    pub geo: Geo,
    /// What automation and operators may never do.
    pub safety: Safety,
    /// The zones, each origin once; every service has its place in one of them.
    pub zones: Vec<Zone>,
    /// Regions, services and what they refer to.
    pub topology: Topology,
    /// What works, but probably not as meant. Warnings only.
    pub warnings: Diagnostics,
}

impl Config {
    /// Every prefix named by a `net:` key, wherever it stands: geo tables, groups, fences and latencies.
    /// Sorted, each once.
    #[must_use]
    pub fn nets(&self) -> Vec<IpNet> {
        let topology = &self.topology;
        let groups = topology.groups.iter().flat_map(|group| &group.places);
        let latency = topology.latency.iter().map(|row| &row.from);
        let geo = topology.services.iter().flat_map(|service| &service.geo).map(|entry| &entry.place);
        let fences = topology.services.iter().flat_map(|service| &service.fences);
        let fences = fences.flat_map(|fence| match &fence.rule {
            FenceRule::Only(places) | FenceRule::Except(places) => places,
        });
        let nets = groups.chain(latency).chain(geo).chain(fences).filter_map(|place| match place {
            PlaceKey::Net(net) => Some(*net),
            _ => None,
        });
        nets.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

const ROOT: Keys = Keys {
    known: &[
        "version", "node", "log", "dns", "control", "geo", "latency", "group", "probe", "region", "zone",
        "policy", "service", "safety",
    ],
    later: &["include", "alert", "journal", "cluster", "proxy", "tsig"],
};

/// The one version of the config's format.
const VERSION: u64 = 1;

/// Reads a duration as the config writes it: "250ms", "5s", "10m", "1h30m".
///
/// # Errors
/// A clause for people, if the text is no duration.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    text::duration(text)
}

/// Reads a config and the files it names; relative paths in it start at its own folder.
///
/// # Errors
/// Every mistake in it, if there is one; warnings stand among them. A config with nothing but warnings is
/// fine and carries them in [`Config::warnings`].
pub fn load(path: &Path, read: &dyn Fn(&Path) -> io::Result<Vec<u8>>) -> Result<Config, Diagnostics> {
    let text = text_of(path, read).map_err(|error| unreadable(path, error))?;
    let report = Report::new(path, &text, read);
    let (document, errors) = DeTable::parse_recoverable(&text);
    for error in &errors {
        report.syntax(error);
    }
    let root = Table::root(&report, document.get_ref(), &ROOT);
    let config = decode(path, &root);
    let diagnostics = report.finish();
    if diagnostics.has_errors() {
        return Err(diagnostics);
    }
    Ok(Config { warnings: diagnostics, ..config })
}

/// Reads only where a node with this config takes orders: mistakes in other parts of it are no reason not to
/// reach the node that runs.
///
/// # Errors
/// Every mistake, if there is one in `[control]` or `[dns]`, or the file cannot be read.
pub fn load_control(
    path: &Path,
    read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Control, Diagnostics> {
    let text = text_of(path, read).map_err(|error| unreadable(path, error))?;
    let report = Report::new(path, &text, read);
    let (document, _) = DeTable::parse_recoverable(&text);
    let root = Table::root(&report, document.get_ref(), &ROOT);
    let before = report.errors();
    let (_, control) = listen::read(&root);
    if report.errors() > before { Err(report.finish()) } else { Ok(control) }
}

/// Complains of a config file that gave no text.
fn unreadable(path: &Path, error: Unreadable) -> Diagnostics {
    let is_found = error.place.is_some();
    let (line, column) = error.place.unwrap_or((1, 1));
    let complaint = Diagnostic {
        severity: Severity::Error,
        file: path.to_path_buf(),
        line,
        column,
        end_column: column + 1,
        message: if is_found { error.why } else { format!("config file: {}", error.why) },
        help: (!is_found).then(|| "name the config with `-c FILE`".into()),
    };
    Diagnostics::new(path, vec![complaint], BTreeMap::new())
}

/// Reads table by table. The result is whole unless something was complained of.
fn decode(path: &Path, root: &Table<'_>) -> Config {
    if let Some(value) = root.need("version")
        && value.as_integer() != Some(VERSION.into())
    {
        value.expected::<()>(&format!("version {VERSION} of the config's format"));
    }
    let (group_names, group_entries) = Names::read(root, "group");
    let (probe_names, probe_entries) = Names::read(root, "probe");
    let (region_names, region_entries) = Names::read(root, "region");
    let (policy_names, policy_entries) = Names::read(root, "policy");
    let (dns, control) = listen::read(root);
    let probes = probe::read_all(&probe_names, &probe_entries);
    let regions = region::read_all(&region_names, &region_entries, &probe_names);
    region::warn_of_bare_handshakes(&regions, &region_entries, &probes);
    let policies = steering::read_policies(&policy_names, &policy_entries);
    let services = service::read_all(
        root,
        &service::Scope {
            region_names: &region_names,
            group_names: &group_names,
            policy_names: &policy_names,
            policies: &policies,
            regions: &regions,
            probes: &probes,
        },
    );
    let zones = zones::read_all(root, &services);
    Config {
        file: path.to_path_buf(),
        node: node::read_node(root),
        log: node::read_log(root),
        dns,
        control,
        geo: geo::read(root, &region_names),
        safety: node::read_safety(root),
        zones,
        topology: Topology {
            groups: place::read_groups(&group_names, &group_entries),
            latency: latency::read(root, &group_names, &region_names),
            services: services.into_iter().map(|service| service.value).collect(),
            probes: probes.into_iter().flatten().collect(),
            regions,
        },
        warnings: Diagnostics::default(),
    }
}
