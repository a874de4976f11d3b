//! HTTP/1.1 read as plainly and strictly as it can be: the reference.

/// A request or a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The first line.
    pub(crate) start: String,
    /// Names in lower case.
    headers: Fields,
    body: Vec<u8>,
}

/// Names and values.
type Fields = Vec<(String, Vec<u8>)>;

/// What bytes begin with.
#[derive(Debug)]
pub(crate) enum Reading {
    /// A message of this many bytes.
    Whole(Message, usize),
    /// The beginning of one.
    Part,
    Malformed,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
    ResponseToHead,
}

/// Headers that differ from one message to the next.
const DIFFERENT: [&str; 3] = ["date", "x-request-id", "traceparent"];

/// Headers that mean something to a connection, or that a proxy must understand.
const SPECIAL: [&str; 10] = [
    "connection",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "keep-alive",
    "proxy-connection",
    "http2-settings",
    "forwarded",
    "date",
];

/// Header fields and bytes of a head that every party takes.
const USUAL_HEADERS: usize = 50;
const USUAL_HEAD: usize = 4096;

impl Message {
    /// Reads the first message.
    pub(crate) fn read(bytes: &[u8], side: Side) -> Reading {
        let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else {
            return if may_begin(bytes, side) { Reading::Part } else { Reading::Malformed };
        };
        let Some((start, headers)) = head(&bytes[..end], side) else { return Reading::Malformed };
        let rest = &bytes[end + 4..];
        let of =
            |name: &str| headers.iter().filter(|it| it.0 == name).map(|it| &it.1[..]).collect::<Vec<_>>();
        let status = start.split(' ').nth(1).unwrap_or_default();
        let is_bodyless = side == Side::ResponseToHead
            || (side == Side::Response && (status.starts_with('1') || matches!(status, "204" | "304")));
        let body = match (&of("transfer-encoding")[..], &of("content-length")[..]) {
            _ if is_bodyless => Some(Some((Vec::new(), 0))),
            ([], []) if side == Side::Request => Some(Some((Vec::new(), 0))),
            // Until the end of the connection.
            ([], []) => Some(Some((rest.to_vec(), rest.len()))),
            ([], [length]) => number(length, 10).map(|length| Some((rest.get(..length)?.to_vec(), length))),
            ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") => unchunked(rest),
            _ => None,
        };
        match body {
            None => Reading::Malformed,
            Some(None) => Reading::Part,
            Some(Some((body, length))) => Reading::Whole(Self { start, headers, body }, end + 4 + length),
        }
    }

    /// The message without what differs from one to the next.
    pub(crate) fn comparable(mut self) -> Self {
        self.headers.retain(|(name, _)| !DIFFERENT.contains(&name.as_str()));
        self.headers.sort();
        self
    }

    /// Whether nothing about it is unusual.
    pub(crate) fn is_plain_request(&self) -> bool {
        let mut words = self.start.split(' ');
        let method = words.next().unwrap_or_default();
        let is_path = words.next().is_some_and(|it| {
            it.starts_with('/')
                && it.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/?=&-._".contains(&byte))
        });
        let hosts: Vec<_> = self.headers.iter().filter(|it| it.0 == "host").collect();
        let is_host = matches!(hosts[..], [(_, host)] if !host.is_empty() && host.iter().all(|byte| byte.is_ascii_lowercase()));
        let is_method = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"].contains(&method);
        // hyper takes no body with HEAD from clients as others do.
        let is_usual_body = method != "HEAD" || self.body.is_empty();
        is_path
            && is_host
            && is_method
            && is_usual_body
            && self.start.ends_with(" HTTP/1.1")
            && self.is_plain()
    }

    /// The same of a response.
    pub(crate) fn is_plain_response(&self) -> bool {
        let status = self.start.split(' ').nth(1).and_then(|it| it.parse::<u16>().ok());
        let is_framed =
            self.headers.iter().any(|it| ["content-length", "transfer-encoding"].contains(&it.0.as_str()));
        let is_status = status.is_some_and(|it| (200..600).contains(&it) && it != 204 && it != 304);
        is_status && is_framed && self.start.starts_with("HTTP/1.1 ") && self.is_plain()
    }

