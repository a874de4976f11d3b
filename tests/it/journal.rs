//! The journal on failing disks: nothing waits for it, and nothing that could be written is lost.

use std::fs;

use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::harness::binary::{Done, Served, program, run};
use crate::harness::client::Client;
use crate::harness::disk::{Small, Stalling};
use crate::harness::folder::Folder;
use crate::harness::region::{ASIAN, Break, GERMAN, NEAREST, Region, Three};
use crate::harness::{skipped, until};

/// Waits until a client of the usual name is sent to a region.
async fn sent_to(client: &mut Client, place: &str, region: &Region) {
    until(&format!("clients are sent to {}", region.name), async || {
        (client.address("www.example.test.", place).await == region.ip()).then_some(())
    })
    .await;
}

/// Runs a command against a node while the test goes on.
async fn command(served: &Served, arguments: &[&str]) -> Done {
    let mut command = program();
    command.arg("--control").arg(served.folder.socket()).args(arguments);
    spawn_blocking(move || run(command)).await.expect("it runs")
}

/// The alarms about the journal and their all-clears, as logged so far.
fn journal_alarms(served: &Served) -> Vec<String> {
    let about = |line: &Value| {
        let why = line["why"].as_str().filter(|why| why.contains("journal"))?;
        Some(format!("{}: {why}", line["message"].as_str().expect("a name")))
    };
    served.log().iter().filter_map(about).collect()
}

async fn recovered(served: &Served) {
    until("the journal works again", async || {
        journal_alarms(served).iter().any(|it| it.starts_with("all_clear")).then_some(())
    })
    .await;
}

/// The alarms about the journal that `status` shows; the metric counts them, too.
async fn shown_alarms(served: &Served) -> Vec<String> {
    let api = served.api();
    let status = api.get("/v1/status").await;
    let alarms = status["alarms"].as_array().expect("a list");
    let scrape = api.text("/metrics").await;
    let metric = scrape.lines().find_map(|line| line.strip_prefix("portolan_alarms ")).expect("the metric");
    assert_eq!(metric, alarms.len().to_string(), "{alarms:?}");
    let texts = alarms.iter().map(|alarm| alarm.as_str().expect("a sentence").to_owned());
    texts.filter(|alarm| alarm.contains("journal")).collect()
}

/// The targets of the overrides in force.
async fn overridden(served: &Served) -> Vec<Value> {
    let overrides = served.api().get("/v1/overrides").await;
    overrides.as_array().expect("a list").iter().map(|it| it["target"].clone()).collect()
}

