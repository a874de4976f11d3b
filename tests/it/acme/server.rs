//! An ACME server (RFC 8555) that checks what it gets: signatures, nonces, URLs, and the proofs; and that misbehaves as it
//! is told to.

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use data_encoding::BASE64URL_NOPAD;
use hickory_proto::rr::RecordType;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SignatureAlgorithm,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;

use crate::harness::client::{Client, typed};
use crate::proxy::raw;

/// Its host name.
const NAME: &str = "acme.example.test";

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Good,
    /// Refuses the first nonce of each request.
    BadNonce,
    /// Refuses orders for this many seconds.
    RateLimited(u64),
    /// Finds every proof wrong.
    Invalid,
    /// 500 without a problem document.
    Broken,
    /// Works on orders for this many polls.
    Processing(u32),
    /// Issues a certificate for another key.
    WrongKey,
    /// Issues a certificate for another name.
    WrongName,
    /// Issues a certificate that has expired.
    Expired,
    /// Sends what is no PEM.
    Garbage,
    /// Sends more than anyone should read.
    Huge,
    /// Asks for a proof of a name that was not ordered.
    OtherName,
    /// Has a token that is a path.
    BadToken,
}

/// When it suggests to renew certificates (RFC 9773).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Suggestion {
    /// It knows no such thing.
    #[default]
    None,
    /// Between these, in RFC 3339.
    Window(&'static str, &'static str),
    /// 500 without a problem document.
    Broken,
    /// What is no JSON.
    Garbage,
    /// A window, but not when to ask again.
    WithoutRetryAfter,
}

/// Where proofs are looked for. A server that knows neither waits until it does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Node {
    pub(super) http: Option<SocketAddr>,
    pub(super) dns: Option<SocketAddr>,
}

/// What it says of renewals, and what it was told.
#[derive(Default)]
struct Renewals {
    suggestion: Suggestion,
    /// Refuses orders that replace a certificate.
    refuses: bool,
    /// The certificates that it was asked about.
    asked: Vec<String>,
    /// What orders replace, whether or not they were refused.
    replaced: Vec<String>,
}

struct State {
    mode: Mode,
    node: Node,
    /// Notified when the test sets something.
    is_set: Arc<Notify>,
    base: String,
    nonces: HashSet<String>,
    count: u64,
    jwk: Value,
    names: Vec<String>,
    is_ready: bool,
    has_failed: bool,
    polls: u32,
    chain: Option<String>,
    /// What the order replaces.
    replaces: Option<String>,
    /// Paths of requests whose signature was good.
    seen: Vec<String>,
    renewals: Renewals,
    issuer: Issuer<'static, KeyPair>,
    issuer_pem: String,
}

/// It ends with this.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// The authority of its own certificate.
    pub(super) ca: String,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Signs certificates; and its own, as PEM.
pub(super) fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

impl Server {
    pub(super) async fn start(mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (web, ca) = authority();
        let key = KeyPair::generate().unwrap();
        let names = ["127.0.0.1".to_owned(), NAME.to_owned()];
        let cert = CertificateParams::new(names).unwrap().signed_by(&key, &web).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let (issuer, issuer_pem) = authority();
        let state = State {
            mode,
            node: Node::default(),
            is_set: Arc::default(),
            base: format!("https://{address}"),
            nonces: HashSet::new(),
            count: 0,
            jwk: Value::Null,
            names: Vec::new(),
            is_ready: false,
            has_failed: false,
            polls: 0,
            chain: None,
            replaces: None,
            seen: Vec::new(),
            renewals: Renewals::default(),
            issuer,
            issuer_pem,
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, state) = (acceptor.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| {
                        let state = Arc::clone(&state);
                        async move { Ok::<_, Infallible>(answer(&state, request).await) }
                    });
                    let connection = hyper::server::conn::http1::Builder::new();
                    connection.serve_connection(TokioIo::new(stream), service).await.ok();
                });
            }
        });
        Self { address, ca, state, serving }
    }

    pub(super) fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// Its directory, from now on under its name instead of its address.
    pub(super) fn directory_by_name(&self) -> String {
        let base = format!("https://{NAME}:{}", self.address.port());
        lock(&self.state).base.clone_from(&base);
        format!("{base}/dir")
    }

    pub(super) fn suggest(&self, suggestion: Suggestion) {
        lock(&self.state).renewals.suggestion = suggestion;
    }

    /// From now on every certificate has been replaced already.
    pub(super) fn refuse_replacements(&self) {
        lock(&self.state).renewals.refuses = true;
    }

    /// The certificates that it was asked about, and those that orders named as replaced.
    pub(super) fn renewals(&self) -> (Vec<String>, Vec<String>) {
        let state = lock(&self.state);
        (state.renewals.asked.clone(), state.renewals.replaced.clone())
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Mode, &mut Node)) {
        let state = &mut *lock(&self.state);
        change(&mut state.mode, &mut state.node);
        state.is_set.notify_waiters();
    }

    /// How many requests for a path had a good signature.
    pub(super) fn seen(&self, path: &str) -> usize {
        lock(&self.state).seen.iter().filter(|it| *it == path).count()
    }

    /// The authority of what it issues.
    pub(super) fn issuer(&self) -> String {
        lock(&self.state).issuer_pem.clone()
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn verified(state: &Mutex<State>, path: &str, body: &[u8]) -> Result<Value, Box<Response<Full<Bytes>>>> {
    lock(state).verify(path, body)
}

/// The key of a request.
struct RequestedKey(Vec<u8>);

impl PublicKeyData for RequestedKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

fn reply(status: u16, kind: &str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert("content-type", kind.parse().unwrap());
    response
}

fn problem(status: u16, kind: &str, detail: &str) -> Response<Full<Bytes>> {
    let body = json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail });
    reply(status, "application/problem+json", body.to_string())
}

