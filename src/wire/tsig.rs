//! Transaction signatures (RFC 8945). This server has no keys, so it reads a signature only to say so in its reply.

use super::CLASS_ANY;
use super::header::HEADER;
use super::question::{self, MAX_NAME, Question};
use crate::zone::rtype;

/// BADKEY, in the error field (RFC 8945 §3).
const BAD_KEY: [u8; 2] = [0, 17];
/// Bytes of the data behind the algorithm: the time of the signature and how far clocks may differ.
const TIMES: usize = 6 + 2;

/// The TSIG record of a query, as far as the reply repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tsig<'a> {
    /// The name of the key as received. If it ends with a pointer, that leads to the question, which the reply repeats in
    /// the same place.
    key: &'a [u8],
    /// Algorithm, time and fudge.
    start: &'a [u8],
    /// The message's ID before a forwarder changed it.
    original_id: [u8; 2],
}

impl<'a> Tsig<'a> {
    /// Reads a record. `None` if it cannot be interpreted, which RFC 8945 §5.2 makes a format error.
    pub(super) fn read(key: &'a [u8], class: u16, data: &'a [u8]) -> Option<Self> {
        let start = data.get(..question::name_length(data)? + TIMES)?;
        let ([high, low], rest) = data[start.len()..].split_first_chunk()?;
        let (_mac, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
        let ([id_high, id_low, _, _, high, low], other) = rest.split_first_chunk()?;
        let is_whole = other.len() == usize::from(u16::from_be_bytes([*high, *low]));
        // RFC 8945 §4.2: the class "MUST be ANY".
        (class == CLASS_ANY && is_whole).then_some(Self { key, start, original_id: [*id_high, *id_low] })
    }

    /// The data of the record that rejects the key: without a signature (RFC 8945 §5.3.2).
    fn rejection(&self) -> [&[u8]; 5] {
        [self.start, &[0, 0], &self.original_id, &BAD_KEY, &[0, 0]]
    }

    /// Appends the record that rejects the key, if the message then has at most `limit` bytes. Returns how many records it
    /// appended.
    pub(super) fn reject(&self, bytes: &mut Vec<u8>, limit: usize) -> u16 {
        let data = self.rejection();
        let length: usize = data.iter().map(|part| part.len()).sum();
        let fixed = [
            rtype::TSIG.to_be_bytes(),
            CLASS_ANY.to_be_bytes(),
            [0; 2],
            [0; 2],
            (length as u16).to_be_bytes(),
        ];
        if bytes.len() + self.key.len() + fixed.as_flattened().len() + length > limit {
            return 0;
        }
        bytes.extend_from_slice(self.key);
        bytes.extend_from_slice(fixed.as_flattened());
        data.iter().for_each(|part| bytes.extend_from_slice(part));
        1
    }
}

/// Whether a pointer at the end of a key's name leads to a label of the question's name, and the whole has at most 255
/// bytes. `labels` is the length of what is before the pointer.
pub(super) fn is_in_question(pointer: u16, labels: usize, question: &Question<'_>) -> bool {
    let name = question.name();
    let Some(target) = usize::from(pointer).checked_sub(HEADER) else { return false };
    let mut start = 0;
    while start < target && start < name.len() {
        start += usize::from(name[start]) + 1;
    }
    start == target && start < name.len() && labels + name.len() - start <= MAX_NAME
}
