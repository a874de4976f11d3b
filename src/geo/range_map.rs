//! Address ranges → values, with the prefix on which each value holds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A total function from addresses to values, kept as sorted ranges. IPv4 and IPv6 stand apart; an
/// IPv4-mapped address (`::ffff:0:0/96`, RFC 4291 §2.5.5.2) is looked up as the IPv4 address in it.
///
/// Neighbouring ranges never have equal values, so a range is as wide as its value allows.
#[derive(Clone, Debug)]
pub struct RangeMap<V> {
    v4: Ranges<u32, V>,
    v6: Ranges<u128, V>,
}

impl<V: Copy + Eq> RangeMap<V> {
    /// Every address has this value.
    #[must_use]
    pub fn uniform(value: V) -> Self {
        Self { v4: Builder::new(value).build(), v6: Builder::new(value).build() }
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
        let (mut low, mut high) = (Builder::new(before), Builder::new(before));
        v4.into_iter().for_each(|(start, value)| low.push(start.to_bits(), value));
        v6.into_iter().for_each(|(start, value)| high.push(start.to_bits(), value));
        Self { v4: low.build(), v6: high.build() }
    }

    /// Every address has the value of the longest prefix that contains it, `elsewhere` if none does. Of equal
    /// prefixes the last wins. Host bits do not count. Takes O(n log n).
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

    /// The value at an address and the length of the widest prefix around it on which the value is the same:
    /// 0..=32 for IPv4 and IPv4-mapped addresses, 0..=128 for others, whose prefix may hold the IPv4-mapped ones.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> (V, u8) {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.v4.lookup(v4.to_bits()),
            IpAddr::V6(v6) => {
                let (value, prefix_len) = self.v6.lookup(v6.to_bits());
                // A prefix that would hold the IPv4-mapped addresses, too, does so only if they have this value.
                let parts_mapped = v6.to_bits().common(MAPPED) as u8 + 1;
                let is_mappeds = *self.v4.values == [value];
                (value, if is_mappeds { prefix_len } else { prefix_len.max(parts_mapped) })
            }
        }
    }

    /// The same ranges with other values; those that become equal merge.
    #[must_use]
    pub fn map<W: Copy + Eq>(&self, mut f: impl FnMut(V) -> W) -> RangeMap<W> {
        RangeMap { v4: self.v4.map(&mut f), v6: self.v6.map(&mut f) }
    }

    /// Both maps at once: every address has `f` of the two values. `f` is called once for each piece of an
    /// address range on which neither map changes.
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

    /// How many ranges there are, at least one for each family.
    #[must_use]
    pub fn range_count(&self) -> usize {
        self.v4.starts.len() + self.v6.starts.len()
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.v4.memory_bytes() + self.v6.memory_bytes()
    }
}

/// The first IPv4-mapped address.
const MAPPED: u128 = 0xffff_0000_0000;

/// What the two families' addresses have in common as numbers.
trait Bits: Copy + Ord + Default {
    /// The next address; `None` behind the last.
    fn next(self) -> Option<Self>;
    /// The address before; `None` before the first.
    fn previous(self) -> Option<Self>;
    /// How many leading bits are the same.
    fn common(self, other: Self) -> u32;
    /// The first `bits` bits, 1..=19, as a number.
    fn leading(self, bits: u32) -> usize;
    /// The lowest address with these leading `bits` bits.
    fn with_leading(value: usize, bits: u32) -> Self;
    /// The last address of the prefix of this length that starts here.
    fn last_of(self, prefix_len: u8) -> Self;
}

macro_rules! bits {
    ($($int:ty),*) => {$(
        impl Bits for $int {
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
            fn previous(self) -> Option<Self> {
                self.checked_sub(1)
            }
            fn common(self, other: Self) -> u32 {
                (self ^ other).leading_zeros()
            }
            fn leading(self, bits: u32) -> usize {
                (self >> (Self::BITS - bits)) as usize
            }
            fn with_leading(value: usize, bits: u32) -> Self {
                (value as Self) << (Self::BITS - bits)
            }
            fn last_of(self, prefix_len: u8) -> Self {
                self | Self::MAX.checked_shr(u32::from(prefix_len)).unwrap_or(0)
            }
        }
    )*};
}
bits!(u32, u128);

