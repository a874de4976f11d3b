//! The audit log: who asked for which change, and what came of it.
//!
//! Entries are kept in memory and in the journal. Each kind has room of its own, so that whoever may change nothing
//! cannot displace an entry about a change; and what is refused again and again is one entry that counts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::journal::{AuditSink, OldestByKind};
use crate::model::{AuditKind, AuditRecord, Mono, Now, Unix};
use crate::net::clock::Clock;

/// The most changes kept: ten a day for more than a year.
const CHANGES_KEPT: usize = 5000;
/// The most bytes of their texts.
const CHANGE_BYTES: usize = 4 << 20;

/// The most refusals kept of those who are known, and as many of strangers.
const REFUSALS_KEPT: usize = 1000;
/// The most bytes of their texts, for either.
const REFUSAL_BYTES: usize = 512 << 10;

/// How long an entry counts further refusals of the same kind. Strangers are told apart by what they ask for alone.
const COUNTS_FOR: Duration = Duration::from_secs(60);

/// The most entries that count at the same time; the longest open one is closed for a new one.
const COUNTING: usize = 64;

/// The most addresses of strangers that an entry names.
const NAMED: usize = 8;

/// What follows the addresses if there are more.
const AND_OTHERS: &str = " and others";

/// The entries of this run and of earlier ones.
#[derive(Debug)]
pub struct AuditLog {
    kept: Mutex<Kept>,
    clock: Clock,
    sink: AuditSink,
}

#[derive(Debug, Default)]
struct Kept {
    /// By kind.
    rings: [Ring; AuditKind::ALL.len()],
    last: u64,
    /// The entries that count further refusals, oldest first.
    counting: VecDeque<Counting>,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Arc<AuditRecord>>,
    bytes: usize,
    /// The last entry that is not kept any more.
    gone: u64,
}

#[derive(Debug)]
struct Counting {
    id: u64,
    kind: AuditKind,
    since: Mono,
}

impl AuditLog {
    /// The entries that earlier runs left, oldest first, and where those of this run are written.
    pub(super) fn new(earlier: Vec<AuditRecord>, sink: AuditSink) -> Self {
        let mut kept = Kept { last: earlier.last().map_or(0, |newest| newest.id), ..Kept::default() };
        for entry in earlier {
            kept.rings[entry.kind as usize].push(Arc::new(entry));
        }
        Self { kept: Mutex::new(kept), clock: Clock::default(), sink }
    }

    /// Adds an entry, whose id, times and count are set here.
    pub fn record(&self, entry: AuditRecord) {
        self.record_at(entry, self.clock.now());
    }

    fn record_at(&self, entry: AuditRecord, now: Now) {
        let mut kept = self.lock();
        if entry.kind != AuditKind::Change
            && let Some(counted) = kept.count(&entry, now)
        {
            self.sink.save_later(counted, kept.oldest());
            return;
        }
        // Ids are times, so that they grow over restarts, and behind the last one if the clock was set back.
        let at = now.unix;
        let clock = u64::try_from(at.0.as_micros()).unwrap_or(0);
        let id = clock.max(kept.last + 1);
        kept.last = id;
        let entry = Arc::new(AuditRecord { id, at, last: at, count: 1, ..entry });
        kept.push(Arc::clone(&entry), now.mono);
        // Under the lock, so that of two entries the journal gets the newer one last.
        self.sink.save(entry, kept.oldest());
    }

    /// Removes the entries about what was last asked for before a moment.
    pub(super) fn forget_before(&self, moment: Unix) {
        let mut kept = self.lock();
        let oldest = kept.oldest();
        for ring in &mut kept.rings {
            while ring.entries.front().is_some_and(|entry| entry.last < moment) {
                ring.forget_oldest();
            }
        }
        if kept.oldest() != oldest {
            self.sink.forget_before(kept.oldest());
        }
    }

