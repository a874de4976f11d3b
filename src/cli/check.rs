//! `portolan check`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use super::delegation::{self, Asker};
use super::{diagnostics, exit};
use crate::config::Diagnostics;
use crate::engine::{Origin, PrepareError, Prepared, prepare};

/// What `portolan check` looks at.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The config
    #[arg(short, long, default_value = super::DEFAULT_CONFIG, value_name = "FILE")]
    config: PathBuf,

    /// Every mistake and warning as a JSON array
    #[arg(long)]
    json: bool,

    /// Ask the parent of each zone for NS, glue and DS, and say what to change there
    #[arg(long, conflicts_with = "json")]
    delegation: bool,

    /// The resolver that finds the parent's name servers; default: the system's
    #[arg(long, value_name = "ADDR", requires = "delegation")]
    resolver: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let prepared = prepare(&Origin::File(arguments.config.clone()));
    let said = match &prepared {
        Ok(prepared) => &prepared.config.warnings,
        Err(PrepareError::Config(said)) => said,
        Err(PrepareError::Other(why)) => anyhow::bail!("{}: {why}", arguments.config.display()),
    };
    if arguments.json {
        say!("{}", diagnostics::json(said)?);
    } else {
        diagnostics::print(said);
    }
    let Ok(prepared) = &prepared else { return Ok(ExitCode::from(exit::NO)) };
    if !arguments.json {
        say!("{}", praise(prepared, said));
    }
    if !arguments.delegation {
        return Ok(ExitCode::SUCCESS);
    }
    let asker = Asker::new(arguments.resolver.as_deref())?;
    let mut is_good = true;
    for zone in prepared.plan.zones.iter() {
        let verdict = delegation::check(zone, &asker);
        say!("{}", verdict.text.trim_end());
        is_good &= verdict.is_good;
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::from(exit::NO) })
}

/// What a good config has.
fn praise(prepared: &Prepared, said: &Diagnostics) -> String {
    let config = &prepared.config;
    let topology = &config.topology;
    format!(
        "{} is fine: {}, {}, {}{}",
        config.file.display(),
        count(prepared.plan.zones.iter().count(), "zone"),
        count(topology.services.len(), "service"),
        count(topology.regions.len(), "region"),
        diagnostics::counts(said).map_or_else(String::new, |counts| format!("; {counts}"))
    )
}

fn count(n: usize, thing: &str) -> String {
    if n == 1 { format!("1 {thing}") } else { format!("{n} {thing}s") }
}
