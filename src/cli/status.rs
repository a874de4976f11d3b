//! `portolan status`

use std::process::ExitCode;

use anyhow::Result;
use comfy_table::Table;
use comfy_table::presets::NOTHING;

use super::client::Client;
use crate::api::dto;

pub(super) fn run(client: &Client, json: bool) -> Result<ExitCode> {
    let status = client.status()?;
    if json {
        say!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print(&status);
    }
    Ok(ExitCode::SUCCESS)
}

/// A table with plain columns and a header in capitals, as similar tools print them.
pub(super) fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(head);
    table
}

fn print(status: &dto::Status) {
    let node = &status.node;
    let ready = if node.ready { "ready" } else { "not ready" };
    let up = span(node.uptime_s);
    say!("{} {}, {ready}, epoch {}, up {up}", node.name, node.version, node.epoch);
    for alarm in &status.alarms {
        say!("ALARM {alarm}");
    }
    say!("");
    let mut regions = table(&["REGION", "ENDPOINT", "ADDRESS", "VERDICT", "FOR", "RTT", "EVIDENCE"]);
    for region in &status.regions {
        regions.add_row([&region.name, "", "", &verdict(region), &since(&region.since), "", &notes(region)]);
        for endpoint in &region.endpoints {
            let prefix =
                endpoint.overridden.as_ref().map(|o| format!("{}: ", summary(o))).unwrap_or_default();
            if let Some(host) =
                endpoint.host.as_ref().filter(|_| endpoint.resolved || endpoint.addresses.is_empty())
            {
                let count = match endpoint.addresses.len() {
                    0 if endpoint.resolved => "its addresses are not known yet".into(),
                    0 => "no address: always up".into(),
                    1 => "its address:".into(),
                    count => format!("its {count} addresses:"),
                };
                let evidence = format!("{prefix}{count}");
                regions.add_row(["", &endpoint.name, host, &endpoint.verdict, "", "", &evidence]);
            }
            for address in &endpoint.addresses {
                let rtt = address.rtt_ms.map(|ms| format!("{ms:.1} ms")).unwrap_or_default();
                regions.add_row([
                    "",
                    &endpoint.name,
                    &address.address.to_string(),
                    &address.verdict,
                    // Without a probe it never changed.
                    &if address.probes.is_empty() { String::new() } else { since(&address.since) },
                    &rtt,
                    &format!("{prefix}{}", address.evidence),
                ]);
            }
        }
    }
    say!("{}\n", regions.trim_fmt());
    let mut services = table(&["SERVICE", "TYPE", "RANK", "REGIONS"]);
    for service in &status.services {
        let regions: Vec<String> =
            service.regions.iter().map(|region| member(region, &status.regions)).collect();
        services.add_row([&service.name, &service.kind, &service.rank, &regions.join(", ")]);
    }
    say!("{}", services.trim_fmt());
}

/// How long ago a moment was; the text itself if it is not a timestamp.
fn since(moment: &str) -> String {
    let Ok(moment) = moment.parse::<jiff::Timestamp>() else { return moment.to_owned() };
    span(u64::try_from(jiff::Timestamp::now().duration_since(moment).as_secs()).unwrap_or(0))
}

/// The two largest units of a time: "45s", "12m 5s", "3h 20m", "9d 4h".
fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let first = UNITS.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(UNITS.len() - 1);
    let (unit, name) = UNITS[first];
    let mut text = format!("{}{name}", seconds / unit);
    if let Some((smaller, name)) = UNITS.get(first + 1)
        && seconds % unit >= *smaller
    {
        text += &format!(" {}{name}", seconds % unit / smaller);
    }
    text
}

fn verdict(region: &dto::Region) -> String {
    if is_withdrawn(region) { format!("{}, withdrawn", region.verdict) } else { region.verdict.clone() }
}