/// The first-level table spans at most this many leading bits: 2 MiB. As it has no more entries than there are
/// ranges, it adds at most 4 bytes to each.
const TABLE_BITS_MAX: u32 = 19;

/// One family's ranges.
#[derive(Clone, Debug)]
struct Ranges<A, V> {
    /// First address of each range; the first is 0, and they grow.
    starts: Box<[A]>,
    /// The value of each range; neighbours differ.
    values: Box<[V]>,
    /// For each value of the leading bits the range of the lowest such address, then the last range.
    /// A lookup searches only between two neighbours of this table.
    table: Box<[u32]>,
    /// How many leading bits the table spans, 1..=[`TABLE_BITS_MAX`].
    table_bits: u32,
}

impl<A: Bits, V: Copy + Eq> Ranges<A, V> {
    fn lookup(&self, address: A) -> (V, u8) {
        let bucket = address.leading(self.table_bits);
        let (low, high) = (self.table[bucket] as usize, self.table[bucket + 1] as usize);
        let at = low + self.starts[low + 1..=high].partition_point(|start| *start <= address);
        (self.values[at], self.widest_prefix(at, address))
    }

    /// The value differs just before and just behind the range, so the prefix must be long enough to part the
    /// address from both.
    fn widest_prefix(&self, at: usize, address: A) -> u8 {
        let before = self.starts[at].previous().map_or(0, |outside| address.common(outside) + 1);
        let behind = self.starts.get(at + 1).map_or(0, |outside| address.common(*outside) + 1);
        before.max(behind) as u8
    }

    fn iter(&self) -> impl Iterator<Item = (A, A, V)> + '_ {
        let last = A::default().last_of(0);
        let ends = self.starts[1..].iter().map(move |next| next.previous().unwrap_or(last)).chain([last]);
        self.starts.iter().zip(ends).zip(&self.values).map(|((first, last), value)| (*first, last, *value))
    }

    fn map<W: Copy + Eq>(&self, f: &mut impl FnMut(V) -> W) -> Ranges<A, W> {
        let mut builder = Builder::new(f(self.values[0]));
        for (start, value) in self.starts.iter().zip(&self.values).skip(1) {
            builder.push(*start, f(*value));
        }
        builder.build()
    }

    fn zip<U: Copy + Eq, W: Copy + Eq>(
        &self,
        other: &Ranges<A, U>,
        f: &mut impl FnMut(V, U) -> W,
    ) -> Ranges<A, W> {
        let (mut here, mut there) = (0, 0);
        let mut builder = Builder::new(f(self.values[0], other.values[0]));
        loop {
            let start = match (self.starts.get(here + 1), other.starts.get(there + 1)) {
                (None, None) => return builder.build(),
                (Some(start), None) | (None, Some(start)) => *start,
                (Some(ours), Some(theirs)) => *ours.min(theirs),
            };
            here += usize::from(self.starts.get(here + 1) == Some(&start));
            there += usize::from(other.starts.get(there + 1) == Some(&start));
            builder.push(start, f(self.values[here], other.values[there]));
        }
    }

    fn memory_bytes(&self) -> usize {
        size_of_val(&*self.starts) + size_of_val(&*self.values) + size_of_val(&*self.table)
    }
}

/// Collects starts in order and merges equal neighbours.
struct Builder<A, V> {
    starts: Vec<A>,
    values: Vec<V>,
}

impl<A: Bits, V: Copy + Eq> Builder<A, V> {
    /// All addresses have `value` until something is pushed.
    fn new(value: V) -> Self {
        Self { starts: vec![A::default()], values: vec![value] }
    }

