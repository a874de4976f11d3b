//! What probes found and what operators made of it, in words that the page has, too.

use crate::api::dto::{self, Action, Share, Usable, Verdict};
use crate::cli::styled::Styled;

/// What probes found, if anything is probed.
pub(super) fn found(verdict: Verdict, probed: bool) -> Styled {
    if probed { Styled::new(verdict.into(), verdict.to_string()) } else { "not probed".into() }
}

/// What operators made of a region as a whole, in a word.
pub(super) fn by_operators(region: &dto::Region) -> Option<&'static str> {
    let own = region.overridden.as_ref().and_then(word);
    own.or_else(|| {
        let mut endpoints = region.endpoints.iter().filter_map(|it| it.overridden.as_ref().and_then(word));
        let is_drained = endpoints.any(|it| it == DRAINED);
        is_withdrawn(region).then_some(if is_drained { DRAINED } else { FORCED_DOWN })
    })
}

/// What an override makes of its target; `None` for one that concerns only a share of the clients.
pub(super) fn word(o: &dto::Override) -> Option<&'static str> {
    match o.action {
        Action::Up => Some("forced up"),
        Action::Down => Some(FORCED_DOWN),
        Action::Drain => (o.share == Share::WHOLE).then_some(DRAINED),
    }
}

pub(super) const DRAINED: &str = "drained";
const FORCED_DOWN: &str = "forced down";

pub(super) fn withdraws(o: &dto::Override) -> bool {
    word(o).is_some_and(|word| [DRAINED, FORCED_DOWN].contains(&word))
}

/// Whether operators withdrew it.
pub(super) fn is_withdrawn(region: &dto::Region) -> bool {
    region.usable == Usable::No && region.held.is_none() && region.verdict != Verdict::Down
}

/// When its verdict began or, where operators withdrew it, when they had. `None` if nothing is probed.
pub(super) fn began(region: &dto::Region) -> Option<&str> {
    let own = region.overridden.iter().filter(|o| withdraws(o));
    let of_endpoints =
        region.endpoints.iter().filter_map(|it| it.overridden.as_ref()).filter(|o| withdraws(o));
    // Times are written alike. Its own override is enough; of those of its endpoints, the last one was.
    let withdrawn = own.map(|o| &*o.created).next().or_else(|| of_endpoints.map(|o| &*o.created).max());
    withdrawn.filter(|_| is_withdrawn(region)).or(region.since.as_deref())
}
