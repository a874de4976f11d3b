//! Dynamic names of every kind, over real sockets.

use std::net::IpAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::svcb::{SvcParamKey, SvcParamValue};
use hickory_proto::rr::{RData, RecordType};
use serde_json::json;

use crate::harness::binary::portolan_at;
use crate::harness::client::{Client, outcome, query, scope, typed};
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::region::{AMERICAN, Break, DUBLIN, GERMAN, Region, VIRGINIA};
use crate::harness::until;

/// The answer section as text, in order.
fn records(reply: &Message) -> Vec<String> {
    reply.answers.iter().map(ToString::to_string).collect()
}

async fn ask(client: &mut Client, name: &str, rtype: RecordType) -> Vec<String> {
    records(&client.exchange(&typed(name, rtype, Some(GERMAN))).await)
}

/// Two regions of two endpoints with host names and addresses of both families, and one with a single IPv4 address.
const REGIONS: &str = r#"
[region.one]
location = { country = "IE", lat = 53.35, lon = -6.26 }
endpoint = [
  { name = "a", address = ["192.0.2.11", "2001:db8::11"], host = "a.one.example.test", weight = 3 },
  { name = "b", address = ["192.0.2.12", "2001:db8::12"], host = "b.one.example.test" },
]
[region.two]
location = { country = "US", lat = 38.95, lon = -77.45 }
endpoint = [
  { name = "a", address = ["192.0.2.21", "2001:db8::21"], host = "a.two.example.test" },
  { name = "b", address = ["192.0.2.22", "2001:db8::22"], host = "static.example.test" },
]
[region.four]
endpoint = [{ name = "a", address = "192.0.2.41", host = "four.invalid" }]
"#;

/// A service of the zone.
fn service(name: &str, keys: &str) -> String {
    format!("[[service]]\nname = \"{name}.example.test.\"\n{keys}\n")
}

/// The addresses of an answer to A or AAAA.
fn addresses(reply: &Message) -> Vec<IpAddr> {
    outcome(reply).1
}

/// The addresses that an HTTPS record gives as hints, IPv4 first.
fn hints(reply: &Message) -> (Vec<IpAddr>, Vec<IpAddr>) {
    let [record] = &reply.answers[..] else { panic!("one record: {reply}") };
    let RData::HTTPS(https) = &record.data else { panic!("{record}") };
    let (mut four, mut six) = (Vec::new(), Vec::new());
    for (key, value) in &https.0.svc_params {
        match (key, value) {
            (SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(hint)) => {
                four.extend(hint.0.iter().map(|it| IpAddr::V4(it.0)))
            }
            (SvcParamKey::Ipv6Hint, SvcParamValue::Ipv6Hint(hint)) => {
                six.extend(hint.0.iter().map(|it| IpAddr::V6(it.0)))
            }
            _ => {}
        }
    }
    (four, six)
}

