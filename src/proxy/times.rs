//! Histograms of times: of handshakes, of responses.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use prometheus_client::encoding::MetricEncoder;
use prometheus_client::encoding::NoLabelSet;

/// A histogram of times.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// Those up to each of [`BOUNDS`], and the rest.
    counts: [AtomicU64; BOUNDS.len() + 1],
    /// In microseconds.
    sum: AtomicU64,
}

/// In milliseconds: from a response out of memory, or a handshake in one building, to a request that nobody waits for any
/// longer.
const BOUNDS: [u64; 15] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000];

impl Times {
    pub(super) fn add(&self, time: Duration) {
        let bucket = BOUNDS.partition_point(|bound| Duration::from_millis(*bound) < time);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(time.as_micros() as u64, Relaxed);
    }

    /// Writes it as a metric in seconds.
    pub(super) fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = BOUNDS.map(|bound| bound as f64 / 1000.0).into_iter().chain([f64::INFINITY]);
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
        let seen = Times::default();
        for micros in [1, 1000, 1001, 60_000_000, 60_000_001, 3_600_000_000] {
            seen.add(Duration::from_micros(micros));
        }
        let counts = seen.counts.map(AtomicU64::into_inner);
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
    }
}
