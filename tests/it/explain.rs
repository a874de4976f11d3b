//! `explain` traces the same choice that is answered: compares thousands of explanations with answers.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use portolan::api::dto::{self, Family, Instead, StageName};
use portolan::api::{Question, explain};
use portolan::health::{Severity, State};
use portolan::model::{EndpointRef, Fraction, Rules, Unix};
use portolan::prepare::{Origin, prepare, world};
use portolan::snapshot::{Plan, Snapshot};
use portolan::standing::{Action, Override};
use portolan::state;

use crate::harness::Numbers;
use crate::harness::binary::{program, run};
use crate::harness::folder::Folder;

const CONFIG: &str = r#"
version = 1
[dns]
listen = ["127.0.0.1:0"]
[latency]
table = [{ from = "country:IN", region = "us-east", ms = 5 }]
[region.eu-west]
location = { country = "IE", lat = 53.35, lon = -6.26 }
endpoint = [
  { name = "lb1", address = ["192.0.2.11", "2001:db8::11"] },
  { name = "lb2", address = ["192.0.2.12", "2001:db8::12"], weight = 50 },
]
[region.us-east]
location = { country = "US", lat = 38.95, lon = -77.45 }
endpoint = [{ name = "lb1", address = ["192.0.2.21", "2001:db8::21"] }]
[region.ap-south]
location = { country = "IN", lat = 19.08, lon = 72.88 }
endpoint = [{ name = "lb1", address = ["192.0.2.31"] }]
[[zone]]
origin = "example.test."
file = "zone"
[policy.all]
rank = "none"
[[service]]
name = "distance.example.test."
regions = ["eu-west", "us-east", "ap-south"]
rank = "distance"
[[service]]
name = "latency.example.test."
regions = ["eu-west", "us-east", "ap-south"]
rank = "latency"
tolerance = "30ms"
[[service]]
name = "all.example.test."
regions = ["eu-west", { region = "us-east", weight = 3 }, "ap-south"]
policy = "all"
[[service]]
name = "geo.example.test."
regions = ["eu-west", "us-east", "ap-south"]
rank = "geo"
geo = { "continent:EU" = ["eu-west"], "country:US" = [["us-east", "ap-south"]], "*" = ["ap-south"] }
fence = [{ region = "eu-west", only = ["continent:EU", "continent:AF"] }]
"#;

const ZONE: &str =
    "$TTL 60\n@ SOA ns hostmaster 1 3600 600 604800 30\n@ NS ns\nns A 192.0.2.1\nalias CNAME all\n";

const NAMES: [&str; 6] = ["distance", "latency", "all", "geo", "alias", "ns"];

/// A snapshot in which some addresses are not up.
fn snapshot(plan: &Arc<Plan>, dice: &mut Numbers) -> Snapshot {
    let seed = dice.next();
    let state = |at: EndpointRef, address: usize| {
        let place = u64::from(at.region.0) * 100 + u64::from(at.index) * 10 + address as u64;
        match Numbers(seed ^ place).next() % 8 {
            0 => State::Down(Severity::Hard),
            1 => State::Down(Severity::Soft),
            2 => State::Degraded,
            3 => State::Unknown,
            _ => State::Up,
        }
    };
    let now = Unix(Duration::from_secs(1_800_000_000));
    let standing = state::assume(&world(plan, Rules::default()), &[], now, &state);
    Snapshot { plan: Arc::clone(plan), standing: Arc::new(standing), challenges: <_>::default(), epoch: 1 }
}

fn question(dice: &mut Numbers) -> Question {
    let name = NAMES[dice.next() as usize % NAMES.len()];
    let client = match dice.next() % 3 {
        0 => IpAddr::V6(Ipv6Addr::from_bits((0x2a00_u128 << 112) | (u128::from(dice.next()) << 40))),
        _ => IpAddr::V4(Ipv4Addr::from_bits(dice.next() as u32)),
    };
    let rtype = if dice.next().is_multiple_of(2) { "A" } else { "AAAA" };
    let at = Unix(Duration::from_secs(1_800_000_000 + dice.next() % 1_000_000));
    Question {
        at,
        ..Question::parse(&format!("{name}.example.test"), Some(rtype), &client.to_string(), None).unwrap()
    }
}

