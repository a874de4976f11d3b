//! The listeners of a config, ready for requests.

use std::net::SocketAddr;

use http::HeaderName;

use super::{Head, Routes, Skipped};
use crate::model::{
    AccessLog, ClientHeaders, ClientLimits, ListenerTls, Networks, PathEdit, PoolId, Protocol, Proxy,
    Readiness, RequestLimits, Route, RouteAction, Weight,
};

/// The compiled `[proxy]`; empty without one.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Hops whose forwarding headers and PROXY headers are believed.
    pub trusted: Networks,
    /// What backends learn of clients and requests.
    pub identity: ClientHeaders,
    /// Where requests are logged, if they are.
    pub access_log: Option<AccessLog>,
    /// The headers that show backends the certificates of clients. Backends believe them whichever listener a request
    /// comes from.
    pub client_headers: Box<[HeaderName]>,
    /// In the order of their names.
    listeners: Box<[Listener]>,
    /// Whether one of them asks a service.
    asks: bool,
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
    /// How long requests may be, and how slow clients.
    pub limits: RequestLimits,
    /// In the order of the config.
    pub routes: Box<[Route]>,
    /// Whether a service decides about the requests of a route.
    pub asks: bool,
    /// The pools that need an open backend for `/portolan/ready`; `None` if the listener does not answer that path itself.
    pub ready: Option<Box<[PoolId]>>,
    table: Routes,
}

impl Plan {
    /// Compiles the listeners.
    #[must_use]
    pub fn compile(proxy: &Proxy) -> Self {
        let routed = routed(proxy);
        let ready = |readiness: &Readiness| match readiness {
            Readiness::Routed => routed.clone(),
            Readiness::Pools(pools) => pools.clone().into(),
        };
        let listener = |it: &crate::model::Listener| Listener {
            name: it.name.clone(),
            protocol: it.protocol,
            proxy_protocol: it.proxy_protocol,
            client: it.client,
            limits: it.limits,
            tls: it.tls.clone(),
            addresses: it.addresses.clone().into(),
            routes: it.routes.iter().cloned().map(normalized).collect(),
            ready: it.ready.as_ref().map(ready),
            asks: it.routes.iter().any(|route| route.auth.is_some()),
            table: Routes::compile(&it.routes),
        };
        let tls = proxy.listeners.iter().filter_map(|it| it.tls.as_ref());
        Self {
            trusted: proxy.trusted.clone(),
            identity: proxy.identity,
            access_log: proxy.access_log.clone(),
            client_headers: tls.filter_map(|tls| tls.client_header.clone()).collect(),
            listeners: proxy.listeners.iter().map(listener).collect(),
            asks: proxy.listeners.iter().flat_map(|it| &it.routes).any(|route| route.auth.is_some()),
        }
    }

    /// All listeners, in the order of their names.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Whether a service decides about requests of the listener with this name.
    #[must_use]
    pub fn asks(&self, name: &str) -> bool {
        self.asks && self.listener(name).is_some_and(|listener| listener.asks)
    }

    /// The listener with this name.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<&Listener> {
        self.listeners.iter().find(|listener| listener.name == name)
    }
}

/// The route with its changes written as paths are compared.
fn normalized(mut route: Route) -> Route {
    route.edits.path = route.edits.path.map(PathEdit::normalized);
    route
}

/// The pools that requests or connections may be forwarded to, or that decide about them, ascending.
fn routed(proxy: &Proxy) -> Box<[PoolId]> {
    let routes = proxy.listeners.iter().flat_map(|listener| &listener.routes);
    let of_route = |route: &Route| {
        let asked = route.auth.as_ref().map(|auth| auth.pool);
        used(&route.action).into_iter().chain(asked)
    };
    let mut pools: Vec<PoolId> = routes.flat_map(of_route).collect();
    pools.sort_unstable();
    pools.dedup();
    pools.into()
}

/// The pools of an action that get clients: in a split, those with weight, or all if none has any.
fn used(action: &RouteAction) -> Vec<PoolId> {
    let RouteAction::Forward(pools) = action else { return Vec::new() };
    let weightless = pools.iter().all(|(_, weight)| *weight == Weight(0));
    pools.iter().filter(|(_, weight)| weightless || *weight != Weight(0)).map(|(pool, _)| *pool).collect()
}

impl Listener {
    /// The first route that matches a request.
    #[must_use]
    pub fn find(&self, head: &Head<'_>) -> Option<&Route> {
        self.find_numbered(head).map(|(_, route)| route)
    }

    /// The same with its number, counted from 1.
    #[must_use]
    pub fn find_numbered(&self, head: &Head<'_>) -> Option<(usize, &Route)> {
        self.table.find(head).map(|index| (index + 1, &self.routes[index]))
    }

    /// The routes that a request does not take before the one that [`find`](Self::find) returns, and why.
    #[must_use]
    pub fn explain<'a>(&'a self, head: &Head<'a>) -> Vec<Skipped<'a>> {
        self.table.explain(head)
    }
}
