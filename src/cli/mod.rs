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

/// The end of a command's help: an example and the exit codes.
macro_rules! help {
    ($example:literal) => {
        concat!("Example:\n  ", $example, "\n\nExit codes: 0 success, 1 failure, 2 usage error")
    };
}

/// The same for commands that use a running node, with where they find it.
macro_rules! node_help {
    ($example:literal) => {
        concat!(
            "Example:\n  ",
            $example,
            "\n\nWithout --control and -c the node is the first that accepts a connection at\n",
            "/run/portolan/control.sock, $XDG_RUNTIME_DIR/portolan.sock, 127.0.0.1:8053.\n",
            "PORTOLAN_CONTROL, PORTOLAN_CONFIG and PORTOLAN_TOKEN stand for the options.\n\n",
            "Exit codes: 0 success, 1 failure, 2 usage error, 3 node unreachable,\n",
            "4 refused by a safety rule"
        )
    };
}

mod acme;
mod age;
mod audit;
mod check;
mod client;
mod completions;
mod delegation;
mod demo;
mod diagnostics;
mod events;
mod explain;
mod geo;
mod logging;
mod man;
mod mismatch;
mod node;
mod overrides;
mod plan;
mod proxy;
mod serve;
mod status;
mod styled;
mod target;
mod terminal;
mod tips;
mod traffic;
mod watch;

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};

use clap::{
    ArgMatches, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueHint,
};

use crate::api::dto;
use crate::node::log;
use crate::prepare::{self, NamedIndex, Origin};
use client::{Client, ClientError, Purpose};
use node::{NodeOptions, Selection};
use styled::{Styled, has_colours};

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

/// DNS-based global server load balancer that explains every answer
#[derive(Debug, Parser)]
#[command(name = "portolan", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = help!("portolan demo"))]
struct Arguments {
    /// The node to use: HOST:PORT, an http(s) URL, or the path of a control socket
    #[arg(long, env = "PORTOLAN_CONTROL", value_name = "NODE", value_hint = ValueHint::AnyPath)]
    control: Option<String>,

    /// Token for access over TCP
    #[arg(long, env = "PORTOLAN_TOKEN", hide_env_values = true, value_name = "SECRET")]
    token: Option<String>,

    /// The config; commands that use a running node take its socket or address from there
    #[arg(short, long, env = "PORTOLAN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Whether the output has colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_default_value = true)]
    color: ColorChoice,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run three regions, DNS and the control API on loopback, to try everything without a config
    #[command(after_help = help!("portolan demo --drill"))]
    Demo(demo::Arguments),
    /// Run the server
    #[command(after_help = help!("portolan serve -c /etc/portolan/portolan.toml"))]
    Serve {
        /// The config [default: PORTOLAN_CONFIG, else /etc/portolan/portolan.toml]
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Balance TCP or HTTP between a few backends, without a config
    #[command(after_help = help!("portolan proxy --listen 127.0.0.1:8080 --to 10.0.0.1:80,10.0.0.2:80 --probe /health"))]
    Proxy(proxy::Arguments),
    /// Find every mistake in a config; exit 0 if there is none, else 1
    #[command(after_help = help!("portolan check -c portolan.toml"))]
    Check(check::Arguments),
    /// Explain why a client gets the answer it gets, or what the proxy does with a request
    #[command(after_help = node_help!(
        "portolan explain www.example.com AAAA --client 192.0.2.1\n  \
         portolan explain http://api.example.com/v1/x --client 10.1.2.3 -H 'x-canary: 1'"
    ))]
    Explain(explain::Arguments),
    /// Show regions, endpoints, verdicts, overrides, and what safety rules hold
    #[command(after_help = concat!(
        "CONNECT is how long the last connection that a probe could open took to open, which is about\n",
        "the round-trip time. It stays while probes fail, as the time of the last that connected.\n\n",
        node_help!("portolan status --watch\n  portolan status --traffic")
    ))]
    Status(watch::Arguments),
    /// Send no clients, or fewer, to a target
    #[command(after_help = node_help!("portolan drain region/eu-west --for 30m --reason \"new kernel\""))]
    Drain(overrides::Drain),
    /// Treat a target as up or down, whatever probes find
    #[command(after_help = node_help!("portolan force endpoint/eu-west/lb1 down"))]
    Force(overrides::Force),
    /// Remove the overrides of a target
    #[command(after_help = node_help!("portolan restore region/eu-west"))]
    Restore(overrides::Restore),
    /// Show whom a change or a new config would move, by country and share, without making it
    #[command(after_help = concat!(
        "Clients are counted by the queries for a service in the last hour, or by the addresses of the geo\n",
        "database while there were fewer than 1000. The exit code is 4 if a safety rule would refuse the\n",
        "change.\n\n",
        "With a config the node reads the file, as it would for a reload, which is not made.\n\n",
        node_help!("portolan plan --drain region/eu-west --share 25%\n  portolan plan -c new.toml")
    ))]
    Plan(plan::Arguments),
    /// List the current overrides
    #[command(after_help = node_help!("portolan overrides"))]
    Overrides(Plain),
    /// Show recent events
    #[command(after_help = node_help!("portolan events --follow"))]
    Events(events::Arguments),
    /// Show who asked for which change, and what came of it
    #[command(after_help = concat!(
        "Over TCP it needs a token, of any role.\n\n",
        node_help!("portolan audit --since 1d")
    ))]
    Audit(audit::Arguments),
    /// Read the config again
    #[command(after_help = node_help!("portolan reload"))]
    Reload(Plain),
    /// Show challenges of ACME clients that run elsewhere
    #[command(subcommand)]
    Acme(acme::AcmeCommand),
    /// Look up addresses in geo databases; build and compare databases
    #[command(subcommand, after_help = help!("portolan geo lookup 192.0.2.1"))]
    Geo(geo::GeoCommand),
    /// Print shell completions, which know the targets in the config
    #[command(after_help = help!("portolan completions bash > /etc/bash_completion.d/portolan"))]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, as packages have them
    #[command(hide = true, after_help = help!("portolan man --out /usr/local/share/man/man1"))]
    Man(man::Arguments),
}

