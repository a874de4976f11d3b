//! The OpenAPI document is true: every operation in it exists, is guarded as it says and replies as it says, and there
//! is no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::harness::folder::{Folder, tokens};
use crate::harness::http::Api;
use crate::harness::node::TestNode;
use crate::harness::region::{GERMAN, NEAREST, Three};
use crate::harness::until;

const PROXY: &str = "\
[proxy.listener.web]\nlisten = \"127.0.0.1:0\"\nroute = [{ path = \"/old\", redirect = { status = 308, to = \"/new\" } }, { pool = \"web\" }]
[proxy.pool.web]\nbackend = [{ address = \"127.0.0.1:9\" }, { address = \"127.0.0.1:10\", backup = true }]\nprobe = []\n
[safety]\nmin_regions = 3
";

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// A request and the status of its response.
struct Sample {
    method: Method,
    /// The path in the document.
    path: &'static str,
    /// What stands for the parts of the path, and the query.
    target: String,
    header: Option<(&'static str, &'static str)>,
    body: Option<Value>,
    status: u16,
}

fn sample(method: Method, path: &'static str, status: u16) -> Sample {
    Sample { method, path, target: path.into(), header: None, body: None, status }
}

fn read(path: &'static str) -> Sample {
    sample(Method::GET, path, 200)
}

impl Sample {
    fn at(self, target: &str) -> Self {
        Self { target: target.into(), ..self }
    }

    fn with(self, header: (&'static str, &'static str)) -> Self {
        Self { header: Some(header), ..self }
    }

    fn of(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    async fn send(&self, api: &Api) -> Response {
        let mut request = api.request(self.method.clone(), &self.target);
        if let Some((name, value)) = self.header {
            request = request.header(name, value);
        }
        if let Some(body) = &self.body {
            request = request.json(body);
        }
        request.send().await.expect("a response")
    }
}

/// Requests for every operation, with every parameter; in an order in which they work.
fn samples(page: &str) -> Vec<Sample> {
    let post = |path, status, body| sample(Method::POST, path, status).of(body);
    let restore = |target: &str, status| sample(Method::DELETE, "/v1/overrides/{id}", status).at(target);
    let explained = "/v1/explain?name=www.example.test&type=AAAA&client=10.1.0.1&at=2026-11-20T12:00:00Z";
    let url = "/v1/explain?url=http://a.test/x&client=10.1.0.1&method=POST&listener=web&header=a:%20b&header=c:%20d";
    vec![
        post("/v1/overrides", 200, json!({"target": "region/eu", "action": "up"})),
        post(
            "/v1/overrides",
            200,
            json!({"target": "pool/web/127.0.0.1:9", "action": "drain", "share": "25%", "for": "1h", "reason": "r"}),
        ),
        post("/v1/overrides", 400, json!({"target": "region/eu", "action": "sideways"})),
        post("/v1/overrides", 404, json!({"target": "region/nobody", "action": "up"})),
        post("/v1/overrides", 409, json!({"target": "region/us", "action": "down"})),
        read("/v1/overrides"),
        read("/v1/status"),
        read("/v1/status").at("/v1/status?verbose=1").refused(400),
        read("/v1/regions"),
        read("/v1/services"),
        read("/v1/handshakes"),
        read("/v1/whoami"),
        read("/v1/events"),
        read("/v1/events").with(("accept", "text/event-stream")),
        read("/v1/events").with(("last-event-id", "1")),
        read("/v1/explain").at(explained),
        read("/v1/explain").at("/v1/explain?name=static.example.test&client=10.1.0.1"),
        read("/v1/explain").at("/v1/explain?name=x.example.org&client=10.1.0.1").refused(404),
        read("/v1/explain").at(url),
        read("/v1/explain").at("/v1/explain?url=http://a.test/old&client=10.1.0.1"),
        read("/v1/explain").at("/v1/explain?name=www.example.test").refused(400),
        read("/v1/traffic"),
        read("/v1/traffic").at("/v1/traffic?service=www.example.test"),
        read("/v1/traffic").at("/v1/traffic?service=other.example.test").refused(404),
        read("/v1/map").at("/v1/map?service=www.example.test"),
        read("/v1/map").at("/v1/map?service=other.example.test").refused(404),
        post("/v1/plan", 200, json!({"target": "region/eu", "action": "drain"})),
        post("/v1/plan", 200, json!({"restore": "region/eu", "map": "www.example.test"})),
        post("/v1/plan", 400, json!({})),
        restore("/v1/overrides/1?override_safety=true", 200),
        restore("/v1/overrides/99", 404),
        post("/v1/acme", 200, json!({"name": "www.example.test", "token": "abc", "for": "1m"})),
        post("/v1/acme", 404, json!({"name": "www.example.org", "token": "abc"})),
        sample(Method::POST, "/v1/reload", 200),
        read("/v1/audit").at("/v1/audit?since=2026-01-01T00:00:00Z&limit=100"),
        read("/v1/audit").at("/v1/audit?limit=many").refused(400),
        read("/v1/openapi.json"),
        read("/livez"),
        read("/readyz"),
        read("/metrics"),
        read("/metrics").with(("accept", "text/plain;version=0.0.4")),
        read("/"),
        read("/page/{version}/{name}").at(page),
        read("/page/{version}/{name}").at("/page/0/nothing.js").refused(404),
    ]
}

impl Sample {
    fn refused(self, status: u16) -> Self {
        Self { status, ..self }
    }
}

async fn start() -> (Three, TestNode) {
    let three = Three::start();
    let folder = Folder::new(&[three.config(&[]), NEAREST.into(), PROXY.into()].concat());
    folder.reconfigure(
        "socket = \"control.sock\"",
        &tokens(&[("eve", "viewer"), ("ci", "operator"), ("root", "admin")]),
    );
    let node = TestNode::start(folder).await;
    node.client().await.address("www.example.test.", GERMAN).await;
    (three, node)
}

/// The operations of the document: method, path, description.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().expect("an object");
    let of_path = |(path, item): (&String, &Value)| {
        let item = item.as_object().expect("an object").clone();
        let path = path.clone();
        item.into_iter().map(move |(method, about)| (method, path.clone(), about))
    };
    paths.iter().flat_map(of_path).collect()
}

/// A schema that allows only what it names.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(keys) => {
            if keys.contains_key("properties") && !keys.contains_key("$ref") {
                keys.entry("additionalProperties").or_insert(json!(false));
            }
            keys.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// Checks an instance against a schema of the document, closed: what the schema does not name is wrong, too.
#[track_caller]
fn check(document: &Value, schema: &Value, instance: &Value, what: &str) {
    let mut schema = schema.clone();
    schema["components"] = document["components"].clone();
    close(&mut schema["components"]["schemas"]);
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.set_default_draft(boon::Draft::V2020_12);
    compiler.add_resource("http://node.test/schema", schema).expect("a schema");
    let index = compiler
        .compile("http://node.test/schema", &mut schemas)
        .unwrap_or_else(|why| panic!("{what}: {why:#}"));
    if let Err(why) = schemas.validate(instance, index) {
        panic!("{what}: {why:#}\n{instance:#}");
    }
}

/// Checks a response against what the document says about it.
async fn check_response(document: &Value, about: &Value, sample: &Sample, response: Response) {
    let what = format!("{} {}", sample.method, sample.target);
    let status = response.status().as_u16();
    let kind = response.headers()[CONTENT_TYPE].to_str().expect("text").to_owned();
    assert_eq!(
        status,
        sample.status,
        "{what}: {}",
        if kind.contains("stream") { String::new() } else { response.text().await.expect("text") }
    );
    let contents = &about["responses"][status.to_string()]["content"];
    let contents = contents.as_object().unwrap_or_else(|| panic!("{what}: {status} is not in the document"));
    let content = contents.get(&kind).or_else(|| contents.get("*/*"));
    let schema = &content.unwrap_or_else(|| panic!("{what}: {kind} is not in the document"))["schema"];
    if kind.contains("json") {
        let instance = response.json().await.expect("JSON");
        check(document, schema, &instance, &what);
    } else {
        check(document, schema, &json!(""), &what);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_replies_as_the_document_says() {
    let (_three, node) = start().await;
    let api = Api::tcp(node.control()).with_token("secret of root");
    let document = api.get("/v1/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    let page = api.text("/").await;
    let (_, page) = page.split_once("\"page/").expect("a part of the page");
    let page = format!("/page/{}", page.split('"').next().expect("a path"));

    let mut unseen: BTreeSet<String> = BTreeSet::new();
    for (method, path, about) in operations(&document) {
        let parameters = about["parameters"].as_array().cloned().unwrap_or_default();
        let named = parameters.iter().filter(|it| it["in"] != "path").map(|it| &it["name"]);
        unseen.extend(named.map(|name| format!("{method} {path} {}", name.as_str().expect("a name"))));
        let good = about["responses"]["200"]["content"].as_object().expect("a good reply").keys();
        unseen.extend(good.map(|kind| format!("{method} {path} gives {kind}")));
    }
    for sample in samples(&page) {
        let method = sample.method.as_str().to_lowercase();
        let about = &document["paths"][sample.path][&method];
        assert!(about.is_object(), "{method} {} is not in the document", sample.path);
        if let Some(body) = &sample.body
            && sample.status != 400
        {
            let schema = &about["requestBody"]["content"]["application/json"]["schema"];
            check(&document, schema, body, &format!("the body of {method} {}", sample.path));
        }
        let (name, is_good) = (format!("{method} {}", sample.path), sample.status == 200);
        let query = sample.target.split_once('?').map_or("", |(_, query)| query);
        let used = query.split('&').filter_map(|it| it.split_once('=')).map(|(name, _)| name);
        let used: Vec<_> = used.chain(sample.header.map(|(name, _)| name)).collect();
        let response = sample.send(&api).await;
        if is_good {
            for parameter in &used {
                unseen.remove(&format!("{name} {parameter}"));
            }
            let kind = response.headers()[CONTENT_TYPE].to_str().expect("text");
            unseen.remove(&format!("{name} gives {kind}"));
            unseen.remove(&format!("{name} gives */*"));
        }
        check_response(&document, about, &sample, response).await;
    }
    assert_eq!(unseen, BTreeSet::new(), "the document has what no request here has seen");

    node.folder.reconfigure("workers = 1", "workers = \"one\"");
    let broken = sample(Method::POST, "/v1/reload", 422);
    let response = broken.send(&api).await;
    check_response(&document, &document["paths"]["/v1/reload"]["post"], &broken, response).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_are_guarded_as_the_document_says() {
    let (_three, node) = start().await;
    let stranger = Api::tcp(node.control());
    let (eve, ci) = (stranger.with_token("secret of eve"), stranger.with_token("secret of ci"));
    let document = stranger.get("/v1/openapi.json").await;
    let status = async |api: &Api, method: &str, path: &str| {
        let method = method.to_uppercase().parse().expect("a method");
        api.request(method, path).send().await.expect("a response").status().as_u16()
    };
    let all = operations(&document);
    for (method, path, about) in &all {
        let needs_token = about["security"] == json!([{ "token": [] }]);
        assert_eq!(status(&stranger, method, path).await == 401, needs_token, "{method} {path}");
        let needs_operator = about["x-role"] == "operator";
        assert_eq!(status(&eve, method, path).await == 403, needs_operator, "{method} {path}");
        assert!(![401, 403, 405].contains(&status(&ci, method, path).await), "{method} {path}");
    }
    node.folder.reconfigure("socket = \"control.sock\"", "socket = \"control.sock\"\nread = \"token\"");
    assert_eq!(node.api.call(Method::POST, "/v1/reload", None).await.0, 200);
    until("reads need a token", async || (status(&stranger, "get", "/v1/status").await == 401).then_some(()))
        .await;
    for (method, path, about) in &all {
        let is_open = about["security"] == json!([]);
        assert_eq!(status(&stranger, method, path).await == 401, !is_open, "{method} {path}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_has_every_route_and_no_other() {
    let (_three, node) = start().await;
    let document = node.api.get("/v1/openapi.json").await;
    let all = operations(&document);
    let ids: BTreeSet<_> = all.iter().map(|(_, _, about)| about["operationId"].to_string()).collect();
    assert_eq!(ids.len(), all.len(), "names of operations are unique");
    for path in document["paths"].as_object().expect("an object").keys() {
        for method in METHODS {
            let is_listed = document["paths"][path].get(method).is_some();
            let request = node.api.request(method.to_uppercase().parse().expect("a method"), path);
            let status = request.send().await.expect("a response").status().as_u16();
            assert_eq!(status == 405, !is_listed, "{method} {path}: {status}");
        }
    }
    node.stop().await;

    // The router has nothing but the operations: no other line of the API makes a route.
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api")];
    let mut made = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).expect("it is text");
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                made.extend(
                    code.lines().filter(|line| line.contains(".route(")).map(|line| line.trim().to_owned()),
                );
            }
        }
    }
    assert_eq!(made.len(), 2, "one for all operations, one for the listener of metrics: {made:#?}");
}