    /// From `start` on, `value`. A start equal to the last one replaces it.
    fn push(&mut self, start: A, value: V) {
        let last = self.starts.len() - 1;
        assert!(self.starts[last] <= start, "range starts must not decrease");
        if self.starts[last] == start {
            if last == 0 {
                self.values[0] = value;
                return;
            }
            self.starts.pop();
            self.values.pop();
        }
        if self.values.last() != Some(&value) {
            self.starts.push(start);
            self.values.push(value);
        }
    }

    fn build(self) -> Ranges<A, V> {
        // About as many buckets as ranges: small maps stay small.
        let table_bits = self.starts.len().ilog2().clamp(1, TABLE_BITS_MAX);
        let mut table = Vec::with_capacity((1 << table_bits) + 1);
        let mut at = 0;
        for bucket in 0..1 << table_bits {
            let lowest = A::with_leading(bucket, table_bits);
            while self.starts.get(at + 1).is_some_and(|start| *start <= lowest) {
                at += 1;
            }
            table.push(at as u32);
        }
        table.push((self.starts.len() - 1) as u32);
        Ranges { starts: self.starts.into(), values: self.values.into(), table: table.into(), table_bits }
    }
}

/// Prefixes sorted so that each follows all that contain it; then a sweep with the stack of open prefixes.
fn layered<A: Bits, V: Copy + Eq>(elsewhere: V, mut prefixes: Vec<(A, u8, V)>) -> Ranges<A, V> {
    // Stable: of equal prefixes the last given comes last and replaces the others.
    prefixes.sort_by_key(|(start, prefix_len, _)| (*start, *prefix_len));
    let mut builder = Builder::new(elsewhere);
    let mut open: Vec<(A, V)> = Vec::new();
    for (start, prefix_len, value) in prefixes {
        close(&mut builder, &mut open, elsewhere, Some(start));
        builder.push(start, value);
        open.push((start.last_of(prefix_len), value));
    }
    close(&mut builder, &mut open, elsewhere, None);
    builder.build()
}

/// Ends the open prefixes that end before `until`: what contains them goes on behind them.
fn close<A: Bits, V: Copy + Eq>(
    builder: &mut Builder<A, V>,
    open: &mut Vec<(A, V)>,
    elsewhere: V,
    until: Option<A>,
) {
    while let Some((last, _)) = open.pop_if(|(last, _)| until.is_none_or(|until| *last < until)) {
        if let Some(next) = last.next() {
            builder.push(next, open.last().map_or(elsewhere, |(_, value)| *value));
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

    /// Few distinct bits, so that prefixes nest, touch and repeat.
    fn prefixes() -> impl Strategy<Value = Vec<(IpNet, u8)>> {
        let v4 = (prop_oneof![0..16_u32, any::<u32>()], 0..=32_u8)
            .prop_map(|(bits, len)| (IpAddr::V4(Ipv4Addr::from_bits(bits.rotate_right(4))), len));
        let v6 = (prop_oneof![0..16_u128, any::<u128>()], 0..=128_u8)
            .prop_map(|(bits, len)| (IpAddr::V6(Ipv6Addr::from_bits(bits.rotate_right(4))), len));
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

    /// Both ends of every prefix and their neighbours: all places where the value can change.
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
                // A value changes only at an edge, so the edges inside a prefix and its two ends tell all of it.
                let same = |within: IpNet| {
                    edges
                        .iter()
                        .filter(|edge| within.contains(*edge))
                        .all(|edge| naive(&prefixes, *edge) == value)
                        && naive(&prefixes, within.network()) == value
                        && naive(&prefixes, within.broadcast()) == value
                        && (!within.contains(&"::ffff:0:0".parse::<IpAddr>().unwrap())
                            || *map.v4.values == [value])
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
        assert_eq!(map.range_count(), 4);
        assert!(map.memory_bytes() >= 3 * 4 + 16);
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
