//! The task of one certificate.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::order::{self, Failure, Obtained};
use super::schedule::{self, Budget};
use super::store;
use crate::engine::Handle;
use crate::model::Unix;
use crate::net::certificates::Certified;
use crate::net::clock::Clock;
use crate::prepare::Acme;
use crate::state::EventKind;

/// The clock is looked at this often: somebody may set it.
const LOOK_AGAIN: Duration = Duration::from_secs(900);
/// How often an authority is asked when to renew, whatever it says about that.
const LEAST_SUGGESTION: Duration = Duration::from_secs(3600);
/// The same, at least.
const MOST_SUGGESTION: Duration = Duration::from_secs(86_400);
/// The same, if it suggested nothing of use (RFC 9773 §4.3.3).
const SUGGESTION_AGAIN: Duration = Duration::from_secs(21_600);
/// How often a certificate that cannot be written is tried to be.
const WRITE_AGAIN: Duration = Duration::from_secs(60);

pub(super) struct Task {
    acme: Acme,
    engine: Handle,
    budget: Arc<Mutex<Budget>>,
    /// Notified when the operator has reloaded the config.
    retry: Arc<Notify>,
    clock: Clock,
    random: fastrand::Rng,
    failures: u32,
    /// No attempt before this time.
    pause: Option<Instant>,
    /// The same, because the server asked for it: a reload does not end it.
    asked: Option<Instant>,
    /// A certificate that could not be written. It is not ordered again.
    unsaved: Option<Obtained>,
    /// When the authority suggests to renew, and when to ask again.
    suggestion: Option<(Option<Unix>, Instant)>,
    /// 0 to 1; the same while a certificate is in use.
    draw: f64,
}

impl Task {
    pub(super) fn new(acme: Acme, engine: Handle, budget: Arc<Mutex<Budget>>, retry: Arc<Notify>) -> Self {
        let mut random = fastrand::Rng::new();
        let draw = random.f64();
        let (failures, pause, asked, unsaved, suggestion) = Default::default();
        let clock = Clock::default();
        Self { acme, engine, budget, retry, clock, random, failures, pause, asked, unsaved, suggestion, draw }
    }

    pub(super) async fn run(mut self) {
        loop {
            let wait = self.wait().await;
            if wait.is_zero() {
                self.attempt().await;
                continue;
            }
            self.acme.managed.note(|it| it.next = Some(Clock::unix().after(wait)));
            tokio::select! {
                () = tokio::time::sleep(wait.min(LOOK_AGAIN)) => {}
                () = self.retry.notified() => self.pause = None,
            }
        }
    }

    /// How long until the next attempt.
    async fn wait(&mut self) -> Duration {
        let now = Instant::now();
        let paused = [self.pause, self.asked].into_iter().flatten().max();
        let paused = paused.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        if self.unsaved.is_some() {
            return paused;
        }
        let Some(current) = self.acme.managed.current() else { return paused };
        let due = self.due(&current).await;
        paused.max(due.since(Clock::unix()))
    }

    async fn due(&mut self, current: &Certified) -> Unix {
        let own = schedule::renewal(current.not_before, current.not_after, self.draw);
        let is_known = self.suggestion.is_some_and(|(_, again)| Instant::now() < again);
        // Where it is due anyway, nobody needs to be asked.
        if !is_known && own > Clock::unix() {
            let (at, again) = match order::suggested(&self.acme, current).await {
                Ok(((start, end), again)) => (Some(schedule::within(start, end, self.draw)), again),
                Err(why) => {
                    let names = self.acme.managed.names.join(" ");
                    tracing::debug!(names, why, "the authority suggests no time to renew");
                    (None, SUGGESTION_AGAIN)
                }
            };
            let again = Instant::now() + again.clamp(LEAST_SUGGESTION, MOST_SUGGESTION);
            self.suggestion = Some((at, again));
        }
        self.suggestion.and_then(|(at, _)| at).map_or(own, |at| at.min(own))
    }

    async fn attempt(&mut self) {
        self.acme.managed.note(|it| it.next = None);
        let result = match self.unsaved.take() {
            Some(obtained) => Ok(obtained),
            None => {
                if let Err(wait) = self.take_from_budget() {
                    self.asked = Some(Instant::now() + wait);
                    return;
                }
                let before = self.acme.managed.current();
                let replaces = before.as_deref().filter(|_| self.failures == 0);
                order::obtain(&self.acme, &self.engine, replaces).await
            }
        };
        match result {
            Ok(obtained) => self.put_in_place(obtained).await,
            Err(Failure { why, retry_after }) => {
                self.asked = retry_after.map(|wish| Instant::now() + schedule::wish(wish));
                let pause = schedule::pause(self.failures + 1, self.random.f64());
                self.failed(why, pause).await;
            }
        }
    }

    fn take_from_budget(&self) -> Result<(), Duration> {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        budget.take(&self.acme.managed.file, self.clock.mono())
    }

    /// Writes the certificate, and then shows it.
    async fn put_in_place(&mut self, obtained: Obtained) {
        let managed = Arc::clone(&self.acme.managed);
        if let Err(error) = store::save(managed.file.clone(), obtained.pem.clone()).await {
            self.unsaved = Some(obtained);
            let why = format!("it cannot be written to {}: {error}", managed.file.display());
            return self.failed(why, WRITE_AGAIN).await;
        }
        let (expires, ca) = (obtained.certified.not_after, obtained.certified.issuer.clone());
        let names = managed.names.join(" ");
        managed.replace(obtained.certified);
        (self.failures, self.pause, self.asked) = Default::default();
        // Not at once: an authority that always finds it high time would cause order after order.
        self.suggestion = Some((None, Instant::now() + LEAST_SUGGESTION));
        self.draw = self.random.f64();
        let was_failing = managed.progress().failing.is_some();
        managed.note(|it| {
            it.failing = None;
            it.issued += 1;
        });
        let issued = EventKind::Issued { names: managed.names.clone(), ca, expires };
        self.engine.report(issued).await.ok();
        if was_failing {
            let message = format!("there is a new certificate for {names}");
            self.engine.report(EventKind::AllClear { message }).await.ok();
        }
    }

    async fn failed(&mut self, why: String, pause: Duration) {
        self.failures = self.failures.saturating_add(1);
        self.pause = Some(Instant::now() + pause);
        let (managed, now) = (&self.acme.managed, Clock::unix());
        let before = managed.progress().failing;
        managed.note(|it| {
            let since = it.failing.as_ref().map_or(now, |(_, since)| *since);
            it.failing = Some((why.clone(), since));
            it.failed += 1;
        });
        let names = managed.names.join(" ");
        tracing::warn!(names, why, "cannot obtain a certificate");
        if before.is_none_or(|(other, _)| other != why) {
            let message = format!("no new certificate for {names}: {why}");
            self.engine.report(EventKind::Alarm { message }).await.ok();
        }
    }
}
