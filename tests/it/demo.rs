//! `portolan demo`: as a process in a terminal, and what each tier does when something in it breaks.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use portolan::model::Subject;
use portolan::node::demo::happening::{Happening, Tier};
use portolan::node::demo::switch::{Break, Target};
use portolan::node::demo::{Demo, region_address};
use portolan::state::EventKind;
use tokio::sync::broadcast::Receiver;

use crate::harness::binary::{portolan, program, run};
use crate::harness::client::Client;
use crate::harness::folder::Folder;
use crate::harness::{PATIENCE, until};

/// Closing the terminal sends SIGHUP, which tells a server to read its config again; a demo ends, and frees its ports.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_with_its_terminal() {
    let mut demo = program().arg("demo").spawn().expect("it starts");
    let mut lines = BufReader::new(demo.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("Ctrl-C ends the demo")));
    kill(Pid::from_raw(demo.id().cast_signed()), Signal::SIGHUP).expect("it runs");
    let ended = until("it ends", async || demo.try_wait().expect("our child")).await;
    assert_eq!(ended.code(), Some(0));
}

/// It is found however its user logged in: XDG_RUNTIME_DIR may be set for the demo alone, or for the command alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_found_by_commands_of_other_sessions() {
    let (folder, elsewhere) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    // Where another node has the usual port, the demo takes the next. If this fails, another one has it already.
    let taken = TcpListener::bind("127.0.0.1:8053");
    let mut demo = program().arg("demo").env("TMPDIR", folder.path()).spawn().expect("it starts");
    let mut lines = BufReader::new(demo.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    let introduction: Vec<String> = lines.by_ref().take_while(|line| !line.starts_with("Ctrl-C")).collect();
    let exported = introduction.iter().any(|line| line.trim().starts_with("export PORTOLAN_CONTROL="));
    assert!(exported, "{introduction:?}");
    let fail = |temporary: &std::path::Path| {
        let mut command = program();
        command.args(["demo", "fail", "region/eu-west"]);
        command.env("TMPDIR", temporary).env("XDG_RUNTIME_DIR", elsewhere.path());
        run(command)
    };
    let done = fail(folder.path());
    let expected = "eu-west is now failing (refuse): its proxy is stopped\n\
                    after 3 failed probes DNS sends its clients elsewhere, if another region serves\n";
    assert_eq!((done.code, &*done.stdout), (Some(0), expected), "{done:?}");
    drop(taken);
    let unknown = fail(elsewhere.path());
    assert!(unknown.code != Some(0) && unknown.stderr.contains("127.0.0.1:8053"), "{unknown:?}");
    kill(Pid::from_raw(demo.id().cast_signed()), Signal::SIGTERM).expect("it runs");
    until("it ends", async || demo.try_wait().expect("our child")).await;
}

