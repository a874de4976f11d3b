//! `portolan audit`

use std::process::ExitCode;

use anyhow::Result;
use jiff::Timestamp;

use super::client::Client;
use super::events::since;
use super::node::NodeOptions;
use super::say_styled;
use super::styled::{Look, Styled};
use crate::api::dto::{AuditAction, AuditEntry, AuditResult, AuditState};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only entries from then on: a time ago, such as 1h30m, or a moment, such as 2026-11-29T10:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<Timestamp>,
    /// Only the latest entries, this many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) node: NodeOptions,
}

pub(super) fn run(client: &Client, arguments: &Arguments) -> Result<ExitCode> {
    for entry in client.audit(arguments.since, arguments.limit)? {
        if arguments.json {
            say!("{}", serde_json::to_string(&entry).unwrap_or_default());
        } else {
            say_styled(&line(&entry));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// An entry in a line; if a text in it has several, the others are indented below.
fn line(entry: &AuditEntry) -> Styled {
    let AuditEntry { at, last, count, who, from, why, reason, .. } = entry;
    let look = match entry.result {
        AuditResult::Accepted => Look::Good,
        AuditResult::Refused => Look::Doubtful,
        AuditResult::Failed => Look::Bad,
    };
    let mut text = format!("  {who} ({from}): {}", request(entry));
    if let Some(reason) = reason {
        text += &format!(", because \"{reason}\"");
    }
    text += &change(entry);
    if *count > 1 {
        text += &format!(", {count} times until {last}");
    }
    if let Some(why) = why {
        text += &format!(": {}", why.trim_end());
    }
    let mut line = Styled::new(Look::Dim, at);
    line.push("  ");
    line.add(look, &format!("{:<8}", entry.result));
    line.push(&text.replace('\n', "\n    "));
    line
}

/// What was asked for.
fn request(entry: &AuditEntry) -> String {
    let parameter = |name: &str| entry.parameters.as_ref()?.get(name)?.as_str();
    let target = entry.target.as_deref().unwrap_or_default();
    match entry.action {
        AuditAction::SetOverride => {
            let action = match parameter("action") {
                Some("drain") => "drain".to_owned(),
                Some(verdict) => format!("force {verdict}"),
                None => "set an override".to_owned(),
            };
            let share = parameter("share").map_or_else(String::new, |share| format!(" {share} of"));
            let lasts = parameter("for").map_or_else(String::new, |lasts| format!(" for {lasts}"));
            let safety = entry.parameters.as_ref().is_some_and(|it| it["override_safety"] == true);
            let safety = if safety { ", overriding safety rules" } else { "" };
            let target = if target.is_empty() { String::new() } else { format!(" {target}") };
            format!("{action}{share}{target}{lasts}{safety}")
        }
        AuditAction::RemoveOverride => format!("restore {target}"),
        AuditAction::Reload => "reload".into(),
        AuditAction::ShowChallenge => format!("show a challenge for {target}"),
        AuditAction::Other => format!("change {target}"),
    }
}

/// What it changed.
fn change(entry: &AuditEntry) -> String {
    let nothing = AuditState::default();
    let [before, after] = [&entry.before, &entry.after].map(|state| state.as_ref().unwrap_or(&nothing));
    let id = |state: &AuditState| state.overridden.as_ref().map(|it| format!("override {}", it.id));
    let mut said = match (id(before), id(after)) {
        (Some(before), Some(after)) => format!(", {after} in place of {before}"),
        (Some(before), None) => format!(", removed {before}"),
        (None, Some(after)) => format!(", {after}"),
        (None, None) => String::new(),
    };
    if let (Some(old), Some(new)) = (before.epoch, after.epoch) {
        said += &format!(", epoch {old} → {new}");
    }
    if let (Some(old), Some(new)) = (&before.config, &after.config) {
        let [old_start, new_start] = [old, new].map(|digest| digest.get(..12).unwrap_or(digest));
        let same = old == new;
        said += &if same {
            format!(", config {old_start} unchanged")
        } else {
            format!(", config {old_start} → {new_start}")
        };
    }
    said
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn an_entry_is_a_line() {
        let overridden = |id: u64| {
            json!({"override": {
                "id": id, "target": "region/eu", "action": "drain", "share": "25%", "by": "token ci",
                "created": "2027-01-15T08:00:00.000Z", "until": null, "reason": null,
            }})
        };
        let usual = json!({
            "id": 1, "at": "2027-01-15T08:00:00.000Z", "last": "2027-01-15T08:00:09.000Z", "count": 1,
            "who": "token ci", "from": "192.0.2.1:4711", "action": "set_override", "target": "region/eu",
            "parameters": {"action": "drain"}, "reason": null, "result": "accepted", "why": null,
            "before": null, "after": null,
        });
        let head = "2027-01-15T08:00:00.000Z";
        for (changes, expected) in [
            (
                json!({
                    "parameters": {"action": "drain", "share": "25%", "for": "30m", "override_safety": true},
                    "reason": "new kernel", "before": overridden(2), "after": overridden(3),
                }),
                "accepted  token ci (192.0.2.1:4711): drain 25% of region/eu for 30m, overriding safety rules, \
                 because \"new kernel\", override 3 in place of override 2",
            ),
            (
                json!({"parameters": {"action": "up"}, "result": "failed", "why": "the engine has stopped"}),
                "failed    token ci (192.0.2.1:4711): force up region/eu: the engine has stopped",
            ),
            (
                json!({"action": "remove_override", "before": overridden(3)}),
                "accepted  token ci (192.0.2.1:4711): restore region/eu, removed override 3",
            ),
            (
                json!({
                    "who": "SIGHUP", "from": "signal", "action": "reload", "parameters": null,
                    "before": {"epoch": 4, "config": "00112233445566"}, "after": {"epoch": 5, "config": "00112233445577"},
                }),
                "accepted  SIGHUP (signal): reload, epoch 4 → 5, config 001122334455 → 001122334455",
            ),
            (
                json!({"action": "reload", "result": "refused", "why": "one\ntwo\n\n"}),
                "refused   token ci (192.0.2.1:4711): reload: one\n    two",
            ),
            (
                json!({
                    "who": "no token", "from": "192.0.2.1, 192.0.2.2", "action": "reload", "result": "refused",
                    "count": 17, "why": "changes need a token",
                }),
                "refused   no token (192.0.2.1, 192.0.2.2): reload, 17 times until 2027-01-15T08:00:09.000Z: \
                 changes need a token",
            ),
        ] {
            let mut entry = usual.clone();
            let Value::Object(changes) = changes else { unreachable!("it is one") };
            changes.into_iter().for_each(|(key, value)| entry[key] = value);
            let entry: AuditEntry = serde_json::from_value(entry).expect("an entry");
            assert_eq!(line(&entry).shown(false), format!("{head}  {expected}"));
        }
    }
}
