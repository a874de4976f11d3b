//! `explain` says what the proxy does with a request: compared with what real requests get.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::backend::Backend;
use crate::harness::binary::{Done, portolan_at, program, run};
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::{Numbers, PATIENCE, me};

/// Listeners and pools of every kind, of five backends.
fn config(backends: &[Backend; 5]) -> String {
    let [a, b, c, d, e] = backends.each_ref().map(|it| it.address);
    format!(
        r#"
[proxy]
workers = 2
[proxy.listener.db]
listen = "127.0.0.1:0"
protocol = "tcp"
route = [{{ split = [{{ pool = "maglev", weight = 1 }}, {{ pool = "least", weight = 1 }}] }}]
[proxy.listener.web]
listen = "127.0.0.1:0"
route = [
  {{ host = "hash.test", pool = "hash" }},
  {{ host = "*.maglev.test", method = "GET", pool = "maglev" }},
  {{ path = "/old/", redirect = {{ status = 301, to = "https://www.example.test/new/" }} }},
  {{ path = {{ exact = "/robots.txt" }}, respond = {{ status = 200, body = "none" }} }},
  {{ header = {{ x-canary = "1" }}, pool = "single" }},
  {{ cookie = {{ beta = true }}, query = {{ v = {{ regex = "^[0-9]" }} }}, pool = "least" }},
  {{ path = "/v1", split = [{{ pool = "hash", weight = 2 }}, {{ pool = "maglev", weight = 1 }}, {{ pool = "single", weight = 0 }}] }},
]
[proxy.pool.hash]
balance = "ip-hash"
backend = [{{ address = "{a}", weight = 3 }}, "{b}", "{c}", {{ address = "{d}", backup = true }}]
probe = []
[proxy.pool.maglev]
balance = "maglev"
backend = ["{a}", "{b}", {{ address = "{c}", weight = 2 }}, "{d}", {{ address = "{e}", weight = 0 }}]
probe = []
[proxy.pool.least]
backend = ["{b}", "{c}"]
probe = []
[proxy.pool.single]
backend = ["{e}"]
probe = []
"#
    )
}

/// A request, and who sends it where.
#[derive(Debug)]
struct Asked {
    listener: &'static str,
    client: Ipv4Addr,
    method: &'static str,
    host: &'static str,
    target: &'static str,
    headers: Vec<&'static str>,
}

impl Asked {
    fn draw(dice: &mut Numbers) -> Self {
        let [_, b, c, d] = (dice.next() as u32).to_be_bytes();
        let mut one_of = |all: &[&'static str]| all[dice.next() as usize % all.len()];
        let optional = [
            one_of(&["x-canary: 1", "x-canary: 2", "", ""]),
            one_of(&["cookie: a=b; beta=1", "cookie: a=b", ""]),
        ];
        Self {
            listener: one_of(&["web", "web", "web", "web", "db"]),
            client: Ipv4Addr::new(127, b, c, d.max(1)),
            method: one_of(&["GET", "GET", "POST"]),
            host: one_of(&["hash.test", "a.maglev.test", "other.test:80", "Other.Test."]),
            target: one_of(&[
                "/v1/x",
                "/v1",
                "/v10",
                "/old/x",
                "/x/../old/",
                "/robots.txt",
                "/?v=1",
                "/?v=a",
                "/%761/x",
            ]),
            headers: optional.into_iter().filter(|it| !it.is_empty()).collect(),
        }
    }

    /// What explain says about it.
    async fn explained(&self, node: &TestNode) -> Value {
        let mut query = vec![
            ("url", format!("http://{}{}", self.host, self.target)),
            ("client", self.client.to_string()),
            ("method", self.method.to_owned()),
            ("listener", self.listener.to_owned()),
        ];
        query.extend(self.headers.iter().map(|it| ("header", (*it).to_owned())));
        let response = node.api.request(Method::GET, "/v1/explain").query(&query).send().await.unwrap();
        assert_eq!(response.status(), 200, "{self:?}");
        response.json().await.expect("JSON")
    }

    /// Sends it from the client's address, and returns the response.
    async fn sent(&self, node: &TestNode) -> String {
        let to = at(node, self.listener);
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((self.client, 0).into()).expect("all of 127.0.0.0/8 is local");
        let mut request = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            self.method, self.target, self.host
        );
        for header in &self.headers {
            request += &format!("{header}\r\n");
        }
        if self.method == "POST" {
            request += "Content-Length: 0\r\n";
        }
        let exchange = async {
            let mut stream = socket.connect(to).await.unwrap();
            stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).await.unwrap();
            response
        };
        timeout(PATIENCE, exchange).await.expect("a response")
    }
}

