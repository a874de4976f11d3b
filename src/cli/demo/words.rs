//! What `demo fail` and `demo heal` say.

use crate::api::dto::DemoSwitched;

/// What was done and what will follow, in lines that fit a terminal.
pub(super) fn switched(done: &DemoSwitched) -> Vec<String> {
    let target = &done.target;
    match (&done.how, target.split_once('/')) {
        (None, None) => vec![format!("{target} is healed")],
        (None, Some((region, backend))) => {
            let rest = still_failing(done, region, backend);
            vec![
                rest.map_or_else(
                    || format!("{target} is healed"),
                    |rest| format!("{target} is healed; {rest}"),
                ),
            ]
        }
        (Some(how), None) => {
            let mut lines = region_fails(how);
            lines[0] = format!("{target} is now failing ({how}): {}", lines[0]);
            lines
        }
        (Some(how), Some((region, backend))) => {
            let what_follows = backend_fails(done, region, backend, how);
            let first = format!("{target} is now failing ({how})");
            std::iter::once(first).chain(what_follows.lines().map(str::to_owned)).collect()
        }
    }
}

/// What is broken, and then what will follow.
fn region_fails(how: &str) -> Vec<String> {
    let what = match how {
        "refuse" => "its proxy is stopped",
        "hang" => "its proxy accepts connections and answers none",
        "slow" => "both of its backends answer late",
        _ => "both of its backends are broken",
    };
    let follows = match how {
        "slow" => {
            let keeps = "after 3 slow probes `status` shows it degraded; it keeps its clients:";
            vec![keeps.to_owned(), "half its weight matters only where regions tie".to_owned()]
        }
        _ => {
            vec!["after 3 failed probes DNS sends its clients elsewhere, if another region serves".to_owned()]
        }
    };
    [vec![what.to_owned()], follows].concat()
}

fn backend_fails(done: &DemoSwitched, region: &str, backend: &str, how: &str) -> String {
    if let Some(of_proxy) = &done.proxy {
        return format!("{region} itself is failing already ({of_proxy}), so this changes nothing yet");
    }
    let others = done.backends.iter().filter(|(name, _)| *name != backend);
    // A slow one still serves.
    let serving = others.clone().find(|(_, how)| how.as_deref().is_none_or(|how| how == "slow"));
    match (serving, how) {
        (_, "slow") => {
            format!("after 2 slow probes the proxy of {region} halves its weight;\nDNS answers stay")
        }
        (Some(_), "document") => {
            format!("after 2 failed probes the proxy of {region} does without it;\nDNS answers stay")
        }
        (Some((other, _)), _) => format!(
            "the proxy of {region} retries its requests with {other}, then does without it;\nDNS answers stay"
        ),
        (None, _) => format!("no backend of {region} works now: DNS will send its clients elsewhere"),
    }
}

/// What else of a region is broken, as a clause.
fn still_failing(done: &DemoSwitched, region: &str, backend: &str) -> Option<String> {
    if let Some(how) = &done.proxy {
        return Some(format!("{region} itself is still failing ({how})"));
    }
    let others = done.backends.iter().filter(|(name, _)| *name != backend);
    let mut failing = others.filter_map(|(name, how)| how.as_ref().map(|how| (name, how)));
    failing.next().map(|(other, how)| format!("{other} is still failing ({how})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks what is said of a target that was broken in a way, or healed, when its region is broken so.
    #[track_caller]
    fn check(
        target: &str,
        how: Option<&str>,
        (proxy, backends): (Option<&str>, [Option<&str>; 2]),
        expected: &str,
    ) {
        let text = |how: Option<&str>| how.map(str::to_owned);
        let names = ["backend1", "backend2"].map(str::to_owned);
        let done = DemoSwitched {
            target: target.into(),
            how: text(how),
            proxy: text(proxy),
            backends: names.into_iter().zip(backends.map(text)).collect(),
        };
        let lines = switched(&done);
        assert!(lines.iter().all(|line| line.len() <= 80), "too long for a terminal: {lines:?}");
        assert_eq!(lines.join("\n"), expected);
    }

    #[test]
    fn what_follows_the_failure_of_a_region() {
        check(
            "eu-west",
            Some("refuse"),
            (Some("refuse"), [None, None]),
            "eu-west is now failing (refuse): its proxy is stopped\n\
             after 3 failed probes DNS sends its clients elsewhere, if another region serves",
        );
        check(
            "eu-west",
            Some("slow"),
            (None, [Some("slow"), Some("slow")]),
            "eu-west is now failing (slow): both of its backends answer late\n\
             after 3 slow probes `status` shows it degraded; it keeps its clients:\n\
             half its weight matters only where regions tie",
        );
    }

    #[test]
    fn what_follows_the_failure_of_a_backend() {
        let (one, other) = ("eu-west/backend1", "eu-west/backend2");
        check(
            one,
            Some("hang"),
            (None, [Some("hang"), None]),
            "eu-west/backend1 is now failing (hang)\n\
             the proxy of eu-west retries its requests with backend2, then does without it;\n\
             DNS answers stay",
        );
        check(
            other,
            Some("document"),
            (None, [Some("slow"), Some("document")]),
            "eu-west/backend2 is now failing (document)\n\
             after 2 failed probes the proxy of eu-west does without it;\n\
             DNS answers stay",
        );
        check(
            other,
            Some("503"),
            (None, [Some("refuse"), Some("503")]),
            "eu-west/backend2 is now failing (503)\n\
             no backend of eu-west works now: DNS will send its clients elsewhere",
        );
        check(
            other,
            Some("slow"),
            (None, [None, Some("slow")]),
            "eu-west/backend2 is now failing (slow)\n\
             after 2 slow probes the proxy of eu-west halves its weight;\n\
             DNS answers stay",
        );
        check(
            one,
            Some("503"),
            (Some("hang"), [Some("503"), None]),
            "eu-west/backend1 is now failing (503)\n\
             eu-west itself is failing already (hang), so this changes nothing yet",
        );
    }

    #[test]
    fn what_is_still_broken_after_a_healing() {
        let one = "eu-west/backend1";
        check("eu-west", None, (None, [None, None]), "eu-west is healed");
        check(one, None, (None, [None, None]), "eu-west/backend1 is healed");
        check(
            one,
            None,
            (None, [None, Some("hang")]),
            "eu-west/backend1 is healed; backend2 is still failing (hang)",
        );
        check(
            one,
            None,
            (Some("refuse"), [None, None]),
            "eu-west/backend1 is healed; eu-west itself is still failing (refuse)",
        );
    }
}
