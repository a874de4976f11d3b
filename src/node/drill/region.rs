//! The second part: a region breaks, leaves the answers, heals and comes back.

use super::super::demo::switch::{Break, Target};
use super::view::is_in;
use super::{Drill, Sight, VICTIM, print_steps};
use crate::model::{Subject, Unix};
use crate::net::clock::Clock;
use crate::state::EventKind;

use anyhow::Result;

/// The steps, each with the moment it was seen.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    last_good: Option<Unix>,
    broken: Option<Unix>,
    first_failed: Option<Unix>,
    withdrawn: Option<Unix>,
    answer_left: Option<Unix>,
    healed: Option<Unix>,
    first_good: Option<Unix>,
    readmitted: Option<Unix>,
    answer_back: Option<Unix>,
}

impl Drill<'_> {
    pub(super) async fn region(&mut self) -> Result<Timeline> {
        let victim = Target { region: VICTIM, backend: None };
        self.view
            .begin(&format!("a region fails: {VICTIM} breaks (its proxy refuses connections), then heals"));
        let mut timeline = Timeline::default();
        self.until_all_are_up().await?;
        self.until("a probe has passed", |sight| {
            timeline.observe(sight);
            timeline.last_good.is_some()
        })
        .await?;

        timeline.broken = Some(Clock::unix());
        self.demo.turn(victim, Some(Break::Refuse));
        self.until("the German client moves away", |sight| {
            timeline.observe(sight);
            timeline.answer_left.is_some() && timeline.withdrawn.is_some()
        })
        .await?;

        timeline.healed = Some(Clock::unix());
        self.demo.turn(victim, None);
        self.until("the German client is back", |sight| {
            timeline.observe(sight);
            timeline.answer_back.is_some() && timeline.readmitted.is_some()
        })
        .await?;
        Ok(timeline)
    }
}

impl Timeline {
    fn observe(&mut self, sight: &Sight) {
        self.observe_probes(sight);
        match (self.broken, self.healed) {
            (Some(_), None) if sight.sent[0].is_some() && !sight.is_home() => {
                self.answer_left.get_or_insert(sight.now);
            }
            (_, Some(_)) if sight.is_home() => {
                self.answer_back.get_or_insert(sight.now);
            }
            _ => {}
        }
        for happening in &sight.happenings {
            let Some(event) = &happening.event else { continue };
            let EventKind::Transition { subject, to, .. } = &event.kind else { continue };
            if *subject != Subject::Region(VICTIM.into()) || self.broken.is_none() {
                continue;
            }
            if to.is_down() {
                self.withdrawn.get_or_insert(event.at);
            } else if to.serves() && self.healed.is_some() {
                self.readmitted.get_or_insert(event.at);
            }
        }
    }

    fn observe_probes(&mut self, sight: &Sight) {
        let Some(check) = sight.checks.iter().find(|check| is_in(check, VICTIM)) else { return };
        match (self.broken, self.healed) {
            (None, _) => self.last_good = check.last_success,
            (Some(_), None) => {
                self.first_failed = self.first_failed.or(check.failing_since);
                if self.first_failed.is_none() {
                    self.last_good = check.last_success;
                }
            }
            (Some(_), Some(healed)) => {
                let first = check.last_success.filter(|success| *success > healed);
                self.first_good = self.first_good.or(first);
            }
        }
    }

    pub(super) fn print(&self) {
        println!("\nthe failure of a region, in seconds from the break:\n");
        print_steps(
            self.broken,
            &[
                ("last good probe", self.last_good),
                ("the region breaks", self.broken),
                ("first failed probe", self.first_failed),
                ("withdrawal", self.withdrawn),
                ("first changed answer", self.answer_left),
                ("the region heals", self.healed),
                ("first good probe", self.first_good),
                ("readmission", self.readmitted),
                ("first answer back", self.answer_back),
            ],
        );
    }
}
