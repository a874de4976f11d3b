//! Addresses that are ejected because requests to them fail.
//!
//! ```text
//!              eject                         tick, end
//! (unknown) ──────────▶ Ejected until … ─────────────────▶ Returned since …, level n
//!                            ▲                                   │        │
//!                            └────────────── eject: level n + 1 ─┘        └─▶ one level down for each time of that
//!                                                                             level in health, at last unknown
//! ```
//!
//! Whether requests fail is seen by whoever sends them. Here is decided what follows; time is monotonic, so that a step
//! of the wall clock neither prolongs nor ends an ejection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::model::{Mono, Passive};

/// A report of whoever sends requests: those to an address fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailingRequests {
    /// The name of the pool.
    pub pool: String,
    /// The address.
    pub address: SocketAddr,
    /// What failed, as a clause.
    pub evidence: String,
}

/// The ejections of a pool.
#[derive(Clone, Debug, Default)]
pub struct Ejections {
    entries: BTreeMap<SocketAddr, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    /// The ejections that count: the time of the last was that of `level - 1` preceding ones.
    level: u32,
    phase: Phase,
}

#[derive(Clone, Debug)]
enum Phase {
    Ejected { until: Mono },
    Returned { since: Mono },
}

impl Ejections {
    /// Ejects an address because its requests fail, unless it is ejected already or too many of the `usable` addresses
    /// are. `usable` are those that would serve if none were ejected. Returns for how long.
    pub fn eject(
        &mut self,
        address: SocketAddr,
        passive: &Passive,
        usable: &[SocketAddr],
        now: Mono,
    ) -> Option<Duration> {
        let ejected = usable.iter().filter(|it| self.is_ejected(**it)).count();
        let may = usable.contains(&address) && ejected < passive.most_ejected(usable.len());
        if !may || self.is_ejected(address) {
            return None;
        }
        self.forgive(address, passive, now);
        let level = self.entries.get(&address).map_or(0, |entry| entry.level);
        let time = passive.time(level);
        let phase = Phase::Ejected { until: now.after(time) };
        self.entries.insert(address, Entry { level: level.saturating_add(1), phase });
        Some(time)
    }

    /// Ends an ejection; returns whether there was one.
    pub fn end(&mut self, address: SocketAddr, now: Mono) -> bool {
        let Some(entry) = self.entries.get_mut(&address) else { return false };
        let is_ejected = matches!(entry.phase, Phase::Ejected { .. });
        if is_ejected {
            entry.phase = Phase::Returned { since: now };
        }
        is_ejected
    }

    /// Ends the ejections whose time is over and returns their addresses.
    pub fn tick(&mut self, passive: &Passive, now: Mono) -> Vec<SocketAddr> {
        let addresses: Vec<SocketAddr> = self.entries.keys().copied().collect();
        for address in &addresses {
            self.forgive(*address, passive, now);
        }
        let over = |address: &SocketAddr| {
            matches!(self.entries.get(address)?.phase, Phase::Ejected { until } if until <= now)
                .then_some(*address)
        };
        let over: Vec<SocketAddr> = addresses.iter().filter_map(over).collect();
        for address in &over {
            self.end(*address, now);
        }
        over
    }

    /// Takes one level back for each time of its ejection that an address has been in health.
    fn forgive(&mut self, address: SocketAddr, passive: &Passive, now: Mono) {
        let Some(entry) = self.entries.get_mut(&address) else { return };
        let Phase::Returned { since } = &mut entry.phase else { return };
        while let Some(before) = entry.level.checked_sub(1) {
            let time = passive.time(before);
            if now.since(*since) < time {
                return;
            }
            *since = since.after(time);
            entry.level = before;
        }
        self.entries.remove(&address);
    }

    /// Forgets the addresses that a pool no longer has.
    pub fn keep_only(&mut self, is_kept: impl Fn(SocketAddr) -> bool) {
        self.entries.retain(|address, _| is_kept(*address));
    }

    /// Whether requests to an address are to be avoided.
    #[must_use]
    pub fn is_ejected(&self, address: SocketAddr) -> bool {
        self.entries.get(&address).is_some_and(|it| matches!(it.phase, Phase::Ejected { .. }))
    }
}

#[cfg(test)]
mod tests;
