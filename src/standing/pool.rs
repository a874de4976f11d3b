//! Computes a pool's standing from the states of its backends and from overrides.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::region::action;
use super::{Action, DEGRADED_FACTOR, EndpointStanding, Inputs};
use crate::health::{Severity, State};
use crate::model::{Backend, BackendRef, Fraction, Pool, PoolId, Target, Unix};
use crate::pick;

/// The standing of a pool of backends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolStanding {
    /// By the index of the backend.
    pub backends: Arc<[EndpointStanding]>,
    /// What requests may be sent to: what serves, or else the backups that serve, or else what has no result yet, or else
    /// what fails softly, if the pool may panic. Empty if all are hard-down or withdrawn.
    pub open: Arc<[OpenAddress]>,
    /// The addresses that are ejected because their requests fail, whatever probes find.
    pub ejected: Arc<[Ejected]>,
    /// Whether failing addresses are used because too few are healthy.
    pub panic: Option<Panic>,
}

/// An address that is ejected.
#[derive(Clone, Debug, PartialEq)]
pub struct Ejected {
    /// The address.
    pub address: SocketAddr,
    /// When it returns.
    pub until: Unix,
    /// Why it is ejected, as a clause.
    pub evidence: Arc<str>,
}

/// Too few of a pool's addresses are healthy. Counted are those of its backends, or of its backups while these serve,
/// that operators have not withdrawn and that have a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panic {
    /// The addresses that are healthy.
    pub healthy: usize,
    /// All of them.
    pub of: usize,
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panic: {} of {} healthy", self.healthy, self.of)
    }
}

/// What a pool's requests and its past add to the states that probes found.
#[derive(Clone, Debug, Default)]
pub struct PoolPast {
    /// The addresses that are ejected.
    pub ejected: Vec<Ejected>,
    /// The addresses that came up a short while ago, each with the fraction of its weight that it has.
    pub starting: Vec<(SocketAddr, f64)>,
}

/// An address of a backend that requests may be sent to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpenAddress {
    /// Index of the backend in its pool.
    pub backend: u16,
    /// The address.
    pub address: SocketAddr,
    /// Hash of the address.
    pub hash: pick::Hash,
    /// The weight of its backend, above 0; reduced while it is degraded or partially drained.
    pub weight: f64,
}

/// Why requests are not sent to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// An operator drained it.
    Drained,
    /// An operator forced it down.
    ForcedDown,
    /// Its weight is 0, and that of others is not.
    NoWeight,
    /// No address of its host is known.
    Unresolved,
    /// Its requests failed, and others are in use.
    Ejected,
    /// Probes found it down.
    Down,
    /// It is a backup, and others are in use.
    Backup,
    /// There is no result yet, and others are known to be up.
    Unknown,
}

impl OpenAddress {
    /// As balancers see it.
    #[must_use]
    pub fn candidate(&self) -> pick::Candidate {
        pick::Candidate { hash: self.hash, weight: self.weight }
    }
}

/// How willingly an address is used. Ordered from best to worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Serves,
    BackupServes,
    Unknown,
    BackupUnknown,
    /// It is ejected or soft-down.
    Failing,
    BackupFailing,
    /// It is hard-down, or soft-down while the pool may not panic: it is only counted.
    Never,
    BackupNever,
}

impl Class {
    fn of(state: State, is_ejected: bool, may_panic: bool, is_backup: bool) -> Self {
        let (ordinary, backup) = match state {
            State::Down(Severity::Soft) if may_panic => (Self::Failing, Self::BackupFailing),
            State::Down(_) => (Self::Never, Self::BackupNever),
            _ if is_ejected => (Self::Failing, Self::BackupFailing),
            State::Up | State::Degraded => (Self::Serves, Self::BackupServes),
            State::Unknown => (Self::Unknown, Self::BackupUnknown),
        };
        if is_backup { backup } else { ordinary }
    }

    fn is_backup(self) -> bool {
        matches!(self, Self::BackupServes | Self::BackupUnknown | Self::BackupFailing | Self::BackupNever)
    }

