//! `portolan status`

mod words;

use std::collections::HashMap;
use std::process::ExitCode;

use anyhow::Result;

use super::age::{since, span};
use super::client::Client;
use super::node::Place;
use super::say_styled;
use super::styled::{Look, Styled, Table};
use super::terminal::in_one_line;
use crate::api::dto::{self, Share, Usable, Verdict};
use words::{DRAINED, began, by_operators, found, is_withdrawn, withdraws, word};

pub(super) fn run(client: &Client, json: bool) -> Result<ExitCode> {
    let status = client.status()?;
    if json {
        say!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        say_styled(&text(&status, client.place()));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn text(status: &dto::Status, place: &Place) -> Styled {
    let node = &status.node;
    let (look, ready) = if node.ready { (Look::Good, "ready") } else { (Look::Doubtful, "not ready") };
    let mut text = Styled::new(Look::Heading, &node.name);
    text.push(&format!(" {} at {place}, ", node.version));
    text.add(look, ready);
    text.push(&format!(", epoch {}, up {}", node.epoch, span(node.uptime_s)));
    for alarm in &status.alarms {
        text.add(Look::Bad, &format!("\nALARM {}", in_one_line(alarm)));
    }
    let mut regions = Table::new(["REGION", "ENDPOINT", "ADDRESS", "VERDICT", "FOR", "CONNECT", "EVIDENCE"]);
    for region in &status.regions {
        let name = region.name.as_str().into();
        let since = began(region).map(since).unwrap_or_default().into();
        regions.add_styled([name, "".into(), "".into(), verdict(region), since, "".into(), notes(region)]);
        for endpoint in &region.endpoints {
            add_endpoint(&mut regions, endpoint);
        }
    }
    let by_name: HashMap<&str, &dto::Region> = status.regions.iter().map(|it| (&*it.name, it)).collect();
    let mut services = Table::new(["SERVICE", "TYPE", "RANK", "REGIONS"]);
    for service in &status.services {
        let regions = service.regions.iter().map(|it| member(it, by_name.get(&*it.name).copied()));
        let (kind, rank) = (service.kind.to_string().into(), service.rank.to_string().into());
        services.add_styled([service.name.as_str().into(), kind, rank, Styled::joined(regions, ", ")]);
    }
    let mut pools = Table::new(["POOL", "BACKEND", "ADDRESS", "VERDICT", "FOR", "CONNECT", "EVIDENCE"]);
    for pool in &status.pools {
        let (look, serves) = if pool.serves { (Look::Good, "serves") } else { (Look::Bad, "does not serve") };
        let waiting = pool.limits.map(|it| format!("; {} of {} requests wait", pool.waiting, it.pending));
        let mut evidence = Styled::from(format!("{}{}", pool.balance, waiting.unwrap_or_default()));
        if let Some(panic) = &pool.panic {
            evidence.push("; ");
            evidence.add(Look::Doubtful, &format!("panic: {} of {} healthy", panic.healthy, panic.of));
        }
        let (name, serves) = (pool.name.as_str().into(), Styled::new(look, serves));
        pools.add_styled([name, "".into(), "".into(), serves, "".into(), "".into(), evidence]);
        for backend in &pool.backends {
            add_backend(&mut pools, pool.limits.as_ref(), backend);
        }
    }
    let mut certificates = Table::new(["CERTIFICATE", "EXPIRES", "NEXT ATTEMPT", "FAILS"]);
    for it in &status.certificates {
        let expires = it.expires.as_deref().unwrap_or("none yet").into();
        let next = it.next.as_deref().unwrap_or("now").into();
        let fails = Styled::new(Look::Bad, it.error.as_deref().unwrap_or_default());
        certificates.add_styled([it.names.join(" ").into(), expires, next, fails]);
    }
    let mut challenges = Table::new(["CHALLENGE", "VALUE", "BY", "UNTIL"]);
    for it in &status.challenges {
        challenges.add([&it.name, &it.value, &it.by, &it.until]);
    }
    let tables = [
        (!status.regions.is_empty()).then(|| regions.text()),
        (!status.services.is_empty()).then(|| services.text()),
        (!status.pools.is_empty()).then(|| pools.text()),
        (!status.certificates.is_empty()).then(|| certificates.text()),
        (!status.challenges.is_empty()).then(|| challenges.text()),
    ];
    let files = status.files.as_ref().map(|files| Styled::new(Look::Dim, files_shown(files)));
    Styled::joined([text].into_iter().chain(tables.into_iter().flatten()).chain(files), "\n\n")
}

/// The files that the process may have open, in a line.
fn files_shown(files: &dto::Files) -> String {
    let dto::Files { limit, open, reserved, dns_tcp, api, proxy } = files;
    let proxy = proxy.as_ref().map(|it| format!(", proxy {} of {}", it.open, it.limit)).unwrap_or_default();
    let open = open.map(|open| format!("{open} of ")).unwrap_or_default();
    let of_dns = || format!("DNS over TCP {} of {}, ", dns_tcp.open, dns_tcp.limit);
    let dns = if dns_tcp.limit > 0 { of_dns() } else { String::new() };
    let (api, most) = (api.open, api.limit);
    format!("files: {open}{limit} open; {reserved} set aside for probes; {dns}API {api} of {most}{proxy}")
}

/// A row for a host whose addresses are looked up or not configured, and one for each address.
fn add_endpoint(regions: &mut Table, endpoint: &dto::Endpoint) {
    let overridden = endpoint.overridden.as_ref().map(|o| format!("{}: ", described(o))).unwrap_or_default();
    let is_looked_up = endpoint.lookup.is_some();
    if let Some(host) = endpoint.host.as_ref().filter(|_| is_looked_up || endpoint.addresses.is_empty()) {
        let addresses = match endpoint.addresses.len() {
            0 if is_looked_up => "its addresses are not known yet".into(),
            0 => "no address: always up".into(),
            1 => "its address:".into(),
            count => format!("its {count} addresses:"),
        };
        let error = endpoint.lookup.as_ref().and_then(|lookup| lookup.error.as_ref());
        let addresses = match error {
            Some(why) if endpoint.addresses.is_empty() => format!("cannot be resolved: {why}"),
            Some(why) => format!("cannot be resolved: {why}; kept: {addresses}"),
            None => addresses,
        };
        let found = found(endpoint.verdict, endpoint.probed);
        add_host(regions, [&endpoint.name, host, &format!("{overridden}{addresses}")], found);
    }
    for address in &endpoint.addresses {
        add_address(regions, &endpoint.name, &overridden, address);
    }
}

/// A row for each address of a backend, or one for a host that has none yet.
fn add_backend(pools: &mut Table, limits: Option<&dto::PoolLimits>, backend: &dto::Backend) {
    let overridden = backend.overridden.as_ref().map(|o| format!("{}: ", described(o))).unwrap_or_default();
    let role = if backend.backup { "backup: " } else { "" };
    let error = backend.lookup.as_ref().and_then(|lookup| lookup.error.as_ref());
    if backend.addresses.is_empty() || error.is_some() {
        let why = error.map_or_else(
            || "its addresses are not known yet".into(),
            |why| format!("cannot be resolved: {why}"),
        );
        let found = found(backend.verdict, backend.probed);
        add_host(pools, [&backend.name, "", &format!("{role}{overridden}{why}")], found);
    }
    for address in &backend.addresses {
        let ejected = backend.ejected.iter().find(|it| it.address == address.address);
        let ejected = ejected.map(|it| format!("ejected until {}: {}; probes: ", it.until, it.evidence));
        let load = limits.zip(address.load).map(|(limits, load)| of_limits(limits, load)).unwrap_or_default();
        let notes = format!("{role}{load}{overridden}{}", ejected.unwrap_or_default());
        add_address(pools, &backend.name, &notes, address);
    }
}

/// A row for an endpoint or backend itself: its name, host and evidence.
fn add_host(table: &mut Table, [name, host, evidence]: [&str; 3], verdict: Styled) {
    table.add_styled(["".into(), name.into(), host.into(), verdict, "".into(), "".into(), evidence.into()]);
}

/// What an address works on of what it may.
fn of_limits(limits: &dto::PoolLimits, load: dto::Load) -> String {
    let requests = limits.requests.map(|most| format!("{} of {most} requests", load.requests));
    let connections = limits.connections.map(|most| format!("{} of {most} connections", load.connections));
    let all: Vec<String> = requests.into_iter().chain(connections).collect();
    format!("{}: ", all.join(", "))
}

/// A row for an address of an endpoint or backend. `notes` stand before its evidence.
fn add_address(table: &mut Table, owner: &str, notes: &str, address: &dto::Address) {
    let since = address.since.as_deref().filter(|_| address.verdict != Verdict::Unobserved).map(since);
    table.add_styled([
        "".into(),
        owner.into(),
        address.address.to_string().into(),
        found(address.verdict, address.probed),
        since.unwrap_or_default().into(),
        address.rtt_ms.map(|ms| format!("{ms:.1} ms")).unwrap_or_default().into(),
        format!("{notes}{}", address.evidence).into(),
    ]);
}

/// What probes found, and what operators made of it.
fn verdict(region: &dto::Region) -> Styled {
    let is_down = region.verdict == Verdict::Down && region.usable == Usable::No;
    let found = found(region.verdict, region.probed);
    let look = if is_down { Look::Bad } else { Look::Doubtful };
    match by_operators(region) {
        Some(word) => Styled::new(look, format!("{}, {word}", found.shown(false))),
        None if region.held.is_some() => Styled::new(Look::Doubtful, found.shown(false)),
        None => found,
    }
}

/// The rule that holds a region, and its override; those of its endpoints, if they withdraw it.
fn notes(region: &dto::Region) -> Styled {
    let held = region.held.map(|rule| Styled::new(Look::Doubtful, format!("held: {rule}")));
    let own = region.overridden.as_ref();
    let by_endpoints = is_withdrawn(region) && !own.is_some_and(withdraws);
    let endpoints = region.endpoints.iter().filter(|_| by_endpoints).filter_map(|endpoint| {
        let overridden = endpoint.overridden.as_ref().filter(|o| withdraws(o))?;
        Some(format!("{}: {}", endpoint.name, described(overridden)))
    });
    let overrides = endpoints.chain(own.map(described)).map(Styled::from);
    Styled::joined(held.into_iter().chain(overrides), "; ")
}

fn described(o: &dto::Override) -> String {
    let mut text = format!("override {} {}", o.id, o.action);
    if o.share != Share::WHOLE {
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

/// A region of a service with its weight and, in brackets, whatever is not normal about it. `whole` is the region
/// itself, whose partial drain concerns the service, too.
fn member(region: &dto::ServiceRegion, whole: Option<&dto::Region>) -> Styled {
    let mut text = Styled::from(region.name.as_str());
    if region.weight != 1 {
        text.push(&format!(" ×{}", region.weight));
    }
    let has_verdict = |verdict| whole.is_some_and(|it| it.verdict == verdict);
    let state = match (region.usable, region.held) {
        (_, Some(rule)) => Some(Styled::new(Look::Doubtful, format!("held: {rule}"))),
        (Usable::Yes, None) => None,
        (Usable::Reduced, None) if has_verdict(Verdict::Degraded) => {
            Some(Styled::new(Look::Doubtful, "degraded"))
        }
        (Usable::Reduced, None) => Some(Styled::new(Look::Doubtful, "reduced")),
        (Usable::IfNothingElse, None) => Some("unknown".into()),
        (Usable::No, None) if has_verdict(Verdict::Down) => Some(Styled::new(Look::Bad, "down")),
        (Usable::No, None) => {
            let word = region.overridden.as_ref().and_then(word).or_else(|| whole.and_then(by_operators));
            Some(Styled::new(Look::Doubtful, word.unwrap_or(DRAINED)))
        }
    };
    let partial = whole.and_then(|it| it.overridden.as_ref()).filter(|o| o.share != Share::WHOLE);
    let overrides = region.overridden.iter().chain(partial).map(|it| described(it).into());
    let notes: Vec<Styled> = state.into_iter().chain(overrides).collect();
    if !notes.is_empty() {
        text.push(" [");
        text.append(Styled::joined(notes, "; "));
        text.push("]");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::dto::{Action, Rank, Rule, ServiceType};
    use crate::model::Fraction;

    fn overridden(share: f64) -> dto::Override {
        dto::Override {
            id: 7,
            target: "service/www.example.test/one".into(),
            action: Action::Drain,
            share: Share(Fraction::from_percent(share).expect("a percentage")),
            created: "in 2028".into(),
            until: None,
            reason: Some("canary".into()),
            by: None,
        }
    }

    #[test]
    fn regions_of_services_show_what_is_not_normal() {
        let (drain, all) = (overridden(25.0), overridden(100.0));
        for (name, usable, held, overridden, expected) in [
            ("one", Usable::Yes, None, None, "one ×3"),
            ("one", Usable::Reduced, None, None, "one ×3 [reduced]"),
            ("slow", Usable::Reduced, None, None, "slow ×3 [degraded]"),
            ("one", Usable::No, None, Some(&all), "one ×3 [drained; override 7 drain (canary)]"),
            ("two", Usable::No, None, None, "two ×3 [down]"),
            ("two", Usable::No, Some(Rule::MinRegions), None, "two ×3 [held: min_regions]"),
            ("two", Usable::Yes, Some(Rule::SuspectSelf), None, "two ×3 [held: suspect_self]"),
            ("one", Usable::IfNothingElse, None, None, "one ×3 [unknown]"),
            ("one", Usable::Yes, None, Some(&drain), "one ×3 [override 7 drain 25% (canary)]"),
            ("two", Usable::No, None, Some(&drain), "two ×3 [down; override 7 drain 25% (canary)]"),
        ] {
            let overridden = overridden.cloned();
            let of_service = dto::ServiceRegion { name: name.into(), weight: 3, usable, held, overridden };
            let verdict = match name {
                "two" => Verdict::Down,
                "slow" => Verdict::Degraded,
                _ => Verdict::Up,
            };
            let whole = region(name, verdict, usable, held);
            assert_eq!(member(&of_service, Some(&whole)).shown(false), expected);
        }
    }

    #[test]
    fn partial_drains_of_regions_are_shown_in_their_services() {
        let mut whole = region("one", Verdict::Up, Usable::Yes, None);
        let of_service = dto::ServiceRegion {
            name: "one".into(),
            weight: 1,
            usable: Usable::Yes,
            held: None,
            overridden: None,
        };
        whole.overridden = Some(overridden(25.0));
        assert_eq!(member(&of_service, Some(&whole)).shown(false), "one [override 7 drain 25% (canary)]");
        whole.overridden = Some(overridden(100.0));
        let drained = dto::ServiceRegion { usable: Usable::No, ..of_service };
        assert_eq!(member(&drained, Some(&whole)).shown(false), "one [drained]");
    }

    #[test]
    fn a_host_that_cannot_be_resolved_says_so_above_its_addresses() {
        let mut far = region("far", Verdict::Up, Usable::Yes, None).endpoints.remove(0);
        let mut rows = |error: Option<&str>| {
            far.host = Some("lb.example.net.".into());
            far.lookup = Some(dto::HostLookup { error: error.map(Into::into), failing_since: None });
            let mut table = Table::new([""; 7]);
            add_endpoint(&mut table, &far);
            far.addresses.clear();
            table.text().shown(false)
        };
        let kept = rows(Some("timed out"));
        assert!(
            kept.contains("lb.example.net.  up")
                && kept.contains("cannot be resolved: timed out; kept: its address:"),
            "{kept}"
        );
        let none = rows(Some("timed out"));
        assert!(none.contains("cannot be resolved: timed out") && !none.contains("kept"), "{none}");
        assert!(rows(None).contains("its addresses are not known yet"));
    }

    fn address(verdict: Verdict, evidence: &str) -> dto::Address {
        dto::Address {
            address: "192.0.2.1".parse().expect("an address"),
            verdict,
            probed: true,
            since: Some("in 2027".into()),
            evidence: evidence.into(),
            failures: 0,
            rtt_ms: Some(1.25),
            last_probe_s: None,
            probes: vec![dto::Probe { name: "edge".into(), verdict: Verdict::Up, evidence: String::new() }],
            load: None,
        }
    }

    #[test]
    fn backends_show_what_they_work_on_of_what_they_may() {
        let load = dto::Load { requests: 12, connections: 8, ..<_>::default() };
        for (requests, connections, expected) in [
            (Some(100), Some(50), "12 of 100 requests, 8 of 50 connections: "),
            (Some(100), None, "12 of 100 requests: "),
            (None, Some(50), "8 of 50 connections: "),
        ] {
            let limits = dto::PoolLimits { requests, connections, pending: 100 };
            assert_eq!(of_limits(&limits, load), expected);
        }
    }

    fn region(name: &str, verdict: Verdict, usable: Usable, held: Option<Rule>) -> dto::Region {
        let endpoint = dto::Endpoint {
            name: "lb1".into(),
            verdict,
            probed: true,
            weight: 100,
            host: None,
            resolved: false,
            lookup: None,
            overridden: None,
            addresses: vec![address(verdict, "its evidence")],
        };
        dto::Region {
            name: name.into(),
            verdict,
            probed: true,
            since: Some("in 2027".into()),
            usable,
            held,
            overridden: None,
            capacity: None,
            endpoints: vec![endpoint],
        }
    }

    #[test]
    fn the_text_shows_alarms_what_holds_regions_and_what_is_unobserved() {
        let mut unseen = region("unseen", Verdict::Up, Usable::Yes, None);
        unseen.endpoints[0].addresses = vec![address(Verdict::Unobserved, "cannot be probed: no route")];
        let mut drained = region("drained", Verdict::Up, Usable::No, None);
        drained.endpoints[0].overridden = Some(overridden(100.0));
        let status = dto::Status {
            node: dto::Node {
                name: "ns1".into(),
                version: "1.2.3".into(),
                epoch: 9,
                ready: true,
                uptime_s: 60,
            },
            pools: Vec::new(),
            listeners: Vec::new(),
            regions: vec![
                region("soft", Verdict::Down, Usable::No, Some(Rule::MinRegions)),
                region("kept", Verdict::Down, Usable::Yes, Some(Rule::SuspectSelf)),
                unseen,
                drained,
            ],
            services: vec![dto::Service {
                name: "www.example.test.".into(),
                kind: ServiceType::Address,
                rank: Rank::Latency,
                regions: Vec::new(),
            }],
            alarms: vec!["region/soft fails, but min_regions holds it\nREGION \u{1b}[2J".into()],
            certificates: Vec::new(),
            challenges: Vec::new(),
            files: Some(dto::Files {
                limit: 1024,
                open: Some(57),
                reserved: 512,
                proxy: None,
                dns_tcp: dto::FileShare { limit: 384, open: 3 },
                api: dto::FileShare { limit: 128, open: 1 },
            }),
        };
        let shown = text(&status, &Place::Url("http://192.0.2.1:8053".into())).shown(false);
        let lines: Vec<String> =
            shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "ns1 1.2.3 at 192.0.2.1:8053, ready, epoch 9, up 1m",
                r"ALARM region/soft fails, but min_regions holds it\u000aREGION \u001b[2J",
                "",
                "REGION ENDPOINT ADDRESS VERDICT FOR CONNECT EVIDENCE",
                "soft down in 2027 held: min_regions",
                "lb1 192.0.2.1 down in 2027 1.2 ms its evidence",
                "kept down in 2027 held: suspect_self",
                "lb1 192.0.2.1 down in 2027 1.2 ms its evidence",
                "unseen up in 2027",
                "lb1 192.0.2.1 unobserved 1.2 ms cannot be probed: no route",
                "drained up, drained in 2028 lb1: override 7 drain (canary)",
                "lb1 192.0.2.1 up in 2027 1.2 ms override 7 drain (canary): its evidence",
                "",
                "SERVICE TYPE RANK REGIONS",
                "www.example.test. address latency",
                "",
                "files: 57 of 1024 open; 512 set aside for probes; DNS over TCP 3 of 384, API 1 of 128",
            ]
        );
    }
}
