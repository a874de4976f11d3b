//! Changes of overrides: made, or only tried.

use std::sync::Arc;

use super::event::EventKind;
use super::request::{OverrideRequest, Rejection};
use super::{SetOverride, State, World, effect};
use crate::model::{Now, Target};
use crate::safety::{self, LeftToAllDown};
use crate::standing::{Override, Standing};

/// A change of overrides that is to be tried.
#[derive(Clone, Debug, PartialEq)]
pub enum OverrideChange {
    /// Setting one.
    Set(OverrideRequest),
    /// Removing that of a target.
    Restore(Target),
}

/// What a change of overrides would do.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The current standing.
    pub before: Arc<Standing>,
    /// The standing with the change.
    pub after: Standing,
    /// Why a safety rule forbids it, as a sentence; `None` if none does.
    pub refusal: Option<String>,
    /// Why it would have no effect right now, as a clause; `None` if it may have one.
    pub no_effect: Option<String>,
}

/// The overrides with a new one.
struct Draft {
    new: Override,
    replaced: Option<Override>,
    all: Vec<Override>,
}

impl State {
    /// Sets an override; it replaces that of the same target, if any.
    ///
    /// # Errors
    /// If there is no such target, the request makes no sense, or a safety rule forbids it. Nothing changes then.
    pub fn set_override(&mut self, request: OverrideRequest, now: Now) -> Result<SetOverride, Rejection> {
        self.recompute(now);
        let override_safety = request.override_safety;
        let Draft { new, replaced, all } = self.with_override(request, now)?;
        let after = self.permitted(&all, override_safety, now)?;
        let no_effect = effect::no_effect(&self.world, &self.standing, &after, &new);
        self.last_override = new.id;
        self.overrides = all;
        self.events.push(EventKind::Overridden(new.clone()));
        self.publish(after, now);
        Ok(SetOverride { subject: new, replaced, no_effect })
    }

    /// Removes an override; `by` is who asked for it.
    ///
    /// # Errors
    /// If there is no such override, or a safety rule forbids its removal. Nothing changes then.
    pub fn remove_override(
        &mut self,
        id: u64,
        by: String,
        override_safety: bool,
        now: Now,
    ) -> Result<Override, Rejection> {
        self.recompute(now);
        let (gone, rest) = self
            .without_override(|o| o.id == id)
            .ok_or_else(|| Rejection::NotFound(format!("there is no override {id}")))?;
        let after = self.permitted(&rest, override_safety, now)?;
        self.overrides = rest;
        self.events.push(EventKind::Restored { subject: gone.clone(), by });
        self.publish(after, now);
        Ok(gone)
    }

    /// What a change would do; it is not made.
    ///
    /// # Errors
    /// If there is no such target or override, or the request makes no sense.
    pub fn preview(&mut self, change: OverrideChange, now: Now) -> Result<Preview, Rejection> {
        self.recompute(now);
        let (overrides, new) = match change {
            OverrideChange::Set(request) => {
                let Draft { new, all, .. } = self.with_override(request, now)?;
                (all, Some(new))
            }
            OverrideChange::Restore(target) => {
                let without = self.without_override(|o| o.target == target);
                (without.ok_or_else(|| self.no_override_of(&target))?.1, None)
            }
        };
        let after = self.compute(&overrides, now.unix);
        let refusal = self.refusal(&after);
        let no_effect = new.and_then(|new| effect::no_effect(&self.world, &self.standing, &after, &new));
        Ok(Preview { before: Arc::clone(&self.standing), after, refusal, no_effect })
    }

    /// The overrides with the one that a request asks for, instead of that of the same target.
    fn with_override(&self, request: OverrideRequest, now: Now) -> Result<Draft, Rejection> {
        let new = request.accept(&self.world.topology, self.last_override + 1, now.unix)?;
        let (replaced, mut all) = match self.without_override(|o| o.target == new.target) {
            Some((replaced, rest)) => (Some(replaced), rest),
            None => (None, self.overrides.clone()),
        };
        all.push(new.clone());
        Ok(Draft { new, replaced, all })
    }

    /// The override that is meant, and all others.
    fn without_override(&self, is_meant: impl Fn(&Override) -> bool) -> Option<(Override, Vec<Override>)> {
        let index = self.overrides.iter().position(is_meant)?;
        let mut rest = self.overrides.clone();
        Some((rest.remove(index), rest))
    }

    fn no_override_of(&self, target: &Target) -> Rejection {
        let targets: Vec<String> = self.overrides.iter().map(|o| o.target.to_string()).collect();
        let others = if targets.is_empty() { "none".into() } else { targets.join(", ") };
        Rejection::NotFound(format!("there is no override of {target}; current overrides: {others}"))
    }

    /// The standing with these overrides.
    ///
    /// # Errors
    /// If a safety rule forbids the change, unless `override_safety` is set.
    fn permitted(
        &self,
        overrides: &[Override],
        override_safety: bool,
        now: Now,
    ) -> Result<Standing, Rejection> {
        let after = self.compute(overrides, now.unix);
        match self.refusal(&after) {
            Some(why) if !override_safety => {
                let World { topology, sets, .. } = &self.world;
                let left = safety::left_to_all_down(topology, sets, &after, &self.unserved);
                let clause = LeftToAllDown::clause(&left).map(|clause| format!("; {clause}"));
                Err(Rejection::Unsafe(why + &clause.unwrap_or_default()))
            }
            _ => Ok(after),
        }
    }

    /// Why a safety rule forbids an operator to turn the current standing into another; `None` if none does.
    fn refusal(&self, after: &Standing) -> Option<String> {
        let World { topology, sets, rules, .. } = &self.world;
        let refusal = safety::permit(rules, sets, &self.standing, after).err();
        refusal
            .map(|refusal| refusal.explain(topology, sets))
            .or_else(|| safety::permit_pools(topology, &self.standing, after).err())
    }
}
