//! What the engine is asked to do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, oneshot};

use super::checks::CheckStatus;
use super::event::Event;
use crate::model::{Fraction, Target, Topology, Unix};
use crate::prepare::Prepared;
use crate::standing::{Action, Override};

/// One request to the engine, and where its answer goes.
pub(super) enum Command {
    Override { request: OverrideRequest, reply: oneshot::Sender<Result<Applied, Rejection>> },
    Restore { id: u64, by: String, reply: oneshot::Sender<Option<Applied>> },
    Overrides { reply: oneshot::Sender<Vec<Override>> },
    Checks { reply: oneshot::Sender<Vec<CheckStatus>> },
    Events { reply: oneshot::Sender<EventFeed> },
    Commit { prepared: Box<Prepared>, warnings: Vec<String>, by: String, reply: oneshot::Sender<Reloaded> },
    ReloadFailed { why: String, by: String },
    Stop { reply: oneshot::Sender<()> },
}

/// The events kept and those to come, without a gap between them.
#[derive(Debug)]
pub struct EventFeed {
    /// Oldest first.
    pub kept: Vec<Arc<Event>>,
    /// What comes after them.
    pub live: broadcast::Receiver<Arc<Event>>,
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct OverrideRequest {
    /// About what.
    pub target: Target,
    /// What.
    pub action: Action,
    /// The share of clients that a drain keeps away.
    pub share: Fraction,
    /// For how long; without it until taken back.
    pub lasts: Option<Duration>,
    /// Why.
    pub reason: Option<String>,
    /// Whether safety rules are set aside.
    pub override_safety: bool,
    /// Who asks.
    pub by: String,
}

/// An override that was taken, or taken back.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// It.
    pub subject: Override,
    /// What had been said about the same target before.
    pub replaced: Option<Override>,
    /// The epoch from which on it holds.
    pub epoch: u64,
    /// Why it could not be made durable, if it could not. It holds all the same, until the next restart.
    pub not_durable: Option<String>,
}

/// A config that was read again and is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// The epoch from which on it holds.
    pub epoch: u64,
    /// What works, but probably not as meant, and what a running node cannot change; a sentence each.
    pub warnings: Vec<String>,
}

/// Why an override was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The config has no such target; a sentence that says what there is.
    NoSuchTarget(String),
    /// The request contradicts itself.
    Senseless(String),
    /// A safety rule forbids it.
    Unsafe(String),
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchTarget(why) | Self::Senseless(why) => f.write_str(why),
            Self::Unsafe(why) => {
                write!(f, "refused by a safety rule: {why}; --override-safety does it anyway")
            }
        }
    }
}

impl OverrideRequest {
    /// The override it asks for, if the topology has its target.
    pub(super) fn accept(self, topology: &Topology, id: u64, now: Unix) -> Result<Override, Rejection> {
        check_target(topology, &self.target)?;
        if self.action != Action::Drain && self.share != Fraction::WHOLE {
            return Err(Rejection::Senseless(format!("a share goes with drain, not with {}", self.action)));
        }
        if self.share.get() == 0.0 {
            return Err(Rejection::Senseless("a drain of 0% changes nothing: use restore".into()));
        }
        if self.lasts.is_some_and(|lasts| lasts.is_zero()) {
            return Err(Rejection::Senseless("it would end at once: give a longer time".into()));
        }
        Ok(Override {
            id,
            target: self.target,
            action: self.action,
            share: self.share,
            created: now,
            until: self.lasts.map(|lasts| now.after(lasts)),
            reason: self.reason,
            by: Some(self.by),
        })
    }
}

/// Whether the topology has a target.
pub(super) fn check_target(topology: &Topology, target: &Target) -> Result<(), Rejection> {
    let one_of = |names: Vec<String>| if names.is_empty() { "none".into() } else { names.join(", ") };
    let regions = || one_of(topology.regions.iter().map(|region| region.name.clone()).collect());
    let region_of = |name: &str| {
        topology.region_named(name).map(|id| topology.region(id)).ok_or_else(|| {
            Rejection::NoSuchTarget(format!("there is no region `{name}`; the regions are {}", regions()))
        })
    };
    match target {
        Target::Region(name) => region_of(name).map(|_| ()),
        Target::Endpoint { region, endpoint } => {
            let endpoints = &region_of(region)?.endpoints;
            if endpoints.iter().any(|e| e.name == *endpoint) {
                return Ok(());
            }
            let names = one_of(endpoints.iter().map(|e| e.name.clone()).collect());
            Err(Rejection::NoSuchTarget(format!(
                "region `{region}` has no endpoint `{endpoint}`; its endpoints are {names}"
            )))
        }
        Target::Service { service, region } => {
            let mut ids = topology.services_named(service).peekable();
            if ids.peek().is_none() {
                return Err(Rejection::NoSuchTarget(format!("there is no service `{service}`")));
            }
            region_of(region)?;
            let members = ids.flat_map(|id| &topology.service(id).members);
            let mut names: Vec<String> = Vec::new();
            for name in members.map(|member| &topology.region(member.region).name) {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
            if names.contains(region) {
                return Ok(());
            }
            Err(Rejection::NoSuchTarget(format!(
                "service `{service}` does not use region `{region}`; it uses {}",
                one_of(names)
            )))
        }
    }
}
