//! EDNS (RFC 6891): the OPT record of a query is read here and that of its reply written, and nowhere else.
//!
//! A new option needs an arm in `Request::with_options` if queries carry it, and a line in `Response::options`
//! if replies do.

use std::time::Duration;

use hickory_proto::op::ResponseCode;

use super::MAX_UDP_PAYLOAD;
use super::cookie::{Cookie, Granted};
use super::subnet::ClientSubnet;
use crate::zone::rtype;

/// Numbers of options.
mod code {
    /// Name server identifier (RFC 5001 §2.3).
    pub(super) const NSID: u16 = 3;
    /// Client subnet (RFC 7871 §6).
    pub(super) const SUBNET: u16 = 8;
    /// DNS cookies (RFC 7873 §4).
    pub(super) const COOKIE: u16 = 10;
    /// edns-tcp-keepalive (RFC 7828 §3.1).
    pub(super) const KEEPALIVE: u16 = 11;
    /// Extended DNS error (RFC 8914 §2).
    pub(super) const ERROR: u16 = 15;
}

/// The only version of EDNS.
const VERSION: u8 = 0;
/// DO, in the first byte of flags.
const DNSSEC_OK: u8 = 0x80;
/// Bytes of an OPT record without options: root, type, class, TTL, length.
const RECORD: usize = 11;
/// Bytes of an option before its data: code, length.
const OPTION: usize = 4;

/// The content of a query's OPT record (RFC 6891 §6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The largest UDP payload that the client advertises, in bytes.
    pub payload: u16,
    /// The version of EDNS; only 0 exists, and the options of others are not read.
    pub version: u8,
    /// DO (RFC 3225).
    pub dnssec_ok: bool,
    /// The client subnet option, if it is well formed.
    pub subnet: Option<ClientSubnet>,
    /// Whether the server's identifier is asked for (RFC 5001).
    pub nsid: bool,
    /// The cookies of client and server (RFC 7873).
    pub cookie: Option<Cookie>,
    /// Whether the client asks how long its connection may be idle (RFC 7828).
    pub keepalive: bool,
}

/// The OPT record of a reply. All but the extended error is always written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Response<'a> {
    /// DO, copied from the query (RFC 6891 §6.1.4).
    pub dnssec_ok: bool,
    /// The server's identifier (RFC 5001), at most [`MAX_IDENTITY`](crate::model::MAX_IDENTITY) bytes.
    pub nsid: Option<&'a [u8]>,
    /// The cookies of client and server (RFC 7873).
    pub cookie: Option<Granted>,
    /// How long the connection may be idle, at most 6553.5 s; never over UDP (RFC 7828 §3.2.2).
    pub keepalive: Option<Duration>,
    /// Why the answer is what it is (RFC 8914); left out where there is no room.
    pub error: Option<ExtendedError>,
    /// The client subnet of the query (RFC 7871).
    pub subnet: Option<&'a ClientSubnet>,
}

/// Why, beyond the RCODE (RFC 8914).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedError {
    /// INFO-CODE, by IANA's registry.
    code: u16,
    /// EXTRA-TEXT, in readable form; may be empty.
    text: &'static str,
}

impl Request {
    /// Reads an OPT record, given its class, TTL and data. `Err` is what it says apart from its options, which are
    /// malformed.
    pub(super) fn read(class: u16, ttl: [u8; 4], options: &[u8]) -> Result<Self, Self> {
        let [_, version, flags, _] = ttl;
        let bare = Self { payload: class, version, dnssec_ok: flags & DNSSEC_OK != 0, ..Self::default() };
        // Options of another version may have any meaning.
        if version != VERSION {
            return Ok(bare);
        }
        bare.with_options(options).ok_or(bare)
    }

