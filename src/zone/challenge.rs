//! Whether a zone can hold the record of a DNS challenge.

use super::{Found, Zones, rtype};
use crate::model::Name;

impl Zones {
    /// Checks that resolvers would ask these zones for a TXT record at a name, and find one that is added there.
    ///
    /// # Errors
    /// Why they would not, as a clause.
    pub fn can_hold_challenge(&self, owner: &Name) -> Result<(), String> {
        match self.find(owner.as_wire()) {
            Found::NoName { .. } | Found::Wildcard { .. } => Ok(()),
            Found::Node { zone, node } => {
                if node.rrset(rtype::CNAME).is_some() {
                    return Err(format!("{owner} is an alias in the zone {}", zone.origin));
                }
                if node.services().is_empty() { Ok(()) } else { Err(format!("{owner} is a service")) }
            }
            Found::Outside => Err(format!("no zone of this node contains {owner}")),
            Found::Delegation { zone, .. } => {
                Err(format!("the zone {} delegates {owner} to other name servers", zone.origin))
            }
            Found::Dname { zone, .. } => {
                Err(format!("a DNAME of the zone {} redirects {owner}", zone.origin))
            }
            Found::Undelegated { .. } => Err(format!("{owner} is in another zone")),
        }
    }
}
