//! `portolan demo`

mod words;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use anyhow::Result;
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Subcommand, ValueEnum};
use tokio::sync::broadcast::{self, error::RecvError};

use super::client::{Client, Purpose};
use super::node::{NodeChoice, NodeOptions, Reach, Selection};
use super::{logging, serve, write_line};
use crate::api::dto;
use crate::config::{Control, Log, LogFormat, LogLevel};
use crate::model::Subject;
use crate::node::demo::happening::Happening;
use crate::node::demo::switch::{BACKENDS, REGIONS};
use crate::node::demo::{self, Demo, End, Part, backend_address, region_address};
use crate::node::drill;
use crate::state::EventKind;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    /// Run a failover drill and time it
    #[arg(long)]
    drill: bool,
    /// Print the config of a node of the demo, and exit
    #[arg(long, value_name = "NODE", conflicts_with = "drill", value_parser = parts())]
    print_config: Option<String>,
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
    /// Break a region of a running demo, or one of its backends
    #[command(after_help = demo_help!("portolan demo fail eu-west/backend1 --how hang"))]
    Fail {
        /// The region, or REGION/BACKEND
        #[arg(value_parser = targets())]
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
    /// Heal a region of a running demo with its backends, or one backend
    #[command(after_help = demo_help!("portolan demo heal eu-west"))]
    Heal {
        /// The region, or REGION/BACKEND
        #[arg(value_parser = targets())]
        target: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        reach: Reach,
    },
}

/// A name that completions offer; with `region/` before it, it is understood, too.
macro_rules! target {
    ($name:literal) => {
        PossibleValue::new($name).alias(concat!("region/", $name))
    };
}

fn targets() -> PossibleValuesParser {
    PossibleValuesParser::new([
        target!("ap-south"),
        target!("ap-south/backend1"),
        target!("ap-south/backend2"),
        target!("eu-west"),
        target!("eu-west/backend1"),
        target!("eu-west/backend2"),
        target!("us-east"),
        target!("us-east/backend1"),
        target!("us-east/backend2"),
    ])
}

