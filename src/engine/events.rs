//! Events: numbered, logged, retained for later requests, and sent to subscribers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;
use tracing::Level;
use tracing::field::display;

use super::EVENT_QUEUE;
use super::history::History;
use crate::health::State as Health;
use crate::model::{EventRecord, Subject, Unix};
use crate::net::clock::Clock;
use crate::state::{Event, EventKind, LastStop};

/// How far the ids of a run begin behind those that the journal has of earlier runs: it may lack their latest events.
const MARGIN: u64 = 1_000_000;

/// The events of a run.
#[derive(Debug)]
pub(super) struct Events {
    live: broadcast::Sender<Arc<Event>>,
    history: Arc<History>,
    last: u64,
    counts: Arc<Counts>,
}

/// What metrics report about events: the engine counts, scrapes read.
#[derive(Debug)]
pub(super) struct Counts {
    transitions: Mutex<BTreeMap<(Arc<str>, Health), u64>>,
    /// By pool and address.
    ejections: Mutex<BTreeMap<(Arc<str>, SocketAddr), u64>>,
    reloads: Mutex<ReloadCounts>,
    /// Whether the journal cannot be written.
    journal_fails: AtomicBool,
}

/// How often the config was read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReloadCounts {
    /// How often a new config was applied.
    pub applied: u64,
    /// How often the config had errors.
    pub failed: u64,
    /// When the current config was applied: at the start, or by the last reload that succeeded.
    pub last_applied: Unix,
    /// Whether the last attempt failed.
    pub has_failed: bool,
}

impl Counts {
    fn count(&self, event: &Event) {
        match &event.kind {
            EventKind::Transition { subject: Subject::Region(region), to, .. } => {
                let mut counts = self.transitions.lock().unwrap_or_else(PoisonError::into_inner);
                *counts.entry((Arc::clone(region), *to)).or_insert(0) += 1;
            }
            EventKind::Ejected { subject: Subject::Backend { pool, .. }, address, .. } => {
                let mut counts = self.ejections.lock().unwrap_or_else(PoisonError::into_inner);
                *counts.entry((Arc::clone(pool), *address)).or_insert(0) += 1;
            }
            EventKind::Reloaded { .. } => {
                let mut reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
                reloads.applied += 1;
                reloads.has_failed = false;
                reloads.last_applied = event.at;
            }
            EventKind::ReloadFailed { .. } => {
                let mut reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
                reloads.failed += 1;
                reloads.has_failed = true;
            }
            _ => {}
        }
    }

    /// How often each region entered each state.
    pub(super) fn transitions(&self) -> Vec<(String, Health, u64)> {
        let counts = self.transitions.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|((region, to), count)| (region.to_string(), *to, *count)).collect()
    }

    /// How often each address was ejected from its pool.
    pub(super) fn ejections(&self) -> Vec<(String, SocketAddr, u64)> {
        let counts = self.ejections.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|((pool, address), count)| (pool.to_string(), *address, *count)).collect()
    }

    pub(super) fn reloads(&self) -> ReloadCounts {
        *self.reloads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn journal_fails(&self) -> bool {
        self.journal_fails.load(Relaxed)
    }

    pub(super) fn set_journal_fails(&self, fails: bool) {
        self.journal_fails.store(fails, Relaxed);
    }
}

impl Events {
    /// The events that earlier runs left. Ids start at the number of microseconds since 1970, so that they are greater
    /// than those of earlier runs whether or not these are known, and behind the known ones if the clock was set back.
    pub(super) fn new(earlier: Vec<EventRecord>) -> Self {
        let (live, _) = broadcast::channel(EVENT_QUEUE);
        let now = Clock::unix();
        let clock = u64::try_from(now.0.as_micros()).unwrap_or(0);
        let last = earlier.last().map_or(clock, |newest| clock.max(newest.id.saturating_add(MARGIN)));
        let reloads = ReloadCounts { applied: 0, failed: 0, last_applied: now, has_failed: false };
        let counts = Counts {
            transitions: Mutex::default(),
            ejections: Mutex::default(),
            reloads: Mutex::new(reloads),
            journal_fails: AtomicBool::new(false),
        };
        let history = Arc::new(History::new(earlier, last));
        Self { live, history, last, counts: Arc::new(counts) }
    }

    /// Removes the events that happened before a moment, as [`History::forget_before`] does.
    pub(super) fn forget_before(&self, moment: Unix) -> Option<u64> {
        self.history.forget_before(moment)
    }

    pub(super) fn sender(&self) -> broadcast::Sender<Arc<Event>> {
        self.live.clone()
    }

    pub(super) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    pub(super) fn history(&self) -> Arc<History> {
        Arc::clone(&self.history)
    }

    /// Records what happened at an epoch. Returns the record, and the id of the oldest that is kept.
    pub(super) fn emit(&mut self, kind: EventKind, epoch: u64) -> (Arc<EventRecord>, u64) {
        self.emit_at(kind, epoch, Clock::unix())
    }

