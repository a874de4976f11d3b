//! What happened, for logs, `portolan events` and the event stream.

use std::fmt;
use std::net::IpAddr;

use crate::health::State;
use crate::model::{Name, Rule, Subject, Unix};
use crate::standing::{Action, Override};

/// Something that happened once. Steady state makes no events.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Grows by one with each event of a run.
    pub id: u64,
    /// When.
    pub at: Unix,
    /// The epoch of the snapshot in which it shows.
    pub epoch: u64,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// Something changed its state.
    Transition {
        /// What.
        subject: Subject,
        /// The state before.
        from: State,
        /// The state since.
        to: State,
        /// What led to it, in words.
        evidence: String,
    },
    /// An operator set an override.
    Overridden(Override),
    /// An operator removed an override.
    Restored {
        /// The override.
        subject: Override,
        /// Who removed it.
        by: String,
    },
    /// The time of an override is over.
    Expired(Override),
    /// A rule holds a region that probes found down.
    Held {
        /// The region.
        region: String,
        /// The rule.
        rule: Rule,
    },
    /// A rule no longer holds a region.
    Released {
        /// The region.
        region: String,
        /// The rule.
        rule: Rule,
    },
    /// The config was read again and applied.
    Reloaded {
        /// What is probably not as meant; a sentence each.
        warnings: Vec<String>,
        /// Who asked for it.
        by: String,
    },
    /// The config was read again and is bad; the one before still applies.
    ReloadFailed {
        /// Everything wrong with it.
        why: String,
        /// Who asked for it.
        by: String,
    },
    /// The addresses of a host changed, or are known again after a failure.
    Resolved {
        /// The host.
        host: Name,
        /// All of them, sorted.
        addresses: Vec<IpAddr>,
    },
    /// The addresses of a host cannot be had any more; those known before are kept.
    Unresolved {
        /// The host.
        host: Name,
        /// Why not.
        why: String,
        /// What is kept, sorted.
        kept: Vec<IpAddr>,
    },
    /// Something an operator should know of.
    Alarm {
        /// A sentence.
        message: String,
    },
    /// Services that an alarm was about can be served again.
    AllClear {
        /// A sentence.
        message: String,
    },
}

impl EventKind {
    /// The stable name that logs, metrics and the API use.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Transition { .. } => "transition",
            Self::Overridden(_) => "override",
            Self::Restored { .. } => "restore",
            Self::Expired(_) => "expire",
            Self::Held { .. } => "held",
            Self::Released { .. } => "released",
            Self::Reloaded { .. } => "reload",
            Self::ReloadFailed { .. } => "reload_failed",
            Self::Resolved { .. } => "resolved",
            Self::Unresolved { .. } => "unresolved",
            Self::Alarm { .. } => "alarm",
            Self::AllClear { .. } => "all_clear",
        }
    }
}

impl EventKind {
    /// Who asked for it, if somebody did and that is known.
    #[must_use]
    pub fn by(&self) -> Option<&str> {
        match self {
            Self::Overridden(o) => o.by.as_deref(),
            Self::Restored { by, .. } | Self::Reloaded { by, .. } | Self::ReloadFailed { by, .. } => Some(by),
            _ => None,
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transition { subject, from: State::Down(from), to: State::Down(to), evidence } => {
                write!(f, "{subject} still down, {from} -> {to}: {evidence}")
            }
            Self::Transition { subject, from, to, evidence } => {
                write!(f, "{subject} {from} -> {to}: {evidence}")
            }
            Self::Overridden(o) => {
                let by = o.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
                write!(f, "override {}{by}: {} {}{}", o.id, o.action.name(), o.target, details(o))
            }
            Self::Restored { subject: o, by } => {
                write!(f, "override {} removed by {by}: {} {}", o.id, o.action.name(), o.target)
            }
            Self::Expired(o) => write!(f, "override {} expired: {} {}", o.id, o.action.name(), o.target),
            Self::Held { region, rule } => write!(f, "region/{region} fails, but {} holds it", rule.name()),
            Self::Released { region, rule } => {
                write!(f, "region/{region} is no longer held by {}", rule.name())
            }
            Self::Reloaded { warnings, by } => {
                write!(f, "config reloaded by {by}")?;
                warnings.iter().try_for_each(|warning| write!(f, "; warning: {warning}"))
            }
            Self::ReloadFailed { why, by } => {
                let why = why.trim_end();
                write!(f, "config not reloaded by {by}, the one before still applies: {why}")
            }
            Self::Resolved { host, addresses } => write!(f, "{host} has {}", list(addresses)),
            Self::Unresolved { host, why, kept } if kept.is_empty() => {
                write!(f, "{host} cannot be resolved: {why}")
            }
            Self::Unresolved { host, why, kept } => {
                write!(f, "{host} cannot be resolved: {why}; kept: {}", list(kept))
            }
            Self::Alarm { message } | Self::AllClear { message } => f.write_str(message),
        }
    }
}

/// RFC 3339 in UTC, to the second.
#[must_use]
pub fn timestamp(at: Unix) -> Option<String> {
    let millis = i64::try_from(at.0.as_millis()).ok()?;
    jiff::Timestamp::from_millisecond(millis).ok().map(|at| format!("{at:.0}"))
}

fn details(o: &Override) -> String {
    let mut text = String::new();
    if let Action::Drain(share) = o.action
        && o.action.is_partial()
    {
        text += &format!(" for {share} of its clients");
    }
    if let Some(until) = o.until.and_then(timestamp) {
        text += &format!(" until {until}");
    }
    if let Some(reason) = &o.reason {
        text += &format!(" ({reason})");
    }
    text
}

/// Addresses, separated by commas.
fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::health::Severity;
    use crate::model::Target;

    #[test]
    fn sentences() {
        let transition = |from, to| EventKind::Transition {
            subject: Subject::Region("eu-west".into()),
            from,
            to,
            evidence: "connect refused".into(),
        };
        let (soft, hard) = (State::Down(Severity::Soft), State::Down(Severity::Hard));
        let drain = Override {
            id: 3,
            target: Target::Region("eu-west".into()),
            action: "drain 25%".parse().expect("an action"),
            created: Unix(Duration::from_secs(1_800_000_000)),
            until: Some(Unix(Duration::from_secs(1_800_001_800))),
            reason: Some("new kernel".into()),
            by: Some("token ci".into()),
        };
        for (kind, expected) in [
            (transition(State::Up, hard), "region/eu-west up -> down: connect refused"),
            (transition(soft, hard), "region/eu-west still down, soft -> hard: connect refused"),
            (
                EventKind::Overridden(drain),
                "override 3 by token ci: drain region/eu-west for 25% of its clients until 2027-01-15T08:30:00Z (new kernel)",
            ),
        ] {
            assert_eq!(kind.to_string(), expected);
        }
    }
}
