//! Address ranges → values, with the prefix throughout which each value applies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::ranges::{Bits, Ranges, Starts};

/// A total function from addresses to values, stored as sorted ranges. IPv4 and IPv6 are separate; an IPv4-mapped
/// address (`::ffff:0:0/96`, RFC 4291 §2.5.5.2) is looked up as the IPv4 address in it.
///
/// Neighbouring ranges never have equal values, so a range is as wide as its value allows.
#[derive(Clone, Debug)]
pub struct RangeMap<V> {
    v4: Ranges<u32, V>,
    v6: Ranges<u128, V>,
}

impl<V: Copy + Eq> RangeMap<V> {
    /// A map in which every address has this value.
    #[must_use]
    pub fn uniform(value: V) -> Self {
        Self { v4: Starts::new(value).build(), v6: Starts::new(value).build() }
    }

    /// Builds from the first address of each range: an address has the value of the last start at or before
    /// it, and `before` if there is none. Starts must not decrease; of equal starts the last wins.
    ///
    /// # Panics
    /// If a start is lower than the one before it.
    pub fn from_starts(
        before: V,
        v4: impl IntoIterator<Item = (Ipv4Addr, V)>,
        v6: impl IntoIterator<Item = (Ipv6Addr, V)>,
    ) -> Self {
        let mut starts = Starts::new(before);
        v4.into_iter().for_each(|(start, value)| starts.push(start.to_bits(), value));
        let v4 = starts.build();
        let mut starts = Starts::new(before);
        v6.into_iter().for_each(|(start, value)| starts.push(start.to_bits(), value));
        Self { v4, v6: starts.build() }
    }

    /// Builds from prefixes: every address has the value of the longest prefix that contains it, or `elsewhere`. Of
    /// equal prefixes, the last wins. Host bits are ignored. Takes O(n log n) time.
    pub fn from_prefixes(elsewhere: V, prefixes: impl IntoIterator<Item = (IpNet, V)>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (prefix, value) in prefixes {
            match prefix {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.prefix_len(), value)),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.prefix_len(), value)),
            }
        }
        Self { v4: layered(elsewhere, v4), v6: layered(elsewhere, v6) }
    }

    /// The value at an address, and the length of the shortest prefix around it throughout which the value is the same:
    /// 0..=32 for IPv4 and IPv4-mapped addresses, 0..=128 for others, whose prefix may contain the IPv4-mapped ones.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> (V, u8) {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.v4.lookup(v4.to_bits()),
            IpAddr::V6(v6) => {
                let (value, prefix_len) = self.v6.lookup(v6.to_bits());
                // A prefix may contain the IPv4-mapped addresses only if all of them have this value.
                let parts_mapped = (v6.to_bits() ^ MAPPED).leading_zeros() as u8 + 1;
                let is_mappeds = self.v4.is_all(value);
                (value, if is_mappeds { prefix_len } else { prefix_len.max(parts_mapped) })
            }
        }
    }

    /// Maps the values; neighbouring ranges whose values become equal merge.
    #[must_use]
    pub fn map<W: Copy + Eq>(&self, mut f: impl FnMut(V) -> W) -> RangeMap<W> {
        RangeMap { v4: self.v4.map(&mut f), v6: self.v6.map(&mut f) }
    }

    /// Combines two maps: every address gets `f` of its two values. `f` is called once for each range in which
    /// neither map changes.
    #[must_use]
    pub fn zip<U: Copy + Eq, W: Copy + Eq>(
        &self,
        other: &RangeMap<U>,
        mut f: impl FnMut(V, U) -> W,
    ) -> RangeMap<W> {
        RangeMap { v4: self.v4.zip(&other.v4, &mut f), v6: self.v6.zip(&other.v6, &mut f) }
    }

    /// Every range as first address, last address and value: IPv4 in order, then IPv6.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, IpAddr, V)> + '_ {
        let v4 = self.v4.iter().map(|(first, last, value)| {
            (IpAddr::V4(Ipv4Addr::from_bits(first)), IpAddr::V4(Ipv4Addr::from_bits(last)), value)
        });
        let v6 = self.v6.iter().map(|(first, last, value)| {
            (IpAddr::V6(Ipv6Addr::from_bits(first)), IpAddr::V6(Ipv6Addr::from_bits(last)), value)
        });
        v4.chain(v6)
    }

    /// Heap size in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.v4.memory_bytes() + self.v6.memory_bytes()
    }
}

/// The first IPv4-mapped address.
const MAPPED: u128 = 0xffff_0000_0000;

