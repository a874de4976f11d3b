//! What serves clients: the name server and the regional balancer, as the config has them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::dns;
use crate::engine;
use crate::net::limits::Files;
use crate::net::listen::BindError;
use crate::proxy;
use crate::supervise::Supervisor;

/// What both count.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) dns: Arc<dns::Counters>,
    pub(super) proxy: Arc<proxy::Counters>,
}

/// Both, bound but not yet serving.
#[derive(Debug)]
pub(super) struct Bound {
    dns: Option<dns::Server>,
    proxy: Option<proxy::Server>,
}

/// Both, serving.
#[derive(Debug, Default)]
pub(super) struct Front {
    dns: Option<dns::Listeners>,
    proxy: Option<proxy::Listeners>,
}

impl Bound {
    /// Binds every address.
    pub(super) fn bind(config: &Config) -> Result<Self, BindError> {
        Ok(Self {
            dns: config.dns.as_ref().map(|dns| dns::Server::bind(&dns.listen, dns.workers)).transpose()?,
            proxy: config.proxy.as_ref().map(proxy::Server::bind).transpose()?,
        })
    }

    pub(super) fn dns_addresses(&self) -> Vec<SocketAddr> {
        self.dns.as_ref().map(dns::Server::local_addrs).unwrap_or_default()
    }

    pub(super) fn answers_dns(&self) -> bool {
        self.dns.is_some()
    }

    /// The proxy's, each with the name of its listener.
    pub(super) fn proxy_addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        self.proxy.as_ref().map(proxy::Server::local_addrs).unwrap_or_default()
    }

    pub(super) fn start(
        self,
        engine: &engine::Handle,
        counters: &Counters,
        tcp: &crate::model::TcpLimits,
        files: &Files,
        supervisor: &Supervisor,
    ) -> Result<Front> {
        let snapshots = &engine.snapshots;
        let shared = proxy::Shared {
            snapshots: Arc::clone(snapshots),
            counters: Arc::clone(&counters.proxy),
            clients: Arc::default(),
            failing: engine.failing.clone(),
            supervisor: supervisor.clone(),
            connections: files.proxy.clone(),
            stopping: CancellationToken::new(),
        };
        let proxy = self.proxy.map(|server| server.start(&shared)).transpose();
        let proxy = proxy.context("cannot start the proxy's workers")?;
        let (snapshots, counters) = (Arc::clone(snapshots), Arc::clone(&counters.dns));
        let shared = dns::Shared { snapshots, counters, supervisor: supervisor.clone() };
        let dns = self.dns.map(|server| server.start(shared, tcp, files.budget.dns_tcp)).transpose();
        Ok(Front { dns: dns.context("cannot start the DNS workers")?, proxy })
    }
}

impl Front {
    /// How long a stop may wait for requests and connections of the proxy.
    pub(super) fn drain(&self) -> Duration {
        self.proxy.as_ref().map_or(Duration::ZERO, proxy::Listeners::stop_within)
    }

    /// Answers what has arrived, and closes everything.
    pub(super) async fn stop(self) {
        let dns = async {
            if let Some(dns) = self.dns {
                dns.stop().await;
            }
        };
        let proxy = async {
            if let Some(proxy) = self.proxy {
                proxy.stop().await;
            }
        };
        tokio::join!(dns, proxy);
    }
}