/// What happens is shown after the tier that acted, and each region has a socket of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_shows_what_each_tier_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut demo = program().arg("demo").env("TMPDIR", folder.path()).spawn().expect("it starts");
    let mut lines = BufReader::new(demo.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    let introduction: Vec<String> = lines.by_ref().take_while(|line| !line.starts_with("Ctrl-C")).collect();
    let value = |name: &str| {
        let mut values = introduction.iter().filter_map(|line| line.trim().strip_prefix(name));
        values.next().unwrap_or_else(|| panic!("no {name} in {introduction:?}")).to_owned()
    };
    let (socket, of_region) = (value("export PORTOLAN_CONTROL="), value("REGION="));
    let on_demo = |arguments: &[&str]| portolan(&[&["--control", &socket], arguments].concat());
    for (arguments, expected) in [
        (
            &["demo", "fail", "eu-west/backend1"][..],
            "eu-west/backend1 is now failing (refuse)\nthe proxy of eu-west ",
        ),
        (&["demo", "fail", "us-east", "--how", "503"], "us-east is now failing (503): both of its backends "),
    ] {
        let done = on_demo(arguments);
        assert!(done.code == Some(0) && done.stdout.starts_with(expected), "{done:?}");
    }
    let mut wanted = vec![
        "  demo            eu-west/backend1 fails (refuse)",
        "  demo            us-east fails (503)",
        "  eu-west proxy   eu-west/backend1 up -> down: ",
        "  us-east proxy   us-east/backend2 up -> down: ",
        "  us-east proxy   no backend of pool `web` serves",
        "  DNS             region/us-east up -> down: ",
    ];
    while !wanted.is_empty() {
        let line = lines.next().expect("the demo runs");
        assert!(!line.contains("  region/eu-west "), "its clients stay: {line}");
        wanted.retain(|expected| !line.contains(expected));
    }
    let shown = portolan(&["status", "--control", &of_region]).stdout;
    assert!(shown.starts_with("eu-west ") && shown.contains("127.0.1.11"), "{shown}");
    let healed = on_demo(&["demo", "heal", "us-east", "--json"]);
    let healed: serde_json::Value = serde_json::from_str(&healed.stdout).expect("JSON");
    assert_eq!((&healed["target"], &healed["backends"]["backend1"]), (&"us-east".into(), &().into()));
    kill(Pid::from_raw(demo.id().cast_signed()), Signal::SIGINT).expect("it runs");
    let ended = until("it ends", async || demo.try_wait().expect("our child")).await;
    assert_eq!(ended.code(), Some(0));
    assert_eq!(folder.path().read_dir().expect("a folder").count(), 0, "it leaves no sockets");
}

#[test]
fn a_misspelled_name_is_a_usage_error_with_a_suggestion() {
    for (wrong, meant) in
        [("eu-wst", "eu-west"), ("eu-west/backend3", "eu-west/backend1"), ("dub", "ap-south")]
    {
        let done = portolan(&["demo", "fail", wrong]);
        assert!(done.code == Some(2) && done.stderr.contains(meant), "{done:?}");
    }
}

/// A user could write it, and run it by `portolan serve`.
#[test]
fn the_printed_configs_are_valid() {
    let folder = Folder::new("");
    folder.write("demo.test.zone", include_str!("../../zones/demo.test.zone"));
    for (name, expected) in
        [("dns", "1 zone"), ("ap-south", "1 pool"), ("eu-west", "1 pool"), ("us-east", "1 pool")]
    {
        let printed = portolan(&["demo", "--print-config", name]);
        assert_eq!(printed.code, Some(0), "{printed:?}");
        folder.write("portolan.toml", printed.stdout);
        let done = portolan(&["check", "-c", folder.path("portolan.toml").to_str().expect("UTF-8")]);
        assert_eq!((done.code, &*done.stderr), (Some(0), ""), "{name}: {done:?}");
        assert!(done.stdout.contains(expected), "{name}: {done:?}");
    }
    assert_eq!(portolan(&["demo", "--print-config", "eu"]).code, Some(2));
}

