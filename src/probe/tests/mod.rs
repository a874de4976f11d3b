//! Probes of real sockets on loopback.

mod servers;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ::http::uri::PathAndQuery;
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use servers::{Authority, backlog_full, h2, hang, reset, respond, respond_and_watch, tls, tls_respond};
use tokio::net::TcpListener;

use super::outcome::{Failure, Phase};
use super::*;
use crate::health::Severity;
use crate::model::{Assertion, Expect, HttpProbe, Kind, Probe, StatusRange, Thresholds, TlsProbe};
use crate::net::tls::Trust;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Long enough that no healthy server misses it.
const PATIENT: Duration = Duration::from_secs(30);

/// For servers that never answer, yet long enough for the phases before.
const SHORT: Duration = Duration::from_secs(1);

pub(super) fn probe(kind: Kind, timeout: Duration) -> Probe {
    let thresholds =
        Thresholds { fall: 3, clear: 1, rise: 2, hold: Duration::ZERO, startup: None, slow: None };
    Probe {
        name: "edge".to_owned(),
        kind,
        port_is_given: true,
        interval: Duration::from_secs(5),
        timeout,
        thresholds,
    }
}

pub(super) fn http() -> HttpProbe {
    let status = vec![StatusRange { first: 200, last: 399 }];
    HttpProbe {
        host: None,
        path: PathAndQuery::from_static("/ready?deep=1"),
        expect: Expect { status, body: None, json: vec![] },
    }
}

fn expecting(body: Option<&str>, json: &[(&str, &str)]) -> HttpProbe {
    let json = json.iter().map(|(path, equals)| assertion(path, equals)).collect();
    let mut http = http();
    http.expect.body = body.map(str::to_owned);
    http.expect.json = json;
    http
}

/// `equals` is JSON.
pub(super) fn assertion(path: &str, equals: &str) -> Assertion {
    Assertion { path: path.parse().unwrap(), equals: serde_json::from_str(equals).unwrap() }
}

fn verifying(authority: &Authority, server_name: Option<&str>) -> TlsProbe {
    let server_name = server_name.map(|name| ServerName::try_from(name.to_owned()).unwrap());
    TlsProbe { server_name, authorities: Some(vec![authority.anchor()]) }
}

async fn run_probe(kind: Kind, timeout: Duration) -> Outcome {
    run_probe_at(LOOPBACK, kind, timeout).await
}

async fn run_probe_at(address: IpAddr, kind: Kind, timeout: Duration) -> Outcome {
    let prepared = PreparedProbe::new(Arc::new(probe(kind, timeout)), &mut Trust::new()).unwrap();
    run(&ProbeTarget { address, probe: Arc::new(prepared) }).await.unwrap()
}

fn hard(phase: Phase, reason: &str) -> Option<Failure> {
    Some(Failure { severity: Severity::Hard, phase, reason: reason.to_owned() })
}

fn soft(phase: Phase, reason: &str) -> Option<Failure> {
    Some(Failure { severity: Severity::Soft, phase, reason: reason.to_owned() })
}

