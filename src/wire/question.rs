//! A question and its name.

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// Name, type and class as received; the name is uncompressed and has at most 255 bytes.
    pub wire: &'a [u8],
    /// QTYPE.
    pub qtype: u16,
    /// QCLASS.
    pub class: u16,
}

/// The most bytes of a name in uncompressed wire format (RFC 1035 §2.3.4).
pub(super) const MAX_NAME: usize = 255;
/// Bytes of a question behind its name.
const TYPE_AND_CLASS: usize = 4;

impl<'a> Question<'a> {
    /// Reads the question that `wire` begins with. `None` if it is cut short, or its name is malformed or compressed,
    /// which nothing before it could justify.
    pub(super) fn read(wire: &'a [u8]) -> Option<Self> {
        let wire = wire.get(..name_length(wire)? + TYPE_AND_CLASS)?;
        let [type_high, type_low, class_high, class_low] = *wire.last_chunk()?;
        let qtype = u16::from_be_bytes([type_high, type_low]);
        Some(Self { wire, qtype, class: u16::from_be_bytes([class_high, class_low]) })
    }

    /// The name as received.
    #[must_use]
    pub fn name(&self) -> &'a [u8] {
        &self.wire[..self.wire.len() - TYPE_AND_CLASS]
    }
}

/// A name in uncompressed wire format, ASCII letters lowercased, kept without allocation.
#[derive(Clone, Debug)]
pub struct LowerName {
    bytes: [u8; 255],
    length: u8,
}

impl LowerName {
    /// Lowercases one name in uncompressed wire format; what is behind its end is ignored. `None` if it has
    /// no end within 255 bytes.
    #[must_use]
    pub fn of(wire: &[u8]) -> Option<Self> {
        let length = name_length(wire)?;
        let mut bytes = [0; 255];
        bytes[..length].copy_from_slice(&wire[..length]);
        // Length bytes are at most 63 and letters start at 65, so lowercasing leaves them alone.
        bytes.make_ascii_lowercase();
        Some(Self { bytes, length: length as u8 })
    }

    /// The bytes, root label included.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// Bytes of the uncompressed name that `wire` begins with; `None` if it has no end within [`MAX_NAME`].
pub(super) fn name_length(wire: &[u8]) -> Option<usize> {
    let mut end = 0;
    loop {
        match *wire.get(end)? {
            0 => break,
            length @ 1..=63 => end += usize::from(length) + 1,
            _ => return None,
        }
    }
    (end < MAX_NAME).then_some(end + 1)
}
