//! The thread that watches the node from outside of every runtime.
//!
//! It feeds systemd's watchdog (`WatchdogSec=`) while all parts run, ends a process in which one has stalled, and ends a
//! stop that takes too long. Nothing it does waits for another thread.

use std::io;
use std::process;
use std::thread;
use std::time::Duration;

use tracing::{error, warn};

use super::log;
use crate::supervise::Supervisor;

/// How often the parts are checked.
const CHECK: Duration = Duration::from_secs(1);

/// How many consecutive checks must find a stall before the process ends. Together with
/// [`STALLED_AFTER`](crate::supervise::STALLED_AFTER) it ends within 20 s, before the 30 s of `WatchdogSec=` in
/// deploy/portolan.service, so that the log says why. Checks are counted, not seconds, because after a pause of the whole
/// machine the first check finds every part stalled.
const STALLED_CHECKS: u32 = 15;

/// How long a stop may take: DNS clients that do not read get 5 s, a stalled journal another 5 s. Less than
/// `TimeoutStopSec=` in deploy/portolan.service.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// The exit code of a process that this thread ends.
const FAILURE: i32 = 1;

/// Starts the thread. It ends the process unless the process ends by itself.
///
/// # Errors
/// If the thread cannot be started.
pub(super) fn start(supervisor: Supervisor) -> io::Result<()> {
    thread::Builder::new().name("watchdog".into()).spawn(move || watch(&supervisor))?;
    Ok(())
}

fn watch(supervisor: &Supervisor) {
    let limit = sd_notify::watchdog_enabled();
    let pause = limit.map_or(CHECK, |limit| CHECK.min(limit / 2));
    let mut stalled = 0;
    while !supervisor.is_stopping() {
        match supervisor.failure() {
            None => {
                stalled = 0;
                if limit.is_some() {
                    sd_notify::notify(&[sd_notify::NotifyState::Watchdog]).ok();
                }
            }
            Some(why) => {
                stalled += 1;
                if stalled == 1 {
                    warn!("{why}");
                }
                if stalled == STALLED_CHECKS {
                    end(&format!("{why}: the process ends, so that it can be started again"));
                }
            }
        }
        thread::sleep(pause);
    }
    thread::sleep(STOP_WITHIN);
    end(&format!("the node has not stopped within {} s: the process ends without it", STOP_WITHIN.as_secs()));
}

fn end(why: &str) -> ! {
    error!("{why}");
    log::finish();
    process::exit(FAILURE);
}