fn at(node: &TestNode, listener: &str) -> SocketAddr {
    let found = node.node.proxy_addresses.iter().find(|(name, _)| **name == *listener);
    found.expect("a listener").1
}

/// Compares an explanation with the response. Returns the kind of the outcome, and the backend that was predicted.
fn compare(
    explained: &Value,
    response: &str,
    backends: &[Backend; 5],
    names: [&str; 5],
) -> (String, Option<String>) {
    let about = format!("{explained:#}\n{response}");
    let outcome = &explained["outcome"];
    let kind = outcome["kind"].as_str().expect("a kind").to_owned();
    let status = |code: &Value| assert!(response.starts_with(&format!("HTTP/1.1 {code} ")), "{about}");
    match &*kind {
        "redirect" => {
            status(&outcome["status"]);
            assert!(
                response.contains(&format!("location: {}\r\n", outcome["to"].as_str().unwrap())),
                "{about}"
            );
        }
        "respond" => {
            status(&outcome["status"]);
            assert!(response.ends_with(outcome["body"].as_str().unwrap()), "{about}");
        }
        "unrouted" => {
            status(&json!(404));
            assert!(response.ends_with("no route matches this request\n"), "{about}");
        }
        "forward" => {
            status(&json!(200));
            let got = names.iter().position(|it| response.contains(&format!("\"backend\":\"{it}\"")));
            let got = json!(backends[got.expect("a backend answered")].address);
            let pool = &outcome["pool"];
            let candidates = pool["candidates"].as_array().unwrap();
            assert!(candidates.iter().any(|it| it["address"] == got), "{about}");
            if let Some(chosen) = pool["chosen"]["address"].as_str() {
                assert_eq!(got, chosen, "{about}");
                return (kind, Some(chosen.to_owned()));
            }
            assert_eq!(pool["balance"], "least-connections", "{about}");
        }
        other => panic!("{other}"),
    }
    (kind, None)
}

