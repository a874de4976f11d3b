//! `portolan serve`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::{diagnostics, exit, logging};
use crate::node::{Node, Options, Signals};
use crate::prepare::{Origin, prepare};

pub(super) fn run(config: PathBuf) -> Result<ExitCode> {
    runtime()?.block_on(async {
        let mut signals = Signals::listen()?;
        let origin = Origin::File(config);
        let prepared = match prepare(&origin) {
            Ok(prepared) => prepared,
            Err(errors) => {
                diagnostics::print(&errors);
                return Ok(ExitCode::from(exit::NO));
            }
        };
        logging::start(&prepared.config.log);
        prepared.log_warnings();
        let started = tokio::select! {
            started = Node::start(origin, prepared, Options::default()) => started?,
            () = signals.end.recv() => return Ok(ExitCode::SUCCESS),
        };
        started.run(signals).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// The runtime of everything except the UDP workers.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}
