//! Events: numbered, logged, retained for later requests, and sent to subscribers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;
use tracing::Level;
use tracing::field::display;

use super::{EVENT_QUEUE, EventFeed};
use crate::health::State as Health;
use crate::model::{Subject, Unix};
use crate::net::clock::Clock;
use crate::state::{Event, EventKind};

/// The number of events retained for later requests.
const EVENTS_KEPT: usize = 1000;

/// The bytes that the texts of these events may have together: every reader of `/v1/events` gets them all. Reasons,
/// evidence and the errors of a bad config are texts.
const BYTES_KEPT: usize = 1 << 20;

/// The events of a run.
#[derive(Debug)]
pub(super) struct Events {
    live: broadcast::Sender<Arc<Event>>,
    /// Each with the bytes of its texts.
    kept: VecDeque<(usize, Arc<Event>)>,
    bytes_kept: usize,
    last: u64,
    counts: Arc<Counts>,
}

/// What metrics report about events: the engine counts, scrapes read.
#[derive(Debug)]
pub(super) struct Counts {
    transitions: Mutex<BTreeMap<(Arc<str>, Health), u64>>,
    reloads: Mutex<ReloadCounts>,
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
}

impl Counts {
    fn count(&self, event: &Event) {
        match &event.kind {
            EventKind::Transition { subject: Subject::Region(region), to, .. } => {
                let mut counts = self.transitions.lock().unwrap_or_else(PoisonError::into_inner);
                *counts.entry((Arc::clone(region), *to)).or_insert(0) += 1;
            }
            EventKind::Reloaded { .. } => {
                let mut reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
                reloads.applied += 1;
                reloads.last_applied = event.at;
            }
            EventKind::ReloadFailed { .. } => {
                self.reloads.lock().unwrap_or_else(PoisonError::into_inner).failed += 1;
            }
            _ => {}
        }
    }

    /// How often each region entered each state.
    pub(super) fn transitions(&self) -> Vec<(String, Health, u64)> {
        let counts = self.transitions.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|((region, to), count)| (region.to_string(), *to, *count)).collect()
    }

    pub(super) fn reloads(&self) -> ReloadCounts {
        *self.reloads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Events {
    /// No events yet. Ids start at the number of microseconds since 1970, so that they are greater than those of
    /// earlier runs and a reader that reconnects after a restart misses nothing.
    pub(super) fn new() -> Self {
        let (live, _) = broadcast::channel(EVENT_QUEUE);
        let now = Clock::unix();
        let last = u64::try_from(now.0.as_micros()).unwrap_or(0);
        let reloads = ReloadCounts { applied: 0, failed: 0, last_applied: now };
        let counts = Counts { transitions: Mutex::default(), reloads: Mutex::new(reloads) };
        Self { live, kept: VecDeque::new(), bytes_kept: 0, last, counts: Arc::new(counts) }
    }

    pub(super) fn sender(&self) -> broadcast::Sender<Arc<Event>> {
        self.live.clone()
    }

    pub(super) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    pub(super) fn feed(&self) -> EventFeed {
        EventFeed {
            kept: self.kept.iter().map(|(_, event)| Arc::clone(event)).collect(),
            live: self.live.subscribe(),
        }
    }

    /// Records what happened at an epoch.
    pub(super) fn emit(&mut self, kind: EventKind, epoch: u64) {
        self.last += 1;
        let event = Event { id: self.last, at: Clock::unix(), epoch, kind };
        self.counts.count(&event);
        log(&event);
        let event = Arc::new(event);
        let bytes = event.kind.fields().iter().map(|(_, value)| value.len()).sum();
        self.bytes_kept += bytes;
        self.kept.push_back((bytes, Arc::clone(&event)));
        // The newest is kept whatever its size.
        while self.kept.len() > EVENTS_KEPT || (self.bytes_kept > BYTES_KEPT && self.kept.len() > 1) {
            let Some((bytes, _)) = self.kept.pop_front() else { break };
            self.bytes_kept -= bytes;
        }
        // An error means that there are no subscribers.
        self.live.send(event).ok();
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
        EventKind::Held { .. } | EventKind::Released { .. } | EventKind::Unresolved { .. } => Level::WARN,
        EventKind::Transition { .. }
        | EventKind::Reloaded { .. }
        | EventKind::Overridden(_)
        | EventKind::Restored { .. }
        | EventKind::Expired(_)
        | EventKind::Resolved { .. }
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
    fn few_events_are_kept_if_they_are_large() {
        let mut events = Events::new();
        let alarm = |bytes| EventKind::Alarm { message: "x".repeat(bytes) };
        for _ in 0..=EVENTS_KEPT {
            events.emit(alarm(1), 1);
        }
        assert_eq!(events.feed().kept.len(), EVENTS_KEPT);
        for _ in 0..5 {
            events.emit(alarm(BYTES_KEPT / 4), 1);
        }
        assert_eq!(events.feed().kept.len(), 4);
        events.emit(alarm(BYTES_KEPT * 2), 1);
        assert_eq!(events.feed().kept.len(), 1);
        events.emit(alarm(1), 1);
        assert_eq!(events.feed().kept.len(), 1);
        events.emit(alarm(1), 1);
        assert_eq!(events.feed().kept.len(), 2);
    }

    #[test]
    fn events_of_a_later_run_have_greater_ids() {
        let mut earlier = Events::new();
        for kind in event_samples() {
            earlier.emit(kind, 1);
        }
        let last = earlier.feed().kept.last().expect("an event").id;
        let mut later = Events::new();
        later.emit(EventKind::Alarm { message: "one".into() }, 1);
        assert!(later.feed().kept[0].id > last);
    }
}
