//! Which place keys of a config match a client's place.

use super::Place;
use crate::model::{Group, PlaceKey};

impl Place {
    /// Whether `key` matches this place. `groups` are the topology's, which never contain themselves.
    #[must_use]
    pub fn is_in(&self, key: &PlaceKey, groups: &[Group]) -> bool {
        let location = &self.location;
        match *key {
            PlaceKey::Net(net) => self.nets.contains(&net),
            PlaceKey::Asn(asn) => location.asn == Some(asn),
            PlaceKey::Subdivision(country, subdivision) => {
                location.country == Some(country) && location.subdivision == Some(subdivision)
            }
            PlaceKey::Country(country) => location.country == Some(country),
            PlaceKey::Group(group) => groups[group].places.iter().any(|inner| self.is_in(inner, groups)),
            PlaceKey::Continent(continent) => location.continent == Some(continent),
            PlaceKey::Any => true,
        }
    }
}
