//! Shared by tests of the whole product: nodes in this process and in their own processes, regions that break on
//! command, and clients of both that wait for conditions instead of sleeping.

pub(crate) mod binary;
pub(crate) mod client;
pub(crate) mod disk;
pub(crate) mod folder;
pub(crate) mod http;
pub(crate) mod node;
pub(crate) mod region;
pub(crate) mod resolver;
pub(crate) mod screen;
pub(crate) mod tool;

use std::time::Duration;

use nix::unistd::{User, getuid};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Far more than anything here needs; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Polls a condition until it returns a value.
pub(crate) async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let polling = async {
        let mut turns = interval(POLL_INTERVAL);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            if let Some(value) = condition().await {
                return value;
            }
        }
    };
    timeout(PATIENCE, polling).await.unwrap_or_else(|_| panic!("this never happened: {what}"))
}

/// The user that runs these tests, as a node names the author of what comes over its socket.
pub(crate) fn me() -> String {
    let user = User::from_uid(getuid()).expect("users can be looked up");
    user.map_or_else(|| format!("uid {}", getuid()), |user| format!("user {}", user.name))
}

/// Reports that a test is skipped, and why.
#[allow(clippy::print_stdout, reason = "it is for whoever reads the tests' output")]
pub(crate) fn skipped(why: &str) {
    println!("skipped: {why}");
}

/// Numbers that condition random and are the same in every run (splitmix64).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
