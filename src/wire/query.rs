//! What a query asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError};

use super::common;
use super::{HEADER, OPTION_KEEPALIVE, OPTION_NSID, OPTION_SUBNET};
use crate::zone::rtype;

/// A query as far as it could be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// Copied into the reply.
    pub id: u16,
    /// 0 to 15, copied into the reply.
    pub opcode: u8,
    /// RD, copied into the reply.
    pub recursion_desired: bool,
    /// The question; none if [`Query::fault`] was found before it.
    pub question: Option<Question<'a>>,
    /// What its OPT record says, if it has one.
    pub edns: Option<Edns>,
    /// Why it is refused, whatever is asked.
    pub fault: Option<ResponseCode>,
}

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

/// Bytes of the uncompressed name that `wire` begins with; `None` if it has no end within 255 (RFC 1035 §2.3.4).
fn name_length(wire: &[u8]) -> Option<usize> {
    let mut end = 0;
    loop {
        match *wire.get(end)? {
            0 => break,
            length @ 1..=63 => end += usize::from(length) + 1,
            _ => return None,
        }
    }
    (end < 255).then_some(end + 1)
}

/// What an OPT record says (RFC 6891 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// The largest UDP payload the client takes, as it says.
    pub payload: u16,
    /// 0 is the only version there is.
    pub version: u8,
    /// DO (RFC 3225).
    pub dnssec_ok: bool,
    /// The client subnet option, checked.
    pub subnet: Option<ClientSubnet>,
    /// Whether the server's identifier is asked for (RFC 5001).
    pub nsid: bool,
    /// Whether the client wants to know how long its connection may idle (RFC 7828).
    pub keepalive: bool,
}

/// The client subnet option of a query (RFC 7871 §6); bits beyond the prefix are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientSubnet {
    /// FAMILY: 1 is IPv4, 2 is IPv6, 0 is none, with no address.
    pub family: u16,
    /// SOURCE PREFIX-LENGTH: 0 to 32 or 128.
    pub source: u8,
    address: [u8; 16],
}

impl ClientSubnet {
    /// The address, with zeros beyond the prefix; `None` if the client gives none away (source 0).
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        let [a, b, c, d, ..] = self.address;
        match (self.family, self.source) {
            (_, 0) => None,
            (1, _) => Some(Ipv4Addr::new(a, b, c, d).into()),
            (2, _) => Some(Ipv6Addr::from(self.address).into()),
            _ => None,
        }
    }

    /// ADDRESS as received: as many bytes as the prefix needs.
    #[must_use]
    pub fn address_bytes(&self) -> &[u8] {
        &self.address[..usize::from(self.source).div_ceil(8)]
    }

    /// RFC 7871 §7.1.2: "If the FAMILY, SOURCE PREFIX-LENGTH, and ADDRESS ... FORMERR"; nothing malformed is
    /// normalised.
    pub(super) fn parse(option: &[u8]) -> Option<Self> {
        let [family_high, family_low, source, scope, address @ ..] = option else { return None };
        let family = u16::from_be_bytes([*family_high, *family_low]);
        let longest = match family {
            0 => 0,
            1 => 32,
            2 => 128,
            _ => return None,
        };
        // RFC 7871 §6: SCOPE PREFIX-LENGTH "MUST be set to 0" in queries.
        if *source > longest || *scope != 0 || address.len() != usize::from(*source).div_ceil(8) {
            return None;
        }
        let spare_bits = (8 - source % 8) % 8;
        if address.last().is_some_and(|last| last.trailing_zeros() < u32::from(spare_bits)) {
            return None;
        }
        let mut subnet = Self { family, source: *source, address: [0; 16] };
        subnet.address[..address.len()].copy_from_slice(address);
        Some(subnet)
    }
}

impl<'a> Query<'a> {
    /// Reads a message. `None` if it deserves no reply: shorter than a header, or itself a reply.
    #[inline]
    #[must_use]
    pub fn read(message: &'a [u8]) -> Option<Self> {
        match common::read(message) {
            None => Self::decode(message),
            query => query,
        }
    }

    /// As [`Query::read`], but by a decoder that takes whatever comes: what the other is held to.
    #[must_use]
    pub fn decode(message: &'a [u8]) -> Option<Self> {
        let header = message.get(..HEADER)?;
        let flags = header[2];
        if flags & 0x80 != 0 {
            return None;
        }
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let mut query = Self {
            id: count(0),
            opcode: flags >> 3 & 0x0f,
            recursion_desired: flags & 1 != 0,
            question: None,
            edns: None,
            fault: None,
        };
        let records = [count(6), count(8), count(10)];
        query.fault = query.sections(message, count(4), records).unwrap_or(Some(ResponseCode::FormErr));
        // The sections of other opcodes were read for their OPT record alone: RFC 6891 §7 wants one in the reply
        // to any message that has one.
        if query.opcode != 0 {
            query.fault = Some(ResponseCode::NotImp);
        }
        Some(query)
    }

