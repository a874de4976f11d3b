//! Whom another config would move: `POST /v1/plan` with `config`, and `portolan plan -c`.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};

use crate::forecast::{SHARED, by_country, folder, plan, shares, start};
use crate::harness::binary::{portolan, portolan_at};
use crate::harness::folder::tokens;
use crate::harness::http::Api;
use crate::harness::node::TestNode;
use crate::harness::region::{Break, NEAREST, Region, Three};
use crate::harness::until;
use crate::overrides::REGIONS;

/// Writes a config that differs from that of a node, and returns its path.
fn draft(node: &TestNode, changes: &[(&str, &str)]) -> String {
    let mut text = fs::read_to_string(node.folder.config()).expect("a config");
    for (from, to) in changes {
        assert!(text.contains(from), "the config has no {from:?}");
        text = text.replace(from, to);
    }
    node.folder.write("new.toml", text);
    node.folder.path("new.toml").display().to_string()
}

fn names(of: &Value) -> Vec<&str> {
    let names = of["names"].as_array().expect("a list");
    assert_eq!(of["count"], names.len());
    names.iter().map(|it| it.as_str().expect("a name")).collect()
}

type ByCountry = Vec<(String, Vec<String>)>;

/// Where the clients of each country are sent now.
async fn map(node: &TestNode, service: &str) -> ByCountry {
    let map = node.api.get(&format!("/v1/map?service={service}")).await;
    by_country(&map).into_iter().map(|(country, regions)| (country.to_owned(), regions)).collect()
}

/// The same after what a plan says, which must agree with `now` on where they are sent before.
fn planned(plan: &Value, service: &str, now: &ByCountry) -> ByCountry {
    let of_service = plan["services"].as_array().expect("a list").iter().find(|it| it["service"] == service);
    let countries = of_service.into_iter().flat_map(|it| it["countries"].as_array().expect("a list"));
    let mut after = now.clone();
    for moving in countries {
        let country = moving["country"].as_str().expect("a code");
        let at = after.iter_mut().find(|(other, _)| other == country).expect("a country of the map");
        assert_eq!(shares(&moving["from"]), at.1, "{service} in {country}: {plan}");
        at.1 = shares(&moving["to"]);
    }
    after
}

