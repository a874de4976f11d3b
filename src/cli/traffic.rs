//! `portolan status --traffic`: who asks.

use std::process::ExitCode;

use anyhow::Result;

use super::client::Client;
use super::plan::{more, percent};
use super::say_styled;
use super::styled::{Styled, Table};
use crate::api::dto::{self, Answers};

/// The most services, countries of a region, and networks in the text; JSON has more.
const SHOWN: Shown = Shown { services: 20, countries: 6, networks: 10 };

struct Shown {
    services: usize,
    countries: usize,
    networks: usize,
}

pub(super) fn run(client: &Client, json: bool) -> Result<ExitCode> {
    let traffic: dto::Traffic = client.traffic()?;
    if json {
        say!("{}", serde_json::to_string_pretty(&traffic)?);
    } else {
        say_styled(&text(&traffic));
    }
    Ok(ExitCode::SUCCESS)
}

fn text(traffic: &dto::Traffic) -> Styled {
    let dto::Traffic { since, window_s, total, client_subnet, removed, .. } = traffic;
    let mut text = format!(
        "{} answers of services since {since}, {} per second in the last {window_s:.0} s",
        total.answers,
        rate(*total)
    );
    if total.answers > 0 {
        let share = percent(client_subnet.answers as f64 / total.answers as f64);
        text += &format!("\n{share} of them for client subnets that resolvers revealed (ECS)");
    }
    if removed.answers > 0 {
        text += &format!("\n{} of them of services and regions that the config has no more", removed.answers);
    }
    let services = (!traffic.services.is_empty()).then(|| services(&traffic.services));
    let networks = (!traffic.networks.is_empty()).then(|| networks(&traffic.networks));
    Styled::joined([text.into()].into_iter().chain(services).chain(networks), "\n\n")
}

/// Those that are asked the most now come first.
fn services(services: &[dto::TrafficService]) -> Styled {
    let mut sorted: Vec<&dto::TrafficService> = services.iter().collect();
    // The sort is stable: equal ones stay in the order of the config.
    sorted.sort_by(|one, two| {
        two.all.per_second.total_cmp(&one.all.per_second).then(two.all.answers.cmp(&one.all.answers))
    });
    let mut table = Table::new(["SERVICE", "REGION", "PER SECOND", "ANSWERS", "TO"]);
    for service in sorted.iter().take(SHOWN.services) {
        table.add([&service.service, "", &rate(service.all), &service.all.answers.to_string(), ""]);
        for region in &service.regions {
            let name = region.region.as_deref().unwrap_or("none");
            let answers = region.all.answers.to_string();
            table.add(["", name, &rate(region.all), &answers, &countries(region)]);
        }
    }
    let mut text = table.text();
    text.push(&more(services.len().saturating_sub(SHOWN.services), "service"));
    text
}

/// "DE 61%, FR 20%, others 19%"
fn countries(region: &dto::TrafficRegion) -> String {
    let all = region.all.answers;
    let share = |answers: u64| percent(answers as f64 / all as f64);
    let (shown, rest) = region.countries.split_at(SHOWN.countries.min(region.countries.len()));
    let others = region.other.answers + rest.iter().map(|it| it.all.answers).sum::<u64>();
    let countries = shown.iter().map(|it| format!("{} {}", it.country, share(it.all.answers)));
    let others = (others > 0).then(|| format!("others {}", share(others)));
    countries.chain(others).collect::<Vec<_>>().join(", ")
}

fn networks(networks: &[dto::TrafficNetwork]) -> Styled {
    let mut table = Table::new(["NETWORK", "IS", "PER SECOND", "ANSWERS"]);
    for it in networks.iter().take(SHOWN.networks) {
        let kind = if it.client_subnet { "client subnet" } else { "resolver" };
        let answers = match it.error {
            0 => it.all.answers.to_string(),
            error => format!("{} to {}", it.all.answers, it.all.answers.saturating_add(error)),
        };
        table.add([&*it.network.to_string(), kind, &rate(it.all), &answers]);
    }
    table.text()
}

/// With a decimal where the number is small.
fn rate(Answers { per_second, .. }: Answers) -> String {
    match per_second {
        0.0 => "0".into(),
        small if small < 0.05 => "<0.1".into(),
        small if small < 9.95 => format!("{small:.1}"),
        large => format!("{large:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_short_but_never_wrongly_0() {
        for (per_second, expected) in
            [(0.0, "0"), (0.016, "<0.1"), (0.1, "0.1"), (9.94, "9.9"), (9.96, "10"), (1234.5, "1234")]
        {
            assert_eq!(rate(Answers { answers: 1, per_second }), expected);
        }
    }
}
