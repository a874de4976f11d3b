//! A config made ready to run: everything that can fail happens here, off the threads that answer queries.
//!
//! [`prepare`] reads the config with the files it names, compiles the geo index and the plan, and builds probes, TLS trust
//! and the resolver. `check`, `serve`, reload and offline `explain` all come here, so `check` never passes what `serve`
//! refuses. What it returns takes effect by steps that cannot fail.

mod acme;
mod control_tls;
mod cookies;
pub mod files;
mod index;
pub mod kernel;
mod needs;
mod origin;
mod pem;
mod proxy_tls;
mod sticky;
mod tickets;
mod unanswered;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tracing::warn;

pub use acme::{Acme, parse as parse_certificate};
pub use index::{BUILTIN, KeptIndex};
pub use origin::Origin;

use crate::config::{Config, Diagnostics, GeoDatabase};
use crate::geo::Index;
use crate::model::Rules;
use crate::net::clock::Clock;
use crate::net::limits::Serving;
use crate::net::resolver::Resolver;
use crate::probe::PreparedProbe;
use crate::route;
use crate::snapshot::{Plan, Tls};
use crate::state::World;
use crate::wire::cookie::Secrets;

/// A valid config, and everything that was built from it.
#[derive(Debug)]
pub struct Prepared {
    /// The config; its zones have become the plan's.
    pub config: Config,
    /// The plan, compiled from it.
    pub plan: Arc<Plan>,
    /// Its probes, ready to run, by [`ProbeId`](crate::model::ProbeId).
    pub probes: Vec<Arc<PreparedProbe>>,
    /// Resolves the hosts of endpoints, if any has to be resolved.
    pub resolver: Option<Resolver>,
    /// The geo index of the plan, which the next preparation may reuse.
    pub geo: KeptIndex,
    /// How the API speaks TLS, if it does.
    pub control_tls: Option<Arc<ServerConfig>>,
    /// The certificates that the node obtains itself.
    pub acme: Vec<Acme>,
    /// SHA-256 of the config and the texts that it names, such as zones, as hexadecimal digits; databases and
    /// certificates are not included.
    pub digest: Arc<str>,
}

/// Why a running node did not apply a config.
#[derive(Clone, Debug)]
pub enum ReloadError {
    /// It has mistakes, or something it names cannot be used.
    Refused(Diagnostics),
    /// It is not in the folder of the node's own config, which is this.
    Elsewhere(Option<PathBuf>),
    /// The program failed while it prepared the config.
    Crashed(String),
    /// Reading the config and its files, and compiling them, took longer than this.
    Late(Duration),
    /// An earlier reload that was given up still waits for a file.
    Waiting,
    /// The node is stopping.
    Stopped,
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(diagnostics) => diagnostics.fmt(f),
            Self::Elsewhere(Some(folder)) => write!(
                f,
                "the node reads another config only from the folder of its own, {}: copy the config, and the files that it names, there",
                folder.display()
            ),
            Self::Elsewhere(None) => f.write_str("this node has no config file, so it reads no other one either"),
            Self::Crashed(why) => write!(f, "the config could not be prepared: {why}"),
            Self::Late(within) => write!(
                f,
                "the config and its files could not be read within {within:?}; does the file system answer?"
            ),
            Self::Waiting => f.write_str(
                "an earlier reload still waits for the config or one of its files; does the file system answer?",
            ),
            Self::Stopped => f.write_str("the node is stopping"),
        }
    }
}

impl std::error::Error for ReloadError {}

/// Reads a config and the files that it names, and compiles it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn prepare(origin: &Origin) -> Result<Prepared, Diagnostics> {
    prepare_after(origin, None, &[])
}

/// As [`prepare`], but reuses the geo index of the config before if it would be the same, and its certificates by ACME.
///
/// # Errors
/// Everything that is wrong with the config.
pub fn prepare_after(
    origin: &Origin,
    last: Option<&KeptIndex>,
    certificates: &[Acme],
) -> Result<Prepared, Diagnostics> {
    let (mut config, digest, geo) = read(origin, last, index::needed)?;
    sticky::complete(&mut config.topology.pools);
    let unanswered = unanswered::check(&config.places, &geo.index);
    config.warnings.add(&config.file, unanswered);
    let secrets = config.dns.as_ref().map_or(Ok(None), |dns| cookies::secrets(&dns.cookies));
    let tls = config.control.tls.as_ref();
    let tls = tls.map(|tls| control_tls::prepare(tls, &|source| origin.read(source))).transpose();
    let proxy_tls = proxy_tls::prepare(&config, &|source| origin.read(source), Clock::unix(), certificates);
    match (needs::probes(&config), needs::resolver(&config), secrets, tls, proxy_tls) {
        (Ok(probes), Ok(resolver), Ok(secrets), Ok(control_tls), Ok((proxy_tls, acme, warnings))) => {
            config.warnings.add(&config.file, warnings);
            let plan = Arc::new(compile(&mut config, &geo, secrets, proxy_tls));
            Ok(Prepared { config, plan, probes, resolver, geo, control_tls, acme, digest })
        }
        (probes, resolver, secrets, tls, proxy_tls) => {
            let wrong = [probes.err(), resolver.err(), secrets.err(), tls.err(), proxy_tls.err()];
            let wrong = wrong.into_iter().flatten().flatten();
            config.warnings.add(&config.file, wrong.collect());
            Err(config.warnings)
        }
    }
}

