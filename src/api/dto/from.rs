//! From what the core knows to what the API reports.

use super::{
    Action, Applied, Event, FileShare, Files, Listener, Override, Rank, Reloaded, Role, Rule, ServiceType,
    Share, StageName, Usable, Verdict,
};
use crate::config;
use crate::engine;
use crate::health::State;
use crate::model::{self, RankKind, ServiceKind};
use crate::net::handshakes::Distance;
use crate::net::limits::{self, Occupancy};
use crate::route;
use crate::standing;
use crate::state::timestamp;
use crate::steer;

impl From<&limits::Files> for Files {
    fn from(files: &limits::Files) -> Self {
        let share =
            |limit: usize, in_use: &Occupancy| FileShare { limit: limit as u64, open: in_use.count() as u64 };
        Self {
            limit: files.budget.limit,
            open: limits::Files::open().map(|count| count as u64),
            reserved: files.budget.reserved,
            dns_tcp: share(files.budget.dns_tcp, &files.dns_tcp),
            proxy: (files.budget.proxy > 0).then(|| share(files.proxy.most_clients(), &files.proxy.clients)),
            api: share(files.budget.api, &files.api),
        }
    }
}

impl From<&route::Listener> for Listener {
    fn from(listener: &route::Listener) -> Self {
        Self {
            name: listener.name.clone(),
            protocol: listener.protocol.name().into(),
            tls: listener.tls.is_some(),
            addresses: listener.addresses.to_vec(),
        }
    }
}

impl From<config::Role> for Role {
    fn from(role: config::Role) -> Self {
        match role {
            config::Role::Viewer => Self::Viewer,
            config::Role::Operator => Self::Operator,
            config::Role::Admin => Self::Admin,
        }
    }
}

impl From<State> for Verdict {
    fn from(state: State) -> Self {
        match state {
            State::Up => Self::Up,
            State::Degraded => Self::Degraded,
            State::Unknown => Self::Unknown,
            State::Down(_) => Self::Down,
        }
    }
}

impl From<standing::Usable> for Usable {
    fn from(usable: standing::Usable) -> Self {
        match usable {
            standing::Usable::Yes(factor) if factor < 1.0 => Self::Reduced,
            standing::Usable::Yes(_) => Self::Yes,
            standing::Usable::IfNothingElse => Self::IfNothingElse,
            standing::Usable::No(_) => Self::No,
        }
    }
}

impl From<standing::Action> for Action {
    fn from(action: standing::Action) -> Self {
        match action {
            standing::Action::Drain(_) => Self::Drain,
            standing::Action::Up => Self::Up,
            standing::Action::Down => Self::Down,
        }
    }
}

/// The share of clients that an override concerns.
impl From<standing::Action> for Share {
    fn from(action: standing::Action) -> Self {
        match action {
            standing::Action::Drain(share) => Self(share),
            standing::Action::Up | standing::Action::Down => Self::WHOLE,
        }
    }
}

impl From<model::Rule> for Rule {
    fn from(rule: model::Rule) -> Self {
        match rule {
            model::Rule::MinRegions => Self::MinRegions,
            model::Rule::SuspectSelf => Self::SuspectSelf,
        }
    }
}

impl From<&ServiceKind> for ServiceType {
    fn from(kind: &ServiceKind) -> Self {
        match kind {
            ServiceKind::Address { .. } => Self::Address,
            ServiceKind::Cname => Self::Cname,
            ServiceKind::Srv { .. } => Self::Srv,
            ServiceKind::Mx { .. } => Self::Mx,
        }
    }
}

impl From<RankKind> for Rank {
    fn from(rank: RankKind) -> Self {
        match rank {
            RankKind::Priority => Self::Priority,
            RankKind::Distance => Self::Distance,
            RankKind::Latency => Self::Latency,
            RankKind::Geo => Self::Geo,
            RankKind::None => Self::None,
        }
    }
}

impl From<steer::Stage> for StageName {
    fn from(stage: steer::Stage) -> Self {
        match stage {
            steer::Stage::Fence => Self::Fence,
            steer::Stage::Rank => Self::Rank,
            steer::Stage::TieGroups => Self::TieGroups,
            steer::Stage::Eligible => Self::Eligible,
            steer::Stage::Share => Self::Share,
            steer::Stage::Ttl => Self::Ttl,
        }
    }
}