    fn is_open_to_any(self) -> bool {
        !matches!(self, Self::Never | Self::BackupNever)
    }
}

impl Inputs<'_> {
    /// Computes the standing of a pool.
    #[must_use]
    pub fn pool(&self, id: PoolId) -> PoolStanding {
        let pool = self.topology.pool(id);
        let in_pool =
            |target: &Target| matches!(target, Target::Backend { pool: name, .. } if *name == pool.name);
        let overrides: Vec<_> = self.active_overrides().filter(|it| in_pool(&it.target)).collect();
        let backend = |(index, backend): (usize, &Backend)| {
            let is_it = |target: &Target| matches!(target, Target::Backend { backend: name, .. } if *name == backend.name);
            let addresses = (self.backend_addresses)(BackendRef { pool: id, index: index as u16 });
            let state = addresses.iter().map(|it| it.state).min().unwrap_or_default();
            EndpointStanding { state, action: action(&overrides, is_it), addresses }
        };
        let backends: Arc<[_]> = pool.backends.iter().enumerate().map(backend).collect();
        let PoolPast { mut ejected, starting } = (self.pool_past)(id);
        ejected.retain(|it| {
            let mut all = pool.backends.iter().zip(&*backends);
            all.any(|(backend, standing)| standing.action != Some(Action::Up) && has(backend, standing, it))
        });
        let (open, panic) = open(pool, &backends, &ejected, &starting);
        PoolStanding { backends, open, ejected: ejected.into(), panic }
    }
}

/// Whether an ejected address is one of a backend.
fn has(backend: &Backend, standing: &EndpointStanding, ejected: &Ejected) -> bool {
    let mut addresses = standing.addresses.iter();
    ejected.address.port() == backend.port && addresses.any(|it| it.address == ejected.address.ip())
}

/// What requests may be sent to, and whether that is more than what is healthy.
fn open(
    pool: &Pool,
    backends: &[EndpointStanding],
    ejected: &[Ejected],
    starting: &[(SocketAddr, f64)],
) -> (Arc<[OpenAddress]>, Option<Panic>) {
    let mut offers: Vec<(Class, OpenAddress)> = Vec::new();
    for (index, (backend, standing)) in pool.backends.iter().zip(backends).enumerate() {
        let (false, Some(weight)) = (standing.is_withdrawn(), pool.weight(index)) else { continue };
        let drained_share = standing.action.filter(|it| it.is_partial()).map_or(0.0, Action::drained_share);
        for it in &standing.addresses {
            let state = standing.forced_or(it.used);
            let address = SocketAddr::new(it.address, backend.port);
            let is_ejected = ejected.iter().any(|it| it.address == address);
            let class = Class::of(state, is_ejected, pool.panic.is_some(), backend.backup);
            let degraded = if state == State::Degraded { DEGRADED_FACTOR } else { 1.0 };
            let started = starting.iter().find(|(it, _)| *it == address).map_or(1.0, |(_, part)| *part);
            let hash = pick::Hash::of(address.to_string().as_bytes());
            let weight = weight * degraded * (1.0 - drained_share) * started;
            offers.push((class, OpenAddress { backend: index as u16, address, hash, weight }));
        }
    }
    let best = offers.iter().map(|(class, _)| *class).min().filter(|best| best.is_open_to_any());
    let Some(best) = best else { return Default::default() };
    let panic = panic(pool, best, offers.iter().map(|(class, _)| *class));
    let is_open = |class: Class| match panic {
        Some(_) => class.is_backup() == best.is_backup() && class.is_open_to_any(),
        None => class == best,
    };
    (offers.into_iter().filter(|(class, _)| is_open(*class)).map(|(_, open)| open).collect(), panic)
}