/// The addresses at the end of an answer's records.
fn addresses(answer: &dto::Answer) -> Vec<IpAddr> {
    answer.records.iter().filter_map(|record| record.rsplit(' ').next()?.parse().ok()).collect()
}

#[test]
fn thousands_of_explanations_agree_with_answers() {
    let files = [("zone".into(), ZONE.as_bytes().to_vec())];
    let origin = Origin::Text { toml: CONFIG.into(), files: files.into() };
    let plan = prepare(&origin).expect("the config is good").plan;
    let home: HashMap<IpAddr, String> = plan
        .topology
        .regions
        .iter()
        .flat_map(|region| {
            region.endpoints.iter().flat_map(|e| e.listed()).map(|a| (*a, region.name.clone()))
        })
        .collect();
    let mut dice = Numbers(1);
    let (mut steered, mut empty) = (0, 0);
    for _ in 0..200 {
        let snapshot = snapshot(&plan, &mut dice);
        for _ in 0..25 {
            let question = question(&mut dice);
            let explanation = explain(&snapshot, &[], &[], &question).expect("the name is ours");
            let answered = addresses(&explanation.answer);
            let Some(service) = &explanation.service else {
                assert!(question.name.to_string().starts_with("ns."), "{question:?}");
                assert!(explanation.stages.is_empty() && explanation.region.is_none());
                continue;
            };
            let region = explanation
                .region
                .as_ref()
                .unwrap_or_else(|| panic!("{service} chose no region: {explanation:?}"));
            assert!(answered.iter().all(|address| home[address] == *region), "{explanation:?}");
            let share = explanation
                .stages
                .iter()
                .find(|stage| stage.stage == StageName::Share)
                .expect("a last stage");
            assert_eq!(share.kept.len(), 1, "{explanation:?}");
            assert_eq!(share.kept[0].region, *region, "{explanation:?}");
            let fenced = explanation.stages[0].dropped.iter().any(|dropped| dropped.region == *region);
            assert!(!fenced, "{explanation:?}");
            steered += 1;
            empty += usize::from(answered.is_empty());
        }
    }
    assert!(steered > 4_000 && empty > 0 && empty < steered / 4, "{steered} steered, {empty} of them empty");
}

/// Services that each demonstrate one case, and networks that differ in their first region.
const SHOWN: &str = r#"
[[geo.network]]
prefix = "10.9.0.0/16"
location = { country = "DE", lat = 50.1, lon = 8.7 }
[[geo.network]]
prefix = "10.8.0.0/16"
location = { country = "DE", lat = 50.1, lon = 8.7 }
regions = ["us-east"]
[[service]]
name = "order.example.test."
regions = ["eu-west", "us-east", "ap-south"]
rank = "geo"
geo = { "country:DE" = ["eu-west", "us-east"], "continent:EU" = ["us-east"], "*" = ["ap-south"] }
[[service]]
name = "https.example.test."
regions = ["eu-west", "us-east"]
https = {}
[[service]]
name = "fenced.example.test."
regions = ["eu-west", "us-east", "ap-south"]
fence = { region = "eu-west", except = ["country:DE"] }
[[service]]
name = "fallback.example.test."
regions = ["eu-west"]
fence = { region = "eu-west", except = ["country:DE"] }
all_down = { fallback = "203.0.113.9" }
[[service]]
name = "failure.example.test."
regions = ["eu-west"]
all_down = "servfail"
"#;

/// The explanation for a client while the addresses `down` are down.
fn explained(down: &[&str], name: &str, rtype: &str, client: &str) -> dto::Explain {
    static PLAN: LazyLock<Arc<Plan>> = LazyLock::new(|| {
        let files = [("zone".into(), ZONE.as_bytes().to_vec())];
        let origin = Origin::Text { toml: format!("{CONFIG}{SHOWN}").into(), files: files.into() };
        prepare(&origin).expect("the config is good").plan
    });
    let plan = Arc::clone(&PLAN);
    let state = |at: EndpointRef, address: usize| {
        let address = plan.topology.endpoint(at).listed()[address].to_string();
        if down.contains(&&*address) { State::Down(Severity::Hard) } else { State::Up }
    };
    let now = Unix(Duration::from_secs(1_800_000_000));
    let standing = state::assume(&world(&plan, Rules::default()), &[], now, &state);
    let question = Question {
        at: now,
        ..Question::parse(&format!("{name}.example.test"), Some(rtype), client, None).expect("a question")
    };
    let snapshot = Snapshot { plan, standing: standing.into(), challenges: <_>::default(), epoch: 1 };
    explain(&snapshot, &[], &[], &question).expect("the name is ours")
}

