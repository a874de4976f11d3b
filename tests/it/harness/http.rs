//! A client of the control API.

use std::net::SocketAddr;
use std::path::Path;

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

/// A node's API, over TCP or the socket.
#[derive(Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

impl Api {
    pub(crate) fn tcp(address: SocketAddr) -> Self {
        Self::over(reqwest::Client::builder(), format!("http://{address}"))
    }

    pub(crate) fn socket(path: &Path) -> Self {
        Self::over(reqwest::Client::builder().unix_socket(path), "http://localhost".into())
    }

    fn over(builder: reqwest::ClientBuilder, base: String) -> Self {
        let http = builder.no_proxy().build().expect("an HTTP client");
        Self { http, base, token: None }
    }

    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base)).timeout(PATIENCE);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// The JSON at a path, with status 200.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = self.request(Method::GET, path).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.expect("JSON")
    }

    /// The text at a path, with status 200.
    pub(crate) async fn text(&self, path: &str) -> String {
        let response = self.request(Method::GET, path).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.text().await.expect("text")
    }

    /// Status and JSON of any response.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let request = self.request(method, path);
        let request = if let Some(body) = body { request.json(&body) } else { request };
        let response = request.send().await.expect("an answer");
        (response.status().as_u16(), response.json().await.expect("JSON"))
    }

    /// Creates an override, which must be accepted, and returns its id.
    pub(crate) async fn override_with(&self, body: Value) -> u64 {
        let (status, reply) = self.call(Method::POST, "/v1/overrides", Some(body)).await;
        assert_eq!(status, 200, "{reply}");
        reply["override"]["id"].as_u64().expect("an id")
    }

    pub(crate) async fn restore(&self, id: u64) {
        let (status, reply) = self.call(Method::DELETE, &format!("/v1/overrides/{id}"), None).await;
        assert_eq!(status, 200, "{reply}");
    }

    /// A region's part of the status.
    pub(crate) async fn region(&self, name: &str) -> Value {
        named(&self.get("/v1/regions").await, name)
    }

    /// The events with this name, oldest first.
    pub(crate) async fn events(&self, name: &str) -> Vec<Value> {
        let all = self.get("/v1/events").await;
        let all = all.as_array().expect("a list").iter();
        all.filter(|event| event["event"] == name).cloned().collect()
    }

    /// The value of a sample of `/metrics`, given by its name and labels; `None` if there is no such sample.
    pub(crate) async fn metric(&self, sample: &str) -> Option<f64> {
        let text = self.text("/metrics").await;
        let mut values = text.lines().filter_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        values.next().map(|value| value.parse().expect("a number"))
    }
}

/// The object with this name in a list.
pub(crate) fn named(list: &Value, name: &str) -> Value {
    let found = list.as_array().expect("a list").iter().find(|it| it["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {list}")).clone()
}

/// Sends these bytes over TCP and returns everything that comes back until the connection ends.
pub(crate) async fn raw(address: SocketAddr, request: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        // The node may answer and close before it has read everything.
        stream.write_all(request.as_bytes()).await.ok();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await.ok();
        String::from_utf8(reply).expect("UTF-8")
    };
    timeout(PATIENCE, exchange).await.expect("an answer in time")
}
