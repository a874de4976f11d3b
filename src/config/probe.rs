//! `[probe.NAME]`: how an address is probed.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::PathAndQuery;
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor};

use crate::model::{
    Assertion, Expect, HttpProbe, JsonPath, JsonPathError, Kind, Probe, ProbeId, Region, Startup,
    StatusRange, Thresholds, TlsProbe,
};

use super::FileKind;
use super::keys::Shape::{Either, Fields, Integer, Json, OneOrMany, Text, Time, Words};
use super::keys::{Keys, Shape, default, key, otherwise, required};
use super::place::Names;
use super::table::{Entry, Table, Value};
use super::text;

pub(super) const PROBE: Keys = Keys {
    known: &[
        key(
            "kind",
            Words(&["tcp", "tls", "http", "https"]),
            required("\"https\""),
            "protocol: \"tcp\", \"tls\", \"http\" or \"https\"",
        ),
        key(
            "port",
            Integer(1, 65535),
            otherwise("443", "443 for tls and https, 80 for http; in a pool that of each backend"),
            "port to connect to",
        ),
        key(
            "host",
            Text,
            otherwise("\"www.example.com\"", "the address"),
            "Host header and TLS server name (SNI)",
        ),
        key("path", Text, default("\"/\""), "path and query; for http and https"),
        key(
            "expect",
            Fields(&EXPECT),
            otherwise("", "status 200-399"),
            "what a good response must look like",
        ),
        key(
            "ca",
            Text,
            otherwise("\"ca.pem\"", "those of the system"),
            "PEM file of the certificate authorities to trust; at most 4 MiB",
        ),
        key("interval", Time, default("\"5s\""), "time from one start to the next; at least 100ms"),
        key("timeout", Time, default("\"2s\""), "time limit of the whole probe; shorter than the interval"),
        key("fall", COUNT, default("3"), "failures before the verdict is down"),
        key("clear", COUNT, default("1"), "consecutive successes that reset the count of failures"),
        key("rise", COUNT, default("2"), "consecutive successes before a down target is up again"),
        key(
            "hold",
            Time,
            default("\"30s\""),
            "minimum time from the first success until a down target is up again",
        ),
        key("startup", Fields(&STARTUP), otherwise("", "none"), "grace period for a target that is starting"),
        key("slow", Time, otherwise("\"800ms\"", "never"), "successes slower than this lead to degraded"),
    ],
    later: &[],
};
const COUNT: Shape = Integer(*COUNTS.start(), *COUNTS.end());
const EXPECT: Keys = Keys {
    known: &[
        key(
            "status",
            OneOrMany(&Either(&[Integer(100, 599), Text])),
            default("[\"200-399\"]"),
            "accepted status codes: 200, \"2xx\" or \"200-399\"",
        ),
        key("body", Text, otherwise("\"ready\"", "anything"), "text that the body must contain"),
        key(
            "json",
            OneOrMany(&Fields(&JSON)),
            otherwise("[{ path = \"$.status\", equals = \"ready\" }]", "anything"),
            "values that the JSON body must contain",
        ),
    ],
    later: &[],
};
const JSON: Keys = Keys {
    known: &[
        key(
            "path",
            Text,
            required("\"$.status\""),
            "JSONPath of the value (RFC 9535); a probe fails if its paths take more than 524,288 steps on a document",
        ),
        key("equals", Json, required("\"ready\""), "expected value"),
    ],
    later: &[],
};
const STARTUP: Keys = Keys {
    known: &[key(
        "grace",
        Time,
        required("\"60s\""),
        "failures do not count before the first success, for at most this long",
    )],
    later: &["path", "timeout"],
};

const LATER_KINDS: [&str; 6] = ["grpc", "dns", "udp", "icmp", "exec", "file"];

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);
/// Shorter intervals are more likely a typo than intended.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=DAY;
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(600);
const COUNTS: RangeInclusive<u64> = 1..=1000;

const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
const DEFAULT_HOLD: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq)]
enum KindName {
    Tcp,
    Tls,
    Http,
    Https,
}

const KINDS: [(&str, KindName); 4] =
    [("tcp", KindName::Tcp), ("tls", KindName::Tls), ("http", KindName::Http), ("https", KindName::Https)];

/// Reads every `[probe.NAME]`; `None` for those with errors that leave no usable probe.
pub(super) fn read_all(names: &Names<'_>, entries: &[Entry<'_>]) -> Vec<Option<Probe>> {
    debug_assert_eq!(names.len(), entries.len());
    entries.iter().map(read).collect()
}

