//! Evidence: why a verdict is what it is.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// How many reasons of failures a verdict remembers.
const REMEMBERED: usize = 5;

/// What led to the current state. Displays as a human-readable clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Unknown: there is no result yet.
    NotProbed,
    /// Unknown: the failures do not count yet, because a startup grace runs or a first failure awaits confirmation.
    Starting(Failures),
    /// Up since the first result.
    GoodAtOnce,
    /// Up: the target itself reports so.
    Stated,
    /// Up before the last restart; there is no result since.
    Restored,
    /// Up after down.
    Recovered {
        /// Consecutive successes.
        successes: u32,
        /// Time since the first of them.
        good_for: Duration,
    },
    /// Up after degraded.
    Fast {
        /// Consecutive successes, none of them slow.
        successes: u32,
    },
    /// Degraded by slow successes.
    Slow(Slow),
    /// Down by failures.
    Failed {
        /// The failures that counted.
        failures: Failures,
        /// Consecutive successes since then, not yet enough.
        good_since: u32,
    },
}

/// A success that took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    /// How long it may take.
    pub limit: Duration,
    /// How long it took.
    pub took: Duration,
}

impl Slow {
    /// Slow before the last restart: the durations are not saved.
    pub(super) const UNMEASURED: Self = Self { limit: Duration::ZERO, took: Duration::ZERO };
}

/// Failures counted since they were last cleared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// The number of failures.
    pub count: u32,
    /// Whether there were successes between them.
    pub broken: bool,
    /// Whether all of them are known to have the same reason; those before a restart are not known.
    pub alike: bool,
    /// The reasons of the last five, oldest first.
    pub last: VecDeque<String>,
}

impl Failures {
    pub(super) fn add(&mut self, reason: &str) {
        self.alike = self.count == 0 || self.alike && self.last.back().is_some_and(|last| last == reason);
        self.count = self.count.saturating_add(1);
        if self.last.len() == REMEMBERED {
            self.last.pop_front();
        }
        self.last.push_back(reason.to_owned());
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotProbed => f.write_str("not probed yet"),
            Self::Starting(failures) => write!(f, "not decided yet: {failures}"),
            Self::GoodAtOnce => f.write_str("first probe succeeded"),
            Self::Stated => f.write_str("reports itself as serving"),
            Self::Restored => f.write_str("up before the restart"),
            Self::Recovered { successes, good_for } => {
                write!(f, "{successes} consecutive successes over {}", Rounded(*good_for))
            }
            Self::Fast { successes: 1 } => f.write_str("fast again"),
            Self::Fast { successes } => write!(f, "{successes} consecutive fast successes"),
            Self::Slow(slow) if *slow == Slow::UNMEASURED => f.write_str("slow before the restart"),
            Self::Slow(Slow { limit, took }) => {
                write!(f, "slower than {}: {}", Rounded(*limit), Rounded(*took))
            }
            Self::Failed { failures, good_since: 0 } => failures.fmt(f),
            Self::Failed { failures, good_since } => write!(
                f,
                "{failures}; {good_since} {} since",
                if *good_since == 1 { "success" } else { "successes" }
            ),
        }
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count > 1 {
            write!(f, "{} {}", self.count, if self.broken { "failures" } else { "consecutive failures" })?;
            match self.last.len() {
                _ if self.alike => {}
                all if all >= self.count as usize => {}
                1 => f.write_str(", the last")?,
                some => write!(f, ", the last {some}")?,
            }
            f.write_str(": ")?;
        }
        for (index, reason) in self.last.iter().enumerate() {
            // Reasons can be long, so each is printed once, where it comes first.
            if self.last.iter().take(index).any(|earlier| earlier == reason) {
                continue;
            }
            let times = self.last.iter().filter(|other| *other == reason).count();
            f.write_str(if index == 0 { "" } else { ", " })?;
            f.write_str(reason)?;
            if times > 1 && times < self.last.len() {
                write!(f, " ({times} times)")?;
            }
        }
        Ok(())
    }
}

/// A duration rounded for display: to whole seconds from ten seconds on, otherwise to milliseconds.
struct Rounded(Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounded = if self.0 >= Duration::from_secs(10) {
            Duration::from_secs(self.0.as_secs())
        } else if self.0 >= Duration::from_millis(1) {
            Duration::from_millis(self.0.as_millis() as u64)
        } else {
            Duration::from_micros(self.0.as_micros() as u64)
        };
        write!(f, "{rounded:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_five_reasons_are_remembered() {
        let mut failures = Failures::default();
        let texts: Vec<String> = (1..=7)
            .map(|number| {
                failures.add(&format!("status 50{number}"));
                failures.to_string()
            })
            .collect();
        assert_eq!(texts[0], "status 501");
        assert_eq!(texts[1], "2 consecutive failures: status 501, status 502");
        assert_eq!(
            texts[6],
            "7 consecutive failures, the last 5: status 503, status 504, status 505, status 506, status 507"
        );
        failures.broken = true;
        let evidence = Evidence::Failed { failures, good_since: 1 };
        assert_eq!(
            evidence.to_string(),
            "7 failures, the last 5: status 503, status 504, status 505, status 506, status 507; 1 success since"
        );
    }

    #[test]
    fn one_reason_for_all_is_printed_alone() {
        let mut failures = Failures::default();
        for _ in 0..14 {
            failures.add("connection refused");
        }
        assert_eq!(failures.to_string(), "14 consecutive failures: connection refused");
        failures.add("timeout");
        assert_eq!(
            failures.to_string(),
            "15 consecutive failures, the last 5: connection refused (4 times), timeout"
        );
        for _ in 0..5 {
            failures.add("timeout");
        }
        assert_eq!(failures.to_string(), "20 consecutive failures, the last 5: timeout");
    }

    /// After a restart only the last reason is known.
    #[test]
    fn the_only_known_reason_is_the_last() {
        let failures = Failures { count: 1147, last: ["refused".into()].into(), ..Failures::default() };
        assert_eq!(failures.to_string(), "1147 consecutive failures, the last: refused");
    }

    #[test]
    fn a_repeated_reason_is_printed_once() {
        for (reasons, expected) in [
            ("rr", "2 consecutive failures: refused"),
            ("rrt", "3 consecutive failures: refused (2 times), timeout"),
            ("rrrt", "4 consecutive failures: refused (3 times), timeout"),
            ("trrrt", "5 consecutive failures: timeout (2 times), refused (3 times)"),
            ("rrrrrr", "6 consecutive failures: refused"),
            ("trrrrr", "6 consecutive failures, the last 5: refused"),
        ] {
            let mut failures = Failures::default();
            for reason in reasons.chars() {
                failures.add(if reason == 'r' { "refused" } else { "timeout" });
            }
            assert_eq!(failures.to_string(), expected);
        }
    }

    #[test]
    fn durations_are_rounded_for_display() {
        for (duration, expected) in [
            (Duration::from_nanos(912_345_678), "912ms"),
            (Duration::from_millis(1500), "1.5s"),
            (Duration::from_nanos(30_000_400_000), "30s"),
            (Duration::from_nanos(45_678), "45µs"),
        ] {
            assert_eq!(Rounded(duration).to_string(), expected);
        }
    }
}
