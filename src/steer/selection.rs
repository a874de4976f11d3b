//! What a choice returns: addresses, or endpoints whose host names are answered.

use std::net::IpAddr;

use crate::model::{EndpointRef, Family};
use crate::standing::Candidate;

/// An endpoint whose host name is answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Host {
    /// The endpoint; it has a host name.
    pub endpoint: EndpointRef,
    /// Its weight relative to the others in the answer, reduced while it is degraded or partially drained.
    pub weight: f64,
}

/// Collects the chosen endpoints.
pub(super) trait Selection {
    fn is_empty(&self) -> bool;

    /// Adds an endpoint.
    fn add(&mut self, candidate: &Candidate);

    /// Adds those fallback addresses that are of the family.
    fn add_fallback(&mut self, addresses: &[IpAddr], family: Family);
}

impl Selection for Vec<IpAddr> {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn add(&mut self, candidate: &Candidate) {
        if self.is_empty() {
            return self.extend_from_slice(&candidate.addresses);
        }
        // Endpoints may share an address, and an RRset has no duplicate records (RFC 2181 §5).
        for address in &candidate.addresses {
            if !self.contains(address) {
                self.push(*address);
            }
        }
    }

    fn add_fallback(&mut self, addresses: &[IpAddr], family: Family) {
        self.extend(addresses.iter().filter(|address| family.has(**address)));
    }
}

impl Selection for Vec<Host> {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn add(&mut self, candidate: &Candidate) {
        self.push(Host { endpoint: candidate.endpoint, weight: candidate.weight });
    }

    /// Does nothing: the config rejects fallback addresses for services that answer names.
    fn add_fallback(&mut self, _: &[IpAddr], _: Family) {}
}
