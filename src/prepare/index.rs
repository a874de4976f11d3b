//! The geo index of a config: compiled from the databases it names, or kept from the config before.

use std::sync::Arc;

use ipnet::IpNet;
use sha2::{Digest as _, Sha256};

use super::files;
use crate::config::{Config, Diagnostic, FileKind, GeoDatabase, GeoSource, how_to_fix, why_unreadable};
use crate::geo::{self, Database, Index, NetworkOverride};

/// The name of the embedded geo database.
pub const BUILTIN: &str = "the builtin database";

/// A geo index, and what it was compiled from.
#[derive(Clone, Debug)]
pub struct KeptIndex {
    /// The index.
    pub index: Arc<Index>,
    inputs: Arc<IndexInputs>,
}

/// Equal inputs compile to equal indexes.
#[derive(Debug, PartialEq)]
struct IndexInputs {
    databases: Vec<Content>,
    networks: Vec<NetworkOverride>,
    nets: Vec<IpNet>,
}

/// What a database holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Content {
    Builtin,
    /// SHA-256 of a file: one that is overwritten in place can keep its inode, its size and even its time.
    File([u8; 32]),
}

/// A database whose bytes were read.
struct Opened<'a> {
    database: &'a GeoDatabase,
    content: Content,
    bytes: Vec<u8>,
}

/// The index of a config's databases and networks: the last one, if it was compiled from the same inputs.
///
/// # Errors
/// What is wrong with each database, where the config names it.
pub(super) fn compile(
    config: &Config,
    databases: &[GeoDatabase],
    last: Option<&KeptIndex>,
) -> Result<KeptIndex, Vec<Diagnostic>> {
    let opened = all(databases.iter().map(Opened::open))?;
    let inputs = IndexInputs {
        databases: opened.iter().map(|it| it.content).collect(),
        networks: config.geo.networks.clone(),
        nets: config.nets(),
    };
    if let Some(last) = last.filter(|last| *last.inputs == inputs) {
        return Ok(last.clone());
    }
    let databases = all(opened.iter().map(Opened::decode))?;
    let index = Index::compile(&databases, &inputs.networks, &inputs.nets);
    Ok(KeptIndex { index: index.into(), inputs: inputs.into() })
}

/// The databases that a node with this config needs: one that locates no clients spares itself the builtin database.
pub(super) fn needed(config: &Config) -> &[GeoDatabase] {
    let databases = &config.geo.databases;
    let locates = config.dns.is_some() || !config.topology.services.is_empty();
    let is_builtin = databases.iter().all(|it| matches!(it.source, GeoSource::Builtin));
    if locates || !is_builtin { databases } else { &[] }
}

/// What is wrong with the databases of a config that is refused anyway.
pub(super) fn check(databases: &[GeoDatabase]) -> Vec<Diagnostic> {
    let check = |database| Opened::open(database)?.decode().map(|_| ());
    all(databases.iter().map(check)).err().unwrap_or_default()
}

/// The names of a config's databases.
pub(super) fn sources(config: &Config) -> Vec<String> {
    let name = |database: &GeoDatabase| match &database.source {
        GeoSource::Builtin => BUILTIN.into(),
        GeoSource::File(path) => path.display().to_string(),
    };
    config.geo.databases.iter().map(name).collect()
}

/// All results, or all errors.
fn all<T>(outcomes: impl Iterator<Item = Result<T, Diagnostic>>) -> Result<Vec<T>, Vec<Diagnostic>> {
    let (mut good, mut wrong) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Ok(it) => good.push(it),
            Err(why) => wrong.push(why),
        }
    }
    if wrong.is_empty() { Ok(good) } else { Err(wrong) }
}

impl<'a> Opened<'a> {
    /// The builtin database needs no bytes: they are part of the program.
    fn open(database: &'a GeoDatabase) -> Result<Self, Diagnostic> {
        let GeoSource::File(path) = &database.source else {
            return Ok(Self { database, content: Content::Builtin, bytes: Vec::new() });
        };
        let bytes = files::read(&FileKind::GeoDatabase.at(path))
            .map_err(|error| unfit(database, &why_unreadable(&error), how_to_fix(&error)))?;
        Ok(Self { database, content: Content::File(Sha256::digest(&bytes).into()), bytes })
    }

    fn decode(&self) -> Result<Database, Diagnostic> {
        let decoded = match self.content {
            Content::Builtin => geo::builtin(),
            Content::File(_) => Database::read(&self.bytes),
        };
        let help = "name an .mmdb file with countries, coordinates or ASNs, or \"builtin\"";
        decoded.map_err(|error| unfit(self.database, &error.to_string(), help))
    }
}

fn unfit(database: &GeoDatabase, why: &str, help: &str) -> Diagnostic {
    let which = match &database.source {
        GeoSource::Builtin => "the builtin geo database".into(),
        GeoSource::File(path) => format!("geo database {}", path.display()),
    };
    database.at.error(format!("{which}: {why}"), help.into())
}
