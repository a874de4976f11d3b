//! Overrides: what operators decided about targets.

use std::fmt;
use std::str::FromStr;

use crate::model::{Fraction, Target, Unix};

/// What an operator decided about a target, until when and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// Unique on a node: ascending, and never reused.
    pub id: u64,
    /// The target.
    pub target: Target,
    /// What to do with it.
    pub action: Action,
    /// When it was set.
    pub created: Unix,
    /// When it expires; `None` if it stays until it is removed.
    pub until: Option<Unix>,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// Who set it: "token NAME", "user NAME" or "uid NUMBER". Of those that earlier versions stored, some say "socket" in
    /// place of the user, and those before schema 2 have none.
    pub by: Option<String>,
}

/// What an override does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Keep this share of the clients away; the share is above 0.
    Drain(Fraction),
    /// Treat it as up, regardless of probes.
    Up,
    /// Treat it as down, regardless of probes.
    Down,
}

impl Action {
    /// Keep all clients away.
    pub const DRAIN: Self = Self::Drain(Fraction::WHOLE);

    /// The name without the share: `drain`, `up` or `down`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Drain(_) => "drain",
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    /// The share of clients kept away, 0 to 1.
    #[must_use]
    pub fn drained_share(self) -> f64 {
        match self {
            Self::Drain(share) => share.get(),
            Self::Up => 0.0,
            Self::Down => 1.0,
        }
    }

    /// Whether it keeps every client away.
    #[must_use]
    pub fn withdraws(self) -> bool {
        self.drained_share() >= 1.0
    }

    /// Whether it keeps some clients away, but not all.
    #[must_use]
    pub fn is_partial(self) -> bool {
        self.drained_share() > 0.0 && !self.withdraws()
    }
}

/// `drain`, `up`, `down`, or a drain with its share: `drain 25%`.
impl FromStr for Action {
    type Err = ActionError;

    fn from_str(text: &str) -> Result<Self, ActionError> {
        let error = || ActionError(text.into());
        match text.split_once(' ') {
            None if text == "drain" => Ok(Self::DRAIN),
            None if text == "up" => Ok(Self::Up),
            None if text == "down" => Ok(Self::Down),
            Some(("drain", share)) => Fraction::parse(share).map(Self::Drain).ok_or_else(error),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drain(share) if *share != Fraction::WHOLE => write!(f, "drain {share}"),
            action => f.write_str(action.name()),
        }
    }
}

/// Why a text is not an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionError(String);

impl fmt::Display for ActionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a valid action: use drain, up or down", self.0)
    }
}

impl std::error::Error for ActionError {}

impl Override {
    /// Whether it has not expired by `now`.
    #[must_use]
    pub fn holds_at(&self, now: Unix) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_round_trip_through_text() {
        for text in ["drain", "drain 25%", "up", "down"] {
            assert_eq!(text.parse::<Action>().unwrap().to_string(), text);
        }
        assert_eq!("drain 100%".parse::<Action>().unwrap().to_string(), "drain");
        for text in ["", "drained", "up 25%", "drain 101%", "drain x"] {
            let error = text.parse::<Action>().unwrap_err().to_string();
            assert_eq!(error, format!("`{text}` is not a valid action: use drain, up or down"));
        }
    }
}
