//! From files to a plan, off the threads that answer.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tracing::warn;

use super::index::{KeptIndex, Opening};
use super::{Origin, unanswered};
use crate::config::{self, Config, Control, Diagnostics, GeoSource, Unfit};
use crate::geo::Index;
use crate::model::Rules;
use crate::snapshot::Plan;
use crate::state::World;
use crate::zone::{Dynamic, Zones};

/// What the embedded geo database is called.
pub const BUILTIN: &str = "the builtin database";

/// A config that is good, and what was compiled from it.
#[derive(Debug)]
pub struct Prepared {
    /// The config.
    pub config: Config,
    /// Its plan.
    pub plan: Arc<Plan>,
    /// The geo index of the plan, for the preparation after this.
    pub geo: KeptIndex,
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
    prepare_after(origin, None)
}

/// As [`prepare`], and keeps the geo index of the config before, where it would be the same.
///
/// # Errors
/// Everything that is wrong with the config.
pub fn prepare_after(origin: &Origin, last: Option<&KeptIndex>) -> Result<Prepared, PrepareError> {
    let (mut config, geo) = open(origin, last)?;
    let unanswered = unanswered::check(&config.places, &geo.index);
    config.warnings.add(&config.file, unanswered);
    compile(config, geo)
}

/// The geo databases that a config names, compiled with its overrides, and what they are called.
///
/// # Errors
/// Everything that is wrong with the config or a database.
pub fn index(origin: &Origin) -> Result<(Arc<Index>, Vec<String>), PrepareError> {
    open(origin, None).map(|(config, geo)| (geo.index, geo_sources(&config)))
}

/// What the state depends on.
#[must_use]
pub fn world(plan: &Plan, rules: Rules) -> World {
    World {
        topology: Arc::clone(&plan.topology),
        sets: Arc::clone(plan.steering.region_sets()),
        rules,
        computes_ttl: plan.steering.computes_ttl(),
    }
}

pub(super) fn rules(config: &Config) -> Rules {
    Rules { min_regions: config.safety.min_regions, ..Rules::default() }
}

fn geo_sources(config: &Config) -> Vec<String> {
    let names = config.geo.databases.iter().map(|source| match source {
        GeoSource::Builtin => BUILTIN.into(),
        GeoSource::File(path) => path.display().to_string(),
    });
    names.collect()
}

fn open(origin: &Origin, last: Option<&KeptIndex>) -> Result<(Config, KeptIndex), PrepareError> {
    let opening = Opening::new(last);
    let config = origin.load_opening(&|source| opening.open(source)).map_err(PrepareError::Config)?;
    let geo = opening.compile(&config)?;
    Ok((config, geo))
}

impl Prepared {
    /// Writes what is odd about the config to the log.
    pub fn log_warnings(&self) {
        for it in &self.config.warnings {
            let help = it.help.as_deref().unwrap_or_default();
            warn!(file = %it.file.display(), line = it.line, column = it.column, help, "{}", it.message);
        }
    }
}

impl Origin {
    /// Reads and checks the config without compiling it.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn load(&self) -> Result<Config, Diagnostics> {
        self.load_opening(&|_| Ok(()))
    }

    fn load_opening(&self, open: &dyn Fn(&GeoSource) -> Result<(), Unfit>) -> Result<Config, Diagnostics> {
        self.read_by(|path, read| config::load_opening(path, read, open))
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

fn compile(mut config: Config, geo: KeptIndex) -> Result<Prepared, PrepareError> {
    let zones = std::mem::take(&mut config.zones);
    let zones = Zones::join(zones, &Dynamic::all(&config.topology.services)).map_err(|errors| {
        PrepareError::Other(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    let dns = config.dns.as_ref();
    let ecs = dns.is_none_or(|dns| dns.ecs);
    let key_prefix = dns.map(|dns| dns.key_prefix).unwrap_or_default();
    let geo_sources = geo_sources(&config);
    let debug_names = dns.is_some_and(|dns| dns.debug_names);
    let identity = dns.map(|dns| dns.identity.clone()).unwrap_or_default();
    let plan = Plan {
        geo_sources,
        identity,
        debug_names,
        ..Plan::compile(config.topology.clone(), zones, Arc::clone(&geo.index), ecs, key_prefix)
    };
    Ok(Prepared { config, plan: Arc::new(plan), geo })
}
