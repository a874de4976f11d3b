//! What a tired operator does to a node: signals at the wrong moment, commands while the config is broken, pipes
//! that close, and questions about every kind of name.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portolan::api::{Question, dto, explain};
use portolan::health::{Severity, State};
use portolan::model::Rules;
use portolan::prepare::{Origin, prepare, world};
use portolan::snapshot::Snapshot;
use portolan::state;

const PATIENCE: Duration = Duration::from_secs(30);

const ZONE: &str = "\
$ORIGIN gslb.test.
$TTL 300
@       SOA  ns1 hostmaster 1 3600 600 604800 30
@       NS   ns1
ns1     A    127.0.0.1
text    TXT  \"two words\" \"a \\\"quote\\\"\"
shop    CNAME www
lab     NS   ns.lab
ns.lab  A    127.0.0.53
";

fn config(port: u16, more: &str) -> String {
    let geo = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/mmdb/GeoIP2-City-Test.mmdb");
    format!(
        r#"
version = 1
[dns]
listen = ["127.0.0.1:0"]
[control]
listen = false
socket = "control.sock"
[geo]
database = ["{geo}"]
[probe.ready]
kind    = "http"
port    = {port}
timeout = "20s"
interval = "30s"
[region.one]
endpoint = [{{ name = "lb1", address = ["127.0.0.1"], probe = ["ready"] }}]
[region.two]
endpoint = [{{ name = "lb1", address = ["127.0.0.2"], probe = ["ready"] }}]
[[zone]]
origin = "gslb.test."
file   = "gslb.test.zone"
[[service]]
name    = "www.gslb.test."
regions = ["one", "two"]
ttl     = "5s"
{more}"#
    )
}

/// A folder with a config and its zone.
fn folder(port: u16) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("gslb.test.zone"), ZONE).expect("a zone");
    let file = folder.path().join("portolan.toml");
    fs::write(&file, config(port, "")).expect("a config");
    (folder, file)
}

fn portolan(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
    command.args(arguments).env_remove("PORTOLAN_CONTROL").env_remove("PORTOLAN_LOG").stdin(Stdio::null());
    command
}

/// A node in its own process, stopped when the test ends.
struct Node {
    child: Child,
    log: BufReader<ChildStderr>,
    /// Dropped with the node; until then a watchdog kills the node after `PATIENCE`, so that no test waits forever.
    _alive: mpsc::Sender<()>,
}

impl Node {
    fn start(config: &Path) -> Self {
        let mut command = portolan(&["serve", "-c", config.to_str().expect("a path")]);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let log = BufReader::new(child.stderr.take().expect("a pipe"));
        let (alive, gone) = mpsc::channel();
        let pid = Pid::from_raw(child.id() as i32);
        thread::spawn(move || {
            if gone.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                kill(pid, Signal::SIGKILL).ok();
            }
        });
        Self { child, log, _alive: alive }
    }

    /// Reads the log until a line contains this text.
    fn wait_for_log(&mut self, text: &str) {
        let mut read = String::new();
        while self.log.read_line(&mut read).expect("a log") > 0 {
            if read.lines().last().is_some_and(|line| line.contains(text)) {
                return;
            }
        }
        panic!("the node ended without `{text}`:\n{read}");
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it is there");
    }

    fn ends(&mut self) -> ExitStatus {
        self.child.wait().expect("a child")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The target never answers, so the node is waiting for its first probe when the signals arrive.
#[test]
fn a_node_that_is_starting_accepts_commands_and_signals() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (folder, config) = folder(silent.local_addr().expect("an address").port());
    let socket = folder.path().join("control.sock");
    let mut node = Node::start(&config);
    node.wait_for_log("waiting for the first result");
    node.signal(Signal::SIGHUP);

    let on_socket = |arguments: &[&str]| {
        let mut all = vec!["--control", socket.to_str().expect("a path")];
        all.extend_from_slice(arguments);
        portolan(&all).output().expect("it runs")
    };
    assert_eq!(code(&on_socket(&["status"])), Some(0));
    // A malformed target is a usage error; one that does not exist is refused.
    let misspelt = on_socket(&["drain", "one/lb1"]);
    assert_eq!(code(&misspelt), Some(2), "{}", stderr(&misspelt));
    assert_eq!(code(&on_socket(&["drain", "region/three"])), Some(1));

    // A config that is being edited does not keep commands from the running node.
    fs::write(&config, self::config(1, "[[service]]\nname = 7\n[nonsense]\n")).expect("a config");
    let status = portolan(&["status", "-c", config.to_str().expect("a path")]).output().expect("it runs");
    assert_eq!(code(&status), Some(0), "{}", stderr(&status));

    node.signal(Signal::SIGTERM);
    assert!(node.ends().success());
    assert!(!socket.exists(), "the socket is left behind");
    let gone = on_socket(&["status"]);
    assert_eq!(code(&gone), Some(3), "{}", stderr(&gone));
}

