//! An entry of the audit log.

use super::Unix;

/// A change that somebody asked for, and what came of it; as readers get it and as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Greater than those of all earlier entries, also of earlier runs.
    pub id: u64,
    /// When it was asked for; the first time, if the entry counts several.
    pub at: Unix,
    /// The last time.
    pub last: Unix,
    /// How many requests the entry stands for.
    pub count: u64,
    /// Which entries it may displace.
    pub kind: AuditKind,
    /// Who asked for it: "token NAME", "user NAME", "uid NUMBER", "SIGHUP".
    pub who: String,
    /// From where: an address, the socket, or a signal.
    pub origin: String,
    /// The stable name of what was asked for.
    pub action: String,
    /// Of what: a target, or the number of an override.
    pub target: Option<String>,
    /// The parameters as JSON.
    pub parameters: Option<String>,
    /// The reason that was given.
    pub reason: Option<String>,
    /// The stable name of the result.
    pub result: String,
    /// Why it was refused or failed.
    pub why: Option<String>,
    /// What it replaced or removed, as JSON.
    pub before: Option<String>,
    /// What it made, as JSON.
    pub after: Option<String>,
}

/// Entries of a kind displace only each other, so that those who may change nothing cannot displace changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AuditKind {
    /// A change that was made, or may have been.
    Change,
    /// One that was refused to somebody known.
    Refusal,
    /// One that was refused to somebody without a token.
    Stranger,
}

impl AuditKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Change, Self::Refusal, Self::Stranger];

    /// Its stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Refusal => "refusal",
            Self::Stranger => "stranger",
        }
    }
}

impl AuditRecord {
    /// The maximum length of a text, in bytes; the longest reason of an override has a quarter of it.
    pub const MAX_TEXT: usize = 4096;

    /// How many bytes its texts have.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let Self { who, origin, action, target, parameters, reason, result, why, before, after, .. } = self;
        let optional = [target, parameters, reason, why, before, after];
        let optional = optional.into_iter().flatten().map(String::len);
        [who, origin, action, result].into_iter().map(String::len).chain(optional).sum()
    }

    /// The text, or its beginning if it is too long.
    #[must_use]
    pub fn text(text: String) -> String {
        super::event_record::beginning(text, Self::MAX_TEXT)
    }
}
