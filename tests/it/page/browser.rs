//! A real browser: Chromium without a window, driven by WebDriver.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::binary::{Killed, clean, is_installed};
use crate::harness::{PATIENCE, skipped, until};

/// How Chromium is started. `--remote-debugging-pipe` ends it with its driver, even if that is killed.
const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
    "--hide-scrollbars",
];

/// Checks what assistive technology needs.
const AXE: &str = include_str!("../../data/axe/axe.min.js");

/// A browser with one window. It ends with the test, but leaves files behind unless it is told to.
pub(super) struct Browser {
    http: reqwest::Client,
    /// The URL of the session.
    session: String,
    _driver: Killed,
    /// Of both programs.
    _folder: TempDir,
}

impl Browser {
    /// `None`, and a note, where Chromium or its driver is missing.
    pub(super) async fn start() -> Option<Self> {
        let missing = ["chromium", "chromedriver"].into_iter().find(|program| !is_installed(program));
        if let Some(program) = missing {
            skipped(&format!("{program} is not installed"));
            return None;
        }
        let mut command = clean(Command::new("chromedriver"));
        let folder = tempfile::tempdir().expect("a folder");
        command.arg("--port=0").env("TMPDIR", folder.path());
        let mut driver = Killed(command.spawn().expect("the driver starts"));
        let lines = BufReader::new(driver.0.stdout.take().expect("it is piped")).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        let driver_url = format!("http://127.0.0.1:{}/session", port.expect("the driver says its port"));
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client");
        let profile = format!("--user-data-dir={}", folder.path().join("profile").display());
        let flags: Vec<&str> = FLAGS.into_iter().chain([profile.as_str()]).collect();
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": flags},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }}});
        let session = value(http.post(&driver_url).json(&capabilities)).await;
        let id = session["sessionId"].as_str().expect("a session");
        let browser = Self { session: format!("{driver_url}/{id}"), http, _driver: driver, _folder: folder };
        browser.resize(1440, 900).await;
        Some(browser)
    }

    /// Closes the browser and waits until it has.
    pub(super) async fn end(self) {
        value(self.http.delete(&self.session)).await;
    }

    async fn command(&self, method: Method, path: &str, body: Value) -> Value {
        let request = self.http.request(method.clone(), format!("{}/{path}", self.session));
        value(if method == Method::POST { request.json(&body) } else { request }).await
    }

    pub(super) async fn open(&self, url: &str) {
        self.command(Method::POST, "url", json!({ "url": url })).await;
    }

    pub(super) async fn resize(&self, width: u32, height: u32) {
        self.protocol(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}),
        )
        .await;
    }

    /// Whether the user prefers "dark" or "light".
    pub(super) async fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.protocol("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// A command of the Chrome DevTools Protocol.
    async fn protocol(&self, command: &str, parameters: Value) -> Value {
        self.command(Method::POST, "goog/cdp/execute", json!({"cmd": command, "params": parameters})).await
    }

    /// What the body of a function returns in the page.
    pub(super) async fn run(&self, script: &str, arguments: Value) -> Value {
        self.command(Method::POST, "execute/sync", json!({"script": script, "args": arguments})).await
    }

    /// The same once its promise is kept.
    pub(super) async fn run_async(&self, script: &str) -> Value {
        let script = format!(
            "const done = arguments[0]; (async () => {{ {script} }})().then(done, (e) => done(`${{e}}`));"
        );
        self.command(Method::POST, "execute/async", json!({"script": script, "args": []})).await
    }

    /// Waits until an expression is true in the page, and returns its value.
    pub(super) async fn until(&self, expression: &str) -> Value {
        until(expression, async || {
            let value = self.run(&format!("return {expression};"), json!([])).await;
            (!matches!(&value, Value::Null | Value::Bool(false)) && value != json!("")).then_some(value)
        })
        .await
    }

    async fn find(&self, selector: &str) -> String {
        self.until(&format!("document.querySelector({}) !== null", json!(selector))).await;
        let by = json!({"using": "css selector", "value": selector});
        let element = self.command(Method::POST, "element", by).await;
        let reference = element.as_object().and_then(|it| it.values().next()).and_then(Value::as_str);
        reference.expect("an element").to_owned()
    }

    /// Clicks where the user would: what covers it gets the click instead, which is an error.
    pub(super) async fn click(&self, selector: &str) {
        let element = self.find(selector).await;
        self.command(Method::POST, &format!("element/{element}/click"), json!({})).await;
    }

    /// Types into an element. Keys such as Enter are those of WebDriver.
    pub(super) async fn write(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        self.command(Method::POST, &format!("element/{element}/value"), json!({ "text": text })).await;
    }

    /// How many nodes of documents there are, those included that are not shown, and how many bytes objects take, once what is not
    /// needed is gone.
    pub(super) async fn memory(&self) -> (u64, u64) {
        self.protocol("HeapProfiler.collectGarbage", json!({})).await;
        let counters = self.protocol("Memory.getDOMCounters", json!({})).await;
        let heap = self.protocol("Runtime.getHeapUsage", json!({})).await;
        (counters["nodes"].as_u64().expect("a number"), heap["usedSize"].as_f64().expect("a number") as u64)
    }

    /// What axe-core finds wrong with the page: rules, with the elements that break them.
    pub(super) async fn inaccessible(&self) -> Value {
        self.run(AXE, json!([])).await;
        self.run_async(
            "const { violations } = await axe.run(document, { resultTypes: ['violations'] });
             return violations.map(({ id, nodes }) => [id, nodes.map((node) => node.failureSummary + node.html)]);",
        )
        .await
    }

    /// The warnings and errors on the console since they were last asked for.
    pub(super) async fn complaints(&self) -> Vec<String> {
        let entries = self.command(Method::POST, "se/log", json!({"type": "browser"})).await;
        let entries = entries.as_array().expect("a list").iter();
        entries.map(|entry| entry["message"].as_str().expect("a text").to_owned()).collect()
    }

    /// Every origin of which the page has asked for something since this was last asked.
    pub(super) async fn origins(&self) -> BTreeSet<String> {
        let entries = self.command(Method::POST, "se/log", json!({"type": "performance"})).await;
        let urls = entries.as_array().expect("a list").iter().filter_map(|entry| {
            let event: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let of_request = event["message"]["method"] == "Network.requestWillBeSent";
            let request = &event["message"]["params"];
            // A new window shows a document of the browser's own at first.
            let of_page = request["documentURL"].as_str()?.starts_with("http");
            let url = request["request"]["url"].as_str()?;
            (of_request && of_page).then(|| url.parse::<reqwest::Url>().expect("a URL"))
        });
        urls.map(|url| url.origin().ascii_serialization()).collect()
    }
}

/// The value of a WebDriver response.
async fn value(request: reqwest::RequestBuilder) -> Value {
    let response = request.send().await.expect("the driver answers");
    let status = response.status();
    let mut body: Value = response.json().await.expect("JSON");
    assert!(status.is_success(), "{}", body["value"]["message"]);
    body["value"].take()
}
