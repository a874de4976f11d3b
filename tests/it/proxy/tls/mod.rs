//! TLS of the balancer, with clients and with backends.

mod backends;
pub(super) mod certificates;
mod clients;
mod handshakes;
mod mistakes;
mod openssl;
mod programs;
mod slow;
mod tickets;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use certificates::{Authority, Identity};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::backend::Backend;
use crate::harness::PATIENCE;
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;

/// The versions that clients may offer.
pub(super) const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
const OLDER: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];

/// A folder with certificates for `www.test` and `*.test`, and a config with one listener, `web`, that has these keys
/// and sends everything to one backend. `proxy` holds further keys of `[proxy]`.
fn folder(authority: &Authority, backend: SocketAddr, proxy: &str, listener: &str) -> Folder {
    let folder = Folder::new(&format!(
        "[proxy]\nworkers = 2\ncertificate = [{{ cert = \"www.pem\", key = \"www.key\" }}, {{ cert = \"any.pem\", key = \"any.key\" }}]\n{proxy}\n\
         [proxy.listener.web]\nlisten = \"127.0.0.1:0\"\npool = \"api\"\n{listener}\n\
         [proxy.pool.api]\nbackend = [\"{backend}\"]\nprobe = []\n"
    ));
    authority.issue(&["www.test"]).write(&folder, "www");
    authority.issue(&["*.test"]).write(&folder, "any");
    folder.write("ca.pem", authority.pem());
    folder
}

/// A node of such a folder, whose listener speaks TLS.
async fn node(authority: &Authority, backend: &Backend) -> TestNode {
    TestNode::start(folder(authority, backend.address, "", "tls = true")).await
}

/// A client that trusts an authority, and that may have a certificate.
pub(super) fn client(
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
    identity: Option<&Identity>,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { cert, key }) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    }
}

/// Connects, and asks for a name.
pub(super) async fn connect(
    address: SocketAddr,
    name: &'static str,
    client: &Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(name).expect("a name");
        TlsConnector::from(Arc::clone(client)).connect(name, stream).await
    };
    timeout(PATIENCE, connecting).await.expect("the handshake ends")
}

/// Sends a request and returns everything that comes until the connection is closed.
async fn ask(stream: &mut TlsStream<TcpStream>, headers: &str) -> io::Result<String> {
    let request = format!("GET / HTTP/1.1\r\nHost: www.test\r\nConnection: close\r\n{headers}\r\n");
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    timeout(PATIENCE, exchange).await.expect("an answer")
}

/// The certificate that a server showed.
fn shown_by(stream: &TlsStream<TcpStream>) -> &CertificateDer<'static> {
    &stream.get_ref().1.peer_certificates().expect("a certificate")[0]
}