fn parts() -> PossibleValuesParser {
    PossibleValuesParser::new(Part::all().map(Part::name))
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
    if let Some(turn) = arguments.turn {
        return switch(turn, selection);
    }
    if let Some(part) = Part::all().find(|part| Some(part.name()) == arguments.print_config.as_deref()) {
        write_line(part.config()?.trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    // The drill and the demo report what happens themselves; log lines would interrupt them.
    logging::start_without_events(&Log { format: Some(LogFormat::Text), level: LogLevel::Error })?;
    serve::run_to_end(async {
        let demo = Demo::start().await?;
        if arguments.drill {
            return drill::play(demo).await;
        }
        let end = End::listen()?;
        introduce(&demo);
        let happenings = demo.subscribe();
        // On a thread of its own, which may block for as long as the terminal is stopped.
        thread::spawn(move || narrate(happenings));
        demo.run(end).await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what happens, one sentence each, after who acted.
fn narrate(mut happenings: broadcast::Receiver<Happening>) {
    loop {
        match happenings.blocking_recv() {
            Ok(happening) if is_shown(&happening) => {
                let millis = i64::try_from(happening.at.0.as_millis()).unwrap_or(i64::MAX);
                let at = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
                say!("{}  {:<14}  {}", at.strftime("%H:%M:%SZ"), happening.tier, happening.sentence);
            }
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Each region has one address, whose own transitions would only repeat the region's.
fn is_shown(happening: &Happening) -> bool {
    match happening.event.as_ref().map(|event| &event.kind) {
        Some(EventKind::Transition { subject, .. }) => {
            matches!(subject, Subject::Region(_) | Subject::Backend { .. })
        }
        // The demo has said that it stops a proxy.
        Some(EventKind::Stopped { .. }) => false,
        _ => true,
    }
}

fn switch(turn: Turn, selection: &Selection) -> Result<ExitCode> {
    let (target, how, json, reach) = match turn {
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
    let done: dto::DemoSwitched = client.post("/v1/demo", &dto::DemoSwitch { target, how })?;
    if json {
        say!("{}", serde_json::to_string_pretty(&done)?);
    } else {
        words::switched(&done).iter().for_each(|line| say!("{line}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn introduce(demo: &Demo) {
    for note in &demo.notes {
        say!("note: {note}");
    }
    let control = demo.node.control_address.unwrap_or(Control::DEFAULT_LISTEN);
    let at = Listening { dns: demo.node.dns_addresses[0], control, region_port: demo.region_port };
    let (socket, of_region) = (demo::socket(control.port()), demo::region_socket(control.port(), EXAMPLE));
    say!("{}", introduction(at, [&socket, &of_region], &demo.token, (&program(), &missing())));
}

/// The region that the examples break.
const EXAMPLE: &str = "eu-west";

/// Where the demo listens.
#[derive(Clone, Copy, Debug)]
struct Listening {
    dns: SocketAddr,
    control: SocketAddr,
    region_port: u16,
}

/// Where a region is said to be.
fn city(region: &str) -> &'static str {
    match region {
        "ap-south" => "Mumbai",
        "eu-west" => "Dublin",
        _ => "Virginia",
    }
}

/// What runs where, and what to try, within the width of a terminal. The sockets are those of the DNS tier and of the region
/// of the examples; this host lacks the tools that are `missing`.
fn introduction(
    at: Listening,
    sockets: [&Path; 2],
    token: &str,
    (program, missing): (&str, &[&str]),
) -> String {
    let Listening { dns, control, region_port } = at;
    let mut text = "three regions serve www.demo.test, each by a proxy with two backends:\n\n".to_owned();
    for region in REGIONS {
        let proxy = format!("{}:{region_port}", region_address(region));
        let backends = BACKENDS.map(|backend| backend_address(region, backend).to_string()).join(", ");
        text += &format!("    {region:<9} {:<9} {proxy:<16} -> {backends}\n", city(region));
    }
    let [socket, of_region] = sockets.map(Path::display);
    text += &format!("\nDNS answers at {dns}, control at {control}.\n");
    text += &format!("See where clients go: http://{control}/\n");
    text += &format!("Changes there and over TCP need the token {token}.\n");
    text += "\nTry in another terminal:\n";
    let (address, port) = (dns.ip(), dns.port());
    let needs = |tool: &str, where_it_is: &str| {
        if missing.contains(&tool) { format!("; needs {tool}{where_it_is}") } else { String::new() }
    };
    let [(place, client), others @ ..] = drill::CLIENTS;
    let others = others.map(|(place, client)| format!("{place}: {client}")).join(", ");
    let mut block = |comment: &str, commands: &[String]| {
        text += &format!("\n    # {comment}\n");
        for command in commands {
            text += &format!("    {command}\n");
        }
    };
    block(
        "the commands below use this demo by its socket, without a token",
        &[format!("export PORTOLAN_CONTROL={socket}")],
    );
    block(
        &format!("ask as a client in {place} ({others})"),
        &[format!("{program} explain www.demo.test --client {client}"), format!("{program} status")],
    );
    block(
        &format!("the same answer over DNS{}", needs("dig", " (Debian package bind9-dnsutils)")),
        &[format!("dig @{address} -p {port} www.demo.test +short +subnet={client}/24")],
    );
    let proxy = format!("{}:{region_port}", region_address(EXAMPLE));
    block(
        &format!("use a region's proxy, and see its backends{}", needs("curl", "")),
        &[
            format!("curl http://{proxy}/"),
            format!("REGION={of_region}"),
            format!("{program} status --control $REGION"),
        ],
    );
    block(
        "break a backend: the proxy does without it, and no client is moved",
        &[format!("{program} demo fail eu-west/backend1"), format!("{program} demo heal eu-west/backend1")],
    );
    block(
        "break a region (--how refuse, hang, 503, document, slow): its clients move",
        &[format!("{program} demo fail eu-west --how document"), format!("{program} demo heal eu-west")],
    );
    block(
        "send no clients to a region, then send them again",
        &[format!("{program} drain region/eu-west --for 5m"), format!("{program} restore region/eu-west")],
    );
    block("watch both failures, timed", &[format!("{program} demo --drill")]);
    text + "\nCtrl-C ends the demo. What happens is shown here, after the tier that acted:\n"
}

/// Which of the tools in the examples this host lacks.
fn missing() -> Vec<&'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |tool: &str| std::env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    ["dig", "curl"].into_iter().filter(|tool| !has(tool)).collect()
}

/// This program as the reader can call it: by the path it was called with, or by its name.
fn program() -> String {
    let called = std::env::args().next().filter(|called| called.contains('/'));
    called.unwrap_or_else(|| "portolan".into())
}

#[cfg(test)]
mod tests {
    use clap::builder::TypedValueParser as _;

    use std::sync::Arc;

    use super::*;
    use crate::health::State;
    use crate::model::Unix;
    use crate::node::demo::happening::Tier;
    use crate::node::demo::switch::Target;
    use crate::state::Event;

    #[test]
    fn the_targets_offered_are_those_of_the_demo() {
        let parser = targets();
        let offered = parser.possible_values().expect("a list").map(|value| value.get_name().to_owned());
        let all = Target::all().map(|target| target.to_string());
        assert_eq!(offered.collect::<Vec<_>>(), all.collect::<Vec<_>>());
    }

    #[test]
    fn it_says_which_tier_acted() {
        let address = || Subject::Address {
            region: "eu-west".into(),
            endpoint: "lb1".into(),
            address: [127, 0, 1, 1].into(),
        };
        let backend = || Subject::Backend {
            pool: "web".into(),
            backend: "127.0.1.11:18080".into(),
            address: [127, 0, 1, 11].into(),
        };
        let happening = |tier, subject: Option<Subject>| {
            let kind = subject.map(|subject| EventKind::Transition {
                subject,
                from: State::Up,
                to: State::Degraded,
                evidence: "slow".into(),
            });
            let event = kind.map(|kind| Arc::new(Event { id: 1, at: Unix::default(), epoch: 1, kind }));
            Happening { at: Unix::default(), tier, event, sentence: String::new() }
        };
        for (tier, subject, shown, name) in [
            (Tier::Demo, None, true, "demo"),
            (Tier::Dns, Some(Subject::Region("eu-west".into())), true, "DNS"),
            (Tier::Dns, Some(address()), false, "DNS"),
            (Tier::Proxy("eu-west"), Some(backend()), true, "eu-west proxy"),
        ] {
            assert_eq!((is_shown(&happening(tier, subject)), tier.to_string()), (shown, name.to_owned()));
        }
    }

    #[test]
    fn the_introduction_fits_a_terminal() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        for control in [8053, 8054] {
            let socket = format!("/run/user/1000/portolan-demo-{control}.sock");
            let of_region = format!("/run/user/1000/portolan-demo-{control}-eu-west.sock");
            let token = "00112233445566778899aabbccddeeff";
            let at = Listening { dns: address(5300), control: address(control), region_port: 18080 };
            let sockets = [Path::new(&socket), Path::new(&of_region)];
            let text = introduction(at, sockets, token, ("target/release/portolan", &["dig", "curl"]));
            assert!(
                text.contains("; needs dig (Debian") && text.contains("its backends; needs curl\n"),
                "{text}"
            );
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
            for expected in [
                &format!("http://127.0.0.1:{control}/"),
                "portolan status",
                "portolan explain",
                "--how",
                "portolan demo --drill",
                "demo heal",
                &of_region,
            ] {
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
