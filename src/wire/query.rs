//! The content of a query.

use super::edns::Request;
use super::header::Header;
use super::question::Question;
use super::tsig::Tsig;

/// A message that gets a reply, as far as it could be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// Its header, from which the reply's is built.
    pub header: Header,
    /// What it asks.
    pub content: Content<'a>,
    /// The content of its OPT record, if it has one.
    pub edns: Option<Request>,
}

/// What a message asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// One question.
    Question(Question<'a>),
    /// One question, signed with a key that is unknown here, as all keys are (RFC 8945).
    Signed(Tsig<'a>, Question<'a>),
    /// No question, only a COOKIE option: the client asks for a server cookie (RFC 7873 §5.4).
    Cookie,
    /// Nothing that can be answered; and the question to repeat in the reply, if one could be read.
    Fault(Fault, Option<Question<'a>>),
}

/// Why a message cannot be answered, whatever it asks. The first that applies counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its EDNS version is not 0.
    Version,
    /// Its opcode is not QUERY.
    Opcode,
    /// It is cut short, has not exactly one question, has records that no query has, or its OPT or TSIG record is
    /// malformed, misplaced or one of several.
    Malformed,
}

impl<'a> Query<'a> {
    /// The question, even if it cannot be answered.
    #[must_use]
    pub fn question(&self) -> Option<&Question<'a>> {
        match &self.content {
            Content::Question(question) | Content::Signed(_, question) => Some(question),
            Content::Cookie => None,
            Content::Fault(_, question) => question.as_ref(),
        }
    }
}
