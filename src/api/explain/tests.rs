//! What the proxy does with a request, explained for listeners and backends in all their states.

use std::sync::Arc;

use super::*;
use crate::health::{CannotProbe, Failure, Observation, ProbeResult, Severity};
use crate::model::{Fraction, Mono, Now, Rules};
use crate::prepare::{Origin, prepare, world};
use crate::state::{OverrideRequest, SavedState, State as NodeState};

const NOW: Now = Now { mono: Mono(Duration::from_secs(60)), unix: Unix(Duration::from_secs(1_800_000_000)) };

const LISTENERS: &str = r#"
[proxy.listener.admin]
listen = "127.0.0.1:9000"
pool = "api"
[proxy.listener.db]
listen = ["127.0.0.1:3306", "127.0.0.2:8080"]
protocol = "tcp"
pool = "api"
[proxy.listener.web]
listen = ["127.0.0.1:80", "127.0.0.1:8080"]
route = [{ host = "www.example.com", path = "/v1/", method = ["GET", "POST"], header = { x-canary = "1" }, cookie = { s = true }, query = { v = { regex = "^1" } }, pool = "api" }]
[proxy.listener.web2]
listen = "127.0.0.2:80"
pool = "api"
"#;

/// `pool` holds the keys of the pool `api`; `rest` has the listeners.
fn node(pool: &str, rest: &str) -> (Snapshot, NodeState) {
    let geo = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/mmdb/GeoIP2-City-Test.mmdb");
    let toml = format!(
        "version = 1\n[geo]\ndatabase = [\"{geo}\"]\n[probe.p]\nkind = \"tcp\"\nfall = 2\nrise = 1\nhold = \"0s\"\n\
         slow = \"100ms\"\n[proxy.pool.api]\nprobe = [\"p\"]\n{pool}\n{rest}"
    );
    let origin = Origin::Text { toml: toml.into(), files: <_>::default() };
    let plan = prepare(&origin).unwrap_or_else(|e| panic!("{e}")).plan;
    let state = NodeState::new(world(&plan, Rules::default()), SavedState::default(), NOW);
    let standing = Arc::clone(state.standing());
    (Snapshot { plan, standing, challenges: <_>::default(), epoch: 7 }, state)
}

fn ask(url: &str, headers: &[&str], listener: Option<&str>) -> RequestQuestion {
    let headers: Vec<String> = headers.iter().map(|it| (*it).to_owned()).collect();
    RequestQuestion::parse(url, None, &headers, "10.1.2.3", listener).expect("a question")
}

#[test]
fn the_listener_is_that_of_the_scheme_and_the_port() {
    let (snapshot, _) = node("backend = [\"10.0.0.1:80\"]", LISTENERS);
    let none = |what| format!("no listener takes {what}, the URL's: explained as if the request came here");
    for (url, named, expected, note) in [
        ("http://a:9000/", None, "admin", None),
        ("http://a:3306/", None, "db", None),
        ("https://a:3306/", None, "db", None),
        ("http://a/", None, "web", Some("port 80 is also that of `web2`".into())),
        ("http://a:8080/", None, "web", Some("port 8080 is also that of `db`".into())),
        ("https://a:8080/", None, "db", None),
        ("https://a/", None, "admin", Some(none("https at port 443"))),
        ("http://a:81/", None, "admin", Some(none("http at port 81"))),
        (
            "http://a:81/",
            Some("web2"),
            "web2",
            Some("it does not listen for http at port 81, the URL's".into()),
        ),
        ("http://a/", Some("web2"), "web2", None),
    ] {
        let explained = explain_request(&snapshot, &[], &[], &ask(url, &[], named)).expect("a listener");
        assert_eq!((&*explained.listener.name, explained.listener.note), (expected, note), "{url} {named:?}");
    }
    let unknown = explain_request(&snapshot, &[], &[], &ask("http://a/", &[], Some("x"))).unwrap_err();
    let why = "there is no listener `x`: the config has `admin`, `db`, `web` and `web2`";
    assert_eq!((unknown.status, &*unknown.detail), (404, why));
}

