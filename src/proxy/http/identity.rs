//! What a request tells a backend about the client, itself and its trace.

use std::cell::Cell;

use http::header::{Entry, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::headers::{Sender, joined, remove_all};
use crate::model::{ClientHeaders, Fraction};

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What only trusted hops may say.
const CLAIMS: [HeaderName; 8] = [
    FORWARDED,
    TRACEPARENT,
    TRACESTATE,
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PROTO,
    X_REAL_IP,
    X_REQUEST_ID,
];

/// Whether only trusted hops may send a header of this name.
pub(super) fn is_claim(name: &str) -> bool {
    (name.starts_with("x-") || name.starts_with("trace") || name == "forwarded")
        && CLAIMS.iter().any(|it| it == name)
}

/// Bytes of a request id that is kept; a longer one is replaced.
const LONGEST_REQUEST_ID: usize = 128;

/// Ids of a worker: a part of chance that tells workers and processes apart, and a scrambled counter, so that no two ids of a
/// worker are equal.
pub(in crate::proxy) struct Ids {
    worker: u64,
    count: Cell<u64>,
}

impl Ids {
    pub(in crate::proxy) fn new() -> Self {
        let mut random = fastrand::Rng::new();
        Self { worker: random.u64(1..), count: Cell::new(random.u64(..)) }
    }

    fn next(&self) -> u128 {
        u128::from(self.worker) << 64 | u128::from(self.next_half())
    }

    fn next_value(&self) -> HeaderValue {
        let mut digits = [0; 32];
        data_encoding::HEXLOWER.encode_mut(&self.next().to_be_bytes(), &mut digits);
        HeaderValue::from_bytes(&digits).expect("digits are a valid value")
    }

    /// Half an id, never 0.
    fn next_half(&self) -> u64 {
        loop {
            self.count.set(self.count.get().wrapping_add(0x9E37_79B9_7F4A_7C15));
            // SplitMix64's finalizer, a bijection.
            let mut id = self.count.get();
            id = (id ^ (id >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            id = (id ^ (id >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            id ^= id >> 31;
            if id != 0 {
                return id;
            }
        }
    }
}

/// Removes from trailers what only this proxy may say of a client.
pub(super) fn remove_claims(trailers: &mut HeaderMap) {
    for name in CLAIMS {
        trailers.remove(name);
    }
}

/// Writes who the client is, the request's id and its trace. What an untrusted client says about them, if `has_claims`, is
/// removed.
pub(super) fn identify(
    headers: &mut HeaderMap,
    authority: &Authority,
    sender: &Sender<'_>,
    has_claims: bool,
) {
    let ClientHeaders { x_forwarded, forwarded, request_id, trace } = *sender.headers;
    if !sender.is_trusted {
        if has_claims {
            remove_all(headers, &CLAIMS);
        }
        remove_all(headers, sender.certificate_headers);
    }
    if let Some((name, value)) = sender.certificate {
        headers.insert(name, value.clone());
    }
    let proto = if sender.is_encrypted { "https" } else { "http" };
    // As a rule it is what the client has sent.
    let sent = headers.get(HOST).filter(|it| *it == authority.as_str()).cloned();
    let is_sent = sent.is_some();
    let host = sent.or_else(|| HeaderValue::from_str(authority.as_str()).ok());
    if x_forwarded {
        append(headers, X_FORWARDED_FOR, sender.shown.clone());
        headers.entry(X_REAL_IP).or_insert_with(|| sender.shown.clone());
        headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static(proto));
        if let Some(host) = &host {
            headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());
        }
    }
    if forwarded && let Some(element) = element(sender.shown, authority, proto) {
        append(headers, FORWARDED, element);
    }
    if let Some(host) = host.filter(|_| !is_sent) {
        headers.insert(HOST, host);
    }
    if request_id && kept_id(headers).is_none() {
        headers.insert(X_REQUEST_ID, sender.ids.next_value());
    }
    if let Some(share) = trace {
        continue_trace(headers, sender.ids, share);
    }
}

/// Adds an element to a list, in one header.
fn append(headers: &mut HeaderMap, name: HeaderName, element: HeaderValue) {
    match headers.entry(name) {
        Entry::Vacant(none) => {
            none.insert(element);
        }
        Entry::Occupied(mut before) => {
            let all: Vec<&[u8]> =
                before.iter().map(HeaderValue::as_bytes).chain([element.as_bytes()]).collect();
            if let Some(whole) = joined(&all, b", ") {
                before.insert(whole);
            }
        }
    }
}

/// This hop's element of `Forwarded` (RFC 7239 §4). The host was parsed, so it has nothing that a quoted string would have to
/// escape.
fn element(client: &HeaderValue, authority: &Authority, proto: &str) -> Option<HeaderValue> {
    let client = client.to_str().ok()?;
    // RFC 7239 §6.1: IPv6 addresses are in brackets, and quoted.
    let node = if client.contains(':') { format!("\"[{client}]\"") } else { client.to_owned() };
    HeaderValue::try_from(format!("for={node};host=\"{authority}\";proto={proto}")).ok()
}

/// The id of a request that came with one, if it is one that can be logged.
fn kept_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut ids = headers.get_all(X_REQUEST_ID).iter();
    let (Some(id), None) = (ids.next(), ids.next()) else { return None };
    let is_good =
        (1..=LONGEST_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
    is_good.then_some(id)
}

/// Continues the trace of the request with a new parent, or begins one, of which this share is marked as sampled (W3C Trace
/// Context §3.2).
fn continue_trace(headers: &mut HeaderMap, ids: &Ids, sampled: Fraction) {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let parsed = match (given.next(), given.next()) {
        (Some(parent), None) => parse_traceparent(parent.as_bytes()),
        _ => None,
    };
    let (trace, flags) = parsed.unwrap_or_else(|| {
        headers.remove(TRACESTATE);
        let id = ids.next();
        // The lower half is as good as random.
        let is_sampled = (id as u64) as f64 <= sampled.get() * u64::MAX as f64;
        (id, u8::from(is_sampled))
    });
    let parent = HeaderValue::try_from(format!("00-{trace:032x}-{:016x}-{flags:02x}", ids.next_half()));
    headers.insert(TRACEPARENT, parent.expect("digits are a valid value"));
}

/// The trace and the flags that this version knows (§3.2.2). Later versions may have more after them (§4).
fn parse_traceparent(value: &[u8]) -> Option<(u128, u8)> {
    const LENGTH: usize = 55;
    let text = std::str::from_utf8(value).ok()?;
    let (known, rest) = text.split_at_checked(LENGTH)?;
    let mut parts = known.split('-');
    let mut number = |digits: usize| {
        let part = parts.next()?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_good = part.len() == digits && part.bytes().all(is_hex);
        u128::from_str_radix(part, 16).ok().filter(|_| is_good)
    };
    let (version, trace, parent, flags) = (number(2)?, number(32)?, number(16)?, number(2)?);
    let has_good_end = rest.is_empty() || (version > 0 && rest.starts_with('-'));
    let is_valid = version != 0xff && trace != 0 && parent != 0 && has_good_end;
    is_valid.then_some((trace, (flags & 1) as u8))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_unique() {
        let (one, two) = (Ids::new(), Ids::new());
        let ids: HashSet<u128> = (0..50_000).flat_map(|_| [one.next(), two.next()]).collect();
        assert_eq!(ids.len(), 100_000);
    }

    #[test]
    fn a_trace_is_continued_only_if_it_is_valid() {
        const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = |version: &str, trace: &str, parent: &str, rest: &str| {
            format!("{version}-{trace}-{parent}-{rest}")
        };
        let ours = "00f067aa0ba902b7";
        for (value, flags) in [
            (parent("00", TRACE, ours, "01"), Some(1)),
            (parent("00", TRACE, ours, "02"), Some(0)),
            (parent("01", TRACE, ours, "01-more"), Some(1)),
            (parent("00", TRACE, ours, "01-more"), None),
            (parent("01", TRACE, ours, "01more"), None),
            (parent("ff", TRACE, ours, "01"), None),
            (parent("00", &"0".repeat(32), ours, "01"), None),
            (parent("00", TRACE, &"0".repeat(16), "01"), None),
            (parent("00", &TRACE.to_uppercase(), ours, "01"), None),
            (parent("00", &format!("+{}", &TRACE[1..]), ours, "01"), None),
            (parent("00", TRACE, ours, "1"), None),
            (format!("00-{TRACE}-{}é-01", &ours[2..]), None),
            (String::new(), None),
        ] {
            let trace = u128::from_str_radix(TRACE, 16).unwrap();
            assert_eq!(parse_traceparent(value.as_bytes()), flags.map(|flags| (trace, flags)), "{value}");
        }
    }

    #[test]
    fn a_share_of_the_traces_is_sampled() {
        let ids = Ids::new();
        for (percent, expected) in [(0.0, 0..=0), (25.0, 2_200..=2_800), (100.0, 10_000..=10_000)] {
            let share = Fraction::from_percent(percent).unwrap();
            let sampled = (0..10_000).filter(|_| {
                let mut headers = HeaderMap::new();
                continue_trace(&mut headers, &ids, share);
                headers[TRACEPARENT].as_bytes().ends_with(b"-01")
            });
            assert!(expected.contains(&sampled.count()), "{percent} %");
        }
    }
}
