//! Settings that take effect only when a node starts.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Config, Control, Log, Node};
use crate::model::{TcpLimits, TcpOptions};

/// The part of a config that is read at start and not by a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtStart {
    node: Node,
    log: Log,
    dns_listen: Option<Vec<SocketAddr>>,
    dns_workers: Option<usize>,
    dns_tcp: Option<TcpLimits>,
    proxy_workers: Option<usize>,
    proxy_stop_delay: Option<Duration>,
    /// Names, addresses, and whether they are UDP.
    proxy_listen: Vec<(String, Vec<SocketAddr>, bool)>,
    proxy_tcp: Vec<(String, TcpOptions)>,
    control: Control,
}

fn group(control: &Control) -> Option<&str> {
    control.group.as_ref().map(|group| &*group.name)
}

impl AtStart {
    /// Extracts it from a config.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            node: config.node.clone(),
            log: config.log,
            dns_listen: config.dns.as_ref().map(|dns| dns.listen.clone()),
            dns_workers: config.dns.as_ref().map(|dns| dns.workers),
            dns_tcp: config.dns.as_ref().map(|dns| dns.tcp),
            proxy_workers: config.proxy.as_ref().map(|proxy| proxy.workers),
            proxy_stop_delay: config.proxy.as_ref().map(|proxy| proxy.stop_delay),
            proxy_listen: config
                .proxy
                .iter()
                .flat_map(|proxy| &proxy.listeners)
                .map(|it| (it.name.clone(), it.addresses.clone(), it.is_udp()))
                .collect(),
            proxy_tcp: config
                .proxy
                .iter()
                .flat_map(|proxy| &proxy.listeners)
                .map(|it| (it.name.clone(), it.tcp))
                .collect(),
            control: config.control.clone(),
        }
    }

    /// Whether a listener that both have got other options.
    fn has_other_tcp(&self, newer: &Self) -> bool {
        let mut both =
            self.proxy_tcp.iter().flat_map(|old| newer.proxy_tcp.iter().map(move |new| (old, new)));
        both.any(|(old, new)| old.0 == new.0 && old.1 != new.1)
    }

    /// The differences in `newer`, a sentence each. Both must come from the same file, or their paths do not compare.
    #[must_use]
    pub fn changes(&self, newer: &Self) -> Vec<String> {
        let (now, then) = (&self.control, &newer.control);
        let changed = [
            ("[node] name", self.node.name != newer.node.name),
            ("[node] state_dir", self.node.state_dir != newer.node.state_dir),
            ("[node] user", self.node.user != newer.node.user),
            ("[node] landlock", self.node.landlock != newer.node.landlock),
            ("[log]", self.log != newer.log),
            ("[dns] listen", self.dns_listen != newer.dns_listen),
            ("[dns] workers", self.dns_workers != newer.dns_workers),
            ("[dns] tcp", self.dns_tcp != newer.dns_tcp),
            ("[proxy] workers", self.proxy_workers != newer.proxy_workers),
            ("[proxy] stop_delay", self.proxy_stop_delay != newer.proxy_stop_delay),
            ("[proxy.listener] listen", self.proxy_listen != newer.proxy_listen),
            ("[proxy.listener] tcp", self.has_other_tcp(newer)),
            ("[control] listen", now.listen != then.listen),
            ("[control] socket", now.socket != then.socket),
            ("[control] group", group(now) != group(then)),
            ("[control] metrics", now.metrics != then.metrics),
        ];
        let changed = changed.into_iter().filter(|(_, changed)| *changed);
        changed
            .map(|(key, _)| format!("{key} has changed, but is read only at the start: restart the node"))
            .collect()
    }
}
