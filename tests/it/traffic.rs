//! Who asks: `GET /v1/traffic`, `portolan status --traffic`, metrics, and what forecasts make of it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::binary::{Served, portolan_at};
use crate::harness::client::{Client, query};
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::region::{AMERICAN, ASIAN, GERMAN, NEAREST};
use crate::harness::tool::Tool;
use crate::harness::until;
use crate::overrides::REGIONS;

/// Answers from both regions, wherever clients are.
const SHARED: &str =
    "[[service]]\nname = \"shared.example.test.\"\nregions = [\"eu\", \"us\"]\nrank = \"none\"\n\n";

/// A service without regions in use: its answers are from none.
const DARK: &str =
    "[[service]]\nname = \"dark.example.test.\"\nregions = [\"ap\"]\nall_down = \"servfail\"\n\n";

/// Waits until so many answers are counted.
async fn counted(node: &TestNode, answers: u64) -> Value {
    until("all answers are counted", async || {
        let traffic = node.api.get("/v1/traffic").await;
        (traffic["total"]["answers"] == answers).then_some(traffic)
    })
    .await
}

/// What a region of a service answered, as "DE 2".
fn countries(traffic: &Value, service: &str, region: &Value) -> Vec<String> {
    let services = traffic["services"].as_array().expect("a list");
    let service = services.iter().find(|it| it["service"] == service).expect("it was asked");
    let regions = service["regions"].as_array().expect("a list");
    let region = regions.iter().find(|it| it["region"] == *region).expect("it is listed");
    let all = region["countries"].as_array().expect("a list").iter();
    all.map(|it| format!("{} {}", it["country"].as_str().expect("a code"), it["answers"])).collect()
}

/// What asked, as "10.1.0.0/24 subnet 2".
fn networks(traffic: &Value) -> Vec<String> {
    let all = traffic["networks"].as_array().expect("a list").iter();
    let mut all: Vec<String> = all
        .map(|it| {
            let kind = if it["client_subnet"] == true { "subnet" } else { "resolver" };
            format!("{} {kind} {}", it["network"].as_str().expect("a prefix"), it["answers"])
        })
        .collect();
    all.sort();
    all
}

