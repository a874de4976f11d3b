//! How many files the process may have open, and who may have how many of them.
//!
//! Strangers open connections, and each takes a file descriptor. If they could take them all, probes would fail for
//! want of one and healthy regions would be withdrawn. So listeners get shares, and what the node itself needs is set
//! aside first.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How the file descriptors of the process are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdBudget {
    /// Files that the process may have open: the soft limit `RLIMIT_NOFILE`.
    pub limit: u64,
    /// Set aside for probes, listeners, journal, logs and the reading of configs. No listener counts on them.
    pub reserved: u64,
    /// The most connections that DNS over TCP may have open at a time, over all addresses; at least 1, but 0 without DNS.
    pub dns_tcp: usize,
    /// The most connections that the API may have open at a time, TCP and Unix together; at least 1.
    pub api: usize,
    /// Files for the connections of the proxy, [`ProxyConnections`]; 0 without a proxy.
    pub proxy: usize,
}

/// Whom a node serves, and so what it needs files for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// DNS, or nobody but the API.
    Dns,
    /// DNS and the proxy's clients.
    Both,
    /// The proxy's clients.
    Proxy,
}

/// Of eight descriptors, those for DNS over TCP. With [`API_EIGHTHS`] it leaves half to the node itself, because probes
/// need the more of them the more targets a config has.
const DNS_TCP_EIGHTHS: u64 = 3;
/// Of eight descriptors, those for the API, whose clients are few.
const API_EIGHTHS: u64 = 1;

/// Of eight descriptors of a node with a proxy, those for DNS over TCP.
const DNS_TCP_EIGHTHS_BESIDE_PROXY: u64 = 1;
/// Of eight descriptors of a node with a proxy and DNS, those for the proxy's connections. The rest is for probes and the
/// node: backends are few compared with clients.
const PROXY_EIGHTHS: u64 = 4;
/// Of eight descriptors of a node that only has a proxy, those for its connections.
const PROXY_EIGHTHS_WITHOUT_DNS: u64 = 6;

/// Of six files for the proxy's connections, those that clients may take: an idle one needs no backend.
const CLIENTS_SIXTHS: usize = 4;
/// Of six files for the proxy's connections, those that backends may take.
const BACKENDS_SIXTHS: usize = 3;

/// The soft limit that is assumed where the kernel does not report one: the usual default.
const USUAL_NOFILE: u64 = 1024;

impl FdBudget {
    /// Raises the limit of the process as far as permitted and shares it out.
    #[must_use]
    pub fn claim(serving: Serving) -> Self {
        let raised = raise_nofile().or_else(|error| {
            tracing::warn!(%error, "cannot raise the limit of open files");
            getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, _)| soft)
        });
        Self::of(raised.unwrap_or(USUAL_NOFILE), serving)
    }

    /// The shares of a limit.
    #[must_use]
    pub fn of(limit: u64, serving: Serving) -> Self {
        let eighth = limit / 8;
        let (dns_tcp, proxy) = match serving {
            Serving::Dns => (DNS_TCP_EIGHTHS, 0),
            Serving::Both => (DNS_TCP_EIGHTHS_BESIDE_PROXY, PROXY_EIGHTHS),
            Serving::Proxy => (0, PROXY_EIGHTHS_WITHOUT_DNS),
        };
        let [dns_tcp, api, proxy] = [dns_tcp, API_EIGHTHS, proxy].map(|eighths| eighth * eighths);
        let files = |share: u64, least: usize| usize::try_from(share).unwrap_or(usize::MAX).max(least);
        Self {
            limit,
            reserved: limit - dns_tcp - api - proxy,
            dns_tcp: if serving == Serving::Proxy { 0 } else { files(dns_tcp, 1) },
            api: files(api, 1),
            proxy: if serving == Serving::Dns { 0 } else { files(proxy, 2) },
        }
    }
}

/// The connections of the proxy's clients and those to backends, which share files: many idle clients need few backends,
/// and each connection that is relayed needs one. Neither can take all files, so both always get some. Threads that open
/// connections at the same moment can exceed the share by one each.
#[derive(Clone, Debug)]
pub struct ProxyConnections {
    files: usize,
    /// The open connections of clients.
    pub clients: Arc<Occupancy>,
    /// The open connections to backends.
    pub backends: Arc<Occupancy>,
}

impl ProxyConnections {
    /// None yet, of at most so many.
    #[must_use]
    pub fn new(files: usize) -> Self {
        Self { files, clients: Arc::default(), backends: Arc::default() }
    }

    /// One more of a client, if there is a file for it.
    #[must_use]
    pub fn client(&self) -> Option<Occupant> {
        self.clients.enter_below(self.most_clients())
    }

    /// One more to a backend, if there is a file for it.
    #[must_use]
    pub fn backend(&self) -> Option<Occupant> {
        self.backends.enter_below(self.most_backends())
    }

