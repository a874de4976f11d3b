//! The pool that a request is forwarded to: what is known of its backends, and which of them the client gets.

use std::net::IpAddr;

use http::{HeaderMap, Method};

use super::super::dto;
use super::{citation, evidence, sticky};
use crate::health::State;
use crate::model::{Balance, Pool, PoolId, Protocol, Subject, Target};
use crate::pick::{Load, Picker, client_key};
use crate::snapshot::Snapshot;
use crate::standing::{Action, Closed, Ejected, EndpointStanding, OpenAddress, Override, PoolStanding};
use crate::state::{CheckStatus, timestamp};

/// A pool, seen by a client.
pub(super) struct Explained<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) checks: &'a [CheckStatus],
    pub(super) overrides: &'a [Override],
    pub(super) id: PoolId,
    pub(super) client: IpAddr,
    pub(super) method: &'a Method,
    pub(super) headers: &'a HeaderMap,
}

impl Explained<'_> {
    fn settings(&self) -> &Pool {
        self.snapshot.plan.topology.pool(self.id)
    }

    fn standing(&self) -> &PoolStanding {
        self.snapshot.standing.pool(self.id)
    }

    pub(super) fn pool(&self, protocol: Protocol) -> dto::RequestPool {
        let pool = self.settings();
        let open = &self.standing().open;
        let address = |it: &OpenAddress| dto::BackendAddress {
            backend: pool.backends[usize::from(it.backend)].name.clone(),
            address: it.address,
        };
        let cookie = sticky::read(pool, self.standing(), self.headers);
        let bound = cookie.as_ref().and_then(|it| it.backend.as_ref());
        let bound = bound.and_then(|bound| open.iter().find(|it| it.address == bound.address));
        let how = match (open.len(), protocol) {
            (0, Protocol::Http) => "no backend can be used: the client gets 503".into(),
            (0, Protocol::Tcp | Protocol::TlsPassthrough) => {
                "no backend can be used: the connection is closed".into()
            }
            (0, Protocol::Udp) => "no backend can be used: the datagram is dropped".into(),
            _ if bound.is_some() => "the client's cookie names it".into(),
            (1, _) => "the only one in use".into(),
            _ => how(pool.balance, self.client),
        };
        dto::RequestPool {
            name: pool.name.clone(),
            balance: pool.balance.name().into(),
            backends: (0..pool.backends.len()).map(|index| self.backend(index)).collect(),
            candidates: open.iter().map(address).collect(),
            chosen: bound.or_else(|| self.chosen()).map(address),
            how,
            hedge: if protocol == Protocol::Http { self.hedge(bound.is_some()) } else { None },
            sticky: cookie,
        }
    }

    /// When another backend gets the request, too, if it has no body.
    fn hedge(&self, is_bound: bool) -> Option<String> {
        let (pool, open) = (self.settings(), &self.standing().open);
        let delay = pool.hedge.filter(|_| open.len() > 1)?;
        Some(match (self.method.is_safe(), is_bound) {
            (true, false) => {
                format!("without a response after {delay:?}, another backend gets the request, too")
            }
            (true, true) => "none: the client's cookie keeps it with its backend".into(),
            (false, _) => format!("none: a {} may change something", self.method),
        })
    }

    /// The backend that only the client's address decides on, or that is the only one.
    fn chosen(&self) -> Option<&OpenAddress> {
        let (balance, open) = (self.settings().balance, &self.standing().open);
        if open.len() > 1 && !matches!(balance, Balance::IpHash | Balance::Maglev) {
            return None;
        }
        let candidates = open.iter().map(OpenAddress::candidate).collect();
        let mut picker = Picker::new(balance, candidates, 0);
        let index = picker.pick(client_key(self.client), &|_| Load::default(), &|_| false)?;
        open.get(index)
    }

    fn backend(&self, index: usize) -> dto::RequestBackend {
        let pool = self.settings();
        let (backend, standing) = (&pool.backends[index], &self.standing().backends[index]);
        let target = Target::Backend { pool: pool.name.clone(), backend: backend.name.clone() };
        let overridden = self.overrides.iter().find(|it| it.target == target);
        let closed = self.standing().closed(pool, index);
        let note = match closed {
            Some(closed) => self.why_not_used(index, closed, overridden),
            None => self.usage(index, standing, overridden),
        };
        dto::RequestBackend {
            name: backend.name.clone(),
            verdict: standing.state.into(),
            weight: backend.weight.0,
            backup: backend.backup,
            used: closed.is_none(),
            overridden: overridden.map(Into::into),
            note,
        }
    }

    fn why_not_used(&self, index: usize, closed: Closed, overridden: Option<&Override>) -> String {
        let backend = &self.settings().backends[index];
        match closed {
            Closed::Drained => format!("drained by an operator{}", cited(overridden)),
            Closed::ForcedDown => format!("forced down by an operator{}", cited(overridden)),
            Closed::NoWeight => "weight 0".into(),
            Closed::Unresolved => {
                let host = backend.resolved_host().map(ToString::to_string).unwrap_or_default();
                format!("the addresses of {host} are not known yet")
            }
            Closed::Down => self.evidence(index).unwrap_or_else(|| "down".into()),
            Closed::Ejected => self.ejections(index),
            Closed::Backup => "a backup, and others are in use".into(),
            Closed::Unknown => "not probed yet, and others are known to be up".into(),
        }
    }

    /// What is special about a backend that is used.
    fn usage(&self, index: usize, standing: &EndpointStanding, overridden: Option<&Override>) -> String {
        let mut notes = Vec::new();
        match standing.action {
            Some(Action::Up) => notes.push(format!("forced up by an operator{}", cited(overridden))),
            Some(action) if action.is_partial() => {
                let share = action.drained_share() * 100.0;
                notes.push(format!("a drain takes {share:.0}% of its weight{}", cited(overridden)));
            }
            _ => {}
        }
        let is_forced = standing.action == Some(Action::Up);
        match standing.addresses.iter().map(|it| it.used).min() {
            _ if is_forced => {}
            Some(State::Degraded) => {
                let evidence = self.evidence(index).map(|it| format!(": {it}")).unwrap_or_default();
                notes.push(format!("degraded, at half its weight{evidence}"));
            }
            Some(State::Unknown) => notes.push("not probed yet, and nothing is known to be up".into()),
            Some(used) if used != standing.state => {
                notes.push("an earlier verdict is kept: this node cannot see it reliably".into());
            }
            _ => {}
        }
        let panic = self.standing().panic;
        match standing.addresses.iter().map(|it| it.used).min() {
            Some(State::Down(_)) if !is_forced => {
                let evidence = self.evidence(index).unwrap_or_default();
                notes.extend(panic.map(|panic| format!("fails, but is used ({panic}): {evidence}")));
            }
            _ => {}
        }
        let ejections = self.ejections(index);
        if !ejections.is_empty() {
            let used = panic.map(|panic| format!(", but used ({panic})")).unwrap_or_default();
            notes.push(format!("{ejections}{used}"));
        }
        if self.settings().backends[index].backup {
            notes.push("a backup: nothing else can be used".into());
        }
        let open = self.standing().open.iter().filter(|it| usize::from(it.backend) == index).count();
        let count = standing.addresses.len();
        if open < count {
            notes.push(format!("{open} of its {count} addresses are in use"));
        }
        notes.join("; ")
    }

    /// Which addresses of a backend are ejected, until when and why.
    fn ejections(&self, index: usize) -> String {
        let ejected: Vec<_> = self.standing().ejected_of(self.settings(), index).collect();
        let is_all = self.standing().backends[index].addresses.len() == ejected.len();
        let note = |it: &&Ejected| {
            let which = if is_all { String::new() } else { format!("{} is ", it.address) };
            format!("{which}ejected until {}: {}", timestamp(it.until), it.evidence)
        };
        ejected.iter().map(note).collect::<Vec<_>>().join("; ")
    }

    /// What the check found that decides about it, if it is not up.
    fn evidence(&self, index: usize) -> Option<String> {
        let pool = self.settings();
        let of = |check: &&CheckStatus| match &check.id.subject {
            Subject::Backend { pool: name, backend, .. } => {
                **name == pool.name && **backend == pool.backends[index].name
            }
            _ => false,
        };
        evidence::of_any(self.checks.iter().filter(of)).map(ToString::to_string)
    }
}

fn cited(overridden: Option<&Override>) -> String {
    overridden.map(|it| format!(": {}", citation(it))).unwrap_or_default()
}

/// How one of several backends is chosen.
fn how(balance: Balance, client: IpAddr) -> String {
    let deciding = match client {
        IpAddr::V4(_) => "the client's address decides",
        IpAddr::V6(_) => "the client's /64 decides",
    };
    match balance {
        Balance::RoundRobin => "they take turns, whatever their weights".into(),
        Balance::Weighted => "they take turns by their weights".into(),
        Balance::LeastConnections => "the one with the fewest requests in progress for its weight".into(),
        Balance::LeastTime => {
            "the one with the least time to the first byte × requests in progress, for its weight".into()
        }
        Balance::IpHash => deciding.into(),
        Balance::TwoChoices => "the less busy of two that are drawn".into(),
        Balance::Maglev => format!("{deciding}, by a table that few changes disturb"),
    }
}
