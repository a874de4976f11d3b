//! The control API: what it reports, that explain agrees with DNS, and how it refuses bad requests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use portolan::engine::Engine;
use portolan::journal::Opened;
use portolan::net::limits::{FdBudget, Serving};
use portolan::prepare::{Origin, prepare};
use portolan::supervise::Supervisor;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::harness::binary::Served;
use crate::harness::client::{outcome, scope, typed, with_id};
use crate::harness::folder::Folder;
use crate::harness::http::{Api, named};
use crate::harness::node::TestNode;
use crate::harness::region::{Break, GERMAN, NEAREST, Region, Three};
use crate::harness::{Numbers, PATIENCE, me, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_and_metrics_show_the_shares_of_open_files_and_what_is_in_use() {
    let node = TestNode::with("").await;
    let clients =
        [TcpStream::connect(node.dns).await, TcpStream::connect(node.dns).await].map(Result::unwrap);
    let files = until("both are accepted", async || {
        let files = node.api.get("/v1/status").await["files"].clone();
        (files["dns_tcp"]["open"] == 2).then_some(files)
    })
    .await;
    let budget = FdBudget::of(files["limit"].as_u64().expect("a limit"), Serving::Dns);
    assert_eq!(
        (&files["reserved"], &files["dns_tcp"]["limit"], &files["api"]["limit"]),
        (&json!(budget.reserved), &json!(budget.dns_tcp), &json!(budget.api))
    );
    let scrape = node.api.request(Method::GET, "/metrics").send().await.expect("an answer");
    let scrape = scrape.text().await.expect("text");
    let shown = |sample: &str| {
        let value = scrape.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {sample} in {scrape}")).parse::<u64>().expect("a number")
    };
    assert_eq!(shown("portolan_connections{listener=\"dns_tcp\"}"), 2);
    assert_eq!(shown("portolan_connections_limit{listener=\"dns_tcp\"}"), budget.dns_tcp as u64);
    assert!(shown("portolan_connections{listener=\"api\"}") >= 1);
    let open = shown("portolan_open_files");
    assert!((8..shown("portolan_open_files_limit")).contains(&open), "{open}");
    drop(clients);
    until("both are closed", async || {
        (node.api.get("/v1/status").await["files"]["dns_tcp"]["open"] == 0).then_some(())
    })
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_lists_every_region_address_and_service() {
    let three = Three::start();
    let node = TestNode::with(&[three.config(&[]), NEAREST.into()].concat()).await;
    let status = node.api.get("/v1/status").await;
    let about = &status["node"];
    assert_eq!((&about["name"], &about["ready"]), (&json!("test"), &json!(true)));
    assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
    assert!(about["epoch"].as_u64() > Some(0) && about["uptime_s"].is_u64(), "{about}");
    assert_eq!(status["alarms"], json!([]));

    let names: Vec<_> = status["regions"].as_array().expect("a list").iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["ap", "eu", "us"]);
    for region in [&three.eu, &three.us, &three.ap] {
        let found = named(&status["regions"], region.name);
        let summary = (&found["verdict"], &found["usable"], &found["held"], &found["override"]);
        assert_eq!(summary, (&json!("up"), &json!("yes"), &Value::Null, &Value::Null));
        let address = &found["endpoints"][0]["addresses"][0];
        assert_eq!(address["address"], json!(region.ip()));
        assert_eq!((&address["verdict"], &address["probes"][0]["name"]), (&json!("up"), &json!(region.name)));
        assert!(address["rtt_ms"].as_f64() > Some(0.0) && address["last_probe_s"].is_f64(), "{address}");
        for moment in [&found["since"], &address["since"]] {
            moment.as_str().expect("a text").parse::<jiff::Timestamp>().expect("RFC 3339");
        }
    }
    let service = &status["services"][0];
    assert_eq!((&service["name"], &service["rank"]), (&json!("www.example.test."), &json!("distance")));
    let members: Vec<_> =
        service["regions"].as_array().expect("a list").iter().map(|member| &member["name"]).collect();
    assert_eq!(members, ["eu", "us", "ap"], "in the config's order");

    let over_tcp = Api::tcp(node.control());
    assert_eq!(over_tcp.get("/v1/services").await, status["services"]);
    let regions = over_tcp.get("/v1/regions").await;
    assert_eq!(named(&regions, "eu")["endpoints"][0]["name"], "lb1");
    assert_eq!(over_tcp.text("/livez").await, "ok\n");
    assert_eq!(over_tcp.text("/readyz").await, "ok\n");
    node.stop().await;
}

const WIDE: &str = "\
[region.one]\nlocation = { country = \"IE\", lat = 53.35, lon = -6.26 }
endpoint = [{ name = \"a\", address = [\"192.0.2.1\", \"2001:db8::1\"] }, { name = \"b\", address = \"192.0.2.11\" }]
[region.two]\nlocation = { country = \"US\", lat = 38.95, lon = -77.45 }
endpoint = [{ name = \"a\", address = \"192.0.2.2\" }, { name = \"b\", address = \"192.0.2.12\" }]
[region.three]\nlocation = { country = \"SG\", lat = 1.35, lon = 103.8 }
endpoint = [{ name = \"a\", address = \"192.0.2.3\" }]
[policy.usual]\nttl = \"2147483647s\"
[[service]]\nname = \"www.example.test.\"\npolicy = \"usual\"\nregions = [\"one\", \"two\", \"three\"]\nrank = \"distance\"
[[service]]\nname = \"shared.example.test.\"\npolicy = \"usual\"\nregions = [\"one\", \"two\", \"three\"]\nrank = \"none\"
answers = 2
[[service]]\nname = \"geo.example.test.\"\npolicy = \"usual\"\nregions = [\"one\", \"two\", \"three\"]\nrank = \"geo\"
geo = { \"continent:EU\" = [\"one\"], \"country:US\" = [\"two\"], \"*\" = [\"three\"] }
fence = [{ region = \"one\", except = [\"country:GB\"] }]
";

const NAMES: [&str; 6] = [
    "www.example.test.",
    "shared.example.test.",
    "geo.example.test.",
    "alias.example.test.",
    "static.example.test.",
    "nothing.example.test.",
];

/// Records in the syntax of zone files.
fn records(reply: &Message) -> Vec<String> {
    reply.answers.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_agrees_with_dns_answers() {
    let node = TestNode::with(WIDE).await;
    node.api.override_with(json!({"target": "region/two", "action": "drain", "share": "40%"})).await;
    let mut client = node.client().await;
    let mut numbers = Numbers(11);
    let mut answered = 0;
    for turn in 0..420 {
        let name = NAMES[turn % NAMES.len()];
        let random = numbers.next();
        let (from, bits): (IpAddr, u8) = match turn % 4 {
            0 => (Ipv4Addr::from_bits(0x0a01_0000 | (random as u32 & 0x3_ffff)).into(), 32),
            1 => (Ipv6Addr::from_bits(0x2a00 << 112 | u128::from(random) << 48).into(), 128),
            _ => (Ipv4Addr::from_bits(random as u32).into(), 32),
        };
        let rtype = if turn % 5 == 0 { RecordType::AAAA } else { RecordType::A };
        let reply = client.exchange(&typed(name, rtype, Some(&format!("{from}/{bits}")))).await;
        let explained = node.api.get(&format!("/v1/explain?name={name}&type={rtype}&client={from}")).await;
        let about = format!("{name} {rtype} for {from}: {explained}");
        assert_eq!(explained["answer"]["records"], json!(records(&reply)), "{about}");
        assert_eq!(explained["scope"], json!(scope(&reply)), "{about}");
        let negative = reply.authorities.iter().map(|it| it.ttl).min();
        let ttl = reply.answers.iter().map(|it| it.ttl).min().or(negative);
        assert_eq!(explained["answer"]["ttl"], json!(ttl), "{about}");
        let code = format!("{:?}", reply.metadata.response_code).to_uppercase();
        assert_eq!(explained["answer"]["rcode"], code, "{about}");
        if let (Some(last), Some(region)) = (outcome(&reply).1.last(), explained["region"].as_str()) {
            let number = last.to_string();
            let wanted =
                [("one", "1"), ("two", "2"), ("three", "3")].iter().find(|(name, _)| *name == region);
            assert!(number.ends_with(wanted.expect("a region").1), "{about}");
            let kept = explained["stages"].as_array().expect("a list").last().expect("share")["kept"].clone();
            assert_eq!(kept[0]["region"], region, "{about}");
            answered += 1;
        }
    }
    assert!(answered > 200, "only {answered} answers came from regions");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_a_list_and_a_stream_that_resumes_where_it_ended() {
    let node = TestNode::with(WIDE).await;
    let one = node.api.override_with(json!({"target": "region/one", "action": "drain"})).await;
    node.api.restore(one).await;
    let list = node.api.get("/v1/events").await;
    let list = list.as_array().expect("a list").as_slice();
    let kinds: Vec<_> = list.iter().map(|event| &event["event"]).collect();
    assert_eq!(kinds, ["node_started", "override", "restore"]);

    let stream = |after: Option<&str>| {
        let request = node.api.request(Method::GET, "/v1/events").header("accept", "text/event-stream");
        match after {
            Some(id) => request.header("last-event-id", id),
            None => request,
        }
    };
    let mut whole = Stream::of(stream(None)).await;
    let mut rest = Stream::of(stream(list[1]["id"].to_string().as_str().into())).await;
    for event in list {
        assert_eq!(whole.next().await, *event);
    }
    assert_eq!(rest.next().await, list[2], "events already seen are not repeated");
    node.api.override_with(json!({"target": "region/two", "action": "down", "reason": "flood"})).await;
    for stream in [&mut whole, &mut rest] {
        let event = stream.next().await;
        let fields = json!({"number": "2", "target": "region/two", "action": "down", "share": "100%", "reason": "flood", "by": me()});
        assert_eq!(event["fields"], fields);
        assert_eq!(event["id"].as_u64(), list[2]["id"].as_u64().map(|id| id + 1));
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_reconnects_after_a_restart_misses_nothing() {
    let node = TestNode::with(WIDE).await;
    for target in ["region/one", "region/two", "region/three"] {
        node.api.override_with(json!({"target": target, "action": "up"})).await;
    }
    let events = node.api.get("/v1/events").await;
    let events = events.as_array().expect("a list").as_slice();
    let last = &events[3]["id"];

    let node = node.restart().await;
    node.api.override_with(json!({"target": "region/one", "action": "drain"})).await;
    let kept = node.api.get("/v1/events").await;
    let kept = kept.as_array().expect("a list").as_slice();
    assert_eq!(&kept[..4], events, "those of the run before");
    assert!(kept[4]["id"].as_u64() > last.as_u64(), "{} after {last}", kept[4]);
    let stream = async |seen: &str| {
        let request = node.api.request(Method::GET, "/v1/events").header("accept", "text/event-stream");
        Stream::of(request.header("last-event-id", seen)).await
    };
    // The second id is from a node whose clock has been set back since.
    for (seen, expected) in [(&*last.to_string(), &kept[4..]), (&u64::MAX.to_string(), kept)] {
        let mut stream = stream(seen).await;
        for event in expected {
            assert_eq!(stream.next().await, *event);
        }
    }
    let mut late = stream("1").await;
    let missed = late.next().await;
    assert_eq!(
        (&missed["event"], missed["id"].as_u64()),
        (&json!("missed"), events[0]["id"].as_u64().map(|id| id - 1))
    );
    assert_eq!(late.next().await, kept[0]);
    node.stop().await;
}

/// A reader of server-sent events.
struct Stream {
    response: reqwest::Response,
    text: String,
}

impl Stream {
    async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The data of the next event; its id and name must match the SSE fields.
    async fn next(&mut self) -> Value {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                let data: Value = serde_json::from_str(field("data: ").expect("data")).expect("JSON");
                assert_eq!(field("id: "), Some(&*data["id"].to_string()));
                assert_eq!(field("event: "), data["event"].as_str());
                self.text = rest.to_owned();
                return data;
            }
            let chunk =
                tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("an event in time");
            let chunk = chunk.expect("an open stream").expect("more of it");
            self.text += std::str::from_utf8(&chunk).expect("UTF-8");
        }
    }
}

/// Samples as (name, labels, value); every line must be valid OpenMetrics.
fn parsed(text: &str) -> Vec<(String, String, f64)> {
    assert!(text.ends_with("\n# EOF\n"), "the end is marked");
    let mut families = Vec::new();
    let mut samples = Vec::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("TYPE"), Some(name), Some("counter" | "gauge" | "histogram")) => {
                    assert!(!families.contains(&name.to_owned()), "{name} is described twice");
                    families.push(name.to_owned());
                }
                (Some("HELP"), Some(_), Some(_)) | (Some("EOF"), None, None) => {}
                other => panic!("{line}: {other:?}"),
            }
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
        let family = families.last().expect("a TYPE before the first sample");
        assert!(name == family || name == format!("{family}_total"), "{line} belongs to no family");
        let labels = labels.strip_suffix('}').expect("labels end");
        samples.push((name.to_owned(), labels.to_owned(), value.parse().expect("a number")));
    }
    samples
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_openmetrics_with_the_documented_names() {
    let three = Three::start();
    let node = TestNode::with(&[three.config(&[]), NEAREST.into()].concat()).await;
    let mut client = node.client().await;
    for name in ["www.example.test.", "gone.example.test.", "elsewhere.invalid."] {
        client.exchange(&typed(name, RecordType::A, Some(GERMAN))).await;
        client.over_tcp(&typed(name, RecordType::A, Some(GERMAN))).await;
    }
    three.ap.fail(Break::Refuse);
    until("ap is down", async || (node.api.region("ap").await["verdict"] == "down").then_some(())).await;

    let response = node.api.request(Method::GET, "/metrics").send().await.expect("an answer");
    let kind = response.headers()["content-type"].to_str().expect("a text").to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let samples = parsed(&response.text().await.expect("text"));
    let find = |name: &str, labels: &str| -> f64 {
        let mut found = samples.iter().filter(|sample| sample.0 == name && sample.1.contains(labels));
        let first = found.next().unwrap_or_else(|| panic!("no {name}{{{labels}}}"));
        assert!(found.next().is_none(), "several {name}{{{labels}}}");
        first.2
    };
    for (name, labels, value) in [
        ("portolan_dns_queries_total", "udp", 3.0),
        ("portolan_dns_queries_total", "tcp", 3.0),
        ("portolan_dns_responses_total", "NOERROR", 2.0),
        ("portolan_dns_responses_total", "NXDOMAIN", 2.0),
        ("portolan_dns_responses_total", "REFUSED", 2.0),
        ("portolan_region_up", "region=\"eu\"", 1.0),
        ("portolan_region_up", "region=\"ap\"", 0.0),
        ("portolan_address_up", "127.0.1.1", 1.0),
        ("portolan_address_up", "127.0.3.1", 0.0),
        ("portolan_safety_held", "rule=\"min_regions\"", 0.0),
        ("portolan_self_suspicion", "", 0.0),
        ("portolan_transitions_total", "region=\"ap\",to=\"down_hard\"", 1.0),
    ] {
        assert!((find(name, labels) - value).abs() < 0.5, "{name} {labels}");
    }
    for name in ["portolan_probe_duration_seconds", "portolan_probe_age_seconds"] {
        assert!(find(name, "region=\"us\"") < PATIENCE.as_secs_f64(), "{name}");
    }
    assert!(find("portolan_epoch", "") >= 2.0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_requests_get_a_problem_document_with_the_cause() {
    let node = TestNode::with(WIDE).await;
    let post = |body: Value| (Method::POST, "/v1/overrides", Some(body));
    let get = |path| (Method::GET, path, None);
    let cases = [
        (get("/v1/explain"), 400, "name"),
        (get("/v1/explain?name=www.example.test&client=nobody"), 400, "`nobody` is not a valid IP address"),
        (
            get("/v1/explain?name=www.example.test&client=10.1.0.1&type=AAAAA"),
            400,
            "`AAAAA` is not a valid record type",
        ),
        (get("/v1/explain?name=www.example.test&client=10.1.0.1&at=noon"), 400, "`noon` is not a valid time"),
        (get("/v1/explain?name=a..b&client=10.1.0.1"), 400, "`a..b` is not a valid domain name"),
        (
            get("/v1/explain?name=www.elsewhere.invalid&client=10.1.0.1"),
            404,
            "www.elsewhere.invalid. is not in any zone of this node (example.test.)",
        ),
        (get("/v1/nothing"), 404, "nothing at this path"),
        (get("/v1/reload"), 405, "does not support this method"),
        ((Method::DELETE, "/v1/overrides/7", None), 404, "there is no override 7"),
        ((Method::DELETE, "/v1/overrides/seven", None), 400, "`seven` is not a valid override number"),
        (post(json!({"target": "region/one"})), 400, "action"),
        (
            post(json!({"target": "region/one", "action": "explode"})),
            400,
            "unknown variant `explode`, expected one of `drain`, `up`, `down`",
        ),
        (
            post(json!({"target": "one", "action": "drain"})),
            400,
            "did you mean region/one? Targets are region/NAME",
        ),
        (post(json!({"target": "region/ten", "action": "drain"})), 404, "there is no region `ten`"),
        (
            post(json!({"target": "region/one", "action": "drain", "share": "half"})),
            400,
            "`half` is not a valid share: write a percentage from 0% to 100%",
        ),
        (
            post(json!({"target": "region/one", "action": "up", "share": "50%"})),
            400,
            "a share goes with drain",
        ),
        (post(json!({"target": "region/one", "action": "drain", "for": "long"})), 400, "long"),
        (
            post(json!({"target": "region/one", "action": "drain", "until": "1h"})),
            400,
            "unknown field `until`",
        ),
        (post(json!(["region/one"])), 400, ""),
    ];
    for ((method, path, body), status, expected) in cases {
        let what = format!("{method} {path} {}", body.as_ref().map(Value::to_string).unwrap_or_default());
        let request = node.api.request(method, path);
        let request = if let Some(body) = body { request.json(&body) } else { request };
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), status, "{what}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{what}");
        let problem: Value = response.json().await.expect("JSON");
        assert_eq!((&problem["status"], &problem["type"]), (&json!(status), &json!("about:blank")), "{what}");
        let (title, detail) = (problem["title"].as_str(), problem["detail"].as_str().expect("a text"));
        assert!(title.is_some_and(|title| !title.is_empty()) && !detail.is_empty(), "{what}: {problem}");
        assert!(detail.contains(expected), "{what}: expected {expected:?} in {detail:?}");
    }
    let text = node.api.request(Method::POST, "/v1/overrides").body("{").send().await.expect("an answer");
    assert_eq!(text.status(), StatusCode::BAD_REQUEST);
    assert_eq!(node.api.get("/v1/overrides").await, json!([]));
    let events = node.api.get("/v1/events").await;
    assert_eq!(events.as_array().map(Vec::len), Some(1), "nothing has happened but the start: {events}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_binds_at_once_and_answers_once_its_targets_are_known() {
    let eu = Region::start("eu", 1);
    eu.fail(Break::Hang);
    // The node receives the query within 100 ms, but answers only once its targets are known or its wait expires.
    let config = eu.config("{ country = \"IE\" }", &[("timeout", "\"600s\""), ("interval", "\"601s\"")]);
    let service = "[[service]]\nname = \"www.example.test.\"\nregions = [\"eu\"]\n";
    let mut served = Served::spawn(Folder::new(&[&config, service].concat()));
    let client = served.client().await;
    client.send(&with_id(&typed("www.example.test.", RecordType::A, None), 4242)).await;
    let api = served.api();
    let response = api.request(Method::GET, "/readyz").send().await.expect("the API is served at once");
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.text().await.expect("text"), "waiting for the first result of every check\n");
    assert_eq!(api.text("/livez").await, "ok\n");
    let status = api.get("/v1/status").await;
    assert_eq!(status["node"]["ready"], false);
    assert_eq!(status["regions"][0]["verdict"], "unknown");

    eu.heal();
    let reply = Message::from_vec(&client.receive().await).expect("a message");
    assert_eq!(
        (reply.metadata.id, outcome(&reply).1),
        (4242, vec![eu.ip()]),
        "what was asked early is answered"
    );
    assert_eq!(api.text("/readyz").await, "ok\n");
    assert_eq!(served.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_checks_a_node_is_ready_at_once() {
    let folder = Folder::new(WIDE);
    let origin = Origin::File(folder.config());
    let prepared = prepare(&origin).unwrap_or_else(|why| panic!("{why}"));
    let in_memory = Opened::in_memory("[node] state_dir is not set");
    let (handle, running) = Engine::start(prepared, in_memory, Supervisor::default()).expect("threads");
    assert!(*handle.ready.borrow());
    running.stop().await;
}
