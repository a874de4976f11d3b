//! The log goes to stderr; stdout is for the output of commands.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write, stderr};

use anyhow::{Context as _, Result};
use tracing_subscriber::EnvFilter;

use super::styled::has_colours;
use super::terminal::{escaped, escaped_but_colours};
use crate::config::{Log, LogFormat};
use crate::node::log;

/// Starts the log as configured. `PORTOLAN_LOG` (such as `debug` or `portolan::probe=trace`) takes precedence.
pub(super) fn start(config: &Log) -> Result<()> {
    start_with(config, "")
}

/// The same without the events of nodes, for a command that prints them itself.
pub(super) fn start_without_events(config: &Log) -> Result<()> {
    start_with(config, ",portolan::engine::events=off")
}

fn start_with(config: &Log, more: &str) -> Result<()> {
    // The verifier logs each certificate that it rejects; the probe reports it anyway.
    let level = format!("{:?},rustls_platform_verifier=off{more}", config.level).to_lowercase();
    let filter = EnvFilter::try_from_env("PORTOLAN_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let on_terminal = stderr().is_terminal();
    let lines = log::start().context("cannot start the thread that writes the log")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    // Internal errors would be printed to stderr, which blocks or panics where the log does not.
    let builder = builder.log_internal_errors(false);
    match config.format.unwrap_or(if on_terminal { LogFormat::Text } else { LogFormat::Json }) {
        LogFormat::Json => {
            builder.with_writer(move || Safe(lines, escaped)).json().flatten_event(true).init()
        }
        LogFormat::Text if has_colours(&stderr()) => {
            builder.with_writer(move || Safe(lines, escaped_but_colours)).with_ansi(true).init()
        }
        LogFormat::Text => builder.with_writer(move || Safe(lines, escaped)).with_ansi(false).init(),
    }
    Ok(())
}

/// Escapes each line before it is written: fields hold text of others, such as the reasons of overrides.
struct Safe<W>(W, fn(&str) -> Cow<'_, str>);

impl<W: Write> Write for Safe<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(self.1(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
