//! Which node a command uses, how it says so, and what it prints for programs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::binary::{
    Done, PROGRAM, clean, is_installed, portolan, portolan_at, program, run, with_mount,
};
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::skipped;

const REGIONS: &str = "\
[region.eu]\nendpoint = [{ name = \"lb1\", address = \"192.0.2.1\" }]
[region.us]\nendpoint = [{ name = \"lb1\", address = \"192.0.2.2\" }]
[[service]]\nname = \"www.example.test.\"\nregions = [\"eu\", \"us\"]
";

/// The program as a user whom file modes bind; `None` where root cannot give up what exempts it.
fn bound_by_modes() -> Option<Command> {
    if !nix::unistd::geteuid().is_root() {
        return Some(program());
    }
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-all", "--inh-caps", "-all", PROGRAM]);
    is_installed("setpriv").then(|| clean(command))
}

#[track_caller]
fn assert_done(done: &Done, code: i32, stderr: &str) {
    assert_eq!((done.code, &*done.stderr), (Some(code), stderr), "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_cannot_be_used_is_skipped_and_named() {
    let node = TestNode::with(REGIONS).await;
    let tcp = node.control();
    let (config, socket) = (node.folder.path("other.toml"), node.folder.path("other.sock"));
    let listening = format!("version = 1\n[control]\nlisten = \"{tcp}\"\nsocket = \"other.sock\"\n");
    fs::write(&config, &listening).expect("a config");
    let status = |mut command: Command| {
        command.arg("status").arg("-c").arg(&config);
        run(command)
    };

    let absent = status(program());
    assert_done(&absent, 0, "");
    assert!(absent.stdout.starts_with(&format!("test 0.1.0 at {tcp}, ready")), "{absent:?}");

    // As a node that was killed leaves it.
    drop(UnixListener::bind(&socket).expect("a socket"));
    let shown = socket.display();
    let stale = status(program());
    assert_done(&stale, 0, &format!("portolan: using the node at {tcp}: connection refused at {shown}\n"));

    fs::remove_file(&socket).expect("it is there");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    fs::set_permissions(&socket, Permissions::from_mode(0o0)).expect("it is ours");
    let Some(command) = bound_by_modes() else { return skipped("setpriv is not installed") };
    let denied = status(command);
    assert_done(&denied, 0, &format!("portolan: using the node at {tcp}: permission denied at {shown}\n"));

    // Where nothing answers, no node is used.
    fs::write(&config, listening.replace(&tcp.to_string(), "127.0.0.1:1")).expect("a config");
    let nothing = status(bound_by_modes().expect("it was there"));
    assert_eq!(nothing.code, Some(3), "{nothing:?}");
    let expected = format!("portolan: permission denied at {shown}: only root");
    assert!(nothing.stderr.starts_with(&expected), "{nothing:?}");
    assert!(nothing.stderr.contains("127.0.0.1:1: connection refused"), "{nothing:?}");

    fs::write(&config, listening.replace(&format!("\"{tcp}\""), "false")).expect("a config");
    let denied = status(bound_by_modes().expect("it was there"));
    assert_done(
        &denied,
        3,
        &format!(
            "portolan: permission denied at {shown}: only root and the user that runs the node may use this socket; \
             use sudo, or the node's TCP address with --control HOST:PORT\n"
        ),
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_typed_comes_before_the_environment() {
    let node = TestNode::with(REGIONS).await;
    let (config, socket) = (node.folder.config(), node.folder.socket());
    let overrides = |before: &[&Path], after: &[&Path], environment: &[(&str, &Path)]| {
        let mut command = program();
        command.args(before).arg("overrides").args(after).envs(environment.iter().copied());
        run(command)
    };
    let nowhere = Path::new("127.0.0.1:1");
    for (flag, value) in [("-c", &*config), ("--control", &*socket)] {
        let options = [Path::new(flag), value];
        for (before, after) in [(&options[..], &[][..]), (&[], &options)] {
            let done = overrides(before, after, &[("PORTOLAN_CONTROL", nowhere)]);
            assert_done(&done, 0, "");
        }
    }
    // A change says where it goes if a variable says so, which the user may have forgotten; what only reads does not.
    let shown = socket.display();
    for (variable, value) in [("PORTOLAN_CONFIG", &*config), ("PORTOLAN_CONTROL", &*socket)] {
        assert_done(&overrides(&[], &[], &[(variable, value)]), 0, "");
        let mut reload = program();
        reload.arg("reload").env(variable, value);
        let (done, note) =
            (run(reload), format!("portolan: using the node at {shown}, which {variable} selects\n"));
        assert!(done.code == Some(0) && done.stderr.starts_with(&note), "{done:?}");
    }
    // Of two that are typed, the one behind the subcommand counts; of the others, the one that names the node itself.
    let named = [Path::new("--control"), &*socket];
    let elsewhere = [Path::new("--control"), nowhere];
    let config = [Path::new("-c"), Path::new("/none.toml")];
    for (before, after) in [(elsewhere, named), (config, named), (named, config)] {
        assert_done(&overrides(&before, &after, &[]), 0, "");
    }
    let both = [("PORTOLAN_CONFIG", config[1]), ("PORTOLAN_CONTROL", &*socket)];
    assert_done(&overrides(&[], &[], &both), 0, "");
    node.stop().await;
    for arguments in [["--control", "127.0.0.1:1", "check"], ["-c", "p.toml", "completions"]] {
        let done =
            portolan(&[&arguments[..], &["bash"][..usize::from(arguments[2] == "completions")]].concat());
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(done.stderr.contains("does not apply to this command"), "{done:?}");
    }
}

#[test]
fn commands_that_read_a_config_take_it_from_the_environment_unless_it_is_typed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = |name: &str, rest: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("version = 1\n{rest}")).expect("a config");
        path
    };
    let located = |country: &str| {
        format!("[[geo.network]]\nprefix = \"192.0.2.0/24\"\nlocation = {{ country = \"{country}\" }}\n")
    };
    let [of_environment, typed] = [("environment.toml", "de"), ("typed.toml", "fr")]
        .map(|(name, country)| config(name, &located(country)));
    let wrong = config("wrong.toml", "nosuch = 1\n");
    let with = |before: &[&Path], command: &str, after: &[&Path], variable: &Path| {
        let mut program = program();
        program.args(before).args(command.split(' ')).args(after).env("PORTOLAN_CONFIG", variable);
        run(program)
    };
    let chosen = [Path::new("-c"), &typed];
    // In it the others find their mistake.
    let refused = format!("{}:2:1: error: ", wrong.display());
    for command in ["serve", "check", "geo lookup 192.0.2.1"] {
        let done = with(&[], command, &[], &wrong);
        assert!(done.code == Some(1) && done.stderr.contains(&refused), "{command}: {done:?}");
        for (before, after) in
            [(&[Path::new("-c"), &*wrong][..], &[][..]), (&[], &[Path::new("-c"), &*wrong])]
        {
            let done = with(before, command, after, &typed);
            assert!(done.code == Some(1) && done.stderr.contains(&refused), "{command}: {done:?}");
        }
    }
    for (before, after, country) in
        [(&[][..], &[][..], "DE"), (&chosen[..], &[], "FR"), (&[], &chosen[..], "FR")]
    {
        let done = with(before, "geo lookup --json 192.0.2.1", after, &of_environment);
        assert!(done.stdout.contains(&format!("\"country\": \"{country}\"")), "{done:?}");
    }
    for command in ["--help", "serve --help", "check --help", "status --help", "geo lookup --help"] {
        let done = portolan(&command.split(' ').collect::<Vec<_>>());
        assert!(done.stdout.contains("PORTOLAN_CONFIG"), "{done:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_options_the_first_default_place_that_accepts_is_used() {
    let places = tempfile::tempdir().expect("a temporary folder");
    let (run_folder, session) = (places.path().join("run"), places.path().join("session"));
    let system_socket = run_folder.join("portolan/control.sock");
    let session_socket = session.join("portolan.sock");
    fs::create_dir(&session).expect("a folder");
    let node_at = async |name: &str, socket: &Path| {
        let folder = Folder::new(REGIONS);
        folder.reconfigure("name = \"test\"", &format!("name = {name:?}"));
        folder.reconfigure("\"control.sock\"", &format!("{:?}", socket.to_str().expect("UTF-8")));
        TestNode::start(folder).await
    };
    let system = node_at("system", &system_socket).await;
    let of_session = node_at("session", &session_socket).await;
    // Whatever listens on the host's loopback is not there.
    let status = || {
        let mut command = with_mount(&run_folder, "/run")?;
        command.args(["unshare", "--net", PROGRAM, "status"]).env("XDG_RUNTIME_DIR", &session);
        Some(run(command))
    };
    let Some(done) = status() else { return skipped("nobody here may hide /run from the program") };
    let status = || status().expect("it was possible");
    assert_done(&done, 0, "");
    assert!(done.stdout.starts_with("system 0.1.0 at /run/portolan/control.sock, "), "{done:?}");

    system.stop().await;
    let shown = session_socket.display();
    let done = status();
    assert_done(&done, 0, "");
    assert!(done.stdout.starts_with(&format!("session 0.1.0 at {shown}, ")), "{done:?}");

    drop(UnixListener::bind(&system_socket).expect("a socket"));
    let note = format!("using the node at {shown}: connection refused at /run/portolan/control.sock");
    assert_done(&status(), 0, &format!("portolan: {note}\n"));

    of_session.stop().await;
    fs::remove_file(&system_socket).expect("it is there");
    let done = status();
    let expected = format!(
        "portolan: no node answers at /run/portolan/control.sock: no such socket; nor at {shown}: no such socket; \
         nor at 127.0.0.1:8053: "
    );
    assert!(done.code == Some(3) && done.stderr.starts_with(&expected), "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_that_prints_prints_json() {
    let node = TestNode::with(REGIONS).await;
    let json = |arguments: &[&str]| -> Value {
        let done = portolan_at(&node.folder, &[arguments, &["--json"]].concat());
        assert_done(&done, 0, "");
        serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {done:?}"))
    };
    let drained = json(&["drain", "region/us", "--share", "5%", "--reason", "test"]);
    assert_eq!((&drained["override"]["id"], &drained["override"]["reason"]), (&1.into(), &"test".into()));
    assert_eq!(json(&["overrides"])[0], drained["override"]);
    assert_eq!(json(&["force", "region/us", "up"])["replaced"], drained["override"]);
    assert_eq!(json(&["restore", "region/us"])[0]["override"]["id"], 2);
    assert!(json(&["reload"])["epoch"].is_u64());
    assert_eq!(json(&["status"])["node"]["name"], "test");
    let explained = json(&["explain", "www.example.test", "--client", "10.1.0.1"]);
    assert_eq!((&explained["offline"], &explained["region"]), (&false.into(), &"eu".into()));
    let socket = node.folder.socket().display().to_string();
    assert_eq!(explained["node"], *socket);
    let shown = portolan_at(&node.folder, &["explain", "www.example.test", "--client", "10.1.0.1"]).stdout;
    assert!(shown.starts_with(&format!("node        {socket}\nquestion ")), "{shown}");
    let config = node.folder.config().display().to_string();
    let _folder = node.stop().await;
    let located = portolan(&["geo", "lookup", "10.1.2.3", "-c", &config, "--json"]);
    let located: Value = serde_json::from_str(&located.stdout).expect("JSON");
    let summary = ["country", "prefix", "source"].map(|key| &located[key]);
    assert_eq!(summary, ["DE", "10.1.0.0/16", "[[geo.network]] 10.1.0.0/16"]);
    assert_eq!((&located["lat"], &located["address"]), (&50.1.into(), &"10.1.2.3".into()));
}

#[test]
fn help_names_the_default_node_the_exit_codes_and_an_example() {
    const NODES: [&str; 8] =
        ["status", "explain", "drain", "force", "restore", "overrides", "events", "reload"];
    const OFFLINE: [&str; 5] = ["demo", "serve", "check", "geo", "completions"];
    for (command, uses_node) in NODES.map(|it| (it, true)).into_iter().chain(OFFLINE.map(|it| (it, false))) {
        let help = portolan(&[command, "--help"]).stdout;
        for expected in ["\nExample:\n  portolan ", "\nExit codes: 0 success, 1 failure, 2 usage error"] {
            assert!(help.contains(expected), "{command}: expected {expected:?} in {help}");
        }
        for expected in
            ["127.0.0.1:8053", "3 node unreachable", "4 refused by a safety rule", "--control", "--token"]
        {
            assert_eq!(help.contains(expected), uses_node, "{command}: {expected:?} in {help}");
        }
    }
    let help = portolan(&["status", "--help"]).stdout;
    assert!(help.contains("CONNECT is how long the last connection"), "{help}");
}

/// Whoever tries the demo on a host of a node may paste a command of the demo without its `export`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_beside_a_demo_says_that_it_goes_to_the_node() {
    let node = TestNode::with(REGIONS).await;
    let usual = node.folder.path("portolan.sock");
    std::os::unix::fs::symlink(node.folder.socket(), &usual).expect("a link");
    let run_with = |arguments: &[&str]| {
        let mut command = program();
        command
            .args(arguments)
            .env("XDG_RUNTIME_DIR", node.folder.path(""))
            .env("TMPDIR", node.folder.path(""));
        run(command)
    };
    let done = run_with(&["reload"]);
    assert!(done.code == Some(0) && !done.stderr.contains("using the node"), "{done:?}");
    let demo = node.folder.path("portolan-demo-8054.sock");
    fs::write(&demo, "").expect("a file");
    let (usual, demo) = (usual.display(), demo.display());
    let note = format!("portolan: using the node at {usual}, not the demo at {demo}\n");
    let done = run_with(&["reload"]);
    assert!(done.code == Some(0) && done.stderr.starts_with(&note), "{done:?}");
    assert_done(&run_with(&["overrides"]), 0, "");
    node.stop().await;
}
