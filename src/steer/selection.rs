//! What a choice fills in: addresses, or endpoints whose names are answered.

use std::net::IpAddr;

use crate::model::{EndpointRef, Family};
use crate::standing::Candidate;

/// An endpoint that was chosen for its name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Host {
    /// Which; it has a host.
    pub endpoint: EndpointRef,
    /// Its share among those chosen with it: its weight, reduced while it is degraded or drained in part.
    pub weight: f64,
}

/// Where the endpoints of a choice go.
pub(super) trait Selection {
    fn is_empty(&self) -> bool;

    /// Takes an endpoint.
    fn take(&mut self, candidate: &Candidate);

    /// Takes those addresses of a fallback that are of the family.
    fn fall_back(&mut self, addresses: &[IpAddr], family: Family);
}

impl Selection for Vec<IpAddr> {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn take(&mut self, candidate: &Candidate) {
        if self.is_empty() {
            return self.extend_from_slice(&candidate.addresses);
        }
        // Endpoints may share an address, and no record stands twice in an RRset (RFC 2181 §5).
        for address in &candidate.addresses {
            if !self.contains(address) {
                self.push(*address);
            }
        }
    }

    fn fall_back(&mut self, addresses: &[IpAddr], family: Family) {
        self.extend(addresses.iter().filter(|address| family.has(**address)));
    }
}

impl Selection for Vec<Host> {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn take(&mut self, candidate: &Candidate) {
        self.push(Host { endpoint: candidate.endpoint, weight: candidate.weight });
    }

    /// The config refuses fallback addresses where names are answered.
    fn fall_back(&mut self, _: &[IpAddr], _: Family) {}
}
