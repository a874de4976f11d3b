//! The geo index of a config: compiled from the databases it names, or kept from the config before.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::sync::Arc;

use ipnet::IpNet;
use sha2::{Digest as _, Sha256};

use super::prepare::PrepareError;
use crate::config::{Config, GeoSource, Unfit};
use crate::geo::{self, Database, GeoError, Index, Override};

/// A geo index, and what it was compiled from.
#[derive(Clone, Debug)]
pub struct KeptIndex {
    /// The index.
    pub index: Arc<Index>,
    inputs: Arc<Inputs>,
}

/// Equal inputs compile to equal indexes.
#[derive(Debug, PartialEq)]
struct Inputs {
    databases: Vec<Content>,
    networks: Vec<Override>,
    nets: Vec<IpNet>,
}

/// What a database holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Content {
    Builtin,
    /// SHA-256 of a file: one that is written over in place can keep its inode and its size, and even its time.
    File([u8; 32]),
}

/// The databases of a config, opened one by one.
pub(super) struct Opening<'a> {
    last: Option<&'a KeptIndex>,
    opened: RefCell<Vec<(Content, Opened)>>,
}

enum Opened {
    Decoded(Database),
    /// The last index was compiled from the same bytes, so they are good: decoded only if anything else has changed.
    Known(Vec<u8>),
}

impl<'a> Opening<'a> {
    pub(super) fn new(last: Option<&'a KeptIndex>) -> Self {
        Self { last, opened: RefCell::default() }
    }

    /// Opens the next one.
    pub(super) fn open(&self, source: &GeoSource) -> Result<(), Unfit> {
        const UNFIT: &str = "name an .mmdb file with countries, coordinates or ASNs, or \"builtin\"";
        let (content, bytes) = read(source)?;
        let opened = if self.last.is_some_and(|last| last.inputs.databases.contains(&content)) {
            Opened::Known(bytes)
        } else {
            let unfit = |error: GeoError| Unfit { why: error.to_string(), help: UNFIT };
            Opened::Decoded(decode(content, &bytes).map_err(unfit)?)
        };
        self.opened.borrow_mut().push((content, opened));
        Ok(())
    }

    /// The index of all that was opened and what the config itself says; the last one, if it is made of the same.
    pub(super) fn compile(self, config: &Config) -> Result<KeptIndex, PrepareError> {
        let opened = self.opened.into_inner();
        let inputs = Inputs {
            databases: opened.iter().map(|(content, _)| *content).collect(),
            networks: config.geo.networks.clone(),
            nets: config.nets(),
        };
        if let Some(last) = self.last.filter(|last| *last.inputs == inputs) {
            return Ok(last.clone());
        }
        let database = |(content, opened)| match opened {
            Opened::Decoded(database) => Ok(database),
            Opened::Known(bytes) => decode(content, &bytes),
        };
        let databases: Result<Vec<_>, _> = opened.into_iter().map(database).collect();
        let databases = databases.map_err(|e| PrepareError::Other(format!("a geo database: {e}")))?;
        let index = Index::compile(&databases, &inputs.networks, &inputs.nets);
        Ok(KeptIndex { index: index.into(), inputs: inputs.into() })
    }
}

/// What a source holds. The bytes of the builtin one are the program's.
fn read(source: &GeoSource) -> Result<(Content, Vec<u8>), Unfit> {
    const UNREADABLE: &str = "a relative path starts at the folder of the config file";
    let GeoSource::File(path) = source else {
        return Ok((Content::Builtin, Vec::new()));
    };
    let bytes = fs::read(path).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "no such file".into(),
            _ => format!("cannot be read: {error}"),
        };
        Unfit { why, help: UNREADABLE }
    })?;
    Ok((Content::File(Sha256::digest(&bytes).into()), bytes))
}

fn decode(content: Content, bytes: &[u8]) -> Result<Database, GeoError> {
    match content {
        Content::Builtin => geo::builtin(),
        Content::File(_) => Database::read(bytes),
    }
}
