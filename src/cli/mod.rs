//! The command line: one file per subcommand. Commands that show or change a running node use its API; `check`,
//! `geo` and `explain -c` work without one.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a command line does")]
#![allow(clippy::disallowed_methods, reason = "a shell: it reads the clocks")]

/// `println!` that ends the program when its reader is gone, as in `portolan events | head`.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::cli::say_line(format_args!($($text)*))
    };
}

mod check;
mod client;
mod delegation;
mod demo;
mod diagnostics;
mod events;
mod explain;
mod geo;
mod logging;
mod overrides;
mod serve;
mod status;

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::Arc;

use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::geo::Index;
use crate::node::log;
use crate::prepare::{self, Origin};
use client::{Client, ClientError};

/// Exit codes other than 0, success.
mod exit {
    /// The command failed: the config has errors, for example, or the node rejected the request.
    pub(super) const NO: u8 = 1;
    /// The command line cannot be understood (clap's own code).
    pub(super) const USAGE: u8 = 2;
    /// The node cannot be reached.
    pub(super) const UNREACHABLE: u8 = 3;
    /// A safety rule refused the change.
    pub(super) const REFUSED: u8 = 4;
}

/// The config's path where none is given.
const DEFAULT_CONFIG: &str = "/etc/portolan/portolan.toml";

/// DNS-based global server load balancer that explains every answer
#[derive(Debug, Parser)]
#[command(name = "portolan", version, max_term_width = 100, arg_required_else_help = true)]
struct Arguments {
    /// The node to use: HOST:PORT, an http(s) URL, or a control socket [default: this host's socket]
    #[arg(long, global = true, env = "PORTOLAN_CONTROL", value_name = "NODE")]
    control: Option<String>,

    /// Token for changes over TCP
    #[arg(long, global = true, env = "PORTOLAN_TOKEN", hide_env_values = true, value_name = "SECRET")]
    token: Option<String>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run three regions, DNS and the control API on loopback, to try everything without a config
    Demo(demo::Arguments),
    /// Run the server
    Serve {
        /// The config
        #[arg(short, long, default_value = DEFAULT_CONFIG, value_name = "FILE")]
        config: PathBuf,
    },
    /// Find every mistake in a config; exit 0 if there is none, else 1
    Check(check::Arguments),
    /// Explain why a client gets the answer it gets
    Explain(explain::Arguments),
    /// Show regions, endpoints, verdicts, overrides, and what safety rules hold
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        node: NodeConfig,
    },
    /// Send no clients, or fewer, to a target
    Drain(overrides::Drain),
    /// Treat a target as up or down, whatever probes find
    Force(overrides::Force),
    /// Remove the overrides of a target
    Restore(overrides::Restore),
    /// List the current overrides
    Overrides {
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        node: NodeConfig,
    },
    /// Show recent events
    Events(events::Arguments),
    /// Read the config again
    Reload {
        #[command(flatten)]
        node: NodeConfig,
    },
    /// Look up addresses in geo databases; build and compare databases
    #[command(subcommand)]
    Geo(geo::GeoCommand),
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Selects a node by its config.
#[derive(Debug, clap::Args)]
struct NodeConfig {
    /// Use the control socket of this config
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let matches = Arguments::command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // A node that the environment names is no contradiction to `explain -c`.
    let is_node_named = matches.value_source("control") == Some(ValueSource::CommandLine);
    match run(arguments, is_node_named) {
        Ok(code) => {
            log::finish();
            code
        }
        Err(error) => {
            log::print_last(format!("portolan: {error:#}").trim_end());
            ExitCode::from(match error.downcast_ref::<ClientError>() {
                Some(ClientError::Unreachable { .. } | ClientError::Gone { .. }) => exit::UNREACHABLE,
                Some(ClientError::RefusedBySafety(_)) => exit::REFUSED,
                Some(ClientError::Usage(_)) => exit::USAGE,
                // What the node cannot parse was typed here.
                Some(ClientError::Refused(problem)) if problem.status == 400 => exit::USAGE,
                _ => exit::NO,
            })
        }
    }
}

fn run(arguments: Arguments, is_node_named: bool) -> anyhow::Result<ExitCode> {
    let Arguments { control, token, command } = arguments;
    let connect =
        |node: &NodeConfig| Client::new(control.as_deref(), token.as_deref(), node.config.as_deref());
    match command {
        Command::Demo(arguments) => demo::run(arguments, control.as_deref(), token.as_deref()),
        Command::Serve { config } => serve::run(config),
        Command::Check(arguments) => check::run(&arguments),
        Command::Explain(explain::Arguments { config: Some(_), .. }) if is_node_named => {
            let why = "-c explains a config without a node, but --control names one: leave one of them out";
            Err(ClientError::Usage(why.into()).into())
        }
        Command::Explain(arguments) => explain::run(&arguments, control.as_deref(), token.as_deref()),
        Command::Status { json, node } => status::run(&connect(&node)?, json),
        Command::Drain(arguments) => overrides::drain(&connect(&arguments.node)?, arguments),
        Command::Force(arguments) => overrides::force(&connect(&arguments.node)?, arguments),
        Command::Restore(arguments) => overrides::restore(&connect(&arguments.node)?, &arguments),
        Command::Overrides { json, node } => overrides::list(&connect(&node)?, json),
        Command::Events(arguments) => events::run(&connect(&arguments.node)?, &arguments),
        Command::Reload { node } => {
            let reloaded = connect(&node)?.reload()?;
            say!("reloaded, epoch {}", reloaded.epoch);
            for warning in &reloaded.warnings {
                eprintln!("portolan: warning: {warning}");
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Geo(command) => geo::run(command, index_of),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "portolan", &mut script);
            say!("{}", String::from_utf8_lossy(&script).trim_end());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Prints a line on stdout. That its reader is gone is not an error; any other failure is.
fn say_line(text: fmt::Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout().lock(), "{text}") {
        if error.kind() == io::ErrorKind::BrokenPipe {
            process::exit(0);
        }
        eprintln!("portolan: cannot write to stdout: {error}");
        process::exit(exit::NO.into());
    }
}

/// The geo index that a config asks for, and the names of its databases.
fn index_of(config: &Path) -> anyhow::Result<(Index, Vec<String>)> {
    let (index, sources) = prepare::index(&Origin::File(config.to_owned()))?;
    Ok((Arc::unwrap_or_clone(index), sources))
}