/// Whether too few addresses of the best class are healthy, and others may be used. What is not known yet does not
/// count: it is no reason to use what fails.
fn panic(pool: &Pool, best: Class, classes: impl Iterator<Item = Class>) -> Option<Panic> {
    let (mut healthy, mut failing, mut of) = (0, 0, 0);
    for class in classes.filter(|it| it.is_backup() == best.is_backup()) {
        match class {
            Class::Serves | Class::BackupServes => healthy += 1,
            Class::Failing | Class::BackupFailing => failing += 1,
            Class::Unknown | Class::BackupUnknown => continue,
            Class::Never | Class::BackupNever => {}
        }
        of += 1;
    }
    let share = pool.panic.map_or(0.0, Fraction::get);
    let is_short = match best {
        Class::Serves | Class::BackupServes => (healthy as f64) < share * of as f64 - 1e-9,
        Class::Unknown | Class::BackupUnknown => false,
        _ => true,
    };
    (is_short && failing > 0).then_some(Panic { healthy, of })
}

impl PoolStanding {
    /// Whether requests can be served by a backend that is known to work.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.serving() > 0
    }

    /// How many of the open addresses are known to work.
    #[must_use]
    pub fn serving(&self) -> usize {
        let serves = |it: &&OpenAddress| {
            let standing = &self.backends[usize::from(it.backend)];
            let found = standing.addresses.iter().find(|known| known.address == it.address.ip());
            found.is_some_and(|known| standing.forced_or(known.used).serves())
        };
        self.open.iter().filter(serves).count()
    }

    /// Whether probes or an operator found an address of the pool down.
    #[must_use]
    pub fn is_down(&self, pool: &Pool, address: SocketAddr) -> bool {
        let mut backends = pool.backends.iter().zip(&*self.backends);
        backends.any(|(backend, standing)| {
            let found = standing.addresses.iter().find(|it| it.address == address.ip());
            let is_down = |used| matches!(standing.forced_or(used), State::Down(_));
            backend.port == address.port()
                && found.is_some_and(|it| standing.action == Some(Action::Down) || is_down(it.used))
        })
    }

    /// The addresses of a backend that are ejected.
    pub fn ejected_of(&self, pool: &Pool, index: usize) -> impl Iterator<Item = &Ejected> {
        let (backend, standing) = (&pool.backends[index], &self.backends[index]);
        self.ejected.iter().filter(move |it| has(backend, standing, it))
    }

    /// The addresses that would be open if none were ejected; `None` if these were chosen in panic.
    #[must_use]
    pub fn unless_ejected(&self, pool: &Pool) -> Option<Vec<SocketAddr>> {
        let (open, panic) = open(pool, &self.backends, &[], &[]);
        panic.is_none().then(|| open.iter().map(|it| it.address).collect())
    }

    /// A sentence about the pool's panic.
    #[must_use]
    pub fn panic_alarm(&self, pool: &Pool) -> Option<String> {
        let (panic, name) = (self.panic?, &pool.name);
        Some(format!("pool `{name}` uses every backend that is not drained or hard-down: {panic}"))
    }

    /// Why no address of a backend is open; `None` if one is.
    #[must_use]
    pub fn closed(&self, pool: &Pool, index: usize) -> Option<Closed> {
        if self.open.iter().any(|it| usize::from(it.backend) == index) {
            return None;
        }
        let standing = &self.backends[index];
        if standing.is_withdrawn() {
            let is_forced = standing.action == Some(Action::Down);
            return Some(if is_forced { Closed::ForcedDown } else { Closed::Drained });
        }
        if pool.weight(index).is_none() {
            return Some(Closed::NoWeight);
        }
        let states = standing.addresses.iter().map(|it| standing.forced_or(it.used));
        Some(match states.min() {
            None => Closed::Unresolved,
            Some(State::Down(_)) => Closed::Down,
            Some(_) if self.ejected_of(pool, index).next().is_some() => Closed::Ejected,
            Some(State::Up | State::Degraded) => Closed::Backup,
            Some(State::Unknown) if pool.backends[index].backup && !self.serves() => Closed::Backup,
            Some(State::Unknown) => Closed::Unknown,
        })
    }
}
