//! Keeps what was counted of the traffic, so that the API knows how much of it is recent.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::time::{MissedTickBehavior, interval};

use super::Background;
use crate::api::{Api, Traffic};
use crate::snapshot::Snapshot;
use crate::traffic::EVERY;

/// Starts to sample, if the node answers DNS.
pub(super) fn start(api: &Api, Background(runtime): &Background) {
    if let (Some(traffic), Some(runtime)) = (&api.traffic, runtime) {
        runtime.spawn(sample(traffic.clone(), Arc::clone(&api.engine.snapshots)));
    }
}

/// Samples until the runtime ends. If it fell behind, rates would be of a longer time, and say so.
async fn sample(Traffic { meter, started }: Traffic, snapshots: Arc<ArcSwap<Snapshot>>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (meter, topology) = (Arc::clone(&meter), Arc::clone(&snapshots.load().plan.topology));
        // Adding up takes milliseconds for thousands of services.
        tokio::task::spawn_blocking(move || meter.sample(&topology, started.elapsed())).await.ok();
    }
}
