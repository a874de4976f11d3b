//! Round robin: one after the other.

use super::picker::{Candidate, IsExcluded};

/// A position among candidates.
#[derive(Clone, Debug)]
pub(super) struct Rotation {
    /// The next candidate's index, modulo the number of candidates.
    next: usize,
}

impl Rotation {
    pub(super) fn starting_at(next: usize) -> Self {
        Self { next }
    }

    /// The next of `count` candidates that is not excluded.
    pub(super) fn next(&mut self, count: usize, is_excluded: IsExcluded<'_>) -> Option<usize> {
        let index = self.upcoming(count).find(|index| !is_excluded(*index))?;
        self.next = index + 1;
        Some(index)
    }

    /// Moves the position to the first of the upcoming candidates that stays.
    pub(super) fn renew(&mut self, old: &[Candidate], new: &[Candidate]) {
        let position = |index: usize| new.iter().position(|candidate| candidate.hash == old[index].hash);
        if let Some(next) = self.upcoming(old.len()).find_map(position) {
            self.next = next;
        }
    }

    /// Every index once, in the order of the turns.
    fn upcoming(&self, count: usize) -> impl Iterator<Item = usize> + use<> {
        let first = self.next.checked_rem(count).unwrap_or(0);
        (first..count).chain(0..first)
    }
}
