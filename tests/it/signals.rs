//! Signals, while files cannot be read.

use std::fs;

use nix::sys::signal::Signal;
use reqwest::Method;

use crate::harness::binary::{Served, program};
use crate::harness::disk::Stalling;
use crate::harness::folder::Folder;
use crate::harness::{skipped, until};

/// SIGHUPs during one reload.
const HANGUPS: usize = 100;

/// A folder whose zone lies on a disk that can stall. `None` without a C compiler.
fn folder() -> Option<(Folder, Stalling)> {
    let folder = Folder::new("");
    fs::create_dir(folder.path("zones")).expect("a folder");
    fs::rename(folder.path("example.test.zone"), folder.path("zones/example.test.zone")).expect("it exists");
    folder.reconfigure("\"example.test.zone\"", "\"zones/example.test.zone\"");
    folder.without_landlock();
    let disk = Stalling::new(&folder.path("zones"), &folder.path(""));
    if disk.is_none() {
        skipped("there is no C compiler");
    }
    Some((folder, disk?))
}

fn serve(folder: Folder, disk: &Stalling) -> Served {
    let mut program = program();
    program.envs(disk.environment());
    Served::spawn_by(program, folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hangups_during_a_reload_cause_one_more() {
    let Some((folder, disk)) = folder() else { return };
    let mut served = serve(folder, &disk);
    served.ready().await;
    disk.stall();
    served.signal(Signal::SIGHUP);
    disk.reached().await;
    let api = served.api();
    for _ in 0..HANGUPS {
        served.signal(Signal::SIGHUP);
        // The kernel would merge signals that follow each other at once.
        api.text("/livez").await;
    }
    disk.resume();
    until("it has reloaded", async || api.events("reload").await.pop()).await;
    // The next reload of a signal may be requested after the first of these, but not after the second.
    for _ in 0..2 {
        assert_eq!(api.call(Method::POST, "/v1/reload", None).await.0, 200);
    }
    let by_signal = api.events("reload").await;
    let by_signal = by_signal.iter().filter(|event| event["fields"]["by"] == "SIGHUP").count();
    assert_eq!(by_signal, 2);
    assert_eq!(served.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_a_reload_that_hangs() {
    let Some((folder, disk)) = folder() else { return };
    let mut served = serve(folder, &disk);
    served.ready().await;
    disk.stall();
    served.signal(Signal::SIGHUP);
    disk.reached().await;
    assert_eq!(served.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_the_first_read_of_the_config() {
    let Some((folder, disk)) = folder() else { return };
    disk.stall();
    let mut served = serve(folder, &disk);
    disk.reached().await;
    assert_eq!(served.stop().await, Some(0));
}
