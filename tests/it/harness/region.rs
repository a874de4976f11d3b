//! A region as probes see it: a small server of readiness documents that can be broken on command.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// The delay of a slow region: longer than `slow` in the configs here, far shorter than any timeout.
pub(crate) const SLOWNESS: Duration = Duration::from_millis(400);

/// The most connections that wait to be accepted.
const BACKLOG: u32 = 64;

/// The name that good certificates are for.
pub(crate) const HOST: &str = "region.test";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    /// Its port is closed.
    Refuse,
    /// It accepts connections but does not answer until it is healed.
    Hang,
    /// It answers 503.
    Unavailable,
    /// Its document reports an unhealthy database.
    Document,
    /// It answers correctly, but slowly.
    Slow,
    /// It resets every connection.
    Reset,
    /// Its certificate is for another name (HTTPS only).
    Certificate,
}

/// A region's endpoint on a loopback address, at a port that stays reserved as long as it exists.
pub(crate) struct Region {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    switch: watch::Sender<Option<Break>>,
    /// The certificate to trust, if it speaks HTTPS.
    pub(crate) certificate: Option<String>,
    requests: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
    /// Bound but never listening: nothing else gets the port while the region refuses connections.
    _reservation: TcpSocket,
}

/// The TLS identities of a region: with a valid certificate, and with one for another name.
#[derive(Clone)]
struct Identities {
    good: TlsAcceptor,
    bad: TlsAcceptor,
}

impl Region {
    /// Starts region `number` of a test, at 127.0.`number`.1.
    pub(crate) fn start(name: &'static str, number: u8) -> Self {
        Self::start_with(name, number, None, None)
    }

    /// Starts a region that speaks HTTPS.
    pub(crate) fn start_tls(name: &'static str, number: u8) -> Self {
        let (good, certificate) = acceptor(HOST, &[]);
        let (bad, _) = acceptor("elsewhere.test", &[]);
        Self::start_with(name, number, Some(Identities { good, bad }), Some(certificate))
    }

    fn start_with(
        name: &'static str,
        number: u8,
        identities: Option<Identities>,
        certificate: Option<String>,
    ) -> Self {
        let reservation = bound(SocketAddr::new(Ipv4Addr::new(127, 0, number, 1).into(), 0));
        let address = reservation.local_addr().expect("an address");
        let (switch, position) = watch::channel(None);
        let mut tasks = JoinSet::new();
        let listener = listen(address);
        let requests: Arc<AtomicU64> = Arc::default();
        let behaviour = Behaviour { name, position, requests: Arc::clone(&requests) };
        tasks.spawn(run(listener, behaviour, identities));
        Self { name, address, switch, certificate, requests, _tasks: tasks, _reservation: reservation }
    }

    pub(crate) fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    pub(crate) fn fail(&self, how: Break) {
        self.switch.send_replace(Some(how));
    }

    pub(crate) fn heal(&self) {
        self.switch.send_replace(None);
    }

    /// How many requests have arrived.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// A probe for it with short times, under the same name; `more` overrides the usual keys.
    pub(crate) fn probe(&self, more: &[(&str, &str)]) -> String {
        let port = self.address.port().to_string();
        let usual = [
            ("kind", "\"http\""),
            ("port", &*port),
            ("path", "\"/health/ready\""),
            (
                "expect",
                "{ status = [200], json = [{ path = \"$.checks.database.status\", equals = \"healthy\" }] }",
            ),
            ("interval", "\"100ms\""),
            ("timeout", "\"1s\""),
            ("fall", "3"),
            ("rise", "2"),
            ("hold", "\"300ms\""),
        ];
        let kept = usual.iter().filter(|(key, _)| more.iter().all(|(other, _)| other != key));
        let lines = kept.chain(more).map(|(key, value)| format!("{key} = {value}\n"));
        format!("[probe.{}]\n{}\n", self.name, lines.collect::<String>())
    }

    /// The config of the region and its probe, at a location.
    pub(crate) fn config(&self, location: &str, probe: &[(&str, &str)]) -> String {
        let (name, address) = (self.name, self.ip());
        format!(
            "{}[region.{name}]\nlocation = {location}\n\
             endpoint = [{{ name = \"lb1\", address = [\"{address}\"], probe = [\"{name}\"] }}]\n\n",
            self.probe(probe)
        )
    }
}

/// Three regions: near Germany, the United States and Singapore, as located by the head of the configs.
pub(crate) struct Three {
    pub(crate) eu: Region,
    pub(crate) us: Region,
    pub(crate) ap: Region,
}

