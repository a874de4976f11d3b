//! TLS with backends.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::model::{Backend, Pool};
use crate::net::tls;
use crate::snapshot::PoolTls;
use crate::standing::OpenAddress;

/// What a pool requires of an address of a backend.
pub(in crate::proxy) struct Wanted {
    pool: Arc<PoolTls>,
    name: ServerName<'static>,
}

/// How an address of a backend is asked. Its sessions are its own: other addresses of the pool could not resume them,
/// although they may have the same name.
pub(in crate::proxy) struct BackendTls {
    name: ServerName<'static>,
    current: RefCell<Current>,
}

struct Current {
    pool: Arc<PoolTls>,
    /// With the sessions.
    client: Arc<ClientConfig>,
}

/// The sessions that a worker keeps of an address of a backend: each connection uses one up, and brings one or two.
const SESSIONS: usize = 8;

impl Wanted {
    /// `None` without TLS.
    pub(in crate::proxy) fn of(tls: Option<&Arc<PoolTls>>, pool: &Pool, open: &OpenAddress) -> Option<Self> {
        let tls = Arc::clone(tls?);
        let own = || name(&pool.backends[usize::from(open.backend)], open.address);
        let name = tls.identity.server_name.clone().unwrap_or_else(own);
        Some(Self { pool: tls, name })
    }
}

/// A backend's host, or its address where the config names no host.
fn name(backend: &Backend, address: SocketAddr) -> ServerName<'static> {
    let host = backend.resolved_host().map(ToString::to_string);
    let host = host.and_then(|host| ServerName::try_from(host.trim_end_matches('.').to_owned()).ok());
    host.unwrap_or_else(|| ServerName::from(address.ip()))
}

impl BackendTls {
    pub(in crate::proxy) fn new(wanted: Wanted) -> Self {
        let Wanted { pool, name } = wanted;
        Self { name, current: RefCell::new(Current::new(pool)) }
    }

    /// Whether a backend that is asked in this way may go on to be used as wanted, with its connections. If so, what a
    /// reload has prepared is used from now on.
    pub(in crate::proxy) fn goes_on(this: Option<&Self>, wanted: Option<&Wanted>) -> bool {
        let (Some(this), Some(wanted)) = (this, wanted) else { return this.is_none() && wanted.is_none() };
        let mut current = this.current.borrow_mut();
        if this.name != wanted.name || current.pool.identity != wanted.pool.identity {
            return false;
        }
        if !Arc::ptr_eq(&current.pool, &wanted.pool) {
            *current = Current::new(Arc::clone(&wanted.pool));
        }
        true
    }

    /// The client's side of a handshake.
    ///
    /// # Errors
    /// A clause about what went wrong.
    pub(in crate::proxy) async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let client = Arc::clone(&self.current.borrow().client);
        let connecting = TlsConnector::from(client).connect(self.name.clone(), stream);
        connecting.await.map_err(|error| io::Error::other(format!("TLS: {}", tls::why(&error))))
    }
}

impl Current {
    fn new(pool: Arc<PoolTls>) -> Self {
        let mut client = ClientConfig::clone(&pool.client);
        client.resumption = Resumption::in_memory_sessions(SESSIONS);
        Self { pool, client: Arc::new(client) }
    }
}
