//! `backend` of a pool: where requests are served.

use std::net::{IpAddr, SocketAddr};

use crate::model::{Backend, BackendReach, Weight};

use super::super::keys::Shape::{Boolean, Integer, Text};
use super::super::keys::{Keys, default, key, required};
use super::super::region::read_weight;
use super::super::table::{Table, Value};
use super::super::text;

pub(super) const BACKEND: Keys = Keys {
    known: &[
        key(
            "address",
            Text,
            required("\"10.0.0.1:8080\""),
            "ADDRESS:PORT; or HOST:PORT, for the addresses that resolvers report, which are public or in [node] private_networks",
        ),
        key(
            "weight",
            Integer(0, Weight::MAX.0 as u64),
            default("1"),
            "weight within the pool; 0: only if all weights are 0",
        ),
        key("backup", Boolean, default("false"), "whether it serves only while no other backend does"),
    ],
    later: &[],
};

/// Each is probed, and has connections and counters of its own.
pub(super) const MOST_BACKENDS: usize = 1024;

/// Reads the backends of a pool.
pub(super) fn read_all(pool: &Table<'_>) -> Vec<Backend> {
    let Some(value) = pool.get("backend") else {
        if !pool.has("discover") {
            pool.report.absent(pool.span.clone(), "a pool needs `backend`, `discover` or both");
        }
        return Vec::new();
    };
    let items = value.items("a list of backends such as [\"10.0.0.1:8080\"]").unwrap_or_default();
    if items.len() > MOST_BACKENDS {
        value.fail::<()>(format!("at most {MOST_BACKENDS} backends, found {}", items.len()));
    }
    let mut backends: Vec<Backend> = Vec::new();
    for item in &items {
        let Some(backend) = read(item, pool) else { continue };
        if backends.iter().any(|other| other.name == backend.name) {
            item.fail::<()>(format!("backend `{}` is listed twice", backend.name));
        }
        backends.push(backend);
    }
    backends
}

/// Reads a table, or "10.0.0.1:8080" as short for { address = "10.0.0.1:8080" }.
fn read(item: &Value<'_>, pool: &Table<'_>) -> Option<Backend> {
    const WHAT: &str = "an address such as \"10.0.0.1:8080\"";
    if !item.is_table() {
        return item.parsed(WHAT, place).map(|place| backend(item, place, Weight(1), false));
    }
    let table = item.table(pool.path("backend"), &BACKEND)?;
    let address = table.need("address");
    let place = address.as_ref().and_then(|value| value.parsed(WHAT, place));
    let weight = table.get("weight").and_then(|value| read_weight(&value)).unwrap_or(Weight(1));
    let backup = table.get("backup").and_then(|value| value.boolean()).unwrap_or(false);
    Some(backend(&address?, place?, weight, backup))
}

pub(super) fn backend(
    at: &Value<'_>,
    (reach, port): (BackendReach, u16),
    weight: Weight,
    backup: bool,
) -> Backend {
    let name = match &reach {
        BackendReach::Address(address) => SocketAddr::new(*address, port).to_string(),
        BackendReach::Resolved(host) => {
            at.report.host(at.span.clone(), host);
            format!("{}:{port}", host.to_string().trim_end_matches('.').to_ascii_lowercase())
        }
    };
    Backend { name, reach, port, weight, backup }
}

/// Parses `ADDRESS:PORT` or `HOST:PORT`.
pub(in super::super) fn place(written: &str) -> Result<(BackendReach, u16), String> {
    if let Ok(address) = written.parse::<SocketAddr>() {
        let ip = text::destination(&address.ip().to_string())?;
        return match address.port() {
            0 => Err(format!("{written} has port 0, which cannot be connected to")),
            port => Ok((BackendReach::Address(ip), port)),
        };
    }
    let shown = text::shortened(written);
    let error = |hint: &str| Err(format!("{shown:?} is not an address or host with a port{hint}"));
    if let Some((scheme, rest)) = written.split_once("://") {
        return error(&format!("; leave {scheme}:// out: write {:?}", text::shortened(rest)));
    }
    if let Ok(address) = written.parse::<IpAddr>() {
        return error(&format!("; write \"{}\" with the port you mean", SocketAddr::new(address, 80)));
    }
    let Some((host, port)) = written.rsplit_once(':') else { return error("; write HOST:PORT") };
    let Some(port) = port.parse::<u16>().ok().filter(|port| *port > 0) else {
        return error("; a port is a number from 1 to 65535");
    };
    if host.contains([':', '[', '/']) {
        return error("; an IPv6 address needs brackets");
    }
    if host.eq_ignore_ascii_case("localhost") {
        return error(&format!("; write \"127.0.0.1:{port}\" or \"[::1]:{port}\""));
    }
    // No top-level domain is a number: "10.0.0" is an address with a part missing.
    let is_number = |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit());
    if host.trim_end_matches('.').rsplit('.').next().is_some_and(is_number) {
        return Err(format!("{:?} is not a valid IP address", text::shortened(host)));
    }
    Ok((BackendReach::Resolved(text::target(host)?), port))
}
