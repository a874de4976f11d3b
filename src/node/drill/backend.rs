//! The first part: a backend breaks, and the proxy of its region does without it.

use anyhow::Result;

use super::super::demo::happening::Tier;
use super::super::demo::region_address;
use super::super::demo::switch::{Break, Target};
use super::requests::{Requests, Tally};
use super::{Drill, Sight, VICTIM, print_steps};
use crate::health::State;
use crate::model::{Subject, Unix};
use crate::net::clock::Clock;
use crate::state::EventKind;

/// The backend that breaks.
const BROKEN: Target = Target { region: VICTIM, backend: Some("backend1") };

/// The steps, each with the moment it was seen, and what clients got meanwhile.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    broken: Option<Unix>,
    last_answer: Option<Unix>,
    ejected: Option<Unix>,
    down: Option<Unix>,
    healed: Option<Unix>,
    up: Option<Unix>,
    first_answer: Option<Unix>,
    /// Whether DNS sent the client elsewhere at any time.
    moved: bool,
    requests: Tally,
}

impl Drill<'_> {
    pub(super) async fn backend(&mut self) -> Result<Timeline> {
        self.view.begin(&format!("a backend fails: {BROKEN} breaks (connections are refused), then heals"));
        self.until_all_are_up().await?;
        let mut timeline = Timeline::default();
        let url = format!("http://{}:{}/", region_address(VICTIM), self.demo.region_port);
        let requests = Requests::start(url, BROKEN.to_string())?;
        self.until("both backends get requests", |sight| {
            timeline.observe(sight);
            requests.tally().first_answer.is_some()
        })
        .await?;

        timeline.broken = Some(Clock::unix());
        self.demo.turn(BROKEN, Some(Break::Refuse));
        self.until("the proxy does without the backend", |sight| {
            timeline.observe(sight);
            timeline.down.is_some()
        })
        .await?;

        timeline.last_answer = requests.tally().last_answer;
        requests.restart();
        timeline.healed = Some(Clock::unix());
        self.demo.turn(BROKEN, None);
        self.until("the backend gets requests again", |sight| {
            timeline.observe(sight);
            timeline.up.is_some() && requests.tally().first_answer.is_some()
        })
        .await?;
        timeline.requests = requests.tally();
        timeline.first_answer = timeline.requests.first_answer;
        Ok(timeline)
    }
}

impl Timeline {
    fn observe(&mut self, sight: &Sight) {
        self.moved |= !sight.is_home();
        for happening in sight.happenings.iter().filter(|it| it.tier == Tier::Proxy(VICTIM)) {
            let Some(event) = &happening.event else { continue };
            if self.broken.is_none() || !happening.sentence.starts_with(&BROKEN.to_string()) {
                continue;
            }
            match &event.kind {
                EventKind::Ejected { .. } => drop(self.ejected.get_or_insert(event.at)),
                EventKind::Transition { subject: Subject::Backend { .. }, to, .. } => {
                    self.enter(*to, event.at)
                }
                _ => {}
            }
        }
    }

    fn enter(&mut self, state: State, at: Unix) {
        if state.is_down() {
            self.down.get_or_insert(at);
        } else if state.serves() && self.healed.is_some() {
            self.up.get_or_insert(at);
        }
    }

    pub(super) fn print(&self) {
        println!("\nthe failure of a backend, in seconds from the break:\n");
        print_steps(
            self.broken,
            &[
                ("last response from the backend", self.last_answer),
                ("the backend breaks", self.broken),
                ("ejected, because requests to it fail", self.ejected),
                ("down, because its probes fail", self.down),
                ("the backend heals", self.healed),
                ("up", self.up),
                ("first response from the backend", self.first_answer),
            ],
        );
        println!("\n{}", self.requests_in_words());
        let answers = if self.moved { "sent clients elsewhere for a time" } else { "did not change" };
        println!("DNS answers {answers}");
    }

    fn requests_in_words(&self) -> String {
        let Tally { sent, failed, last_failure, .. } = &self.requests;
        match last_failure {
            None => format!("none of the {sent} requests through the proxy of {VICTIM} failed"),
            Some((at, why)) => format!(
                "{failed} of the {sent} requests through the proxy of {VICTIM} failed, the last after {:.3} s: {why}",
                at.since(self.broken.unwrap_or_default()).as_secs_f64()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn failed_requests_are_reported_with_the_time_of_the_last() {
        let at = |millis| Unix(Duration::from_millis(millis));
        let mut timeline = Timeline { broken: Some(at(1000)), ..Timeline::default() };
        timeline.requests.sent = 100;
        assert_eq!(
            timeline.requests_in_words(),
            "none of the 100 requests through the proxy of eu-west failed"
        );
        timeline.requests.failed = 2;
        timeline.requests.last_failure = Some((at(1250), "status 503".into()));
        assert_eq!(
            timeline.requests_in_words(),
            "2 of the 100 requests through the proxy of eu-west failed, the last after 0.250 s: status 503"
        );
    }
}