/// A region for half of the services' clients, whose name comes before those of all others.
const ANTARCTIC: &str = "[region.aq]\nlocation = { country = \"AQ\", lat = -77.8, lon = 166.7 }\n\
     endpoint = [{ name = \"lb1\", address = \"192.0.2.4\", probe = [] }]\n[region.eu]\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_plan_of_a_config_says_is_what_then_happens() {
    let node = start(&[REGIONS, NEAREST, SHARED].concat()).await;
    node.api.override_with(json!({"target": "region/us", "action": "drain", "share": "30%"})).await;
    let german = "{ prefix = \"10.1.0.0/16\",";
    let split = "{ prefix = \"10.1.128.0/17\", regions = [\"ap\"] },\n{ prefix = \"10.1.0.0/16\",";
    for (changes, [www, shared]) in [
        (
            &[(
                "\"eu\", \"us\"]\nrank = \"none\"",
                "\"eu\", { region = \"us\", weight = 3 }]\nrank = \"none\"",
            )][..],
            [0.0, 0.2],
        ),
        // Half of Germany, by a network that the config before does not know; half of what is shared goes nowhere new.
        (&[(german, split)], [0.125, 0.0]),
        (&[(split, german)], [0.125, 0.0]),
        (&[("rank = \"distance\"", "rank = \"priority\"")], [0.75, 0.0]),
        (&[("[region.eu]\n", ANTARCTIC), ("\"us\", \"ap\"]", "\"us\", \"ap\", \"aq\"]")], [0.0, 0.0]),
        (&[("regions = [\"eu\", \"us\", \"ap\", \"aq\"]", "regions = [\"aq\"]")], [1.0, 0.0]),
        // A region is gone, and its override has no effect any more.
        (&[("[region.us]", "[region.na]"), ("region = \"us\"", "region = \"na\"")], [0.0, 0.7]),
    ] {
        let config = draft(&node, changes);
        let overrides = node.api.get("/v1/overrides").await;
        let plan = plan(&node.api, json!({"config": config, "map": "www.example.test"})).await;
        assert_eq!((&plan["refused"], &plan["config"]["file"]), (&Value::Null, &json!(config)));
        let mut expected = Vec::new();
        for (name, moved) in [("www.example.test.", www), ("shared.example.test.", shared)] {
            let now = map(&node, name).await;
            expected.push((name, planned(&plan, name, &now)));
            let all = plan["services"].as_array().expect("a list").iter();
            let found: f64 =
                all.filter(|it| it["service"] == name).filter_map(|it| it["moved"].as_f64()).sum();
            assert!((found - moved).abs() < 0.2, "{name}: {found}, not about {moved}: {changes:?}");
            assert_eq!(found == 0.0, moved == 0.0, "{name}: {changes:?}: {plan}");
        }
        // Nothing has changed yet.
        assert_eq!(plan["epoch"], node.api.get("/v1/status").await["node"]["epoch"]);
        assert_eq!(node.api.get("/v1/overrides").await, overrides);
        fs::copy(&config, node.folder.config()).expect("a copy");
        assert_eq!(node.api.call(Method::POST, "/v1/reload", None).await.0, 200);
        for (name, expected) in expected {
            assert_eq!(map(&node, name).await, expected, "{name} after {changes:?}");
        }
        let mut map = node.api.get("/v1/map?service=www.example.test").await;
        map["epoch"] = plan["epoch"].clone();
        assert_eq!(map, plan["map"], "after {changes:?}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdicts_carry_over_and_what_is_new_is_taken_to_be_up() {
    let three = Three::start();
    let far = Region::start("sa", 4);
    let node = start(&[three.config(&[]), NEAREST.into()].concat()).await;
    three.eu.fail(Break::Refuse);
    until("eu is down", async || (node.api.region("eu").await["verdict"] == "down").then_some(())).await;
    let added = far.config("{ country = \"SG\", lat = 1.35, lon = 103.8 }", &[]) + "[[service]]\n";
    let config = draft(
        &node,
        &[
            ("[[service]]\n", &added),
            ("\"us\", \"ap\"]", "\"us\", \"ap\", \"sa\"]"),
            // The probe of the region that is down gets another name.
            ("[probe.eu]", "[probe.other]"),
            ("probe = [\"eu\"]", "probe = [\"other\"]"),
            ("name = \"www.example.test.\"", "name = \"new.example.test.\""),
            ("rank = \"distance\"", "rank = \"priority\""),
        ],
    );
    let found = plan(&node.api, json!({"config": config})).await;
    let config_of = &found["config"];
    assert_eq!(names(&config_of["assumed_up"]), ["sa"]);
    assert_eq!(
        (names(&config_of["regions_added"]), names(&config_of["regions_removed"])),
        (vec!["sa"], vec![])
    );
    assert_eq!(names(&config_of["services_added"]), ["new.example.test."]);
    assert_eq!(names(&config_of["services_removed"]), ["www.example.test."]);
    assert_eq!(found["services"], json!([]), "it is another service");
    // With its name, all clients but those that the first region has by now go to the second, for the first is down.
    let text = fs::read_to_string(&config).expect("a config");
    node.folder.write("new.toml", text.replace("new.example.test.", "www.example.test."));
    let found = plan(&node.api, json!({"config": config})).await;
    let gains = shares(&found["services"][0]["gains"]);
    assert_eq!((gains, &found["services"][0]["moved"]), (vec!["us 0.25".into()], &json!(0.25)), "{found}");
    // A new region is used as soon as its first probe succeeds, so the plan has it in use.
    node.folder.write(
        "new.toml",
        text.replace("new.example.test.", "www.example.test.")
            .replace("[\"eu\", \"us\", \"ap\", \"sa\"]", "[\"sa\", \"us\"]"),
    );
    let found = plan(&node.api, json!({"config": config})).await;
    assert_eq!(shares(&found["services"][0]["gains"]), ["sa 1.0"], "{found}");
    assert_eq!(far.requests(), 0, "it is not probed");
    // The addresses of a host are not known before a reload.
    let address = format!("address = [\"{}\"]", far.ip());
    let text = fs::read_to_string(&config).expect("a config");
    assert!(text.contains(&address), "{text}");
    node.folder.write("new.toml", text.replace(&address, "host = \"lb.example.net\""));
    let found = plan(&node.api, json!({"config": config})).await;
    let warned = found["config"]["warnings"].to_string();
    assert!(
        warned.contains("nobody is sent to region sa in this plan: the addresses of its hosts"),
        "{warned}"
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_with_mistakes_has_no_plan_and_readers_may_not_name_files() {
    let folder = folder(&[REGIONS, NEAREST].concat());
    folder.reconfigure("socket = \"control.sock\"", &tokens(&[("vera", "viewer"), ("olga", "operator")]));
    let node = TestNode::start(folder).await;
    let good = draft(&node, &[]);
    let good = json!({"config": good});
    // What the node may read and others may not: its mistakes would be quoted.
    let elsewhere = tempfile::TempDir::new().expect("a folder");
    let secret = elsewhere.path().join("secret");
    fs::write(&secret, "swordfish").expect("a file");
    std::os::unix::fs::symlink(&secret, node.folder.path("link.toml")).expect("a link");
    let (tcp, socket) = (Api::tcp(node.control()), &node.api);
    let [vera, olga] = ["vera", "olga"].map(|name| tcp.with_token(&format!("secret of {name}")));
    let needs = "a plan of a config over TCP needs a token with the role operator or admin";
    let with_target = json!({"config": good["config"], "restore": "region/eu"});
    let with_map = json!({"config": good["config"], "map": "nobody.test"});
    for (api, body, status, detail) in [
        (&tcp, &good, 401, needs),
        (&vera, &good, 403, needs),
        (&olga, &good, 200, ""),
        (socket, &good, 200, ""),
        (socket, &json!({"config": "new.toml"}), 400, "`config` is the absolute path of a config"),
        (socket, &json!({"config": node.folder.path("none.toml")}), 422, "/none.toml:1:1: error: "),
        (socket, &json!({"config": secret}), 400, "only from the folder of its own, "),
        (socket, &json!({"config": node.folder.path("link.toml")}), 400, "only from the folder of its own, "),
        (socket, &json!({"config": node.folder.path("state/../new.toml")}), 200, ""),
        (socket, &with_target, 400, "or only `restore`, or only `config`"),
        (socket, &with_map, 404, "there is no service `nobody.test.`"),
    ] {
        let (found, reply) = api.call(Method::POST, "/v1/plan", Some(body.clone())).await;
        assert_eq!(found, status, "{reply}");
        assert!(reply["detail"].as_str().unwrap_or_default().contains(detail), "{reply}");
    }

    let run = |arguments: &[&str]| portolan_at(&node.folder, &[&["plan"], arguments].concat());
    let path = draft(&node, &[("\"us\", \"ap\"]", "\"us\"]"), ("name = \"test\"", "name = \"other\"")]);
    let done = run(&["-c", &path]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let expected = format!("loading {path} would move 25% of the clients of www.example.test.: 25% to ");
    assert!(done.stdout.starts_with(&expected), "{done:?}");
    assert!(done.stderr.starts_with("portolan: warning: "), "{done:?}");
    let path = draft(&node, &[("[region.ap]", "[region.an]"), ("\"ap\"", "\"an\"")]);
    let done = run(&["-c", &path]);
    assert!(done.stdout.contains("\nnew regions: an\nregions that it does not have: ap\n"), "{done:?}");
    // The node is that of the config, where none is named, and a path may be relative.
    assert_eq!(portolan(&["plan", "-c", &path, "--json"]).code, Some(0));
    let path = draft(&node, &[("rank = \"distance\"", "rank = \"nearest\"")]);
    let done = run(&["-c", &path]);
    assert_eq!((done.code, &*done.stdout), (Some(1), ""), "{done:?}");
    assert!(
        done.stderr.starts_with(&format!("portolan: {path}:")) && done.stderr.contains("nearest"),
        "{done:?}"
    );
    // Nothing of it is an event, for nothing was reloaded.
    let events = node.api.get("/v1/events").await.to_string();
    assert!(!events.contains("reload"), "{events}");
    node.stop().await;
}
