//! What would happen: changes that are tried, or prepared to be tried elsewhere.

use std::sync::Arc;

use super::Engine;
use crate::engine::command::{Copied, Previewed};
use crate::state::{OverrideChange, Rejection};

impl Engine {
    /// What a change of overrides would do.
    pub(super) fn preview(&mut self, change: OverrideChange) -> Result<Previewed, Rejection> {
        let preview = self.state.preview(change, self.clock.now());
        // What was observed before may have changed the standing.
        self.publish();
        Ok(Previewed { plan: Arc::clone(&self.plan), epoch: self.state.epoch(), preview: preview? })
    }

    /// A copy of the state, for what takes longer to try.
    pub(super) fn copy(&mut self) -> Copied {
        // What was observed before may have changed the standing.
        self.recompute();
        let (plan, epoch) = (Arc::clone(&self.plan), self.state.epoch());
        Copied { plan, epoch, state: self.state.clone(), now: self.clock.now() }
    }
}
