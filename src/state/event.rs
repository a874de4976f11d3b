//! Events for logs, `portolan events` and the event stream.

#[cfg(test)]
mod samples;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::health::State;
use crate::model::{EventRecord, Fraction, Name, Rule, Subject, Unix};
use crate::standing::{Action, Override};
#[cfg(test)]
pub(crate) use samples::samples;

/// A change at a point in time. No events are emitted while nothing changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Incremented with each event of a run, and greater than those of earlier runs.
    pub id: u64,
    /// When it happened.
    pub at: Unix,
    /// The epoch of the first snapshot that includes the change.
    pub epoch: u64,
    /// What happened.
    pub kind: EventKind,
}

/// How the run before ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastStop {
    /// It was stopped.
    Clean,
    /// Nothing says that it was stopped: it was killed, crashed, or could not write that to the journal.
    Unclean,
}

impl LastStop {
    /// The stable name that logs and the API use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Unclean => "unclean",
        }
    }

    /// How the run ended whose events these are, oldest first; `None` if none of them says that a node started or stopped.
    #[must_use]
    pub fn of(events: &[EventRecord]) -> Option<Self> {
        events.iter().rev().find_map(|event| match &*event.name {
            STOPPED => Some(Self::Clean),
            STARTED => Some(Self::Unclean),
            _ => None,
        })
    }
}

const STARTED: &str = "node_started";
const STOPPED: &str = "node_stopped";

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// The node has started.
    Started {
        /// The version of the program.
        version: &'static str,
        /// How the run before ended, if that is known.
        last_stop: Option<LastStop>,
    },
    /// The node stops: it has answered its last client.
    Stopped {
        /// Who asked for it: the name of a signal.
        by: String,
    },
    /// An address or a region changed its state.
    Transition {
        /// The address or region.
        subject: Subject,
        /// The old state.
        from: State,
        /// The new state.
        to: State,
        /// Why, as a clause.
        evidence: String,
    },
    /// An address of a backend was ejected from its pool, because its requests fail.
    Ejected {
        /// The address.
        subject: Subject,
        /// The same with its port.
        address: SocketAddr,
        /// For how long.
        time: Duration,
        /// When it returns.
        until: Unix,
        /// Why, as a clause.
        evidence: String,
    },
    /// An address that was ejected is used again.
    Returned {
        /// The address.
        subject: Subject,
        /// Why, as a clause.
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
    /// An override expired.
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
    /// The config was reloaded.
    Reloaded {
        /// Probable mistakes, one sentence each.
        warnings: Vec<String>,
        /// Who asked for the reload.
        by: String,
    },
    /// A reload failed because of mistakes in the config; the previous config still applies.
    ReloadFailed {
        /// All mistakes in it.
        why: String,
        /// Who asked for the reload.
        by: String,
    },
    /// The addresses of a host changed, or it can be resolved again.
    Resolved {
        /// The host.
        host: Name,
        /// All its addresses, sorted.
        addresses: Vec<IpAddr>,
    },
    /// A host can no longer be resolved; the addresses known before are kept.
    Unresolved {
        /// The host.
        host: Name,
        /// The reason.
        why: String,
        /// The addresses that are kept, sorted.
        kept: Vec<IpAddr>,
    },
    /// The backends of a pool that are discovered have changed.
    Discovered {
        /// The pool.
        pool: String,
        /// All that were discovered, sorted.
        backends: Vec<String>,
    },
    /// The node obtained a certificate by ACME, the first or a new one.
    Issued {
        /// The names that it is for.
        names: Vec<String>,
        /// The authority that issued it, as the certificate names it.
        ca: String,
        /// When it expires.
        expires: Unix,
    },
    /// A condition that needs an operator's attention.
    Alarm {
        /// The message, a sentence.
        message: String,
    },
    /// The reason for an alarm is gone.
    AllClear {
        /// The message, a sentence.
        message: String,
    },
}

impl Event {
    /// The event as text.
    #[must_use]
    pub fn record(&self) -> EventRecord {
        let fields = self.kind.fields().into_iter();
        EventRecord {
            id: self.id,
            at: self.at,
            epoch: self.epoch,
            name: self.kind.name().to_owned(),
            message: EventRecord::text(self.kind.to_string()),
            fields: fields.map(|(name, value)| (name.to_owned(), EventRecord::text(value))).collect(),
        }
    }
}

