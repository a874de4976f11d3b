//! Where clients are sent, and whom a change would move: `GET /v1/map`, `POST /v1/plan` and `portolan plan`.

use std::fs;

use portolan::geo::countries;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::binary::portolan_at;
use crate::harness::folder::{Folder, test_data, tokens};
use crate::harness::http::{Api, named, raw};
use crate::harness::node::TestNode;
use crate::harness::region::{Break, NEAREST, Three};
use crate::harness::until;
use crate::overrides::REGIONS;

/// Half of the clients each, wherever they are.
pub(crate) const SHARED: &str =
    "[[service]]\nname = \"shared.example.test.\"\nregions = [\"eu\", \"us\"]\nrank = \"none\"\n\n";

/// Replaces the database and the networks of a config's head: Germany has a quarter of all clients, the United States
/// half, Singapore a quarter.
pub(crate) fn folder(rest: &str) -> Folder {
    let folder = Folder::new(rest);
    // It knows no countries.
    folder.write("places.mmdb", fs::read(test_data("GeoLite2-ASN-Test.mmdb")).expect("it is committed"));
    folder.reconfigure("10.2.0.0/16", "10.4.0.0/15");
    folder.reconfigure(
        "  { prefix = \"2001:db8:1::/48\", location = { country = \"DE\", lat = 50.1, lon = 8.7 } },\n",
        "",
    );
    folder
}

pub(crate) async fn start(rest: &str) -> TestNode {
    TestNode::start(folder(rest)).await
}

/// What a list of regions says, as "eu 0.5".
pub(crate) fn shares(list: &Value) -> Vec<String> {
    let all = list.as_array().expect("a list").iter();
    all.map(|it| format!("{} {}", it["region"].as_str().expect("a name"), it["share"])).collect()
}

/// Where the clients of each country are sent.
pub(crate) fn by_country(map: &Value) -> Vec<(&str, Vec<String>)> {
    let countries = map["countries"].as_array().expect("a list").iter();
    countries.map(|it| (it["country"].as_str().expect("a code"), shares(&it["regions"]))).collect()
}

