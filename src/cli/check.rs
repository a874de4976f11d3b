//! `portolan check`

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use super::exit;
use crate::engine::{Origin, prepare};

pub(super) fn run(config: &Path) -> Result<ExitCode> {
    match prepare(&Origin::File(config.to_owned())) {
        Ok(prepared) => {
            eprint!("{}", prepared.config.warnings);
            let topology = &prepared.config.topology;
            say!(
                "{} is fine: {}, {}, {}",
                config.display(),
                count(prepared.plan.zones.iter().count(), "zone"),
                count(topology.services.len(), "service"),
                count(topology.regions.len(), "region")
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("{}", error.to_string().trim_end());
            Ok(ExitCode::from(exit::NO))
        }
    }
}

fn count(n: usize, thing: &str) -> String {
    if n == 1 { format!("1 {thing}") } else { format!("{n} {thing}s") }
}