fn read(entry: &Entry<'_>) -> Option<Probe> {
    let before = entry.value.report.errors();
    let table = entry.value.table(format!("probe.{}", entry.name), &PROBE)?;
    let kind_name = table.need("kind").and_then(|value| value.choice(&KINDS, &LATER_KINDS));
    let port = read_port(&table, kind_name);
    let interval = table.get("interval").and_then(|value| value.duration(INTERVALS));
    let timeout = table.get("timeout").and_then(|value| value.duration(TIMEOUTS));
    let thresholds = read_thresholds(&table);
    let kind = read_kind(&table, kind_name?, port.unwrap_or_default());
    port?;
    let probe = Probe {
        name: entry.name.into(),
        kind,
        port_is_given: table.has("port"),
        interval: interval.unwrap_or(DEFAULT_INTERVAL),
        timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
        thresholds,
    };
    if probe.timeout >= probe.interval && table.report.errors() == before {
        let key = if table.get("timeout").is_some() { "timeout" } else { "interval" };
        let (timeout, interval) =
            (text::format_duration(probe.timeout), text::format_duration(probe.interval));
        table.report.warning(
            table.key_span(key),
            format!("probe `{}` may take {timeout} but runs every {interval}", entry.name),
            "probes of an address never overlap, so slow ones stretch the interval; make `timeout` shorter than `interval`",
        );
    }
    if let Some(TlsProbe { server_name: None, authorities: None }) = probe.kind.tls()
        && table.report.errors() == before
    {
        table.report.warning(
            table.key_span("kind"),
            format!(
                "probe `{}` verifies that the certificate is for the address of the endpoint",
                entry.name
            ),
            "name what the certificate is for in `host`: hardly any certificate is for an address",
        );
    }
    if let Some(slow) = probe.thresholds.slow.filter(|slow| *slow >= probe.timeout)
        && table.report.errors() == before
    {
        let (slow, timeout) = (text::format_duration(slow), text::format_duration(probe.timeout));
        table.report.warning(
            table.key_span("slow"),
            format!("`slow` = {slow} is never reached: probe `{}` fails after {timeout}", entry.name),
            "make `slow` shorter than `timeout`",
        );
    }
    Some(probe)
}

fn read_port(table: &Table<'_>, kind_name: Option<KindName>) -> Option<u16> {
    if let Some(value) = table.get("port") {
        return value.integer(1..=65535).map(|port| port as u16);
    }
    match kind_name? {
        KindName::Tls | KindName::Https => Some(443),
        KindName::Http => Some(80),
        // A bare handshake has no default port: see `need_ports`.
        KindName::Tcp => Some(0),
    }
}