async fn answer(state: &Arc<Mutex<State>>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|it| it.to_bytes()).unwrap_or_default();
    let path = parts.uri.path().to_owned();
    let mode = lock(state).mode;
    let mut response = match mode {
        Mode::Broken => reply(500, "text/html", "<h1>oops</h1>"),
        Mode::Huge => reply(200, "application/json", vec![b' '; 4 << 20]),
        _ if path == "/dir" => lock(state).directory(),
        _ if path.starts_with("/renewal/") => lock(state).renewal(&path),
        _ if path == "/nonce" => reply(200, "text/plain", ""),
        _ => match verified(state, &path, &body) {
            Ok(payload) => {
                let proof = lock(state).proof_asked(&path);
                if let Some((name, token)) = proof {
                    let is_proved = prove(state, &name, &token).await;
                    lock(state).proved(is_proved);
                }
                lock(state).act(&path, &payload)
            }
            Err(refused) => *refused,
        },
    };
    let nonce = lock(state).nonce();
    response.headers_mut().insert("replay-nonce", nonce.parse().unwrap());
    response
}

/// Looks for the proof where a real server would.
async fn prove(state: &Mutex<State>, name: &str, token: &str) -> bool {
    let is_set = Arc::clone(&lock(state).is_set);
    let (node, expected) = loop {
        let set = is_set.notified();
        let known = lock(state).node();
        match known {
            Some(node) => break (node, format!("{token}.{}", lock(state).thumbprint())),
            None => set.await,
        }
    };
    if let Some(web) = node.http {
        let head = format!(
            "GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
        );
        return raw(web, head.as_bytes()).await.ends_with(&format!("\r\n\r\n{expected}"));
    }
    let Some(dns) = node.dns else { return false };
    let base = name.trim_start_matches("*.");
    let question = typed(&format!("_acme-challenge.{base}."), RecordType::TXT, None);
    let found = Client::of(dns).await.exchange(&question).await;
    let digest = BASE64URL_NOPAD.encode(&Sha256::digest(expected));
    found.answers.iter().any(|record| record.data.to_string().trim_matches('"') == digest)
}

impl State {
    /// Where the node is, if the test has said so.
    fn node(&self) -> Option<Node> {
        self.node.http.or(self.node.dns).map(|_| self.node)
    }

    fn nonce(&mut self) -> String {
        self.count += 1;
        let nonce = format!("nonce-{}", self.count);
        self.nonces.insert(nonce.clone());
        nonce
    }

    fn directory(&self) -> Response<Full<Bytes>> {
        let at = |path: &str| format!("{}{path}", self.base);
        let mut body = json!({
            "newNonce": at("/nonce"), "newAccount": at("/account"), "newOrder": at("/order"),
            "revokeCert": at("/revoke"), "keyChange": at("/key"),
        });
        if self.renewals.suggestion != Suggestion::None {
            body["renewalInfo"] = at("/renewal").into();
        }
        reply(200, "application/json", body.to_string())
    }

    /// RFC 9773 §4.1
    fn renewal(&mut self, path: &str) -> Response<Full<Bytes>> {
        self.renewals.asked.extend(path.strip_prefix("/renewal/").map(str::to_owned));
        let (start, end) = match self.renewals.suggestion {
            Suggestion::None => return problem(404, "malformed", "no such thing"),
            Suggestion::Broken => return reply(500, "text/html", "<h1>oops</h1>"),
            Suggestion::Garbage => ("soon", "later"),
            Suggestion::WithoutRetryAfter => ("2001-01-01T00:00:00Z", "2001-01-02T00:00:00Z"),
            Suggestion::Window(start, end) => (start, end),
        };
        let body = json!({ "suggestedWindow": { "start": start, "end": end } });
        let mut response = reply(200, "application/json", body.to_string());
        if self.renewals.suggestion != Suggestion::WithoutRetryAfter {
            response.headers_mut().insert("retry-after", "21600".parse().unwrap());
        }
        response
    }

