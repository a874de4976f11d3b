//! Name compression (RFC 1035 §4.1.4).

use super::HEADER;

/// Where in a message there are names that later ones can point to: the question's, and those written since.
#[derive(Debug)]
pub(super) struct Names {
    /// Where the question's name ends.
    question_end: usize,
    /// Names that were written, and the names that those end with.
    places: [Position; MAX_PLACES],
    count: usize,
}

/// Where a name begins in a message.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    at: u16,
    /// Bytes of the uncompressed name. Names of another length are skipped: otherwise long names that differ only in
    /// their last labels would be compared once for each pair of their labels.
    length: u8,
}

/// Labels that names are compressed against, beside the question's. It bounds the cost of a name.
const MAX_PLACES: usize = 64;
/// The first two bits of a pointer; 14 are left for where it points.
const POINTER: u16 = 0xc000;
/// The same two bits in its first byte.
const POINTER_BYTE: u8 = 0xc0;

/// A pointer to the part of the question's name that begins at byte `offset` of it.
pub(super) fn to_question(offset: usize) -> u16 {
    POINTER | (HEADER + offset) as u16
}

/// Bytes of the uncompressed name that `wire` begins with; all bytes if the name has no end.
pub(super) fn length(wire: &[u8]) -> usize {
    let mut end = 0;
    while let Some(length @ 1..) = wire.get(end) {
        end += usize::from(*length) + 1;
    }
    wire.len().min(end + 1)
}

impl Names {
    /// Knows only the question's name: `question` bytes behind the header, uncompressed.
    pub(super) fn new(question: usize) -> Self {
        Self { question_end: HEADER + question, places: [Position::default(); MAX_PLACES], count: 0 }
    }

    /// The number of labels known, for [`Names::forget`].
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Forgets all but the first `count` labels.
    pub(super) fn forget(&mut self, count: usize) {
        self.count = count;
    }

    /// Appends a name in uncompressed wire format to a message: the labels that are new, and a pointer to the rest,
    /// which then has the case of the earlier name (RFC 4343 §4.1).
    pub(super) fn write(&mut self, message: &mut Vec<u8>, name: &[u8]) {
        let start = message.len();
        let (mut label, mut rest) = (0, None);
        while let Some(length @ 1..) = name.get(label) {
            rest = self.find(message, &name[label..]);
            if rest.is_some() {
                break;
            }
            label += usize::from(*length) + 1;
        }
        let labels = &name[..label.min(name.len())];
        message.extend_from_slice(labels);
        match rest {
            Some(place) => message.extend_from_slice(&(POINTER | place).to_be_bytes()),
            None => message.push(0),
        }
        self.remember(name, labels.len(), start);
    }

    /// Remembers a name whose labels up to byte `written` were written at `start`.
    fn remember(&mut self, name: &[u8], written: usize, start: usize) {
        let mut label = 0;
        // RFC 1035 §4.1.4: a pointer has 14 bits.
        while label < written && self.count < MAX_PLACES && start + label <= usize::from(!POINTER) {
            self.places[self.count] =
                Position { at: (start + label) as u16, length: (name.len() - label) as u8 };
            self.count += 1;
            label += usize::from(name[label]) + 1;
        }
    }

    /// The place of an equal name, in whatever case, that the message already has.
    fn find(&self, message: &[u8], name: &[u8]) -> Option<u16> {
        // Within the question's name only one place has the right distance to the end.
        let place = self.question_end.checked_sub(name.len()).filter(|place| *place >= HEADER);
        let place = place.filter(|place| self.is_in_question(message, *place, name));
        let place = place.filter(|place| is_label(&message[HEADER..self.question_end], place - HEADER));
        place.map(|place| place as u16).or_else(|| {
            let mut alike = self.places[..self.count].iter().filter(|place| place.length == name.len() as u8);
            alike.find(|place| self.is_at(message, place.at, name)).map(|place| place.at)
        })
    }

    /// Whether the question's name is `name` from `place` on.
    fn is_in_question(&self, message: &[u8], place: usize, name: &[u8]) -> bool {
        // Most also have the same case, which is faster to check.
        let there = &message[place..self.question_end];
        there.first() == name.first() && (there == name || there.eq_ignore_ascii_case(name))
    }

    /// Whether the name written at `place` is `name`.
    fn is_at(&self, message: &[u8], place: u16, name: &[u8]) -> bool {
        let (mut at, mut label) = (usize::from(place), 0);
        loop {
            if at < self.question_end {
                return self.is_in_question(message, at, &name[label..]);
            }
            let Some(length) = message.get(at) else { return false };
            if let Some(high) = length.checked_sub(POINTER_BYTE) {
                // Written here, so it points back.
                let Some(low) = message.get(at + 1) else { return false };
                at = usize::from(u16::from_be_bytes([high, *low]));
                continue;
            }
            if name.get(label) != Some(length) {
                return false;
            }
            if *length == 0 {
                return true;
            }
            let end = usize::from(*length) + 1;
            let (Some(there), Some(here)) = (message.get(at..at + end), name.get(label..label + end)) else {
                return false;
            };
            if there != here && !there.eq_ignore_ascii_case(here) {
                return false;
            }
            at += end;
            label += end;
        }
    }
}

