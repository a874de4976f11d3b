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
            say!("{}", line(event));
        }
    };
    if arguments.follow {
        client.follow_events(tell)?;
    } else {
        client.events()?.iter().for_each(tell);
    }
    Ok(ExitCode::SUCCESS)
}

/// An event in a line; what a reload says in several stands indented below it.
fn line(event: &dto::Event) -> String {
    format!("{}  {:<13} {}", event.at, event.event, event.message.replace('\n', "\n    "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_begin_at_the_margin_and_nothing_else_does() {
        let event = |event: &str, message: &str| dto::Event {
            id: 1,
            at: "2027-01-15T08:00:00.000Z".into(),
            epoch: 1,
            event: event.into(),
            message: message.into(),
            fields: std::collections::BTreeMap::new(),
        };
        for (name, message, expected) in [
            ("alarm", "one", "2027-01-15T08:00:00.000Z  alarm         one"),
            ("reload_failed", "one\ntwo", "2027-01-15T08:00:00.000Z  reload_failed one\n    two"),
        ] {
            assert_eq!(line(&event(name, message)), expected);
        }
    }
}
