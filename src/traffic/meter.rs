//! All books, and what they said earlier.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::book::Book;
use super::networks::Secret;
use super::totals::Totals;
use crate::model::Topology;

/// How often [`Meter::sample`] is to be called.
pub const EVERY: Duration = Duration::from_secs(10);

/// Times that are looked back, each with how far apart the sums are that are kept for it.
const WINDOWS: [Window; 2] = [
    Window { length: Duration::from_secs(60), every: EVERY },
    Window { length: Duration::from_secs(3600), every: Duration::from_secs(600) },
];

#[derive(Clone, Copy, Debug)]
struct Window {
    length: Duration,
    every: Duration,
}

/// The traffic of a node: the books of all its writers, past and present.
#[derive(Debug)]
pub struct Meter {
    secret: Secret,
    books: Mutex<Vec<Arc<Book>>>,
    earlier: Mutex<[Earlier; WINDOWS.len()]>,
}

/// Earlier sums for a window, the oldest first: no other one is as old as the window.
#[derive(Debug, Default)]
struct Earlier(VecDeque<(Duration, Arc<Totals>)>);

/// What was counted at one moment.
#[derive(Debug)]
pub struct Measured {
    /// Since the start.
    pub total: Totals,
    /// In the last minute.
    pub minute: Period,
    /// In the last hour.
    pub hour: Period,
}

/// What was counted in a time that ends now.
#[derive(Debug)]
pub struct Period {
    /// How long it is: what its name says, or somewhat longer; shorter if the node started later.
    pub length: Duration,
    /// What was counted in it.
    pub totals: Totals,
}

impl Meter {
    /// `secret` is a random number, which decides which networks compete for the same memory.
    #[must_use]
    pub fn new(secret: u64) -> Self {
        Self { secret: Secret::new(secret), books: Mutex::default(), earlier: Mutex::default() }
    }

    /// A book for one writer. Books whose writer is gone are used again.
    #[must_use]
    pub fn book(&self) -> Arc<Book> {
        let mut books = self.books();
        // Unlike a look at `Arc::strong_count`, this also shows what the last writer counted.
        let unused = |book: &mut Arc<Book>| Arc::get_mut(book).is_some().then(|| Arc::clone(book));
        if let Some(orphan) = books.iter_mut().find_map(unused) {
            return orphan;
        }
        let book = Arc::new(Book::new(self.secret));
        books.push(Arc::clone(&book));
        book
    }

    /// What was counted since the start, for the services and regions of a topology. Writers go on counting meanwhile, so
    /// the sums may be of slightly different times.
    #[must_use]
    pub fn totals(&self, topology: &Arc<Topology>) -> Totals {
        Totals::of(&self.books(), topology, self.secret)
    }

    /// Keeps the sums of this moment for later, if that is due. To be called [every few seconds](EVERY), with the time since
    /// the start.
    pub fn sample(&self, topology: &Arc<Topology>, now: Duration) {
        let mut earlier = self.earlier();
        if !earlier.iter().zip(WINDOWS).any(|(it, window)| it.is_due(window, now)) {
            return;
        }
        let totals = Arc::new(self.totals(topology));
        for (earlier, window) in earlier.iter_mut().zip(WINDOWS) {
            earlier.keep(window, now, &totals);
        }
    }

    /// What was counted since the start and lately. `now` is the time since the start. Callers wait for each other, so that
    /// they take no more than one core.
    #[must_use]
    pub fn measured(&self, topology: &Arc<Topology>, now: Duration) -> Measured {
        let earlier = self.earlier();
        let total = self.totals(topology);
        let nothing = Totals::default();
        let period = |at: usize| {
            let (at, before) = earlier[at].before(WINDOWS[at], now);
            let totals = total.since(before.unwrap_or(&nothing));
            Period { length: now.saturating_sub(at), totals }
        };
        let (minute, hour) = (period(0), period(1));
        Measured { total, minute, hour }
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Vec<Arc<Book>>> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn earlier(&self) -> MutexGuard<'_, [Earlier; WINDOWS.len()]> {
        self.earlier.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Earlier {
    fn is_due(&self, window: Window, now: Duration) -> bool {
        self.0.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= window.every)
    }

    fn keep(&mut self, window: Window, now: Duration, totals: &Arc<Totals>) {
        if !self.is_due(window, now) {
            return;
        }
        self.0.push_back((now, Arc::clone(totals)));
        while self.0.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= window.length) {
            self.0.pop_front();
        }
    }

    /// The youngest sum that is as old as the window, with its time; if there is none, the start.
    fn before(&self, window: Window, now: Duration) -> (Duration, Option<&Totals>) {
        let is_old = |(at, _): &&(Duration, Arc<Totals>)| now.saturating_sub(*at) >= window.length;
        let found = self.0.iter().take_while(is_old).last();
        found.map_or((Duration::ZERO, None), |(at, totals)| (*at, Some(&**totals)))
    }
}