    /// RFC 7638
    fn thumbprint(&self) -> String {
        let (x, y) = (&self.jwk["x"], &self.jwk["y"]);
        let canonical = format!("{{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":{x},\"y\":{y}}}");
        BASE64URL_NOPAD.encode(&Sha256::digest(canonical))
    }

    /// The payload of a request (RFC 8555 §6.2).
    fn verify(&mut self, path: &str, body: &[u8]) -> Result<Value, Box<Response<Full<Bytes>>>> {
        let refuse = |why: &str| Box::new(problem(400, "malformed", why));
        let jws: Value = serde_json::from_slice(body).map_err(|_| refuse("no JWS"))?;
        let text = |field: &str| jws[field].as_str().unwrap_or_default().to_owned();
        let decode = |field: &str| BASE64URL_NOPAD.decode(text(field).as_bytes()).unwrap_or_default();
        let protected: Value =
            serde_json::from_slice(&decode("protected")).map_err(|_| refuse("no header"))?;
        if path == "/account" {
            self.jwk = protected["jwk"].clone();
        } else if protected["kid"] != json!(format!("{}/account/1", self.base)) {
            return Err(refuse("another account"));
        }
        let part = |name: &str| {
            let text = self.jwk[name].as_str().unwrap_or_default();
            BASE64URL_NOPAD.decode(text.as_bytes()).unwrap_or_default()
        };
        let key = [vec![4], part("x"), part("y")].concat();
        let signed = format!("{}.{}", text("protected"), text("payload"));
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key);
        if key.verify(signed.as_bytes(), &decode("signature")).is_err() {
            return Err(refuse("the signature is wrong"));
        }
        if protected["url"] != json!(format!("{}{path}", self.base)) || protected["alg"] != "ES256" {
            return Err(refuse("the header is wrong"));
        }
        let nonce = protected["nonce"].as_str().unwrap_or_default();
        let number: u64 = nonce.trim_start_matches("nonce-").parse().unwrap_or(0);
        if !self.nonces.remove(nonce) || (self.mode == Mode::BadNonce && number % 2 == 1) {
            return Err(Box::new(problem(400, "badNonce", "another nonce, please")));
        }
        self.seen.push(path.to_owned());
        Ok(serde_json::from_slice(&decode("payload")).unwrap_or(Value::Null))
    }

    /// The name and token of the challenge that a request is about.
    fn proof_asked(&self, path: &str) -> Option<(String, String)> {
        let index: usize = path.strip_prefix("/challenge/")?.parse().ok()?;
        Some((self.names.get(index)?.clone(), format!("token_{index}")))
    }

    fn proved(&mut self, is_proved: bool) {
        self.has_failed |= !is_proved || self.mode == Mode::Invalid;
        self.is_ready = !self.has_failed;
    }

    fn act(&mut self, path: &str, payload: &Value) -> Response<Full<Bytes>> {
        let (start, last) = path.rsplit_once('/').unwrap_or_default();
        let index: usize = last.parse().unwrap_or(0);
        match (start, last) {
            ("", "account") => {
                assert_eq!(payload["termsOfServiceAgreed"], true);
                let mut created = reply(201, "application/json", "{\"status\":\"valid\"}");
                let url = format!("{}/account/1", self.base);
                created.headers_mut().insert("location", url.parse().unwrap());
                created
            }
            ("", "order") => self.new_order(payload),
            ("/order", "1") => self.order(),
            ("/authorization", _) => self.authorization(index),
            ("/challenge", _) => reply(200, "application/json", self.challenge("http-01", index).to_string()),
            ("/dns", _) => problem(500, "serverInternal", "unused"),
            ("", "finalize") => self.finalize(payload),
            ("", "certificate") => {
                let chain = self.chain.clone().unwrap_or_default();
                reply(200, "application/pem-certificate-chain", chain)
            }
            _ => problem(404, "malformed", "no such thing"),
        }
    }

    fn new_order(&mut self, payload: &Value) -> Response<Full<Bytes>> {
        if let Mode::RateLimited(seconds) = self.mode {
            let mut refused = problem(429, "rateLimited", "too many certificates already");
            refused.headers_mut().insert("retry-after", seconds.to_string().parse().unwrap());
            return refused;
        }
        self.replaces = payload["replaces"].as_str().map(str::to_owned);
        self.renewals.replaced.extend(self.replaces.clone());
        if self.renewals.refuses && self.replaces.is_some() {
            return problem(409, "alreadyReplaced", "another order has replaced it");
        }
        let names = payload["identifiers"].as_array().expect("identifiers");
        self.names = names.iter().map(|it| it["value"].as_str().unwrap().to_owned()).collect();
        (self.is_ready, self.has_failed, self.polls, self.chain) = (false, false, 0, None);
        let mut order = self.order();
        *order.status_mut() = StatusCode::CREATED;
        let url = format!("{}/order/1", self.base);
        order.headers_mut().insert("location", url.parse().unwrap());
        order
    }

    fn order(&mut self) -> Response<Full<Bytes>> {
        let status = match &self.chain {
            _ if self.has_failed => "invalid",
            Some(_) if matches!(self.mode, Mode::Processing(polls) if self.polls < polls) => {
                self.polls += 1;
                "processing"
            }
            Some(_) => "valid",
            None if self.is_ready => "ready",
            None => "pending",
        };
        let at = |path: &str| format!("{}{path}", self.base);
        let all: Vec<_> = (0..self.names.len()).map(|it| at(&format!("/authorization/{it}"))).collect();
        let identifiers: Vec<_> = self.names.iter().map(|it| json!({ "type": "dns", "value": it })).collect();
        let mut order = json!({
            "status": status, "identifiers": identifiers, "authorizations": all, "finalize": at("/finalize"),
        });
        if let Some(replaces) = &self.replaces {
            order["replaces"] = replaces.as_str().into();
        }
        if status == "valid" {
            order["certificate"] = at("/certificate").into();
        }
        reply(200, "application/json", order.to_string())
    }

    fn authorization(&self, index: usize) -> Response<Full<Bytes>> {
        let name = self.names.get(index).map_or("", |it| it);
        let base = name.trim_start_matches("*.");
        let name = if self.mode == Mode::OtherName { "other.example.test" } else { base };
        let is_wildcard = base.len() < self.names[index].len();
        let status = if self.has_failed { "invalid" } else { "pending" };
        let body = json!({
            "identifier": { "type": "dns", "value": name }, "status": status, "wildcard": is_wildcard,
            "challenges": [self.challenge("http-01", index), self.challenge("dns-01", index)],
        });
        reply(200, "application/json", body.to_string())
    }

    fn challenge(&self, kind: &str, index: usize) -> Value {
        let token = if self.mode == Mode::BadToken { "../x" } else { &format!("token_{index}") };
        let url = format!("{}/challenge/{index}", self.base);
        let status = if self.has_failed { "invalid" } else { "pending" };
        let mut challenge = json!({ "type": kind, "url": url, "token": token, "status": status });
        if self.has_failed {
            let kind = "urn:ietf:params:acme:error:unauthorized";
            challenge["error"] = json!({ "type": kind, "detail": "the proof is not there" });
        }
        challenge
    }

    fn finalize(&mut self, payload: &Value) -> Response<Full<Bytes>> {
        if !self.is_ready {
            return problem(403, "orderNotReady", "nothing is proved");
        }
        let csr = BASE64URL_NOPAD.decode(payload["csr"].as_str().unwrap_or_default().as_bytes()).unwrap();
        let (_, request) = X509CertificationRequest::from_der(&csr).expect("a request");
        let info = &request.certification_request_info;
        let key = RequestedKey(info.subject_pki.subject_public_key.data.to_vec());
        let asked = request.requested_extensions().into_iter().flatten().find_map(|it| match it {
            ParsedExtension::SubjectAlternativeName(names) => Some(names.general_names.len()),
            _ => None,
        });
        assert_eq!(asked, Some(self.names.len()));
        let names = if self.mode == Mode::WrongName { vec!["x.test".to_owned()] } else { self.names.clone() };
        let mut params = CertificateParams::new(names).unwrap();
        let year = |year| rcgen::date_time_ymd(year, 1, 1);
        let last = if self.mode == Mode::Expired { 2002 } else { 4001 };
        (params.not_before, params.not_after) = (year(2001), year(last));
        params.use_authority_key_identifier_extension = true;
        let signed = match self.mode {
            Mode::WrongKey => params.signed_by(&KeyPair::generate().unwrap(), &self.issuer),
            _ => params.signed_by(&key, &self.issuer),
        };
        let pem = match self.mode {
            Mode::Garbage => "-----BEGIN CERTIFICATE-----\nnothing\n".into(),
            _ => signed.unwrap().pem(),
        };
        self.chain = Some(format!("{pem}{}", self.issuer_pem));
        self.order()
    }
}
