//! Which service of a name answers a question, and with which data of its endpoints.

use crate::model::{Family, Service, ServiceId, ServiceKind, Topology};
use crate::zone::{Node, rtype};

/// The family of endpoint data with which a service answers a question of a type; `None` if it does not answer the
/// type. HTTPS has addresses of both families: the first is returned.
#[must_use]
pub fn family(service: &Service, rtype: u16) -> Option<Family> {
    match (&service.kind, rtype) {
        (ServiceKind::Address { .. }, rtype::A) => Some(Family::V4),
        (ServiceKind::Address { .. }, rtype::AAAA) => Some(Family::V6),
        (ServiceKind::Address { https: Some(_) }, rtype::HTTPS) => Some(Family::V4),
        (ServiceKind::Srv { .. }, rtype::SRV) | (ServiceKind::Mx { .. }, rtype::MX) => Some(Family::Host),
        // RFC 1034 §3.6.2: an alias is one for every type, ANY too.
        (ServiceKind::Address { .. }, _) if service.may_be_alias() => Some(Family::V4),
        _ if service.may_be_alias() => Some(Family::Host),
        _ => None,
    }
}

/// The service of a name that answers a question of a type, and the family of endpoint data that it answers with.
pub(super) fn answering(topology: &Topology, node: &Node, rtype: u16) -> Option<(ServiceId, Family)> {
    node.services().iter().find_map(|id| Some((*id, family(topology.service(*id), rtype)?)))
}
