//! The challenges of ACME servers that this node shows.

use std::sync::Arc;

use super::Engine;
use crate::engine::command::ShowChallenge;
use crate::model::{Challenge, Proof};
use crate::state::Rejection;

impl Engine {
    /// Shows a challenge from now on.
    pub(super) fn show_challenge(&mut self, request: ShowChallenge) -> Result<Challenge, Rejection> {
        let ShowChallenge { proof, by, lasts } = request;
        if let Proof::Dns { owner, .. } = &proof {
            self.plan.zones.can_hold_challenge(owner).map_err(Rejection::NotFound)?;
        }
        let now = self.clock.now();
        let (until, expires) = (now.unix.after(lasts), now.mono.after(lasts));
        let challenge = Challenge { proof, by, until, expires };
        Arc::make_mut(&mut self.challenges).add(challenge.clone()).map_err(Rejection::Invalid)?;
        self.challenges_changed();
        Ok(challenge)
    }

    pub(super) fn hide_challenge(&mut self, proof: &Proof) {
        if Arc::make_mut(&mut self.challenges).remove(proof) {
            self.challenges_changed();
        }
    }

    pub(super) fn expire_challenges(&mut self) {
        if !self.challenges.is_empty() && Arc::make_mut(&mut self.challenges).expire(self.clock.mono()) {
            self.challenges_changed();
        }
    }

    fn challenges_changed(&mut self) {
        self.state.count_change();
        self.publish();
    }
}