#[test]
fn what_cannot_be_asked_is_refused_with_a_sentence() {
    for (url, method, header, client, why) in [
        ("www.example.com", "GET", "a: b", "10.0.0.1", "`www.example.com` is not a valid URL"),
        ("ftp://a/", "GET", "a: b", "10.0.0.1", "`ftp://a/` is not a valid URL"),
        ("http:///x", "GET", "a: b", "10.0.0.1", "`http:///x` is not a valid URL"),
        ("http://u@a/", "GET", "a: b", "10.0.0.1", "must not contain user information"),
        ("http://a/", "CONNECT", "a: b", "10.0.0.1", "it refuses CONNECT"),
        ("http://a/", "G T", "a: b", "10.0.0.1", "`G T` is not a valid method"),
        ("http://a/", "GET", "a", "10.0.0.1", "`a` is not a valid header: write it as 'x-canary: 1'"),
        ("http://a/", "GET", "a b: c", "10.0.0.1", "`a b: c` is not a valid header"),
        ("http://a/", "GET", "host: a b", "10.0.0.1", "`a b` is not a valid host"),
        ("http://a/", "GET", "host: u@a", "10.0.0.1", "must not contain user information"),
        ("http://a/", "GET", "a: b", "nobody", "`nobody` is not a valid IP address"),
    ] {
        let refused = RequestQuestion::parse(url, Some(method), &[header.into()], client, None).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    let twice = ["host: a".to_owned(), "Host: b".to_owned()];
    assert!(RequestQuestion::parse("http://a/", None, &twice, "10.0.0.1", None).is_err());
    let (snapshot, _) = node(
        "backend = [\"10.0.0.1:80\"]",
        "[proxy.listener.web]\nlisten = \"127.0.0.1:80\"\npool = \"api\"",
    );
    let without = Snapshot { plan: <_>::default(), standing: <_>::default(), ..snapshot };
    let refused = explain_request(&without, &[], &[], &ask("http://a/", &[], None)).unwrap_err();
    assert_eq!(
        (refused.status, &*refused.detail),
        (404, "no proxy is configured here: there is no [proxy.listener.NAME]")
    );
}

#[test]
fn conditions_are_named_where_they_fail_and_where_they_hold() {
    let (snapshot, _) = node("backend = [\"10.0.0.1:80\"]", LISTENERS);
    let explained = |url, headers: &[&str]| {
        explain_request(&snapshot, &[], &[], &ask(url, headers, Some("web"))).expect("a listener")
    };
    let matching = explained("http://www.example.com/v1/x?v=12", &["x-canary: 1", "cookie: s=9"]);
    assert_eq!(
        matching.route.expect("it matches").conditions,
        "host www.example.com, path /v1/, method GET or POST, header x-canary 1, cookie s, query parameter v \
         matching ^1"
    );
    // The header is the host that the request names, whatever the URL says.
    let elsewhere = explained("http://www.example.com/v1/x?v=12", &["host: b.example.com:81"]);
    assert_eq!((&elsewhere.route, &elsewhere.outcome), (&None, &dto::RequestOutcome::Unrouted));
    let skipped: Vec<_> = elsewhere.skipped.iter().map(|it| (it.number, it.condition, &*it.why)).collect();
    let why = "its host is www.example.com, not b.example.com";
    assert_eq!(skipped, [(1, dto::RouteCondition::Host, why)]);
    let cookie = explained("http://www.example.com/v1/x?v=12", &["x-canary: 1"]);
    assert_eq!(cookie.skipped[0].condition, dto::RouteCondition::Cookie);
}

/// What a probe of the backend at this address finds.
type Found<'a> = &'a dyn Fn(IpAddr) -> Option<Observation>;

fn result(millis: u64, failure: Option<&str>) -> Option<Observation> {
    let failure = failure.map(|reason| Failure { severity: Severity::Hard, reason: reason.into() });
    Some(Observation::Probe(ProbeResult { took: Duration::from_millis(millis), rtt: None, failure }))
}

/// The name of each backend, whether it is used, and its note.
fn backends(pool: &str, found: Found<'_>, overrides: &[(&str, Action)]) -> (dto::RequestPool, Vec<String>) {
    let (snapshot, mut state) = node(pool, "[proxy.listener.web]\nlisten = \"127.0.0.1:80\"\npool = \"api\"");
    for _ in 0..2 {
        let wanted: Vec<_> = state.checks_to_run().map(|it| (it.id, it.generation)).collect();
        for (id, generation) in wanted {
            let Subject::Backend { address, .. } = id.subject else { panic!("{id}") };
            let Some(seen) = found(address) else { continue };
            let seen: Result<Observation, CannotProbe> = Ok(seen);
            state.observe(&id, generation, seen.as_ref(), NOW);
        }
    }
    for (backend, action) in overrides {
        let request = OverrideRequest {
            target: format!("pool/api/{backend}").parse().expect("a target"),
            action: *action,
            lasts: None,
            reason: Some("new kernel".into()),
            override_safety: true,
            by: "token ci".into(),
        };
        state.set_override(request, NOW).expect("accepted");
    }
    state.recompute(NOW);
    let snapshot = Snapshot { standing: Arc::clone(state.standing()), ..snapshot };
    let asked = ask("http://a/", &[], None);
    let explained = explain_request(&snapshot, &state.checks(NOW), state.overrides(), &asked);
    let dto::RequestOutcome::Forward { pool, .. } = explained.expect("a listener").outcome else {
        panic!("it is forwarded")
    };
    let line = |it: &dto::RequestBackend| {
        let is_candidate = pool.candidates.iter().any(|candidate| candidate.backend == it.name);
        assert_eq!(is_candidate, it.used, "{it:?}");
        format!("{} {}: {}", it.name, if it.used { "used" } else { "not used" }, it.note)
    };
    let lines = pool.backends.iter().map(line).collect();
    (*pool, lines)
}

const SIX: &str = r#"balance = "weighted"
backend = [
  "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", { address = "10.0.0.4:80", weight = 0 },
  { address = "10.0.0.5:80", backup = true }, "www.example.com:80",
]"#;

fn last(address: IpAddr) -> u8 {
    let IpAddr::V4(v4) = address else { panic!("{address}") };
    v4.octets()[3]
}

#[test]
fn backends_that_are_not_used_say_why() {
    let found = |address| match last(address) {
        2 => result(1, Some("connection refused")),
        3 => None,
        _ => result(1, None),
    };
    let (pool, lines) = backends(SIX, &found, &[]);
    assert_eq!(
        lines,
        [
            "10.0.0.1:80 used: ",
            "10.0.0.2:80 not used: 2 consecutive failures: connection refused",
            "10.0.0.3:80 not used: not probed yet, and others are known to be up",
            "10.0.0.4:80 not used: weight 0",
            "10.0.0.5:80 not used: a backup, and others are in use",
            "www.example.com:80 not used: the addresses of www.example.com. are not known yet",
        ]
    );
    assert_eq!(
        (pool.chosen.map(|it| it.address.to_string()), &*pool.how),
        (Some("10.0.0.1:80".into()), "the only one in use")
    );
}

#[test]
fn overrides_are_cited() {
    let up = |_| result(1, None);
    let quarter = Action::Drain(Fraction::parse("25%").expect("a share"));
    let overrides = [
        ("10.0.0.1:80", Action::DRAIN),
        ("10.0.0.2:80", Action::Down),
        ("10.0.0.3:80", quarter),
        ("10.0.0.4:80", Action::Up),
    ];
    let (pool, lines) = backends(SIX, &up, &overrides);
    assert_eq!(
        &lines[..4],
        [
            "10.0.0.1:80 not used: drained by an operator: override 1 by token ci (new kernel)",
            "10.0.0.2:80 not used: forced down by an operator: override 2 by token ci (new kernel)",
            "10.0.0.3:80 used: a drain takes 25% of its weight: override 3 by token ci (new kernel)",
            "10.0.0.4:80 not used: weight 0",
        ]
    );
    assert_eq!(pool.backends[0].overridden.as_ref().map(|it| it.id), Some(1));
    let down = |_| result(1, Some("connection refused"));
    let (_, lines) = backends(SIX, &down, &[("10.0.0.1:80", Action::Up)]);
    assert_eq!(lines[0], "10.0.0.1:80 used: forced up by an operator: override 1 by token ci (new kernel)");
}

#[test]
fn what_serves_for_want_of_better_says_so() {
    let (pool, lines) = backends(SIX, &|_| None, &[]);
    assert_eq!(lines[0], "10.0.0.1:80 used: not probed yet, and nothing is known to be up");
    assert_eq!(lines[4], "10.0.0.5:80 not used: a backup, and others are in use");
    assert_eq!((pool.chosen, &*pool.how), (None, "they take turns by their weights"));
    let backup_is_up = |address| (last(address) == 5).then(|| result(1, None)).flatten();
    let (_, lines) = backends(SIX, &backup_is_up, &[]);
    assert_eq!(lines[0], "10.0.0.1:80 not used: not probed yet, and others are known to be up");
    assert_eq!(lines[4], "10.0.0.5:80 used: a backup: nothing else can be used");
    let slow = |_| result(500, None);
    let (_, lines) = backends(SIX, &slow, &[]);
    assert!(lines[0].starts_with("10.0.0.1:80 used: degraded, at half its weight: "), "{lines:?}");
    let down = |_| result(1, Some("connection refused"));
    let (pool, _) = backends(SIX, &down, &[]);
    assert_eq!((pool.candidates.len(), pool.chosen), (0, None));
    assert_eq!(pool.how, "no backend can be used: the client gets 503");
}

#[test]
fn the_check_that_decides_about_a_region_is_cited() {
    let hard = Some(Severity::Hard);
    let (fast, slow) = (Duration::from_millis(1), Duration::from_secs(1));
    let (good, bad, tardy) = ((None, fast), (hard, fast), (None, slow));
    let refused = "2 consecutive failures: refused";
    for (keys, found, drained, expected) in [
        ("", [good, good, good], None, None),
        // One of the two is enough, so the one that is down does not decide.
        ("", [tardy, bad, good], None, Some(("lb1", "slower than 100ms: 1s"))),
        ("", [bad, good, good], None, Some(("lb1", refused))),
        ("", [bad, bad, good], None, Some(("lb2", refused))),
        ("healthy_when = \"all\"", [tardy, bad, good], None, Some(("lb2", refused))),
        ("healthy_when = \"all\"", [tardy, bad, good], Some("lb2"), Some(("lb1", "slower than 100ms: 1s"))),
        ("require = [\"region/us\"]", [good, good, bad], None, Some(("lb3", refused))),
        ("require = [\"region/us\"]", [bad, good, tardy], None, Some(("lb3", "slower than 100ms: 1s"))),
    ] {
        let endpoint = |number: u8| {
            format!("{{ name = \"lb{number}\", address = \"10.0.0.{number}\", probe = [\"p\"] }}")
        };
        let regions = format!(
            "backend = [\"10.0.0.9:80\"]\n[region.eu]\n{keys}\nendpoint = [{}, {}]\n[region.us]\nendpoint = [{}]\n",
            endpoint(1),
            endpoint(2),
            endpoint(3)
        );
        let (snapshot, mut state) =
            node(&regions.replace("probe = [\"p\"]", "probe = [\"e\"]"), ENDPOINT_PROBE);
        // As often as `fall` says.
        for _ in 0..2 {
            let wanted: Vec<_> = state.checks_to_run().map(|it| (it.id, it.generation)).collect();
            for (id, generation) in wanted {
                let Subject::Address { address: IpAddr::V4(address), .. } = id.subject else { continue };
                let (severity, took) = found[usize::from(address.octets()[3]) - 1];
                let failure = severity.map(|severity| Failure { severity, reason: "refused".into() });
                let seen: Result<Observation, CannotProbe> =
                    Ok(Observation::Probe(ProbeResult { took, rtt: None, failure }));
                state.observe(&id, generation, seen.as_ref(), NOW);
            }
        }
        state.recompute(NOW);
        if let Some(endpoint) = drained {
            let request = OverrideRequest {
                target: format!("endpoint/eu/{endpoint}").parse().expect("a target"),
                action: Action::DRAIN,
                lasts: None,
                reason: None,
                override_safety: true,
                by: "token ci".into(),
            };
            state.set_override(request, NOW).expect("accepted");
        }
        let checks = state.checks(NOW);
        let topology = &snapshot.plan.topology;
        let eu = topology.region_named("eu").expect("it is there");
        let cited = Evidence::of(&checks).of_region(topology, state.standing(), eu).map(|check| {
            let Subject::Address { endpoint, .. } = &check.id.subject else { panic!("{}", check.id) };
            (endpoint.to_string(), check.to_string())
        });
        let cited = cited.as_ref().map(|(endpoint, evidence)| (&**endpoint, &**evidence));
        assert_eq!(cited, expected, "{keys} {found:?} {drained:?}");
    }
}

const ENDPOINT_PROBE: &str =
    "[probe.e]\nkind = \"tcp\"\nport = 80\nfall = 2\nrise = 1\nhold = \"0s\"\nslow = \"100ms\"\n";