    /// The latest entries that are not older than `since`, at most `limit`; oldest first.
    #[must_use]
    pub fn latest(&self, since: Option<Unix>, limit: usize) -> Vec<Arc<AuditRecord>> {
        let kept = self.lock();
        let all = kept.rings.iter().flat_map(|ring| &ring.entries);
        let mut found: Vec<_> =
            all.filter(|entry| since.is_none_or(|since| entry.last >= since)).cloned().collect();
        drop(kept);
        found.sort_unstable_by_key(|entry| entry.id);
        let more = found.len().saturating_sub(limit);
        found.split_off(more)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Counts a refusal in the entry of one like it, if there is one that still counts.
    fn count(&mut self, new: &AuditRecord, now: Now) -> Option<Arc<AuditRecord>> {
        self.counting.retain(|it| now.mono.since(it.since) < COUNTS_FOR);
        let ring = &mut self.rings[new.kind as usize];
        for open in self.counting.iter().filter(|it| it.kind == new.kind) {
            let Ok(index) = ring.entries.binary_search_by_key(&open.id, |entry| entry.id) else { continue };
            if is_alike(&ring.entries[index], new) {
                let entry = Arc::make_mut(&mut ring.entries[index]);
                entry.count += 1;
                entry.last = now.unix;
                ring.bytes += add_address(&mut entry.origin, &new.origin);
                return Some(Arc::clone(&ring.entries[index]));
            }
        }
        None
    }

    fn push(&mut self, entry: Arc<AuditRecord>, now: Mono) {
        if entry.kind != AuditKind::Change {
            if self.counting.len() >= COUNTING {
                self.counting.pop_front();
            }
            self.counting.push_back(Counting { id: entry.id, kind: entry.kind, since: now });
        }
        self.rings[entry.kind as usize].push(entry);
    }

    fn oldest(&self) -> OldestByKind {
        self.rings.each_ref().map(|ring| ring.entries.front().map_or(ring.gone + 1, |entry| entry.id))
    }
}

impl Ring {
    fn push(&mut self, entry: Arc<AuditRecord>) {
        let (most, most_bytes) = match entry.kind {
            AuditKind::Change => (CHANGES_KEPT, CHANGE_BYTES),
            AuditKind::Refusal | AuditKind::Stranger => (REFUSALS_KEPT, REFUSAL_BYTES),
        };
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        // The newest is kept whatever its size.
        while self.entries.len() > most || (self.bytes > most_bytes && self.entries.len() > 1) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.entries.pop_front() else { return };
        self.bytes -= oldest.bytes();
        self.gone = oldest.id;
    }
}

/// Whether two refusals make one entry.
fn is_alike(one: &AuditRecord, other: &AuditRecord) -> bool {
    let same_request = one.action == other.action && one.result == other.result && one.why == other.why;
    match one.kind {
        AuditKind::Change => false,
        AuditKind::Refusal => {
            same_request
                && (&one.who, &one.origin, &one.target, &one.parameters)
                    == (&other.who, &other.origin, &other.target, &other.parameters)
        }
        AuditKind::Stranger => same_request,
    }
}

/// Adds an address to a list of them, as long as it is short. Returns how many bytes longer it is.
fn add_address(list: &mut String, address: &str) -> usize {
    let before = list.len();
    if list.ends_with(AND_OTHERS) || list.split(", ").any(|known| known == address) {
        return 0;
    }
    if list.split(", ").count() < NAMED {
        list.push_str(", ");
        list.push_str(address);
    } else {
        list.push_str(AND_OTHERS);
    }
    list.len() - before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: AuditKind, who: &str, origin: &str, target: &str) -> AuditRecord {
        AuditRecord {
            id: 0,
            at: Unix::default(),
            last: Unix::default(),
            count: 0,
            kind,
            who: who.into(),
            origin: origin.into(),
            action: "set_override".into(),
            target: Some(target.into()),
            parameters: None,
            reason: None,
            result: "refused".into(),
            why: None,
            before: None,
            after: None,
        }
    }

    fn at(seconds: u64) -> Unix {
        Unix(Duration::from_secs(seconds))
    }

    /// A moment of both clocks, which agree.
    fn now(seconds: u64) -> Now {
        Now { mono: Mono(Duration::from_secs(seconds)), unix: at(seconds) }
    }

    fn log() -> AuditLog {
        AuditLog::new(Vec::new(), AuditSink::default())
    }

    #[test]
    fn a_flood_of_strangers_is_one_entry_a_minute_and_displaces_nothing() {
        let log = log();
        log.record_at(entry(AuditKind::Change, "token ci", "10.0.0.1:1", "region/eu"), now(1));
        for number in 0..100_000 {
            let origin = format!("192.0.2.{}", number % 200);
            let target = format!("region/{number}");
            log.record_at(entry(AuditKind::Stranger, "no token", &origin, &target), now(2));
        }
        let all = log.latest(None, usize::MAX);
        assert_eq!(all.iter().map(|it| it.count).collect::<Vec<_>>(), [1, 100_000]);
        let named = "192.0.2.0, 192.0.2.1, 192.0.2.2, 192.0.2.3, 192.0.2.4, 192.0.2.5, 192.0.2.6, 192.0.2.7";
        assert_eq!(all[1].origin, format!("{named} and others"));

        for minute in 1..=2 * REFUSALS_KEPT as u64 {
            log.record_at(entry(AuditKind::Stranger, "no token", "192.0.2.1", "x"), now(60 * minute + 2));
        }
        let all = log.latest(None, usize::MAX);
        assert_eq!((all.len(), &*all[0].who), (1 + REFUSALS_KEPT, "token ci"));
    }

