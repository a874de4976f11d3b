//! What others write never reaches the terminal as control characters: reasons of overrides, answers of targets,
//! lines of a config.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use serde_json::{Value, json};

use crate::harness::binary::{portolan, portolan_at};
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::until;

/// ESC, CSI as one C1 character, a right-to-left override, and a line feed.
const HOSTILE: &str = "a\u{1b}[2Jb\u{9b}2Jc\u{202e}d\nanswer      NOERROR from nowhere";

/// What there is to see of it, in one line.
const SHOWN: &str = r"a\u001b[2Jb\u009b2Jc\u202ed\u000aanswer      NOERROR from nowhere";

/// Whether a terminal would do anything but show the text.
fn is_plain(text: &str) -> bool {
    !text.contains(|c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c))
}

/// Serves a document whose status is hostile at a free port of 127.0.0.1.
fn hostile_target() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // The probe sends one request and may disconnect at any time.
            let mut request = [0; 4096];
            let Ok(1..) = stream.read(&mut request) else { continue };
            let body = json!({"status": "\u{1b}[2J\u{9b}2J\u{202e}"}).to_string();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).ok();
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_of_others_is_escaped() {
    let port = hostile_target();
    let node = TestNode::with(&format!(
        "[probe.ready]\nkind = \"http\"\nport = {port}\ninterval = \"100ms\"\ntimeout = \"90ms\"\nfall = 2\n\
         expect = {{ json = [{{ path = \"$.status\", equals = \"healthy\" }}] }}\n\
         [region.eu]\nendpoint = [{{ name = \"lb1\", address = \"127.0.0.1\", probe = \"ready\" }}]\n\
         [region.us]\nendpoint = [{{ name = \"lb1\", address = \"192.0.2.2\" }}]\n\
         [[service]]\nname = \"www.example.test.\"\nregions = [\"us\", \"eu\"]\n"
    ))
    .await;
    until("eu is down", async || (node.api.region("eu").await["verdict"] == "down").then_some(())).await;
    let drain = json!({"target": "region/us", "action": "drain", "share": "1%", "reason": HOSTILE});
    node.api.override_with(drain).await;

    let of_target = r#"$.status is "\u001b[2J\u009b2J\u202e""#;
    let explain = ["explain", "www.example.test", "--client", "192.0.2.1"];
    for (arguments, expected) in [
        (&["status"][..], &[SHOWN, of_target][..]),
        (&["overrides"], &[SHOWN]),
        (&["events"], &[of_target]),
        (&explain, &[]),
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

#[test]
fn lines_of_a_config_are_escaped() {
    let folder =
        Folder::new("[region.\"a\\u001b\\u009b\\u202eb\"]\nendpoint = 7 # \u{9b}2J \u{202e}\u{200f}\n");
    let config = folder.config().display().to_string();
    for arguments in
        [&["check", "-c", &config][..], &["serve", "-c", &config], &["check", "--json", "-c", &config]]
    {
        let done = portolan(arguments);
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(is_plain(&done.stderr) && is_plain(&done.stdout), "{arguments:?}: {done:?}");
    }
}
