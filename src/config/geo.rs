//! `[geo]`: where clients are looked up, and what is known better than the database.

use std::collections::HashSet;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::geo::Override;
use crate::model::RegionId;

use super::place::{Names, location};
use super::table::{Keys, Table, Value};
use super::text;

/// `[geo]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Geo {
    /// Databases, the first match wins; at most 16.
    pub databases: Vec<GeoSource>,
    /// `[[geo.network]]`, each prefix once; the longest wins, over the databases too.
    pub networks: Vec<Override>,
}

/// A database of places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GeoSource {
    /// The one that comes with Portolan.
    Builtin,
    /// An `.mmdb` file, and where it is named.
    File {
        /// The file.
        path: PathBuf,
        /// Line of the config, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
}

impl Default for Geo {
    fn default() -> Self {
        Self { databases: vec![GeoSource::Builtin], networks: Vec::new() }
    }
}

const GEO: Keys = Keys { known: &["database", "network"], later: &[] };
const NETWORK: Keys = Keys { known: &["prefix", "location", "regions"], later: &[] };
const MOST_DATABASES: usize = 16;

pub(super) fn read(root: &Table<'_>, regions: &Names<'_>) -> Geo {
    let default = Geo::default();
    let Some(table) = root.get("geo").and_then(|value| value.table("geo", &GEO)) else { return default };
    let databases = table.get("database").map_or(default.databases, |value| read_databases(&value));
    let mut networks: Vec<Override> = Vec::new();
    let mut prefixes: HashSet<IpNet> = HashSet::new();
    let items = table.get("network").and_then(|value| value.items("a list of networks"));
    for item in items.unwrap_or_default() {
        let Some(network) = read_network(&item, regions) else { continue };
        if !prefixes.insert(network.prefix) {
            item.fail::<()>(format!("network {} is described twice", network.prefix));
        }
        networks.push(network);
    }
    Geo { databases, networks }
}

fn read_databases(value: &Value<'_>) -> Vec<GeoSource> {
    const WHAT: &str = "\"builtin\" or the path of an .mmdb file";
    let items = value.one_or_many("\"builtin\" or a list of .mmdb files").unwrap_or_default();
    if items.len() > MOST_DATABASES {
        value.fail::<()>(format!("at most {MOST_DATABASES} databases, found {}", items.len()));
    }
    let source = |item: Value<'_>| match item.text(WHAT)? {
        "builtin" => Some(GeoSource::Builtin),
        path => {
            let (line, column, _) = item.report.position(item.span.clone());
            Some(GeoSource::File { path: item.report.resolve(path), line, column })
        }
    };
    items.into_iter().filter_map(source).collect()
}

fn read_network(value: &Value<'_>, regions: &Names<'_>) -> Option<Override> {
    let table = value.table("geo.network", &NETWORK)?;
    let prefix: Option<IpNet> =
        table.need("prefix").and_then(|value| value.parsed("a prefix such as \"10.0.0.0/8\"", text::prefix));
    let place = table.get("location");
    let first = table.get("regions");
    if place.is_none() && first.is_none() {
        table.report.absent(table.span.clone(), "`geo.network` needs `location`, `regions` or both");
    }
    let location = place.and_then(|value| location(&value, "geo.network.location".into()));
    let first = first.map(|value| read_regions(&value, regions)).unwrap_or_default();
    Some(Override { prefix: prefix?, location, first: first.into() })
}

/// A list of regions: at least one, none twice.
fn read_regions(value: &Value<'_>, regions: &Names<'_>) -> Vec<RegionId> {
    let mut found = Vec::new();
    for item in value.one_or_many("a list of regions").unwrap_or_default() {
        let Some(index) = regions.refer(&item) else { continue };
        let region = RegionId(index as u16);
        if found.contains(&region) {
            item.fail::<()>(format!("region `{}` is listed twice", regions.name(index)));
        }
        found.push(region);
    }
    found
}
