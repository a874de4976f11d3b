//! Settings of the kernel that hurt the proxy's listeners.

use std::fs;

use nix::sys::resource::{Resource, getrlimit};

use crate::model::{Listener, Proxy};
use crate::net::limits::{FdBudget, ProxyConnections, Serving};

/// What the kernel is set to; `None` where it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// `net.core.somaxconn`
    pub somaxconn: Option<u64>,
    /// `net.ipv4.tcp_max_syn_backlog`
    pub max_syn_backlog: Option<u64>,
    /// `net.ipv4.tcp_syncookies`
    pub syncookies: Option<u64>,
    /// `net.ipv4.tcp_fastopen`
    pub fast_open: Option<u64>,
    /// `net.ipv4.tcp_synack_retries`
    pub synack_retries: Option<u64>,
    /// The hard limit of open files of this process.
    pub files: Option<u64>,
}

/// Something to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The setting, its value, and what that does.
    pub what: String,
    /// How to change it.
    pub fix: String,
}

/// A limit of open files that allows fewer clients than this is more likely an oversight than intended.
const FEW_CLIENTS: usize = 4096;
/// More repetitions of a SYN-ACK keep half-open connections of forged addresses for minutes.
const USUAL_SYNACK_RETRIES: u64 = 5;
/// The bit of `net.ipv4.tcp_fastopen` that is for servers.
const FAST_OPEN_OF_SERVERS: u64 = 2;

