//! Messages as long as TCP carries, full of copies of one part: their reading never depends on where pointers lead, and
//! ends where a query cannot go on.

use allocation_counter::measure;
use hickory_proto::op::Message;
use portolan::answer::{Outcome, Transport};
use portolan::wire::{HEADER, MAX_ENTRIES, Query};

use crate::fixture::{SNAPSHOT, ask};

/// The longest message that TCP carries (RFC 1035 §4.2.2).
const LONGEST: usize = 65_535;

/// The first byte has the flags, followed by the four counts, the length of what comes first, and that; the rest is
/// repeated.
pub(crate) fn answer(bytes: &[u8]) {
    let Some(([flags, counts @ .., length], parts)) = bytes.split_first_chunk::<10>() else { return };
    let (first, repeated) = parts.split_at(parts.len().min(usize::from(*length)));
    let mut message = [&[7, 7, *flags, 0], &counts[..], first].concat();
    if !repeated.is_empty() {
        let copies = (LONGEST - message.len()) / repeated.len();
        message.extend(repeated.repeat(copies));
    }

    let mut query = None;
    let allocations = measure(|| query = Query::read(&message)).count_total;
    assert_eq!(allocations, 0, "reading needs no memory");
    assert_eq!(query, Query::decode(&message), "read straight or decoded");
    let (reply, outcome) = ask(&SNAPSHOT, &message, Transport::Tcp);
    let Some(query) = query else { return assert_eq!(outcome, Outcome::Dropped) };
    Message::from_vec(&reply).unwrap_or_else(|error| panic!("{error} in {reply:02x?}"));

    let entries: u32 =
        counts.chunks_exact(2).map(|count| u32::from(count[0]) << 8 | u32::from(count[1])).sum();
    if entries > MAX_ENTRIES {
        let question = query.question().map_or(0, |question| question.wire.len());
        let mut other = message.clone();
        other[HEADER + question..].fill(0xff);
        assert_eq!(Query::read(&other), Some(query), "what follows the question is not read");
        assert_eq!(reply.len(), HEADER + question, "an error without an OPT record");
    }
}