/// Arguments of a command that only needs a node.
#[derive(Debug, clap::Args)]
struct Plain {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeOptions,
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    completions::answer_shell();
    let matches = Arguments::command().try_get_matches().unwrap_or_else(|error| tips::with_tip(error).exit());
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match run(arguments, &matches) {
        Ok(code) => {
            log::finish();
            code
        }
        Err(error) => {
            complain(format!("{error:#}").trim_end());
            ExitCode::from(match error.downcast_ref::<ClientError>() {
                Some(
                    ClientError::Unreachable { .. } | ClientError::Mismatch(_) | ClientError::Gone { .. },
                ) => exit::UNREACHABLE,
                Some(ClientError::RefusedBySafety(_)) => exit::REFUSED,
                Some(ClientError::Usage(_)) => exit::USAGE,
                // What the node cannot parse was typed here.
                Some(ClientError::Refused(problem)) if problem.status == 400 => exit::USAGE,
                _ => exit::NO,
            })
        }
    }
}

fn run(arguments: Arguments, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let Arguments { control, token, config, color, command } = arguments;
    styled::choose(color);
    let selection = Selection::new(control, token, config, matches);
    selection.fits(&command)?;
    let read = |options: &NodeOptions| Client::new(&selection.node(options), Purpose::Read);
    let change = |options: &NodeOptions| Client::new(&selection.node(options), Purpose::Change);
    match command {
        Command::Demo(arguments) => demo::run(arguments, &selection),
        Command::Serve { config } => serve::run(Origin::File(selection.config(config))),
        Command::Proxy(arguments) => proxy::run(&arguments),
        Command::Check(arguments) => {
            let config = selection.config(arguments.file().cloned());
            check::run(&arguments, config)
        }
        Command::Explain(arguments) => explain::run(&arguments, &selection),
        Command::Status(arguments) => watch::run(&read(&arguments.node)?, &arguments),
        Command::Drain(arguments) => overrides::drain(&change(&arguments.node)?, arguments),
        Command::Force(arguments) => overrides::force(&change(&arguments.node)?, arguments),
        Command::Restore(arguments) => overrides::restore(&change(&arguments.node)?, arguments),
        Command::Plan(arguments) => {
            let config = selection.typed_config(arguments.node.config.as_deref());
            let request = arguments.request(config)?;
            arguments.run(&read(&arguments.node)?, request)
        }
        Command::Overrides(Plain { json, node }) => overrides::list(&read(&node)?, json),
        Command::Events(arguments) => events::run(&read(&arguments.node)?, &arguments),
        Command::Audit(arguments) => audit::run(&read(&arguments.node)?, &arguments),
        Command::Reload(Plain { json, node }) => reload(&change(&node)?, json),
        Command::Acme(acme::AcmeCommand::Set(arguments)) => acme::set(&change(&arguments.node)?, arguments),
        Command::Geo(command) => geo::run(command.with_config(|own| selection.named_config(own)), index_of),
        Command::Completions { shell } => {
            write_line(&completions::script(shell)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Man(arguments) => man::run(&arguments),
    }
}

fn reload(client: &Client, json: bool) -> anyhow::Result<ExitCode> {
    let reloaded: dto::Reloaded = client.reload()?;
    if json {
        say!("{}", serde_json::to_string_pretty(&reloaded)?);
        return Ok(ExitCode::SUCCESS);
    }
    say!("reloaded, epoch {}", reloaded.epoch);
    for warning in &reloaded.warnings {
        complain(&format!("warning: {warning}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a sentence about the command itself on stderr.
fn complain(text: &str) {
    log::print_last(&format!("portolan: {}", terminal::escaped(text)));
}

/// Prints text of any origin on stdout.
fn say_line(text: fmt::Arguments<'_>) {
    write_line(&terminal::escaped(&text.to_string()));
}

/// Prints a text on stdout, in colours where these are shown.
fn say_styled(text: &Styled) {
    write_line(&text.shown(has_colours(&io::stdout())));
}

/// Prints a line on stdout. That its reader is gone is not an error; any other failure is.
fn write_line(text: &str) {
    if let Err(error) = writeln!(io::stdout().lock(), "{text}") {
        if error.kind() == io::ErrorKind::BrokenPipe {
            process::exit(0);
        }
        complain(&format!("cannot write to stdout: {error}"));
        process::exit(exit::NO.into());
    }
}

/// The geo index that a config asks for.
fn index_of(config: &Path) -> anyhow::Result<NamedIndex> {
    Ok(prepare::index(&Origin::File(config.to_owned()))?)
}
