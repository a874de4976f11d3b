//! The earliest time at which a choice can change, for computed TTLs.

use super::admission::Pass;
use super::choose::{Chooser, window};
use super::rank::{RankedRegion, Ranking};
use super::trace::{DropReason, Note, Stage, Trace};
use crate::model::{Due, RegionId, Share};

impl<T: Trace> Chooser<'_, T> {
    /// The earliest time at which anything that the choice depends on can change.
    pub(super) fn due(&mut self, ranking: &Ranking, region: Option<RegionId>) -> Due {
        let chosen = ranking.groups.iter().flatten().find(|ranked| Some(ranked.region) == region);
        let verdict = chosen.map(|ranked| self.verdict(Pass::Eligible, ranked));
        let is_held = matches!(verdict, Some(Ok((_, Note::Held(_)))));
        let eligible_unheld = matches!(verdict, Some(Ok(_))) && !is_held;
        let pool = region.map(|region| self.admission.standing.region(region).pool(self.request.family));
        let has_good = pool.is_some_and(|pool| !pool.configured || pool.serves);
        let withdrawn = matches!(verdict, Some(Err(DropReason::Withdrawn(_))));
        let serves = ranking.groups.is_empty() || (has_good && !is_held && !withdrawn);
        let mut due = Due::NEVER;
        for group in &ranking.groups {
            for ranked in group {
                // The severity of failures decides what is held and which down region is answered, and any
                // probe result may change it.
                let member = if serves {
                    self.admission.standing.dues.of_member(self.request.service, ranked.region)
                } else {
                    Due::ANY_TIME
                };
                let left = member.left(self.request.unix);
                self.trace.kept(Stage::Ttl, ranked.region, || Note::MayChange(left));
                due = due.min(member);
            }
            // A region that is eligible without being held was chosen regardless of later groups.
            if eligible_unheld && group.iter().any(|ranked| Some(ranked.region) == region) {
                break;
            }
        }
        if let Some(region) = region
            && self.terms.share == Share::Weighted
            && self.is_drawn(ranking, region)
        {
            let (_, end) = window(self.terms, self.client, self.request.unix);
            self.trace.kept(Stage::Ttl, region, || Note::WindowEnds(end.since(self.request.unix)));
            due = due.min(Due::at(end));
        }
        due
    }

    /// Whether the region, or its endpoints, were drawn from several.
    fn is_drawn(&self, ranking: &Ranking, region: RegionId) -> bool {
        let endpoints = self.admission.topology.region(region).endpoints.len();
        let among = |group: &[RankedRegion]| group.len() > 1 && group.iter().any(|r| r.region == region);
        endpoints > 1 || ranking.groups.iter().any(|group| among(group))
    }
}
