//! `portolan plan`: whom a change would move, before it does.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use super::client::{Client, ClientError};
use super::completions::targets;
use super::node::NodeOptions;
use super::overrides::share;
use super::say_styled;
use super::styled::{Look, Styled, Table};
use super::target::{target, whole, whole_of};
use super::{complain, exit};
use crate::api::dto::{self, Action, Basis, RegionShare, Share};

/// The most countries and services in the text; JSON has more.
const SHOWN: usize = 10;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("change").multiple(false))]
pub(super) struct Arguments {
    /// Draining region/NAME, endpoint/REGION/NAME, service/NAME/REGION or pool/NAME/BACKEND
    #[arg(long, value_name = "TARGET", value_parser = target, add = targets(), group = "change")]
    drain: Option<String>,
    /// Draining only this share of the clients
    #[arg(long, value_name = "25%", value_parser = share)]
    share: Option<Share>,
    /// Forcing a target up
    #[arg(long, value_name = "TARGET", value_parser = target, add = targets(), group = "change")]
    up: Option<String>,
    /// Forcing a target down
    #[arg(long, value_name = "TARGET", value_parser = target, add = targets(), group = "change")]
    down: Option<String>,
    /// Removing the override of a target
    #[arg(long, value_name = "TARGET", value_parser = target, add = targets(), group = "change")]
    restore: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) node: NodeOptions,
}

impl Arguments {
    /// What to ask the node for. A config is what would be changed to, unless another change is named.
    ///
    /// # Errors
    /// If no change is named.
    pub(super) fn request(&self, config: Option<PathBuf>) -> Result<dto::PlanRequest> {
        if self.share.is_some() && self.drain.is_none() {
            return Err(ClientError::Usage("--share goes with --drain".into()).into());
        }
        let set = |target: &String, action: Action| dto::PlanRequest {
            target: Some(target.clone()),
            action: Some(action),
            share: self.share,
            ..<_>::default()
        };
        Ok(match (&self.drain, &self.up, &self.down, &self.restore) {
            (Some(target), ..) => set(target, Action::Drain),
            (_, Some(target), ..) => set(target, Action::Up),
            (_, _, Some(target), _) => set(target, Action::Down),
            (.., Some(target)) => dto::PlanRequest { restore: Some(target.clone()), ..<_>::default() },
            _ => {
                let why = "name the change by --drain, --up, --down or --restore, or a new config by -c";
                let path = config.ok_or_else(|| ClientError::Usage(why.into()))?;
                let path = std::path::absolute(&path).unwrap_or(path).display().to_string();
                dto::PlanRequest { config: Some(path), ..<_>::default() }
            }
        })
    }

    /// Asks the node and prints what it says.
    pub(super) fn run(&self, client: &Client, mut request: dto::PlanRequest) -> Result<ExitCode> {
        request.target = request.target.map(|target| whole(client, target)).transpose()?;
        let of_override = |target| whole_of(&client.overrides()?, target);
        request.restore = request.restore.map(of_override).transpose()?;
        let plan = client.plan(&request)?;
        if self.json {
            say!("{}", serde_json::to_string_pretty(&plan)?);
        } else {
            say_styled(&text(&plan, &change(&request)));
            for warning in plan.config.iter().flat_map(|config| &config.warnings) {
                complain(&format!("warning: {warning}"));
            }
        }
        let is_refused = plan.refused.is_some();
        Ok(if is_refused { ExitCode::from(exit::REFUSED) } else { ExitCode::SUCCESS })
    }
}

/// The change as the subject of a sentence.
fn change(request: &dto::PlanRequest) -> String {
    let dto::PlanRequest { target, action, share, restore, config, map: _ } = request;
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    match action {
        Some(Action::Drain) => {
            let part = share.map(|share| format!("{share} of ")).unwrap_or_default();
            format!("draining {part}{}", of(target))
        }
        Some(Action::Up) => format!("forcing {} up", of(target)),
        Some(Action::Down) => format!("forcing {} down", of(target)),
        None if restore.is_some() => format!("restoring {}", of(restore)),
        None => format!("loading {}", of(config)),
    }
}

