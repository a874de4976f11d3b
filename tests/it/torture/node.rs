//! The node under torture: its config, its process and its healthy regions.

use std::fs;
use std::net::IpAddr;
use std::process::Command;

use super::crowd::Victim;
use super::flips::{FALL, INTERVAL, TIMEOUT};
use super::targets::Hostile;
use crate::harness::binary::{PROGRAM, Served, clean};
use crate::harness::disk::Stalling;
use crate::harness::folder::Folder;
use crate::harness::http::Api;
use crate::harness::region::{DUBLIN, Region, SINGAPORE, VIRGINIA};
use crate::harness::skipped;

/// Files that the node may have open: strangers want many times more.
const OPEN_FILES: usize = 1024;

const ZONE: &str = "\
$TTL 300
@      600 SOA ns hostmaster 7 3600 600 86400 60
@          NS  ns
ns         A   192.0.2.53
static     A   192.0.2.1
*.wild     TXT wild
";

/// A running node.
pub(super) struct Tortured {
    pub(super) served: Served,
    pub(super) api: Api,
    pub(super) victim: Victim,
    /// Regions that never fail, three endpoints each, the one nearest to Germany first.
    pub(super) healthy: [(&'static str, Vec<Region>); 3],
    /// `None` without a C compiler.
    pub(super) disk: Option<Stalling>,
}

impl Tortured {
    /// Starts the node with hostile targets, and with regions each of which is the first choice of the service of its name.
    pub(super) async fn start(hostile: Hostile, flipping: &[&Region]) -> Self {
        let healthy = healthy();
        let folder = Folder::new(&(config(&healthy, flipping) + &hostile.config));
        // The preloaded library reports beside the state that the disk has stalled.
        folder.without_landlock();
        folder.write("hostile.pem", hostile.authorities);
        folder.write("example.test.zone", zone());
        fs::create_dir(folder.path("state")).expect("a folder");
        let disk = Stalling::new(&folder.path("state"), &folder.path(""));
        let text = fs::read_to_string(folder.config()).expect("a config").into();

        let mut limited = clean(Command::new("sh"));
        limited.args(["-c", &format!("ulimit -n {OPEN_FILES}; exec \"$0\" \"$@\""), PROGRAM]);
        // Its lines fill the pipe that nobody reads.
        limited.env("PORTOLAN_LOG", "portolan=debug");
        match &disk {
            Some(disk) => _ = limited.envs(disk.environment()),
            None => skipped("the stalling disk: there is no C compiler"),
        }
        let served = Served::spawn_by(limited, folder);
        served.ready().await;
        let [control] = served.addresses(["control"]).await;
        let victim = Victim {
            dns: served.dns().await,
            control,
            socket: served.folder.socket().into(),
            pid: served.pid(),
            config: served.folder.config().into(),
            text,
        };
        Self { api: served.api(), served, victim, healthy, disk }
    }

    /// The answers that clients in Germany may get.
    pub(super) fn nearest(&self) -> Vec<IpAddr> {
        self.healthy[0].1.iter().map(Region::ip).collect()
    }
}

fn healthy() -> [(&'static str, Vec<Region>); 3] {
    let start = |names: [&'static str; 3], number: u8| {
        (number..).zip(names).map(|(number, name)| Region::start(name, number)).collect()
    };
    [
        ("eu", start(["eu-1", "eu-2", "eu-3"], 41)),
        ("us", start(["us-1", "us-2", "us-3"], 44)),
        ("ap", start(["ap-1", "ap-2", "ap-3"], 47)),
    ]
}

/// The probe of a region that answers well.
fn probe(region: &Region) -> String {
    let (interval, timeout) = (format!("\"{INTERVAL:?}\""), format!("\"{TIMEOUT:?}\""));
    region.probe(&[
        ("interval", &interval),
        ("timeout", &timeout),
        ("fall", &FALL.to_string()),
        ("hold", "\"1s\""),
    ])
}

fn endpoint(region: &Region) -> String {
    let (name, address) = (region.name, region.ip());
    format!("{{ name = \"{name}\", address = [\"{address}\"], probe = [\"{name}\"] }}, ")
}

fn config(healthy: &[(&str, Vec<Region>)], flipping: &[&Region]) -> String {
    let mut text = String::from(
        "[[service]]\nname = \"www.example.test.\"\nregions = [\"eu\", \"us\", \"ap\"]\nrank = \"distance\"\nttl = \"1s\"\n\n",
    );
    for ((name, endpoints), place) in healthy.iter().zip([DUBLIN, VIRGINIA, SINGAPORE]) {
        let listed: String = endpoints.iter().map(endpoint).collect();
        text += &endpoints.iter().map(probe).collect::<String>();
        text += &format!("[region.{name}]\nlocation = {place}\nendpoint = [{listed}]\n\n");
    }
    for region in flipping {
        let name = region.name;
        text += &probe(region);
        text += &format!("[region.{name}]\nendpoint = [{}]\n\n", endpoint(region));
        text += &format!(
            "[[service]]\nname = \"{name}.example.test.\"\nregions = [\"{name}\", \"us\"]\nttl = \"1s\"\n\n"
        );
    }
    text
}

/// The zone, with RRsets whose answers are as large as a datagram may be.
fn zone() -> String {
    let many = |n: usize| format!("big MX {n} mail-{n}\nbig TXT {}\n", "x".repeat(20) + &n.to_string());
    let big: String = (0..40).map(many).collect();
    format!("{ZONE}{big}")
}
