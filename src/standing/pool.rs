//! Computes a pool's standing from the states of its backends and from overrides.

use std::net::SocketAddr;
use std::sync::Arc;

use super::region::action;
use super::{Action, DEGRADED_FACTOR, EndpointStanding, Inputs};
use crate::health::State;
use crate::model::{BackendRef, Pool, PoolId, Target};
use crate::pick;

/// The standing of a pool of backends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolStanding {
    /// By the index of the backend.
    pub backends: Arc<[EndpointStanding]>,
    /// What requests may be sent to: what serves, or else the backups that serve, or else what has no result yet. Empty
    /// if all are down or withdrawn.
    pub open: Arc<[OpenAddress]>,
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
}

impl Inputs<'_> {
    /// Computes the standing of a pool.
    #[must_use]
    pub fn pool(&self, id: PoolId) -> PoolStanding {
        let pool = self.topology.pool(id);
        let in_pool =
            |target: &Target| matches!(target, Target::Backend { pool: name, .. } if *name == pool.name);
        let overrides: Vec<_> = self.active_overrides().filter(|it| in_pool(&it.target)).collect();
        let backend = |(index, backend): (usize, &crate::model::Backend)| {
            let is_it = |target: &Target| matches!(target, Target::Backend { backend: name, .. } if *name == backend.name);
            let addresses = (self.backend_addresses)(BackendRef { pool: id, index: index as u16 });
            let state = addresses.iter().map(|it| it.state).min().unwrap_or_default();
            EndpointStanding { state, action: action(&overrides, is_it), addresses }
        };
        let backends: Arc<[_]> = pool.backends.iter().enumerate().map(backend).collect();
        let open = self.open(id, &backends);
        PoolStanding { backends, open }
    }

    fn open(&self, id: PoolId, backends: &[EndpointStanding]) -> Arc<[OpenAddress]> {
        let pool = self.topology.pool(id);
        let mut offers: Vec<(Class, OpenAddress)> = Vec::new();
        for (index, (backend, standing)) in pool.backends.iter().zip(backends).enumerate() {
            let (false, Some(weight)) = (standing.is_withdrawn(), pool.weight(index)) else { continue };
            let drained_share =
                standing.action.filter(|it| it.is_partial()).map_or(0.0, Action::drained_share);
            for it in &standing.addresses {
                let state = standing.forced_or(it.used);
                let class = match (state, backend.backup) {
                    (State::Up | State::Degraded, false) => Class::Serves,
                    (State::Up | State::Degraded, true) => Class::BackupServes,
                    (State::Unknown, false) => Class::Unknown,
                    (State::Unknown, true) => Class::BackupUnknown,
                    (State::Down(_), _) => continue,
                };
                let factor = if state == State::Degraded { DEGRADED_FACTOR } else { 1.0 };
                let address = SocketAddr::new(it.address, backend.port);
                let hash = pick::Hash::of(address.to_string().as_bytes());
                let weight = weight * factor * (1.0 - drained_share);
                offers.push((class, OpenAddress { backend: index as u16, address, hash, weight }));
            }
        }
        let best = offers.iter().map(|(class, _)| *class).min();
        offers.into_iter().filter(|(class, _)| Some(*class) == best).map(|(_, open)| open).collect()
    }
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
            Some(State::Up | State::Degraded) => Closed::Backup,
            Some(State::Unknown) if pool.backends[index].backup && !self.serves() => Closed::Backup,
            Some(State::Unknown) => Closed::Unknown,
        })
    }
}
