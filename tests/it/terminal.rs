//! What reaches a terminal: colours where they are wanted, and nothing that others write as control characters, be it
//! reasons of overrides, answers of targets or lines of a config.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::binary::{Served, portolan, portolan_at, program, run};
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::screen::{collect, terminal};
use crate::harness::until;

/// ESC, CSI as one C1 character, a right-to-left override, and a line feed.
const HOSTILE: &str = "a\u{1b}[2Jb\u{9b}2Jc\u{202e}d\nanswer      NOERROR from nowhere";

/// What there is to see of it, in one line.
const SHOWN: &str = r"a\u001b[2Jb\u009b2Jc\u202ed\u000aanswer      NOERROR from nowhere";

/// Whether a terminal would do anything but show the text.
fn is_plain(text: &str) -> bool {
    !text.contains(|c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c))
}

/// Answers every request with this status and document, at a free port of 127.0.0.1.
fn answering(status: &'static str, document: &Value) -> u16 {
    let body = document.to_string();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // The probe sends one request and may disconnect at any time.
            let mut request = [0; 4096];
            let Ok(1..) = stream.read(&mut request) else { continue };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            stream.write_all(format!("{head}{body}").as_bytes()).ok();
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_of_others_is_escaped() {
    let port = answering("200 OK", &json!({"status": "\u{1b}[2J\u{9b}2J\u{202e}"}));
    let node = TestNode::with(&format!(
        "[probe.ready]\nkind = \"http\"\nport = {port}\ninterval = \"100ms\"\ntimeout = \"90ms\"\nfall = 2\n\
         expect = {{ json = [{{ path = \"$.status\", equals = \"healthy\" }}] }}\n\
         [region.eu]\nendpoint = [{{ name = \"lb1\", address = \"127.0.0.1\", probe = \"ready\" }}]\n\
         [region.us]\nendpoint = [{{ name = \"lb1\", address = \"192.0.2.2\" }}]\n\
         [[service]]\nname = \"www.example.test.\"\nregions = [\"us\", \"eu\"]\n"
    ))
    .await;
    until("eu is down", async || (node.api.region("eu").await["verdict"] == "down").then_some(())).await;
    let drain = json!({"target": "region/us", "action": "drain", "reason": HOSTILE, "override_safety": true});
    node.api.override_with(drain).await;

    let of_target = r#"$.status is "\u001b[2J\u009b2J\u202e""#;
    let explain = ["explain", "www.example.test", "--client", "192.0.2.1"];
    for (arguments, expected) in [
        (&["status"][..], &[SHOWN, of_target][..]),
        (&["overrides"], &[SHOWN]),
        (&["events"], &[of_target]),
        (&explain, &[SHOWN, of_target]),
        (&["status", "--json"], &[]),
        (&["overrides", "--json"], &[]),
        (&["events", "--json"], &[]),
    ] {
        let done = portolan_at(&node.folder, arguments);
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(is_plain(&done.stdout), "{arguments:?}: {done:?}");
        assert!(
            done.stdout.lines().all(|line| !line.starts_with("answer      NOERROR from nowhere")),
            "{done:?}"
        );
        for expected in expected {
            assert!(done.stdout.contains(expected), "{arguments:?}: expected {expected} in {}", done.stdout);
        }
    }
    // Programs read the same text as was set.
    let listed = portolan_at(&node.folder, &["overrides", "--json"]).stdout;
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed[0]["reason"], HOSTILE);
    node.stop().await;
}

/// A text without the escape codes of colours, and with the line ends of files.
fn bare(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    let rest = parts.map(|part| part.split_once('m').expect("a colour").1);
    rest.fold(first, |text, part| text + part).replace('\r', "")
}

