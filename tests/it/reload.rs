//! Reloads under load: an invalid config changes nothing, a valid one loses no query.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use hickory_proto::op::ResponseCode;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::binary::{Served, portolan_at};
use crate::harness::client::{Client, outcome, query};
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::region::{
    AMERICAN, ASIAN, Break, DUBLIN, GERMAN, NEAREST, Region, SINGAPORE, Three, VIRGINIA,
};
use crate::harness::until;

/// Clients that keep asking: each sends its next query as soon as the last is answered, and none twice.
struct Load {
    clients: JoinSet<Counts>,
    over: Arc<AtomicBool>,
    /// The addresses that each client of [`ASKED`] may get.
    right: Arc<[Mutex<BTreeSet<IpAddr>>]>,
}

#[derive(Default)]
struct Counts {
    answered: usize,
    wrong: Vec<String>,
}

/// The names that they ask for, and their client subnets.
const ASKED: [(&str, &str); 4] = [
    ("www.example.test.", GERMAN),
    ("www.example.test.", AMERICAN),
    ("alias.example.test.", ASIAN),
    ("moves.example.test.", GERMAN),
];
const MOVES: usize = 3;

impl Load {
    fn start(server: SocketAddr, right: [IpAddr; 4]) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let right: Arc<[_]> = right.map(|address| Mutex::new(BTreeSet::from([address]))).into();
        let mut clients = JoinSet::new();
        for index in 0..ASKED.len() {
            clients.spawn(keep_asking(server, index, Arc::clone(&right), Arc::clone(&over)));
        }
        Self { clients, over, right }
    }

    fn allow(&self, index: usize, address: IpAddr) {
        self.right[index].lock().expect("no panic").insert(address);
    }

    fn forbid(&self, index: usize, address: IpAddr) {
        self.right[index].lock().expect("no panic").remove(&address);
    }

    /// Stops it and returns the number of answers. A query without an answer, or with a wrong one, fails the test.
    async fn stop(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        let counts = self.clients.join_all().await;
        let wrong: Vec<_> = counts.iter().flat_map(|counts| &counts.wrong).collect();
        assert!(wrong.is_empty(), "{} wrong answers: {:?}", wrong.len(), &wrong[..wrong.len().min(5)]);
        counts.iter().map(|counts| counts.answered).sum()
    }
}

async fn keep_asking(
    server: SocketAddr,
    index: usize,
    right: Arc<[Mutex<BTreeSet<IpAddr>>]>,
    over: Arc<AtomicBool>,
) -> Counts {
    let (name, place) = ASKED[index];
    let asked = query(name, Some(place));
    let allowed = || right[index].lock().expect("no panic").clone();
    let mut client = Client::of(server).await;
    let mut counts = Counts::default();
    while !over.load(Ordering::Relaxed) {
        let before = allowed();
        let found = outcome(&client.exchange(&asked).await);
        let after = allowed();
        counts.answered += 1;
        match &found {
            (ResponseCode::NoError, one)
                if one.len() == 1 && (before.contains(&one[0]) || after.contains(&one[0])) => {}
            _ => counts.wrong.push(format!("{name} for {place}: {found:?}")),
        }
    }
    counts
}

const MOVING: &str = "[[service]]\nname = \"moves.example.test.\"\nregions = [\"eu\"]\nttl = \"1s\"\n\n";

/// A way to break the config, and where the error must point.
struct Mistake {
    what: &'static str,
    /// Text of the config, and its replacement.
    config: Option<(&'static str, &'static str)>,
    /// Another file, and its new content.
    file: Option<(&'static str, &'static str)>,
    /// File, text in the config's line (or the line itself), column, and message.
    expected: (&'static str, Line, usize, &'static str),
}