#[tokio::test]
async fn hundreds_of_requests_get_what_explain_says() {
    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
    let mut backends = Vec::new();
    for name in NAMES {
        backends.push(Backend::start(name).await);
    }
    let backends: [Backend; 5] = backends.try_into().unwrap_or_else(|_| panic!("five"));
    let node = TestNode::with(&config(&backends)).await;
    let mut dice = Numbers(5);
    let (mut kinds, mut chosen, mut predicted) = (BTreeSet::new(), BTreeSet::new(), 0);
    for round in 0..3 {
        for _ in 0..150 {
            let asked = Asked::draw(&mut dice);
            let explained = asked.explained(&node).await;
            let (kind, backend) = compare(&explained, &asked.sent(&node).await, &backends, NAMES);
            kinds.insert(kind);
            predicted += usize::from(backend.is_some());
            chosen.extend(backend);
        }
        // Fewer backends in the second round; only the backup of pool `hash` in the third.
        let targets: &[(&str, usize)] =
            if round == 0 { &[("hash", 0), ("maglev", 2)] } else { &[("hash", 1), ("hash", 2)] };
        for (pool, index) in targets {
            let target = format!("pool/{pool}/{}", backends[*index].address);
            node.api.override_with(json!({ "target": target, "action": "drain" })).await;
        }
    }
    assert_eq!(
        kinds.iter().map(String::as_str).collect::<Vec<_>>(),
        ["forward", "redirect", "respond", "unrouted"]
    );
    assert!(predicted > 150 && chosen.len() == 5, "{predicted} predicted, among {chosen:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_node_explains_requests_and_says_what_it_cannot() {
    let one = Backend::start("one").await;
    let node = super::node(&[&one], "").await;
    let target = format!("pool/api/{}", one.address);
    let body = json!({ "target": target, "action": "up", "reason": "trust me" });
    node.api.override_with(body).await;
    let address = one.address;
    for (path, status, why) in [
        ("/v1/explain?url=http://a/", 400, "the query parameter `client` is missing"),
        ("/v1/explain?url=a&client=10.0.0.1", 400, "`a` is not a valid URL"),
        ("/v1/explain?url=http://a/&client=10.0.0.1&header=b", 400, "`b` is not a valid header"),
        (
            "/v1/explain?url=http://a/&client=10.0.0.1&listener=b",
            404,
            "there is no listener `b`: the config has `web`",
        ),
        (
            "/v1/explain?url=http://a/&client=10.0.0.1&type=A",
            400,
            "unknown query parameter `type`: this path takes `url`, `client`, `method`, `listener` and `header`",
        ),
        ("/v1/explain?url=http://a/&url=http://b/&client=10.0.0.1", 400, "`url` is there twice"),
    ] {
        let (got, problem) = node.api.call(Method::GET, path, None).await;
        assert_eq!(got, status, "{path}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(why), "{path}: {problem}");
    }
    let folder = node.stop().await;
    let node = TestNode::start(folder).await;
    let (node, done) = tokio::task::spawn_blocking(move || {
        let arguments = ["explain", "http://a/x", "--client", "10.0.0.1", "-H", "x-y: z", "-X", "PUT"];
        let done = portolan_at(&node.folder, &arguments);
        (node, done)
    })
    .await
    .unwrap();
    let (epoch, me) = (node.api.get("/v1/status").await["node"]["epoch"].clone(), me());
    let (asked, explained) = done.stdout.split_once('\n').expect("several lines");
    assert_eq!(asked, format!("node        {}", node.folder.socket().display()));
    assert_eq!(
        explained,
        format!(
            "\
request     PUT http://a/x
            x-y: z
            host: a
client      10.0.0.1, the address that the proxy sees; epoch {epoch}
listener    web (http) at 127.0.0.1:0
            no listener takes http at port 80, the URL's: explained as if the request came here
route       1, for any request
pool        api, round-robin
backends    {address} (up): forced up by an operator: override 1 by {me} (trust me)
goes to     {address}: the only one in use
"
        ),
        "{}",
        done.stderr
    );
    node.stop().await;
}

const OFFLINE: &str = r#"
[proxy.listener.web]
listen = "0.0.0.0:80"
route = [
  { host = ["a.example.com", "b.example.com", "d.example.com"], pool = "api" },
  { host = "api.example.com", method = "POST", pool = "api" },
  { header = { x-canary = "1" }, pool = "canary" },
  { path = "/old/", redirect = { status = 308, to = "https://www.example.com/new/" } },
  { path = { exact = "/robots.txt" }, respond = { status = 200, body = "none" } },
  { host = "api.example.com", split = [{ pool = "api", weight = 95 }, { pool = "canary", weight = 5 }] },
]
[proxy.pool.api]
balance = "maglev"
backend = [{ address = "10.0.0.1:8080", weight = 3 }, "10.0.0.2:8080", { address = "10.0.0.3:8080", backup = true }]
[proxy.pool.canary]
backend = ["10.0.0.8:8080", "10.0.0.9:8080"]
"#;

fn offline(folder: &Folder, arguments: &[&str]) -> Done {
    let mut command = program();
    command.arg("explain").args(arguments).arg("-c").arg(folder.config());
    run(command)
}

#[test]
fn a_config_is_explained_without_a_node() {
    let folder = Folder::new(OFFLINE);
    let text = |arguments: &[&str]| {
        let done = offline(&folder, arguments);
        assert_eq!((done.code, &*done.stderr), (Some(0), ""), "{done:?}");
        let (first, rest) = done.stdout.split_once('\n').expect("lines");
        let assumed =
            "portolan.toml: no node was asked; assumed: every probe succeeds and there are no overrides";
        assert!(first.starts_with("offline     ") && first.ends_with(assumed), "{first}");
        rest.to_owned()
    };
    assert_eq!(
        text(&["http://api.example.com/v1/x", "--client", "10.1.2.3"]),
        "\
request     GET http://api.example.com/v1/x
            host: api.example.com
client      10.1.2.3, the address that the proxy sees; epoch 0
listener    web (http) at 0.0.0.0:80
passed over route 1: its host is a.example.com, not api.example.com
            route 2: its host is b.example.com, not api.example.com
            route 3: its host is d.example.com, not api.example.com
            route 4: its method is POST, not GET
            route 5: header x-canary is 1, but the request has none
            route 6: its path begins with /old/, not /v1/x
            route 7: its path is /robots.txt, not /v1/x
route       8, for host api.example.com
split       api (weight 95), canary (weight 5); this client stays with api
pool        api, maglev
backends    10.0.0.1:8080 (up, weight 3)
            10.0.0.2:8080 (up, weight 1)
            10.0.0.3:8080 (up, weight 1) not used: a backup, and others are in use
goes to     10.0.0.1:8080: the client's address decides, by a table that few changes disturb
"
    );
    let canary = text(&["http://c.example.com/", "--client", "2001:db8::1", "-H", "X-Canary: 1"]);
    assert!(
        canary.ends_with(
            "\
passed over 4 routes for other hosts
route       5, for header x-canary 1
pool        canary, least-connections
backends    10.0.0.8:8080 (up)
            10.0.0.9:8080 (up)
goes to     one of 10.0.0.8:8080, 10.0.0.9:8080: the one with the fewest requests in progress for its weight
"
        ),
        "{canary}"
    );
    for (url, ending) in [
        (
            "http://a/old/x",
            "route       6, for path /old/\nanswer      308, redirect to https://www.example.com/new/\n",
        ),
        ("http://a/robots.txt", "route       7, for path exactly /robots.txt\nanswer      200, none\n"),
        ("http://a/", "route       none matches\nanswer      404, no route matches this request\n"),
    ] {
        let text = text(&[url, "--client", "10.1.2.3"]);
        assert!(text.ends_with(ending), "{text}");
    }
}

#[test]
fn json_and_mistakes_on_the_command_line() {
    let folder = Folder::new(OFFLINE);
    let done = offline(&folder, &["http://api.example.com/", "--client", "10.1.2.3", "-X", "POST", "--json"]);
    let json: Value = serde_json::from_str(&done.stdout).expect("JSON");
    assert_eq!((&json["offline"], &json["method"]), (&true.into(), &"POST".into()), "{json}");
    assert_eq!(json["route"], json!({ "number": 4, "conditions": "host api.example.com, method POST" }));
    assert_eq!(json["outcome"]["pool"]["chosen"]["address"], "10.0.0.1:8080", "{json}");
    let url = "http://a/";
    for (arguments, code, why) in [
        (&["http://", "--client", "10.1.2.3"][..], 2, "`http://` is not a valid URL"),
        (&[url, "AAAA", "--client", "10.1.2.3"], 2, "a record type and --at go with a name, not with a URL"),
        (
            &["www.example.test", "--client", "10.1.2.3", "-X", "GET"],
            2,
            "-H, -X and --listener go with a URL",
        ),
        (
            &[url, "--client", "10.1.2.3", "--listener", "x"],
            1,
            "there is no listener `x`: the config has `web`",
        ),
    ] {
        let done = offline(&folder, arguments);
        assert_eq!((done.code, &*done.stdout), (Some(code), ""), "{done:?}");
        assert!(done.stderr.contains(why), "{done:?}");
    }
    let without = Folder::new("[region.eu]\nendpoint = [{ name = \"lb1\", address = \"192.0.2.1\" }]\n");
    let done = offline(&without, &[url, "--client", "10.1.2.3"]);
    assert_eq!(done.code, Some(1));
    assert!(
        done.stderr.contains("no proxy is configured here: there is no [proxy.listener.NAME]"),
        "{done:?}"
    );
}