/// Reports probes without a port that endpoints use: unlike the backends of pools, endpoints have none of their own.
pub(super) fn need_ports(entries: &[Entry<'_>], probes: &[Option<Probe>], regions: &[Region]) {
    let endpoints = || regions.iter().flat_map(|region| &region.endpoints);
    for (id, (entry, probe)) in (0..).map(ProbeId).zip(entries.iter().zip(probes)) {
        let has_port = probe.as_ref().is_none_or(|probe| probe.kind.port() > 0);
        if has_port || !endpoints().any(|endpoint| endpoint.healthy_when.probes().contains(&id)) {
            continue;
        }
        let message = format!("`port` is missing in `probe.{}`, which an endpoint uses", entry.name);
        entry.value.report.absent(entry.value.span.clone(), message);
    }
}

fn read_kind(table: &Table<'_>, kind_name: KindName, port: u16) -> Kind {
    match kind_name {
        KindName::Tcp => {
            table.refuse(&["host", "ca", "path", "expect"], "for kind \"tcp\"");
            Kind::Tcp { port }
        }
        KindName::Tls => {
            table.refuse(&["path", "expect"], "for kind \"tls\"");
            Kind::Tls { port, tls: read_tls(table, read_host(table)) }
        }
        KindName::Http => {
            table.refuse(&["ca"], "for kind \"http\"");
            Kind::Http { port, http: read_http(table, read_host(table).as_ref()) }
        }
        KindName::Https => {
            let host = read_host(table);
            Kind::Https { port, http: read_http(table, host.as_ref()), tls: read_tls(table, host) }
        }
    }
}

fn read_host(table: &Table<'_>) -> Option<ServerName<'static>> {
    table.get("host")?.parsed("a host name", text::host)
}

fn read_tls(table: &Table<'_>, server_name: Option<ServerName<'static>>) -> TlsProbe {
    TlsProbe { server_name, authorities: table.get("ca").and_then(|value| read_authorities(&value)) }
}

/// The trusted authorities in a PEM file, at least one.
pub(super) fn read_authorities(value: &Value<'_>) -> Option<Vec<TrustAnchor<'static>>> {
    let name = value.text("the path of a PEM file")?;
    let (path, pem) = value.report.load_named(value.span.clone(), FileKind::Pem, name)?;
    let path = path.display();
    let mut store = RootCertStore::empty();
    for (number, certificate) in (1..).zip(CertificateDer::pem_slice_iter(pem.as_bytes())) {
        let certificate = match certificate {
            Ok(certificate) => certificate,
            Err(pem::Error::MissingSectionEnd { .. }) => {
                return value.fail(format!("{path} is not a valid PEM file: its last section has no end"));
            }
            Err(error) => return value.fail(format!("{path} is not a valid PEM file: {error}")),
        };
        if let Err(error) = store.add(certificate) {
            return value.fail(format!("certificate {number} in {path} is not a valid authority: {error}"));
        }
    }
    if store.is_empty() {
        return value.fail(format!("no certificate in {path}"));
    }
    Some(store.roots)
}

fn read_http(table: &Table<'_>, host: Option<&ServerName<'_>>) -> HttpProbe {
    let path = table.get("path").and_then(|value| value.parsed("a path such as \"/health\"", request_path));
    HttpProbe {
        host: host.map(text::authority),
        path: path.unwrap_or_else(|| PathAndQuery::from_static("/")),
        expect: table
            .get("expect")
            .and_then(|value| read_expect(table, &value))
            .unwrap_or_else(default_expect),
    }
}

/// Origin form (RFC 9112 §3.2.1): path and query, visible ASCII, no fragment.
fn request_path(text: &str) -> Result<PathAndQuery, String> {
    let good = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if !(text.starts_with('/') && text.bytes().all(good)) {
        let text = text::shortened(text);
        return Err(format!("{text:?} is not a valid path: it starts with `/` and has no spaces and no `#`"));
    }
    PathAndQuery::try_from(text)
        .map_err(|error| format!("{:?} is not a valid path: {error}", text::shortened(text)))
}

fn default_expect() -> Expect {
    Expect { status: vec![StatusRange { first: 200, last: 399 }], body: None, json: Vec::new() }
}

fn read_expect(probe: &Table<'_>, value: &Value<'_>) -> Option<Expect> {
    let table = value.table(probe.path("expect"), &EXPECT)?;
    let default = default_expect();
    let status = table.get("status").and_then(|value| {
        let items = value.one_or_many("a list of statuses such as [200, \"3xx\"]")?;
        Some(items.iter().filter_map(read_status).collect())
    });
    let body = table.get("body").and_then(|value| value.text("text that the body must contain"));
    let json = table.get("json").and_then(|value| {
        let items = value.one_or_many("a list of assertions such as [{ path = \"$.ok\", equals = true }]")?;
        let name = table.path("json");
        Some(items.iter().filter_map(|item| read_assertion(item, &name)).collect())
    });
    Some(Expect {
        status: status.unwrap_or(default.status),
        body: body.map(str::to_owned),
        json: json.unwrap_or_default(),
    })
}

/// Reads 200, "2xx" or "200-399".
fn read_status(value: &Value<'_>) -> Option<StatusRange> {
    const WHAT: &str = "a status such as 200, \"2xx\" or \"200-399\"";
    let within = |status: &u16| (100..=599).contains(status);
    let (first, last) = match (value.as_integer(), value.as_text().map(str::as_bytes)) {
        (Some(number), _) => u16::try_from(number).ok().map(|status| (status, status)),
        (None, Some([class @ b'1'..=b'5', b'x', b'x'])) => {
            let first = u16::from(class - b'0') * 100;
            Some((first, first + 99))
        }
        (None, Some(_)) => value.as_text().and_then(|text| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
        }),
        (None, None) => None,
    }
    .filter(|(first, last)| within(first) && within(last) && first <= last)
    .or_else(|| value.expected(WHAT))?;
    Some(StatusRange { first, last })
}

fn read_assertion(value: &Value<'_>, name: &str) -> Option<Assertion> {
    let table = value.table(name, &JSON)?;
    let path = table.need("path").and_then(|value| {
        value.parsed("a JSONPath such as \"$.status\"", |text| {
            text.parse::<JsonPath>().map_err(|error| {
                let text = text::shortened(text);
                match error {
                    JsonPathError::Syntax => {
                        format!("{text:?} is not a valid JSONPath (RFC 9535) such as $.status")
                    }
                    JsonPathError::TooManyFilters => {
                        format!("{text:?} has more than {} filters (?)", JsonPath::MAX_FILTERS)
                    }
                    JsonPathError::ComputedPattern => {
                        format!("{text:?} takes a pattern from the document: write it as text in the path")
                    }
                    JsonPathError::Pattern(pattern) => {
                        let pattern = text::shortened(&pattern);
                        format!("{pattern:?} is not a valid regular expression (RFC 9485), or is too large")
                    }
                }
            })
        })
    });
    let equals = table.need("equals").and_then(|value| value.json());
    Some(Assertion { path: path?, equals: equals? })
}

fn read_thresholds(table: &Table<'_>) -> Thresholds {
    let count = |key| table.get(key).and_then(|value| value.integer(COUNTS)).map(|count| count as u32);
    let startup = table.get("startup").and_then(|value| {
        let startup = value.table(table.path("startup"), &STARTUP)?;
        let grace = startup.need("grace")?.duration(MS..=DAY)?;
        Some(Startup { grace })
    });
    Thresholds {
        fall: count("fall").unwrap_or(3),
        clear: count("clear").unwrap_or(1),
        rise: count("rise").unwrap_or(2),
        hold: table
            .get("hold")
            .and_then(|value| value.duration(Duration::ZERO..=DAY))
            .unwrap_or(DEFAULT_HOLD),
        startup,
        slow: table.get("slow").and_then(|value| value.duration(MS..=DAY)),
    }
}
