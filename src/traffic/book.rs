//! The counters of one writer.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};

use super::answers::Answers;
use super::increase;
use super::network::Network;
use super::networks::{CountryCode, Located, Networks, Secret};
use crate::geo::Index;
use crate::model::{RegionId, ServiceId, Topology};

/// The counters of one writer. Only one thread at a time may call [`Book::turn_to`] and [`Book::count`]; any may read
/// meanwhile.
#[derive(Debug)]
pub struct Book {
    answers: ArcSwap<Answers>,
    pub(super) networks: Networks,
    /// Answers chosen for a client subnet.
    with_subnet: AtomicU64,
}

impl Book {
    pub(super) fn new(secret: Secret) -> Self {
        let nothing = Answers::new(&Arc::default(), &Arc::default());
        Self {
            answers: ArcSwap::from_pointee(nothing),
            networks: Networks::new(secret),
            with_subnet: AtomicU64::new(0),
        }
    }

    /// The counters for answers of a plan. After a reload the counts so far are carried over by name; that happens once, and
    /// only then does this take time.
    #[must_use]
    pub fn turn_to(&self, topology: &Arc<Topology>, geo: &Arc<Index>) -> Guard<Arc<Answers>> {
        let answers = self.answers.load();
        if answers.is_of(topology, geo) {
            return answers;
        }
        self.answers.store(Arc::new(answers.carried_over(topology, geo)));
        self.networks.forget_countries();
        self.answers.load()
    }

    /// Counts an answer: the region that was chosen for a client, and the length of the client subnet if that is what its
    /// address is from. `answers` is what [`Book::turn_to`] returned for the plan that `geo` belongs to.
    #[inline]
    pub fn count(
        &self,
        answers: &Answers,
        geo: &Index,
        (service, region): (ServiceId, Option<RegionId>),
        (client, subnet): (IpAddr, Option<u8>),
    ) {
        let country = match self.networks.count(Network::of(client, subnet)) {
            Ok(country) => country,
            Err(unlocated) => {
                let (place, prefix_len) = geo.ranges().lookup(client);
                let country = CountryCode::of(geo.place(place).location.country);
                unlocated.learn(Located { country, prefix_len })
            }
        };
        answers.count(service, region, country);
        if subnet.is_some() {
            increase(&self.with_subnet);
        }
    }

    /// The answers so far.
    pub(super) fn answers(&self) -> Arc<Answers> {
        self.answers.load_full()
    }

    pub(super) fn with_subnet(&self) -> u64 {
        self.with_subnet.load(Ordering::Relaxed)
    }
}