async fn send(client: &mut Client, name: &str, from: &str, times: usize) {
    let queries = vec![query(name, Some(from)); times];
    client.exchange_all(&queries).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_counted_by_service_region_country_and_network() {
    let Some(dig) = Tool::dig() else { return };
    let node = TestNode::with(&[REGIONS, NEAREST, DARK].concat()).await;
    node.api.override_with(json!({"target": "region/ap", "action": "down", "override_safety": true})).await;
    for arguments in [
        &["www.example.test", "A", "+subnet=10.1.7.0/24"][..],
        &["www.example.test", "A", "+subnet=10.1.7.0/24", "+tcp"],
        &["www.example.test", "AAAA", "+subnet=2001:db8:1::/56"],
        &["alias.example.test", "A", "+subnet=10.2.0.0/16"],
        &["www.example.test", "A", "+nosubnet"],
        &["www.example.test", "A", "+subnet=0.0.0.0/0"],
        &["dark.example.test", "A", "+subnet=10.3.0.0/24"],
        // None of a service.
        &["static.example.test", "A", "+subnet=10.1.7.0/24"],
        &["gone.example.test", "A", "+subnet=10.1.7.0/24"],
    ] {
        dig.ask(&node, arguments);
    }
    let traffic = counted(&node, 7).await;
    assert_eq!(traffic["client_subnet"]["answers"], 5);
    assert_eq!(countries(&traffic, "www.example.test.", &json!("eu"))[0], "DE 3");
    let of = |region: &str| countries(&traffic, "www.example.test.", &json!(region));
    let elsewhere = ["eu", "us"].into_iter().filter(|region| of(region).contains(&"ZZ 2".into())).count();
    assert_eq!(elsewhere, 1, "the clients on this machine have no country: {traffic}");
    assert!(of("us").contains(&"US 1".into()), "{traffic}");
    assert_eq!(countries(&traffic, "dark.example.test.", &Value::Null), ["SG 1"]);
    assert_eq!(
        networks(&traffic),
        [
            "10.1.7.0/24 subnet 2",
            "10.2.0.0/16 subnet 1",
            "10.3.0.0/24 subnet 1",
            "127.0.0.0/24 resolver 2",
            "2001:db8:1::/48 subnet 1",
        ]
    );
    // It was asked within the last minute.
    let rate = traffic["total"]["per_second"].as_f64().expect("a number");
    let window = traffic["window_s"].as_f64().expect("a number");
    assert!((rate * window.max(1.0) - 7.0).abs() < 0.1, "{rate} in {window} s");

    for (sample, expected) in [
        ("portolan_answers_total{service=\"www.example.test.\",region=\"ap\"}", 0.0),
        ("portolan_answers_without_region_total{service=\"dark.example.test.\"}", 1.0),
        ("portolan_answers_without_region_total{service=\"www.example.test.\"}", 0.0),
        ("portolan_dns_client_countries_total{country=\"DE\"}", 3.0),
        ("portolan_dns_client_countries_total{country=\"ZZ\"}", 2.0),
        ("portolan_dns_client_subnets_total{used=\"yes\"}", 5.0),
        ("portolan_dns_client_subnets_total{used=\"no\"}", 2.0),
    ] {
        assert_eq!(node.api.metric(sample).await, Some(expected), "{sample}");
    }

    let only = node.api.get("/v1/traffic?service=dark.example.test").await;
    assert_eq!(only["services"].as_array().map(Vec::len), Some(1));
    let done = portolan_at(&node.folder, &["status", "--traffic"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let lines: Vec<String> =
        done.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let says =
        |what: &str| assert!(lines.iter().any(|line| line.contains(what)), "{what} is not in {lines:#?}");
    assert!(lines[0].starts_with("7 answers of services since 20"), "{lines:#?}");
    says("71% of them for client subnets that resolvers revealed (ECS)");
    says("SERVICE REGION PER SECOND ANSWERS TO");
    says("NETWORK IS PER SECOND ANSWERS");
    let row = |start: &str| {
        lines.iter().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{lines:#?}"))
    };
    assert!(row("none ").ends_with(" 1 SG 100%"), "{lines:#?}");
    assert!(row("10.1.7.0/24 client subnet ").ends_with(" 2"), "{lines:#?}");
    assert!(row("127.0.0.0/24 resolver ").ends_with(" 2"), "{lines:#?}");
    let done = portolan_at(&node.folder, &["status", "--traffic", "--json"]);
    let json: Value = serde_json::from_str(&done.stdout).expect("JSON");
    assert_eq!(networks(&json), networks(&traffic));
    let done = portolan_at(&node.folder, &["status", "--traffic", "--watch"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_keep_to_their_names_over_a_reload() {
    let node = TestNode::with(&[REGIONS, SHARED, NEAREST].concat()).await;
    let mut client = node.client().await;
    send(&mut client, "www.example.test.", GERMAN, 3).await;
    send(&mut client, "shared.example.test.", ASIAN, 5).await;
    client.over_tcp(&query("www.example.test.", Some(GERMAN))).await;
    counted(&node, 9).await;
    // One service is gone, another comes before it, and Germany moves.
    let other = SHARED.replace("shared", "aaa");
    node.folder.configure(&[REGIONS, &other, NEAREST].concat());
    node.folder.reconfigure(
        "prefix = \"10.1.0.0/16\", location = { country = \"DE\"",
        "prefix = \"10.1.0.0/16\", location = { country = \"FR\"",
    );
    assert_eq!(node.api.call(Method::POST, "/v1/reload", None).await.0, 200);
    let traffic = counted(&node, 9).await;
    assert_eq!(traffic["removed"]["answers"], 5);
    assert_eq!(countries(&traffic, "www.example.test.", &json!("eu")), ["DE 4"]);
    send(&mut client, "www.example.test.", GERMAN, 2).await;
    client.over_tcp(&query("aaa.example.test.", Some(AMERICAN))).await;
    let traffic = counted(&node, 12).await;
    assert_eq!(traffic["removed"]["answers"], 5);
    assert_eq!(countries(&traffic, "www.example.test.", &json!("eu")), ["DE 4", "FR 2"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forecasts_count_clients_by_their_queries_where_there_are_enough() {
    let node = TestNode::with(&[REGIONS, NEAREST, SHARED].concat()).await;
    let mut client = node.client().await;
    send(&mut client, "www.example.test.", GERMAN, 600).await;
    send(&mut client, "www.example.test.", ASIAN, 300).await;
    send(&mut client, "www.example.test.", AMERICAN, 99).await;
    counted(&node, 999).await;
    assert_eq!(node.api.get("/v1/map").await["basis"], "addresses", "one is missing");
    // From this machine, whose country nobody knows.
    client.exchange(&query("www.example.test.", None)).await;
    counted(&node, 1000).await;
    let map = node.api.get("/v1/map").await;
    assert_eq!(map["basis"], "queries");
    let weights: Vec<_> = map["countries"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| (it["country"].as_str().expect("a code"), it["weight"].as_f64().expect("a number")))
        .collect();
    let (weights, others): (Vec<_>, Vec<_>) = weights.into_iter().partition(|(_, weight)| *weight > 0.0);
    assert!(
        others.iter().any(|(country, _)| *country == "GB"),
        "countries that did not ask are sent somewhere, too"
    );
    assert_eq!(weights, [("DE", 0.6), ("SG", 0.3), ("US", 0.099), ("ZZ", 0.001)]);
    let countries = map["countries"].as_array().expect("a list");
    let singapore = countries.iter().find(|it| it["country"] == "SG").expect("it asked");
    assert_eq!(singapore["regions"], json!([{"region": "ap", "share": 1.0}]));
    assert_eq!(node.api.get("/v1/map?service=shared.example.test").await["basis"], "addresses");

    let body = json!({"target": "region/eu", "action": "drain"});
    let (_, plan) = node.api.call(Method::POST, "/v1/plan", Some(body)).await;
    assert_eq!(plan["basis"], "mixed");
    let of = |name: &str| {
        let services = plan["services"].as_array().expect("a list");
        services.iter().find(|it| it["service"] == name).expect("it moves").clone()
    };
    let www = of("www.example.test.");
    assert_eq!(
        (&www["basis"], of("shared.example.test.")["basis"].as_str()),
        (&json!("queries"), Some("addresses"))
    );
    assert_eq!(www["countries"][0]["country"], "DE");
    assert_eq!(www["countries"][0]["weight"], 0.6);
    assert!(www["moved"].as_f64() >= Some(0.6), "{www}");
    let done = portolan_at(&node.folder, &["plan", "--drain", "region/ap"]);
    assert!(
        done.stdout.starts_with("draining region/ap would move 30% of the clients of www.example.test.: "),
        "{done:?}"
    );
    assert!(done.stdout.ends_with("Clients are counted by the queries of the last hour.\n"), "{done:?}");
    let done = portolan_at(&node.folder, &["plan", "--drain", "region/eu"]);
    assert!(done.stdout.contains("those of services that were hardly asked, by addresses"), "{done:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_client_subnets_hides_nobody() {
    let node = TestNode::with(&[REGIONS, NEAREST].concat()).await;
    let mut client = node.client().await;
    const FLOOD: usize = 20_000;
    let mut queries: Vec<_> = (0..FLOOD)
        .map(|at| query("www.example.test.", Some(&format!("172.{}.{}.0/24", 16 + at / 256, at % 256))))
        .collect();
    queries.extend(vec![query("www.example.test.", Some(GERMAN)); 200]);
    client.exchange_all(&queries).await;
    let traffic = counted(&node, FLOOD as u64 + 200).await;
    let listed = traffic["networks"].as_array().expect("a list");
    assert!(listed.len() <= 100, "{}", listed.len());
    let first = &listed[0];
    assert_eq!(first["network"], "10.1.0.0/24");
    let (least, error) = (first["answers"].as_u64(), first["error"].as_u64());
    assert!(least <= Some(200) && Some(200) <= least.zip(error).map(|(a, b)| a + b), "{first}");
    assert_eq!(countries(&traffic, "www.example.test.", &json!("eu")).last(), Some(&"DE 200".into()));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_of_what_is_not_there_is_refused() {
    let node = TestNode::with(&[REGIONS, NEAREST].concat()).await;
    for (query, status, detail) in [
        ("?service=other.example.test.", 404, "there is no service `other.example.test.`"),
        ("?service=a..b", 400, "`a..b` is not a valid domain name"),
        ("?services=x", 400, "unknown query parameter `services`: this path takes `service`"),
    ] {
        let (found, problem) = node.api.call(Method::GET, &format!("/v1/traffic{query}"), None).await;
        assert_eq!(found, status, "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|it| it.starts_with(detail)), "{problem}");
    }
    let nothing = node.api.get("/v1/traffic").await;
    assert_eq!((&nothing["total"]["answers"], &nothing["services"]), (&json!(0), &json!([])));
    let done = portolan_at(&node.folder, &["status", "--traffic"]);
    assert!(done.stdout.starts_with("0 answers of services since 20"), "{done:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_alone_has_no_traffic_of_services() {
    let folder = Folder::new("");
    let control = "[control]\nlisten = \"127.0.0.1:0\"\nsocket = \"control.sock\"\n";
    let listener =
        "[proxy.listener.web]\nlisten = \"127.0.0.1:0\"\nroute = [{ respond = { status = 200 } }]\n";
    folder.write("portolan.toml", ["version = 1\n[log]\nformat = \"json\"\n", control, listener].concat());
    let mut served = Served::start(folder).await;
    let api = served.api();
    let (status, problem) = api.call(Method::GET, "/v1/traffic", None).await;
    let why = "this node does not answer DNS: its config has no [dns]";
    assert_eq!((status, &problem["detail"]), (404, &json!(why)));
    let done = portolan_at(&served.folder, &["status", "--traffic"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains(why), "{done:?}");
    let text = api.text("/metrics").await;
    assert!(!text.contains("portolan_answers"), "{text}");
    assert_eq!(served.stop().await, Some(0));
}
