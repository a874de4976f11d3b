//! A line of the access log.
//!
//! What strangers send is escaped, so that no line can be forged and a terminal shows what is there: a line is printable
//! ASCII whatever a request contains.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::model::{AccessFormat, Unix};
use crate::net::record_log::{RFC_3339, time};

/// What a line says.
pub(super) struct Line<'a> {
    pub(super) at: Unix,
    pub(super) client: IpAddr,
    pub(super) listener: &'a str,
    pub(super) method: &'a str,
    pub(super) version: &'static str,
    pub(super) host: &'a [u8],
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    /// `None` if the client went away before there was one.
    pub(super) status: Option<u16>,
    pub(super) received: u64,
    pub(super) sent: u64,
    /// The number of the route, as `explain` counts.
    pub(super) route: Option<usize>,
    pub(super) pool: Option<&'a str>,
    pub(super) backend: Option<SocketAddr>,
    pub(super) attempts: u32,
    pub(super) first_byte: Option<Duration>,
    pub(super) total: Duration,
    pub(super) request_id: Option<&'a [u8]>,
    pub(super) ended: &'static str,
}

impl Line<'_> {
    /// The text, with its end.
    pub(super) fn text(&self, format: AccessFormat) -> String {
        match format {
            AccessFormat::Json => self.json(),
            AccessFormat::Clf => self.clf(),
        }
    }

    fn json(&self) -> String {
        let mut text = String::with_capacity(512);
        let at = time(self.at, RFC_3339);
        write!(text, "{{\"time\":\"{at}\",\"client\":\"{}\"", self.client).ok();
        field(&mut text, "listener", Some(self.listener));
        field(&mut text, "method", Some(self.method));
        field(&mut text, "version", Some(self.version));
        field(&mut text, "host", Some(&String::from_utf8_lossy(self.host)));
        field(&mut text, "path", Some(self.path));
        field(&mut text, "query", self.query);
        number(&mut text, "status", self.status);
        number(&mut text, "received", Some(self.received));
        number(&mut text, "sent", Some(self.sent));
        number(&mut text, "route", self.route);
        field(&mut text, "pool", self.pool);
        field(&mut text, "backend", self.backend.map(|it| it.to_string()).as_deref());
        number(&mut text, "attempts", Some(self.attempts));
        number(&mut text, "first_byte_ms", self.first_byte.map(millis));
        number(&mut text, "total_ms", Some(millis(self.total)));
        field(&mut text, "request_id", self.request_id.map(String::from_utf8_lossy).as_deref());
        field(&mut text, "ended", Some(self.ended));
        text.push_str("}\n");
        text
    }

    /// The Common Log Format of Apache httpd.
    fn clf(&self) -> String {
        let mut text = format!("{} - - [{}] \"", self.client, time(self.at, "%d/%b/%Y:%H:%M:%S +0000"));
        escape_clf(&mut text, self.method);
        text.push(' ');
        escape_clf(&mut text, self.path);
        if let Some(query) = self.query {
            text.push('?');
            escape_clf(&mut text, query);
        }
        write!(text, " {}\" ", self.version).ok();
        match self.status {
            Some(status) => writeln!(text, "{status} {}", self.sent).ok(),
            None => writeln!(text, "- {}", self.sent).ok(),
        };
        text
    }
}

fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

fn number(text: &mut String, name: &str, value: Option<impl std::fmt::Display>) {
    match value {
        Some(value) => write!(text, ",\"{name}\":{value}").ok(),
        None => write!(text, ",\"{name}\":null").ok(),
    };
}

fn field(text: &mut String, name: &str, value: Option<&str>) {
    let Some(value) = value else { return number(text, name, None::<u8>) };
    write!(text, ",\"{name}\":\"").ok();
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            ' '..='~' => text.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(text, "\\u{unit:04x}").ok();
                }
            }
        }
    }
    text.push('"');
}

fn escape_clf(text: &mut String, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                write!(text, "\\x{byte:02x}").ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line<'a>(text: &'a str, bytes: &'a [u8]) -> Line<'a> {
        Line {
            at: Unix(Duration::from_millis(1_764_380_000_123)),
            client: [192, 0, 2, 1].into(),
            listener: "web",
            method: "GET",
            version: "HTTP/1.1",
            host: bytes,
            path: text,
            query: Some(text),
            status: Some(200),
            received: 0,
            sent: 12,
            route: Some(1),
            pool: Some("api"),
            backend: Some(([10, 0, 0, 1], 80).into()),
            attempts: 1,
            first_byte: Some(Duration::from_micros(1_234)),
            total: Duration::from_micros(2_000),
            request_id: Some(bytes),
            ended: "complete",
        }
    }

    #[test]
    fn lines_look_like_this() {
        let line = line("/a\"\u{1b}é", b"a.test");
        assert_eq!(
            line.text(AccessFormat::Clf),
            "192.0.2.1 - - [29/Nov/2025:01:33:20 +0000] \"GET /a\\\"\\x1b\\xc3\\xa9?/a\\\"\\x1b\\xc3\\xa9 HTTP/1.1\" 200 12\n"
        );
        assert_eq!(
            line.text(AccessFormat::Json),
            "{\"time\":\"2025-11-29T01:33:20.123Z\",\"client\":\"192.0.2.1\",\"listener\":\"web\",\"method\":\"GET\",\
             \"version\":\"HTTP/1.1\",\"host\":\"a.test\",\"path\":\"/a\\\"\\u001b\\u00e9\",\"query\":\"/a\\\"\\u001b\\u00e9\",\
             \"status\":200,\"received\":0,\"sent\":12,\"route\":1,\"pool\":\"api\",\"backend\":\"10.0.0.1:80\",\
             \"attempts\":1,\"first_byte_ms\":1.234,\"total_ms\":2,\"request_id\":\"a.test\",\"ended\":\"complete\"}\n"
        );
    }

    proptest! {
        #[test]
        fn nothing_forges_a_line(text in ".*", bytes: Vec<u8>) {
            let line = line(&text, &bytes);
            for format in [AccessFormat::Json, AccessFormat::Clf] {
                let written = line.text(format);
                let content = written.strip_suffix('\n').expect("an end");
                prop_assert!(content.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", written);
            }
            let parsed: serde_json::Value = serde_json::from_str(&line.json()).expect("JSON");
            prop_assert_eq!(parsed["path"].as_str(), Some(text.as_str()));
            prop_assert_eq!(parsed["host"].as_str(), Some(&*String::from_utf8_lossy(&bytes)));
        }
    }
}
