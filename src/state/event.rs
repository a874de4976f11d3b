//! Events for logs, `portolan events` and the event stream.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::health::State;
use crate::model::{EventRecord, Fraction, Name, Rule, Subject, Unix};
use crate::standing::{Action, Override};

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

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
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

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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

/// One event of each kind, with every field that it can have.
#[cfg(test)]
pub(crate) fn samples() -> Vec<EventKind> {
    use crate::health::Severity;
    use crate::model::Target;

    let drain = Override {
        id: 3,
        target: Target::Region("eu-west".into()),
        action: "drain 25%".parse().expect("an action"),
        created: Unix(Duration::from_secs(1_800_000_000)),
        until: Some(Unix(Duration::from_millis(1_800_001_800_250))),
        reason: Some("new kernel".into()),
        by: Some("token ci".into()),
    };
    let addresses: Vec<IpAddr> =
        vec!["192.0.2.1".parse().expect("IPv4"), "2001:db8::1".parse().expect("IPv6")];
    let host: Name = "lb.example.net.".parse().expect("a name");
    let (region, rule) = ("eu-west".to_owned(), Rule::MinRegions);
    let by = "SIGHUP".to_owned();
    let backend = || Subject::Backend {
        pool: "api".into(),
        backend: "10.0.0.1:80".into(),
        address: "10.0.0.1".parse().expect("IPv4"),
    };
    vec![
        EventKind::Transition {
            subject: Subject::Region("eu-west".into()),
            from: State::Up,
            to: State::Down(Severity::Hard),
            evidence: "connection refused".into(),
        },
        EventKind::Ejected {
            subject: backend(),
            address: ([10, 0, 0, 1], 80).into(),
            time: Duration::from_secs(30),
            until: Unix(Duration::from_secs(1_800_000_030)),
            evidence: "3 consecutive requests failed, the last: no response: connection reset".into(),
        },
        EventKind::Returned { subject: backend(), evidence: "its time is over".into() },
        EventKind::Overridden(drain.clone()),
        EventKind::Restored { subject: drain.clone(), by: "user olga".into() },
        EventKind::Expired(drain),
        EventKind::Held { region: region.clone(), rule },
        EventKind::Released { region, rule },
        EventKind::Reloaded { warnings: vec!["one warning".into(), "another".into()], by: by.clone() },
        EventKind::ReloadFailed { why: "portolan.toml:1:1: expected a key".into(), by },
        EventKind::Resolved { host: host.clone(), addresses: addresses.clone() },
        EventKind::Unresolved { host, why: "SERVFAIL".into(), kept: addresses },
        EventKind::Discovered {
            pool: "api".into(),
            backends: vec!["10.0.0.1:80".into(), "10.0.0.2:80".into()],
        },
        EventKind::Issued {
            names: vec!["www.example.com".into(), "example.com".into()],
            ca: "CN=E7,O=Let's Encrypt,C=US".into(),
            expires: Unix(Duration::from_secs(1_800_000_000)),
        },
        EventKind::Alarm { message: "no region can serve www.example.com.".into() },
        EventKind::AllClear { message: "regions can serve www.example.com. again".into() },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Severity;

    #[test]
    fn sentences() {
        let transition = |from, to| EventKind::Transition {
            subject: Subject::Region("eu-west".into()),
            from,
            to,
            evidence: "connection refused".into(),
        };
        let (soft, hard) = (State::Down(Severity::Soft), State::Down(Severity::Hard));
        for (kind, expected) in [
            (transition(State::Up, hard), "region/eu-west up -> down: connection refused"),
            (transition(soft, hard), "region/eu-west still down, soft -> hard: connection refused"),
        ] {
            assert_eq!(kind.to_string(), expected);
        }
        let of_kind = |name| {
            let all = samples();
            all.iter().find(|kind| kind.name() == name).map(ToString::to_string).expect("a sample")
        };
        for (name, expected) in [
            (
                "override",
                "override 3 by token ci: drain region/eu-west for 25% of its clients until 2027-01-15T08:30:00Z (new kernel)",
            ),
            (
                "ejected",
                "pool/api/10.0.0.1:80 ejected for 30s: 3 consecutive requests failed, the last: no response: connection reset",
            ),
            ("returned", "pool/api/10.0.0.1:80 returned: its time is over"),
            ("restore", "override 3 removed by user olga: drain region/eu-west"),
            ("held", "region/eu-west fails, but min_regions holds it"),
            ("reload", "config reloaded by SIGHUP\nwarning: one warning\nwarning: another"),
            ("unresolved", "lb.example.net. cannot be resolved: SERVFAIL; kept: 192.0.2.1, 2001:db8::1"),
        ] {
            assert_eq!(of_kind(name), expected);
        }
    }

    #[test]
    fn fields_are_machine_readable() {
        let of_kind = |name| -> Vec<String> {
            let kind = samples().into_iter().find(|kind| kind.name() == name).expect("a sample");
            kind.fields().iter().map(|(name, value)| format!("{name}={value}")).collect()
        };
        assert_eq!(
            of_kind("transition"),
            ["subject=region/eu-west", "from=up", "to=down", "severity=hard", "evidence=connection refused"]
        );
        assert_eq!(
            of_kind("restore"),
            [
                "number=3",
                "target=region/eu-west",
                "action=drain",
                "share=25%",
                "until=2027-01-15T08:30:00.250Z",
                "reason=new kernel",
                "by=user olga"
            ]
        );
        assert_eq!(of_kind("resolved"), ["host=lb.example.net.", "addresses=192.0.2.1 2001:db8::1"]);
        let plain = EventKind::Reloaded { warnings: Vec::new(), by: "user olga".into() };
        assert_eq!(plain.fields(), [("by", "user olga".to_owned())], "what is not known is left out");
        let host = "lb.example.net.".parse().expect("a name");
        let unknown = EventKind::Unresolved { host, why: "SERVFAIL".into(), kept: Vec::new() };
        let names: Vec<_> = unknown.fields().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["host", "why"], "no address is kept");
    }
}
