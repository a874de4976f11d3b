//! One part: it is noticed when it ends, and when it stops beating.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::{STALLED_AFTER, Supervisor};

/// Held by a part while it runs. Dropping it reports its end.
#[derive(Debug)]
pub struct Part {
    supervisor: Supervisor,
    name: String,
    beat: Option<Arc<Beat>>,
    may_end: bool,
}

impl Part {
    pub(super) fn new(supervisor: &Supervisor, name: String, beat: Option<Arc<Beat>>) -> Self {
        Self { supervisor: supervisor.clone(), name, beat, may_end: false }
    }

    /// Shows that the part runs. Costs a reading of the clock.
    pub fn beat(&self) {
        if let Some(beat) = &self.beat {
            beat.set(self.supervisor.uptime());
        }
    }

    /// From now on only a panic of it is reported.
    #[must_use]
    pub fn may_end(mut self) -> Self {
        self.may_end = true;
        self
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let how = match (thread::panicking(), self.may_end) {
            (true, _) => "panicked",
            (false, false) => "ended unexpectedly",
            (false, true) => return,
        };
        self.supervisor.report(format!("{} {how}", self.name));
    }
}

/// When a part ran last.
#[derive(Debug)]
pub(super) struct Beat {
    name: String,
    /// Milliseconds of the supervisor's uptime.
    last: AtomicU64,
}

impl Beat {
    pub(super) fn new(name: String, now: Duration) -> Self {
        let beat = Self { name, last: AtomicU64::new(0) };
        beat.set(now);
        beat
    }

    fn set(&self, now: Duration) {
        self.last.store(millis(now), Ordering::Relaxed);
    }

    /// A sentence about the stall, if there is one.
    pub(super) fn stall(&self, now: Duration) -> Option<String> {
        let silence = Duration::from_millis(millis(now).saturating_sub(self.last.load(Ordering::Relaxed)));
        (silence > STALLED_AFTER).then(|| format!("{} has not run for {} s", self.name, silence.as_secs()))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use tokio::time::timeout;

    use super::*;

    #[test]
    fn a_part_that_ends_is_reported_once_and_by_how_it_ended() {
        let supervisor = Supervisor::default();
        drop(supervisor.part("a check").may_end());
        assert_eq!(supervisor.failure(), None);
        let part = supervisor.part("the engine").may_end();
        catch_unwind(AssertUnwindSafe(move || {
            let _part = part;
            panic!("for the test");
        }))
        .expect_err("it panics");
        assert_eq!(supervisor.failure().as_deref(), Some("the engine panicked"));
        drop(supervisor.part("the API"));
        assert_eq!(supervisor.failure().as_deref(), Some("the engine panicked"), "what ended first");
        let supervisor = Supervisor::default();
        drop(supervisor.part("the API"));
        assert_eq!(supervisor.failure().as_deref(), Some("the API ended unexpectedly"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_is_noticed_while_someone_waits_and_a_stop_is_none() {
        let supervisor = Supervisor::default();
        let part = supervisor.part("the engine");
        let noticed = timeout(Duration::from_secs(1), supervisor.ended());
        let (why, ()) = tokio::join!(noticed, async { drop(part) });
        assert_eq!(why.as_deref(), Ok("the engine ended unexpectedly"));
        let supervisor = Supervisor::default();
        let part = supervisor.part("the engine");
        supervisor.stop();
        drop(part);
        assert_eq!(supervisor.failure(), None);
    }

    #[test]
    fn a_part_that_does_not_beat_has_stalled() {
        let beat = Beat::new("the engine".into(), Duration::from_secs(100));
        assert_eq!(beat.stall(Duration::from_secs(100) + STALLED_AFTER), None);
        let later = Duration::from_secs(107);
        assert_eq!(beat.stall(later).as_deref(), Some("the engine has not run for 7 s"));
        beat.set(later);
        assert_eq!(beat.stall(later), None);
        beat.set(later + Duration::from_secs(1));
        assert_eq!(beat.stall(later), None, "another thread read the clock later");
    }

    #[test]
    fn a_part_that_has_ended_has_not_stalled() {
        let supervisor = Supervisor::default();
        let part = supervisor.beating_part("a worker");
        assert_eq!(supervisor.beats().len(), 1);
        drop(part);
        drop(supervisor.beating_part("another"));
        assert_eq!(supervisor.beats().len(), 1, "the first is forgotten");
    }
}
