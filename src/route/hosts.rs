//! The routes that a host may take.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::model::HostPattern;

/// Indices of routes by their hosts, in ascending order within each list.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: FxHashMap<Box<[u8]>, Vec<usize>>,
    /// By what a host must end in, with the leading dot.
    below: FxHashMap<Box<[u8]>, Vec<usize>>,
    any: Vec<usize>,
}

impl Hosts {
    pub(super) fn compile<'a>(patterns: impl Iterator<Item = Option<&'a HostPattern>>) -> Self {
        let mut hosts = Self::default();
        for (index, pattern) in patterns.enumerate() {
            let routes = match pattern {
                None => &mut hosts.any,
                Some(HostPattern::Exact(name)) => hosts.exact.entry(name.as_bytes().into()).or_default(),
                Some(HostPattern::Below(suffix)) => hosts.below.entry(suffix.as_bytes().into()).or_default(),
            };
            routes.push(index);
        }
        hosts
    }

    /// The routes whose host pattern holds, in ascending order. A text that is too long for a host name matches no
    /// pattern.
    pub(super) fn routes_for(&self, host: &str) -> Merged<'_> {
        let mut lists = SmallVec::new();
        if !self.any.is_empty() {
            lists.push(self.any.as_slice());
        }
        let host = host.strip_suffix('.').unwrap_or(host).as_bytes();
        let mut buffer = [0; MAX_HOST];
        if let Some(lower) = buffer.get_mut(..host.len()) {
            lower.copy_from_slice(host);
            lower.make_ascii_lowercase();
            lists.extend(self.exact.get(&*lower).map(Vec::as_slice));
            // Below a name are hosts with a label before its dot.
            let dots = (1..lower.len()).filter(|at| lower[*at] == b'.' && lower[at - 1] != b'.');
            lists.extend(dots.filter_map(|at| self.below.get(&lower[at..])).map(Vec::as_slice));
        }
        Merged { lists }
    }
}

/// Several ascending lists without common elements, merged.
pub(super) struct Merged<'a> {
    /// None is empty.
    lists: SmallVec<[&'a [usize]; INLINE_LISTS]>,
}

impl Iterator for Merged<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let (at, _) = self.lists.iter().enumerate().min_by_key(|(_, list)| list[0])?;
        let (first, rest) = self.lists[at].split_first()?;
        if rest.is_empty() {
            self.lists.swap_remove(at);
        } else {
            self.lists[at] = rest;
        }
        Some(*first)
    }
}

/// The longest host name in its text form without the final dot, in bytes (RFC 1035 §2.3.4: 255 on the wire). Bounds what a
/// long list of labels can cost.
const MAX_HOST: usize = 253;
/// Lists that need no allocation: routes for any host, for this one, and for hosts below six of its suffixes.
const INLINE_LISTS: usize = 8;
