//! The manifests for Kubernetes fit the program and the image: ports, paths, users and times.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use reqwest::Method;
use serde_json::Value;

use crate::harness::binary::{PYTHON, Served, clean, program, run};
use crate::harness::folder::Folder;
use crate::harness::http::Api;
use crate::harness::skipped;

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kubernetes");

/// The documents of a manifest; `None`, which skips the test, where nothing reads YAML.
fn documents(name: &str) -> Option<Vec<Value>> {
    let path = format!("{MANIFESTS}/{name}");
    let mut python = clean(Command::new(PYTHON));
    python.args([
        "-c",
        "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))",
        &path,
    ]);
    let missing = !Path::new(PYTHON).exists();
    let done = (!missing).then(|| run(python)).filter(|done| !done.stderr.contains("No module named"));
    let Some(done) = done else {
        skipped("YAML for Python is not installed (Debian package python3-yaml)");
        return None;
    };
    assert_eq!(done.code, Some(0), "{name}: {done:?}");
    Some(serde_json::from_str(&done.stdout).expect("JSON"))
}

fn text(name: &str) -> String {
    fs::read_to_string(format!("{MANIFESTS}/{name}")).expect("it is text")
}

/// The port of a named port of the container.
fn port(container: &Value, name: &str) -> u64 {
    let ports = container["ports"].as_array().expect("ports");
    let port = ports.iter().find(|port| port["name"] == name).unwrap_or_else(|| panic!("no port {name}"));
    port["containerPort"].as_u64().expect("a number")
}

#[test]
fn every_manifest_is_applied_and_no_other() {
    let Some(kustomization) = documents("kustomization.yaml") else { return };
    let list = |value: &Value| -> BTreeSet<String> {
        serde_json::from_value(value.clone()).expect("a list of names")
    };
    let mut named = list(&kustomization[0]["resources"]);
    named.extend(list(&kustomization[0]["configMapGenerator"][0]["files"]));
    named.insert("kustomization.yaml".into());
    let there = fs::read_dir(MANIFESTS).expect("a folder");
    let there: BTreeSet<_> =
        there.map(|entry| entry.expect("a file").file_name().into_string().expect("UTF-8")).collect();
    assert_eq!(named, there);
    assert_eq!(kustomization[0]["images"][0]["newTag"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn the_pods_fit_the_program_and_the_image() {
    let Some(deployment) = documents("deployment.yaml") else { return };
    let pod = &deployment[0]["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let config: toml::Table = toml::from_str(&text("portolan.toml")).expect("TOML");
    for (key, ports) in
        [("dns", ["dns", "dns-tcp"]), ("control", ["control"; 2]), ("metrics", ["metrics"; 2])]
    {
        let listens = match key {
            "dns" => config["dns"]["listen"].as_array().expect("a list").clone(),
            "control" => vec![config["control"]["listen"].clone()],
            _ => vec![config["control"]["metrics"].clone()],
        };
        for (listen, name) in listens.iter().flat_map(|listen| ports.map(|name| (listen, name))) {
            let listen = listen.as_str().expect("an address");
            assert!(listen.ends_with(&format!(":{}", port(container, name))), "{listen}: {name}");
        }
    }
    let services = documents("service.yaml").expect("YAML can be read");
    for service in &services {
        assert_eq!(service["spec"]["selector"], deployment[0]["spec"]["selector"]["matchLabels"]);
        for mapped in service["spec"]["ports"].as_array().expect("ports") {
            port(container, mapped["targetPort"].as_str().expect("a name"));
        }
    }
    // The image's user, folders and command.
    let package = include_str!("../../deploy/package");
    for key in ["runAsUser", "runAsGroup", "fsGroup"] {
        assert!(package.contains(&format!("user={}", pod["securityContext"][key])), "{key}");
    }
    let mounted: Vec<_> = container["volumeMounts"].as_array().expect("mounts").iter().collect();
    let mounted: Vec<_> = mounted.iter().map(|mount| mount["mountPath"].as_str().expect("a path")).collect();
    let socket = config["control"]["socket"].as_str().expect("a path");
    let socket = Path::new(socket).parent().expect("a folder").to_str().expect("UTF-8");
    assert_eq!(mounted, ["/etc/portolan", config["node"]["state_dir"].as_str().expect("a path"), socket]);
    assert_eq!(container["args"], serde_json::json!(["serve", "-c", "/etc/portolan/portolan.toml"]));
    // Taken out of the Service first, then as long as a node with a proxy may take to stop.
    let wait = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().expect("seconds");
    assert!(pod["terminationGracePeriodSeconds"].as_u64().expect("seconds") >= wait + 45 + 10);

    // The config as it is, but for its addresses and folders; what it probes is closed.
    let folder = Folder::new("");
    let changes = [
        ("0.0.0.0:5300", "127.0.0.1:0"),
        ("0.0.0.0:8053", "127.0.0.1:0"),
        ("0.0.0.0:9153", "127.0.0.1:0"),
        (", \"[::]:5300\"", ""),
        ("\"192.0.2.10\", \"2001:db8:1::10\"", "\"127.0.0.1\""),
        ("\"198.51.100.10\", \"2001:db8:2::10\"", "\"127.0.0.2\""),
        ("/var/lib/portolan", "state"),
        ("/run/portolan/", ""),
    ];
    let changed = changes.iter().fold(text("portolan.toml"), |config, (from, to)| {
        assert!(config.contains(from), "{from}");
        config.replace(from, to)
    });
    folder.write("gslb.example.com.zone", text("gslb.example.com.zone"));
    folder.write("portolan.toml", changed);
    let mut served = Served::spawn_by(program(), folder);
    served.ready().await;
    let [control] = served.addresses(["control"]).await;
    let api = Api::tcp(control);
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let get = &container[probe]["httpGet"];
        assert_eq!(get["port"], "control");
        let (status, _) = status(&api, get["path"].as_str().expect("a path")).await;
        assert_eq!(status, 200, "{probe}");
    }
    assert_eq!(status(&api, "/v1/status").await.0, 401, "others may not read");
    assert_eq!(served.stop().await, Some(0));
}

async fn status(api: &Api, path: &str) -> (u16, String) {
    let response = api.request(Method::GET, path).send().await.expect("an answer");
    (response.status().as_u16(), response.text().await.expect("text"))
}
