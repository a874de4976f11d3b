//! Questions that are refused without a lookup.

use super::{AnswerKind, Outcome};
use crate::wire::cookie::{Granted, Proof};
use crate::wire::edns::ExtendedError;
use crate::wire::{CLASS_ANY, CLASS_CH, CLASS_IN, Content, Fault, Question, ResponseCode, Writer};
use crate::zone::rtype;

/// A reply without records.
pub(super) struct Refusal {
    pub(super) rcode: ResponseCode,
    pub(super) error: Option<ExtendedError>,
}

impl Refusal {
    /// The question of a message, of class IN, CH or ANY, or why it is refused.
    pub(super) fn check<'q>(content: &'q Content<'q>) -> Result<&'q Question<'q>, Self> {
        let question = match content {
            Content::Question(question) => question,
            Content::Fault(Fault::Version, _) => {
                return Err(Self { rcode: ResponseCode::BADVERS, error: None });
            }
            Content::Fault(Fault::Opcode, _) => {
                return Err(Self::because(ResponseCode::NotImp, ExtendedError::NOT_SUPPORTED));
            }
            // RFC 8945 §5.2.1: a key that the server does not know is NOTAUTH, with BADKEY in the TSIG record.
            Content::Signed(..) => return Err(Self { rcode: ResponseCode::NotAuth, error: None }),
            // A message without a question is malformed, unless the server grants cookies.
            Content::Cookie | Content::Fault(Fault::Malformed, _) => {
                return Err(Self { rcode: ResponseCode::FormErr, error: None });
            }
        };
        match (question.class, question.qtype) {
            (CLASS_CH, _) => Ok(question),
            (CLASS_IN | CLASS_ANY, rtype::AXFR | rtype::IXFR) => {
                Err(Self::because(ResponseCode::Refused, ExtendedError::PROHIBITED))
            }
            // Types of pseudo-records, which no name owns (RFC 9824 §3.5 has it for NXNAME).
            (CLASS_IN | CLASS_ANY, rtype::OPT | rtype::TKEY | rtype::TSIG | rtype::NXNAME) => {
                Err(Self::because(ResponseCode::FormErr, ExtendedError::INVALID_QUERY_TYPE))
            }
            // Obsolete query types of RFC 1035.
            (CLASS_IN | CLASS_ANY, rtype::MAILA | rtype::MAILB) => {
                Err(Self::because(ResponseCode::NotImp, ExtendedError::NOT_SUPPORTED))
            }
            (CLASS_IN | CLASS_ANY, _) => Ok(question),
            _ => Err(Self::because(ResponseCode::Refused, ExtendedError::NOT_SUPPORTED)),
        }
    }

    /// The reply to a message that only asks for a cookie. RFC 7873 §5.4: "the response SHALL have the RCODE BADCOOKIE
    /// if the Server Cookie sent with the query was invalid and the RCODE NOERROR if it was valid" or there is none.
    pub(super) fn with_cookie(granted: Granted) -> Self {
        let rcode = match granted.proof {
            Proof::Absent | Proof::Valid => ResponseCode::NoError,
            Proof::Invalid => ResponseCode::BADCOOKIE,
        };
        Self { rcode, error: None }
    }

    pub(super) fn because(rcode: ResponseCode, error: ExtendedError) -> Self {
        Self { rcode, error: Some(error) }
    }

    /// Completes a reply that holds nothing but the question.
    pub(super) fn write(self, mut writer: Writer<'_>) -> Outcome {
        if let Some(error) = self.error {
            writer.explain(error);
        }
        writer.finish(self.rcode, false, 0);
        Outcome::Answered { rcode: self.rcode.into(), kind: AnswerKind::Refused, truncated: false }
    }
}
