//! The log goes to stderr; stdout is for the output of commands.

use std::io::{IsTerminal as _, stderr};

use anyhow::{Context as _, Result};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};
use crate::node::log;

/// Starts the log as configured. `PORTOLAN_LOG` (such as `debug` or `portolan::probe=trace`) takes precedence.
pub(super) fn start(config: &Log) -> Result<()> {
    // The verifier logs each certificate that it rejects; the probe reports it anyway.
    let level = format!("{:?},rustls_platform_verifier=off", config.level).to_lowercase();
    let filter = EnvFilter::try_from_env("PORTOLAN_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let on_terminal = stderr().is_terminal();
    let lines = log::start().context("cannot start the thread that writes the log")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    // Internal errors would be printed to stderr, which blocks or panics where the log does not.
    let builder = builder.with_writer(move || lines).log_internal_errors(false);
    match config.format.unwrap_or(if on_terminal { LogFormat::Text } else { LogFormat::Json }) {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.with_ansi(on_terminal).init(),
    }
    Ok(())
}
