//! How many retries a pool may make.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::Fraction;

/// Recent requests and retries of a pool. Both lose half of their weight in each [`HALF_LIFE`], so that neither a long
/// quiet time pays for a storm of retries, nor a storm is held against a pool forever.
#[derive(Debug)]
pub(super) struct Budget {
    requests: f64,
    retries: f64,
    at: Instant,
}

/// After this time a request or retry counts half: a few times the length of a restart's wave of failed connects.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// Recent retries that a pool may make however few requests it had, on each worker.
const LEAST_RETRIES: f64 = 10.0;

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { requests: 0.0, retries: 0.0, at: now }
    }

    /// Counts a request.
    pub(super) fn request(&mut self, now: Instant) {
        self.decay(now);
        self.requests += 1.0;
    }

    /// Whether another retry stays within this share of the requests; if so, it is counted.
    pub(super) fn retry(&mut self, share: Fraction, now: Instant) -> bool {
        self.decay(now);
        let may = self.retries + 1.0 <= (share.get() * self.requests).max(LEAST_RETRIES);
        if may {
            self.retries += 1.0;
        }
        may
    }

    fn decay(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        let factor = 0.5_f64.powf(passed);
        self.requests *= factor;
        self.retries *= factor;
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retries(budget: &mut Budget, wanted: usize, now: Instant) -> usize {
        let share = Fraction::from_percent(20.0).unwrap();
        (0..wanted).filter(|_| budget.retry(share, now)).count()
    }

    #[test]
    fn requests_of_long_ago_pay_for_no_retries() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        for _ in 0..1_000_000 {
            budget.request(start);
        }
        let now = start + Duration::from_secs(600);
        for _ in 0..100 {
            budget.request(now);
        }
        assert_eq!(retries(&mut budget, 1000, now), 20);
    }

    #[test]
    fn retries_of_long_ago_cost_none() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        assert_eq!(retries(&mut budget, 1000, start), 10);
        // Two half-lives later three quarters are free again.
        assert_eq!(retries(&mut budget, 1000, start + HALF_LIFE * 2), 7);
        assert_eq!(retries(&mut budget, 1000, start + Duration::from_secs(3600)), 10);
    }
}
