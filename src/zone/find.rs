//! Lookup: RFC 1034 §4.3.2 with the wildcards of RFC 4592.

use super::build::{NONE, Node, Served, Zones};
use super::hash::is_same;
use crate::model::Name;

/// The result of looking up a name. Offsets point into that name: the owner of a node above it is the part of the
/// name from there on.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// The name is in none of the zones.
    Outside,
    /// The name itself exists; it may own nothing (an empty non-terminal).
    Node {
        /// Its zone.
        zone: &'a Served,
        /// The node.
        node: &'a Node,
    },
    /// The name does not exist, but a wildcard matches it (RFC 4592 §3.3.1).
    Wildcard {
        /// Its zone.
        zone: &'a Served,
        /// The wildcard's node.
        node: &'a Node,
        /// Where in the name the closest encloser begins.
        encloser: usize,
    },
    /// At or below a delegation.
    Delegation {
        /// The zone that delegates.
        zone: &'a Served,
        /// The node that owns the NS records.
        cut: &'a Node,
        /// Where in the name the cut's own name begins; 0 if the name is the cut.
        offset: usize,
    },
    /// Below a name with a DNAME.
    Dname {
        /// Its zone.
        zone: &'a Served,
        /// The node that owns the DNAME.
        node: &'a Node,
        /// Where in the name that node's own name begins; never 0.
        offset: usize,
    },
    /// The apex of a zone whose parent zone is served here, too, but does not delegate it; only by
    /// [`Zones::find_in_parent`].
    Undelegated {
        /// The parent zone.
        zone: &'a Served,
    },
    /// The zone has no such name.
    NoName {
        /// The zone that would have it.
        zone: &'a Served,
    },
}

impl<'a> Found<'a> {
    /// The node whose data answers for the name, if there is one.
    #[must_use]
    pub fn node(&self) -> Option<&'a Node> {
        match *self {
            Self::Node { node, .. } | Self::Wildcard { node, .. } => Some(node),
            _ => None,
        }
    }
}

/// Where the labels of a name begin, the root's included.
struct Labels {
    offsets: [u8; 128],
    /// Without the root.
    count: usize,
}

impl Labels {
    /// `name` is one name in uncompressed wire format.
    fn of(name: &[u8]) -> Self {
        let mut labels = Self { offsets: [0; 128], count: 0 };
        let mut offset = 0;
        while name[offset] != 0 {
            offset += usize::from(name[offset]) + 1;
            labels.count += 1;
            labels.offsets[labels.count] = offset as u8;
        }
        labels
    }

    /// Where the suffix of `count` labels begins.
    fn suffix(&self, count: usize) -> usize {
        usize::from(self.offsets[self.count - count])
    }
}

impl Zones {
    /// Looks up a name in uncompressed wire format, in any case.
    ///
    /// Costs one hash for each possible zone origin, one if the name exists, and otherwise one for each existing
    /// ancestor: a flood of random names costs two.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Found<'_> {
        let labels = Labels::of(name);
        match self.zone_at_most(name, &labels, labels.count) {
            Some(zone) => zone.find(name, &labels),
            None => Found::Outside,
        }
    }

    /// As [`Zones::find`], but looks up an apex in the zone above that is served here too, which owns its DS records or
    /// denies them. Without such a zone the apex has to deny them itself (RFC 4035 §3.1.4.1).
    #[must_use]
    pub fn find_in_parent(&self, name: &[u8]) -> Found<'_> {
        let labels = Labels::of(name);
        let above = labels.count.checked_sub(1).and_then(|count| self.zone_at_most(name, &labels, count));
        match above.map(|zone| zone.find(name, &labels)) {
            // The name exists here: resolvers that learned otherwise, or of an alias, would take that for all its types.
            Some(Found::NoName { zone } | Found::Wildcard { zone, .. })
                if self.find_origin(name).is_some() =>
            {
                Found::Undelegated { zone }
            }
            Some(found) => found,
            None => self.find(name),
        }
    }

    /// The origin of every zone that the zone above it does not delegate though it is served here too, and that zone's.
    pub fn undelegated(&self) -> impl Iterator<Item = (&Name, &Name)> {
        self.iter().filter_map(|child| match self.find_in_parent(child.origin.as_wire()) {
            Found::Node { zone, .. } | Found::Undelegated { zone } | Found::Dname { zone, .. } => {
                (zone.number != child.number).then_some((&child.origin, &zone.origin))
            }
            _ => None,
        })
    }

    /// The zone with the longest origin of at most `count` labels that is a suffix of `name`.
    fn zone_at_most(&self, name: &[u8], labels: &Labels, count: usize) -> Option<&Served> {
        if let [only] = &*self.zones {
            // Most servers have one zone. A comparison is cheaper than a hash, and no later load depends on its
            // result.
            let fewest = usize::from(only.apex().labels);
            let is_below = || is_same(&name[labels.suffix(fewest)..], only.origin.as_wire());
            return (fewest <= count && is_below()).then_some(only);
        }
        let (fewest, most) = self.origin_labels;
        let mut count = count.min(usize::from(most));
        loop {
            if count < usize::from(fewest) {
                return None;
            }
            if let Some(index) = self.find_origin(&name[labels.suffix(count)..]) {
                return Some(&self.zones[index]);
            }
            count = count.checked_sub(1)?;
        }
    }
}

impl Served {
    fn find<'a>(&'a self, name: &[u8], labels: &Labels) -> Found<'a> {
        if let Some(node) = self.node(name) {
            return match self.covered(node, labels) {
                Some(found) => found,
                None if node.is_cut => Found::Delegation { zone: self, cut: node, offset: 0 },
                None => Found::Node { zone: self, node },
            };
        }
        // Match down, label by label: every ancestor of an existing name exists, so the last match is the closest
        // encloser.
        let mut encloser = self.apex();
        for count in usize::from(encloser.labels) + 1..labels.count {
            let Some(node) = self.node(&name[labels.suffix(count)..]) else { break };
            encloser = node;
        }
        if let Some(found) = self.covered(encloser, labels) {
            return found;
        }
        let offset = labels.suffix(usize::from(encloser.labels));
        if encloser.is_cut {
            Found::Delegation { zone: self, cut: encloser, offset }
        } else if encloser.is_dname {
            Found::Dname { zone: self, node: encloser, offset }
        } else if encloser.wildcard != NONE {
            let node = &self.nodes[encloser.wildcard as usize];
            Found::Wildcard { zone: self, node, encloser: offset }
        } else {
            Found::NoName { zone: self }
        }
    }

    /// The delegation or DNAME above a node that hides it.
    fn covered<'a>(&'a self, node: &Node, labels: &Labels) -> Option<Found<'a>> {
        if node.covered_by == NONE {
            return None;
        }
        let above = &self.nodes[node.covered_by as usize];
        let offset = labels.suffix(usize::from(above.labels));
        Some(if above.is_cut {
            Found::Delegation { zone: self, cut: above, offset }
        } else {
            Found::Dname { zone: self, node: above, offset }
        })
    }
}