pub(crate) async fn plan(api: &Api, body: Value) -> Value {
    let (status, plan) = api.call(Method::POST, "/v1/plan", Some(body)).await;
    assert_eq!(status, 200, "{plan}");
    plan
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_map_shows_where_the_clients_of_each_country_are_sent() {
    let node = start(&[REGIONS, NEAREST, SHARED].concat()).await;
    let map = node.api.get("/v1/map").await;
    assert_eq!((&map["service"], &map["basis"]), (&json!("www.example.test."), &json!("addresses")));
    assert_eq!(map["epoch"], node.api.get("/v1/status").await["node"]["epoch"]);
    assert_eq!(
        map["regions"],
        json!([
            {"name": "eu", "lat": 53.35, "lon": -6.26, "available": true},
            {"name": "us", "lat": 38.95, "lon": -77.45, "available": true},
            {"name": "ap", "lat": 1.35, "lon": 103.8, "available": true},
        ]),
        "in the order of the config"
    );
    assert_eq!(
        map["countries"],
        json!([
            {"country": "DE", "weight": 0.25, "client": "10.1.0.1", "regions": [{"region": "eu", "share": 1.0}]},
            {"country": "SG", "weight": 0.25, "client": "10.3.0.1", "regions": [{"region": "ap", "share": 1.0}]},
            {"country": "US", "weight": 0.5, "client": "10.4.0.1", "regions": [{"region": "us", "share": 1.0}]},
        ])
    );
    let shared = node.api.get("/v1/map?service=shared.example.test").await;
    assert_eq!(named(&shared["regions"], "us")["available"], true);
    assert_eq!(shared["regions"].as_array().map(Vec::len), Some(2), "only its own");
    for (country, found) in by_country(&shared) {
        assert_eq!(found, ["eu 0.5", "us 0.5"], "{country}");
    }
    // A drain of a quarter of eu's half, and of all of ap.
    node.api.override_with(json!({"target": "region/eu", "action": "drain", "share": "25%"})).await;
    node.api.override_with(json!({"target": "region/ap", "action": "drain"})).await;
    let shared = node.api.get("/v1/map?service=shared.example.test").await;
    assert_eq!(by_country(&shared)[0].1, ["us 0.625", "eu 0.375"]);
    let map = node.api.get("/v1/map").await;
    assert_eq!(by_country(&map)[0].1, ["eu 0.75", "us 0.25"]);
    let (singapore, found) = &by_country(&map)[1];
    assert_eq!((*singapore, &found[..]), ("SG", &["eu 0.75".to_owned(), "us 0.25".to_owned()][..]));
    assert_eq!(named(&map["regions"], "ap")["available"], false);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_map_follows_what_probes_find_and_what_all_down_says() {
    let three = Three::start();
    let service = NEAREST.replace("ttl = ", "all_down = \"servfail\"\nttl = ");
    let rest = [three.config(&[]), service, "[safety]\nmin_regions = 0\n".into()].concat();
    let node = start(&rest).await;
    let german = async || by_country(&node.api.get("/v1/map").await)[0].1.clone();
    assert_eq!(german().await, ["eu 1.0"]);
    three.eu.fail(Break::Refuse);
    until("the map shows it", async || (german().await == ["us 1.0"]).then_some(())).await;
    assert_eq!(named(&node.api.get("/v1/map").await["regions"], "eu")["available"], false);
    three.us.fail(Break::Refuse);
    three.ap.fail(Break::Refuse);
    let nowhere = until("nobody gets a region", async || {
        let map = node.api.get("/v1/map").await;
        by_country(&map).iter().all(|(_, regions)| regions.is_empty()).then_some(map)
    });
    assert_eq!(nowhere.await["countries"][2]["weight"], 0.5, "a country without a region is listed");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maps_of_what_is_not_there_are_refused() {
    let node = start(&[REGIONS, NEAREST].concat()).await;
    for (query, status, detail) in [
        ("?service=other.example.test.", 404, "there is no service `other.example.test.`"),
        ("?service=a..b", 400, "`a..b` is not a valid domain name"),
        ("?services=x", 400, "unknown query parameter `services`: this path takes `service`"),
    ] {
        let (found, problem) = node.api.call(Method::GET, &format!("/v1/map{query}"), None).await;
        assert_eq!(found, status, "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|it| it.starts_with(detail)), "{problem}");
    }
    node.stop().await;
    let node = start(REGIONS).await;
    let (status, problem) = node.api.call(Method::GET, "/v1/map", None).await;
    assert_eq!((status, &problem["detail"]), (404, &json!("this node has no services")));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_names_the_countries_and_shares_that_move() {
    let node = start(&[REGIONS, NEAREST, SHARED].concat()).await;
    let drained = plan(&node.api, json!({"target": "region/eu", "action": "drain"})).await;
    let all = |region: &str| json!([{"region": region, "share": 1.0}]);
    let halves = json!([{"region": "eu", "share": 0.5}, {"region": "us", "share": 0.5}]);
    let country = |code: &str, weight: f64| json!({"country": code, "weight": weight, "moved": 0.5, "from": halves, "to": all("us")});
    assert_eq!(
        drained,
        json!({
            "refused": null, "no_effect": null, "all_down": null, "epoch": drained["epoch"], "basis": "addresses",
            "services_left_out": 0,
            "services": [
                {
                    "service": "shared.example.test.", "type": "address", "basis": "addresses", "moved": 0.5,
                    "gains": [{"region": "us", "share": 0.5}], "before": halves, "after": all("us"),
                    "countries": [country("US", 0.5), country("DE", 0.25), country("SG", 0.25)],
                    "countries_left_out": 0,
                },
                {
                    "service": "www.example.test.", "type": "address", "basis": "addresses", "moved": 0.25,
                    "gains": [{"region": "us", "share": 0.25}],
                    "before": [
                        {"region": "us", "share": 0.5},
                        {"region": "ap", "share": 0.25},
                        {"region": "eu", "share": 0.25},
                    ],
                    "after": [{"region": "us", "share": 0.75}, {"region": "ap", "share": 0.25}],
                    "countries": [
                        {"country": "DE", "weight": 0.25, "moved": 1.0, "from": all("eu"), "to": all("us")},
                    ],
                    "countries_left_out": 0,
                },
            ],
        })
    );
    assert_eq!(node.api.get("/v1/overrides").await, json!([]), "nothing has changed");
    assert_eq!(node.api.get("/v1/status").await["node"]["epoch"], drained["epoch"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_countries_with_the_most_clients_that_move_come_first() {
    let mixed =
        "[[service]]\nname = \"mixed.example.test.\"\nregions = [\"eu\", \"us\", \"ap\"]\nrank = \"geo\"
geo = { \"country:US\" = [[\"eu\", \"us\", \"ap\"]], \"country:SG\" = [\"ap\"], \"*\" = [\"eu\"] }\n";
    let node = start(&[REGIONS, mixed].concat()).await;
    let plan = plan(&node.api, json!({"target": "region/eu", "action": "drain"})).await;
    let countries = plan["services"][0]["countries"].as_array().expect("a list").iter();
    let found: Vec<_> =
        countries.map(|it| (&it["country"], it["weight"].as_f64(), it["moved"].as_f64())).collect();
    // A third of half of all clients are fewer than a quarter.
    assert_eq!(
        found,
        [(&json!("DE"), Some(0.25), Some(1.0)), (&json!("US"), Some(0.5), Some(0.333_333_333)),]
    );
    assert_eq!(plan["services"][0]["moved"], 0.416_666_667);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_and_maps_name_the_family_where_it_matters() {
    let two = "[region.eu]\nendpoint = [{ name = \"four\", address = \"192.0.2.1\", probe = [] }, \
        { name = \"six\", address = \"2001:db8::1\", probe = [] }]
[region.us]\nendpoint = [{ name = \"lb1\", address = [\"192.0.2.2\", \"2001:db8::2\"], probe = [] }]
[region.ap]\nendpoint = [{ name = \"lb1\", host = \"lb.example.net\", address = \"2001:db8::3\", probe = [] }]
[[service]]\nname = \"www.example.test.\"\nregions = [\"eu\", \"us\"]
[[service]]\nname = \"six.example.test.\"\nregions = [\"ap\"]
[[service]]\nname = \"name.example.test.\"\ntype = \"cname\"\nregions = [\"ap\"]\n";
    let node = start(two).await;
    let family = async |service: &str| {
        node.api.get(&format!("/v1/map?service={service}.example.test")).await["family"].clone()
    };
    assert_eq!(
        [family("www").await, family("six").await, family("name").await],
        [json!("IPv4"), json!("IPv6"), Value::Null]
    );
    for (target, expected) in [
        ("endpoint/eu/six", &[json!("IPv6")][..]),
        ("endpoint/eu/four", &[json!("IPv4")]),
        ("region/eu", &[Value::Null]),
    ] {
        let plan = plan(&node.api, json!({"target": target, "action": "down"})).await;
        let services = plan["services"].as_array().expect("a list").iter();
        let found: Vec<Value> = services.map(|it| it["family"].clone()).collect();
        assert_eq!(found, expected, "{plan}");
    }
    let done = portolan_at(&node.folder, &["plan", "--down", "endpoint/eu/six"]);
    let expected = "would move 100% of the clients of www.example.test. over IPv6: 100% to us\n";
    assert!(done.stdout.contains(expected), "{done:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_plan_says_is_what_then_happens() {
    let node = start(&[REGIONS, NEAREST, SHARED].concat()).await;
    let service = "service/shared.example.test/us";
    for body in [
        json!({"target": "region/eu", "action": "drain", "share": "30%"}),
        json!({"target": "endpoint/us/lb1", "action": "down"}),
        json!({"target": service, "action": "drain", "share": "10%"}),
        json!({"target": "region/eu", "action": "up"}),
        json!({"restore": "endpoint/us/lb1"}),
        json!({"target": "region/ap", "action": "drain"}),
        json!({"restore": service}),
        json!({"restore": "region/ap"}),
    ] {
        let mut asked = body.clone();
        asked["map"] = json!("www.example.test");
        let plan = plan(&node.api, asked).await;
        assert_eq!(plan["refused"], Value::Null, "{plan}");
        let mut expected = Vec::new();
        for name in ["shared.example.test.", "www.example.test."] {
            let planned =
                plan["services"].as_array().expect("a list").iter().find(|it| it["service"] == name);
            let map = node.api.get(&format!("/v1/map?service={name}")).await;
            let after = by_country(&map).into_iter().map(|(country, now)| {
                let countries = planned.map(|it| it["countries"].as_array().expect("a list"));
                let planned = countries.into_iter().flatten().find(|it| it["country"] == country);
                if let Some(planned) = planned {
                    assert_eq!(shares(&planned["from"]), now, "{body}");
                }
                let to = planned.map_or_else(|| now.clone(), |planned| shares(&planned["to"]));
                (country.to_owned(), to)
            });
            expected.push((name, after.collect::<Vec<_>>()));
        }
        match body["restore"].as_str() {
            Some(target) => {
                let overrides = node.api.get("/v1/overrides").await;
                let mut overrides = overrides.as_array().expect("a list").iter();
                let id = overrides.find(|it| it["target"] == target).expect("it is set")["id"].as_u64();
                node.api.restore(id.expect("a number")).await;
            }
            None => drop(node.api.override_with(body.clone()).await),
        }
        for (name, expected) in expected {
            let map = node.api.get(&format!("/v1/map?service={name}")).await;
            let found: Vec<_> = by_country(&map)
                .into_iter()
                .map(|(country, regions)| (country.to_owned(), regions))
                .collect();
            assert_eq!(found, expected, "{name} after {body}");
        }
        let mut map = node.api.get("/v1/map?service=www.example.test").await;
        map["epoch"] = plan["epoch"].clone();
        assert_eq!(map, plan["map"], "after {body}");
    }
    node.stop().await;
}

/// Two regions, and a rule that wants one of them.
const MINIMUM: &str = "[safety]\nmin_regions = 1\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_says_what_a_safety_rule_would_refuse() {
    let node = start(&[REGIONS, SHARED, MINIMUM].concat()).await;
    node.api.override_with(json!({"target": "region/us", "action": "drain"})).await;
    let body = json!({"target": "region/eu", "action": "drain"});
    let plan = plan(&node.api, body.clone()).await;
    let why = "min_regions = 1 forbids this, because none of eu, us would be usable for shared.example.test.";
    assert_eq!(plan["refused"], why);
    let (status, problem) = node.api.call(Method::POST, "/v1/overrides", Some(body)).await;
    assert_eq!(status, 409);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.starts_with(why)), "{problem}");
    let done = portolan_at(&node.folder, &["plan", "--drain", "region/eu"]);
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(done.stdout.contains(&format!("A safety rule would refuse it: {why}")), "{done:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_of_endpoints_and_backends_show_what_moves_inside() {
    let pool = "[proxy.listener.web]\nlisten = \"127.0.0.1:0\"\nroute = [{ pool = \"api\" }]
[proxy.pool.api]\nbackend = [{ address = \"192.0.2.21:80\" }, { address = \"192.0.2.22:80\" }]\nprobe = []\n";
    let node = start(&[REGIONS, NEAREST, pool].concat()).await;
    let part = plan(&node.api, json!({"target": "endpoint/eu/lb1", "action": "drain", "share": "50%"})).await;
    assert_eq!(part["services"], json!([]));
    let share = |endpoint: &str, share: f64| json!({"endpoint": endpoint, "share": share});
    assert_eq!(
        part["endpoints"],
        json!([{
            "region": "eu", "family": "IPv4",
            "before": [share("lb1", 0.5), share("lb2", 0.5)],
            "after": [share("lb1", 0.333_333_333), share("lb2", 0.666_666_667)],
        }])
    );
    let backend = plan(&node.api, json!({"target": "pool/api/192.0.2.21:80", "action": "drain"})).await;
    assert_eq!((&backend["services"], &backend["refused"]), (&json!([]), &Value::Null));
    assert_eq!(
        backend["pool"],
        json!({"name": "api", "before": ["192.0.2.21:80", "192.0.2.22:80"], "after": ["192.0.2.22:80"]})
    );
    for (arguments, expected) in [
        (
            &["--drain", "endpoint/eu/lb1", "--share", "50%"][..],
            "draining 50% of endpoint/eu/lb1 would move no clients to another region\n\
             clients of region eu over IPv4 by endpoint: lb1 33% (now 50%), lb2 67% (now 50%)\n",
        ),
        (
            &["--down", "pool/api/192.0.2.21:80"],
            "forcing pool/api/192.0.2.21:80 down would leave pool api these backends: 192.0.2.22:80 \
             (now 192.0.2.21:80, 192.0.2.22:80)\n",
        ),
    ] {
        let done = portolan_at(&node.folder, &[&["plan"], arguments].concat());
        assert_eq!((done.code, &*done.stdout), (Some(0), expected), "{done:?}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_that_make_no_sense_are_refused() {
    let node = start(&[REGIONS, NEAREST].concat()).await;
    let shape = "a plan has `target` and `action`, and perhaps `share`, or only `restore`, or only `config`";
    for (body, status, detail) in [
        (json!({}), 400, shape),
        (json!({"target": "region/eu"}), 400, shape),
        (json!({"target": "region/eu", "action": "drain", "restore": "region/eu"}), 400, shape),
        (json!({"target": "region/eu", "action": "drain", "for": "1h"}), 400, "unknown field `for`"),
        (
            json!({"target": "region/eu", "action": "up", "share": "5%"}),
            400,
            "a share goes with drain, not with up",
        ),
        (
            json!({"target": "region/eu", "action": "drain", "share": "0%"}),
            400,
            "a drain of 0% changes nothing",
        ),
        (json!({"target": "region/xx", "action": "drain"}), 404, "there is no region `xx`"),
        (
            json!({"target": "region/eu", "action": "drain", "map": "x.test"}),
            404,
            "there is no service `x.test.`",
        ),
        (json!({"restore": "region/eu"}), 404, "there is no override of region/eu; current overrides: none"),
    ] {
        let (found, problem) = node.api.call(Method::POST, "/v1/plan", Some(body)).await;
        assert_eq!(found, status, "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|it| it.contains(detail)), "{detail}: {problem}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_may_read_may_plan() {
    let folder = folder(&[REGIONS, NEAREST].concat());
    folder.reconfigure("socket = \"control.sock\"", &tokens(&[("vera", "viewer")]));
    let node = TestNode::start(folder).await;
    let tcp = Api::tcp(node.control());
    let body = json!({"target": "region/eu", "action": "drain"});
    assert_eq!(plan(&tcp, body.clone()).await["services"][0]["moved"], 0.25);
    assert_eq!(plan(&tcp.with_token("secret of vera"), body.clone()).await["services"][0]["moved"], 0.25);
    let wrong = tcp.with_token("secret of nobody");
    assert_eq!(wrong.call(Method::POST, "/v1/plan", Some(body.clone())).await.0, 401);
    let foreign = raw(
        node.control(),
        "POST /v1/plan HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nContent-Length: 0\r\n\r\n",
    );
    assert!(foreign.await.starts_with("HTTP/1.1 403 "), "pages of other sites may not");
    node.folder.reconfigure("socket = \"control.sock\"", "read = \"token\"\nsocket = \"control.sock\"");
    assert_eq!(node.api.call(Method::POST, "/v1/reload", None).await.0, 200);
    assert_eq!(tcp.call(Method::POST, "/v1/plan", Some(body.clone())).await.0, 401);
    assert_eq!(plan(&tcp.with_token("secret of vera"), body).await["services"][0]["moved"], 0.25);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_lists_a_bounded_number_of_services_and_countries() {
    let service = |number: usize| SHARED.replace("shared", &format!("s{number}"));
    let services: String = (0..120).map(service).collect();
    let folder = folder(&[REGIONS, &services].concat());
    // A /24 for each of 52 more countries.
    let others = countries().map(|it| it.to_string()).filter(|it| !["DE", "SG", "US"].contains(&&**it));
    let network = |(number, code): (usize, String)| {
        format!("  {{ prefix = \"10.9.{number}.0/24\", location = {{ country = \"{code}\" }} }},\n")
    };
    let networks: String = others.take(52).enumerate().map(network).collect();
    folder.reconfigure("network  = [\n", &format!("network  = [\n{networks}"));
    let node = TestNode::start(folder).await;
    let plan = plan(&node.api, json!({"target": "region/eu", "action": "drain"})).await;
    let listed = plan["services"].as_array().expect("a list");
    assert_eq!((listed.len(), &plan["services_left_out"]), (100, &json!(20)));
    assert_eq!(listed[7]["service"], "s7.example.test.", "services that move alike stay in order");
    for service in listed {
        assert_eq!(service["moved"], 0.5);
        let countries = service["countries"].as_array().expect("a list");
        assert_eq!(
            (countries.len(), &service["countries_left_out"]),
            (25, &json!(30)),
            "{}",
            service["service"]
        );
    }
    let done = portolan_at(&node.folder, &["plan", "--drain", "region/eu"]);
    assert!(done.stdout.starts_with("draining region/eu would move clients of 120 services:\n"), "{done:?}");
    assert!(done.stdout.contains("\nand 110 more services\n"), "{done:?}");
    assert!(done.stdout.contains("\nand 45 more countries\n"), "{done:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_says_it_in_sentences() {
    let node = start(&[REGIONS, NEAREST].concat()).await;
    let run = |arguments: &[&str]| portolan_at(&node.folder, &[&["plan"], arguments].concat());
    let done = run(&["--drain", "region/eu"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let lines: Vec<String> =
        done.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "draining region/eu would move 25% of the clients of www.example.test.: 25% to us",
            "",
            "COUNTRY OF ALL CLIENTS MOVES FROM TO",
            "DE 25% 100% eu 100% us 100%",
            "Clients are counted by the addresses of each country.",
        ]
    );
    let done = run(&["--drain", "region/eu", "--share", "20%"]);
    assert!(
        done.stdout.starts_with("draining 20% of region/eu would move 5% of the clients of "),
        "{done:?}"
    );
    let done = run(&["--up", "region/eu"]);
    let expected = "forcing region/eu up would move no clients to another region: region/eu is in use either way; forced up, it stays so even if probes fail\n";
    assert_eq!((done.code, &*done.stdout), (Some(0), expected), "{done:?}");
    node.api.override_with(json!({"target": "region/eu", "action": "down"})).await;
    let done = run(&["--restore", "region/eu", "--json"]);
    let json: Value = serde_json::from_str(&done.stdout).expect("JSON");
    assert_eq!(json["services"][0]["gains"], json!([{"region": "eu", "share": 0.25}]));
    for (arguments, code, expected) in [
        (&["--drain", "region/xx"][..], 1, "there is no region `xx`"),
        (&["--restore", "region/us"], 1, "there is no override of region/us"),
        (&[], 2, "name the change by --drain, --up, --down or --restore, or a new config by -c"),
        (&["--drain", "region/eu", "--up", "region/eu"], 2, "cannot be used with"),
        (&["--up", "region/eu", "--share", "5%"], 2, "--share goes with --drain"),
    ] {
        let done = run(arguments);
        assert_eq!(done.code, Some(code), "{done:?}");
        assert!(done.stderr.contains(expected), "expected {expected:?} in {done:?}");
    }
    node.stop().await;
}
