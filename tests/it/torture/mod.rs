//! The torture run: everything hostile at once, and what the node owes its operators and clients meanwhile.
//!
//! The real program is attacked by strangers over DNS and the API, probes dozens of hostile targets, writes to a disk that
//! stalls and to a log that nobody reads, and reloads changed configs, while regions fail and recover. The load stays well
//! below what two cores can do, so whatever is lost or late is a defect of the product. The run is short among the other
//! tests; `tests/torture/run` makes it last minutes.

mod api_strangers;
mod connection;
mod crowd;
mod dns_strangers;
mod flips;
mod flood;
mod measure;
mod node;
mod operators;
mod targets;

use std::env;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::harness::binary::Reader;
use crate::harness::region::{Break, Region};
use crowd::Crowd;
use flips::Flipper;
use measure::{Probed, Report, livez, over_tcp, over_udp, peak_memory};
use node::Tortured;

/// How long the short form lasts: long enough for every region that flips to fail twice.
const USUAL_SECONDS: u64 = 20;

/// How long strangers are there before anything is measured.
const WARM_UP: Duration = Duration::from_secs(2);

/// The ways in which the regions fail that flip.
const FIRST_WAYS: [Break; 3] = [Break::Refuse, Break::Hang, Break::Document];
const OTHER_WAYS: [Break; 2] = [Break::Unavailable, Break::Reset];

/// The length of the run.
fn length() -> Duration {
    let asked = env::var("PORTOLAN_TORTURE_SECONDS").ok();
    Duration::from_secs(asked.map_or(USUAL_SECONDS, |seconds| seconds.parse().expect("a number of seconds")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tortured_node_keeps_its_promises() {
    let (flip, flop, broken) =
        (Region::start("flip", 51), Region::start("flop", 52), Region::start("broken", 53));
    let mut crowd = Crowd::gather();
    let mut node = Tortured::start(targets::start(&crowd).await, &[&flip, &flop, &broken]).await;
    node.served.set_reader(Reader::Stuck);
    let victim = node.victim.clone();
    dns_strangers::join(&mut crowd, &victim);
    api_strangers::join(&mut crowd, &victim);
    operators::join(&mut crowd, &victim);
    if let Some(disk) = node.disk.take() {
        operators::stall(&mut crowd, disk);
    }
    sleep(WARM_UP).await;

    let started = Instant::now();
    let end = started + length();
    let client = async || node.served.client().await;
    let flip = Flipper { region: flip, client: client().await };
    let flop = Flipper { region: flop, client: client().await };
    let mut broken = Flipper { region: broken, client: client().await };
    let for_good = async {
        sleep_until(started + length() / 3).await;
        let withdrawal = broken.fail(Break::Refuse).await;
        sleep_until(end).await;
        assert!(!broken.serves().await, "a broken region came back");
        withdrawal
    };
    let nearest = node.nearest();
    let probed = node.healthy.each_ref().map(|(name, endpoints)| Probed::start(name, endpoints));
    let (udp, tcp, livez, flips, flops, withdrawal) = tokio::join!(
        over_udp(victim.dns, &nearest, end),
        over_tcp(victim.dns, &nearest, end),
        livez(&node.api, end),
        flip.flip(&FIRST_WAYS, end),
        flop.flip(&OTHER_WAYS, end),
        for_good,
    );
    let metric = async |sample| node.api.metric(sample).await.expect("a metric") as u64;
    let refused = ("reloads of bad configs", metric("portolan_reloads_total{result=\"failed\"}").await);
    let report = Report {
        length: started.elapsed(),
        rates: probed.iter().map(Probed::rate).collect(),
        attacks: [crowd.attacks(), vec![refused]].concat(),
        withdrawals: [flips, flops, vec![withdrawal]].concat(),
        udp,
        tcp,
        livez,
        panics: metric("portolan_dns_panics_total").await,
        memory: peak_memory(victim.pid),
    };
    drop(crowd);
    assert_eq!(node.served.stop().await, Some(0));
    report.conclude();
}
