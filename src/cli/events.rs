//! `portolan events`

use std::process::ExitCode;

use anyhow::Result;

use super::NodeConfig;
use super::client::Client;
use crate::api::dto;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Go on with those that come
    #[arg(short, long)]
    follow: bool,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) node: NodeConfig,
}

pub(super) fn run(client: &Client, arguments: &Arguments) -> Result<ExitCode> {
    let tell = |event: &dto::Event| {
        if arguments.json {
            say!("{}", serde_json::to_string(event).unwrap_or_default());
        } else {
            say!("{}  {:<10} {}", event.at, event.event, event.message);
        }
    };
    if arguments.follow {
        client.follow_events(tell)?;
    } else {
        client.events()?.iter().for_each(tell);
    }
    Ok(ExitCode::SUCCESS)
}
