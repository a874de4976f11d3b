//! The examples for anycast with BIRD and ExaBGP, in two hosts of the test's own: a router learns the address while the node
//! answers, keeps it while the node cannot probe, and loses it when the node cannot answer.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use crate::harness::binary::{Killed, Served, clean, is_installed, program, run};
use crate::harness::folder::Folder;
use crate::harness::{skipped, until};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/anycast");
const ANYCAST: &str = "192.0.2.53";
/// Where the router is, and what the node probes behind it.
const ROUTER: &str = "198.51.100.1";
const PROBED: &str = "203.0.113.1";

/// Two hosts with a cable between them.
struct Hosts {
    node: String,
    router: String,
}

impl Hosts {
    fn new(name: &str) -> Self {
        let named = |role: &str| format!("portolan-{name}-{role}-{}", std::process::id());
        let hosts = Self { node: named("node"), router: named("router") };
        let (node, router) = (&*hosts.node, &*hosts.router);
        ip(&["netns", "add", node]);
        ip(&["netns", "add", router]);
        ip(&[
            "link", "add", "cable", "netns", node, "type", "veth", "peer", "name", "cable", "netns", router,
        ]);
        for (host, address, other) in
            [(node, "198.51.100.2/24", "192.0.2.53/32"), (router, "198.51.100.1/24", "203.0.113.1/32")]
        {
            ip(&["-n", host, "link", "set", "lo", "up"]);
            ip(&["-n", host, "address", "add", address, "dev", "cable"]);
            ip(&["-n", host, "link", "set", "cable", "up"]);
            ip(&["-n", host, "address", "add", other, "dev", "lo"]);
        }
        ip(&["-n", node, "route", "add", "203.0.113.0/24", "via", ROUTER]);
        hosts
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in [&self.node, &self.router] {
            let mut ip = clean(Command::new("ip"));
            ip.args(["netns", "delete", host]);
            run(ip);
        }
    }
}

fn ip(arguments: &[&str]) {
    let mut ip = clean(Command::new("ip"));
    ip.args(arguments);
    let done = run(ip);
    assert_eq!(done.code, Some(0), "{arguments:?}: {done:?}");
}

/// A program of a host that runs until this is dropped. What it says is shown if the test fails.
fn running(host: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Killed {
    let mut command = on(host, arguments);
    command.envs(environment.iter().copied()).stdout(Stdio::null()).stderr(Stdio::inherit());
    Killed(command.spawn().expect("it starts"))
}

fn on(host: &str, arguments: &[&str]) -> Command {
    let mut command = clean(Command::new("ip"));
    command.args(["netns", "exec", host]).args(arguments);
    command
}

/// The router's BIRD.
struct Router<'a> {
    _bird: Killed,
    socket: String,
    host: &'a str,
}

const ROUTER_CONFIG: &str = "
router id 198.51.100.1;
protocol device { scan time 1; }
protocol bgp node {
    local 198.51.100.1 as 64511;
    neighbor 198.51.100.2 as 64512;
    passive;
    ipv4 { import all; export none; };
}
";

impl<'a> Router<'a> {
    fn start(host: &'a str, folder: &Folder) -> Self {
        folder.write("router.conf", ROUTER_CONFIG);
        let socket = folder.path("router.ctl").display().to_string();
        let config = folder.path("router.conf").display().to_string();
        let pid = folder.path("router.pid").display().to_string();
        let bird = running(host, &["bird", "-f", "-c", &config, "-s", &socket, "-P", &pid], &[]);
        Self { _bird: bird, socket, host }
    }

    fn knows_the_address(&self) -> bool {
        let routes = run(on(self.host, &["birdc", "-s", &self.socket, "show", "route"])).stdout;
        routes.contains(&format!("{ANYCAST}/32"))
    }

    async fn learns(&self, is_known: bool, when: &str) {
        let what = if is_known { "announced" } else { "withdrawn" };
        until(&format!("{what} when {when}"), async || (self.knows_the_address() == is_known).then_some(()))
            .await;
    }
}

/// What announces the address, one program or two.
type Speaker = Vec<Killed>;

/// BIRD and the check, as the examples have them.
fn bird(host: &str, folder: &Folder) -> Speaker {
    let socket = folder.path("node.ctl").display().to_string();
    // `announce` finds BIRD where Debian has it; this one is elsewhere.
    folder.write("birdc", format!("#!/bin/sh\nexec /usr/sbin/birdc -s {socket} \"$@\"\n"));
    fs::set_permissions(folder.path("birdc"), Permissions::from_mode(0o755)).expect("it is ours");
    let config = format!("{EXAMPLES}/bird.conf");
    let pid = folder.path("node.pid").display().to_string();
    let bird = running(host, &["bird", "-f", "-c", &config, "-s", &socket, "-P", &pid], &[]);
    let unit = fs::read_to_string(format!("{EXAMPLES}/portolan-anycast.service")).expect("a unit");
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    let command = here(command);
    let path = format!("{}:{}", folder.path("").display(), std::env::var("PATH").unwrap_or_default());
    let check =
        running(host, &command.split(' ').collect::<Vec<_>>(), &[("PATH", &path), ("INTERVAL", "0.1")]);
    // The check first, which withdraws when it ends.
    vec![check, bird]
}

