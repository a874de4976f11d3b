//! A change that leaves a service without a region says what `all_down` answers then, and that is what is answered.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::binary::portolan_at;
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;

/// A service of one region, in force with this `all_down`.
fn config(all_down: &str) -> String {
    format!(
        "[region.eu]\nendpoint = [{{ name = \"lb1\", address = \"192.0.2.1\" }}]\n\
         [region.us]\nendpoint = [{{ name = \"lb1\", address = \"192.0.2.2\" }}]\n\
         [[service]]\nname = \"www.example.test.\"\nregions = [\"eu\"]\nall_down = {all_down}\n"
    )
}

/// What the service answers now: the code and the data of the records.
async fn answered(node: &TestNode) -> String {
    let explained = node.api.get("/v1/explain?name=www.example.test&client=192.0.2.99").await;
    let data =
        |record: &Value| record.as_str().expect("a record").rsplit(' ').next().expect("data").to_owned();
    let records = explained["answer"]["records"].as_array().expect("a list").iter().map(data);
    let code = explained["answer"]["rcode"].as_str().expect("a code").to_owned();
    [code].into_iter().chain(records).collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_leaves_no_region_says_what_is_answered_instead() {
    for (all_down, action, expected, answer) in [
        ("\"all\"", "drain", "all_down = \"all\" would then answer with eu", "NOERROR 192.0.2.1"),
        (
            "\"all\"",
            "down",
            "all_down = \"all\" would then answer with SERVFAIL, as no region may be answered",
            "SERVFAIL",
        ),
        ("\"servfail\"", "drain", "all_down = \"servfail\" would then answer with SERVFAIL", "SERVFAIL"),
        (
            "{ last_good = \"10m\" }",
            "drain",
            "all_down would then answer with what served within the last 600 s, or else with eu",
            "NOERROR 192.0.2.1",
        ),
        (
            "{ fallback = [\"203.0.113.9\", \"2001:db8::9\"] }",
            "drain",
            "all_down would then answer with its fallback 203.0.113.9",
            "NOERROR 203.0.113.9",
        ),
        (
            "{ cname = \"lb.example.net\" }",
            "down",
            "all_down would then answer with a CNAME to lb.example.net.",
            "NOERROR lb.example.net.",
        ),
    ] {
        let node = TestNode::with(&config(all_down)).await;
        let mut body = json!({"target": "region/eu", "action": action});
        let (status, plan) = node.api.call(Method::POST, "/v1/plan", Some(body.clone())).await;
        assert_eq!(status, 200, "{plan}");
        let sentence = format!("no region would be left for www.example.test.: {expected}");
        assert_eq!(plan["all_down"], sentence);
        assert!(!plan["refused"].as_str().expect("a refusal").contains("all_down"), "not twice: {plan}");
        let option = if action == "down" { "--down" } else { "--drain" };
        let shown = portolan_at(&node.folder, &["plan", option, "region/eu"]);
        let line =
            format!("\nNo region would be left for www.example.test.: {}.\n", expected.trim_end_matches('.'));
        assert!(shown.code == Some(4) && shown.stdout.contains(&line), "{shown:?}");

        let (status, refused) = node.api.call(Method::POST, "/v1/overrides", Some(body.clone())).await;
        let end = format!("would not be usable; {expected}; set `override_safety` to do it anyway");
        assert!(
            status == 409 && refused["detail"].as_str().is_some_and(|it| it.ends_with(&end)),
            "{refused}"
        );
        body["override_safety"] = true.into();
        node.api.override_with(body).await;
        assert_eq!(answered(&node).await, answer, "{all_down}");
        // What another change leaves without a region it has not got already is nothing.
        let other = json!({"target": "service/www.example.test/eu", "action": "down"});
        let (_, plan) = node.api.call(Method::POST, "/v1/plan", Some(other)).await;
        assert_eq!(plan["all_down"], Value::Null, "{plan}");
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_told_apart_by_what_they_are_answered() {
    let more = "[[service]]\nname = \"api.example.test.\"\nregions = [\"eu\"]\nall_down = \"servfail\"\n\
                [[service]]\nname = \"cdn.example.test.\"\nregions = [\"eu\"]\nall_down = \"servfail\"\n\
                [[service]]\nname = \"far.example.test.\"\nregions = [\"us\"]\n\
                [[service]]\nname = \"eea.example.test.\"\nregions = [\"eu\", \"us\"]\n\
                fence = [{ region = \"us\", except = [\"country:DE\"] }]\n";
    let node = TestNode::with(&(config("\"all\"") + more)).await;
    let drain = json!({"target": "region/eu", "action": "drain"});
    let (_, plan) = node.api.call(Method::POST, "/v1/plan", Some(drain.clone())).await;
    assert_eq!(
        plan["all_down"],
        "no region would be left for www.example.test.: all_down = \"all\" would then answer with eu; \
         no region would be left for eea.example.test.: all_down = \"all\" would then answer with the most promising regions \
         of each client; \
         no region would be left for api.example.test., cdn.example.test.: all_down = \"servfail\" would then answer with \
         SERVFAIL"
    );
    let (_, refused) = node.api.call(Method::POST, "/v1/overrides", Some(drain)).await;
    let detail = refused["detail"].as_str().expect("a text");
    assert!(
        detail.contains("all_down = \"servfail\" would then answer with SERVFAIL for api.example.test., cdn"),
        "{detail}"
    );
    let (_, plan) =
        node.api.call(Method::POST, "/v1/plan", Some(json!({"target": "region/us", "action": "up"}))).await;
    assert_eq!(plan["all_down"], Value::Null);
    node.stop().await;
}

/// A new config may leave a service to regions that are drained.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_that_leaves_no_region_says_so_too() {
    let folder = Folder::new(&config("\"all\"").replace("[\"eu\"]", "[\"eu\", \"us\"]"));
    let node = TestNode::start(folder).await;
    node.api.override_with(json!({"target": "region/us", "action": "drain"})).await;
    let text = std::fs::read_to_string(node.folder.config()).expect("a config");
    for (regions, expected) in [
        (
            "[\"us\"]",
            json!(
                "no region would be left for www.example.test.: all_down = \"all\" would then answer with us"
            ),
        ),
        ("[\"eu\"]", Value::Null),
    ] {
        node.folder.write("new.toml", text.replace("[\"eu\", \"us\"]", regions));
        let body = json!({"config": node.folder.path("new.toml")});
        let (status, plan) = node.api.call(Method::POST, "/v1/plan", Some(body)).await;
        assert_eq!((status, &plan["all_down"]), (200, &expected), "{plan}");
    }
    node.stop().await;
}
