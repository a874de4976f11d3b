//! `portolan events`

use std::process::ExitCode;

use anyhow::Result;
use jiff::Timestamp;

use super::client::Client;
use super::node::NodeOptions;
use super::say_styled;
use super::styled::{Look, Styled};
use crate::api::dto::{self, EventName};
use crate::config;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Keep printing events as they happen
    #[arg(short, long)]
    follow: bool,
    /// Only events from then on: a time ago, such as 1h30m, or a moment, such as 2026-11-29T10:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<Timestamp>,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) node: NodeOptions,
}

pub(super) fn run(client: &Client, arguments: &Arguments) -> Result<ExitCode> {
    let print = |event: &dto::Event| {
        if arguments.since.is_some_and(|since| is_before(event, since)) {
            return;
        }
        if arguments.json {
            say!("{}", serde_json::to_string(event).unwrap_or_default());
        } else {
            say_styled(&line(event));
        }
    };
    if arguments.follow {
        client.follow_events(print)?;
    } else {
        client.events()?.iter().for_each(print);
    }
    Ok(ExitCode::SUCCESS)
}

/// The moment that `text` names, by this computer's clock.
pub(super) fn since(text: &str) -> Result<Timestamp, String> {
    moment(text, Timestamp::now())
}

fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(ago) = config::parse_duration(text) {
        return now.checked_sub(ago).map_err(|_| "that long ago there was no calendar".into());
    }
    let moment = match text.parse::<Timestamp>() {
        Ok(moment) => moment,
        Err(_) if text.parse::<jiff::civil::DateTime>().is_ok() => {
            return Err(
                "say in which time zone, as in 2026-11-29T10:00:00Z or 2026-11-29T11:00:00+01:00".into()
            );
        }
        Err(_) => {
            return Err(
                "write a time ago, such as 45s or 1h30m, or a moment, such as 2026-11-29T10:00:00Z".into()
            );
        }
    };
    if moment > now { Err(format!("that is in the future: it is {now:.0} now")) } else { Ok(moment) }
}

/// Whether an event happened before a moment. One whose time cannot be read is shown rather than left out.
fn is_before(event: &dto::Event, moment: Timestamp) -> bool {
    event.at.parse::<Timestamp>().is_ok_and(|at| at < moment)
}

/// An event in a line; if its message has several, the others are indented below.
fn line(event: &dto::Event) -> Styled {
    let mut line = Styled::new(Look::Dim, &event.at);
    line.push("  ");
    line.add(look(event), &format!("{:<13}", event.event));
    line.push(&format!(" {}", event.message.replace('\n', "\n    ")));
    line
}

fn look(event: &dto::Event) -> Look {
    match event.event {
        EventName::NodeStarted if event.fields.get("last_stop").is_some_and(|how| how == "unclean") => {
            Look::Doubtful
        }
        EventName::Transition => match event.fields.get("to").map(String::as_str) {
            Some("up") => Look::Good,
            Some("degraded") => Look::Doubtful,
            Some("down") => Look::Bad,
            _ => Look::Plain,
        },
        EventName::Returned | EventName::Released | EventName::AllClear => Look::Good,
        EventName::Held | EventName::Unresolved | EventName::Missed => Look::Doubtful,
        EventName::Ejected | EventName::ReloadFailed | EventName::Alarm => Look::Bad,
        EventName::NodeStarted
        | EventName::NodeStopped
        | EventName::Override
        | EventName::Restore
        | EventName::Expire
        | EventName::Reload
        | EventName::Resolved
        | EventName::Discovered
        | EventName::Issued => Look::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::dto::EventName;

    #[test]
    fn moments_are_times_ago_or_timestamps_of_the_past() {
        let now: Timestamp = "2026-11-29T12:00:00Z".parse().unwrap();
        let with_zone = "say in which time zone, as in 2026-11-29T10:00:00Z or 2026-11-29T11:00:00+01:00";
        let neither = "write a time ago, such as 45s or 1h30m, or a moment, such as 2026-11-29T10:00:00Z";
        for (text, expected) in [
            ("1h", Ok("2026-11-29T11:00:00Z")),
            ("1h30m", Ok("2026-11-29T10:30:00Z")),
            ("250ms", Ok("2026-11-29T11:59:59.75Z")),
            ("0s", Ok("2026-11-29T12:00:00Z")),
            ("2026-11-29T10:00:00Z", Ok("2026-11-29T10:00:00Z")),
            ("2026-11-29 11:00:00.5+01:00", Ok("2026-11-29T10:00:00.5Z")),
            ("2026-11-29T12:00:01Z", Err("that is in the future: it is 2026-11-29T12:00:00Z now")),
            ("2026-11-29T10:00:00", Err(with_zone)),
            ("2026-11-29", Err(with_zone)),
            ("7000000d", Err("that long ago there was no calendar")),
            ("yesterday", Err(neither)),
            ("1", Err(neither)),
            ("-1h", Err(neither)),
            ("", Err(neither)),
        ] {
            let expected = expected.map(|at| at.parse().unwrap()).map_err(str::to_owned);
            assert_eq!(moment(text, now), expected, "{text}");
        }
    }

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
            assert_eq!(line(&event(name, message)).shown(false), expected);
        }
    }
}
