//! Operators and a host that make everything change or wait: reloads, signals, overrides, mistakes, a stalling disk.

use std::fs;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use reqwest::Method;
use serde_json::json;
use tokio::time::sleep;

use super::crowd::{Crowd, Victim};
use crate::harness::disk::Stalling;
use crate::harness::http::Api;

/// Signals of one storm.
const STORM: usize = 20;

/// How long the disk stalls at a time: longer than a write may take until the reply no longer waits for it.
const STALL: Duration = Duration::from_secs(6);

/// How long it works in between.
const RECOVERY: Duration = Duration::from_secs(2);

const SELDOM: Duration = Duration::from_secs(1);

/// What is appended to the config, one after the other: nothing, a service, a region that refuses connections, a mistake.
const CHANGES: [&str; 4] = [
    "",
    "[[service]]\nname = \"more.example.test.\"\nregions = [\"eu\", \"us\"]\n",
    "[region.more]\n[[region.more.endpoint]]\nname = \"lb1\"\naddress = [\"127.0.67.1\"]\nprobe = [\"h0\"]\n\
     [[service]]\nname = \"more.example.test.\"\nregions = [\"more\", \"eu\"]\n",
    "[region.wrong]\nlocation = nonsense\n",
];

pub(super) fn join(crowd: &mut Crowd, victim: &Victim) {
    crowd.add("reloads of changed configs", 1, SELDOM, victim, reload);
    crowd.add("storms of SIGHUP", 1, SELDOM, victim, hangups);
    crowd.add("overrides", 2, SELDOM, victim, overrides);
    crowd.add("operators' mistakes", 1, SELDOM, victim, mistakes);
}

/// Makes the disk stall again and again.
pub(super) fn stall(crowd: &mut Crowd, disk: Stalling) {
    let stalls = crowd.counter("stalls of the disk");
    crowd.spawn(async move {
        loop {
            disk.stall();
            sleep(STALL).await;
            disk.resume();
            if disk.has_blocked() {
                stalls.fetch_add(1, Ordering::Relaxed);
            }
            sleep(RECOVERY).await;
        }
    });
}

/// Applies each change, by signal and by request in turn.
async fn reload(victim: Victim) -> io::Result<()> {
    let api = Api::socket(&victim.socket);
    for (turn, change) in CHANGES.iter().enumerate() {
        let new = victim.config.with_extension("new");
        fs::write(&new, format!("{}{change}", victim.text))?;
        fs::rename(&new, &victim.config)?;
        if turn % 2 == 0 {
            kill(victim.pid, Signal::SIGHUP)?;
        } else {
            api.call(Method::POST, "/v1/reload", None).await;
        }
        sleep(SELDOM).await;
    }
    Ok(())
}

async fn hangups(victim: Victim) -> io::Result<()> {
    for _ in 0..STORM {
        kill(victim.pid, Signal::SIGHUP)?;
        // The kernel merges signals that follow each other at once.
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Overrides of a region that strangers alone use, with reasons as long as allowed.
async fn overrides(victim: Victim) -> io::Result<()> {
    let api = Api::socket(&victim.socket);
    let body = json!({ "target": "region/hostile", "action": "drain", "reason": "r".repeat(1024) });
    let id = api.override_with(body).await;
    // The other operator may have replaced it.
    api.call(Method::DELETE, &format!("/v1/overrides/{id}"), None).await;
    Ok(())
}

async fn mistakes(victim: Victim) -> io::Result<()> {
    let api = Api::socket(&victim.socket);
    for (key, value) in [
        ("for", "18446744073709551615s".to_owned()),
        ("reason", "\u{1b}[2J\u{202e}".to_owned()),
        ("reason", "r".repeat(1 << 20)),
        ("target", "region/".repeat(1000)),
        ("share", "-1%".to_owned()),
    ] {
        let mut body = json!({ "target": "region/hostile", "action": "drain" });
        body[key] = value.into();
        let request = api.request(Method::POST, "/v1/overrides").json(&body);
        request.send().await.map_err(io::Error::other)?;
    }
    Ok(())
}