/// The TTL of an answer or a denial.
async fn ttl(client: &mut Client, rtype: RecordType) -> u32 {
    let reply = client.exchange(&typed("www.example.test.", rtype, Some(GERMAN))).await;
    reply.answers.iter().chain(&reply.authorities).map(|record| record.ttl).min().expect("a record")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_computed_ttl_is_the_time_until_the_answer_may_change() {
    let (eu, us) = (Region::start("eu", 1), Region::start("us", 2));
    // 501 failures, one every 100 ms: at least 50 s.
    let slowly = [("fall", "501")];
    let node = TestNode::with(&format!(
        "{}{}[[service]]\nname = \"www.example.test.\"\nregions = [\"eu\", \"us\"]\nttl = {{ max = \"50s\", min = \"1s\" }}\n",
        eu.config(DUBLIN, &slowly),
        us.config(VIRGINIA, &slowly),
    ))
    .await;
    let mut client = node.client().await;
    assert_eq!(ttl(&mut client, RecordType::A).await, 50, "nothing but successes");
    assert_eq!(ttl(&mut client, RecordType::AAAA).await, 50, "a denial lasts as long");
    let epoch = node.api.get("/v1/status").await["node"]["epoch"].clone();

    eu.fail(Break::Refuse);
    until("failures bring it down sooner", async || {
        (ttl(&mut client, RecordType::A).await < 50).then_some(())
    })
    .await;
    assert!(node.api.get("/v1/status").await["node"]["epoch"].as_u64() > epoch.as_u64());
    assert!(ttl(&mut client, RecordType::AAAA).await < 50);
    let path = "/v1/explain?name=www.example.test&client=10.1.0.1";
    let explained = node.api.get(path).await;
    let stage = explained["stages"].as_array().expect("stages").iter().find(|stage| stage["stage"] == "ttl");
    let kept = &stage.unwrap_or_else(|| panic!("{explained}"))["kept"];
    assert_eq!(kept[0]["region"], "eu");
    assert!(kept[0]["note"].as_str().expect("a note").starts_with("may change in "), "{kept}");
    assert_eq!(kept.as_array().map(Vec::len), Some(1), "us was not consulted: {kept}");

    eu.heal();
    until("successes wipe failures", async || (ttl(&mut client, RecordType::A).await == 50).then_some(()))
        .await;
    let drain = json!({"target": "endpoint/us/lb1", "action": "drain", "for": "10m"});
    node.api.override_with(drain).await;
    assert_eq!(ttl(&mut client, RecordType::A).await, 50, "us is not consulted");
    let drain = json!({"target": "region/eu", "action": "drain", "for": "20s", "override_safety": true});
    let id = node.api.override_with(drain).await;
    let kept = ttl(&mut client, RecordType::A).await;
    assert!((1..=20).contains(&kept), "{kept}: the override ends then");
    node.api.restore(id).await;
    assert_eq!(client.exchange(&query("www.example.test.", Some(GERMAN))).await.answers[0].ttl, 50);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_hints_are_the_addresses_that_a_and_aaaa_give() {
    let both = "regions = [\"one\", \"two\"]\nhttps = { alpn = [\"h3\", \"h2\"], port = 8443 }\n";
    let config = [
        REGIONS.to_owned(),
        service("drawn", &format!("{both}rank = \"none\"")),
        service("near", &format!("{both}rank = \"distance\"\nanswers = 2")),
        service("four", "regions = [\"four\"]\nhttps = {}"),
        service("plain", "regions = [\"one\"]"),
    ]
    .concat();
    let node = TestNode::with(&config).await;
    let mut client = node.client().await;
    let mut seen = std::collections::BTreeSet::new();
    for name in ["drawn.example.test.", "near.example.test.", "four.example.test."] {
        for place in (0..40).map(|n| format!("10.{}.{n}.0/24", n % 4)) {
            let asked = [RecordType::HTTPS, RecordType::A, RecordType::AAAA]
                .map(|rtype| typed(name, rtype, Some(&place)));
            // A window may end between two of them.
            let (https, four, six) = until("one window", async || {
                let before = client.exchange_all(&asked).await;
                let after = client.exchange_all(&asked).await;
                let [https, four, six] = <[Message; 3]>::try_from(before).expect("three replies");
                (four.answers == after[1].answers && six.answers == after[2].answers)
                    .then_some((https, four, six))
            })
            .await;
            assert_eq!(hints(&https), (addresses(&four), addresses(&six)), "{name} for {place}");
            assert_eq!((scope(&https), https.answers[0].ttl), (scope(&four), 30), "{name} for {place}");
            assert_eq!(https.additionals.len(), four.answers.len() + six.answers.len(), "{https}");
            seen.extend(addresses(&four));
        }
    }
    assert_eq!(seen.len(), 5, "clients are sent everywhere: {seen:?}");
    let explained = async |name: &str| {
        node.api.get(&format!("/v1/explain?name={name}&type=HTTPS&client=10.1.0.1")).await["answer"]["records"].clone()
    };
    let near = explained("near.example.test").await[0].as_str().expect("a record").to_owned();
    // The hints are in the order of their draws, which changes over time.
    let orders = [
        ("192.0.2.11,192.0.2.12", "2001:db8::11,2001:db8::12"),
        ("192.0.2.12,192.0.2.11", "2001:db8::12,2001:db8::11"),
    ];
    let near_by = orders.map(|(v4, v6)| {
        format!("near.example.test. 30 IN HTTPS 1 . alpn=h3,h2 port=8443 ipv4hint={v4} ipv6hint={v6}")
    });
    assert!(near_by.contains(&near), "{near}");
    let four = "four.example.test. 30 IN HTTPS 1 . ipv4hint=192.0.2.41";
    assert_eq!(explained("four.example.test").await, json!([four]));
    assert!(ask(&mut client, "plain.example.test.", RecordType::HTTPS).await.is_empty());
    assert!(ask(&mut client, "near.example.test.", RecordType::SVCB).await.is_empty());

    node.api.override_with(json!({"target": "endpoint/one/a", "action": "drain"})).await;
    let drained =
        hints(&client.exchange(&typed("near.example.test.", RecordType::HTTPS, Some(GERMAN))).await);
    assert_eq!(drained, (vec!["192.0.2.12".parse().unwrap()], vec!["2001:db8::12".parse().unwrap()]));
    let explained = node.api.get("/v1/explain?name=near.example.test&type=HTTPS&client=10.1.0.1").await;
    assert_eq!((&explained["kind"], &explained["region"]), (&json!("dynamic"), &json!("one")), "{explained}");
    assert_eq!(explained["stages"].as_array().map(Vec::len), Some(5), "{explained}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_endpoints_as_cname_srv_and_mx() {
    let near = "regions = [\"one\", \"two\"]\nrank = \"distance\"";
    let config = [
        REGIONS.to_owned(),
        service("c", &format!("type = \"cname\"\n{near}\nshare = \"hash\"")),
        service("own", "type = \"cname\"\nregions = [\"two\"]"),
        service("to", "type = \"cname\"\nregions = [\"loop\"]"),
        service(
            "_sip._udp",
            &format!("type = \"srv\"\nsrv = {{ port = 5060, priority = 7 }}\nanswers = 2\n{near}"),
        ),
        service("mail", &format!("type = \"mx\"\nmx = {{ preference = 5 }}\nanswers = 2\n{near}")),
        "[region.loop]\nendpoint = [{ name = \"a\", host = \"back.example.test\" }]\n".into(),
        service("back", "type = \"cname\"\nregions = [\"there\"]"),
        "[region.there]\nendpoint = [{ name = \"a\", host = \"to.example.test\" }]\n".into(),
    ]
    .concat();
    let node = TestNode::with(&config).await;
    let mut client = node.client().await;
    // Germans are sent to `one`, whose first endpoint gets three of four clients.
    let found = ask(&mut client, "c.example.test.", RecordType::A).await;
    assert!(
        found == ["c.example.test. 30 IN CNAME a.one.example.test."]
            || found == ["c.example.test. 30 IN CNAME b.one.example.test."],
        "{found:?}"
    );
    assert_eq!(ask(&mut client, "c.example.test.", RecordType::CNAME).await, found, "whatever is asked");
    assert_eq!(ask(&mut client, "c.example.test.", RecordType::TXT).await, found);
    assert_eq!(ask(&mut client, "c.example.test.", RecordType::ANY).await, found, "RFC 8482 §4.2");
    node.api.override_with(json!({"target": "endpoint/two/a", "action": "down"})).await;
    let reply = client.exchange(&typed("own.example.test.", RecordType::A, Some(GERMAN))).await;
    assert_eq!(
        records(&reply),
        ["own.example.test. 30 IN CNAME static.example.test.", "static.example.test. 300 IN A 192.0.2.1"]
    );
    let alias = "own.example.test. 30 IN CNAME static.example.test.";
    let any = ask(&mut client, "own.example.test.", RecordType::ANY).await;
    assert_eq!(any, [alias], "the target is not added");
    assert_eq!(scope(&reply), Some(24), "the static target holds for all clients, the alias to it does not");
    let looped = ask(&mut client, "to.example.test.", RecordType::A).await;
    assert_eq!(
        looped,
        [
            "to.example.test. 30 IN CNAME back.example.test.",
            "back.example.test. 30 IN CNAME to.example.test."
        ]
    );

    let srv = |target: &str, weight| format!("_sip._udp.example.test. 30 IN SRV 7 {weight} 5060 {target}.");
    // In the order of their draws, which changes over time.
    let mut found = ask(&mut client, "_sip._udp.example.test.", RecordType::SRV).await;
    found.sort();
    assert_eq!(found, [srv("b.one.example.test", 100), srv("a.one.example.test", 3)]);
    let american = client.exchange(&typed("_sip._udp.example.test.", RecordType::SRV, Some(AMERICAN))).await;
    assert_eq!(records(&american), [srv("static.example.test", 100)], "the other endpoint is down");
    assert_eq!(american.additionals[0].to_string(), "static.example.test. 300 IN A 192.0.2.1");
    assert_eq!(scope(&american), Some(24));
    let mut mail = ask(&mut client, "mail.example.test.", RecordType::MX).await;
    mail.sort();
    assert_eq!(
        mail,
        [
            "mail.example.test. 30 IN MX 5 a.one.example.test.",
            "mail.example.test. 30 IN MX 5 b.one.example.test."
        ]
    );
    let none = client.exchange(&typed("mail.example.test.", RecordType::A, Some(GERMAN))).await;
    assert_eq!(
        (none.metadata.response_code, none.answers.len(), none.authorities.len()),
        (ResponseCode::NoError, 0, 1)
    );

    node.api.override_with(json!({"target": "region/one", "action": "down"})).await;
    assert_eq!(
        ask(&mut client, "_sip._udp.example.test.", RecordType::SRV).await,
        [srv("static.example.test", 100)]
    );
    for (name, rtype) in [("_sip._udp", "SRV"), ("mail", "MX"), ("own", "A"), ("c", "CNAME")] {
        let path = format!("/v1/explain?name={name}.example.test&type={rtype}&client=10.1.0.1");
        let explained = node.api.get(&path).await;
        assert_eq!(
            (&explained["kind"], &explained["region"]),
            (&json!("dynamic"), &json!("two")),
            "{explained}"
        );
    }
    let done = portolan_at(&node.folder, &["status"]);
    assert!(
        done.stdout.contains("to.example.test.") && done.stdout.contains("no address: always up"),
        "{}",
        done.stdout
    );
    let kinds = node.api.get("/v1/status").await["services"].as_array().expect("a list").clone();
    assert_eq!(
        (&kinds[0]["type"], &kinds[3]["type"], &kinds[4]["type"]),
        (&json!("cname"), &json!("srv"), &json!("mx"))
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_of_other_types_and_static_records_share_a_name() {
    let both = "regions = [\"one\", \"two\"]\nrank = \"none\"\n";
    let of = |kind: &str| format!("{both}type = \"{kind}\"");
    let at_apex = |keys: &str| format!("[[service]]\nname = \"example.test.\"\n{keys}\n");
    let folder = Folder::new(
        &[
            REGIONS.to_owned(),
            at_apex("regions = [\"four\"]"),
            service("www", &of("mx")),
            service("www", &format!("{both}https = {{}}")),
            service("www", &format!("{}\nsrv = {{ port = 443 }}", of("srv"))),
            service("mail", &of("mx")),
        ]
        .concat(),
    );
    let zone = std::fs::read_to_string(folder.path("example.test.zone")).expect("a zone");
    let beside = "@ MX 10 static\n@ TXT \"v=spf1 -all\"\n@ CAA 0 issue \"ca.test\"\nwww TXT beside\nmail A 192.0.2.25\nmail AAAA 2001:db8::25\n";
    folder.write("example.test.zone", zone + beside);
    folder.reconfigure("[dns]\n", "[dns]\ndebug_names = true\n");
    let node = TestNode::start(folder).await;
    let mut client = node.client().await;
    for (name, rtype, expected) in [
        ("", "A", "30 IN A 192.0.2.41"),
        ("", "MX", "300 IN MX 10 static.example.test."),
        ("", "TXT", "300 IN TXT v=spf1 -all"),
        ("", "CAA", "300 IN CAA 0 issue \"ca.test\""),
        ("", "NS", "300 IN NS ns.example.test."),
        ("", "AAAA", ""),
        ("www.", "TXT", "300 IN TXT beside"),
        ("www.", "CAA", ""),
        ("mail.", "A", "300 IN A 192.0.2.25"),
        ("mail.", "AAAA", "300 IN AAAA 2001:db8::25"),
    ] {
        let (name, rtype) = (format!("{name}example.test."), rtype.parse().expect("a type"));
        let reply = client.exchange(&typed(&name, rtype, Some(GERMAN))).await;
        let found: Vec<_> =
            records(&reply).iter().map(|it| it.replacen(&format!("{name} "), "", 1)).collect();
        assert_eq!(found, Vec::from_iter((!expected.is_empty()).then_some(expected)), "{name} {rtype}");
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError, "{name} {rtype}");
    }
    let types = [RecordType::A, RecordType::AAAA, RecordType::HTTPS, RecordType::MX, RecordType::SRV];
    for rtype in types {
        let drawn = ask(&mut client, "www.example.test.", rtype).await;
        assert!(!drawn.is_empty() && drawn.iter().all(|it| it.contains(&format!(" {rtype} "))), "{drawn:?}");
    }
    let name = "_portolan.www.example.test.";
    let debug = client.exchange(&typed(name, RecordType::TXT, Some(GERMAN))).await;
    let RData::TXT(txt) = &debug.answers[0].data else { panic!("{debug}") };
    let chosen = txt.txt_data[3..].iter().map(|it| String::from_utf8_lossy(it).into_owned());
    let chosen: Vec<_> = chosen.map(|it| it.split(' ').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(chosen, ["host", "a", "aaaa", "host"]);

    // An override of a region in a service applies to all services of that name.
    node.api
        .override_with(json!({"target": "service/www.example.test/one", "action": "down", "for": "1h"}))
        .await;
    for rtype in types {
        let path = format!("/v1/explain?name=www.example.test&type={rtype}&client=10.1.0.1");
        let explained = node.api.get(&path).await;
        assert_eq!(explained["region"], "two", "{explained}");
    }
    let explained = node.api.get("/v1/explain?name=mail.example.test&type=A&client=10.1.0.1").await;
    assert_eq!(explained["kind"], "unsteered", "{explained}");
    node.stop().await;
}

/// RFC 2181 §5: an RRset has no duplicate records.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_and_addresses_shared_by_endpoints_are_answered_once() {
    let region = r#"
[region.shared]
endpoint = [
  { name = "a", address = "192.0.2.51", host = "static.example.test" },
  { name = "b", address = ["192.0.2.51", "192.0.2.52"], host = "Static.example.test" },
]
"#;
    let several = "regions = [\"shared\"]\nanswers = 2";
    let config = [
        region.to_owned(),
        service("www", &format!("{several}\nhttps = {{}}")),
        service("www", &format!("type = \"srv\"\nsrv = {{ port = 443 }}\n{several}")),
        service("www", &format!("type = \"mx\"\n{several}")),
    ]
    .concat();
    let node = TestNode::with(&config).await;
    let mut client = node.client().await;
    let ask = async |client: &mut Client, rtype| {
        client.exchange(&typed("www.example.test.", rtype, Some(GERMAN))).await
    };
    let both: [IpAddr; 2] = ["192.0.2.51", "192.0.2.52"].map(|it| it.parse().expect("an address"));
    assert_eq!(addresses(&ask(&mut client, RecordType::A).await), both);
    assert_eq!(hints(&ask(&mut client, RecordType::HTTPS).await).0, both);
    for rtype in [RecordType::SRV, RecordType::MX] {
        let reply = ask(&mut client, rtype).await;
        assert_eq!((reply.answers.len(), reply.additionals.len()), (1, 1), "{reply}");
        // Each endpoint has weight 100; the host has their sum.
        if let RData::SRV(srv) = &reply.answers[0].data {
            assert_eq!(srv.weight, 200);
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wildcard_answers_for_every_name_below_it() {
    let keys = "regions = [\"one\", \"two\"]\nrank = \"none\"\nshare = \"hash\"\nhttps = { alpn = \"h2\" }";
    let config = [
        REGIONS.to_owned(),
        service("*.apps", keys),
        service("own.apps", "regions = [\"four\"]"),
        service("*.named", "type = \"cname\"\nregions = [\"two\"]\nshare = \"hash\""),
    ]
    .concat();
    let node = TestNode::with(&config).await;
    let mut client = node.client().await;
    for n in 0..20 {
        let place = format!("10.9.{n}.0/24");
        let asked: Vec<Message> = ["x.apps.example.test.", "a.b.apps.example.test.", "*.apps.example.test."]
            .map(|name| query(name, Some(&place)))
            .into();
        let replies = client.exchange_all(&asked).await;
        for (reply, asked) in replies.iter().zip(&asked) {
            assert_eq!(reply.answers[0].name, asked.queries[0].name, "the owner is the name asked for");
            assert_eq!(addresses(reply), addresses(&replies[0]), "{place}: one draw for all of them");
            assert_eq!(scope(reply), Some(24));
        }
    }
    // RFC 4592 §2.2.1: a name that exists is not covered, nor what is below it.
    assert_eq!(
        ask(&mut client, "own.apps.example.test.", RecordType::A).await,
        ["own.apps.example.test. 30 IN A 192.0.2.41"]
    );
    let below = client.exchange(&query("below.own.apps.example.test.", Some(GERMAN))).await;
    assert_eq!(below.metadata.response_code, ResponseCode::NXDomain);
    assert!(ask(&mut client, "apps.example.test.", RecordType::A).await.is_empty());
    assert!(ask(&mut client, "x.apps.example.test.", RecordType::MX).await.is_empty());
    let https = client.exchange(&typed("x.apps.example.test.", RecordType::HTTPS, Some(GERMAN))).await;
    assert_eq!(https.answers[0].name.to_string(), "x.apps.example.test.");
    assert_eq!(hints(&https).0.len(), 1);
    assert!(
        ask(&mut client, "y.named.example.test.", RecordType::A).await[0]
            .starts_with("y.named.example.test. 30 IN CNAME ")
    );

    let done = portolan_at(&node.folder, &["explain", "x.apps.example.test", "--client", "10.1.0.1"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.contains("*.apps.example.test., a wildcard that covers it"), "{}", done.stdout);
    let done = portolan_at(&node.folder, &["explain", "x.apps.example.test", "MX", "--client", "10.1.0.1"]);
    assert!(done.stdout.contains("yes, but not for this type"), "{}", done.stdout);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_may_be_an_alias_while_all_regions_are_down() {
    let eu = Region::start("eu", 1);
    let config = [
        eu.config(DUBLIN, &[]),
        service("www", "regions = [\"eu\"]\nall_down = { cname = \"static.example.test\" }"),
        service("out", "regions = [\"eu\"]\nall_down = { cname = \"sorry.invalid\" }"),
    ]
    .concat();
    let node = TestNode::with(&config).await;
    let mut client = node.client().await;
    let address = format!("www.example.test. 30 IN A {}", eu.ip());
    assert_eq!(ask(&mut client, "www.example.test.", RecordType::A).await, std::slice::from_ref(&address));
    assert!(ask(&mut client, "www.example.test.", RecordType::TXT).await.is_empty());
    assert!(ask(&mut client, "www.example.test.", RecordType::CNAME).await.is_empty());
    let any = ask(&mut client, "www.example.test.", RecordType::ANY).await;
    assert_eq!(any, ["www.example.test. 30 IN HINFO RFC8482 "]);

    eu.fail(Break::Refuse);
    let cname = "www.example.test. 30 IN CNAME static.example.test.";
    until("it is an alias", async || {
        (ask(&mut client, "www.example.test.", RecordType::CNAME).await == [cname]).then_some(())
    })
    .await;
    let chain = [cname, "static.example.test. 300 IN A 192.0.2.1"];
    assert_eq!(ask(&mut client, "www.example.test.", RecordType::A).await, chain);
    assert_eq!(ask(&mut client, "www.example.test.", RecordType::TXT).await, [cname], "for every type");
    assert_eq!(ask(&mut client, "www.example.test.", RecordType::ANY).await, [cname], "RFC 8482 §4.2");
    assert_eq!(
        ask(&mut client, "out.example.test.", RecordType::AAAA).await,
        ["out.example.test. 30 IN CNAME sorry.invalid."]
    );
    let done = portolan_at(&node.folder, &["explain", "www.example.test", "--client", "10.1.0.1"]);
    assert!(
        done.stdout
            .contains("NOERROR, the CNAME that all_down names: no region can serve this client, for 30 s"),
        "{}",
        done.stdout
    );
    assert!(done.stdout.contains(cname), "{}", done.stdout);

    eu.heal();
    until("it has an address again", async || {
        (ask(&mut client, "www.example.test.", RecordType::A).await == [address.clone()]).then_some(())
    })
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn debug_names_show_the_decision_for_the_client() {
    let near = "regions = [\"one\", \"two\"]\nrank = \"distance\"";
    let config = [
        REGIONS.to_owned(),
        service("www", near),
        service("*.apps", near),
        service("c", &format!("type = \"cname\"\n{near}")),
    ]
    .concat();
    let node = TestNode::with(&config).await;
    let mut client = node.client().await;
    let asked = typed("_portolan.www.example.test.", RecordType::TXT, Some(GERMAN));
    let reply = client.exchange(&asked).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain, "off by default");

    node.folder.reconfigure("[dns]\n", "[dns]\ndebug_names = true\n");
    let (status, reloaded) = node.api.call(reqwest::Method::POST, "/v1/reload", None).await;
    assert_eq!(status, 200, "{reloaded}");
    node.api.override_with(json!({"target": "region/one", "action": "down"})).await;
    let epoch = node.api.get("/v1/status").await["node"]["epoch"].clone();
    let strings = |reply: &Message| -> Vec<String> {
        let RData::TXT(txt) = &reply.answers[0].data else { panic!("{reply}") };
        txt.txt_data.iter().map(|it| String::from_utf8(it.to_vec()).expect("text")).collect()
    };
    let reply = client.exchange(&asked).await;
    assert_eq!((reply.answers[0].ttl, scope(&reply)), (0, Some(24)));
    let decision = "answer=addresses region=two ttl=30 scope=24 order=one,two out=one@eligible";
    assert_eq!(
        strings(&reply),
        [
            format!("epoch={epoch}"),
            "client=10.1.0.0 prefix=10.1.0.0/16 country=DE".into(),
            "service=www.example.test.".into(),
            format!("a {decision}"),
            format!("aaaa {decision}"),
        ]
    );
    let wildcard =
        client.exchange(&typed("_portolan.x.apps.example.test.", RecordType::TXT, Some(AMERICAN))).await;
    assert_eq!(
        strings(&wildcard)[2..4],
        [
            "service=*.apps.example.test.".to_owned(),
            "a answer=addresses region=two ttl=30 scope=24 order=two,one out=one@eligible".into()
        ]
    );
    let names = client.exchange(&typed("_portolan.c.example.test.", RecordType::TXT, Some(GERMAN))).await;
    let decision = decision.replace("addresses", "hosts");
    assert_eq!(strings(&names)[3], format!("host {decision}"));
    let none = client.exchange(&query("_portolan.www.example.test.", Some(GERMAN))).await;
    assert_eq!((none.metadata.response_code, none.answers.len()), (ResponseCode::NoError, 0));
    let other =
        client.exchange(&typed("_portolan.static.example.test.", RecordType::TXT, Some(GERMAN))).await;
    assert_eq!(other.metadata.response_code, ResponseCode::NXDomain, "no service");
    let down = json!({"target": "region/two", "action": "down", "override_safety": true});
    node.api.override_with(down).await;
    let decision = "answer=servfail region=none ttl=30 scope=24 order=one,two out=one@eligible,two@eligible";
    let all_down = strings(&client.exchange(&asked).await);
    assert_eq!(all_down[3], format!("a {decision}"), "a region forced down is never answered");
    node.stop().await;
}