#[test]
fn overrides_are_explained_with_their_author_and_reason() {
    let files = [("zone".into(), ZONE.as_bytes().to_vec())];
    let origin = Origin::Text { toml: format!("{CONFIG}{SHOWN}").into(), files: files.into() };
    let plan = prepare(&origin).expect("the config is good").plan;
    let now = Unix(Duration::from_secs(1_800_000_000));
    let new_override = |id, target: &str, action, share, by: Option<&str>| Override {
        id,
        target: target.parse().expect("a target"),
        action: match action {
            Action::Drain(_) => Action::Drain(Fraction::parse(share).expect("a share")),
            action => action,
        },
        created: now,
        until: None,
        reason: by.map(|_| "new kernel".into()),
        by: by.map(Into::into),
    };
    let overrides = [
        new_override(3, "region/us-east", Action::DRAIN, "100%", Some("token ci")),
        new_override(4, "service/geo.example.test/eu-west", Action::DRAIN, "100%", None),
        new_override(5, "service/all.example.test/eu-west", Action::DRAIN, "99.999%", Some("user olga")),
        new_override(6, "region/ap-south", Action::Up, "100%", None),
    ];
    let of = |at: EndpointRef, _| if at.region.0 == 0 { State::Down(Severity::Hard) } else { State::Up };
    let standing = state::assume(&world(&plan, Rules::default()), &overrides, now, &of);
    let ap = plan.topology.region_named("ap-south").expect("it is there");
    assert_eq!(ap.0, 0, "the region that is forced up");
    let snapshot =
        Snapshot { plan: Arc::clone(&plan), standing: standing.into(), challenges: <_>::default(), epoch: 1 };
    let question = Question::parse("all.example.test", Some("A"), "10.9.0.1", None).expect("a question");
    let explanation =
        explain(&snapshot, &[], &overrides, &Question { at: now, ..question }).expect("it is ours");
    let eligible = explanation.stages.iter().find(|it| it.stage == StageName::Eligible).expect("a stage");
    let dropped: Vec<_> = eligible.dropped.iter().map(|it| (&*it.region, &*it.why)).collect();
    assert_eq!(
        dropped,
        [
            (
                "eu-west",
                "a drain keeps 100% of clients away, this one among them: override 5 by user olga (new kernel)"
            ),
            ("us-east", "drained by an operator: override 3 by token ci (new kernel)"),
        ]
    );
    assert_eq!(
        kept(&explanation, StageName::Eligible),
        [("ap-south", "forced up by an operator: override 6")]
    );
}

fn kept(explanation: &dto::Explain, stage: StageName) -> Vec<(&str, &str)> {
    let stage =
        explanation.stages.iter().find(|it| it.stage == stage).unwrap_or_else(|| panic!("{explanation:?}"));
    stage.kept.iter().map(|kept| (&*kept.region, &*kept.note)).collect()
}

