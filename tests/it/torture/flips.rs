//! Regions that fail and recover, and how long clients are still sent to them.

use std::time::Duration;

use tokio::time::Instant;

use crate::harness::client::{Client, outcome, query};
use crate::harness::region::{Break, GERMAN, Region};
use crate::harness::until;

/// The probes of regions whose failures are timed.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
pub(super) const TIMEOUT: Duration = Duration::from_millis(900);
pub(super) const FALL: u32 = 3;

/// What a busy machine may add to the bound of a withdrawal: the node and this test wait for the processor.
const SLACK: Duration = Duration::from_secs(2);

/// How long a region that fails may stay in the answers.
pub(super) fn bound() -> Duration {
    INTERVAL * FALL + TIMEOUT + SLACK
}

/// A region that left the answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Withdrawal {
    pub(super) region: &'static str,
    pub(super) how: Break,
    pub(super) took: Duration,
}

/// A region that is preferred by the service of its own name.
pub(super) struct Flipper {
    pub(super) region: Region,
    pub(super) client: Client,
}

impl Flipper {
    fn service(&self) -> String {
        format!("{}.example.test.", self.region.name)
    }

    /// Whether the first choice is answered.
    pub(super) async fn serves(&mut self) -> bool {
        let reply = self.client.exchange(&query(&self.service(), Some(GERMAN))).await;
        outcome(&reply).1 == [self.region.ip()]
    }

    async fn wait(&mut self, serves: bool) {
        let what = format!("{} {}", self.region.name, if serves { "serves" } else { "does not serve" });
        until(&what, async || (self.serves().await == serves).then_some(())).await;
    }

    /// Breaks the region and waits until it has left the answers.
    pub(super) async fn fail(&mut self, how: Break) -> Withdrawal {
        self.wait(true).await;
        let broken = Instant::now();
        self.region.fail(how);
        self.wait(false).await;
        Withdrawal { region: self.region.name, how, took: broken.elapsed() }
    }

    /// Breaks and heals the region in one way after the other, until `end`.
    pub(super) async fn flip(mut self, ways: &[Break], end: Instant) -> Vec<Withdrawal> {
        let mut withdrawals = Vec::new();
        for how in ways.iter().cycle() {
            withdrawals.push(self.fail(*how).await);
            self.region.heal();
            self.wait(true).await;
            if Instant::now() >= end {
                break;
            }
        }
        withdrawals
    }
}