    /// The most connections of clients for which there are files: two thirds of all, unless backends have more than the
    /// third that is left.
    #[must_use]
    pub fn most_clients(&self) -> usize {
        most(self.files, CLIENTS_SIXTHS, &self.backends)
    }

    /// The most connections to backends for which there are files: half of all, unless clients have more than the other
    /// half.
    #[must_use]
    pub fn most_backends(&self) -> usize {
        most(self.files, BACKENDS_SIXTHS, &self.clients)
    }

    /// Files for all of them.
    #[must_use]
    pub fn files(&self) -> usize {
        self.files
    }
}

/// The most of one kind: so many sixths of all, and no more than the others leave.
fn most(files: usize, sixths: usize, others: &Occupancy) -> usize {
    (files / 6 * sixths).max(1).min(files.saturating_sub(others.count()))
}

/// The budget, and what is in use of it.
#[derive(Clone, Debug)]
pub struct Files {
    /// The shares.
    pub budget: FdBudget,
    /// The open connections of DNS over TCP.
    pub dns_tcp: Arc<Occupancy>,
    /// The open connections of the API.
    pub api: Arc<Occupancy>,
    /// The open connections of the proxy.
    pub proxy: ProxyConnections,
}

impl Files {
    /// How many files the process has open; `None` where the kernel does not say.
    #[must_use]
    pub fn open() -> Option<usize> {
        // One of them is the folder that is being read.
        fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1))
    }
}

/// How many descriptors of a share are in use.
#[derive(Debug, Default)]
pub struct Occupancy(AtomicUsize);

impl Occupancy {
    /// Counts one more until the result is dropped.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Occupant {
        self.0.fetch_add(1, Ordering::Relaxed);
        Occupant(Arc::clone(self))
    }

    /// Counts one more until the result is dropped, unless that would be more than `most`.
    #[must_use]
    pub fn enter_below(self: &Arc<Self>, most: usize) -> Option<Occupant> {
        // Dropped, and so no longer counted, if it is one too many.
        let occupant = self.enter();
        (self.count() <= most).then_some(occupant)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One that [`Occupancy`] counts.
#[derive(Debug)]
pub struct Occupant(Arc<Occupancy>);

impl Drop for Occupant {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Raises the soft limit of open files to the hard one and returns what it is now. The usual soft limit of 1,024 is a
/// relic of `select`.
fn raise_nofile() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use std::iter::from_fn;

    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(512), hard).unwrap();
        assert_eq!(FdBudget::claim(Serving::Dns), FdBudget::of(hard, Serving::Dns));
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }

    #[test]
    fn half_of_the_descriptors_are_out_of_reach_of_strangers() {
        let of_1024 = |reserved, dns_tcp, proxy| FdBudget { limit: 1024, reserved, dns_tcp, api: 128, proxy };
        assert_eq!(FdBudget::of(1024, Serving::Dns), of_1024(512, 384, 0));
        assert_eq!(FdBudget::of(1024, Serving::Both), of_1024(256, 128, 512));
        assert_eq!(FdBudget::of(1024, Serving::Proxy), of_1024(128, 0, 768));
        for limit in [8, 20, 1024, 4096, 524_288, u64::MAX] {
            let FdBudget { reserved, dns_tcp, api, .. } = FdBudget::of(limit, Serving::Dns);
            assert!(reserved >= limit / 2, "{limit}");
            assert!(dns_tcp as u64 + api as u64 <= limit - reserved, "{limit}");
        }
        // Too few for shares: one connection each is still better than none.
        assert_eq!(
            FdBudget::of(7, Serving::Dns),
            FdBudget { limit: 7, reserved: 7, dns_tcp: 1, api: 1, proxy: 0 }
        );
    }
    #[test]
    fn neither_clients_nor_backends_take_all_files_of_the_proxy() {
        let fill = |mut enter: Box<dyn FnMut() -> Option<Occupant>>| -> Vec<Occupant> {
            from_fn(&mut enter).collect()
        };
        for files in [2, 3, 5, 6, 60, 600] {
            let all = ProxyConnections::new(files);
            let (one, two) = (all.clone(), all.clone());
            let clients = fill(Box::new(move || one.client()));
            assert_eq!(clients.len(), (files / 6 * 4).max(1), "{files}");
            let backends = fill(Box::new(move || two.backend()));
            assert_eq!(backends.len(), (files / 6 * 3).max(1).min(files - clients.len()), "{files}");
            drop(clients);
            let (one, two) = (all.clone(), all.clone());
            let more = fill(Box::new(move || two.backend()));
            assert_eq!(backends.len() + more.len(), (files / 6 * 3).max(1), "{files}");
            assert!(one.client().is_some(), "{files}");
        }
    }
}