/// Both failures happen, and the first costs clients nothing.
#[test]
fn the_drill_times_a_backend_and_a_region() {
    let done = portolan(&["demo", "--drill"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let (_, report) = done.stdout.split_once("the failure of a backend, in seconds").expect("a report");
    let mut rest = report;
    for expected in [
        "last response from the backend",
        "the backend breaks",
        "down, because its probes fail",
        "first response from the backend",
        "none of the ",
        " requests through the proxy of eu-west failed\nDNS answers did not change\n",
        "the failure of a region, in seconds",
        "the region breaks",
        "withdrawal",
        "first answer back",
    ] {
        let (_, after) = rest.split_once(expected).unwrap_or_else(|| panic!("no {expected:?} in {report}"));
        rest = after;
    }
    assert!(!report.contains('–'), "every step was seen: {report}");
}

fn target(name: &str) -> Target {
    Target::named(name).expect("the demo has it")
}

/// A page of the proxy of eu-west.
async fn page(client: &reqwest::Client, demo: &Demo) -> Result<String, String> {
    let url = format!("http://{}:{}/", region_address("eu-west"), demo.region_port);
    let response = client.get(url).send().await.map_err(|error| error.to_string())?;
    let status = response.status();
    let text = response.text().await.map_err(|error| error.to_string())?;
    if status == 200 { Ok(text) } else { Err(format!("{status}: {text}")) }
}

/// Whether the proxy of eu-west found its first backend down, as far as it is known.
fn found_down(happenings: &mut Receiver<Happening>) -> bool {
    std::iter::from_fn(|| happenings.try_recv().ok()).any(|happening| {
        let is_backend = happening.sentence.starts_with("eu-west/backend1 ");
        let event = happening.event.as_ref().map(|event| &event.kind);
        let to = event.and_then(|kind| match kind {
            EventKind::Transition { subject: Subject::Backend { .. }, to, .. } => Some(*to),
            _ => None,
        });
        is_backend && happening.tier == Tier::Proxy("eu-west") && to.is_some_and(|to| to.is_down())
    })
}

/// The lower tier absorbs it: no request fails, and no client is moved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_fails_costs_clients_nothing() {
    let demo = Demo::start().await.expect("a demo");
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client");
    let mut dns = Client::of(demo.node.dns_addresses[0]).await;
    let mut happenings = demo.subscribe();
    for how in [Break::Refuse, Break::Hang, Break::Unavailable, Break::Document] {
        demo.turn(target("eu-west/backend1"), Some(how));
        let mut answered = 0;
        until("the proxy does without it", async || {
            let page = page(&client, &demo).await;
            assert!(page.is_ok(), "after {answered} pages, {how}: {page:?}");
            answered += 1;
            assert_eq!(
                dns.address("www.demo.test.", "84.128.0.0/24").await,
                region_address("eu-west"),
                "{how}"
            );
            found_down(&mut happenings).then_some(())
        })
        .await;
        demo.turn(target("eu-west/backend1"), None);
        until("it is used again", async || {
            let page = page(&client, &demo).await;
            assert!(page.is_ok(), "healed from {how}: {page:?}");
            (page.as_deref() == Ok("hello from eu-west/backend1\n")).then_some(())
        })
        .await;
    }
    demo.stop().await;
}

/// The upper tier moves the clients, however the region or both of its backends fail, and moves them back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_fails_loses_its_clients() {
    let demo = Demo::start().await.expect("a demo");
    let mut dns = Client::of(demo.node.dns_addresses[0]).await;
    let [one, other, region] = ["eu-west/backend1", "eu-west/backend2", "eu-west"].map(target);
    let evidence = async || {
        let checks = demo.node.engine.checks().await.expect("the engine runs");
        let of_region = |it: &&portolan::state::CheckStatus| it.id.subject.to_string().contains("eu-west");
        let of_region: Vec<String> = checks.iter().filter(of_region).map(ToString::to_string).collect();
        of_region.join("; ")
    };
    for (turns, expected) in [
        (&[(one, Break::Refuse), (other, Break::Hang)][..], "status 50"),
        (&[(region, Break::Refuse)], "connection refused"),
        (&[(region, Break::Document)], "$.checks.database.status is \"unhealthy\""),
        (&[(region, Break::Hang)], "timeout after 900ms in response"),
        (&[(region, Break::Unavailable)], "status 503"),
    ] {
        for (target, how) in turns {
            demo.turn(*target, Some(*how));
        }
        until(expected, async || {
            let address = dns.address("www.demo.test.", "84.128.0.0/24").await;
            (address == region_address("us-east") && evidence().await.contains(expected)).then_some(())
        })
        .await;
    }
    demo.turn(region, None);
    until("its clients are back", async || {
        let address = dns.address("www.demo.test.", "84.128.0.0/24").await;
        (address == region_address("eu-west")).then_some(())
    })
    .await;
    demo.stop().await;
}