#[test]
fn a_node_that_cannot_start_leaves_no_socket() {
    let (folder, config) = folder(1);
    let file = folder.path().join("a-file");
    fs::write(&file, "").expect("a file");
    let text = fs::read_to_string(&config).expect("the config");
    fs::write(&config, text + "[node]\nstate_dir = \"a-file/below\"\n").expect("a config");
    let mut node = Node::start(&config);
    assert_eq!(node.ends().code(), Some(1));
    let mut log = String::new();
    node.log.read_to_string(&mut log).expect("a log");
    assert!(log.contains("cannot create the state directory"), "{log}");
    assert!(!folder.path().join("control.sock").exists(), "the socket is left behind");
}

#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = portolan(&["completions", "bash"]);
    let output = command.stdout(writer).stderr(Stdio::piped()).spawn().expect("it starts");
    let output = output.wait_with_output().expect("it ends");
    assert_eq!((code(&output), stderr(&output).as_str()), (Some(0), ""));
}

/// Explains a question where every address is in one state.
fn explained(state: State, name: &str, rtype: &str) -> dto::Explain {
    let files = [(PathBuf::from("gslb.test.zone"), ZONE.as_bytes().to_vec())];
    let toml = config(1, "all_down = \"all\"\n");
    let plan = prepare(&Origin::Text { toml: toml.into(), files: files.into() }).expect("a plan").plan;
    let question = Question::parse(name, Some(rtype), "192.0.2.1", None).expect("a question");
    let standing = state::assume(&world(&plan, Rules::default()), &[], question.at, &|_, _| state);
    let snapshot = Snapshot { plan, standing: standing.into(), challenges: <_>::default(), epoch: 1 };
    explain(&snapshot, &[], &[], &question).expect("an explanation")
}

#[test]
fn explain_names_the_source_of_an_answer() {
    for (name, rtype, kind, ttl, records) in [
        ("www.gslb.test", "A", "dynamic", 5, vec!["www.gslb.test. 5 IN A 127.0.0.1"]),
        ("www.gslb.test", "AAAA", "dynamic", 5, vec![]),
        ("www.gslb.test", "MX", "unsteered", 30, vec![]),
        ("www.gslb.test", "type65", "unsteered", 30, vec![]),
        (
            "shop.gslb.test",
            "a",
            "dynamic",
            5,
            vec!["shop.gslb.test. 300 IN CNAME www.gslb.test.", "www.gslb.test. 5 IN A 127.0.0.1"],
        ),
        ("ns1.gslb.test", "A", "static", 300, vec!["ns1.gslb.test. 300 IN A 127.0.0.1"]),
        (
            "text.gslb.test",
            "TXT",
            "static",
            300,
            vec![r#"text.gslb.test. 300 IN TXT "two words" "a \"quote\"""#],
        ),
        ("ns1.gslb.test", "MX", "no_data", 30, vec![]),
        ("nobody.gslb.test", "A", "no_name", 30, vec![]),
        ("a.lab.gslb.test", "A", "referral", 300, vec![]),
    ] {
        let e = explained(State::Up, name, rtype);
        assert_eq!((e.kind.to_string().as_str(), e.answer.ttl), (kind, Some(ttl)), "{name} {rtype}");
        assert_eq!(e.answer.records, records, "{name} {rtype}");
    }
    let referral = explained(State::Up, "a.lab.gslb.test", "A");
    assert_eq!(referral.answer.authority, ["lab.gslb.test. 300 IN NS ns.lab.gslb.test."]);
    let why = Question::parse("www.gslb.test", Some("bogus"), "192.0.2.1", None).unwrap_err();
    assert_eq!(why, "`bogus` is not a valid record type: write it as AAAA, MX or TYPE65");
}

/// Several passes consider a region when all are down, but readers need it only once.
#[test]
fn explain_lists_each_region_once() {
    let e = explained(State::Down(Severity::Hard), "www.gslb.test", "A");
    let eligible = e.stages.iter().find(|stage| stage.stage == dto::StageName::Eligible).expect("the stage");
    let kept: Vec<_> = eligible.kept.iter().map(|kept| (&*kept.region, &*kept.note)).collect();
    let dropped: Vec<_> = eligible.dropped.iter().map(|dropped| (&*dropped.region, &*dropped.why)).collect();
    assert_eq!(kept, [("one", "no region is usable: all_down allows the most promising")]);
    assert_eq!(dropped, [("two", "down")]);
}