/// The failure of an HTTP probe of a server that sends `response`.
async fn failure_of(response: impl Into<Vec<u8>>, ask: HttpProbe) -> Option<Failure> {
    let (port, _requests) = respond(response).await;
    run_probe(Kind::Http { port, http: ask }, PATIENT).await.failure
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_closed_port_refuses_the_connection() {
    let port = {
        let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
        listener.local_addr().unwrap().port()
    };
    for kind in [
        Kind::Tcp { port },
        Kind::Http { port, http: http() },
        Kind::Tls { port, tls: verifying(&Authority::new(), None) },
    ] {
        let outcome = run_probe(kind, PATIENT).await;
        assert_eq!(outcome.failure, hard(Phase::Connect, "connection refused"));
        assert_eq!(outcome.timings.connect, Some(outcome.timings.total()), "a refusal has a duration, too");
    }
}

#[tokio::test]
async fn timeouts_name_the_phase_that_they_interrupt() {
    let (full, _queue) = backlog_full().await;
    let (silent, _listener) = hang().await;
    let (halting, _requests) = respond("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
    let authority = Authority::new();
    let certificate = authority.certificate(&["127.0.0.1"]);
    let silent_h2 = tls(certificate, &[b"h2"]).await;

    let (connect, handshake, response, http2, body) = tokio::join!(
        run_probe(Kind::Tcp { port: full }, SHORT),
        run_probe(Kind::Tls { port: silent, tls: verifying(&authority, None) }, SHORT),
        run_probe(Kind::Http { port: silent, http: http() }, SHORT),
        run_probe(Kind::Https { port: silent_h2, http: http(), tls: verifying(&authority, None) }, SHORT),
        run_probe(Kind::Http { port: halting, http: expecting(Some("x"), &[]) }, SHORT),
    );
    assert_eq!(connect.failure, hard(Phase::Connect, "timeout after 1s in connect"));
    assert_eq!(handshake.failure, hard(Phase::Tls, "timeout after 1s in tls"));
    assert!(handshake.timings.connect.is_some() && handshake.timings.first_byte.is_none());
    assert_eq!(response.failure, soft(Phase::Response, "timeout after 1s in response"));
    assert_eq!(http2.failure, soft(Phase::Response, "timeout after 1s in response"));
    assert!(http2.timings.tls.is_some() && http2.timings.body.is_none());
    assert_eq!(body.failure, soft(Phase::Body, "timeout after 1s in body"));
    assert!(body.timings.first_byte.is_some() && body.timings.body.is_some());
}

/// The evaluation ends by its number of steps, so other probes wait for it no longer than a timeout allows.
#[tokio::test]
async fn a_document_that_costs_too_many_steps_fails_the_probe() {
    let document = format!("{{\"list\": [{}1]}}", "1,".repeat(120_000));
    let path = "$.list[?count($.list[*]) > 1]";
    let expected = format!("{path} takes more than 524288 steps on this document");
    assert_eq!(
        failure_of(ok(&document), expecting(None, &[(path, "1")])).await,
        soft(Phase::Body, &expected)
    );
}

#[tokio::test]
async fn tcp_is_good_when_it_connects() {
    let (port, _listener) = hang().await;
    let outcome = run_probe(Kind::Tcp { port }, PATIENT).await;
    assert_eq!(outcome.failure, None);
    assert_eq!(outcome.timings.connect, Some(outcome.timings.total()));
}

#[tokio::test]
async fn connections_close_by_reset() {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(run_probe(Kind::Tcp { port }, PATIENT).await.failure, None);
    let (stream, _peer) = listener.accept().await.unwrap();
    stream.readable().await.unwrap();
    let error = stream.try_read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_reset_is_soft_before_the_response_and_hard_in_the_tls_handshake() {
    let port = reset().await;
    assert_eq!(
        run_probe(Kind::Http { port, http: http() }, PATIENT).await.failure,
        soft(Phase::Response, "connection reset before the response")
    );
    assert_eq!(
        run_probe(Kind::Tls { port, tls: verifying(&Authority::new(), None) }, PATIENT).await.failure,
        hard(Phase::Tls, "tls: connection reset in the handshake")
    );
}

#[tokio::test]
async fn http_asks_for_the_address_or_the_configured_host() {
    let (port, mut requests) = respond(ok("")).await;
    let outcome = run_probe(Kind::Http { port, http: http() }, PATIENT).await;
    assert_eq!(outcome.failure, None);
    assert!(outcome.timings.connect.is_some() && outcome.timings.first_byte.is_some());
    let request = requests.recv().await.unwrap().to_ascii_lowercase();
    assert!(request.starts_with("get /ready?deep=1 http/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("\r\nhost: 127.0.0.1:{port}\r\n")), "{request}");
    let agent = concat!("\r\nuser-agent: portolan/", env!("CARGO_PKG_VERSION"), " probe\r\n");
    assert!(request.contains(agent), "{request}");

    let named = HttpProbe { host: Some("www.example.com".parse().unwrap()), ..http() };
    assert_eq!(run_probe(Kind::Http { port, http: named }, PATIENT).await.failure, None);
    let request = requests.recv().await.unwrap().to_ascii_lowercase();
    assert!(request.contains("\r\nhost: www.example.com\r\n"), "{request}");
}

#[tokio::test]
async fn ipv6_targets_are_probed_too() {
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await else {
        // Without IPv6 on this machine the probe is a local fault, not evidence about the target.
        let prepared =
            PreparedProbe::new(Arc::new(probe(Kind::Tcp { port: 1 }, PATIENT)), &mut Trust::new()).unwrap();
        let target = ProbeTarget { address: Ipv6Addr::LOCALHOST.into(), probe: Arc::new(prepared) };
        run(&target).await.unwrap_err();
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let mut requests = servers::respond_on(listener, ok(""));
    let outcome = run_probe_at(Ipv6Addr::LOCALHOST.into(), Kind::Http { port, http: http() }, PATIENT).await;
    assert_eq!(outcome.failure, None);
    let request = requests.recv().await.unwrap().to_ascii_lowercase();
    assert!(request.contains(&format!("\r\nhost: [::1]:{port}\r\n")), "{request}");
}

#[tokio::test]
async fn statuses_outside_the_expected_are_soft() {
    assert_eq!(
        failure_of("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", http()).await,
        soft(Phase::Response, "status 503, expected 200-399")
    );
    assert_eq!(failure_of("HTTP/1.1 204 No Content\r\n\r\n", http()).await, None);
    // An interim response is not the answer (RFC 9110 §15.2).
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(failure_of(interim, http()).await, None);
}

#[tokio::test]
async fn documents_are_read_and_checked() {
    let healthy = [("$.checks.database.status", "\"healthy\"")];
    let good = ok(r#"{"checks": {"database": {"status": "healthy"}}}"#);
    assert_eq!(failure_of(good, expecting(None, &healthy)).await, None);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nall \r\n5\r\nready\r\n0\r\n\r\n";
    assert_eq!(failure_of(chunked, expecting(Some("all ready"), &[])).await, None);
    for (response, ask, reason) in [
        (
            ok(r#"{"checks": {"database": {"status": "unhealthy"}}}"#),
            expecting(None, &healthy),
            "$.checks.database.status is \"unhealthy\", expected \"healthy\"",
        ),
        (ok("{}"), expecting(None, &healthy), "$.checks.database.status selects nothing"),
        (ok("<p>"), expecting(None, &healthy), "body is not JSON: expected value at line 1 column 1"),
        (ok("almost"), expecting(Some("ready"), &[]), "body does not contain \"ready\""),
    ] {
        assert_eq!(failure_of(response, ask).await, soft(Phase::Body, reason));
    }
}

#[tokio::test]
async fn bodies_beyond_the_bound_are_not_read() {
    let whole = "x".repeat(MAX_BODY - 5) + "ready";
    assert_eq!(failure_of(ok(&whole), expecting(Some("ready"), &[])).await, None);
    let too_long = soft(Phase::Body, "body longer than 256 KiB");
    assert_eq!(failure_of(ok(&format!("{whole}!")), expecting(Some("ready"), &[])).await, too_long);
    // Without a declared length the excess shows only while reading.
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{whole}!");
    assert_eq!(failure_of(endless, expecting(Some("ready"), &[])).await, too_long);
    // A declared length that is too long fails at once, without reading the body.
    let announced = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", MAX_BODY + 1);
    assert_eq!(failure_of(announced, expecting(Some("ready"), &[])).await, too_long);
    // The length does not matter if nothing is expected of the body.
    assert_eq!(failure_of(ok(&format!("{whole}!")), http()).await, None);
}

/// Each costs time to parse, however little it says.
#[tokio::test]
async fn floods_of_interim_responses_and_empty_frames_end_the_probe() {
    let too_much = soft(Phase::Response, "http: the target sent more than 384 KiB");
    let port = servers::flood(None, b"", b"HTTP/1.1 103 Early Hints\r\n\r\n").await;
    assert_eq!(run_probe(Kind::Http { port, http: http() }, PATIENT).await.failure, too_much);

    let authority = Authority::new();
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    for (what, frame) in [
        ("interim responses", &b"\0\0\x05\x01\x04\0\0\0\x01\x08\x03103"[..]),
        ("windows", b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01"),
        ("frames of an unknown type", b"\0\0\0\xee\0\0\0\0\0"),
    ] {
        let port = servers::flood(Some(authority.certificate(&["127.0.0.1"])), settings, frame).await;
        let kind = Kind::Https { port, http: http(), tls: verifying(&authority, None) };
        assert_eq!(run_probe(kind, PATIENT).await.failure, too_much, "{what}");
    }
}

#[tokio::test]
async fn incomplete_responses_are_soft() {
    let before = soft(Phase::Response, "connection closed before the response");
    for cut in ["", "HTTP/1.1 200 OK\r\nContent-"] {
        let port = servers::respond_and_close(cut).await;
        assert_eq!(run_probe(Kind::Http { port, http: http() }, PATIENT).await.failure, before, "{cut:?}");
    }
    let port = servers::respond_and_close("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
    assert_eq!(
        run_probe(Kind::Http { port, http: expecting(Some("x"), &[]) }, PATIENT).await.failure,
        soft(Phase::Body, "connection closed within the body")
    );
    let greeting = "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned();
    let endless_head = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(100_000));
    for response in [greeting, endless_head] {
        let failure = failure_of(response, http()).await.unwrap();
        assert_eq!((failure.severity, failure.phase), (Severity::Soft, Phase::Response));
        assert!(failure.reason.starts_with("the answer is not HTTP: "), "{}", failure.reason);
    }
}

#[tokio::test]
async fn tls_verifies_the_certificate() {
    let authority = Authority::new();
    let port = tls(authority.certificate(&["www.example.com", "127.0.0.1"]), &[]).await;
    let kind = Kind::Tls { port, tls: verifying(&authority, Some("www.example.com")) };
    let outcome = run_probe(kind, PATIENT).await;
    assert_eq!(outcome.failure, None);
    assert!(outcome.timings.tls.is_some());
    assert_eq!(run_probe(Kind::Tls { port, tls: verifying(&authority, None) }, PATIENT).await.failure, None);

    let other = Kind::Tls { port, tls: verifying(&authority, Some("other.example.com")) };
    assert_eq!(
        run_probe(other, PATIENT).await.failure,
        hard(Phase::Tls, "tls: certificate not valid for name other.example.com")
    );
    let stranger = Kind::Tls { port, tls: verifying(&Authority::new(), None) };
    assert_eq!(run_probe(stranger, PATIENT).await.failure, hard(Phase::Tls, "tls: unknown issuer"));
}

#[tokio::test]
async fn certificates_outside_their_validity_are_refused() {
    let authority = Authority::new();
    for (years, reason) in
        [((2001, 2002), "tls: certificate expired"), ((4001, 4002), "tls: certificate not valid yet")]
    {
        let port = tls(authority.certificate_of_years(&["127.0.0.1"], years), &[]).await;
        let outcome = run_probe(Kind::Tls { port, tls: verifying(&authority, None) }, PATIENT).await;
        assert_eq!(outcome.failure, hard(Phase::Tls, reason));
    }
}

#[tokio::test]
async fn a_plain_server_on_a_tls_port_is_recognized() {
    let port = servers::greet("220 mail.example.com ESMTP\r\n").await;
    let outcome = run_probe(Kind::Tls { port, tls: verifying(&Authority::new(), None) }, PATIENT).await;
    assert_eq!(outcome.failure, hard(Phase::Tls, "tls: the answer is not TLS"));
}

#[tokio::test]
async fn https_speaks_http2_where_it_is_offered() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["www.example.com"]);
    let (port, mut requests) = h2(certificate, r#"{"status": "ready"}"#).await;
    let mut ask = expecting(Some("ready"), &[("$.status", "\"ready\"")]);
    ask.host = Some("www.example.com".parse().unwrap());
    let kind = Kind::Https { port, http: ask.clone(), tls: verifying(&authority, Some("www.example.com")) };
    let outcome = run_probe(kind, PATIENT).await;
    assert_eq!(outcome.failure, None);
    let timings = outcome.timings;
    assert!([timings.connect, timings.tls, timings.first_byte, timings.body].iter().all(Option::is_some));
    let request = requests.recv().await.unwrap();
    assert_eq!(request, "HTTP/2.0 GET https://www.example.com/ready?deep=1 portolan");

    ask.expect.json[0].equals = "fine".into();
    let kind = Kind::Https { port, http: ask, tls: verifying(&authority, Some("www.example.com")) };
    assert_eq!(
        run_probe(kind, PATIENT).await.failure,
        soft(Phase::Body, "$.status is \"ready\", expected \"fine\"")
    );
}

#[tokio::test]
async fn https_speaks_http1_with_all_other_servers() {
    let authority = Authority::new();
    for alpn in [&[][..], &[&b"http/1.1"[..]]] {
        let (port, _handshakes) = tls_respond(authority.certificate(&["127.0.0.1"]), alpn, ok("ready")).await;
        let kind =
            Kind::Https { port, http: expecting(Some("ready"), &[]), tls: verifying(&authority, None) };
        assert_eq!(run_probe(kind, PATIENT).await.failure, None, "{alpn:?}");
    }
}

#[tokio::test]
async fn every_probe_verifies_the_certificate_again() {
    let authority = Authority::new();
    let (port, mut handshakes) = tls_respond(authority.certificate(&["127.0.0.1"]), &[], ok("ready")).await;
    let kind = Kind::Https { port, http: expecting(Some("ready"), &[]), tls: verifying(&authority, None) };
    let prepared = PreparedProbe::new(Arc::new(probe(kind, PATIENT)), &mut Trust::new()).unwrap();
    let target = ProbeTarget { address: LOOPBACK, probe: Arc::new(prepared) };
    for _ in 0..2 {
        assert_eq!(run(&target).await.unwrap().failure, None);
        // A resumed handshake would not present the certificate.
        assert_eq!(handshakes.recv().await, Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn a_body_that_does_not_matter_is_read_before_the_connection_is_closed() {
    let body = |length: usize| format!("Content-Length: {length}\r\n\r\n{}", "x".repeat(length));
    for (status, failure) in
        [("200 OK", None), ("503 Service Unavailable", soft(Phase::Response, "status 503, expected 200-399"))]
    {
        let (port, mut ends) = respond_and_watch(format!("HTTP/1.1 {status}\r\n{}", body(250 * 1024))).await;
        assert_eq!(run_probe(Kind::Http { port, http: http() }, PATIENT).await.failure, failure);
        assert_eq!(ends.recv().await.unwrap(), Ok(()), "{status}");
    }
    // A body that never ends neither delays the probe nor changes its result.
    let (port, _requests) = respond("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx").await;
    for timeout in [Duration::from_millis(100), PATIENT] {
        assert_eq!(run_probe(Kind::Http { port, http: http() }, timeout).await.failure, None, "{timeout:?}");
    }
}
