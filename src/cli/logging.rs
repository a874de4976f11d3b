//! The log: lines on stderr, so that stdout stays the commands' own.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts the log as the config says. `PORTOLAN_LOG` (such as `debug` or `portolan::probe=trace`) goes before it.
pub(super) fn start(log: &Log) {
    let level = format!("{:?}", log.level).to_lowercase();
    let filter = EnvFilter::try_from_env("PORTOLAN_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let on_terminal = stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_target(false);
    match log.format.unwrap_or(if on_terminal { LogFormat::Text } else { LogFormat::Json }) {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.with_ansi(on_terminal).init(),
    }
}
