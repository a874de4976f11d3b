//! What a service answers: `type` and the keys that belong to it, and what each type requires of endpoints.

use crate::model::{AllDown, Endpoint, Https, Member, Name, Service, ServiceKind};

use super::keys::Shape::{Integer, OneOrMany, Text};
use super::keys::{Keys, default, key, otherwise, required};
use super::scope::Scope;
use super::steering::Written;
use super::table::{At, Table, Value};

pub(super) const HTTPS: Keys = Keys {
    known: &[
        key(
            "alpn",
            OneOrMany(&Text),
            otherwise("[\"h2\"]", "HTTP/1.1 only"),
            "ALPN protocols besides HTTP/1.1",
        ),
        key("port", Integer(1, u16::MAX as u64), otherwise("8443", "443"), "port, if not 443"),
        key("priority", Integer(1, u16::MAX as u64), default("1"), "SvcPriority"),
    ],
    later: &[],
};
pub(super) const SRV: Keys = Keys {
    known: &[
        key("port", Integer(1, u16::MAX as u64), required("443"), "port of every endpoint"),
        key(
            "priority",
            Integer(0, u16::MAX as u64),
            default("0"),
            "the same for all records, as all are of one region",
        ),
    ],
    later: &[],
};
pub(super) const MX: Keys = Keys {
    known: &[key(
        "preference",
        Integer(0, u16::MAX as u64),
        default("10"),
        "the same for all records, as all are of one region",
    )],
    later: &[],
};
/// The values of `type`.
pub(super) const TYPES: [&str; 4] = {
    let [address, cname, srv, mx] = &ServiceKind::EACH;
    [address.name(), cname.name(), srv.name(), mx.name()]
};

const DEFAULT_HTTPS_PRIORITY: u16 = 1;
const DEFAULT_SRV_PRIORITY: u16 = 0;
const DEFAULT_PREFERENCE: u16 = 10;

/// Reads the type and its keys; keys of other types are rejected.
pub(super) fn read(table: &Table<'_>) -> ServiceKind {
    let options = ServiceKind::EACH.map(|kind| (kind.name(), kind));
    let kind =
        table.get("type").and_then(|value| value.choice(&options, &[])).unwrap_or(ServiceKind::ADDRESS);
    let foreign: &[&str] = match kind {
        ServiceKind::Address { .. } => &["srv", "mx"],
        ServiceKind::Cname => &["https", "srv", "mx"],
        ServiceKind::Srv { .. } => &["https", "mx"],
        ServiceKind::Mx { .. } => &["https", "srv"],
    };
    table.refuse(foreign, &format!("with type = \"{}\"", kind.name()));
    match kind {
        ServiceKind::Address { .. } => {
            ServiceKind::Address { https: table.get("https").and_then(|value| read_https(table, &value)) }
        }
        ServiceKind::Cname => ServiceKind::Cname,
        ServiceKind::Srv { .. } => read_srv(table),
        ServiceKind::Mx { .. } => {
            let mx = table.get("mx").and_then(|value| value.table(table.path("mx"), &MX));
            let preference = mx.and_then(|mx| number(&mx.get("preference")?, 0));
            ServiceKind::Mx { preference: preference.unwrap_or(DEFAULT_PREFERENCE) }
        }
    }
}

fn number(value: &Value<'_>, least: u64) -> Option<u16> {
    value.integer(least..=u64::from(u16::MAX)).map(|number| number as u16)
}

fn read_srv(table: &Table<'_>) -> ServiceKind {
    let srv = table.need("srv").and_then(|value| value.table(table.path("srv"), &SRV));
    let port = srv.as_ref().and_then(|srv| number(&srv.need("port")?, 1)).unwrap_or_default();
    let priority = srv.as_ref().and_then(|srv| number(&srv.get("priority")?, 0));
    ServiceKind::Srv { priority: priority.unwrap_or(DEFAULT_SRV_PRIORITY), port }
}

fn read_https(table: &Table<'_>, value: &Value<'_>) -> Option<Https> {
    let https = value.table(table.path("https"), &HTTPS)?;
    let mut alpn: Vec<String> = Vec::new();
    let items = https.get("alpn").and_then(|value| value.one_or_many("a list of protocols such as [\"h2\"]"));
    for item in items.unwrap_or_default() {
        // RFC 7301 §3.1: 1 to 255 bytes.
        let Some(id) = item.text("a protocol such as \"h2\"") else { continue };
        if id.is_empty() || id.len() > usize::from(u8::MAX) {
            item.fail::<()>("a protocol has 1 to 255 bytes");
        } else if alpn.iter().any(|other| other == id) {
            item.fail::<()>(format!("protocol {id:?} is listed twice"));
        }
        alpn.push(id.to_owned());
    }
    Some(Https {
        priority: https.get("priority").and_then(|it| number(&it, 1)).unwrap_or(DEFAULT_HTTPS_PRIORITY),
        alpn,
        port: https.get("port").and_then(|it| number(&it, 1)),
    })
}

/// Checks that the service has what its type requires.
pub(super) fn check(
    table: &Table<'_>,
    service: &Service,
    written: &Written,
    members: &[At<Member>],
    scope: &Scope<'_>,
) {
    for member in members {
        let region = &scope.regions[usize::from(member.value.region.0)];
        for endpoint in &region.endpoints {
            if let Some(why) = unfit(&service.kind, &service.name, endpoint) {
                let message = format!("endpoint `{}` of region `{}` {why}", endpoint.name, region.name);
                table.report.absent(member.span.clone(), message);
            }
        }
    }
    let is_address = matches!(service.kind, ServiceKind::Address { .. });
    if let Some(At { value, span }) = &written.all_down {
        let wrong = match (value, &service.kind) {
            (AllDown::Fallback(_), _) if !is_address => Some(
                "`fallback` gives addresses, but this type answers names: use { cname = \"lb.example.net\" }",
            ),
            (AllDown::Cname(target), _) if *target == service.name => {
                Some("this `cname` leads back to the service itself")
            }
            (AllDown::Cname(_), ServiceKind::Address { https: Some(_) }) => Some(
                "a CNAME cannot stand beside HTTPS (RFC 1034 §3.6.2): use { fallback = [\"203.0.113.9\"] }",
            ),
            _ => None,
        };
        if let Some(wrong) = wrong {
            table.report.error(span.clone(), wrong);
        }
    }
    if service.kind == ServiceKind::Cname && service.steering.answers > 1 {
        let message = "a CNAME leads to one name: type = \"cname\" needs `answers` = 1";
        table.report.absent(table.key_span("answers"), message);
    }
}

/// Why a service of a type cannot answer an endpoint.
fn unfit(kind: &ServiceKind, name: &Name, endpoint: &Endpoint) -> Option<String> {
    // `alias` follows the `host` of endpoints.
    if matches!(kind, ServiceKind::Address { .. }) {
        return None;
    }
    if endpoint.host() == Some(name) {
        return Some("leads back to the service itself".into());
    }
    if matches!(kind, ServiceKind::Srv { .. }) && endpoint.weight.0 > u32::from(u16::MAX) {
        return Some(format!(
            "has the weight {}; in SRV records there are at most {}",
            endpoint.weight.0,
            u16::MAX
        ));
    }
    endpoint.host().is_none().then(|| format!("has no `host`, which type = \"{}\" needs", kind.name()))
}
