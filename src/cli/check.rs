//! `portolan check`

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use nix::unistd::{AccessFlags, access, geteuid};
use serde::Serialize;

use super::delegation::{self, Asker, ZoneResult};
use super::{diagnostics, exit};
use crate::config::{Config, Diagnostic, Diagnostics, NamedGroup};
use crate::node;
use crate::prepare::kernel::{Advice, Kernel};
use crate::prepare::{Origin, Prepared, prepare, serving};

/// Arguments of `portolan check`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The config [default: PORTOLAN_CONFIG, else /etc/portolan/portolan.toml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The same
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,

    /// Print all errors and warnings as a JSON array; with --delegation as an object, beside the zones
    #[arg(long)]
    json: bool,

    /// Ask the parent of each zone for NS, glue and DS, and say what to change there
    #[arg(long)]
    delegation: bool,

    /// The resolver that finds the parent's name servers [default: the system's]
    #[arg(long, value_name = "ADDR", requires = "delegation")]
    resolver: Option<String>,
}

impl Arguments {
    /// The config that they name.
    pub(super) fn file(&self) -> Option<&PathBuf> {
        self.config.as_ref().or(self.file.as_ref())
    }
}

pub(super) fn run(arguments: &Arguments, config: PathBuf) -> Result<ExitCode> {
    let mut prepared = prepare(&Origin::File(config));
    if let Ok(Prepared { config, .. }) = &mut prepared {
        let on_this_host = unwritable(config).into_iter().chain(unknown_names(config)).chain(kernel(config));
        config.warnings.add(&config.file, on_this_host.collect());
    }
    let found = match &prepared {
        Ok(prepared) => &prepared.config.warnings,
        Err(errors) => errors,
    };
    let is_fine = !found.has_errors();
    if !arguments.json {
        diagnostics::print(found);
        if let (Ok(prepared), true) = (&prepared, is_fine) {
            say!("{}", summary(prepared, found));
        }
    }
    let mut zones = Vec::new();
    if let (Ok(prepared), true) = (&prepared, arguments.delegation) {
        let asker = Asker::new(arguments.resolver.as_deref())?;
        for zone in prepared.plan.zones.iter() {
            let result = delegation::check(zone, &asker);
            if !arguments.json {
                say!("{}", result.text().trim_end());
            }
            zones.push(result);
        }
    }
    if arguments.json {
        let diagnostics = diagnostics::rows(found);
        let json = if arguments.delegation {
            serde_json::to_string_pretty(&Report { diagnostics, zones: &zones })?
        } else {
            serde_json::to_string_pretty(&diagnostics)?
        };
        say!("{json}");
    }
    let is_good = is_fine && zones.iter().all(|zone| zone.matches);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::from(exit::NO) })
}

/// What `check --delegation --json` prints.
#[derive(Serialize)]
struct Report<'z, D> {
    diagnostics: D,
    zones: &'z [ZoneResult],
}

/// A warning if the current user cannot write to `state_dir`, unless it is hidden or of another user: what counts then is
/// the user that runs the node. Creates and writes nothing.
fn unwritable(config: &Config) -> Option<Diagnostic> {
    let (path, at) = config.node.state_dir.as_ref().zip(config.state_dir_at.as_ref())?;
    match fs::metadata(path) {
        Ok(found) if found.is_dir() && found.uid() != geteuid().as_raw() => return None,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
        Ok(_) | Err(_) => {}
    }
    let here = Path::new(".");
    let parents = path.ancestors().map(|it| if it.as_os_str().is_empty() { here } else { it });
    let nearest = parents.clone().find(|it| it.exists())?;
    let why = if !nearest.is_dir() {
        format!("{} is a file", nearest.display())
    } else {
        let error = access(nearest, AccessFlags::W_OK | AccessFlags::X_OK).err()?;
        format!("{}: {}", nearest.display(), error.desc().to_lowercase())
    };
    Some(at.warning(
        format!("the current user cannot write to state_dir {}: {why}", path.display()),
        "create it and let the user that runs the node write to it; the node does not start otherwise".into(),
    ))
}

/// Errors if this host does not have the user that the node is to run as, or the group that may use its socket: `serve`
/// does not start then.
pub(super) fn unknown_names(config: &Config) -> impl Iterator<Item = Diagnostic> + use<> {
    unknown_user(config).into_iter().chain(unknown_group(config))
}

fn unknown_group(config: &Config) -> Option<Diagnostic> {
    let NamedGroup { name, at } = config.control.group.as_ref()?;
    let why = node::unknown_group(name)?;
    Some(at.error(why, format!("create it with `groupadd --system {name}`, or change `group` of [control]")))
}

fn unknown_user(config: &Config) -> Option<Diagnostic> {
    let (name, at) = config.node.user.as_ref().zip(config.user_at.as_ref())?;
    let why = node::unknown_user(name)?;
    Some(at.error(why, format!("create it with `useradd --system {name}`, or change `user` of [node]")))
}

/// Warnings of settings of this host's kernel that hurt the proxy.
fn kernel(config: &Config) -> Vec<Diagnostic> {
    let Some((proxy, at)) = config.proxy.as_ref().zip(config.proxy_at.as_ref()) else { return Vec::new() };
    let advice = Kernel::read().advice(proxy, serving(config));
    advice.into_iter().map(|Advice { what, fix }| at.warning(what, fix)).collect()
}

/// What a config without errors contains.
fn summary(prepared: &Prepared, warnings: &Diagnostics) -> String {
    let config = &prepared.config;
    let topology = &config.topology;
    let mut contents = vec![
        count(prepared.plan.zones.iter().count(), "zone"),
        count(topology.services.len(), "service"),
        count(topology.regions.len(), "region"),
    ];
    if let Some(proxy) = &config.proxy {
        contents.push(count(proxy.listeners.len(), "listener"));
        contents.push(count(topology.pools.len(), "pool"));
    }
    format!(
        "{} is fine: {}{}",
        config.file.display(),
        contents.join(", "),
        diagnostics::counts(warnings).map_or_else(String::new, |counts| format!("; {counts}"))
    )
}

fn count(n: usize, thing: &str) -> String {
    if n == 1 { format!("1 {thing}") } else { format!("{n} {thing}s") }
}