    fn with_options(mut self, mut options: &[u8]) -> Option<Self> {
        while !options.is_empty() {
            let ([code_high, code_low, length_high, length_low], rest) = options.split_first_chunk()?;
            let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
            let (data, rest) = rest.split_at_checked(length)?;
            match u16::from_be_bytes([*code_high, *code_low]) {
                // RFC 5001 §2.1: "The server MUST ignore any NSID payload data".
                code::NSID => self.nsid = true,
                // RFC 7873 §5.2: "only the first (the one closest to the DNS header) is considered."
                code::COOKIE if self.cookie.is_some() => {}
                code::COOKIE => self.cookie = Some(Cookie::read(data)?),
                // RFC 7828 §3.2.1: a client "MUST specify an OPTION-LENGTH of 0"; with data it is ignored.
                code::KEEPALIVE => self.keepalive = data.is_empty(),
                // Two subnets contradict each other.
                code::SUBNET if self.subnet.is_some() => return None,
                code::SUBNET => self.subnet = Some(ClientSubnet::read(data)?),
                _ => {}
            }
            options = rest;
        }
        Some(self)
    }
}

impl Response<'_> {
    /// Passes each option to `put`: its code, and its data in two parts. `scope` is that of the client subnet.
    #[inline]
    fn options(&self, scope: u8, mut put: impl FnMut(u16, &[u8], &[u8])) {
        if let Some(nsid) = self.nsid {
            put(code::NSID, nsid, &[]);
        }
        if let Some(cookie) = &self.cookie {
            put(code::COOKIE, &cookie.option, &[]);
        }
        if let Some(keepalive) = self.keepalive {
            let tenths = u16::try_from(keepalive.as_millis() / 100).unwrap_or(u16::MAX);
            put(code::KEEPALIVE, &tenths.to_be_bytes(), &[]);
        }
        if let Some(error) = self.error {
            put(code::ERROR, &error.code.to_be_bytes(), error.text.as_bytes());
        }
        if let Some(subnet) = self.subnet {
            let (fixed, address) = subnet.reply(scope);
            put(code::SUBNET, &fixed, address);
        }
    }

    /// Bytes of the record.
    #[must_use]
    pub fn length(&self) -> usize {
        let mut length = RECORD;
        self.options(0, |_, first, second| length += OPTION + first.len() + second.len());
        length
    }

    /// Leaves out the extended error if the record has more than `room` bytes with it.
    pub(super) fn fit(&mut self, room: usize) {
        if self.error.is_some() && self.length() > room {
            self.error = None;
        }
    }

    /// Appends the record to a reply that holds for `scope` bits of the client's address (RFC 6891 §6.1.2, §6.1.3).
    pub fn write(&self, bytes: &mut Vec<u8>, rcode: ResponseCode, scope: u8) {
        let [payload_high, payload_low] = MAX_UDP_PAYLOAD.to_be_bytes();
        let flags = if self.dnssec_ok { DNSSEC_OK } else { 0 };
        let record: [u8; RECORD] =
            [0, 0, rtype::OPT as u8, payload_high, payload_low, rcode.high(), VERSION, flags, 0, 0, 0];
        bytes.extend_from_slice(&record);
        let start = bytes.len();
        self.options(scope, |code, first, second| {
            let [code_high, code_low] = code.to_be_bytes();
            let [length_high, length_low] = ((first.len() + second.len()) as u16).to_be_bytes();
            bytes.extend_from_slice(&[code_high, code_low, length_high, length_low]);
            bytes.extend_from_slice(first);
            bytes.extend_from_slice(second);
        });
        let length = (bytes.len() - start) as u16;
        bytes[start - 2..start].copy_from_slice(&length.to_be_bytes());
    }
}

impl ExtendedError {
    /// No region may be answered, and the service's policy is SERVFAIL.
    pub const ALL_DOWN: Self = Self { code: 0, text: "no region is up" };
    /// §4.19: the client is not allowed to ask this.
    pub const PROHIBITED: Self = Self { code: 18, text: "" };
    /// §4.21: the name is in none of the zones.
    pub const NOT_AUTHORITATIVE: Self = Self { code: 20, text: "" };
    /// §4.22: no such operation.
    pub const NOT_SUPPORTED: Self = Self { code: 21, text: "" };
    /// RFC 9824 §3.5: a type that no name can own.
    pub const INVALID_QUERY_TYPE: Self = Self { code: 30, text: "" };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::cookie::Proof;

