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
    /// The most connections that DNS over TCP may have open at a time, over all addresses; at least 1.
    pub dns_tcp: usize,
    /// The most connections that the API may have open at a time, TCP and Unix together; at least 1.
    pub api: usize,
    /// The most clients that the proxy may have connections to, each of which may need one to a backend as well; 0
    /// without a proxy.
    pub proxy: usize,
}

/// Of eight descriptors, those for DNS over TCP. With [`API_EIGHTHS`] it leaves half to the node itself, because probes
/// need the more of them the more targets a config has.
const DNS_TCP_EIGHTHS: u64 = 3;
/// Of eight descriptors, those for the API, whose clients are few.
const API_EIGHTHS: u64 = 1;

/// Of eight descriptors of a node with a proxy, those for DNS over TCP.
const DNS_TCP_EIGHTHS_BESIDE_PROXY: u64 = 1;
/// Of eight descriptors of a node with a proxy, those for its connections. The rest is for probes and the node: backends
/// are few compared with clients.
const PROXY_EIGHTHS: u64 = 4;

/// The soft limit that is assumed where the kernel does not report one: the usual default.
const USUAL_NOFILE: u64 = 1024;

impl FdBudget {
    /// Raises the limit of the process as far as permitted and shares it out.
    #[must_use]
    pub fn claim(has_proxy: bool) -> Self {
        let raised = raise_nofile().or_else(|error| {
            tracing::warn!(%error, "cannot raise the limit of open files");
            getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, _)| soft)
        });
        Self::of(raised.unwrap_or(USUAL_NOFILE), has_proxy)
    }

    /// The shares of a limit.
    #[must_use]
    pub fn of(limit: u64, has_proxy: bool) -> Self {
        let eighth = limit / 8;
        let (dns_tcp, proxy) =
            if has_proxy { (DNS_TCP_EIGHTHS_BESIDE_PROXY, PROXY_EIGHTHS) } else { (DNS_TCP_EIGHTHS, 0) };
        let [dns_tcp, api, proxy] = [dns_tcp, API_EIGHTHS, proxy].map(|eighths| eighth * eighths);
        let connections = |share: u64| usize::try_from(share).unwrap_or(usize::MAX).max(1);
        Self {
            limit,
            reserved: limit - dns_tcp - api - proxy,
            dns_tcp: connections(dns_tcp),
            api: connections(api),
            proxy: if has_proxy { connections(proxy / 2) } else { 0 },
        }
    }
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
    /// The open connections of the proxy's clients.
    pub proxy: Arc<Occupancy>,
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
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(512), hard).unwrap();
        assert_eq!(FdBudget::claim(false), FdBudget::of(hard, false));
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }

    #[test]
    fn half_of_the_descriptors_are_out_of_reach_of_strangers() {
        assert_eq!(
            FdBudget::of(1024, false),
            FdBudget { limit: 1024, reserved: 512, dns_tcp: 384, api: 128, proxy: 0 }
        );
        assert_eq!(
            FdBudget::of(1024, true),
            FdBudget { limit: 1024, reserved: 256, dns_tcp: 128, api: 128, proxy: 256 }
        );
        for limit in [8, 20, 1024, 4096, 524_288, u64::MAX] {
            let FdBudget { reserved, dns_tcp, api, .. } = FdBudget::of(limit, false);
            assert!(reserved >= limit / 2, "{limit}");
            assert!(dns_tcp as u64 + api as u64 <= limit - reserved, "{limit}");
        }
        // Too few for shares: one connection each is still better than none.
        assert_eq!(FdBudget::of(7, false), FdBudget { limit: 7, reserved: 7, dns_tcp: 1, api: 1, proxy: 0 });
    }
}