impl Kernel {
    /// The settings of this host, and the limit of this process.
    #[must_use]
    pub fn read() -> Self {
        let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
        Self {
            somaxconn: number("/proc/sys/net/core/somaxconn"),
            max_syn_backlog: number("/proc/sys/net/ipv4/tcp_max_syn_backlog"),
            syncookies: number("/proc/sys/net/ipv4/tcp_syncookies"),
            fast_open: number("/proc/sys/net/ipv4/tcp_fastopen"),
            synack_retries: number("/proc/sys/net/ipv4/tcp_synack_retries"),
            files: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(_, hard)| hard),
        }
    }

    /// What to change for a proxy of a node that serves so.
    #[must_use]
    pub fn advice(&self, proxy: &Proxy, serving: Serving) -> Vec<Advice> {
        let tcp = || proxy.listeners.iter().filter(|listener| !listener.is_udp());
        let mut found = Vec::new();
        if let Some(most) = tcp().map(|listener| listener.tcp.backlog).max() {
            found.extend(self.on_queues(most.into()));
            found.extend(self.on_syn_cookies(most.into()));
            found.extend(self.on_retries());
        }
        found.extend(tcp().find(|it| it.tcp.fast_open.is_some()).and_then(|it| self.on_fast_open(it)));
        found.extend(self.on_files(serving));
        found
    }

    fn on_queues(&self, backlog: u64) -> Option<Advice> {
        let most = self.somaxconn.filter(|most| *most < backlog)?;
        Some(Advice {
            what: format!(
                "net.core.somaxconn is {most}: so many connections may wait to be accepted, not the {backlog} of `backlog`"
            ),
            fix: format!(
                "sysctl -w net.core.somaxconn={backlog}, or lower `backlog` in `tcp` of the listener"
            ),
        })
    }

    fn on_syn_cookies(&self, backlog: u64) -> Vec<Advice> {
        let advice = |what: String, fix: String| Advice { what, fix };
        let mut found = Vec::new();
        match self.syncookies {
            Some(0) => {
                found.push(advice(
                    "net.ipv4.tcp_syncookies is 0: a flood of SYNs from forged addresses keeps all clients out".into(),
                    "sysctl -w net.ipv4.tcp_syncookies=1".into(),
                ));
                // With cookies, the kernel does not heed it.
                if let Some(most) = self.max_syn_backlog.filter(|most| *most < backlog) {
                    found.push(advice(
                        format!("net.ipv4.tcp_max_syn_backlog is {most}: without SYN cookies, handshakes fail beyond three quarters of it"),
                        format!("sysctl -w net.ipv4.tcp_max_syn_backlog={backlog}"),
                    ));
                }
            }
            Some(2) => found.push(advice(
                "net.ipv4.tcp_syncookies is 2: every handshake uses cookies, which loses options of TCP"
                    .into(),
                "sysctl -w net.ipv4.tcp_syncookies=1, which uses them when a queue is full".into(),
            )),
            _ => {}
        }
        found
    }

    fn on_retries(&self) -> Option<Advice> {
        let (retries, what) = match self.synack_retries? {
            0 => (0, "a client whose SYN-ACK was lost must begin again".to_owned()),
            retries if retries > USUAL_SYNACK_RETRIES => {
                // The first after a second, and each after twice the time (RFC 6298 §5.5), up to two minutes.
                let seconds: u64 = (0..=retries).map(|round| (1 << round.min(7)).min(120)).sum();
                (retries, format!("half-open connections take their place in a queue for {seconds} s"))
            }
            _ => return None,
        };
        Some(Advice {
            what: format!("net.ipv4.tcp_synack_retries is {retries}: {what}"),
            fix: format!("sysctl -w net.ipv4.tcp_synack_retries={USUAL_SYNACK_RETRIES}"),
        })
    }

    fn on_fast_open(&self, listener: &Listener) -> Option<Advice> {
        let value = self.fast_open.filter(|value| value & FAST_OPEN_OF_SERVERS == 0)?;
        Some(Advice {
            what: format!(
                "net.ipv4.tcp_fastopen is {value}: the kernel does not let servers use it, so `fast_open` of listener `{}` does nothing",
                listener.name
            ),
            fix: format!("sysctl -w net.ipv4.tcp_fastopen={}", value | FAST_OPEN_OF_SERVERS),
        })
    }

    fn on_files(&self, serving: Serving) -> Option<Advice> {
        let files = self.files?;
        let clients = ProxyConnections::new(FdBudget::of(files, serving).proxy).most_clients();
        (clients < FEW_CLIENTS).then(|| Advice {
            what: format!("a process may have {files} files open here: so the proxy serves {clients} clients at a time"),
            fix: "raise RLIMIT_NOFILE (LimitNOFILE= under systemd) of the node, if that of this shell is its own, too"
                .into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClientLimits, Protocol, RequestLimits, TcpOptions};

    const GOOD: Kernel = Kernel {
        somaxconn: Some(4096),
        max_syn_backlog: Some(128),
        syncookies: Some(1),
        fast_open: Some(1),
        synack_retries: Some(5),
        files: Some(524_288),
    };

    fn proxy(protocol: Protocol, tcp: TcpOptions) -> Proxy {
        let (name, addresses, proxy_protocol, routes) = ("web".to_owned(), Vec::new(), false, Vec::new());
        let (tls, client, limits, ready) = (None, ClientLimits::default(), RequestLimits::default(), None);
        let listener =
            Listener { name, addresses, protocol, proxy_protocol, tcp, tls, client, limits, routes, ready };
        let listeners = vec![listener];
        Proxy { listeners, ..Proxy::default() }
    }

    /// What is said about these settings, in order.
    fn said(kernel: Kernel, proxy: &Proxy) -> Vec<String> {
        kernel
            .advice(proxy, Serving::Proxy)
            .into_iter()
            .map(|it| format!("{}; {}", it.what, it.fix))
            .collect()
    }

    #[test]
    fn what_does_no_harm_is_not_mentioned() {
        let http = proxy(Protocol::Http, TcpOptions::default());
        assert_eq!(said(GOOD, &http), Vec::<String>::new());
        assert_eq!(said(Kernel::default(), &http), Vec::<String>::new(), "unknown");
        let bad = Kernel { somaxconn: Some(1), syncookies: Some(0), synack_retries: Some(9), ..GOOD };
        assert_eq!(said(bad, &proxy(Protocol::Udp, TcpOptions::default())), Vec::<String>::new());
    }

    #[test]
    fn each_setting_is_shown_with_its_value_and_the_fix() {
        let http = proxy(Protocol::Http, TcpOptions { fast_open: Some(16), ..TcpOptions::default() });
        let set = Kernel { fast_open: Some(3), ..GOOD };
        for (kernel, expected) in [
            (
                Kernel { somaxconn: Some(128), ..set },
                vec![
                    "net.core.somaxconn is 128: so many connections may wait to be accepted, not the 1024 of `backlog`; sysctl -w net.core.somaxconn=1024, or lower `backlog` in `tcp` of the listener",
                ],
            ),
            (
                Kernel { syncookies: Some(0), ..set },
                vec![
                    "net.ipv4.tcp_syncookies is 0: a flood of SYNs from forged addresses keeps all clients out; sysctl -w net.ipv4.tcp_syncookies=1",
                    "net.ipv4.tcp_max_syn_backlog is 128: without SYN cookies, handshakes fail beyond three quarters of it; sysctl -w net.ipv4.tcp_max_syn_backlog=1024",
                ],
            ),
            (
                Kernel { syncookies: Some(2), ..set },
                vec![
                    "net.ipv4.tcp_syncookies is 2: every handshake uses cookies, which loses options of TCP; sysctl -w net.ipv4.tcp_syncookies=1, which uses them when a queue is full",
                ],
            ),
            (
                Kernel { synack_retries: Some(6), ..set },
                vec![
                    "net.ipv4.tcp_synack_retries is 6: half-open connections take their place in a queue for 127 s; sysctl -w net.ipv4.tcp_synack_retries=5",
                ],
            ),
            (
                Kernel { synack_retries: Some(0), ..set },
                vec![
                    "net.ipv4.tcp_synack_retries is 0: a client whose SYN-ACK was lost must begin again; sysctl -w net.ipv4.tcp_synack_retries=5",
                ],
            ),
            (
                Kernel { fast_open: Some(1), ..set },
                vec![
                    "net.ipv4.tcp_fastopen is 1: the kernel does not let servers use it, so `fast_open` of listener `web` does nothing; sysctl -w net.ipv4.tcp_fastopen=3",
                ],
            ),
            (
                Kernel { files: Some(1024), ..set },
                vec![
                    "a process may have 1024 files open here: so the proxy serves 512 clients at a time; raise RLIMIT_NOFILE (LimitNOFILE= under systemd) of the node, if that of this shell is its own, too",
                ],
            ),
        ] {
            assert_eq!(said(kernel, &http), expected);
        }
    }
}