    /// Reads question and records; the fault that they hold, if they can be read at all.
    fn sections(
        &mut self,
        message: &'a [u8],
        questions: u16,
        [answers, authorities, additionals]: [u16; 3],
    ) -> Result<Option<ResponseCode>, DecodeError> {
        let mut decoder = BinDecoder::new(message).clone(HEADER as u16);
        let mut fault = None;
        if questions == 1 {
            self.question = Question::read(&message[HEADER..]);
            let Some(question) = self.question else { return Ok(Some(ResponseCode::FormErr)) };
            decoder.read_slice(question.wire.len())?;
        } else {
            // RFC 9619 §4: "a DNS message with OPCODE = 0 and QDCOUNT > 1 MUST be treated as an incorrectly
            // formatted message". None at all is for cookies alone (RFC 7873 §5.4), which are not supported.
            fault = Some(ResponseCode::FormErr);
            for _ in 0..questions {
                Name::read(&mut decoder)?;
                decoder.read_slice(4)?;
            }
        }
        for _ in 0..u32::from(answers) + u32::from(authorities) {
            // An OPT record elsewhere than in the additional section is none (RFC 6891 §6.1.1).
            if record(&mut decoder)?.rtype == rtype::OPT {
                fault = Some(ResponseCode::FormErr);
            }
        }
        for _ in 0..additionals {
            let record = record(&mut decoder)?;
            if record.rtype != rtype::OPT {
                continue;
            }
            // RFC 6891 §6.1.1: "If a query message with more than one OPT RR is received, a FORMERR (RCODE=1)
            // MUST be returned."
            if self.edns.is_some() || !record.at_root {
                fault = Some(ResponseCode::FormErr);
                continue;
            }
            let found = self.opt(&record)?;
            fault = fault.or(found);
        }
        Ok(fault)
    }

    /// Reads an OPT record; the fault that it holds, if its options can be read at all.
    fn opt(&mut self, record: &Raw<'_>) -> Result<Option<ResponseCode>, DecodeError> {
        let [_, version, flags, _] = record.ttl.to_be_bytes();
        let (dnssec_ok, payload) = (flags & 0x80 != 0, record.class);
        let edns = Edns { payload, version, dnssec_ok, subnet: None, nsid: false, keepalive: false };
        let edns = self.edns.insert(edns);
        // RFC 6891 §6.1.3: "If a responder does not implement the VERSION level of the request, then it MUST
        // respond with RCODE=BADVERS." The options of another version may mean anything.
        if version != 0 {
            return Ok(Some(ResponseCode::BADVERS));
        }
        let mut options = BinDecoder::new(record.data);
        while !options.is_empty() {
            let code = options.read_u16()?.unverified(/* compared with those known */);
            let length = options.read_u16()?.unverified(/* checked by the slice */);
            let data = options.read_slice(usize::from(length))?.unverified(/* parsed below */);
            match code {
                OPTION_NSID => edns.nsid = true,
                // RFC 7828 §3.2.1: a client "MUST specify an OPTION-LENGTH of 0"; another is no such option.
                OPTION_KEEPALIVE => edns.keepalive = data.is_empty(),
                OPTION_SUBNET => match ClientSubnet::parse(data) {
                    Some(subnet) if edns.subnet.is_none() => edns.subnet = Some(subnet),
                    // Malformed, or the second one.
                    _ => {
                        edns.subnet = None;
                        return Ok(Some(ResponseCode::FormErr));
                    }
                },
                _ => {}
            }
        }
        Ok(None)
    }
}

/// A record of a query, undecoded.
struct Raw<'a> {
    at_root: bool,
    rtype: u16,
    class: u16,
    ttl: u32,
    data: &'a [u8],
}

fn record<'a>(decoder: &mut BinDecoder<'a>) -> Result<Raw<'a>, DecodeError> {
    let at_root = Name::read(decoder)?.is_root();
    let rtype = decoder.read_u16()?.unverified(/* compared with OPT */);
    let class = decoder.read_u16()?.unverified(/* the payload of an OPT */);
    let ttl = decoder.read_u32()?.unverified(/* the flags of an OPT */);
    let length = decoder.read_u16()?.unverified(/* checked by the slice */);
    let data = decoder.read_slice(usize::from(length))?.unverified(/* the options of an OPT */);
    Ok(Raw { at_root, rtype, class, ttl, data })
}
