//! `portolan status`

use std::process::ExitCode;

use anyhow::Result;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

use super::client::Client;
use crate::api::dto;

pub(super) fn run(client: &Client, json: bool) -> Result<ExitCode> {
    let status = client.status()?;
    if json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print(&status);
    }
    Ok(ExitCode::SUCCESS)
}

/// A table with plain columns and a head in capitals, as other tools of the field print them.
pub(super) fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(head);
    table
}

fn print(status: &dto::Status) {
    let node = &status.node;
    let ready = if node.ready { "ready" } else { "not ready" };
    println!("{} {}, {ready}, epoch {}, up {} s", node.name, node.version, node.epoch, node.uptime_s);
    for alarm in &status.alarms {
        println!("ALARM {alarm}");
    }
    println!();
    let mut regions = table(&["REGION", "ENDPOINT", "ADDRESS", "VERDICT", "RTT", "EVIDENCE"]);
    for region in &status.regions {
        regions.add_row([&region.name, "", "", &verdict(region), "", &notes(region)]);
        for endpoint in &region.endpoints {
            let word = endpoint.overridden.as_ref().map(|o| format!("{}: ", said(o))).unwrap_or_default();
            for address in &endpoint.addresses {
                let rtt = address.rtt_ms.map(|ms| format!("{ms:.1} ms")).unwrap_or_default();
                regions.add_row([
                    "",
                    &endpoint.name,
                    &address.address.to_string(),
                    &address.verdict,
                    &rtt,
                    &format!("{word}{}", address.evidence),
                ]);
            }
        }
    }
    println!("{regions}\n");
    let mut services = table(&["SERVICE", "RANK", "REGIONS"]);
    for service in &status.services {
        let regions: Vec<String> = service.regions.iter().map(member).collect();
        services.add_row([&service.name, &service.rank, &regions.join(", ")]);
    }
    println!("{services}");
}

fn verdict(region: &dto::Region) -> String {
    match region.usable.as_str() {
        "no" if region.held.is_none() && region.verdict != "down" => format!("{}, withdrawn", region.verdict),
        _ => region.verdict.clone(),
    }
}

fn notes(region: &dto::Region) -> String {
    let held = region.held.as_ref().map(|rule| format!("held: {rule}"));
    let word = region.overridden.as_ref().map(said);
    held.into_iter().chain(word).collect::<Vec<_>>().join("; ")
}

fn said(o: &dto::Override) -> String {
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

fn member(region: &dto::ServiceRegion) -> String {
    let mut text = region.name.clone();
    if region.weight != 1 {
        text += &format!(" ×{}", region.weight);
    }
    match (region.usable.as_str(), &region.held) {
        (_, Some(rule)) => text += &format!(" [held: {rule}]"),
        ("yes", None) => {}
        ("no", None) => text += " [withdrawn]",
        (other, None) => text += &format!(" [{other}]"),
    }
    text
}
