//! The messages of dnstap (<https://github.com/dnstap/dnstap.pb>), as far as they are used here.

use prost::{Enumeration, Message as ProstMessage};

/// What is in a frame.
#[derive(Clone, PartialEq, ProstMessage)]
pub(super) struct Dnstap {
    /// Which server this is.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub(super) identity: Option<Vec<u8>>,
    /// Its software.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(super) version: Option<Vec<u8>>,
    /// What became of the query, as words `key=value`: `outcome`, and for services `service` and `region`.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(super) extra: Option<Vec<u8>>,
    #[prost(message, optional, tag = "14")]
    pub(super) message: Option<Message>,
    /// Always 1, a DNS message.
    #[prost(int32, required, tag = "15", default = "1")]
    pub(super) r#type: i32,
}

/// A query with its response, or without.
#[derive(Clone, PartialEq, ProstMessage)]
pub(super) struct Message {
    #[prost(enumeration = "Kind", required, tag = "1")]
    pub(super) r#type: i32,
    #[prost(enumeration = "SocketFamily", optional, tag = "2")]
    pub(super) socket_family: Option<i32>,
    #[prost(enumeration = "SocketProtocol", optional, tag = "3")]
    pub(super) socket_protocol: Option<i32>,
    /// 4 or 16 bytes.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(super) query_address: Option<Vec<u8>>,
    /// 4 or 16 bytes.
    #[prost(bytes = "vec", optional, tag = "5")]
    pub(super) response_address: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "6")]
    pub(super) query_port: Option<u32>,
    #[prost(uint32, optional, tag = "7")]
    pub(super) response_port: Option<u32>,
    #[prost(uint64, optional, tag = "8")]
    pub(super) query_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "9")]
    pub(super) query_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "10")]
    pub(super) query_message: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "12")]
    pub(super) response_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "13")]
    pub(super) response_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "14")]
    pub(super) response_message: Option<Vec<u8>>,
}

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(super) enum Kind {
    /// A query that an authoritative server received, and did not answer.
    AuthQuery = 1,
    /// Its response, with the query.
    AuthResponse = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(super) enum SocketFamily {
    Inet = 1,
    Inet6 = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(super) enum SocketProtocol {
    Udp = 1,
    Tcp = 2,
    /// DNS over TLS (RFC 7858).
    Dot = 3,
}
