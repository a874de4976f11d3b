//! From files to a plan, off the threads that answer.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::Origin;
use crate::config::{self, Config, Control, Diagnostic, Diagnostics, GeoSource, Severity};
use crate::geo::{self, Database, Index};
use crate::snapshot::Plan;
use crate::zone::Zones;

/// A config that is good, and what was compiled from it.
#[derive(Debug)]
pub struct Prepared {
    /// The config.
    pub config: Config,
    /// Its plan.
    pub plan: Arc<Plan>,
}

/// Why a config cannot be put into force.
#[derive(Clone, Debug)]
pub enum PrepareError {
    /// It has mistakes.
    Config(Diagnostics),
    /// Something it names cannot be used; a sentence.
    Other(String),
}

impl fmt::Display for PrepareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(diagnostics) => diagnostics.fmt(f),
            Self::Other(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for PrepareError {}

/// Reads a config with all that it names and compiles it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn prepare(origin: &Origin) -> Result<Prepared, PrepareError> {
    let config = origin.load().map_err(PrepareError::Config)?;
    let geo = index(&config)?;
    compile(config, geo)
}

impl Origin {
    /// Reads and checks the config without compiling it.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn load(&self) -> Result<Config, Diagnostics> {
        self.read_by(config::load)
    }

    /// Reads only where a node with this config takes orders.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn load_control(&self) -> Result<Control, Diagnostics> {
        self.read_by(config::load_control)
    }

    fn read_by<T>(&self, load: impl Fn(&Path, Loader<'_>) -> T) -> T {
        match self {
            Self::File(path) => load(path, &|path| fs::read(path)),
            Self::Text { toml, files } => {
                let config = Path::new("portolan.toml");
                let read = |path: &Path| {
                    if path == config {
                        return Ok(toml.as_bytes().to_vec());
                    }
                    let found = files.iter().find(|(name, _)| name == path);
                    found.map(|(_, content)| content.clone()).ok_or_else(|| io::ErrorKind::NotFound.into())
                };
                load(config, &read)
            }
        }
    }
}

/// How files are read.
type Loader<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// The geo databases a config names, compiled with its overrides.
///
/// # Errors
/// If a database cannot be read or is none.
pub fn index(config: &Config) -> Result<Index, PrepareError> {
    let mut databases: Vec<Database> = Vec::with_capacity(config.geo.databases.len());
    let mut mistakes = Vec::new();
    for source in &config.geo.databases {
        match source {
            GeoSource::Builtin => databases.push(
                geo::builtin().map_err(|e| PrepareError::Other(format!("the builtin geo database: {e}")))?,
            ),
            GeoSource::File { path, line, column } => match database(path) {
                Ok(database) => databases.push(database),
                Err((why, help)) => mistakes.push(Diagnostic {
                    severity: Severity::Error,
                    file: config.file.clone(),
                    line: *line,
                    column: *column,
                    end_column: column + 1,
                    message: format!("geo database {}: {why}", path.display()),
                    help: Some(help.into()),
                }),
            },
        }
    }
    if !mistakes.is_empty() {
        return Err(PrepareError::Config(Diagnostics::found_later(&config.file, mistakes)));
    }
    Ok(Index::compile(&databases, &config.geo.networks, &config.nets()))
}

/// A database out of a file; else why not, and what to do.
fn database(path: &Path) -> Result<Database, (String, &'static str)> {
    const UNREADABLE: &str = "a relative path starts at the folder of the config file";
    const UNFIT: &str = "name an .mmdb file with countries, coordinates or ASNs, or \"builtin\"";
    let bytes = fs::read(path).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "no such file".into(),
            _ => format!("cannot be read: {error}"),
        };
        (why, UNREADABLE)
    })?;
    Database::read(&bytes).map_err(|error| (error.to_string(), UNFIT))
}

fn compile(mut config: Config, geo: Index) -> Result<Prepared, PrepareError> {
    let zones = std::mem::take(&mut config.zones);
    let services = config.topology.services.iter().enumerate();
    let names =
        services.map(|(index, service)| (service.name.clone(), crate::model::ServiceId(index as u32)));
    let zones = Zones::build(zones, names.collect::<Vec<_>>()).map_err(|errors| {
        PrepareError::Other(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    let dns = config.dns.as_ref();
    let ecs = dns.is_none_or(|dns| dns.ecs);
    let key_prefix = dns.map(|dns| dns.key_prefix).unwrap_or_default();
    let geo_sources = config.geo.databases.iter().map(|source| match source {
        GeoSource::Builtin => "the builtin database".into(),
        GeoSource::File { path, .. } => path.display().to_string(),
    });
    let geo_sources = geo_sources.collect();
    let plan = Plan { geo_sources, ..Plan::compile(config.topology.clone(), zones, geo, ecs, key_prefix) };
    Ok(Prepared { config, plan: Arc::new(plan) })
}
