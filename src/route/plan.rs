//! The listeners of a config, ready for requests.

use std::net::SocketAddr;

use http::HeaderName;

use super::{Head, Routes, Skipped};
use crate::model::{ClientLimits, ListenerTls, Networks, Protocol, Proxy, Route};

/// The compiled `[proxy]`; empty without one.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Hops whose forwarding headers and PROXY headers are believed.
    pub trusted: Networks,
    /// The headers that show backends the certificates of clients. Backends believe them whichever listener a request
    /// comes from.
    pub client_headers: Box<[HeaderName]>,
    /// In the order of their names.
    listeners: Box<[Listener]>,
}

/// A compiled listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The name in the config.
    pub name: String,
    /// What it understands of what clients send.
    pub protocol: Protocol,
    /// Whether connections of trusted hops begin with a PROXY header that names the client.
    pub proxy_protocol: bool,
    /// How it speaks TLS, if it does.
    pub tls: Option<ListenerTls>,
    /// Where it listens, as the config says; at least one.
    pub addresses: Box<[SocketAddr]>,
    /// What each client may use.
    pub client: ClientLimits,
    /// In the order of the config.
    pub routes: Box<[Route]>,
    table: Routes,
}

impl Plan {
    /// Compiles the listeners.
    #[must_use]
    pub fn compile(proxy: &Proxy) -> Self {
        let listener = |it: &crate::model::Listener| Listener {
            name: it.name.clone(),
            protocol: it.protocol,
            proxy_protocol: it.proxy_protocol,
            client: it.client,
            tls: it.tls.clone(),
            addresses: it.addresses.clone().into(),
            routes: it.routes.clone().into(),
            table: Routes::compile(&it.routes),
        };
        let tls = proxy.listeners.iter().filter_map(|it| it.tls.as_ref());
        Self {
            trusted: proxy.trusted.clone(),
            client_headers: tls.filter_map(|tls| tls.client_header.clone()).collect(),
            listeners: proxy.listeners.iter().map(listener).collect(),
        }
    }

    /// All listeners, in the order of their names.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// The listener with this name.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<&Listener> {
        self.listeners.iter().find(|listener| listener.name == name)
    }
}

impl Listener {
    /// The first route that matches a request.
    #[must_use]
    pub fn find(&self, head: &Head<'_>) -> Option<&Route> {
        self.table.find(head).map(|index| &self.routes[index])
    }

    /// The routes that a request does not take before the one that [`find`](Self::find) returns, and why.
    #[must_use]
    pub fn explain<'a>(&'a self, head: &Head<'a>) -> Vec<Skipped<'a>> {
        self.table.explain(head)
    }
}