/// Totals first, then the countries with the most clients that move, then what a safety rule says.
fn text(plan: &dto::Plan, change: &str) -> Styled {
    let mut text = Styled::from(totals(plan, change));
    for it in &plan.endpoints {
        text.push(&format!("\n{}", endpoints(it)));
    }
    if let Some(config) = &plan.config {
        text.push(&differences(config));
    }
    if let Some(first) = plan.services.first() {
        text.push("\n\n");
        if plan.services.len() > 1 {
            text.push(&format!("Countries of {}:\n", name(first)));
        }
        text.append(countries(first));
        let basis = match plan.basis {
            Basis::Queries => "\nClients are counted by the queries of the last hour.",
            Basis::Addresses => "\nClients are counted by the addresses of each country.",
            Basis::Mixed => {
                "\nClients are counted by the queries of the last hour; those of services that were hardly asked, by addresses."
            }
        };
        text.add(Look::Dim, basis);
    }
    if let Some(what) = &plan.all_down {
        text.push("\n\n");
        text.add(Look::Doubtful, &sentence(what));
    }
    if let Some(why) = &plan.refused {
        text.push(if plan.all_down.is_some() { "\n" } else { "\n\n" });
        // It may end with the name of a service.
        let why = why.trim_end_matches('.');
        text.add(Look::Bad, &format!("A safety rule would refuse it: {why}."));
        text.push("\n--override-safety does it anyway.");
    }
    text
}

/// A clause with a capital and a full stop. It may end with the name of a service.
fn sentence(clause: &str) -> String {
    let clause = clause.trim_end_matches('.');
    let first = clause.chars().next().map(|it| it.to_uppercase().to_string()).unwrap_or_default();
    let rest = clause.chars().skip(1).collect::<String>();
    format!("{first}{rest}.")
}

/// What a config has, and the current one does not, or the other way round.
fn differences(config: &dto::PlanConfig) -> String {
    let lines = [
        ("new services", &config.services_added),
        ("services that it does not have", &config.services_removed),
        ("new regions", &config.regions_added),
        ("regions that it does not have", &config.regions_removed),
        ("regions taken to be up where no probe has checked them yet", &config.assumed_up),
    ];
    let line = |(what, dto::PlanNames { count, names }): (&str, &dto::PlanNames)| {
        let listed = names[..names.len().min(SHOWN)].join(", ");
        let more = count.saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (*count > 0).then(|| format!("\n{what}: {listed}{more}"))
    };
    lines.into_iter().filter_map(line).collect()
}

fn totals(plan: &dto::Plan, change: &str) -> String {
    let because = plan.no_effect.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    if let Some(pool) = &plan.pool {
        let names = |names: &[String]| if names.is_empty() { "none".into() } else { names.join(", ") };
        let (before, after) = (names(&pool.before), names(&pool.after));
        return if pool.before == pool.after {
            format!("{change} would not change which backends of pool {} are used{because}", pool.name)
        } else {
            format!("{change} would leave pool {} these backends: {after} (now {before})", pool.name)
        };
    }
    match &plan.services[..] {
        [] => format!("{change} would move no clients to another region{because}"),
        [only] if plan.services_left_out == 0 => {
            format!("{change} would move {} of the clients of {}", percent(only.moved), total(only))
        }
        several => {
            let count = several.len() + plan.services_left_out;
            let mut text = format!("{change} would move clients of {count} services:");
            for it in several.iter().take(SHOWN) {
                text += &format!("\n  {} of {}", percent(it.moved), total(it));
            }
            text + &more(count.saturating_sub(SHOWN), "service")
        }
    }
}

/// "www.example.com.: 28% to us-east, 3% to ap-south"
fn total(service: &dto::PlanService) -> String {
    let mut parts: Vec<String> =
        service.gains.iter().map(|it| format!("{} to {}", percent(it.share), it.region)).collect();
    let to_none = service.moved - service.gains.iter().map(|it| it.share).sum::<f64>();
    if to_none > LEAST {
        parts.push(format!("{} to no region", percent(to_none)));
    }
    format!("{}: {}", name(service), parts.join(", "))
}

