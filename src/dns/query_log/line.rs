//! A line of JSON of the query log.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::Message as Answer;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, RecordType};
use serde::Serialize;

use super::message::{Dnstap, Message, SocketProtocol};
use crate::model::{Name, Unix};
use crate::net::record_log::{RFC_3339, time};
use crate::wire::{Query, Question, rcode_name, rdata_text};

/// The most records of an answer that a line has.
const MOST_ANSWERS: usize = 32;

/// What a line says. What a query does not have is null.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    client: Option<IpAddr>,
    port: Option<u32>,
    server: Option<SocketAddr>,
    transport: &'static str,
    name: Option<String>,
    class: Option<String>,
    r#type: Option<String>,
    subnet: Option<String>,
    /// Bits of the subnet that the answer holds for.
    scope: Option<u8>,
    outcome: Option<&'a str>,
    service: Option<&'a str>,
    region: Option<&'a str>,
    rcode: Option<String>,
    truncated: Option<bool>,
    answers: Option<Vec<String>>,
    received: usize,
    sent: Option<usize>,
}

/// Appends the line of a record.
pub(super) fn append(lines: &mut Vec<u8>, record: &Dnstap) {
    let message = record.message.as_ref();
    let Some(message) = message else { return };
    let extra = record.extra.as_deref().and_then(|extra| str::from_utf8(extra).ok()).unwrap_or_default();
    let word = |key| {
        extra.split(' ').filter_map(|word| word.split_once('=')).find(|(it, _)| *it == key).map(|(_, it)| it)
    };
    let query = message.query_message.as_deref().unwrap_or_default();
    let reply = message.response_message.as_deref();
    let read = Query::decode(query);
    let question = read.as_ref().and_then(Query::question);
    let subnet = read.as_ref().and_then(|query| query.edns.as_ref()?.subnet);
    let answer = reply.and_then(|reply| Answer::from_vec(reply).ok());
    let seconds = Duration::from_secs(message.query_time_sec.unwrap_or_default());
    let at = Unix(seconds + Duration::from_nanos(message.query_time_nsec().into()));
    let line = Line {
        time: time(at, RFC_3339),
        client: message.query_address.as_deref().and_then(address),
        port: message.query_port,
        server: server(message),
        transport: match message.socket_protocol() {
            SocketProtocol::Udp => "udp",
            SocketProtocol::Tcp => "tcp",
            SocketProtocol::Dot => "tls",
        },
        name: question.and_then(name),
        class: question.map(|it| class(it.class)),
        r#type: question.map(|it| record_type(it.qtype)),
        subnet: subnet.and_then(|it| Some(format!("{}/{}", it.address()?, it.source))),
        scope: answer.as_ref().and_then(scope),
        outcome: word("outcome"),
        service: word("service"),
        region: word("region"),
        rcode: answer.as_ref().map(|it| rcode_name(it.metadata.response_code.into())),
        truncated: answer.as_ref().map(|it| it.metadata.truncation),
        answers: answer
            .map(|it| it.answers.iter().take(MOST_ANSWERS).map(|record| rdata_text(&record.data)).collect()),
        received: query.len(),
        sent: reply.map(<[u8]>::len),
    };
    // Nothing of it can fail to be JSON.
    if serde_json::to_writer(&mut *lines, &line).is_ok() {
        lines.push(b'\n');
    }
}

/// In lower case: resolvers vary it (0x20).
fn name(question: &Question<'_>) -> Option<String> {
    let name = question.name().to_ascii_lowercase();
    Name::from_wire(&name).ok().map(|name| name.to_string())
}

/// The mnemonic of a class; RFC 3597 §5 for those without.
fn class(class: u16) -> String {
    match DNSClass::from(class) {
        DNSClass::Unknown(number) => format!("CLASS{number}"),
        known => known.to_string(),
    }
}

/// The mnemonic of a type; RFC 3597 §5 for those without.
fn record_type(qtype: u16) -> String {
    match RecordType::from(qtype) {
        RecordType::Unknown(number) => format!("TYPE{number}"),
        known => known.to_string(),
    }
}

fn scope(answer: &Answer) -> Option<u8> {
    match answer.edns.as_ref()?.option(EdnsCode::Subnet)? {
        EdnsOption::Subnet(subnet) => Some(subnet.scope_prefix()),
        _ => None,
    }
}

fn server(message: &Message) -> Option<SocketAddr> {
    let port = u16::try_from(message.response_port?).ok()?;
    Some(SocketAddr::new(address(message.response_address.as_deref()?)?, port))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4().or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