    /// Like [`Self::emit`], for what happened before the start.
    pub(super) fn emit_at(&mut self, kind: EventKind, epoch: u64, at: Unix) -> (Arc<EventRecord>, u64) {
        self.last += 1;
        let event = Event { id: self.last, at, epoch, kind };
        self.counts.count(&event);
        log(&event);
        let record = Arc::new(event.record());
        let oldest = self.history.push(Arc::clone(&record));
        // An error means that there are no subscribers.
        self.live.send(Arc::new(event)).ok();
        (record, oldest)
    }
}

/// Logs an event: its name, then its fields.
fn log(event: &Event) {
    let Event { id, epoch, kind, .. } = event;
    let (id, epoch, name, fields) = (*id, *epoch, kind.name(), kind.fields());
    let text = |name| fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value.trim_end());
    let token = |name| text(name).map(display);
    // The field names of a log line must be known at compile time; fields without a value are left out.
    macro_rules! line {
        ($level:expr) => {
            tracing::event!(
                $level,
                version = token("version"),
                last_stop = token("last_stop"),
                subject = token("subject"),
                from = token("from"),
                to = token("to"),
                severity = token("severity"),
                evidence = text("evidence"),
                number = token("number"),
                target = token("target"),
                action = token("action"),
                share = token("share"),
                until = token("until"),
                reason = text("reason"),
                region = token("region"),
                rule = token("rule"),
                host = token("host"),
                addresses = text("addresses"),
                warnings = text("warnings"),
                why = text("why"),
                kept = text("kept"),
                pool = text("pool"),
                backends = text("backends"),
                names = text("names"),
                ca = text("ca"),
                expires = token("expires"),
                by = text("by"),
                epoch,
                id,
                "{name}"
            )
        };
    }
    match level(kind) {
        Level::ERROR => line!(Level::ERROR),
        Level::WARN => line!(Level::WARN),
        _ => line!(Level::INFO),
    }
}

fn level(kind: &EventKind) -> Level {
    match kind {
        EventKind::ReloadFailed { .. } | EventKind::Alarm { .. } => Level::ERROR,
        EventKind::Transition { to, .. } if to.is_down() => Level::WARN,
        EventKind::Reloaded { warnings, .. } if !warnings.is_empty() => Level::WARN,
        EventKind::Ejected { .. } => Level::WARN,
        EventKind::Started { last_stop: Some(LastStop::Unclean), .. } => Level::WARN,
        EventKind::Held { .. } | EventKind::Released { .. } | EventKind::Unresolved { .. } => Level::WARN,
        EventKind::Started { .. }
        | EventKind::Stopped { .. }
        | EventKind::Transition { .. }
        | EventKind::Returned { .. }
        | EventKind::Reloaded { .. }
        | EventKind::Overridden(_)
        | EventKind::Restored { .. }
        | EventKind::Expired(_)
        | EventKind::Resolved { .. }
        | EventKind::Discovered { .. }
        | EventKind::Issued { .. }
        | EventKind::AllClear { .. } => Level::INFO,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use serde_json::Value;

    use super::*;
    use crate::model::Unix;
    use crate::state::event_samples;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The log line of an event as JSON.
    fn line(kind: &EventKind) -> BTreeMap<String, Value> {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_target(false);
        let subscriber = subscriber.without_time().with_writer(move || writer.clone()).finish();
        let event = Event { id: 7, at: Unix::default(), epoch: 5, kind: kind.clone() };
        tracing::subscriber::with_default(subscriber, || log(&event));
        let written = written.0.lock().expect("no panic");
        serde_json::from_slice(&written).expect("one line of JSON")
    }

    #[test]
    fn a_line_has_every_field_of_its_event() {
        for kind in event_samples() {
            let mut line = line(&kind);
            assert_eq!(line.remove("message"), Some(kind.name().into()));
            assert_eq!(line.remove("level"), Some(level(&kind).as_str().into()));
            assert_eq!((line.remove("id"), line.remove("epoch")), (Some(7.into()), Some(5.into())));
            let fields: BTreeMap<String, Value> =
                kind.fields().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
            assert_eq!(line, fields, "{}", kind.name());
        }
    }

    #[test]
    fn events_of_a_later_run_have_greater_ids() {
        let emitted = |events: &mut Events| events.emit(EventKind::Alarm { message: "one".into() }, 1).0.id;
        let mut earlier = Events::new(Vec::new());
        let first = emitted(&mut earlier);
        let last = emitted(&mut earlier);
        assert_eq!(last, first + 1);
        assert!(emitted(&mut Events::new(Vec::new())) > last);

        // The clock was ahead by a year, and the journal lacks some events.
        let far = EventRecord { id: last + 31_000_000_000_000, ..(*earlier.history().all()[0]).clone() };
        let mut later = Events::new(vec![far.clone()]);
        assert!(emitted(&mut later) > far.id + 1000);
        assert_eq!(*later.history().all()[0], far);
    }
}