fn name(service: &dto::PlanService) -> String {
    let family = service.family.map(|family| format!(" over {family}")).unwrap_or_default();
    format!("{}{family}", service.service)
}

fn countries(service: &dto::PlanService) -> Styled {
    let mut table = Table::new(["COUNTRY", "OF ALL CLIENTS", "MOVES", "FROM", "TO"]);
    for it in service.countries.iter().take(SHOWN) {
        let (from, to) = (excess(&it.from, &it.to), excess(&it.to, &it.from));
        table.add([&*it.country, &percent(it.weight), &percent(it.moved), &from, &to]);
    }
    let mut text = table.text();
    let count = service.countries.len() + service.countries_left_out;
    text.push(&more(count.saturating_sub(SHOWN), "country"));
    text
}

/// What regions have more of than in another division of the same clients.
fn excess(of: &[RegionShare], over: &[RegionShare]) -> String {
    let share_in = |list: &[RegionShare], region: &str| {
        list.iter().find(|it| it.region == region).map_or(0.0, |it| it.share)
    };
    let more = of.iter().map(|it| (&*it.region, it.share - share_in(over, &it.region)));
    let sum = |list: &[RegionShare]| list.iter().map(|it| it.share).sum::<f64>();
    let none = ("no region", sum(over) - sum(of));
    let more = more.chain([none]).filter(|(_, share)| *share > LEAST);
    more.map(|(region, share)| format!("{region} {}", percent(share))).collect::<Vec<_>>().join(", ")
}

/// "region eu-west over IPv4: lb1 gets 38% of its clients (now 50%), lb2 62% (now 50%)"
fn endpoints(it: &dto::PlanEndpoints) -> String {
    let share_in = |list: &[dto::EndpointShare], name: &str| {
        list.iter().find(|it| it.endpoint == name).map_or(0.0, |it| it.share)
    };
    let mut names: Vec<&str> = it.before.iter().chain(&it.after).map(|it| &*it.endpoint).collect();
    names.sort_unstable();
    names.dedup();
    let part = |name: &&str| {
        let (before, after) = (share_in(&it.before, name), share_in(&it.after, name));
        format!("{name} {} (now {})", percent(after), percent(before))
    };
    let family = it.family.map(|family| format!(" over {family}")).unwrap_or_default();
    let parts: Vec<String> = names.iter().map(part).collect();
    format!("clients of region {}{family} by endpoint: {}", it.region, parts.join(", "))
}

/// "and 3 more countries", on a line of its own, if some are left out.
pub(super) fn more(left_out: usize, what: &str) -> String {
    match left_out {
        0 => String::new(),
        1 => format!("\nand 1 more {what}"),
        more => {
            let plural =
                what.strip_suffix('y').map_or_else(|| format!("{what}s"), |stem| format!("{stem}ies"));
            format!("\nand {more} more {plural}")
        }
    }
}

/// With a decimal where the number is small, as 0 would be wrong.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent == 0.0 || percent >= 9.95 {
        format!("{percent:.0}%")
    } else if percent >= 0.05 {
        let text = format!("{percent:.1}");
        format!("{}%", text.strip_suffix(".0").unwrap_or(&text))
    } else {
        "<0.1%".into()
    }
}

/// Smaller shares are errors of rounding.
const LEAST: f64 = 1e-5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_short_but_never_wrongly_0() {
        for (share, expected) in [
            (0.0, "0%"),
            (0.000_01, "<0.1%"),
            (0.000_6, "0.1%"),
            (0.031, "3.1%"),
            (0.03, "3%"),
            (0.0996, "10%"),
            (0.314, "31%"),
            (1.0, "100%"),
        ] {
            assert_eq!(percent(share), expected, "{share}");
        }
    }
}