/// Whether a label of an uncompressed name begins at byte `place`.
fn is_label(name: &[u8], place: usize) -> bool {
    let mut label = 0;
    while label < place {
        label += usize::from(name[label]) + 1;
    }
    label == place
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Name;
    use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
    use proptest::prelude::*;

    use super::*;

    /// The bytes written for a name after the question and other names.
    fn written(question: &[u8], before: &[&[u8]], name: &[u8]) -> Vec<u8> {
        let mut message = [&[0; HEADER], question].concat();
        let mut names = Names::new(question.len());
        before.iter().for_each(|name| names.write(&mut message, name));
        let start = message.len();
        names.write(&mut message, name);
        message.split_off(start)
    }

    #[test]
    fn names_point_to_the_longest_suffix_already_written() {
        let question: &[u8] = b"\x03www\x07example\0";
        let check =
            |before: &[&[u8]], name, expected: &[u8]| assert_eq!(written(question, before, name), expected);
        check(&[], question, b"\xc0\x0c");
        check(&[], b"\x03wWw\x07exAmple\0", b"\xc0\x0c");
        check(&[], b"\x02ns\x07example\0", b"\x02ns\xc0\x10");
        check(&[], b"\x02ns\x04test\0", b"\x02ns\x04test\0");
        check(&[], b"\0", b"\0");
        // At 25: ns, pointer.
        check(&[b"\x02ns\x07example\0"], b"\x01a\x02NS\x07example\0", b"\x01a\xc0\x19");
        check(&[b"\x02ns\x04test\0"], b"\x04test\0", b"\xc0\x1c");
        check(&[b"\x02ns\x04test\0"], b"\x02ns\x04tesT\0", b"\xc0\x19");
    }

    #[test]
    fn bytes_that_merely_resemble_a_name_are_not_pointed_to() {
        // One label whose last bytes read like a name, and one within the name before.
        assert_eq!(written(b"\x07ab\x04test\0", &[], b"\x04test\0"), b"\x04test\0");
        assert_eq!(written(b"\0", &[b"\x07ab\x04test\0"], b"\x04test\0"), b"\x04test\0");
    }

    #[test]
    fn names_beyond_a_pointers_reach_are_written_out() {
        let mut message = vec![0; 0x3ffe];
        let mut names = Names::new(1);
        let mut write = |name| {
            let start = message.len();
            names.write(&mut message, name);
            message[start..].to_vec()
        };
        assert_eq!(write(b"\x01a\x01b\0"), b"\x01a\x01b\0");
        assert_eq!(write(b"\x01a\x01b\0"), b"\xff\xfe", "at 0x3ffe");
        assert_eq!(write(b"\x01b\0"), b"\x01b\0", "at 0x4000");
    }

    #[test]
    fn the_longest_names_are_pointed_to() {
        let longest = [&b"\x01a".repeat(127)[..], b"\0"].concat();
        assert_eq!(longest.len(), 255);
        assert_eq!(written(&longest, &[], &longest), b"\xc0\x0c");
        assert_eq!(written(b"\0", &[&longest], &longest), b"\xc0\x0d");
        // The last suffix that is remembered, and the next.
        let (kept, forgotten) = (2 * (MAX_PLACES - 1), 2 * MAX_PLACES);
        assert_eq!(written(b"\0", &[&longest], &longest[kept..]), (0xc00d + kept as u16).to_be_bytes());
        assert_eq!(written(b"\0", &[&longest], &longest[forgotten..]), longest[forgotten..]);
    }

    fn any_name() -> impl Strategy<Value = Vec<u8>> {
        let label = prop::sample::select(vec![&b"a"[..], b"A", b"b", b"ab", b"\x01a", b"a\x01b", b"example"]);
        prop::collection::vec(label, 0..6).prop_map(|labels| {
            let wire = labels
                .iter()
                .flat_map(|label| std::iter::once(label.len() as u8).chain(label.iter().copied()));
            wire.chain([0]).collect()
        })
    }

    proptest! {
        #[test]
        fn an_independent_decoder_reads_the_same_names(names in prop::collection::vec(any_name(), 1..40)) {
            let mut message = [&[0; HEADER], &names[0][..]].concat();
            let mut places = vec![HEADER];
            let mut known = Names::new(names[0].len());
            for name in &names[1..] {
                places.push(message.len());
                known.write(&mut message, name);
            }
            for (name, place) in names.iter().zip(places) {
                let read = Name::read(&mut BinDecoder::new(&message).clone(place as u16)).unwrap();
                prop_assert_eq!(read, Name::read(&mut BinDecoder::new(name)).unwrap());
            }
        }
    }
}
