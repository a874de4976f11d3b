//! Events for tests.

use super::*;
use crate::health::Severity;
use crate::model::Target;

/// One event of each kind, with every field that it can have.
pub(crate) fn samples() -> Vec<EventKind> {
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
        EventKind::Started { version: "0.1.0", last_stop: Some(LastStop::Unclean) },
        EventKind::Stopped { by: "SIGTERM".into() },
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
