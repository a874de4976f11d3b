//! `portolan events`

use std::process::ExitCode;

use anyhow::Result;

use super::client::Client;
use super::node::NodeOptions;
use crate::api::dto;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Keep printing events as they happen
    #[arg(short, long)]
    follow: bool,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) node: NodeOptions,
}

pub(super) fn run(client: &Client, arguments: &Arguments) -> Result<ExitCode> {
    let print = |event: &dto::Event| {
        if arguments.json {
            say!("{}", serde_json::to_string(event).unwrap_or_default());
        } else {
            say!("{}", line(event));
        }
    };
    if arguments.follow {
        client.follow_events(print)?;
    } else {
        client.events()?.iter().for_each(print);
    }
    Ok(ExitCode::SUCCESS)
}

/// An event in a line; if its message has several, the others are indented below.
fn line(event: &dto::Event) -> String {
    format!("{}  {:<13} {}", event.at, event.event, event.message.replace('\n', "\n    "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::dto::EventName;

    #[test]
    fn events_begin_at_the_margin_and_nothing_else_does() {
        let event = |event, message: &str| dto::Event {
            id: 1,
            at: "2027-01-15T08:00:00.000Z".into(),
            epoch: 1,
            event,
            message: message.into(),
            fields: std::collections::BTreeMap::new(),
        };
        for (name, message, expected) in [
            (EventName::Alarm, "one", "2027-01-15T08:00:00.000Z  alarm         one"),
            (EventName::ReloadFailed, "one\ntwo", "2027-01-15T08:00:00.000Z  reload_failed one\n    two"),
        ] {
            assert_eq!(line(&event(name, message)), expected);
        }
    }
}