impl EventKind {
    /// The stable name that logs and the API use.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => STARTED,
            Self::Stopped { .. } => STOPPED,
            Self::Transition { .. } => "transition",
            Self::Ejected { .. } => "ejected",
            Self::Returned { .. } => "returned",
            Self::Overridden(_) => "override",
            Self::Restored { .. } => "restore",
            Self::Expired(_) => "expire",
            Self::Held { .. } => "held",
            Self::Released { .. } => "released",
            Self::Reloaded { .. } => "reload",
            Self::ReloadFailed { .. } => "reload_failed",
            Self::Resolved { .. } => "resolved",
            Self::Unresolved { .. } => "unresolved",
            Self::Discovered { .. } => "discovered",
            Self::Issued { .. } => "issued",
            Self::Alarm { .. } => "alarm",
            Self::AllClear { .. } => "all_clear",
        }
    }

    /// The details with their stable names, for logs and the API. Those without a value are left out.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let fields: Vec<(&'static str, Option<String>)> = match self {
            Self::Started { version, last_stop } => vec![
                ("version", Some((*version).into())),
                ("last_stop", last_stop.map(|how| how.name().into())),
            ],
            Self::Stopped { by } => vec![("by", Some(by.clone()))],
            Self::Transition { subject, from, to, evidence } => vec![
                ("subject", Some(subject.to_string())),
                ("from", Some(from.to_string())),
                ("to", Some(to.to_string())),
                ("severity", to.severity().map(|severity| severity.to_string())),
                ("evidence", Some(evidence.clone())),
            ],
            Self::Ejected { subject, until, evidence, .. } => vec![
                ("subject", Some(subject.to_string())),
                ("until", Some(timestamp(*until))),
                ("evidence", Some(evidence.clone())),
            ],
            Self::Returned { subject, evidence } => {
                vec![("subject", Some(subject.to_string())), ("evidence", Some(evidence.clone()))]
            }
            Self::Overridden(o) => override_fields(o, o.by.clone()),
            Self::Restored { subject, by } => override_fields(subject, Some(by.clone())),
            Self::Expired(o) => override_fields(o, None),
            Self::Held { region, rule } | Self::Released { region, rule } => {
                vec![("region", Some(region.clone())), ("rule", Some(rule.name().into()))]
            }
            Self::Reloaded { warnings, by } => {
                let warnings = (!warnings.is_empty()).then(|| warnings.join("\n"));
                vec![("warnings", warnings), ("by", Some(by.clone()))]
            }
            Self::ReloadFailed { why, by } => vec![("why", Some(why.clone())), ("by", Some(by.clone()))],
            Self::Resolved { host, addresses } => {
                vec![("host", Some(host.to_string())), ("addresses", Some(list(addresses, " ")))]
            }
            Self::Unresolved { host, why, kept } => vec![
                ("host", Some(host.to_string())),
                ("why", Some(why.clone())),
                ("kept", (!kept.is_empty()).then(|| list(kept, " "))),
            ],
            Self::Discovered { pool, backends } => {
                vec![("pool", Some(pool.clone())), ("backends", Some(backends.join(" ")))]
            }
            Self::Issued { names, ca, expires } => vec![
                ("names", Some(names.join(" "))),
                ("ca", Some(ca.clone())),
                ("expires", Some(timestamp(*expires))),
            ],
            Self::Alarm { message } | Self::AllClear { message } => vec![("why", Some(message.clone()))],
        };
        fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

fn override_fields(o: &Override, by: Option<String>) -> Vec<(&'static str, Option<String>)> {
    let share = if let Action::Drain(share) = o.action { share } else { Fraction::WHOLE };
    vec![
        ("number", Some(o.id.to_string())),
        ("target", Some(o.target.to_string())),
        ("action", Some(o.action.name().into())),
        ("share", Some(share.to_string())),
        ("until", o.until.map(timestamp)),
        ("reason", o.reason.clone()),
        ("by", by),
    ]
}

impl fmt::Display for LastStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clean => "a clean stop",
            Self::Unclean => "an unclean stop",
        })
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { version, last_stop } => {
                write!(f, "node started with version {version}")?;
                last_stop.map_or(Ok(()), |how| write!(f, " after {how}"))
            }
            Self::Stopped { by } => write!(f, "node stopped by {by}"),
            Self::Transition { subject, from: State::Down(from), to: State::Down(to), evidence } => {
                write!(f, "{subject} still down, {from} -> {to}: {evidence}")
            }
            Self::Transition { subject, from, to, evidence } => {
                write!(f, "{subject} {from} -> {to}: {evidence}")
            }
            Self::Ejected { subject, time, evidence, .. } => {
                write!(f, "{subject} ejected for {time:?}: {evidence}")
            }
            Self::Returned { subject, evidence } => write!(f, "{subject} returned: {evidence}"),
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
                warnings.iter().try_for_each(|warning| write!(f, "\nwarning: {warning}"))
            }
            Self::ReloadFailed { why, by } => {
                let why = why.trim_end();
                write!(f, "config not reloaded by {by}, the one before still applies: {why}")
            }
            Self::Resolved { host, addresses } => write!(f, "{host} has {}", list(addresses, ", ")),
            Self::Unresolved { host, why, kept } if kept.is_empty() => {
                write!(f, "{host} cannot be resolved: {why}")
            }
            Self::Unresolved { host, why, kept } => {
                write!(f, "{host} cannot be resolved: {why}; kept: {}", list(kept, ", "))
            }
            Self::Discovered { pool, backends } => {
                write!(f, "discovered in pool/{pool}: {}", backends.join(", "))
            }
            Self::Issued { names, ca, expires } => {
                let (names, expires) = (names.join(", "), timestamp(*expires));
                write!(f, "certificate for {names} issued by {ca}, valid until {expires}")
            }
            Self::Alarm { message } | Self::AllClear { message } => f.write_str(message),
        }
    }
}

/// RFC 3339 in UTC with milliseconds; "never" beyond the year 9999.
#[must_use]
pub fn timestamp(at: Unix) -> String {
    calendar(at).map_or_else(|| "never".into(), |at| format!("{at:.3}"))
}

/// `None` beyond the year 9999.
fn calendar(at: Unix) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(i64::try_from(at.0.as_millis()).ok()?).ok()
}

fn details(o: &Override) -> String {
    let mut text = String::new();
    if let Action::Drain(share) = o.action
        && o.action.is_partial()
    {
        text += &format!(" for {share} of its clients");
    }
    if let Some(until) = o.until.and_then(calendar) {
        text += &format!(" until {until:.0}");
    }
    if let Some(reason) = &o.reason {
        text += &format!(" ({reason})");
    }
    text
}

fn list(addresses: &[IpAddr], separator: &str) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
}