/// A client near each of them.
pub(crate) const GERMAN: &str = "10.1.0.0/24";
pub(crate) const AMERICAN: &str = "10.2.0.0/24";
pub(crate) const ASIAN: &str = "10.3.0.0/24";

pub(crate) const DUBLIN: &str = "{ country = \"IE\", lat = 53.35, lon = -6.26 }";
pub(crate) const VIRGINIA: &str = "{ country = \"US\", lat = 38.95, lon = -77.45 }";
pub(crate) const SINGAPORE: &str = "{ country = \"SG\", lat = 1.35, lon = 103.8 }";

impl Three {
    pub(crate) fn start() -> Self {
        Self { eu: Region::start("eu", 1), us: Region::start("us", 2), ap: Region::start("ap", 3) }
    }

    /// The config of all three, with the same keys for every probe.
    pub(crate) fn config(&self, probe: &[(&str, &str)]) -> String {
        [(&self.eu, DUBLIN), (&self.us, VIRGINIA), (&self.ap, SINGAPORE)]
            .map(|(region, place)| region.config(place, probe))
            .concat()
    }
}

/// A service over the three that sends every client to the nearest.
pub(crate) const NEAREST: &str = "[[service]]\nname = \"www.example.test.\"\n\
     regions = [\"eu\", \"us\", \"ap\"]\nrank = \"distance\"\nttl = \"1s\"\n\n";

fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    // Both sides of a shared port must allow it.
    socket.set_reuseaddr(true).expect("an option");
    socket.bind(address).expect("a free port");
    socket
}

fn listen(address: SocketAddr) -> TcpListener {
    bound(address).listen(BACKLOG).expect("nobody else listens there")
}

/// A TLS server with a self-signed certificate for this host, and the certificate.
pub(crate) fn acceptor(host: &str, protocols: &[&str]) -> (TlsAcceptor, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![host.to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let private = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .expect("a certificate and its key");
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    (TlsAcceptor::from(Arc::new(config)), certificate.pem())
}

/// What determines the answers of a region.
#[derive(Clone)]
struct Behaviour {
    name: &'static str,
    position: watch::Receiver<Option<Break>>,
    requests: Arc<AtomicU64>,
}

/// Listens unless it should refuse, and serves every connection as its current failure requires.
async fn run(listener: TcpListener, mut behaviour: Behaviour, identities: Option<Identities>) {
    let address = listener.local_addr().expect("an address");
    let mut open = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let refuses = *behaviour.position.borrow_and_update() == Some(Break::Refuse);
        if refuses {
            open = None;
        } else if open.is_none() {
            open = Some(listen(address));
        }
        let accepted = async {
            match &open {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            turned = behaviour.position.changed() => {
                if turned.is_err() {
                    return;
                }
            }
            Ok((stream, _)) = accepted => {
                connections.spawn(serve(stream, behaviour.clone(), identities.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, behaviour: Behaviour, identities: Option<Identities>) {
    let how = *behaviour.position.borrow();
    if how == Some(Break::Reset) {
        // Dropped like this it ends by RST.
        stream.set_zero_linger().ok();
        return;
    }
    match identities {
        None => speak(stream, behaviour).await,
        Some(Identities { good, bad }) => {
            let acceptor = if how == Some(Break::Certificate) { bad } else { good };
            // A probe that rejects the certificate disconnects.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            speak(stream, behaviour).await;
        }
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin, behaviour: Behaviour) {
    let service = service_fn(move |_: Request<_>| answer(behaviour.clone()));
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // Probes disconnect as soon as they have a result.
    connection.await.ok();
}

async fn answer(behaviour: Behaviour) -> Result<Response<Full<Bytes>>, Infallible> {
    let Behaviour { name, mut position, requests } = behaviour;
    requests.fetch_add(1, Ordering::Relaxed);
    let how = *position.borrow_and_update();
    match how {
        Some(Break::Hang) => {
            position.wait_for(|position| *position != Some(Break::Hang)).await.ok();
        }
        // This delay is the behaviour of a slow region, not a test that waits.
        Some(Break::Slow) => tokio::time::sleep(SLOWNESS).await,
        _ => {}
    }
    let database = if how == Some(Break::Document) { "unhealthy" } else { "healthy" };
    let document =
        format!("{{\"region\": \"{name}\", \"checks\": {{\"database\": {{\"status\": \"{database}\"}}}}}}");
    let status = if how == Some(Break::Unavailable) { 503 } else { 200 };
    let mut response = Response::new(Full::new(Bytes::from(document)));
    *response.status_mut() = hyper::StatusCode::from_u16(status).expect("a status");
    Ok(response)
}
