//! How long the past is kept.

use super::Engine;
use crate::model::Unix;

impl Engine {
    /// Removes the events and the entries of the audit log that are too old.
    pub(super) fn forget_the_past(&self) {
        let Some(age) = self.retention else { return };
        let moment = Unix(self.clock.now().unix.0.saturating_sub(age));
        if let Some(oldest) = self.events.forget_before(moment) {
            self.journal.forget_events_before(oldest);
        }
        self.audit.forget_before(moment);
    }
}
