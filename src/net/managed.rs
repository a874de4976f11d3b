//! Certificates that the node obtains and renews while it runs.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::sign::CertifiedKey;

use super::certificates::Certified;
use super::clock::Clock;
use crate::model::Unix;

/// How often a log line may say that a handshake failed for want of a certificate, in seconds.
const COMPLAIN_EVERY: u64 = 60;

/// One of them. Handshakes see a new one at once; connections are not touched.
#[derive(Debug)]
pub struct Managed {
    /// What it is for, in the order of the config.
    pub names: Vec<String>,
    /// Where it is kept, with its key.
    pub file: PathBuf,
    current: ArcSwapOption<Certified>,
    progress: Mutex<Progress>,
    /// Handshakes that failed because there was none.
    missed: AtomicU64,
    /// When that was logged last, in seconds since 1970.
    complained: AtomicU64,
}

/// How obtaining it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Why the last attempt failed, as a clause, and since when all have.
    pub failing: Option<(String, Unix)>,
    /// When it is obtained next, or tried again.
    pub next: Option<Unix>,
    /// Certificates obtained since the start.
    pub issued: u64,
    /// Attempts that failed since the start.
    pub failed: u64,
}

/// All that the config has, which a reload may change.
pub type AllManaged = Arc<ArcSwap<Vec<Arc<Managed>>>>;

impl Managed {
    /// One that is in this file, if there is one yet.
    #[must_use]
    pub fn new(names: Vec<String>, file: PathBuf, current: Option<Certified>) -> Self {
        Self {
            names,
            file,
            current: ArcSwapOption::new(current.map(Arc::new)),
            progress: Mutex::default(),
            missed: AtomicU64::new(0),
            complained: AtomicU64::new(0),
        }
    }

    /// The certificate in use.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Certified>> {
        self.current.load_full()
    }

    /// Shows clients this certificate from now on.
    pub fn replace(&self, certified: Certified) {
        self.current.store(Some(Arc::new(certified)));
    }

    /// How obtaining it goes.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what [`progress`](Self::progress) reports.
    pub fn note(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Handshakes that failed because there was no certificate.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Relaxed)
    }

    /// What a handshake needs; a missing one is counted and logged.
    pub(super) fn key(&self) -> Option<Arc<CertifiedKey>> {
        if let Some(current) = &*self.current.load() {
            return Some(Arc::clone(&current.key));
        }
        self.missed.fetch_add(1, Relaxed);
        let (now, last) = (Clock::unix().0.as_secs(), self.complained.load(Relaxed));
        let is_due = now.abs_diff(last) >= COMPLAIN_EVERY;
        if is_due && self.complained.compare_exchange(last, now, Relaxed, Relaxed).is_ok() {
            tracing::warn!(names = self.names.join(" "), "TLS handshakes fail: there is no certificate yet");
        }
        None
    }
}
