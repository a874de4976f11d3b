//! `portolan drain`, `force`, `restore` and `overrides`

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::ValueEnum;

use super::client::Client;
use super::complain;
use super::completions::targets;
use super::node::NodeOptions;
use super::say_styled;
use super::styled::Table;
use super::target::{target, whole, whole_of};
use crate::api::dto::{self, Action, Share};
use crate::config;
use crate::model::Fraction;

#[derive(Debug, clap::Args)]
pub(super) struct Drain {
    /// region/NAME, endpoint/REGION/NAME, service/NAME/REGION or pool/NAME/BACKEND; or NAME, if only one is called so
    #[arg(value_parser = target, add = targets())]
    target: String,
    /// Drain only this share of clients
    #[arg(long, value_name = "25%", value_parser = share)]
    share: Option<Share>,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    pub(super) node: NodeOptions,
}

#[derive(Debug, clap::Args)]
pub(super) struct Force {
    /// region/NAME, endpoint/REGION/NAME, service/NAME/REGION or pool/NAME/BACKEND; or NAME, if only one is called so
    #[arg(value_parser = target, add = targets())]
    target: String,
    /// What to treat it as
    verdict: TargetState,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    pub(super) node: NodeOptions,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TargetState {
    Up,
    Down,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Remove the override after this time, such as 30m, 1h30m or 7d
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    lasts: Option<String>,
    /// The reason, shown in status and events
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do it even if a safety rule forbids it
    #[arg(long)]
    override_safety: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Restore {
    /// The target, as given to `drain` or `force`
    #[arg(value_parser = target, add = targets())]
    target: String,
    /// Do it even if a safety rule forbids it
    #[arg(long)]
    override_safety: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) node: NodeOptions,
}

pub(super) fn share(text: &str) -> Result<Share, String> {
    Fraction::parse(text).map(Share).ok_or_else(|| "write a percentage from 0% to 100%, such as 25%".into())
}

pub(super) fn time(text: &str) -> Result<String, String> {
    config::parse_duration(text).map(|_| text.to_owned())
}

pub(super) fn drain(client: &Client, arguments: Drain) -> Result<ExitCode> {
    put(client, arguments.target, Action::Drain, arguments.share, arguments.common)
}

pub(super) fn force(client: &Client, arguments: Force) -> Result<ExitCode> {
    let action = match arguments.verdict {
        TargetState::Up => Action::Up,
        TargetState::Down => Action::Down,
    };
    put(client, arguments.target, action, None, arguments.common)
}

fn put(
    client: &Client,
    target: String,
    action: Action,
    share: Option<Share>,
    common: Common,
) -> Result<ExitCode> {
    let Common { lasts, reason, override_safety, json } = common;
    let target = whole(client, target)?;
    let applied = client.put_override(&dto::OverrideRequest {
        target,
        action,
        share,
        lasts,
        reason,
        override_safety,
    })?;
    if json {
        say!("{}", serde_json::to_string_pretty(&applied)?);
        return Ok(ExitCode::SUCCESS);
    }
    let o = &applied.subject;
    let until = o.until.as_ref().map_or_else(|| "until restored".into(), |until| format!("until {until}"));
    say!("override {}: {} {}{}, {until} (epoch {})", o.id, o.action, o.target, part(o), applied.epoch);
    if let Some(replaced) = &applied.replaced {
        say!("it replaces override {}: {}{}", replaced.id, replaced.action, part(replaced));
    }
    report_effect(&applied);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn restore(client: &Client, arguments: Restore) -> Result<ExitCode> {
    let all = client.overrides()?;
    let wanted = whole_of(&all, arguments.target)?;
    let mine: Vec<_> = all.iter().filter(|o| o.target == wanted).collect();
    if mine.is_empty() {
        let targets: Vec<_> = all.iter().map(|o| o.target.as_str()).collect();
        let others = if targets.is_empty() { "none".into() } else { targets.join(", ") };
        bail!("there is no override of {wanted}; current overrides: {others}");
    }
    let remove = |o: &dto::Override| client.remove_override(o.id, arguments.override_safety);
    if arguments.json {
        let removed = mine.into_iter().map(remove).collect::<Result<Vec<_>>>()?;
        say!("{}", serde_json::to_string_pretty(&removed)?);
        return Ok(ExitCode::SUCCESS);
    }
    for o in mine {
        let applied = remove(o)?;
        say!("removed override {}: {} {}{} (epoch {})", o.id, o.action, o.target, part(o), applied.epoch);
        report_effect(&applied);
    }
    Ok(ExitCode::SUCCESS)
}

/// The share of a partial drain.
fn part(o: &dto::Override) -> String {
    if o.share == Share::WHOLE { String::new() } else { format!(" for {} of its clients", o.share) }
}

fn report_effect(applied: &dto::Applied) {
    if let Some(why) = &applied.no_effect {
        say!("nothing changes now: {why}");
    }
    if let Some(why) = &applied.not_durable {
        complain(&format!("warning: {why}"));
    }
}

pub(super) fn list(client: &Client, json: bool) -> Result<ExitCode> {
    let overrides = client.overrides()?;
    if json {
        say!("{}", serde_json::to_string_pretty(&overrides)?);
    } else if overrides.is_empty() {
        say!("no overrides");
    } else {
        let mut table = Table::new(["ID", "TARGET", "ACTION", "SHARE", "SINCE", "UNTIL", "BY", "REASON"]);
        for o in overrides {
            let (id, action, share) = (o.id.to_string(), o.action.to_string(), o.share.to_string());
            let until = o.until.unwrap_or_else(|| "restored".into());
            let (by, reason) = (o.by.unwrap_or_default(), o.reason.unwrap_or_default());
            table.add([&*id, &o.target, &action, &share, &o.created, &until, &by, &reason]);
        }
        say_styled(&table.text());
    }
    Ok(ExitCode::SUCCESS)
}