impl From<&standing::Override> for Override {
    fn from(o: &standing::Override) -> Self {
        Self {
            id: o.id,
            target: o.target.to_string(),
            action: o.action.into(),
            share: o.action.into(),
            created: timestamp(o.created),
            until: o.until.map(timestamp),
            reason: o.reason.clone(),
            by: o.by.clone(),
        }
    }
}

impl From<engine::Applied> for Applied {
    fn from(applied: engine::Applied) -> Self {
        Self {
            subject: (&applied.subject).into(),
            replaced: applied.replaced.as_ref().map(Into::into),
            epoch: applied.epoch,
            no_effect: applied.no_effect,
            not_durable: applied.not_durable,
        }
    }
}

impl From<engine::Reloaded> for Reloaded {
    fn from(engine::Reloaded { epoch, warnings, .. }: engine::Reloaded) -> Self {
        Self { epoch, warnings }
    }
}

impl Event {
    /// `None` if this version does not know the name of the event.
    pub(crate) fn of(record: &model::EventRecord) -> Option<Self> {
        let fields = record.fields.iter();
        Some(Self {
            id: record.id,
            at: timestamp(record.at),
            epoch: record.epoch,
            event: serde_json::from_value(record.name.clone().into()).ok()?,
            message: record.message.clone(),
            fields: fields.map(|(name, value)| (name.clone(), value.clone())).collect(),
        })
    }
}

impl From<(ipnet::IpNet, Distance)> for super::Handshakes {
    fn from((network, distance): (ipnet::IpNet, Distance)) -> Self {
        let millis = |time: std::time::Duration| time.as_micros() as f64 / 1000.0;
        Self {
            network: network.to_string(),
            handshakes: distance.handshakes,
            rtt_ms: millis(distance.average),
            least_ms: millis(distance.least),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::EventName;
    use super::*;
    use crate::state::{self, EventKind, event_samples};

    #[test]
    fn every_event_has_its_name_and_its_fields() {
        for kind in event_samples() {
            let event = state::Event { id: 7, at: model::Unix::default(), epoch: 5, kind };
            let dto = Event::of(&event.record()).expect("a name that the API has");
            assert_eq!(dto.event.to_string(), event.kind.name());
            assert_eq!(dto.message, event.kind.to_string());
            assert_eq!(dto.fields.len(), event.kind.fields().len(), "{}: no field twice", dto.event);
        }
    }

    #[test]
    fn there_is_a_sample_of_every_event() {
        let error = serde_json::from_str::<EventName>("\"none\"").unwrap_err().to_string();
        let (_, names) = error.split_once("expected one of ").expect("serde lists what it expects");
        let names: BTreeSet<&str> = names.split('`').skip(1).step_by(2).collect();
        let kinds = event_samples();
        // Only in a stream: nothing has happened.
        let all = kinds.iter().map(EventKind::name).chain(["missed"]);
        assert_eq!(names, all.collect());
    }

    #[test]
    fn the_documentation_lists_the_fields_of_every_event() {
        let page = include_str!("../../../docs/operations.md");
        for kind in event_samples() {
            let row = page.lines().find(|line| line.starts_with(&format!("| `{}` |", kind.name())));
            let row = row.unwrap_or_else(|| panic!("{} is not in the table of events", kind.name()));
            let listed = row.trim_end_matches('|').rsplit('|').next().expect("a cell").trim();
            let fields: Vec<&str> = kind.fields().iter().map(|(name, _)| *name).collect();
            assert_eq!(listed, fields.join(", "), "{}", kind.name());
        }
    }

    #[test]
    fn the_documentation_of_the_shape_lists_every_field() {
        let source = include_str!("mod.rs");
        let (_, rest) = source.split_once("/// The details by name: ").expect("the fields of an event");
        let (listed, _) = rest.split_once('.').expect("the end of the list");
        let listed: BTreeSet<&str> = listed.split(',').map(|it| it.trim_matches(['/', ' ', '\n'])).collect();
        let all = event_samples();
        let fields = all.iter().flat_map(EventKind::fields).map(|(name, _)| name).collect();
        assert_eq!(listed, fields);
    }
}