    #[test]
    fn refusals_of_the_known_are_told_apart_and_displace_only_each_other() {
        let log = log();
        log.record_at(entry(AuditKind::Change, "token ci", "10.0.0.1:1", "region/eu"), now(1));
        for target in ["region/eu", "region/eu", "region/us", "region/eu"] {
            log.record_at(entry(AuditKind::Refusal, "token eve", "10.0.0.2:1", target), now(2));
        }
        let counts: Vec<_> = log.latest(None, 10).iter().map(|it| it.count).collect();
        assert_eq!(counts, [1, 3, 1]);
        for number in 0..3 * REFUSALS_KEPT {
            let target = format!("region/{number}");
            log.record_at(entry(AuditKind::Refusal, "token eve", "10.0.0.2:1", &target), now(3));
        }
        let all = log.latest(None, usize::MAX);
        assert_eq!((all.len(), &*all[0].who), (1 + REFUSALS_KEPT, "token ci"));
        assert!(log.lock().counting.len() <= COUNTING);
    }

    #[test]
    fn changes_are_bounded_in_number_and_size() {
        let log = log();
        let long = "x".repeat(AuditRecord::MAX_TEXT);
        for number in 0..2 * CHANGES_KEPT as u64 {
            let reason = Some(if number % 2 == 0 { long.clone() } else { String::new() });
            let entry = AuditRecord { reason, ..entry(AuditKind::Change, "token ci", "a", "region/eu") };
            log.record_at(entry, now(number));
        }
        let kept = log.latest(None, usize::MAX);
        assert!((1000..CHANGES_KEPT).contains(&kept.len()), "{}", kept.len());
        assert!(kept.iter().map(|it| it.bytes()).sum::<usize>() <= CHANGE_BYTES);
        assert_eq!(log.lock().rings[0].bytes, kept.iter().map(|it| it.bytes()).sum::<usize>());
        assert_eq!(kept.last().unwrap().at, at(2 * CHANGES_KEPT as u64 - 1));
    }

    #[test]
    fn entries_before_a_moment_are_forgotten() {
        let log = log();
        for seconds in 1..=3 {
            log.record_at(entry(AuditKind::Change, "token ci", "a", "region/eu"), now(seconds));
        }
        log.record_at(entry(AuditKind::Stranger, "no token", "a", "x"), now(1));
        // A refusal that still counts is as old as its latest.
        log.record_at(entry(AuditKind::Stranger, "no token", "a", "x"), now(2));
        let ats = |log: &AuditLog| log.latest(None, 9).iter().map(|it| it.last).collect::<Vec<_>>();
        log.forget_before(at(2));
        assert_eq!(ats(&log), [2, 3, 2].map(at));
        log.forget_before(at(3));
        assert_eq!(ats(&log), [3].map(at));
        log.forget_before(at(4));
        assert_eq!((ats(&log), log.lock().rings.iter().map(|ring| ring.bytes).sum::<usize>()), (vec![], 0));
        assert!(log.lock().oldest().iter().all(|oldest| *oldest > 0), "the journal forgets them, too");
        log.record_at(entry(AuditKind::Stranger, "no token", "a", "x"), now(5));
        assert_eq!(ats(&log), [5].map(at));
    }

    #[test]
    fn ids_grow_though_the_clock_is_set_back_and_times_say_what_it_showed() {
        let first = log();
        let change = || entry(AuditKind::Change, "token ci", "a", "region/eu");
        for seconds in [100, 50] {
            first.record_at(change(), Now { mono: Mono::default(), unix: at(seconds) });
        }
        let left: Vec<_> = first.latest(None, 9).iter().map(|it| (**it).clone()).collect();
        let second = AuditLog::new(left, AuditSink::default());
        second.record_at(change(), now(60));
        let all = second.latest(None, 9);
        assert!(all.is_sorted_by_key(|it| it.id), "{all:?}");
        assert_eq!(all.iter().map(|it| it.at).collect::<Vec<_>>(), [100, 50, 60].map(at));
        let since: Vec<_> = second.latest(Some(at(60)), 9).iter().map(|it| it.at).collect();
        assert_eq!(since, [100, 60].map(at));
        assert_eq!(second.latest(None, 1)[0].at, at(60), "the latest ones");
    }
}
