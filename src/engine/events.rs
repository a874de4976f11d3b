//! Events: numbered, logged, kept for those who ask later, and sent to those who listen.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;
use tracing::{error, info, warn};

use super::{EVENT_QUEUE, EventFeed};
use crate::health::State as Health;
use crate::model::Subject;
use crate::net::clock::Clock;
use crate::state::{Event, EventKind, timestamp};

/// Events kept for those who ask later.
const EVENTS_KEPT: usize = 1000;

/// The events of a run.
#[derive(Debug)]
pub(super) struct Events {
    live: broadcast::Sender<Arc<Event>>,
    kept: VecDeque<Arc<Event>>,
    last: u64,
    transitions: Arc<Transitions>,
}

/// How often each region came into each state, for metrics: the engine counts, scrapes read.
#[derive(Debug, Default)]
pub(super) struct Transitions(Mutex<BTreeMap<(Arc<str>, Health), u64>>);

impl Transitions {
    fn count(&self, region: &Arc<str>, to: Health) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((Arc::clone(region), to)).or_insert(0) += 1;
    }

    pub(super) fn counts(&self) -> Vec<(String, Health, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|((region, to), count)| (region.to_string(), *to, *count)).collect()
    }
}

impl Events {
    /// None yet. Ids are greater than those of earlier runs, so that a reader who reconnects after a restart misses
    /// nothing: they start at the number of microseconds since 1970.
    pub(super) fn new() -> Self {
        let (live, _) = broadcast::channel(EVENT_QUEUE);
        let last = u64::try_from(Clock::unix().0.as_micros()).unwrap_or(0);
        Self { live, kept: VecDeque::new(), last, transitions: Arc::default() }
    }

    pub(super) fn sender(&self) -> broadcast::Sender<Arc<Event>> {
        self.live.clone()
    }

    pub(super) fn transitions(&self) -> Arc<Transitions> {
        Arc::clone(&self.transitions)
    }

    pub(super) fn feed(&self) -> EventFeed {
        EventFeed { kept: self.kept.iter().cloned().collect(), live: self.live.subscribe() }
    }

    /// Records what happened at an epoch.
    pub(super) fn emit(&mut self, kind: EventKind, epoch: u64) {
        if let EventKind::Transition { subject: Subject::Region(region), to, .. } = &kind {
            self.transitions.count(region, *to);
        }
        self.last += 1;
        let event = Event { id: self.last, at: Clock::unix(), epoch, kind };
        log(&event);
        let event = Arc::new(event);
        if self.kept.len() == EVENTS_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Arc::clone(&event));
        // Nobody listening is fine.
        self.live.send(event).ok();
    }
}

/// One line per event: its name, then its fields; a sentence only where there is none but that.
fn log(event: &Event) {
    let (name, epoch, id) = (event.kind.name(), event.epoch, event.id);
    match &event.kind {
        EventKind::Transition { subject, from, to, evidence } if to.is_down() => {
            let severity = to.severity().map(tracing::field::display);
            warn!(%subject, %from, %to, severity, evidence, epoch, id, "{name}");
        }
        EventKind::Transition { subject, from, to, evidence } => {
            info!(%subject, %from, %to, evidence, epoch, id, "{name}");
        }
        EventKind::Held { region, rule } | EventKind::Released { region, rule } => {
            warn!(region, rule = rule.name(), epoch, id, "{name}");
        }
        EventKind::Overridden(o) | EventKind::Restored { subject: o, .. } | EventKind::Expired(o) => {
            let (reason, until) = (o.reason.as_deref(), o.until.and_then(timestamp));
            let by = event.kind.by();
            info!(number = o.id, target = %o.target, action = %o.action, until, reason, by, epoch, id, "{name}");
        }
        EventKind::Reloaded { warnings, by } => {
            info!(by, epoch, id, "{name}");
            for warning in warnings {
                warn!(epoch, id, "{warning}");
            }
        }
        EventKind::ReloadFailed { why, by } => error!(by, epoch, id, why = why.trim_end(), "{name}"),
        EventKind::Resolved { host, addresses } => info!(%host, ?addresses, epoch, id, "{name}"),
        EventKind::Unresolved { host, why, kept } => warn!(%host, why, ?kept, epoch, id, "{name}"),
        EventKind::Alarm { message } => error!(epoch, id, why = message, "{name}"),
        EventKind::AllClear { message } => info!(epoch, id, why = message, "{name}"),
    }
}
