//! `[geo]`: the databases that locate clients, and the networks whose location the config overrides.

use std::collections::HashSet;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::geo::NetworkOverride;
use crate::model::RegionId;

use super::Spot;
use super::keys::Shape::{Fields, List, OneOrMany, Prefix, Text};
use super::keys::{Keys, default, key, otherwise, required};
use super::place::{LOCATION, Names, location};
use super::table::{Table, Value};
use super::text;

/// The table `[geo]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Geo {
    /// Databases; the first match wins. At most 16.
    pub databases: Vec<GeoDatabase>,
    /// `[[geo.network]]`, each prefix once; the longest match wins, also over the databases.
    pub networks: Vec<NetworkOverride>,
}

/// A database of places, not opened yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeoDatabase {
    /// Where it comes from.
    pub source: GeoSource,
    /// Where the config names it; the start of the config if it does not name one.
    pub at: Spot,
}

/// The source of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GeoSource {
    /// The database compiled into Portolan.
    Builtin,
    /// An `.mmdb` file.
    File(PathBuf),
}

pub(super) const GEO: Keys = Keys {
    known: &[
        key(
            "database",
            OneOrMany(&Text),
            default("\"builtin\""),
            "\"builtin\" or .mmdb files; the first file that knows the client wins",
        ),
        key(
            "network",
            List(&Fields(&NETWORK)),
            otherwise("", "none"),
            "networks for which the config overrides the database",
        ),
    ],
    later: &[],
};
const NETWORK: Keys = Keys {
    known: &[
        key("prefix", Prefix, required("\"10.20.0.0/16\""), "the network; the longest matching prefix wins"),
        key(
            "location",
            Fields(&LOCATION),
            otherwise("", "as for a shorter prefix, or as in the database"),
            "location of these clients",
        ),
        key(
            "regions",
            OneOrMany(&Text),
            otherwise("[\"eu-west\"]", "as `rank` decides"),
            "regions to rank first, in this order; fences still apply",
        ),
    ],
    later: &[],
};
const MOST_DATABASES: usize = 16;

pub(super) fn read(root: &Table<'_>, regions: &Names<'_>) -> Geo {
    let table = root.get("geo").and_then(|value| value.table("geo", &GEO));
    let written = table.as_ref().and_then(|table| table.get("database"));
    let databases = match written {
        Some(value) => read_databases(&value),
        None => vec![GeoDatabase { source: GeoSource::Builtin, at: root.report.spot(root.key_span("geo")) }],
    };
    let Some(table) = table else { return Geo { databases, networks: Vec::new() } };
    let mut networks: Vec<NetworkOverride> = Vec::new();
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

fn read_databases(value: &Value<'_>) -> Vec<GeoDatabase> {
    const WHAT: &str = "\"builtin\" or the path of an .mmdb file";
    let items = value.one_or_many("\"builtin\" or a list of .mmdb files").unwrap_or_default();
    if items.len() > MOST_DATABASES {
        value.fail::<()>(format!("at most {MOST_DATABASES} databases, found {}", items.len()));
    }
    let database = |item: Value<'_>| {
        let source = match item.text(WHAT)? {
            "builtin" => GeoSource::Builtin,
            path => GeoSource::File(item.report.resolve(path)),
        };
        Some(GeoDatabase { source, at: item.report.spot(item.span) })
    };
    items.into_iter().filter_map(database).collect()
}

fn read_network(value: &Value<'_>, regions: &Names<'_>) -> Option<NetworkOverride> {
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
    Some(NetworkOverride { prefix: prefix?, location, first: first.into() })
}

/// A list of at least one region without duplicates.
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