/// The part of a config that the state depends on.
#[must_use]
pub fn world(plan: &Plan, rules: Rules) -> World {
    World {
        topology: Arc::clone(&plan.topology),
        sets: Arc::clone(plan.steering.region_sets()),
        rules,
        computes_ttl: plan.steering.computes_ttl(),
    }
}

/// Whom a config lets the node serve.
#[must_use]
pub fn serving(config: &Config) -> Serving {
    match (&config.dns, &config.proxy) {
        (_, None) => Serving::Dns,
        (Some(_), Some(_)) => Serving::Both,
        (None, Some(_)) => Serving::Proxy,
    }
}

/// The geo databases that a config names, compiled with its networks, and the names of what the index has numbers for.
#[derive(Debug)]
pub struct NamedIndex {
    /// The index.
    pub index: Arc<Index>,
    /// The databases, in order.
    pub sources: Vec<String>,
    /// The regions, by [`RegionId`](crate::model::RegionId).
    pub regions: Vec<String>,
}

/// The geo databases of a config.
///
/// # Errors
/// Everything that is wrong with the config or a database.
pub fn index(origin: &Origin) -> Result<NamedIndex, Diagnostics> {
    let (config, _, geo) = read(origin, None, |config| &config.geo.databases)?;
    let regions = config.topology.regions.iter().map(|region| region.name.to_string()).collect();
    Ok(NamedIndex { index: geo.index, sources: index::sources(&config), regions })
}

/// The config, its digest and its geo index, or every mistake in the config and in its databases.
fn read(
    origin: &Origin,
    last: Option<&KeptIndex>,
    databases: fn(&Config) -> &[GeoDatabase],
) -> Result<(Config, Arc<str>, KeptIndex), Diagnostics> {
    let (mut config, digest) = match origin.load() {
        Ok(loaded) => loaded,
        Err(mut refused) => {
            refused.diagnostics.add(origin.path(), index::check(&refused.databases));
            return Err(refused.diagnostics);
        }
    };
    match index::compile(&config, databases(&config), last) {
        Ok(geo) => Ok((config, digest, geo)),
        Err(wrong) => {
            config.warnings.add(&config.file, wrong);
            Err(config.warnings)
        }
    }
}

fn compile(config: &mut Config, geo: &KeptIndex, cookies: Option<Secrets>, tls: Tls) -> Plan {
    let zones = std::mem::take(&mut config.zones);
    let dns = config.dns.as_ref();
    let ecs = dns.is_none_or(|dns| dns.ecs);
    let key_prefix = dns.map(|dns| dns.key_prefix).unwrap_or_default();
    Plan {
        geo_sources: index::sources(config),
        debug_names: dns.is_some_and(|dns| dns.debug_names),
        identity: dns.map(|dns| dns.identity.clone()).unwrap_or_default(),
        cookies,
        rate_limit: dns.and_then(|dns| dns.rate_limit.clone()),
        allow: dns.map(|dns| dns.allow.clone()).unwrap_or_default(),
        proxies: dns.map(|dns| dns.proxies.clone()).unwrap_or_default(),
        query_log: dns.and_then(|dns| dns.query_log.clone()),
        proxy: config.proxy.as_ref().map(route::Plan::compile).unwrap_or_default(),
        tls,
        ..Plan::compile(config.topology.clone(), zones, Arc::clone(&geo.index), ecs, key_prefix)
    }
}

impl Prepared {
    /// Logs the warnings about the config.
    pub fn log_warnings(&self) {
        for it in &self.config.warnings {
            let help = it.help.as_deref();
            warn!(file = %it.file.display(), line = it.line, column = it.column, help, "{}", it.message);
        }
    }
}
