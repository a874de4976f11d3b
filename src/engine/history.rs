//! The latest events, for readers that come later or fall behind.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::model::{EventRecord, Unix};

/// The maximum number of events kept.
const EVENTS_KEPT: usize = 1000;

/// The maximum length of all their texts together, in bytes: every reader of `/v1/events` gets them all. Reasons, evidence
/// and the errors of a bad config are texts.
const BYTES_KEPT: usize = 1 << 20;

/// The latest events. The engine adds them; readers take them from here, each at its pace, so a slow reader holds no
/// queue of its own.
#[derive(Debug)]
pub struct History {
    kept: Mutex<Kept>,
    /// The id of the newest event, or where the ids of this run begin.
    newest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Kept {
    events: VecDeque<Arc<EventRecord>>,
    bytes: usize,
    /// An event with this id or a smaller one is not kept any more.
    gone: u64,
}

/// What comes after an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next event.
    Event(Arc<EventRecord>),
    /// Events up to this id are not kept any more.
    Missed(u64),
}

impl History {
    /// The events that earlier runs left, oldest first; the ids of this run are greater than `newest`.
    pub(super) fn new(earlier: Vec<EventRecord>, newest: u64) -> Self {
        let gone = earlier.first().map_or(newest, |oldest| oldest.id.saturating_sub(1));
        let mut kept = Kept { events: VecDeque::new(), bytes: 0, gone };
        earlier.into_iter().for_each(|event| kept.push(Arc::new(event)));
        Self { kept: Mutex::new(kept), newest: watch::Sender::new(newest) }
    }

    /// Adds an event. Returns the id of the oldest that is kept.
    pub(super) fn push(&self, event: Arc<EventRecord>) -> u64 {
        let id = event.id;
        let mut kept = self.lock();
        kept.push(event);
        let oldest = kept.gone + 1;
        drop(kept);
        self.newest.send_replace(id);
        oldest
    }

    /// Removes the events that happened before a moment. Returns the id of the oldest that may be kept, if there were any.
    pub(super) fn forget_before(&self, moment: Unix) -> Option<u64> {
        let mut kept = self.lock();
        let gone = kept.gone;
        while kept.events.front().is_some_and(|event| event.at < moment) {
            kept.forget_oldest();
        }
        (kept.gone > gone).then(|| kept.gone + 1)
    }

    /// All kept events, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<EventRecord>> {
        self.lock().events.iter().cloned().collect()
    }

    /// Where a reader goes on that has seen this event: there if it was seen, or before the oldest that is kept. An id
    /// that does not exist yet is of an earlier run, before the clock was set back.
    #[must_use]
    pub fn resume(&self, seen: Option<u64>) -> u64 {
        let newest = *self.newest.borrow();
        seen.filter(|seen| *seen <= newest).unwrap_or_else(|| self.lock().gone)
    }

    /// Waits for what comes after this event.
    pub async fn next(&self, seen: u64) -> Next {
        let mut newest = self.newest.subscribe();
        loop {
            if let Some(next) = self.lock().next(seen) {
                return next;
            }
            // The sender is in `self`.
            newest.wait_for(|newest| *newest > seen).await.ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn push(&mut self, event: Arc<EventRecord>) {
        self.bytes += event.bytes();
        self.events.push_back(event);
        // The newest is kept whatever its size.
        while self.events.len() > EVENTS_KEPT || (self.bytes > BYTES_KEPT && self.events.len() > 1) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.events.pop_front() else { return };
        self.bytes -= oldest.bytes();
        self.gone = oldest.id;
    }

    fn next(&self, seen: u64) -> Option<Next> {
        if seen < self.gone {
            return Some(Next::Missed(self.gone));
        }
        let index = self.events.partition_point(|event| event.id <= seen);
        self.events.get(index).map(|event| Next::Event(Arc::clone(event)))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use std::time::Duration;

    use super::*;

    fn event(id: u64, bytes: usize) -> Arc<EventRecord> {
        Arc::new(EventRecord {
            id,
            at: Unix::default(),
            epoch: 1,
            name: "alarm".into(),
            message: "x".repeat(bytes),
            fields: Vec::new(),
        })
    }

    fn ids(history: &History) -> Vec<u64> {
        history.all().iter().map(|event| event.id).collect()
    }

    #[test]
    fn few_events_are_kept_if_they_are_large() {
        let history = History::new(Vec::new(), 0);
        for id in 1..=EVENTS_KEPT as u64 + 1 {
            history.push(event(id, 1));
        }
        assert_eq!(history.all().len(), EVENTS_KEPT);
        for id in 2000..2004 {
            history.push(event(id, BYTES_KEPT / 4));
        }
        assert_eq!(ids(&history), [2000, 2001, 2002, 2003]);
        assert_eq!(history.push(event(2004, BYTES_KEPT * 2)), 2004);
        assert_eq!(ids(&history), [2004]);
        history.push(event(2005, 1));
        history.push(event(2006, 1));
        assert_eq!(ids(&history), [2005, 2006]);
    }

    #[test]
    fn events_before_a_moment_are_forgotten() {
        let at = |seconds| Unix(Duration::from_secs(seconds));
        let history = History::new(Vec::new(), 0);
        assert_eq!(history.forget_before(at(9)), None);
        for id in 1..=4 {
            history.push(Arc::new(EventRecord { at: at(id), ..(*event(id, 1)).clone() }));
        }
        assert_eq!((history.forget_before(at(1)), ids(&history)), (None, vec![1, 2, 3, 4]));
        assert_eq!((history.forget_before(at(3)), ids(&history)), (Some(3), vec![3, 4]));
        assert_eq!((history.forget_before(at(9)), ids(&history)), (Some(5), vec![]));
        assert_eq!(history.resume(None), 4);
        assert_eq!(history.push(event(5, 1)), 5);
    }

    #[tokio::test]
    async fn readers_resume_and_learn_what_they_missed() {
        let earlier = [4, 5].map(|id| (*event(id, 1)).clone());
        let history = History::new(earlier.to_vec(), 100);
        let next = |seen| history.next(seen).now_or_never();
        assert_eq!(history.resume(None), 3, "everything that is kept");
        assert_eq!(history.resume(Some(1)), 1);
        assert_eq!(next(1), Some(Next::Missed(3)));
        assert_eq!(next(3), Some(Next::Event(event(4, 1))));
        assert_eq!(next(5), None);
        assert_eq!(history.resume(Some(101)), 3, "of a run whose clock was ahead");
        let waiting = history.next(5);
        history.push(event(101, 1));
        assert_eq!(waiting.await, Next::Event(event(101, 1)));
        assert_eq!(history.resume(Some(101)), 101);
    }

    #[test]
    fn without_events_of_earlier_runs_a_reader_has_missed_some() {
        let history = History::new(Vec::new(), 100);
        history.push(event(101, 1));
        let next = |seen| history.next(history.resume(seen)).now_or_never();
        assert_eq!(next(Some(7)), Some(Next::Missed(100)));
        assert_eq!(next(Some(100)), Some(Next::Event(event(101, 1))));
        assert_eq!(next(None), Some(Next::Event(event(101, 1))));
    }
}
