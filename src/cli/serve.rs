//! `portolan serve`

use std::process::ExitCode;
use std::thread;

use anyhow::{Context as _, Result};
use tokio::runtime;
use tokio::sync::oneshot;
use tracing::{error, info};

use super::{check, diagnostics, exit, logging};
use crate::config::Diagnostics;
use crate::node::sandbox::Sandbox;
use crate::node::{Options, Signals, Starting, node_name};
use crate::prepare::{Origin, Prepared, prepare};

pub(super) fn run(origin: Origin) -> Result<ExitCode> {
    run_to_end(serve(origin))
}

async fn serve(origin: Origin) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let prepared = tokio::select! {
        prepared = prepare_apart(origin.clone()) => prepared?,
        _ = signals.end.recv() => return Ok(ExitCode::SUCCESS),
    };
    let prepared = match prepared.and_then(known_here) {
        Ok(prepared) => prepared,
        Err(errors) => {
            diagnostics::print(&errors);
            return Ok(ExitCode::from(exit::NO));
        }
    };
    // Before any thread starts that stays.
    let sandbox = Sandbox::enter(&prepared.config);
    logging::start(&prepared.config.log)?;
    log_start(&origin, &prepared);
    sandbox.log();
    prepared.log_warnings();
    let starting = tokio::select! {
        starting = Starting::begin(origin, prepared, Options::default()) => starting?,
        _ = signals.end.recv() => return Ok(ExitCode::SUCCESS),
    };
    let ended = tokio::select! {
        ready = starting.ready() => ready.map(|()| None)?,
        by = signals.end.recv() => Some(by),
    };
    if let Some(by) = ended {
        starting.stop(by).await;
        return Ok(ExitCode::SUCCESS);
    }
    if let Err(why) = starting.answer()?.run(signals).await {
        error!("{why:#}");
        return Ok(ExitCode::from(exit::NO));
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses a config with a user or group that this host does not have.
fn known_here(mut prepared: Prepared) -> Result<Prepared, Diagnostics> {
    let config = &mut prepared.config;
    config.warnings.add(&config.file, check::unknown_names(config).collect());
    if config.warnings.has_errors() { Err(std::mem::take(&mut config.warnings)) } else { Ok(prepared) }
}

/// The first line of the log.
fn log_start(origin: &Origin, prepared: &Prepared) {
    let name = node_name(prepared.config.node.name.as_deref());
    let (version, config) = (env!("CARGO_PKG_VERSION"), origin.path().display());
    info!(%name, version, %config, "portolan starts");
}

/// Prepares on a thread of its own, which has ended when this returns: files may take long, or forever, as on a network
/// disk that hangs.
async fn prepare_apart(origin: Origin) -> Result<Result<Prepared, Diagnostics>> {
    let (done, prepared) = oneshot::channel();
    let preparing = thread::Builder::new().name("prepare".into()).spawn(move || {
        // The receiver may be gone.
        done.send(prepare(&origin)).ok();
    })?;
    let prepared = prepared.await;
    // Without a result it has panicked, which has been reported.
    preparing.join().ok();
    prepared.context("the config cannot be prepared")
}

/// Runs signals, reloads and whatever else has no threads of its own, on this thread. Work that still blocks a thread at
/// the end is left behind.
pub(super) fn run_to_end<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}
