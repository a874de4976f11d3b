//! `portolan demo`

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use anyhow::Result;
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Subcommand, ValueEnum};
use tokio::sync::broadcast::{self, error::RecvError};

use super::client::{Client, Purpose};
use super::node::{NodeChoice, NodeOptions, Reach, Selection};
use super::{logging, serve};
use crate::api::dto;
use crate::config::{Control, Log, LogFormat, LogLevel};
use crate::model::Subject;
use crate::node::demo::{self, Demo, End, REGIONS};
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

/// The end of the help of commands to a running demo.
macro_rules! demo_help {
    ($example:literal) => {
        concat!(
            "Example:\n  ",
            $example,
            "\n\nWithout --control and PORTOLAN_CONTROL the demo is expected at this user's socket, which is\n",
            "portolan-demo-8053.sock in XDG_RUNTIME_DIR or portolan-demo-UID-8053.sock in TMPDIR or /tmp,\n",
            "else at 127.0.0.1:8053, which needs --token.\n\n",
            "Exit codes: 0 success, 1 failure, 2 usage error, 3 demo unreachable"
        )
    };
}

#[derive(Debug, Subcommand)]
enum Turn {
    /// Break a region of a running demo
    #[command(after_help = demo_help!("portolan demo fail eu-west --how document"))]
    Fail {
        /// The region
        #[arg(value_parser = regions())]
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
    #[command(after_help = demo_help!("portolan demo heal eu-west"))]
    Heal {
        /// The region
        #[arg(value_parser = regions())]
        target: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        reach: Reach,
    },
}

/// The names that completions offer; targets are understood, too.
fn regions() -> PossibleValuesParser {
    let region = |name, target| PossibleValue::new(name).alias(target);
    PossibleValuesParser::new([
        region("ap-south", "region/ap-south"),
        region("eu-west", "region/eu-west"),
        region("us-east", "region/us-east"),
    ])
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
                let end = End::listen()?;
                introduce(&demo);
                let events = demo.node.engine.subscribe();
                // On a thread of its own, which may block for as long as the terminal is stopped.
                thread::spawn(move || narrate(events));
                demo.run(end).await
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
    if matches!(chosen.node, NodeChoice::Default) {
        chosen.node = NodeChoice::Demo;
    }
    let client = Client::new(&chosen, Purpose::Change)?;
    let done: dto::DemoSwitch = client.post("/v1/demo", &dto::DemoSwitch { region, how })?;
    if json {
        say!("{}", serde_json::to_string_pretty(&done)?);
        return Ok(ExitCode::SUCCESS);
    }
    let region = done.region;
    match done.how.as_deref() {
        Some("slow") => {
            say!("{region} is now failing (slow): after 3 slow probes `status` shows it degraded;");
            say!("it keeps its clients: half its weight matters only where regions tie");
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
    let control = demo.node.control_address.unwrap_or(Control::DEFAULT_LISTEN);
    let socket = demo::socket(control.port());
    say!("{}", introduction(demo.node.dns_addresses[0], control, &socket, &demo.token, &program()));
}

/// What runs where, and what to try, within the width of a terminal.
fn introduction(dns: SocketAddr, control: SocketAddr, socket: &Path, token: &str, program: &str) -> String {
    let mut text = "three regions serve www.demo.test:\n\n".to_owned();
    for (name, address, city) in REGIONS {
        text += &format!("    {name:<9} {address:<11} {city}\n");
    }
    let socket = socket.display();
    text += &format!("\nDNS answers at {dns}, control at {control}.\n");
    text += &format!("Changes over TCP need --token {token}.\n");
    text += "\nTry in another terminal:\n";
    let (address, port) = (dns.ip(), dns.port());
    let [(place, client), others @ ..] = drill::CLIENTS;
    let others = others.map(|(place, client)| format!("{place}: {client}")).join(", ");
    let mut block = |comment: &str, commands: &[String]| {
        text += &format!("\n    # {comment}\n");
        for command in commands {
            text += &format!("    {command}\n");
        }
    };
    block(
        &format!("ask as a client in {place} ({others})"),
        &[format!("dig @{address} -p {port} www.demo.test +short +subnet={client}/24")],
    );
    block(
        "the commands below use this demo by its socket, without a token",
        &[format!("export PORTOLAN_CONTROL={socket}")],
    );
    block(
        "see what probes found, and why a client is sent where it is",
        &[format!("{program} status"), format!("{program} explain www.demo.test --client {client}")],
    );
    block(
        "break a region (--how refuse, hang, 503, document, slow), then heal it",
        &[format!("{program} demo fail eu-west --how document"), format!("{program} demo heal eu-west")],
    );
    block(
        "send no clients to a region, then send them again",
        &[format!("{program} drain region/eu-west --for 5m"), format!("{program} restore region/eu-west")],
    );
    block("watch a failover that times itself", &[format!("{program} demo --drill")]);
    text + "\nCtrl-C ends the demo. What happens to the regions is shown here:\n"
}

/// This program as the reader can call it: by the path it was called with, or by its name.
fn program() -> String {
    let called = std::env::args().next().filter(|called| called.contains('/'));
    called.unwrap_or_else(|| "portolan".into())
}

#[cfg(test)]
mod tests {
    use clap::builder::TypedValueParser as _;

    use super::*;

    #[test]
    fn the_regions_offered_are_those_of_the_demo() {
        let parser = regions();
        let offered = parser.possible_values().expect("a list").map(|value| value.get_name().to_owned());
        assert_eq!(offered.collect::<Vec<_>>(), REGIONS.map(|(name, ..)| name));
    }

    #[test]
    fn the_introduction_fits_a_terminal() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        for control in [8053, 8054] {
            let socket = format!("/run/user/1000/portolan-demo-{control}.sock");
            let token = "00112233445566778899aabbccddeeff";
            let text = introduction(
                address(5300),
                address(control),
                Path::new(&socket),
                token,
                "target/release/portolan",
            );
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
            for expected in
                ["portolan status", "portolan explain", "--how", "portolan demo --drill", "demo heal"]
            {
                assert!(text.contains(expected), "expected {expected} in {text}");
            }
            let expected = format!("    export PORTOLAN_CONTROL={socket}\n");
            let (before, after) = text.split_once(&expected).expect("it says how to reach the demo");
            assert!(
                !before.contains("portolan status") && after.contains("portolan drain region/"),
                "{text}"
            );
        }
    }
}
