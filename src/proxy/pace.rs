//! How slow a client may be.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::RequestLimits;

/// Watches a client that must send or take bytes at a least rate while it is waited for.
///
/// Time spent waiting puts the client behind, bytes bring it back, and it may be behind by `grace`. It cannot get ahead: who
/// was fast may not be slow later. While nobody waits for the client, no time passes.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes per second; 0: any number.
    rate: u32,
    grace: Duration,
    behind: Duration,
    /// Since when the client is waited for, if it is.
    since: Option<Instant>,
}

impl Pace {
    fn new(rate: u32, grace: Duration) -> Self {
        Self { rate, grace, behind: Duration::ZERO, since: None }
    }

    /// For the body of a request.
    pub(super) fn of_upload(limits: &RequestLimits) -> Self {
        Self::new(limits.upload, limits.grace)
    }

    /// For responses.
    pub(super) fn of_download(limits: &RequestLimits) -> Self {
        Self::new(limits.download, limits.grace)
    }

    /// Whatever the client does is fast enough.
    pub(super) fn any() -> Self {
        Self::new(0, Duration::ZERO)
    }

    /// From now on the client is waited for, unless it is already.
    pub(super) fn wait(&mut self) {
        if self.rate > 0 && self.since.is_none() {
            self.since = Some(Instant::now());
        }
    }

    /// The client sent or took bytes, and is not waited for.
    pub(super) fn moved(&mut self, bytes: u64) {
        if let Some(since) = self.since.take() {
            self.behind += since.elapsed();
        }
        if !self.behind.is_zero() {
            let paid = Duration::try_from_secs_f64(bytes as f64 / f64::from(self.rate));
            self.behind = self.behind.saturating_sub(paid.unwrap_or(Duration::MAX));
        }
    }

    /// When the client is too slow, unless it goes on; `None` while it is not waited for.
    pub(super) fn until(&self) -> Option<Instant> {
        Some(self.since? + self.grace.saturating_sub(self.behind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(60);

    /// Seconds until a client is too slow that moves `bytes` after each `pause` seconds of waiting, within an hour.
    async fn too_slow_after(rate: u32, pause: u64, bytes: u64) -> Option<u64> {
        let begun = Instant::now();
        let mut pace = Pace::new(rate, GRACE);
        while begun.elapsed() < GRACE * 60 {
            pace.wait();
            let pause = Instant::now() + Duration::from_secs(pause);
            if pace.until().is_some_and(|until| until <= pause) {
                return Some((pace.until()? - begun).as_secs());
            }
            tokio::time::sleep_until(pause).await;
            pace.moved(bytes);
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slower_than_the_rate_for_the_grace_is_too_slow() {
        assert_eq!(too_slow_after(100, 59, 1).await, Some(60));
        assert_eq!(too_slow_after(100, 1, 50).await, Some(119), "half the rate takes twice as long");
        assert_eq!(too_slow_after(100, 1, 100).await, None);
        assert_eq!(too_slow_after(100, 50, 5000).await, None, "pauses within the grace");
        assert_eq!(too_slow_after(100, 61, 1 << 40).await, Some(60));
        assert_eq!(too_slow_after(0, 3000, 0).await, None, "no rate");
    }

    #[tokio::test(start_paused = true)]
    async fn speed_is_not_saved_up_and_time_without_waiting_is_free() {
        let mut pace = Pace::new(100, GRACE);
        pace.wait();
        pace.moved(u64::MAX);
        tokio::time::advance(GRACE * 10).await;
        assert_eq!(pace.until(), None);
        pace.wait();
        assert_eq!(pace.until(), Some(Instant::now() + GRACE));
    }
}