/// ExaBGP, which runs the check.
fn exabgp(host: &str, folder: &Folder) -> Speaker {
    let config = fs::read_to_string(format!("{EXAMPLES}/exabgp.conf")).expect("a config");
    folder.write("exabgp.conf", here(&config));
    let config = folder.path("exabgp.conf").display().to_string();
    let environment =
        [("exabgp.daemon.drop", "false"), ("exabgp.log.destination", "stderr"), ("INTERVAL", "0.1")];
    vec![running(host, &["exabgp", &config], &environment)]
}

/// An example for the zone and the script of this test.
fn here(example: &str) -> String {
    let installed = "/usr/share/doc/portolan/examples/anycast";
    assert!(example.contains(installed) && example.contains("gslb.example.com"), "{example}");
    example.replace(installed, EXAMPLES).replace("gslb.example.com", "example.test")
}

fn node_folder() -> Folder {
    let folder = Folder::new(&format!(
        "[probe.far]\nkind = \"tcp\"\nport = 8053\ninterval = \"100ms\"\ntimeout = \"100ms\"\nhold = \"0s\"\n\
         [region.far]\nendpoint = [{{ name = \"lb1\", address = \"{PROBED}\", probe = [\"far\"] }}]\n\
         [[service]]\nname = \"www.example.test.\"\nregions = [\"far\"]\n"
    ));
    folder.reconfigure("127.0.0.1:0\"]\nworkers", &format!("{ANYCAST}:53\"]\nworkers"));
    folder
}

async fn node(host: &str, folder: Folder) -> Served {
    let mut command = on(host, &[]);
    command.arg(program().get_program());
    let served = Served::spawn_by(command, folder);
    served.ready().await;
    served
}

async fn the_address_follows_the_node(name: &str, start: impl Fn(&str, &Folder) -> Speaker) {
    let hosts = Hosts::new(name);
    let folder = Folder::new("");
    let router = Router::start(&hosts.router, &folder);
    // What is probed: any program that accepts connections.
    let probed = Folder::new("");
    probed.reconfigure(
        "[control]\nlisten = \"127.0.0.1:0\"",
        &format!("[control]\nlisten = \"{PROBED}:8053\""),
    );
    let _probed = node(&hosts.router, probed).await;
    let served = node(&hosts.node, node_folder()).await;
    let verdict = async |expected: &str| {
        let what = format!("the region is {expected}");
        until(&what, async || (served.api().region("far").await["verdict"] == expected).then_some(())).await;
    };
    verdict("up").await;

    let mut speaker = start(&hosts.node, &folder);
    router.learns(true, "the node answers").await;

    // Blind: the node is as well as before, and so are those who ask it.
    ip(&["-n", &hosts.node, "route", "replace", "unreachable", "203.0.113.0/24"]);
    let lost = async || served.api().text("/metrics").await;
    until("every check fails", async || lost().await.contains("portolan_self_suspicion 1").then_some(()))
        .await;
    let asked =
        async || served.api().metric("portolan_dns_queries_total{transport=\"udp\"}").await.unwrap_or(0.0);
    let before = asked().await;
    until("it was checked ten times since", async || (asked().await >= before + 10.0).then_some(())).await;
    assert!(router.knows_the_address(), "a node that cannot probe can answer");

    served.signal(Signal::SIGKILL);
    router.learns(false, "the node is gone").await;
    let served = node(&hosts.node, served.into_folder()).await;
    router.learns(true, "the node is back").await;

    // A node that hangs is as bad as one that is gone.
    served.signal(Signal::SIGSTOP);
    router.learns(false, "the node hangs").await;
    served.signal(Signal::SIGCONT);
    router.learns(true, "it goes on").await;

    let first = Pid::from_raw(speaker[0].0.id().cast_signed());
    kill(first, Signal::SIGTERM).expect("it runs");
    router.learns(false, "the check ends").await;
    speaker.clear();
}

fn is_possible(speaker: &str, package: &str) -> bool {
    let needs = [("ip", "iproute2"), ("bird", "bird2"), ("dig", "bind9-dnsutils"), (speaker, package)];
    let missing = needs
        .into_iter()
        .find(|(program, _)| !is_installed(program) && !Path::new("/usr/sbin").join(program).exists());
    if let Some((program, package)) = missing {
        skipped(&format!("{program} is not installed (Debian package {package})"));
    } else if !geteuid().is_root() {
        skipped("only root can make hosts");
    }
    missing.is_none() && geteuid().is_root()
}

#[tokio::test]
async fn bird_announces_the_address_of_a_node_that_answers() {
    if is_possible("bird", "bird2") {
        the_address_follows_the_node("bird", bird).await;
    }
}

#[tokio::test]
async fn exabgp_announces_the_address_of_a_node_that_answers() {
    if is_possible("exabgp", "exabgp") {
        the_address_follows_the_node("exabgp", exabgp).await;
    }
}