#[test]
fn regions_are_reported_once_and_groups_are_numbered_without_gaps() {
    let groups = |regions: [&'static str; 3]| regions.into_iter().zip(["group 1", "group 2", "group 3"]);
    let (germany, all) = ("geo entry country:DE", "geo entry *");
    let plain = explained(&[], "order", "A", "10.9.0.1");
    assert_eq!(
        kept(&plain, StageName::Rank),
        [("eu-west", germany), ("us-east", germany), ("ap-south", all)]
    );
    let regions = ["eu-west", "us-east", "ap-south"];
    assert_eq!(kept(&plain, StageName::TieGroups), groups(regions).collect::<Vec<_>>());
    let first = explained(&[], "order", "A", "10.8.0.1");
    assert_eq!(
        kept(&first, StageName::Rank),
        [("us-east", "put first by geo.network"), ("eu-west", germany), ("ap-south", all)]
    );
    let regions = ["us-east", "eu-west", "ap-south"];
    assert_eq!(kept(&first, StageName::TieGroups), groups(regions).collect::<Vec<_>>());
    let fenced = explained(&[], "fenced", "A", "10.9.0.1");
    assert_eq!(
        kept(&fenced, StageName::Rank),
        [("us-east", "position 2 in the config"), ("ap-south", "position 3 in the config")]
    );
}

#[test]
fn answers_instead_of_regions_are_explained() {
    for (name, client, down, instead) in [
        ("fallback", "10.9.0.1", vec![], Some(Instead::Fallback)),
        ("fallback", "203.0.113.1", vec![], None),
        (
            "failure",
            "10.9.0.1",
            vec!["192.0.2.11", "192.0.2.12", "2001:db8::11", "2001:db8::12"],
            Some(Instead::Servfail),
        ),
        ("failure", "10.9.0.1", vec![], None),
        ("ns", "10.9.0.1", vec![], None),
    ] {
        let explanation = explained(&down, name, "A", client);
        assert_eq!(explanation.instead, instead, "{explanation:?}");
    }
}

#[test]
fn both_families_of_https_are_explained_where_they_differ() {
    let families = |explanation: &dto::Explain| -> Vec<Option<Family>> {
        explanation.stages.iter().map(|stage| stage.family).collect()
    };
    let same = explained(&[], "https", "HTTPS", "10.9.0.1");
    assert!(families(&same).iter().all(Option::is_none), "{same:?}");
    let differ = explained(&["2001:db8::11", "2001:db8::12"], "https", "HTTPS", "10.9.0.1");
    let winners: Vec<_> = differ
        .stages
        .iter()
        .filter(|stage| stage.stage == StageName::Share)
        .map(|stage| (stage.family, stage.kept[0].region.as_str()))
        .collect();
    assert_eq!(winners, [(Some(Family::V4), "eu-west"), (Some(Family::V6), "us-east")]);
    let none = explained(&["192.0.2.11", "192.0.2.12"], "https", "AAAA", "10.9.0.1");
    assert!(families(&none).iter().all(Option::is_none), "{none:?}");
}

#[test]
fn a_config_is_explained_without_a_node() {
    let folder = Folder::new(
        "[region.eu]\nendpoint = [{ name = \"lb1\", address = \"192.0.2.1\" }]\n[[service]]\nname = \"www.example.test.\"\nregions = [\"eu\"]\nfence = { region = \"eu\", except = [\"country:DE\"] }\nall_down = { fallback = \"203.0.113.9\" }\n",
    );
    let explain = |more: &[&str], control: Option<&str>| {
        let mut command = program();
        command
            .args(["explain", "www.example.test", "--client", "10.1.0.1", "-c"])
            .arg(folder.config())
            .args(more);
        command.envs(control.map(|control| ("PORTOLAN_CONTROL", control)));
        run(command)
    };
    // A control address in the environment applies to other commands.
    for done in [explain(&[], None), explain(&[], Some("127.0.0.1:1"))] {
        assert_eq!(done.code, Some(0), "{done:?}");
        for expected in [
            "portolan.toml: no node was asked; assumed: every probe succeeds and there are no overrides\n",
            "NOERROR, the fallback that all_down names: no region can serve this client, for 30 s",
        ] {
            assert!(done.stdout.contains(expected), "{expected} in:\n{}", done.stdout);
        }
    }
    let json: serde_json::Value = serde_json::from_str(&explain(&["--json"], None).stdout).expect("JSON");
    let assumed = "every probe succeeds and there are no overrides";
    assert_eq!((&json["offline"], &json["assumed"]), (&true.into(), &assumed.into()), "{json}");
    assert_eq!(json["answer"]["rcode"], "NOERROR");
    let done = explain(&["--control", "127.0.0.1:1"], None);
    assert_eq!((done.code, &*done.stdout), (Some(2), ""));
    assert!(done.stderr.contains("-c explains a config without a node, but --control names one"), "{done:?}");
}
