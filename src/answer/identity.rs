//! The class Chaos: which server this is, and what runs on it (RFC 4892).

use super::refusal::Refusal;
use super::{AnswerKind, Outcome};
use crate::model::{Identity, Ttl};
use crate::wire::edns::ExtendedError;
use crate::wire::{Owner, Question, ResponseCode, Section, Writer};
use crate::zone::rtype;

/// Answers a question of class CH: with TXT if the config provides it, otherwise with REFUSED.
pub(super) fn answer(identity: &Identity, question: &Question<'_>, mut writer: Writer<'_>) -> Outcome {
    let text = match &*question.name().to_ascii_lowercase() {
        b"\x07version\x04bind\0" | b"\x07version\x06server\0" => &identity.version,
        b"\x08hostname\x04bind\0" | b"\x02id\x06server\0" => &identity.hostname,
        _ => &None,
    };
    let is_text = matches!(question.qtype, rtype::TXT | rtype::ANY);
    let Some(text) = text.as_ref().filter(|_| is_text) else {
        return Refusal::because(ResponseCode::Refused, ExtendedError::NOT_SUPPORTED).write(writer);
    };
    let data = [&[text.len() as u8], text.as_bytes()].concat();
    // Not cached, because another server may answer next time.
    writer.records(Section::Answer, Owner::Question(0), rtype::TXT, Ttl(0), [data]);
    writer.finish(ResponseCode::NoError, true, 0);
    Outcome::Answered { rcode: 0, kind: AnswerKind::Static, truncated: false }
}