/// Checks that a node whose disk has failed still notices that a region fails and recovers, and answers accordingly.
async fn fails_over(served: &Served, three: &Three) {
    let mut client = served.client().await;
    three.eu.fail(Break::Refuse);
    sent_to(&mut client, GERMAN, &three.us).await;
    three.eu.heal();
    sent_to(&mut client, GERMAN, &three.eu).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_disk_delays_only_the_reply() {
    let three = Three::start();
    let folder = Folder::new(&[three.config(&[]), NEAREST.into()].concat());
    fs::create_dir(folder.path("state")).expect("a folder");
    folder.without_landlock();
    let Some(disk) = Stalling::new(&folder.path("state"), &folder.path("")) else {
        return skipped("there is no C compiler");
    };
    let mut program = program();
    program.envs(disk.environment());
    let served = Served::spawn_by(program, folder);
    served.ready().await;
    let mut client = served.client().await;
    sent_to(&mut client, ASIAN, &three.ap).await;

    disk.stall();
    let meanwhile = async {
        sent_to(&mut client, ASIAN, &three.eu).await;
        fails_over(&served, &three).await;
        assert_eq!(overridden(&served).await, ["region/ap"]);
    };
    let (done, ()) = tokio::join!(command(&served, &["drain", "region/ap"]), meanwhile);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.stderr.contains("warning: not durable yet: the journal has not confirmed the write within 5 s"),
        "{done:?}"
    );
    let is_stall = |line: &Value| line["why"].as_str().is_some_and(|why| why.contains("disk stalls"));
    served.logged("the stall is reported", is_stall).await;

    disk.resume();
    recovered(&served).await;
    let alarms = journal_alarms(&served);
    assert_eq!(alarms.len(), 2, "{alarms:?}");
    assert!(alarms[0].starts_with("alarm: the journal's disk stalls"), "{alarms:?}");
    // The node is killed: writes must be durable without a clean shutdown.
    let again = Served::start(served.into_folder()).await;
    assert_eq!(overridden(&again).await, ["region/ap"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_stalls_at_the_start_delays_it_only_briefly() {
    let three = Three::start();
    let folder = Folder::new(&[three.config(&[]), NEAREST.into()].concat());
    fs::create_dir(folder.path("state")).expect("a folder");
    folder.without_landlock();
    let Some(disk) = Stalling::new(&folder.path("state"), &folder.path("")) else {
        return skipped("there is no C compiler");
    };
    disk.stall();
    let mut program = program();
    program.envs(disk.environment());
    let served = Served::spawn_by(program, folder);
    served.ready().await;
    let alarms = journal_alarms(&served);
    assert!(alarms.len() == 1 && alarms[0].contains("could not be opened within 5 s"), "{alarms:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_delays_nothing_and_is_reported_once() {
    let three = Three::start();
    let folder = Folder::new(&[three.config(&[]), NEAREST.into()].concat());
    let Some(disk) = Small::mount(&folder.path("state")) else {
        return skipped("this user cannot mount a small file system");
    };
    let mut served = Served::start(folder).await;
    disk.fill();
    for target in ["region/ap", "service/www.example.test/ap", "endpoint/ap/lb1"] {
        let done = command(&served, &["drain", target]).await;
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(
            done.stderr.contains("warning: not durable yet: the journal cannot be written, retrying"),
            "{done:?}"
        );
    }
    fails_over(&served, &three).await;
    let alarms = journal_alarms(&served);
    assert!(alarms.len() == 1 && alarms[0].contains("disk is full"), "{alarms:?}");
    let shown = shown_alarms(&served).await;
    assert!(shown.len() == 1 && shown[0].contains("disk is full"), "{shown:?}");

    disk.make_room();
    recovered(&served).await;
    assert_eq!(shown_alarms(&served).await, [""; 0]);
    assert_eq!(journal_alarms(&served)[1..], ["all_clear: the journal is written again and complete"]);
    let all = overridden(&served).await;
    assert_eq!(all.len(), 3);
    assert_eq!(served.stop().await, Some(0));

    // Overrides of the last run stay in force even if the next one can only read them.
    disk.fill();
    let mut served = Served::start(served.into_folder()).await;
    assert_eq!(overridden(&served).await, all);
    let alarms = journal_alarms(&served);
    assert!(alarms.len() == 1 && alarms[0].contains("its 3 overrides apply"), "{alarms:?}");
    let shown = shown_alarms(&served).await;
    assert!(shown.len() == 1 && shown[0].contains("its 3 overrides apply"), "{shown:?}");
    assert_eq!(served.stop().await, Some(0));
    disk.make_read_only();
    let mut served = Served::start(served.into_folder()).await;
    assert_eq!(overridden(&served).await, all);
    let done = command(&served, &["restore", "region/ap"]).await;
    assert!(done.stderr.contains("warning: this holds until the next restart only: the journal"), "{done:?}");
    assert_eq!(served.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_gives_up_on_a_stalled_disk() {
    let three = Three::start();
    let folder = Folder::new(&[three.config(&[]), NEAREST.into()].concat());
    fs::create_dir(folder.path("state")).expect("a folder");
    folder.without_landlock();
    let Some(disk) = Stalling::new(&folder.path("state"), &folder.path("")) else {
        return skipped("there is no C compiler");
    };
    let mut program = program();
    program.envs(disk.environment());
    let mut served = Served::spawn_by(program, folder);
    served.ready().await;
    disk.stall();
    assert_eq!(command(&served, &["drain", "region/ap"]).await.code, Some(0));
    assert_eq!(served.stop().await, Some(0));
    let is_loss =
        |line: &Value| line["message"].as_str().is_some_and(|it| it.contains("not closed within 5 s"));
    served.logged("the loss is logged", is_loss).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_journal_never_stops_a_start() {
    let three = Three::start();
    let folder = Folder::new(&[three.config(&[]), NEAREST.into()].concat());
    fs::create_dir(folder.path("state")).expect("a folder");
    folder.write("state/portolan.db", "this is a shopping list");
    let mut served = Served::start(folder).await;
    let alarms = journal_alarms(&served);
    assert!(alarms.len() == 1 && alarms[0].contains("portolan.db.damaged-"), "{alarms:?}");
    let shown = shown_alarms(&served).await;
    assert_eq!(shown.iter().map(|it| format!("alarm: {it}")).collect::<Vec<_>>(), alarms);
    let drain = json!({"target": "region/eu", "action": "drain"});
    let (_, reply) = served.api().call(reqwest::Method::POST, "/v1/overrides", Some(drain)).await;
    assert_eq!(reply["not_durable"], Value::Null, "{reply}");
    assert_eq!(served.stop().await, Some(0));
}
