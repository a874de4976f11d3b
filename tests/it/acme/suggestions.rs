//! Renewals at the time that the authority suggests (RFC 9773).

use std::fs;
use std::time::{Duration, SystemTime};

use data_encoding::BASE64URL_NOPAD;
use futures_util::future::join_all;
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::renewal::first;
use super::server::{Mode, Server, Suggestion, authority};
use super::{certificate, issued, listener};
use crate::harness::node::TestNode;

/// What RFC 9773 §4.1 calls a certificate: the identifier of its authority's key, and its serial number.
fn identifier(file: &str) -> String {
    let der = CertificateDer::from_pem_file(file).expect("a certificate");
    let (_, parsed) = X509Certificate::from_der(&der).expect("a certificate");
    let key = parsed.iter_extensions().find_map(|it| match it.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(it) => it.key_identifier.as_ref(),
        _ => None,
    });
    let key = key.expect("the key of its authority").0;
    format!("{}.{}", BASE64URL_NOPAD.encode(key), BASE64URL_NOPAD.encode(parsed.raw_serial()))
}

/// A node with a certificate from this server, started again.
async fn again(server: &Server) -> (TestNode, String) {
    let node = first(server).await;
    let file = issued(&node).await["file"].as_str().expect("a path").to_owned();
    server.set(|_, at| at.http = None);
    let folder = node.stop().await;
    (TestNode::start(folder).await, file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_should_have_been_renewed_is_at_once_and_once() {
    for is_refused in [false, true] {
        let server = Server::start(Mode::Good).await;
        server.suggest(Suggestion::Window("2001-02-03T04:05:06Z", "2001-02-04T04:05:06Z"));
        if is_refused {
            server.refuse_replacements();
        }
        let (node, file) = again(&server).await;
        let before = identifier(&file);
        server.set(|_, at| at.http = Some(listener(&node, "web")));
        certificate(&node, "the renewal after it is planned", |it| it["next"].is_string()).await;
        assert_eq!(server.renewals(), (vec![before.clone()], vec![before.clone()]));
        assert_eq!(server.seen("/finalize"), 2);
        assert_ne!(identifier(&file), before);
        let alarms = node.api.events("alarm").await.len();
        assert_eq!(alarms, 1, "only the first order failed");
        let events = node.api.events("issued").await;
        assert_eq!(events.len(), 2, "{events:?}");
        let fields = &events[1]["fields"];
        assert_eq!(fields["names"], "www.example.test");
        assert_eq!(fields["expires"], "4001-01-01T00:00:00.000Z");
        assert_eq!(fields["ca"], "CN=rcgen self signed cert");
        node.stop().await;
    }
}

/// Puts a certificate in place that must be renewed within ten seconds; returns before when it need not be.
fn replace(file: &str) -> Timestamp {
    let (issuer, _) = authority();
    let mut params = CertificateParams::new(vec!["www.example.test".to_owned()]).expect("a name");
    params.use_authority_key_identifier_extension = true;
    let now = SystemTime::from(Timestamp::now());
    // A third of 50 s, and up to a tenth of that more, is left.
    params.not_before = (now - Duration::from_secs(24)).into();
    params.not_after = (now + Duration::from_secs(26)).into();
    let key = KeyPair::generate().expect("a key");
    let cert = params.signed_by(&key, &issuer).expect("a certificate").pem();
    fs::write(file, format!("{}{cert}", key.serialize_pem())).expect("it is ours");
    Timestamp::try_from(now + Duration::from_secs(26 - 20)).expect("a time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_suggests_nothing_of_use_does_not_keep_certificates_from_being_renewed() {
    let cases = [
        Suggestion::Broken,
        Suggestion::Garbage,
        Suggestion::WithoutRetryAfter,
        // It ends before it begins; and later than the certificate.
        Suggestion::Window("2001-01-02T00:00:00Z", "2001-01-01T00:00:00Z"),
        Suggestion::Window("3001-01-01T00:00:00Z", "3001-01-02T00:00:00Z"),
    ];
    let renewed = cases.map(|suggestion| async move {
        let server = Server::start(Mode::Good).await;
        let node = first(&server).await;
        let file = issued(&node).await["file"].as_str().expect("a path").to_owned();
        server.suggest(suggestion);
        let folder = node.stop().await;
        let due = replace(&file);
        let before = identifier(&file);
        let node = TestNode::start(folder).await;
        server.set(|_, at| at.http = Some(listener(&node, "web")));
        certificate(&node, "it is renewed", |it| it["expires"] == "4001-01-01T00:00:00.000Z").await;
        assert_eq!(server.renewals().0, [before], "{suggestion:?}");
        let at = node.api.events("issued").await[1]["at"].as_str().expect("a time").to_owned();
        assert!(at.parse::<Timestamp>().expect("a time") >= due, "{suggestion:?}: {at}");
        node.stop().await;
    });
    join_all(renewed).await;
}
