//! Requests for overrides, and the reasons to refuse them.

use std::fmt;
use std::time::Duration;

use crate::model::{Target, Topology, Unix};
use crate::standing::{Action, Override};

/// The most days that an override may last: a leap year. What should last longer belongs in the config.
const MOST_DAYS: u64 = 366;

/// The most bytes of a reason. It is kept in events and in the journal, and shown in `status` and `explain`.
const LONGEST_REASON: usize = 1024;

/// The end of a refusal by a safety rule, for clients of the API. The command line says the same in its own terms.
pub const DO_IT_ANYWAY: &str = "; set `override_safety` to do it anyway";

/// An operator's request for an override.
#[derive(Clone, Debug, PartialEq)]
pub struct OverrideRequest {
    /// The target.
    pub target: Target,
    /// What to do with it.
    pub action: Action,
    /// How long it lasts; `None` if until it is removed.
    pub lasts: Option<Duration>,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// Whether to ignore safety rules.
    pub override_safety: bool,
    /// Who asks: "token NAME", "user NAME" or "uid NUMBER".
    pub by: String,
}

/// Why a change of overrides was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The config has no such target, or there is no such override. A sentence, with what exists instead where known.
    NotFound(String),
    /// The request makes no sense. A sentence that explains why.
    Invalid(String),
    /// A safety rule forbids it. The rule's explanation.
    Unsafe(String),
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(why) | Self::Invalid(why) => f.write_str(why),
            Self::Unsafe(why) => {
                write!(f, "{why}{DO_IT_ANYWAY}")
            }
        }
    }
}

impl OverrideRequest {
    /// Validates the request and makes the override.
    pub(super) fn accept(self, topology: &Topology, id: u64, now: Unix) -> Result<Override, Rejection> {
        check_target(topology, &self.target)?;
        if matches!(self.action, Action::Drain(share) if share.get() == 0.0) {
            return Err(Rejection::Invalid("a drain of 0% changes nothing: use restore".into()));
        }
        if self.lasts.is_some_and(|lasts| lasts.is_zero()) {
            return Err(Rejection::Invalid("it would expire immediately: use a longer time".into()));
        }
        if self.lasts.is_some_and(|lasts| lasts > Duration::from_secs(MOST_DAYS * 24 * 60 * 60)) {
            return Err(Rejection::Invalid(format!("an override may last at most {MOST_DAYS} days")));
        }
        if let Some(bytes) = self.reason.as_ref().map(String::len).filter(|bytes| *bytes > LONGEST_REASON) {
            return Err(Rejection::Invalid(format!(
                "the reason is {bytes} bytes long: at most {LONGEST_REASON} are allowed"
            )));
        }
        Ok(Override {
            id,
            target: self.target,
            action: self.action,
            created: now,
            until: self.lasts.map(|lasts| now.after(lasts)),
            reason: self.reason,
            by: Some(self.by),
        })
    }
}

/// Checks that the topology has a target.
///
/// # Errors
/// [`Rejection::NotFound`] with a sentence that lists what exists instead.
pub fn check_target(topology: &Topology, target: &Target) -> Result<(), Rejection> {
    let one_of = |names: Vec<String>| if names.is_empty() { "none".into() } else { names.join(", ") };
    let regions = || one_of(topology.regions.iter().map(|region| region.name.clone()).collect());
    let region_of = |name: &str| {
        topology.region_named(name).map(|id| topology.region(id)).ok_or_else(|| {
            Rejection::NotFound(format!("there is no region `{name}`; the regions are {}", regions()))
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
            Err(Rejection::NotFound(format!(
                "region `{region}` has no endpoint `{endpoint}`; its endpoints are {names}"
            )))
        }
        Target::Backend { pool, backend } => {
            let Some(id) = topology.pool_named(pool) else {
                let names = one_of(topology.pools.iter().map(|pool| pool.name.clone()).collect());
                return Err(Rejection::NotFound(format!("there is no pool `{pool}`; the pools are {names}")));
            };
            let backends = &topology.pool(id).backends;
            if backends.iter().any(|it| it.name == *backend) {
                return Ok(());
            }
            let names = one_of(backends.iter().map(|it| it.name.clone()).collect());
            Err(Rejection::NotFound(format!(
                "pool `{pool}` has no backend `{backend}`; its backends are {names}"
            )))
        }
        Target::Service { service, region } => {
            let mut ids = topology.services_named(service).peekable();
            if ids.peek().is_none() {
                return Err(Rejection::NotFound(format!("there is no service `{service}`")));
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
            Err(Rejection::NotFound(format!(
                "service `{service}` does not use region `{region}`; it uses {}",
                one_of(names)
            )))
        }
    }
}
