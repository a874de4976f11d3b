//! The operator's word.

use std::fmt;

use crate::model::{Fraction, Target, Unix};

/// What an operator said about a target, until when and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// Grows with each override of a node; never used twice.
    pub id: u64,
    /// About what.
    pub target: Target,
    /// What.
    pub action: Action,
    /// The share of clients that a drain keeps away.
    pub share: Fraction,
    /// Since when.
    pub created: Unix,
    /// When it ends by itself.
    pub until: Option<Unix>,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// Who said it: "token NAME", or "socket"; `None`: a version that did not keep it took it in.
    pub by: Option<String>,
}

/// What an override does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send nobody there, or a share of clients less.
    Drain,
    /// Treat it as up, whatever probes say.
    Up,
    /// Treat it as down, whatever probes say.
    Down,
}

impl Override {
    /// Whether it has not ended yet.
    #[must_use]
    pub fn holds_at(&self, now: Unix) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drain => "drain",
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}