/// Sorts the prefixes so that each follows all that contain it, then sweeps over them with a stack of open prefixes.
fn layered<A: Bits, V: Copy + Eq>(elsewhere: V, mut prefixes: Vec<(A, u8, V)>) -> Ranges<A, V> {
    // The sort is stable: of equal prefixes, the last one given comes last and replaces the others.
    prefixes.sort_by_key(|(start, prefix_len, _)| (*start, *prefix_len));
    let mut starts = Starts::new(elsewhere);
    let mut open: Vec<(A, V)> = Vec::new();
    for (start, prefix_len, value) in prefixes {
        close(&mut starts, &mut open, elsewhere, Some(start));
        starts.push(start, value);
        open.push((start.last_of(prefix_len), value));
    }
    close(&mut starts, &mut open, elsewhere, None);
    starts.build()
}

/// Closes the open prefixes that end before `until`; after each, the enclosing prefix continues.
fn close<A: Bits, V: Copy + Eq>(
    starts: &mut Starts<A, V>,
    open: &mut Vec<(A, V)>,
    elsewhere: V,
    until: Option<A>,
) {
    while let Some((last, _)) = open.pop_if(|(last, _)| until.is_none_or(|until| *last < until)) {
        if let Some(next) = last.next() {
            starts.push(next, open.last().map_or(elsewhere, |(_, value)| *value));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Digits at the boundaries of nodes and runs in the tree of ranges.
    fn digit() -> impl Strategy<Value = u16> {
        prop_oneof![0..3_u16, 0x7fff..0x8001_u16, 0xfffd..=0xffff_u16]
    }

    /// Few distinct bits, so that prefixes nest, touch and repeat.
    fn prefixes() -> impl Strategy<Value = Vec<(IpNet, u8)>> {
        let digits = |digits: &[u16]| digits.iter().fold(0, |bits, digit| bits << 16 | u128::from(*digit));
        let v4 = prop_oneof![
            (0..16_u32).prop_map(|bits| bits.rotate_right(4)),
            any::<u32>(),
            [digit(), digit()].prop_map(move |of| digits(&of) as u32),
        ];
        let v6 = prop_oneof![
            (0..16_u128).prop_map(|bits| bits.rotate_right(4)),
            any::<u128>(),
            proptest::array::uniform8(digit()).prop_map(move |of| digits(&of)),
            // Some that differ only in the last digits.
            [digit(), digit()].prop_map(move |of| digits(&[0x2001, 0xdb8, 0, 0, 0, 0, of[0], of[1]])),
        ];
        let v4 = (v4, 0..=32_u8).prop_map(|(bits, len)| (IpAddr::V4(Ipv4Addr::from_bits(bits)), len));
        let v6 = (v6, 0..=128_u8).prop_map(|(bits, len)| (IpAddr::V6(Ipv6Addr::from_bits(bits)), len));
        let one = (prop_oneof![v4, v6], 0..4_u8)
            .prop_map(|((address, len), value)| (IpNet::new(address, len).unwrap().trunc(), value));
        proptest::collection::vec(one, 0..40)
    }

    fn naive(prefixes: &[(IpNet, u8)], address: IpAddr) -> u8 {
        prefixes
            .iter()
            .filter(|(prefix, _)| prefix.contains(&address))
            .max_by_key(|(prefix, _)| prefix.prefix_len())
            .map_or(9, |(_, value)| *value)
    }

    /// Both ends of every prefix and their neighbours: all addresses at which the value can change.
    fn edges(prefixes: &[(IpNet, u8)]) -> Vec<IpAddr> {
        let mut edges = vec![address("0.0.0.0"), address("255.255.255.255"), address("::"), address("ff::")];
        for (prefix, _) in prefixes {
            match (prefix.network(), prefix.broadcast()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => {
                    let (first, last) = (first.to_bits(), last.to_bits());
                    edges.extend(
                        [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
                            .map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
                    );
                }
                (IpAddr::V6(first), IpAddr::V6(last)) => {
                    let (first, last) = (first.to_bits(), last.to_bits());
                    edges.extend(
                        [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
                            .map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
                    );
                }
                _ => unreachable!("both ends of a prefix are of one family"),
            }
        }
        edges.retain(|address| address.to_canonical() == *address);
        edges
    }

    proptest! {
        #[test]
        fn lookup_is_the_longest_prefix(prefixes in prefixes(), more in any::<(u32, u128)>()) {
            let map = RangeMap::from_prefixes(9, prefixes.iter().copied());
            let random = [IpAddr::V4(Ipv4Addr::from_bits(more.0)), IpAddr::V6(Ipv6Addr::from_bits(more.1))];
            for address in edges(&prefixes).into_iter().chain(random) {
                prop_assert_eq!(map.lookup(address).0, naive(&prefixes, address), "{}", address);
            }
        }

        #[test]
        fn the_scope_is_the_widest_prefix_of_one_value(prefixes in prefixes()) {
            let map = RangeMap::from_prefixes(9, prefixes.iter().copied());
            let edges = edges(&prefixes);
            for address in &edges {
                let (value, len) = map.lookup(*address);
                let scope = IpNet::new(*address, len).unwrap().trunc();
                // A value changes only at an edge, so the edges inside a prefix and its two ends determine whether it
                // is uniform.
                let same = |within: IpNet| {
                    edges
                        .iter()
                        .filter(|edge| within.contains(*edge))
                        .all(|edge| naive(&prefixes, *edge) == value)
                        && naive(&prefixes, within.network()) == value
                        && naive(&prefixes, within.broadcast()) == value
                        && (!within.contains(&"::ffff:0:0".parse::<IpAddr>().unwrap())
                            || map.v4.is_all(value))
                };
                prop_assert!(same(scope), "{scope} is not all {value}");
                if let Some(wider) = scope.supernet() {
                    prop_assert!(!same(wider), "{wider} around {scope} is all {value}");
                }
            }
        }

        #[test]
        fn zip_and_map_hold_address_by_address(one in prefixes(), two in prefixes()) {
            let (left, right) = (RangeMap::from_prefixes(9, one.clone()), RangeMap::from_prefixes(9, two.clone()));
            let both = left.zip(&right, |a, b| (a, b));
            let sum = both.map(|(a, b)| u32::from(a) + u32::from(b));
            for address in edges(&one).into_iter().chain(edges(&two)) {
                let (a, b) = (naive(&one, address), naive(&two, address));
                prop_assert_eq!(both.lookup(address).0, (a, b));
                prop_assert_eq!(sum.lookup(address).0, u32::from(a) + u32::from(b));
            }
            for ranges in sum.iter().collect::<Vec<_>>().windows(2) {
                prop_assert!(ranges[0].2 != ranges[1].2 || ranges[0].0.is_ipv4() != ranges[1].0.is_ipv4());
            }
        }
    }

    #[test]
    fn neighbours_with_one_value_are_one_range() {
        let map = RangeMap::from_prefixes(0, [(net("10.0.0.0/9"), 1), (net("10.128.0.0/9"), 1)]);
        assert_eq!(map.lookup(address("10.200.0.1")), (1, 8));
        assert_eq!(map.lookup(address("::ffff:10.200.0.1")), (1, 8), "mapped is IPv4");
        assert_eq!(map.lookup(address("11.0.0.0")), (0, 8));
        assert_eq!(map.lookup(address("192.0.2.1")), (0, 1));
        assert_eq!(map.lookup(address("2001:db8::1")), (0, 3), "::/2 holds mapped addresses of other values");
        assert_eq!(map.lookup(address("::1")), (0, 81));
        assert_eq!(RangeMap::uniform(0).lookup(address("2001:db8::1")), (0, 0));
        assert_eq!(map.iter().count(), 4);
        assert_eq!(map.memory_bytes(), (3 + 1) * (2 + 4), "a slot and a value for each range");
    }

    #[test]
    fn starts_are_ranges_up_to_the_next_start() {
        let v4 = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        let map = RangeMap::from_starts(
            'a',
            [(v4("1.0.0.0"), 'b'), (v4("1.0.0.0"), 'a'), (v4("2.0.0.0"), 'c'), (v4("3.0.0.0"), 'a')],
            [("2001:db8::".parse().unwrap(), 'd')],
        );
        let found: Vec<_> = map.iter().map(|(first, last, v)| format!("{first}-{last} {v}")).collect();
        assert_eq!(
            found,
            [
                "0.0.0.0-1.255.255.255 a",
                "2.0.0.0-2.255.255.255 c",
                "3.0.0.0-255.255.255.255 a",
                "::-2001:db7:ffff:ffff:ffff:ffff:ffff:ffff a",
                "2001:db8::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff d",
            ]
        );
    }

    #[test]
    #[should_panic(expected = "must not decrease")]
    fn starts_out_of_order_are_a_mistake() {
        let v6 = |bits| Ipv6Addr::from_bits(bits);
        let _ = RangeMap::from_starts(0, [], [(v6(5), 1), (v6(4), 2)]);
    }
}
