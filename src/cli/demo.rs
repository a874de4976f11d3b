//! `portolan demo`

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use tokio::sync::broadcast::{self, error::RecvError};

use super::client::Client;
use super::node::{NodeChoice, NodeOptions, Reach, Selection};
use super::{logging, serve};
use crate::api::dto;
use crate::config::{Control, Log, LogFormat, LogLevel};
use crate::model::Subject;
use crate::node::demo::{self, Demo, REGIONS};
use crate::node::drill;
use crate::state::{Event, EventKind};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    /// Run a failover drill and time it
    #[arg(long)]
    drill: bool,
    #[command(subcommand)]
    turn: Option<Turn>,
}

#[derive(Debug, Subcommand)]
enum Turn {
    /// Break a region of a running demo
    Fail {
        /// eu-west, us-east or ap-south
        target: String,
        /// How it breaks
        #[arg(long, default_value = "refuse")]
        how: How,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        reach: Reach,
    },
    /// Heal a region of a running demo
    Heal {
        /// eu-west, us-east or ap-south
        target: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        reach: Reach,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum How {
    /// Connections are refused
    Refuse,
    /// Connections are accepted and never answered
    Hang,
    /// It answers 503
    #[value(name = "503")]
    Unavailable,
    /// Its readiness document says that the database is unhealthy
    Document,
    /// It answers late, which makes it degraded rather than down
    Slow,
}

pub(super) fn run(arguments: Arguments, selection: &Selection) -> Result<ExitCode> {
    match arguments.turn {
        Some(turn) => switch(turn, selection),
        None => {
            // The drill and the demo report what happens themselves; log lines would interrupt them.
            logging::start(&Log { format: Some(LogFormat::Text), level: LogLevel::Error })?;
            serve::run_to_end(async {
                if arguments.drill {
                    return drill::play(Demo::start().await?).await;
                }
                let demo = Demo::start().await?;
                introduce(&demo);
                let events = demo.node.engine.subscribe();
                // On a thread of its own, which may block for as long as the terminal is stopped.
                thread::spawn(move || narrate(events));
                demo.run().await
            })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Prints what happens to regions, one sentence each.
fn narrate(mut events: broadcast::Receiver<Arc<Event>>) {
    loop {
        match events.blocking_recv() {
            Ok(event) if is_shown(&event.kind) => {
                let millis = i64::try_from(event.at.0.as_millis()).unwrap_or(i64::MAX);
                let at = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
                say!("{}  {}", at.strftime("%H:%M:%SZ"), event.kind);
            }
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Each of the demo's regions has one address, whose own transitions would only repeat the region's. Errors are in
/// the log.
fn is_shown(kind: &EventKind) -> bool {
    match kind {
        EventKind::Transition { subject, .. } => matches!(subject, Subject::Region(_)),
        EventKind::ReloadFailed { .. } | EventKind::Alarm { .. } => false,
        _ => true,
    }
}

fn switch(turn: Turn, selection: &Selection) -> Result<ExitCode> {
    let (region, how, json, reach) = match turn {
        Turn::Fail { target, how, json, reach } => {
            let value = how.to_possible_value().map(|value| value.get_name().to_owned());
            (target, value, json, reach)
        }
        Turn::Heal { target, json, reach } => (target, None, json, reach),
    };
    let mut chosen = selection.node(&NodeOptions { reach, config: None });
    // Without --control it is the demo at the default port, by its socket, where no token is needed.
    if matches!(chosen.node, NodeChoice::Default) {
        let socket = demo::socket(Control::DEFAULT_LISTEN.port());
        chosen.node = NodeChoice::Named(socket.display().to_string());
    }
    let client = Client::new(&chosen)?;
    let done: dto::DemoSwitch = client.post("/v1/demo", &dto::DemoSwitch { region, how })?;
    if json {
        say!("{}", serde_json::to_string_pretty(&done)?);
        return Ok(ExitCode::SUCCESS);
    }
    let region = done.region;
    match done.how.as_deref() {
        Some("slow") => {
            say!("{region} is now failing (slow): it stays in the answers as degraded, at half its weight");
        }
        Some(how) => say!("{region} is now failing ({how})"),
        None => say!("{region} is healed"),
    }
    Ok(ExitCode::SUCCESS)
}

fn introduce(demo: &Demo) {
    for note in &demo.notes {
        say!("note: {note}");
    }
    let dns = demo.node.dns_addresses[0];
    let control = demo.node.control_address.unwrap_or(Control::DEFAULT_LISTEN);
    say!("three regions serve www.demo.test; DNS answers at {dns}, control at {control}\n");
    for (name, address, city) in REGIONS {
        say!("    {name:<9} {address:<11} {city}");
    }
    say!("\ntry, in another terminal:\n");
    let commands = commands(dns, control);
    let width = commands.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    for (command, comment) in commands {
        say!("    {command:<width$}  # {comment}");
    }
    say!("\nchanges at {control} need --token {}; at the socket", demo.token);
    say!("{} they need none", demo::socket(control.port()).display());
    say!("\nCtrl-C ends the demo; what happens to the regions is shown here:\n");
}

/// Commands to try, each with what it shows.
fn commands(dns: SocketAddr, control: SocketAddr) -> Vec<(String, String)> {
    let program = program();
    let is_default = control == Control::DEFAULT_LISTEN;
    let socket = demo::socket(control.port());
    let options = if is_default { String::new() } else { format!(" --control {}", socket.display()) };
    let mut commands: Vec<(String, String)> = drill::CLIENTS
        .iter()
        .map(|(place, client)| {
            let (address, port) = (dns.ip(), dns.port());
            let dig = format!("dig @{address} -p {port} www.demo.test +short +subnet={client}/24");
            (dig, (*place).to_owned())
        })
        .collect();
    let german = drill::CLIENTS[0].1;
    commands.extend([
        (
            format!("{program}{options} demo fail eu-west"),
            "then ask for Germany again; heal brings it back".into(),
        ),
        (
            format!("{program}{options} explain www.demo.test --client {german}"),
            "why a German client is sent there".into(),
        ),
    ]);
    commands
}

/// This program as the reader can call it: by the path it was called with, or by its name.
fn program() -> String {
    let called = std::env::args().next().filter(|called| called.contains('/'));
    called.unwrap_or_else(|| "portolan".into())
}