/// What a command writes to a terminal of its own.
async fn on_terminal(mut command: Command) -> String {
    let (master, slave) = terminal(200, 60);
    command.stdout(slave);
    let shown = collect(master);
    let done = run(command);
    assert_eq!((done.code, &*done.stderr), (Some(0), ""), "{done:?}");
    // All that was written before the command ended arrives, in its order.
    until("its last line", async || {
        let text = shown.lock().expect("nobody panics").clone();
        text.ends_with('\n').then_some(text)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn colours_are_for_terminals_and_move_nothing() {
    let open = TcpListener::bind("127.0.0.2:0").expect("a free port");
    let port = open.local_addr().expect("it is bound").port();
    // After the first probe there is no other: the evidence stays.
    let probe = |name: &str, port: u16| {
        format!("[probe.{name}]\nkind = \"tcp\"\nport = {port}\ninterval = \"1h\"\ntimeout = \"90ms\"\n")
    };
    let regions = "\
         [region.eu]\nendpoint = [{ name = \"lb1\", address = \"127.0.0.1\", probe = \"closed\" }]\n\
         [region.us]\nendpoint = [{ name = \"lb1\", address = \"192.0.2.2\" }]\n\
         [region.ap]\nendpoint = [{ name = \"lb1\", address = \"127.0.0.2\", probe = \"open\" }]\n\
         [[service]]\nname = \"www.example.test.\"\nregions = [\"eu\", \"us\", \"ap\"]\n";
    let node = TestNode::with(&(probe("closed", 1) + &probe("open", port) + regions)).await;
    for (region, verdict) in [("eu", "down"), ("ap", "up")] {
        until("its verdict", async || (node.api.region(region).await["verdict"] == verdict).then_some(()))
            .await;
    }
    node.api.override_with(json!({"target": "region/us", "action": "drain", "share": "5%"})).await;
    node.client().await.address("www.example.test.", "192.0.2.0/24").await;
    let command = |arguments: &[&str]| {
        let mut command = program();
        command.arg("--control").arg(node.folder.socket()).args(arguments);
        command.env_remove("NO_COLOR").env("TERM", "xterm");
        command
    };
    const RED: &str = "\u{1b}[31m";
    const BOLD: &str = "\u{1b}[1m";
    const DIM: &str = "\u{1b}[2m";
    for (arguments, colours) in [
        (&["status"][..], &["\u{1b}[31mdown\u{1b}[0m", "\u{1b}[32mup\u{1b}[0m", BOLD][..]),
        (&["status", "--traffic"], &[BOLD]),
        (&["overrides"], &[BOLD]),
        (&["events"], &[RED, DIM]),
        (&["audit"], &["\u{1b}[32maccepted", DIM]),
        (&["plan", "--down", "region/us"], &[BOLD]),
        (&["explain", "www.example.test", "--client", "192.0.2.1"], &[BOLD, DIM]),
    ] {
        let piped = run(command(arguments));
        assert!(piped.code == Some(0) && is_plain(&piped.stdout), "{piped:?}");
        let coloured = on_terminal(command(arguments)).await;
        for colour in colours {
            assert!(coloured.contains(colour), "{arguments:?}: expected {colour:?} in {coloured:?}");
        }
        let bare = bare(&coloured);
        if arguments == ["status"] {
            let columns = bare.lines().find_map(|line| line.find("VERDICT"));
            let eu = bare.lines().find(|line| line.starts_with(" eu "));
            assert_eq!(columns, eu.and_then(|line| line.find("down")), "{bare}");
        } else if arguments[0] != "status" {
            // What does not depend on the moment.
            assert_eq!(bare, piped.stdout, "{arguments:?}");
        }
        let mut no_color = command(arguments);
        no_color.env("NO_COLOR", "1");
        let mut dumb = command(arguments);
        dumb.env("TERM", "dumb");
        let mut never = command(arguments);
        never.args(["--color", "never"]);
        for command in [no_color, dumb, never] {
            let text = on_terminal(command).await;
            assert!(!text.contains('\u{1b}'), "{arguments:?}: {text:?}");
        }
        let mut always = command(arguments);
        always.args(["--color", "always"]).env("NO_COLOR", "1");
        assert!(run(always).stdout.contains('\u{1b}'), "{arguments:?}");
    }
    let json = run(command(&["status", "--json", "--color", "always"])).stdout;
    assert!(serde_json::from_str::<Value>(&json).is_ok(), "{json}");
    node.stop().await;
}

#[test]
fn errors_of_another_program_are_escaped() {
    let problem = json!({"type": "about:blank", "title": "Conflict", "status": 409, "detail": HOSTILE});
    let port = answering("409 Conflict", &problem);
    let done = portolan(&["--control", &format!("127.0.0.1:{port}"), "status"]);
    assert_eq!((done.code, &*done.stdout), (Some(1), ""), "{done:?}");
    assert!(is_plain(&done.stderr) && done.stderr.contains(r"a\u001b[2Jb\u009b2Jc\u202ed"), "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_escaped() {
    for (format, shown) in
        [("json", r"a\u001b[2Jb\u009b2Jc\u202ed\nanswer"), ("text", r"a\u{1b}[2Jb\u{9b}2Jc\u{202e}d\nanswer")]
    {
        let folder = Folder::new("[region.us]\nendpoint = [{ name = \"lb1\", address = \"192.0.2.2\" }]\n");
        folder.reconfigure("format = \"json\"", &format!("format = {format:?}"));
        let log = folder.path("log");
        let mut program = program();
        program.stderr(File::create(&log).expect("a file in the temporary folder"));
        let mut served = Served::spawn_by(program, folder);
        let api = served.api();
        until("it listens", async || api.request(Method::GET, "/livez").send().await.ok()).await;
        api.override_with(json!({"target": "region/us", "action": "drain", "reason": HOSTILE})).await;
        assert_eq!(served.stop().await, Some(0));
        let log = fs::read_to_string(log).expect("UTF-8");
        assert!(is_plain(&log) && log.contains(shown), "{format}: {log:?}");
    }
}

#[test]
fn lines_of_a_config_are_escaped() {
    let folder = Folder::new(
        "[region.\"a\\u001b\\u009b\\u202eb\"]\nendpoint = 7\n\"k\\u001b\\u009b\\u202e\" = 1 # \u{9b}2J \u{202e}\u{200f}\n",
    );
    let hostile_name = folder.path("p\u{1b}[2J\u{9b}\u{202e}.toml");
    fs::copy(folder.config(), &hostile_name).expect("a copy");
    let [config, hostile_name] = [folder.config(), hostile_name].map(|path| path.display().to_string());
    for arguments in [
        &["check", "-c", &config][..],
        &["serve", "-c", &config],
        &["check", "--json", "-c", &config],
        &["check", "-c", &hostile_name],
    ] {
        let done = portolan(arguments);
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(is_plain(&done.stderr) && is_plain(&done.stdout), "{arguments:?}: {done:?}");
    }
}