    fn is_plain(&self) -> bool {
        let is_value = |value: &[u8]| value.iter().all(|byte| (b' '..=b'~').contains(byte));
        let is_usual =
            |(name, value): &(String, Vec<u8>)| !SPECIAL.contains(&name.as_str()) && is_value(value);
        let length: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        let length = length + self.start.len();
        self.headers.iter().all(is_usual) && self.headers.len() <= USUAL_HEADERS && length <= USUAL_HEAD
    }
}

/// Whether a head may begin so.
fn may_begin(bytes: &[u8], side: Side) -> bool {
    let start = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    match side {
        Side::Request => start.iter().all(u8::is_ascii_graphic) || start.contains(&b' '),
        Side::Response | Side::ResponseToHead => {
            let known = start.len().min(7);
            start[..known] == b"HTTP/1."[..known]
        }
    }
}

/// The first line and the headers.
fn head(bytes: &[u8], side: Side) -> Option<(String, Fields)> {
    let mut lines = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(2).position(|it| it == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    let has_control = |line: &[u8]| line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t');
    if lines.iter().any(|line| has_control(line)) {
        return None;
    }
    let (start, fields) = lines.split_first()?;
    let start = String::from_utf8_lossy(start).into_owned();
    let words: Vec<&str> = start.splitn(3, ' ').collect();
    let is_version = |text: &str| ["HTTP/1.1", "HTTP/1.0"].contains(&text);
    match side {
        Side::Request => matches!(words[..], [method, target, version] if is_token(method.as_bytes()) && !target.is_empty() && is_version(version)),
        _ => matches!(words[..], [version, status, ..] if is_version(version) && status.len() == 3 && number(status.as_bytes(), 10).is_some()),
    }
    .then_some(())?;
    let field = |line: &&[u8]| {
        let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
        let name = is_token(name).then(|| String::from_utf8_lossy(name).to_ascii_lowercase())?;
        Some((name, value[1..].trim_ascii().to_vec()))
    };
    Some((start, fields.iter().map(field).collect::<Option<_>>()?))
}

fn is_token(text: &[u8]) -> bool {
    let is_good = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_good)
}

/// A number of digits only.
fn number(text: &[u8], radix: u32) -> Option<usize> {
    let is_good = !text.is_empty() && text.iter().all(|byte| char::from(*byte).is_digit(radix));
    usize::from_str_radix(std::str::from_utf8(text).ok().filter(|_| is_good)?, radix).ok()
}

/// The data of a body in chunks, and the length of all that belongs to it; `Some(None)` if more must come, `None` if it is
/// not one.
#[allow(clippy::option_option, reason = "it is one of three")]
fn unchunked(text: &[u8]) -> Option<Option<(Vec<u8>, usize)>> {
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = text[at..].windows(2).position(|it| it == b"\r\n") else {
            // As far as it goes, it is a size, with an extension perhaps.
            let digits = text[at..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            let next = text[at..].get(digits);
            let may_go_on = digits <= 16 && next.is_none_or(|byte| digits > 0 && b"; \t\r".contains(byte));
            return may_go_on.then_some(None);
        };
        let written = &text[at..at + line];
        let digits = written.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = number(digits.trim_ascii_end(), 16)?;
        at += line + 2;
        if size == 0 {
            return trailers(text, at).map(|end| end.map(|end| (data, end)));
        }
        let Some(chunk) = at.checked_add(size).and_then(|end| text.get(at..end)) else { return Some(None) };
        data.extend_from_slice(chunk);
        at += size;
        match text.get(at..at + 2) {
            Some(b"\r\n") => at += 2,
            None if text.len() == at || text[at] == b'\r' => return Some(None),
            _ => return None,
        }
    }
}

/// Where the trailers end that begin here.
#[allow(clippy::option_option, reason = "it is one of three")]
fn trailers(text: &[u8], at: usize) -> Option<Option<usize>> {
    let rest = &text[at..];
    if rest.starts_with(b"\r\n") {
        return Some(Some(at + 2));
    }
    match rest.windows(4).position(|it| it == b"\r\n\r\n") {
        None => Some(None),
        Some(end) => {
            head(&[b"GET / HTTP/1.1\r\n", &rest[..end]].concat(), Side::Request).map(|_| Some(at + end + 4))
        }
    }
}
