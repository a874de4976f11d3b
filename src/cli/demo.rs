//! `portolan demo`

use std::process::ExitCode;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};

use super::client::Client;
use super::{logging, serve};
use crate::api::dto;
use crate::config::{Log, LogFormat, LogLevel};
use crate::node::demo::{Demo, REGIONS};
use crate::node::drill;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    /// Play a failover by itself and time it
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
    },
    /// Make it whole again
    Heal {
        /// eu-west, us-east or ap-south
        target: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum How {
    /// Connections are refused
    Refuse,
    /// Connections are taken and never answered
    Hang,
    /// It answers 503
    #[value(name = "503")]
    Unavailable,
    /// Its readiness document says that the database is unhealthy
    Document,
    /// It answers late
    Slow,
}

pub(super) fn run(arguments: Arguments, control: Option<&str>) -> Result<ExitCode> {
    match arguments.turn {
        Some(turn) => switch(turn, control),
        None => {
            // The drill's view tells what happens; log lines would break into it.
            let level = if arguments.drill { LogLevel::Error } else { LogLevel::Warn };
            logging::start(&Log { format: Some(LogFormat::Text), level });
            serve::runtime()?.block_on(async {
                let demo = Demo::start().await?;
                if arguments.drill {
                    drill::play(demo).await
                } else {
                    introduce(&demo);
                    demo.run().await
                }
            })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn switch(turn: Turn, control: Option<&str>) -> Result<ExitCode> {
    let (region, how) = match turn {
        Turn::Fail { target, how } => {
            let value = how.to_possible_value().map(|value| value.get_name().to_owned());
            (target, value)
        }
        Turn::Heal { target } => (target, None),
    };
    // The demo has no socket: where nobody says otherwise it is at its own address.
    let client = Client::new(Some(control.unwrap_or("127.0.0.1:8053")), None, None)?;
    let done: dto::DemoSwitch = client.post("/v1/demo", &dto::DemoSwitch { region, how })?;
    match done.how {
        Some(how) => println!("{} is broken now: {how}", done.region),
        None => println!("{} is whole again", done.region),
    }
    Ok(ExitCode::SUCCESS)
}

fn introduce(demo: &Demo) {
    for note in &demo.notes {
        println!("note: {note}");
    }
    let dns = demo.node.dns_addresses[0];
    let port = dns.port();
    let control = demo.node.control_address.map(|address| address.to_string()).unwrap_or_default();
    let options = if control == "127.0.0.1:8053" { String::new() } else { format!(" --control {control}") };
    println!("three regions serve www.demo.test; DNS answers at {dns}, control at {control}\n");
    for (name, address, city) in REGIONS {
        println!("    {name:<9} {address:<11} {city}");
    }
    println!("\ntry, in another terminal:\n");
    for (place, client) in drill::CLIENTS {
        println!("    dig @127.0.0.1 -p {port} www.demo.test +short +subnet={client}/24    # {place}");
    }
    let german = drill::CLIENTS[0].1;
    println!(
        "    portolan{options} demo fail eu-west              # then ask for Germany again; heal brings it back"
    );
    println!("    portolan{options} explain www.demo.test --client {german}\n");
    println!("`portolan` is target/release/portolan when built by cargo; Ctrl-C ends the demo");
}
