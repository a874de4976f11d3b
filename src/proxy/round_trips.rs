//! The round-trip times of handshakes: how far away the clients of a listener are.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use prometheus_client::encoding::MetricEncoder;
use prometheus_client::encoding::NoLabelSet;

/// A histogram.
#[derive(Debug, Default)]
pub(super) struct RoundTrips {
    /// Those up to each of [`BOUNDS`], and the rest.
    counts: [AtomicU64; BOUNDS.len() + 1],
    /// In microseconds.
    sum: AtomicU64,
}

/// In milliseconds: from one building to the other side of the Earth, over a satellite.
const BOUNDS: [u64; 11] = [1, 2, 5, 10, 20, 50, 100, 200, 400, 800, 1600];

impl RoundTrips {
    pub(super) fn add(&self, time: Duration) {
        let bucket = BOUNDS.partition_point(|bound| Duration::from_millis(*bound) < time);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(time.as_micros() as u64, Relaxed);
    }

    /// Writes it as a metric in seconds.
    pub(super) fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = BOUNDS.map(|bound| bound as f64 / 1000.0).into_iter().chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> =
            bounds.zip(&self.counts).map(|(bound, count)| (bound, count.load(Relaxed))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.sum.load(Relaxed) as f64 / 1e6;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let seen = RoundTrips::default();
        for micros in [1, 1000, 1001, 1_600_000, 1_600_001, 60_000_000] {
            seen.add(Duration::from_micros(micros));
        }
        let counts = seen.counts.map(AtomicU64::into_inner);
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
    }
}