enum Line {
    Number(usize),
    Of(&'static str),
}

fn mistakes() -> [Mistake; 5] {
    let config = "portolan.toml";
    [
        Mistake {
            what: "a torn line",
            config: Some(("answers-here", "answers = [")),
            file: None,
            expected: (config, Line::Of("answers = ["), 12, "unclosed array"),
        },
        Mistake {
            what: "a region that is not there",
            config: Some(("[\"eu\", \"us\", \"ap\"]", "[\"eu\", \"mars\", \"ap\"]")),
            file: None,
            expected: (config, Line::Of("mars"), 18, "region `mars` is not defined"),
        },
        Mistake {
            what: "a zone file that is not there",
            config: Some(("\"example.test.zone\"", "\"gone.zone\"")),
            file: None,
            expected: (config, Line::Of("gone.zone"), 10, "zone file "),
        },
        Mistake {
            what: "a zone with a bad line",
            config: None,
            file: Some((
                "example.test.zone",
                "$TTL 300\n@ SOA ns h 7 3600 600 86400 60\n@ NS ns\nns A 192.0.2.999\n",
            )),
            expected: ("example.test.zone", Line::Number(4), 6, "expected IPv4 address"),
        },
        Mistake {
            what: "a geo database of another kind",
            config: None,
            file: Some(("places.mmdb", "place,region\n")),
            expected: (config, Line::Of("places.mmdb"), 12, "geo database "),
        },
    ]
}

/// Makes the mistake; returns what undoes it, and the expected error.
fn make(folder: &Folder, mistake: &Mistake) -> (impl FnOnce() + use<>, String) {
    let config = folder.config();
    let other = mistake.file.map(|(name, _)| folder.path(name));
    let good = std::fs::read(&config).expect("a config");
    let good_other = other.as_ref().map(|path| std::fs::read(path).expect("a file"));
    if let Some((from, to)) = mistake.config {
        folder.reconfigure(if from == "answers-here" { "# more\n" } else { from }, to);
    }
    if let Some((name, content)) = mistake.file {
        folder.write(name, content);
    }
    let (file, line, column, why) = &mistake.expected;
    let line = match line {
        Line::Number(number) => *number,
        Line::Of(text) => folder.line_of(text),
    };
    let expected = format!("{file}:{line}:{column}: error: {why}");
    let undo = move || {
        std::fs::write(config, good).expect("written");
        other
            .into_iter()
            .zip(good_other)
            .for_each(|(path, text)| std::fs::write(path, text).expect("written"));
    };
    (undo, expected)
}

fn is(event: &'static str) -> impl Fn(&Value) -> bool {
    move |line| line["message"] == event
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_config_under_load_loses_nothing_and_a_good_one_takes_effect() {
    let three = Three::start();
    let folder = Folder::new(&[&three.config(&[]), NEAREST, MOVING, "# more\n"].concat());
    let mut served = Served::start(folder).await;
    let (api, folder) = (served.api(), &served.folder);
    let [eu, us, ap] = [three.eu.ip(), three.us.ip(), three.ap.ip()];
    let load = Load::start(served.dns().await, [eu, us, ap, eu]);
    let epoch = api.get("/v1/status").await["node"]["epoch"].clone();

    for (count, mistake) in mistakes().iter().enumerate() {
        let (undo, expected) = make(folder, mistake);
        served.signal(Signal::SIGHUP);
        let what = format!("{} is logged", mistake.what);
        let line = served.logged_times(3 * count + 1, &what, is("reload_failed")).await;
        let why = line["why"].as_str().expect("a text");
        assert!(why.contains(&expected), "{}: expected {expected:?} in {why:?}", mistake.what);
        let (status, problem) = api.call(Method::POST, "/v1/reload", None).await;
        let detail = problem["detail"].as_str().expect("a text");
        assert!(status == 422 && detail.contains(&expected), "{}: {status} {detail}", mistake.what);
        let done = portolan_at(folder, &["reload"]);
        assert!(done.code == Some(1) && done.stderr.contains(&expected), "{done:?}");
        assert_eq!(api.get("/v1/status").await["node"]["epoch"], epoch, "{}", mistake.what);
        undo();
    }

    load.allow(MOVES, us);
    folder.reconfigure(MOVING, &MOVING.replace("\"eu\"", "\"us\""));
    folder.reconfigure("# more\n", &MOVING.replace("moves", "new"));
    served.signal(Signal::SIGHUP);
    served.logged("the good config is in force", is("reload")).await;
    load.forbid(MOVES, eu);
    let mut client = served.client().await;
    assert_eq!(client.address("new.example.test.", GERMAN).await, eu);
    assert_eq!(client.address("moves.example.test.", GERMAN).await, us);
    assert!(portolan_at(folder, &["reload"]).stdout.starts_with("reloaded, epoch "));

    let answered = load.stop().await;
    assert!(answered > 100, "only {answered} queries were asked meanwhile");
    assert_eq!(served.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdicts_and_overrides_survive_a_reload() {
    let three = Three::start();
    let config = [three.config(&[("hold", "\"1h\"")]), NEAREST.into()].concat();
    let node = TestNode::with(&config).await;
    three.ap.fail(Break::Refuse);
    let down = until("ap is down", async || {
        Some(node.api.region("ap").await).filter(|region| region["verdict"] == "down")
    })
    .await;
    let id = node.api.override_with(json!({"target": "region/us", "action": "drain"})).await;
    let up = node.api.region("eu").await;
    let last_event = node.api.get("/v1/events").await.as_array().expect("a list").len();

    // A fourth region, and other thresholds for the others.
    let fourth = Region::start("xx", 4);
    let more = [
        config.replace("rise = 2", "rise = 1").replace("[\"eu\", \"us\"", "[\"eu\", \"xx\", \"us\""),
        fourth.config(SINGAPORE, &[]),
    ];
    node.folder.configure(&more.concat());
    let (status, reply) = node.api.call(Method::POST, "/v1/reload", None).await;
    assert!(status == 200 && !reply.to_string().contains("restart"), "{reply}");

    for (name, before) in [("eu", &up), ("ap", &down)] {
        let after = node.api.region(name).await;
        assert_eq!((&after["verdict"], &after["since"]), (&before["verdict"], &before["since"]), "{name}");
    }
    assert_eq!(node.api.region("us").await["override"]["id"], id);
    let mut client = node.client().await;
    assert_eq!(client.address("www.example.test.", GERMAN).await, three.eu.ip());
    until("the new region serves its neighbours", async || {
        let asian = client.address("www.example.test.", ASIAN).await;
        assert!(asian != three.ap.ip(), "it is down");
        (asian == fourth.ip()).then_some(())
    })
    .await;
    let events = node.api.get("/v1/events").await;
    let since: Vec<_> = events.as_array().expect("a list")[last_event..]
        .iter()
        .filter(|event| event["event"] == "transition" && event["fields"]["from"] == "unknown")
        .map(|event| event["fields"]["subject"].as_str().expect("a text"))
        .filter(|subject| !subject.contains("/xx"))
        .collect();
    assert!(since.is_empty(), "only the new region was unknown, not {since:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_geo_index_is_kept_while_nothing_in_it_changes() {
    let node =
        TestNode::with("[region.eu]\nendpoint = [{ name = \"lb1\", address = [\"192.0.2.7\"] }]\n\n").await;
    let index = || Arc::clone(&node.node.engine.snapshots.load().plan.geo);
    let reload = async || {
        let before = index();
        let (status, reply) = node.api.call(Method::POST, "/v1/reload", None).await;
        assert_eq!(status, 200, "{reply}");
        Arc::ptr_eq(&before, &index())
    };
    let country = |address: &str| index().locate(address.parse().expect("an address")).place.location.country;
    assert!(reload().await, "nothing has changed");
    node.folder.reconfigure("[region.eu]", &[MOVING, "[region.eu]"].concat());
    assert!(reload().await, "a service has changed");
    assert_eq!(node.client().await.address("moves.example.test.", GERMAN).await.to_string(), "192.0.2.7");

    assert_eq!(country("81.2.69.142").map(|it| it.to_string()).as_deref(), Some("GB"));
    // Overwritten in place: the same file, with the same length and the same times.
    let path = node.folder.path("places.mmdb");
    let mut bytes = std::fs::read(&path).expect("the database");
    let codes: Vec<_> = (0..bytes.len() - 2).filter(|at| bytes[*at..].starts_with(b"BGB")).collect();
    codes.iter().for_each(|at| bytes[*at + 1..at + 3].copy_from_slice(b"XK"));
    let times = std::fs::metadata(&path).and_then(|it| it.modified()).expect("a time");
    let file = std::fs::File::options().write(true).open(&path).expect("the database");
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).expect("written");
    file.set_modified(times).expect("a time");
    assert!(!reload().await, "the database has changed");
    assert_eq!(country("81.2.69.142").map(|it| it.to_string()).as_deref(), Some("XK"));
    assert!(reload().await, "it has not changed again");

    node.folder.reconfigure("country = \"SG\"", "country = \"MY\"");
    assert!(!reload().await, "a network has changed");
    node.folder.reconfigure(
        "regions = [\"eu\"]\nttl",
        "regions = [\"eu\"]\nfence = [{ region = \"eu\", except = [\"net:10.9.0.0/16\"] }]\nttl",
    );
    assert!(!reload().await, "a place has been named");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regions_that_a_new_rule_holds_or_releases_are_reported() {
    let eu = Region::start("eu", 1);
    let service = "[[service]]\nname = \"www.example.test.\"\nregions = [\"eu\"]\nall_down = \"servfail\"\n";
    let config = [&eu.config("{ country = \"IE\" }", &[]), service, "[safety]\nmin_regions = 0\n"].concat();
    let node = TestNode::with(&config).await;
    eu.fail(Break::Unavailable);
    until("eu is down", async || (node.api.region("eu").await["verdict"] == "down").then_some(())).await;
    let mut client = node.client().await;
    let asked = query("www.example.test.", Some(GERMAN));
    for (from, to, event, code) in
        [(0, 1, "held", ResponseCode::NoError), (1, 0, "released", ResponseCode::ServFail)]
    {
        node.folder.reconfigure(&format!("min_regions = {from}"), &format!("min_regions = {to}"));
        let (status, reply) = node.api.call(Method::POST, "/v1/reload", None).await;
        assert_eq!(status, 200, "{reply}");
        let reported = node.api.events(event).await;
        assert_eq!(reported.len(), 1, "{event}");
        assert_eq!(reported[0]["fields"]["region"], "eu");
        assert_eq!(outcome(&client.exchange(&asked).await).0, code);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transitions_caused_by_a_reload_are_reported() {
    let (one, two) = (Region::start("one", 41), Region::start("two", 42));
    two.fail(Break::Refuse);
    // The order differs after the reload: regions are identified by name.
    let rest = |regions: [String; 2]| {
        regions.concat() + "[[service]]\nname = \"www.example.test.\"\nregions = [\"one\", \"two\"]\n"
    };
    let (with_one, with_two) = (one.config(DUBLIN, &[]), two.config(VIRGINIA, &[]));
    let node = TestNode::with(&rest([with_one.clone(), with_two.clone()])).await;
    until("it is down", async || (node.api.region("two").await["verdict"] == "down").then_some(())).await;
    let before = node.api.events("transition").await.len();

    node.folder.configure(&rest([with_two.replace("probe = [\"two\"]", "probe = []"), with_one]));
    assert_eq!(node.api.call(Method::POST, "/v1/reload", None).await.0, 200);
    let reported = node.api.events("transition").await.split_off(before);
    let reported: Vec<_> = reported.iter().map(|it| it["message"].as_str().expect("a text")).collect();
    let evidence = "no probe: always up";
    let address = format!("endpoint/two/lb1 {} down -> up: {evidence}", two.ip());
    assert_eq!(reported, [address, format!("region/two down -> up: lb1 {evidence}")]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_that_leaves_a_service_without_a_region_raises_an_alarm_and_ends_it() {
    let (one, two) = (Region::start("one", 43), Region::start("two", 44));
    two.fail(Break::Refuse);
    let regions = [one.config(DUBLIN, &[]), two.config(VIRGINIA, &[])].concat();
    let service = |name: &str, regions: &str| {
        format!("[[service]]\nname = \"{name}.example.test.\"\nregions = {regions}\n")
    };
    let both = r#"["one", "two"]"#;
    let node = TestNode::with(&[&regions, &*service("www", both)].concat()).await;
    until("it is down", async || (node.api.region("two").await["verdict"] == "down").then_some(())).await;
    let reported = async |event: &str| -> Vec<String> {
        let events = node.api.events(event).await;
        events.iter().map(|it| it["message"].as_str().expect("a text").to_owned()).collect()
    };
    let alarm = "no region can serve www.example.test.: answered as all_down says";
    // Another service before it changes its index.
    for (services, alarms, ends) in [
        (service("www", r#"["two"]"#) + &service("api", both), vec![alarm], vec![]),
        (service("api", both) + &service("www", r#"["two"]"#), vec![alarm], vec![]),
        (service("www", both), vec![alarm], vec!["regions can serve www.example.test. again"]),
    ] {
        node.folder.configure(&[&regions, &*services].concat());
        assert_eq!(node.api.call(Method::POST, "/v1/reload", None).await.0, 200);
        assert_eq!(reported("alarm").await, alarms, "{services}");
        assert_eq!(reported("all_clear").await, ends, "{services}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overrides_without_a_target_in_the_config_are_warned_of() {
    let eu = Region::start("eu", 45);
    let service = "[[service]]\nname = \"www.example.test.\"\nregions = [\"eu\"]\n";
    let node = TestNode::with(&[&eu.config(DUBLIN, &[]), service].concat()).await;
    let drain = json!({ "target": "endpoint/eu/lb1", "action": "drain", "share": "50%" });
    assert_eq!(node.api.call(Method::POST, "/v1/overrides", Some(drain)).await.0, 200);
    let expected = "override 1 drain 50% endpoint/eu/lb1 has no effect: region `eu` has no endpoint `lb1`; \
                    its endpoints are lb9; remove it unless it should apply when the target returns";
    node.folder.configure(&[&eu.config(DUBLIN, &[]).replace("\"lb1\"", "\"lb9\""), service].concat());
    let (status, reply) = node.api.call(Method::POST, "/v1/reload", None).await;
    let warnings = reply["warnings"].as_array().expect("a list");
    assert_eq!((status, warnings.last()), (200, Some(&json!(expected))));
    node.stop().await;
}

/// Warnings are one line each wherever they appear, and errors come before them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_and_warnings_of_a_reload_are_readable() {
    let mut served = Served::start(Folder::new("")).await;
    let reload = |served: &Served| portolan_at(&served.folder, &["reload"]);
    served.folder.configure("[probe.one]\nkind = \"http\"\n[probe.two]\nkind = \"http\"\n");
    let shown = served.folder.config().display().to_string();
    let (one, two) = (served.folder.line_of("[probe.one]"), served.folder.line_of("[probe.two]"));
    let help = "(name it in the `probe` of an endpoint or pool, or remove it)";
    let expected = [
        format!("{shown}:{one}:8: probe `one` is not used by any endpoint or pool {help}"),
        format!("{shown}:{two}:8: probe `two` is not used by any endpoint or pool {help}"),
    ];
    let done = reload(&served);
    let lines: Vec<_> = expected.iter().map(|it| format!("portolan: warning: {it}\n")).collect();
    assert_eq!((done.code, done.stderr), (Some(0), lines.concat()));
    let event = served.api().events("reload").await.pop().expect("an event");
    let by = event["fields"]["by"].as_str().expect("a name");
    let lines: Vec<_> = expected.iter().map(|it| format!("\nwarning: {it}")).collect();
    assert_eq!(event["message"], format!("config reloaded by {by}{}", lines.concat()));
    assert_eq!(event["fields"]["warnings"], expected.join("\n"));

    served.folder.reconfigure("[probe.two]\nkind = \"http\"\n", "[safety]\nmin_regions = -1\n");
    let error = format!("{shown}:{}:15: error: ", two + 1);
    let done = reload(&served);
    assert!(done.code == Some(1) && done.stderr.starts_with(&format!("portolan: {error}")), "{done:?}");
    assert!(done.stderr.contains("warning: probe `one` is not used"), "{done:?}");
    let event = served.api().events("reload_failed").await.pop().expect("an event");
    assert!(event["fields"]["why"].as_str().expect("a text").starts_with(&error), "{event}");
    assert_eq!(served.stop().await, Some(0));
    // At a start each is a line of the log; one without help has no such field.
    served.folder.configure("[probe.one]\nkind = \"http\"\n");
    let zone = std::fs::read_to_string(served.folder.path("example.test.zone")).expect("a zone");
    served.folder.write("example.test.zone", zone + "@ MX 10 alias\n");
    let again = Served::start(served.into_folder()).await;
    let of = |file: &'static str| {
        move |line: &Value| {
            line["level"] == "WARN" && line["file"].as_str().is_some_and(|it| it.ends_with(file))
        }
    };
    let unused = again.logged("the warning about the config", of("portolan.toml")).await;
    assert_eq!(unused["help"], "name it in the `probe` of an endpoint or pool, or remove it");
    let odd = again.logged("the warning about the zone", of("example.test.zone")).await;
    assert_eq!(odd.get("help"), None, "{odd}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_need_a_restart_are_warned_of() {
    let node = TestNode::with("").await;
    let changes = [
        ("listen  = [\"127.0.0.1:0\"]", "listen  = [\"127.0.0.1:0\", \"127.0.0.2:0\"]", "[dns] listen"),
        ("workers = 1", "workers = 2", "[dns] workers"),
        ("socket = \"control.sock\"", "socket = \"other.sock\"", "[control] socket"),
        ("state_dir = \"state\"", "state_dir = \"elsewhere\"", "[node] state_dir"),
        ("name = \"test\"", "name = \"test\"\nlandlock = false", "[node] landlock"),
        ("format = \"json\"", "format = \"text\"", "[log]"),
    ];
    let mut expected = Vec::new();
    for (from, to, key) in changes {
        node.folder.reconfigure(from, to);
        expected.push(format!("{key} has changed, but is read only at the start: restart the node"));
        let (status, reply) = node.api.call(Method::POST, "/v1/reload", None).await;
        assert_eq!(status, 200);
        let warnings: BTreeSet<_> = reply["warnings"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|it| it.as_str().expect("a text"))
            .collect();
        assert_eq!(warnings, expected.iter().map(String::as_str).collect(), "{key}");
    }
    let done = portolan_at(&node.folder, &["reload"]);
    assert_eq!(done.code, Some(0));
    for warning in &expected {
        assert!(done.stderr.contains(&format!("portolan: warning: {warning}")), "{}", done.stderr);
    }
    let event = node.api.events("reload").await.pop().expect("an event");
    assert!(event["message"].as_str().expect("a text").contains("[dns] listen has changed"), "{event}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_node_refuses_to_reload() {
    let node = TestNode::with("").await;
    let reloads = node.node.reloads.clone();
    reloads.reload("the test".into()).await.expect("a good config");
    node.stop().await;
    let error = reloads.reload("the test".into()).await.expect_err("it has stopped");
    assert_eq!(error.to_string(), "the node is stopping");
}