    const SUBNET: &[u8] = b"\0\x08\0\x07\0\x01\x18\0\xc0\0\x02";

    fn read(options: &[u8]) -> Option<Request> {
        Request::read(1232, [0, 0, 0x80, 0], options).ok()
    }

    #[test]
    fn options_are_read_in_any_order_and_unknown_ones_skipped() {
        let bare = Request { payload: 1232, dnssec_ok: true, ..Request::default() };
        assert_eq!(read(b""), Some(bare));
        assert_eq!(read(b"\0\x0c\0\x02xy"), Some(bare), "padding");
        let cookie = read(b"\0\x0a\0\x08client-1").unwrap().cookie;
        assert_eq!(cookie, Cookie::read(b"client-1"));
        let first = read(b"\0\x0a\0\x08client-1\0\x0a\0\x08client-2\0\x0a\0\0").unwrap().cookie;
        assert_eq!(first, cookie, "RFC 7873 §5.2: only the first");
        let both = read(&[b"\0\x0b\0\0", SUBNET, b"\0\x03\0\0"].concat()).unwrap();
        assert!(both.keepalive && both.nsid);
        assert_eq!(both.subnet.unwrap().address(), Some([192, 0, 2, 0].into()));
        assert!(!read(b"\0\x0b\0\x02\0\x01").unwrap().keepalive, "with data");
        assert!(read(b"\0\x03\0\x02ns").unwrap().nsid, "RFC 5001 §2.1: its data is ignored");
    }

    #[test]
    fn malformed_options_are_an_error_that_keeps_the_rest() {
        let short_cookie = b"\0\x0a\0\x07client-";
        for options in [
            &b"\0\x03\0\0\0"[..],
            b"\0\x0c\0\x03xy",
            short_cookie,
            b"\0\x08\0\x04\0\x09\0\0",
            &SUBNET.repeat(2),
        ] {
            let rest = Request::read(512, [0; 4], options).unwrap_err();
            assert_eq!(rest, Request { payload: 512, ..Request::default() }, "{options:02x?}");
        }
        // Another version's options may be laid out otherwise.
        assert_eq!(Request::read(512, [0, 1, 0, 0], b"xyz").unwrap().version, 1);
    }

    #[test]
    fn a_record_has_the_length_it_says_and_leaves_out_the_error_first() {
        let subnet = read(SUBNET).unwrap().subnet;
        let subnet = subnet.as_ref();
        let keepalive = Some(Duration::from_secs(10));
        let error = Some(ExtendedError::ALL_DOWN);
        let cookie = Some(Granted { option: *b"client-1server-cookie-16", proof: Proof::Absent });
        let response = Response { dnssec_ok: true, nsid: Some(b"ns1"), cookie, keepalive, error, subnet };
        let written = |room| {
            let (mut response, mut bytes) = (response, vec![7; 3]);
            response.fit(room);
            response.write(&mut bytes, ResponseCode::BADVERS, 20);
            bytes.split_off(3)
        };
        let whole = written(response.length());
        assert_eq!(whole.len(), response.length());
        let (nsid, keepalive) = (b"\0\x03\0\x03ns1", b"\0\x0b\0\x02\0\x64");
        let cookie = b"\0\x0a\0\x18client-1server-cookie-16";
        let (error, subnet) = (b"\0\x0f\0\x11\0\0no region is up", b"\0\x08\0\x07\0\x01\x18\x14\xc0\0\x02");
        let record = |length: u8| [0, 0, 41, 4, 208, 1, 0, 0x80, 0, 0, length];
        assert_eq!(whole, [&record(73)[..], nsid, cookie, keepalive, error, subnet].concat());
        assert_eq!(
            written(response.length() - 1),
            [&record(52)[..], nsid, cookie, keepalive, subnet].concat()
        );
    }
}