/// The rule that holds it, and its overrides; those of its endpoints if they withdraw it.
fn notes(region: &dto::Region) -> String {
    let held = region.held.as_ref().map(|rule| format!("held: {rule}"));
    let withdraws = |o: &&dto::Override| o.action == "down" || (o.action == "drain" && o.share == "100%");
    let own = region.overridden.as_ref();
    let endpoints =
        region.endpoints.iter().filter(|_| is_withdrawn(region) && own.filter(withdraws).is_none());
    let notes = endpoints.filter_map(|endpoint| {
        let overridden = endpoint.overridden.as_ref().filter(withdraws)?;
        Some(format!("{}: {}", endpoint.name, summary(overridden)))
    });
    held.into_iter().chain(notes).chain(own.map(summary)).collect::<Vec<_>>().join("; ")
}

/// Whether operators have withdrawn it.
fn is_withdrawn(region: &dto::Region) -> bool {
    region.usable == "no" && region.held.is_none() && region.verdict != "down"
}

fn summary(o: &dto::Override) -> String {
    let mut text = format!("override {} {}", o.id, o.action);
    if o.share != "100%" {
        text += &format!(" {}", o.share);
    }
    if let Some(until) = &o.until {
        text += &format!(" until {until}");
    }
    if let Some(reason) = &o.reason {
        text += &format!(" ({reason})");
    }
    text
}

/// A region of a service with its weight and anything out of the ordinary.
fn member(region: &dto::ServiceRegion, all: &[dto::Region]) -> String {
    let mut text = region.name.clone();
    if region.weight != 1 {
        text += &format!(" ×{}", region.weight);
    }
    let is_down = || all.iter().any(|it| it.name == region.name && it.verdict == "down");
    let state = match (region.usable.as_str(), &region.held) {
        (_, Some(rule)) => Some(format!("held: {rule}")),
        ("yes", None) => None,
        ("no", None) => Some(if is_down() { "down" } else { "withdrawn" }.into()),
        ("if_nothing_else", None) => Some("unknown".into()),
        (other, None) => Some(other.into()),
    };
    let notes: Vec<String> = state.into_iter().chain(region.overridden.as_ref().map(summary)).collect();
    if !notes.is_empty() {
        text += &format!(" [{}]", notes.join("; "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{member, span};
    use crate::api::dto;

    #[test]
    fn regions_of_services_show_what_is_out_of_the_ordinary() {
        let region = |name: &str, verdict: &str| dto::Region {
            name: name.into(),
            verdict: verdict.into(),
            since: String::new(),
            usable: "no".into(),
            held: None,
            overridden: None,
            capacity: None,
            endpoints: Vec::new(),
        };
        let all = [region("one", "up"), region("two", "down")];
        let drain = dto::Override {
            id: 7,
            target: "service/www.example.test/one".into(),
            action: "drain".into(),
            share: "25%".into(),
            created: String::new(),
            until: None,
            reason: Some("canary".into()),
            by: None,
        };
        for (name, usable, held, overridden, expected) in [
            ("one", "yes", None, None, "one ×3"),
            ("one", "no", None, None, "one ×3 [withdrawn]"),
            ("two", "no", None, None, "two ×3 [down]"),
            ("two", "no", Some("min_regions"), None, "two ×3 [held: min_regions]"),
            ("one", "if_nothing_else", None, None, "one ×3 [unknown]"),
            ("one", "yes", None, Some(&drain), "one ×3 [override 7 drain 25% (canary)]"),
            ("two", "no", None, Some(&drain), "two ×3 [down; override 7 drain 25% (canary)]"),
        ] {
            let of_service = dto::ServiceRegion {
                name: name.into(),
                weight: 3,
                usable: usable.into(),
                held: held.map(Into::into),
                overridden: overridden.cloned(),
            };
            assert_eq!(member(&of_service, &all), expected);
        }
    }

    #[test]
    fn times_show_their_two_largest_units() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (725, "12m 5s"),
            (3_600, "1h"),
            (3_659, "1h"),
            (12_000, "3h 20m"),
            (792_000, "9d 4h"),
        ] {
            assert_eq!(span(seconds), expected, "{seconds}");
        }
    }
}
