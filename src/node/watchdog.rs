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

/// How long a stop may take besides the proxy's requests: DNS clients that do not read get 5 s, a stalled journal another
/// 5 s. Together with [`LONGEST_DRAIN`](crate::proxy::LONGEST_DRAIN) it is less than `TimeoutStopSec=` in deploy/portolan.service.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// The exit code of a process that this thread ends.
const FAILURE: i32 = 1;

/// Starts the thread. It ends the process unless the process ends by itself. A stop may take `drain` longer than
/// without a proxy.
///
/// # Errors
/// If the thread cannot be started.
pub(super) fn start(supervisor: Supervisor, drain: Duration) -> io::Result<()> {
    thread::Builder::new().name("watchdog".into()).spawn(move || watch(&supervisor, longest_stop(drain)))?;
    Ok(())
}

/// How long a stop may take in all.
pub(super) fn longest_stop(drain: Duration) -> Duration {
    STOP_WITHIN + drain
}

fn watch(supervisor: &Supervisor, stop_within: Duration) {
    let limit = sd_notify::watchdog_enabled();
    let pause = limit.map_or(CHECK, |limit| CHECK.min(limit / 2));
    let mut failures = Failures::default();
    while !supervisor.is_stopping() {
        match failures.after_check(supervisor.failure()) {
            Step::Feed if limit.is_some() => drop(sd_notify::notify(&[sd_notify::NotifyState::Watchdog])),
            Step::Feed | Step::Wait => {}
            Step::Warn(why) => warn!("{why}"),
            Step::End(why) => end(&format!("{why}: the process ends, so that it can be started again")),
        }
        thread::sleep(pause);
    }
    thread::sleep(stop_within);
    end(&format!("the node has not stopped within {} s: the process ends without it", stop_within.as_secs()));
}

/// The consecutive checks that have found a failure.
#[derive(Default)]
struct Failures(u32);

/// What follows from a check.
#[derive(Debug, PartialEq)]
enum Step {
    /// Tell systemd that the node is alive.
    Feed,
    /// Log the failure.
    Warn(String),
    /// The failure is logged, and may pass.
    Wait,
    /// End the process because of the failure.
    End(String),
}

impl Failures {
    fn after_check(&mut self, failure: Option<String>) -> Step {
        let Some(why) = failure else {
            self.0 = 0;
            return Step::Feed;
        };
        self.0 += 1;
        match self.0 {
            ..2 => Step::Warn(why),
            2..STALLED_CHECKS => Step::Wait,
            STALLED_CHECKS.. => Step::End(why),
        }
    }
}

fn end(why: &str) -> ! {
    error!("{why}");
    log::finish();
    process::exit(FAILURE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_ends_the_process_only_if_it_lasts() {
        let stalled = || Some("the engine has not run for 6 s".to_owned());
        let mut failures = Failures::default();
        for _ in 0..2 {
            assert_eq!(failures.after_check(None), Step::Feed);
            assert_eq!(failures.after_check(stalled()), Step::Warn("the engine has not run for 6 s".into()));
            for _ in 2..STALLED_CHECKS {
                assert_eq!(failures.after_check(stalled()), Step::Wait);
            }
        }
        assert_eq!(failures.after_check(stalled()), Step::End("the engine has not run for 6 s".into()));
    }
}
