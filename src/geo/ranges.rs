//! The ranges of one address family as a tree of 16-bit digits: small enough to have one for every distinct list of
//! regions, and a lookup touches few cache lines.
//!
//! A *node* is a prefix of whole digits on which the value changes; it splits the 65,536 *slots* of its next digit
//! into *runs*. A run has one value throughout, or is a single slot within which the value changes: another node.
//! No prefix that contains a whole node has a single value, so the node where a lookup ends gives the widest prefix.

use std::marker::PhantomData;
use std::ops::RangeInclusive;

/// An address as a number of digits of [`DIGIT_BITS`].
pub(super) trait Bits: Copy + Ord + Default {
    /// The digit at `level`, the highest being at 0.
    fn digit(self, level: u32) -> u16;
    /// The address with this digit in the place of a 0 at `level`.
    fn with_digit(self, level: u32, digit: u16) -> Self;
    /// Whether all digits below `level` are 0.
    fn ends_at(self, level: u32) -> bool;
    /// The next address; `None` after the last.
    fn next(self) -> Option<Self>;
    /// The address before; `None` before the first.
    fn previous(self) -> Option<Self>;
    /// The last address of the prefix of this length that starts here.
    fn last_of(self, prefix_len: u8) -> Self;
}

const DIGIT_BITS: u32 = u16::BITS;

macro_rules! bits {
    ($($int:ty),*) => {$(
        impl Bits for $int {
            fn digit(self, level: u32) -> u16 {
                (self >> (Self::BITS - DIGIT_BITS * (level + 1))) as u16
            }
            fn with_digit(self, level: u32, digit: u16) -> Self {
                self | Self::from(digit) << (Self::BITS - DIGIT_BITS * (level + 1))
            }
            fn ends_at(self, level: u32) -> bool {
                self.trailing_zeros() >= Self::BITS - DIGIT_BITS * (level + 1)
            }
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
            fn previous(self) -> Option<Self> {
                self.checked_sub(1)
            }
            fn last_of(self, prefix_len: u8) -> Self {
                self | Self::MAX.checked_shr(u32::from(prefix_len)).unwrap_or(0)
            }
        }
    )*};
}
bits!(u32, u128);

/// A total function from addresses to values. A node is identified by the position of its first run; others follow.
#[derive(Clone, Debug)]
pub(super) struct Ranges<A, V> {
    /// The slot at which each run begins. A node's first run always begins at 0, so that entry stores the number of
    /// further runs of the node instead.
    slots: Box<[u16]>,
    /// The value at the first address of each run; equal in neighbours only where one of them is a node.
    values: Box<[V]>,
    /// The node that each run is, or [`VALUE`]. Only for the last runs, which belong to nodes that contain nodes.
    nodes: Box<[u32]>,
    root: u32,
    /// What each slot of the root is: a node, or [`RUN`] and the position of a run of one value. Empty if the root
    /// has few runs.
    direct: Box<[u32]>,
    family: PhantomData<A>,
}

/// In [`Ranges::nodes`]: the run has one value.
const VALUE: u32 = u32::MAX;

/// In [`Ranges::direct`]: a run of the root that is not a node.
const RUN: u32 = 1 << 31;

/// With at least this many runs, the root's slots are indexed directly instead of searched, which takes 256 KiB.
const DIRECT_RUNS: u16 = 1024;

impl<A: Bits, V: Copy + Eq> Ranges<A, V> {
    /// The value at an address, and the length of the shortest prefix around it throughout which the value is the same.
    pub(super) fn lookup(&self, address: A) -> (V, u8) {
        let (mut node, mut level) = (self.root as usize, 0);
        if let Some(step) = self.direct.get(usize::from(address.digit(0))) {
            if step & RUN != 0 {
                return self.found(node, (step & !RUN) as usize, address, 0);
            }
            (node, level) = (*step as usize, 1);
        }
        loop {
            let slot = address.digit(level);
            let run = node + self.others(node).partition_point(|start| *start <= slot);
            match self.node_at(run) {
                Some(inner) => (node, level) = (inner, level + 1),
                None => return self.found(node, run, address, level),
            }
        }
    }

    /// The result of a lookup that ends at a run. The value differs just before and just after the run, so the
    /// prefix must be long enough to exclude both.
    #[inline]
    fn found(&self, node: usize, run: usize, address: A, level: u32) -> (V, u8) {
        // The bits in which the slot and one outside differ: the smaller, the more leading bits they share.
        let apart = |outside: u16| u32::from(address.digit(level) ^ outside);
        let (others, nothing) = (self.others(node), 1 << DIGIT_BITS);
        let before = others.get((run - node).wrapping_sub(1)).map_or(nothing, |start| apart(start - 1));
        let behind = others.get(run - node).map_or(nothing, |start| apart(*start));
        let bits = before.min(behind).leading_zeros() - nothing.leading_zeros();
        (self.values[run], (level * DIGIT_BITS + bits) as u8)
    }

    /// The slots at which the runs of a node begin, except for the first.
    fn others(&self, node: usize) -> &[u16] {
        &self.slots[node + 1..][..usize::from(self.slots[node])]
    }

    /// The node that a run is.
    fn node_at(&self, run: usize) -> Option<usize> {
        let node = *self.nodes.get(run.checked_sub(self.leaf_runs())?)?;
        (node != VALUE).then_some(node as usize)
    }

    /// The number of runs in nodes that contain no nodes; these come before the others.
    fn leaf_runs(&self) -> usize {
        self.slots.len() - self.nodes.len()
    }

    /// Whether every address has this value.
    pub(super) fn is_all(&self, value: V) -> bool {
        *self.values == [value]
    }

    /// Every range as first address, last address and value.
    pub(super) fn iter(&self) -> impl Iterator<Item = (A, A, V)> + use<A, V> {
        let mut starts = Starts::new(self.values[self.root as usize]);
        self.unfold(self.root as usize, 0, A::default(), &mut starts);
        let last = A::default().last_of(0);
        let Starts { starts, values } = starts;
        (0..starts.len()).map(move |at| {
            let behind = starts.get(at + 1).and_then(|next| next.previous());
            (starts[at], behind.unwrap_or(last), values[at])
        })
    }

    /// Pushes the starts within a node, whose digits are those of `base`.
    fn unfold(&self, node: usize, level: u32, base: A, starts: &mut Starts<A, V>) {
        for run in self.runs(node) {
            let start = base.with_digit(level, self.slot(node, run));
            match self.node_at(run) {
                Some(inner) => self.unfold(inner, level + 1, start, starts),
                None => starts.push(start, self.values[run]),
            }
        }
    }

    /// Combines two functions: every address gets `f` of its two values.
    pub(super) fn zip<U: Copy + Eq, W: Copy + Eq>(
        &self,
        other: &Ranges<A, U>,
        f: &mut impl FnMut(V, U) -> W,
    ) -> Ranges<A, W> {
        let mut builder = Builder::new();
        let root = builder.zip((self, self.whole()), (other, other.whole()), f);
        builder.build(root)
    }

    /// Maps the values; neighbouring ranges whose values become equal merge.
    pub(super) fn map<W: Copy + Eq>(&self, f: &mut impl FnMut(V) -> W) -> Ranges<A, W> {
        let mut builder = Builder::new();
        let root = builder.map(self, self.whole(), f);
        builder.build(root)
    }

    fn whole(&self) -> Part<V> {
        let root = self.root as usize;
        if self.values.len() == 1 { Part::All(self.values[0]) } else { Part::Node(root, self.values[root]) }
    }

    fn part(&self, run: usize) -> Part<V> {
        let value = self.values[run];
        self.node_at(run).map_or(Part::All(value), |node| Part::Node(node, value))
    }

    /// The runs of a node.
    fn runs(&self, node: usize) -> RangeInclusive<usize> {
        node..=node + usize::from(self.slots[node])
    }

    /// The slot at which a run of a node begins.
    fn slot(&self, node: usize, run: usize) -> u16 {
        if run == node { 0 } else { self.slots[run] }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.slots)
            + size_of_val(&*self.values)
            + size_of_val(&*self.nodes)
            + size_of_val(&*self.direct)
    }
}

/// The starts of ranges, in order; neighbours have different values.
pub(super) struct Starts<A, V> {
    starts: Vec<A>,
    values: Vec<V>,
}

impl<A: Bits, V: Copy + Eq> Starts<A, V> {
    /// All addresses have `value` until a start is pushed.
    pub(super) fn new(value: V) -> Self {
        Self { starts: vec![A::default()], values: vec![value] }
    }

    /// Sets `value` from `start` on. A start equal to the last one replaces it.
    pub(super) fn push(&mut self, start: A, value: V) {
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

    pub(super) fn build(self) -> Ranges<A, V> {
        let mut builder = Builder::new();
        let root = builder.fold(0, self.values[0], &self.starts[1..], &self.values[1..]);
        builder.build(root)
    }
}

/// The content of a slot, or of the whole address space.
#[derive(Clone, Copy)]
enum Part<V> {
    /// One value.
    All(V),
    /// A node, and the value at its first address.
    Node(usize, V),
}

/// Builds the nodes of [`Ranges`]; the nodes within a node are built before it.
struct Builder<V> {
    /// The runs of nodes that contain no nodes.
    leaves: Runs<V>,
    /// The runs of the other nodes, whose positions are offset by [`INNER`], and the nodes that these runs are.
    inner: Runs<V>,
    nodes: Vec<u32>,
    /// The runs of nodes under construction, each after those of the enclosing node.
    open: Vec<(u16, Part<V>)>,
}

struct Runs<V> {
    slots: Vec<u16>,
    values: Vec<V>,
}

/// Set in the positions of nodes that contain nodes, as long as the number of runs before them is unknown.
const INNER: usize = 1 << 31;

impl<V: Copy + Eq> Builder<V> {
    fn new() -> Self {
        let none = || Runs { slots: Vec::new(), values: Vec::new() };
        Self { leaves: none(), inner: none(), nodes: Vec::new(), open: Vec::new() }
    }

    /// Builds a node whose slots are at `level` from the starts in it and their values. `value` is the value at its
    /// first address.
    fn fold<A: Bits>(&mut self, level: u32, mut value: V, starts: &[A], values: &[V]) -> Part<V> {
        let mark = self.open.len();
        self.open.push((0, Part::All(value)));
        let mut end = 0;
        for within in starts.chunk_by(|one, two| one.digit(level) == two.digit(level)) {
            let slot = within[0].digit(level);
            let mut at = end;
            end += within.len();
            if within[0].ends_at(level) {
                value = values[at];
                at += 1;
            }
            if at == end {
                self.push(mark, slot, Part::All(value));
                continue;
            }
            let node = self.fold(level + 1, value, &starts[at..end], &values[at..end]);
            self.push(mark, slot, node);
            value = values[end - 1];
            if let Some(next) = slot.checked_add(1) {
                self.push(mark, next, Part::All(value));
            }
        }
        self.close(mark)
    }

    /// Builds a copy of a node with mapped values.
    fn map<A: Bits, U: Copy + Eq>(
        &mut self,
        from: &Ranges<A, U>,
        part: Part<U>,
        f: &mut impl FnMut(U) -> V,
    ) -> Part<V> {
        let node = match part {
            Part::All(value) => return Part::All(f(value)),
            Part::Node(node, _) if node < from.leaf_runs() => {
                return self.map_leaf(from, node, f);
            }
            Part::Node(node, _) => node,
        };
        let mark = self.open.len();
        for run in from.runs(node) {
            let part = self.map(from, from.part(run), f);
            self.push(mark, from.slot(node, run), part);
        }
        self.close(mark)
    }

    /// Like [`Builder::map`], for a node that contains no nodes, as most runs are in these.
    fn map_leaf<A: Bits, U: Copy + Eq>(
        &mut self,
        from: &Ranges<A, U>,
        node: usize,
        f: &mut impl FnMut(U) -> V,
    ) -> Part<V> {
        let Runs { slots, values } = &mut self.leaves;
        let position = slots.len();
        let first = f(from.values[node]);
        let runs = from.runs(node);
        let (from_slots, from_values) = (&from.slots[runs.clone()], &from.values[runs]);
        slots.resize(position + from_slots.len(), 0);
        values.resize(position + from_slots.len(), first);
        // Every run is written, but only one that differs is kept: a branch would be mispredicted too often.
        let (to_slots, to_values) = (&mut slots[position..], &mut values[position..]);
        let (mut follow, mut before) = (0, first);
        for (slot, value) in from_slots.iter().zip(from_values).skip(1) {
            let value = f(*value);
            to_slots[follow + 1] = *slot;
            to_values[follow + 1] = value;
            follow += usize::from(value != before);
            before = value;
        }
        let end = if follow == 0 { position } else { position + follow + 1 };
        slots.truncate(end);
        values.truncate(end);
        if follow == 0 {
            return Part::All(first);
        }
        slots[position] = follow as u16;
        Part::Node(position, first)
    }

    /// Merges two nodes at the same position.
    fn zip<A: Bits, L: Copy + Eq, R: Copy + Eq>(
        &mut self,
        (left, left_part): (&Ranges<A, L>, Part<L>),
        (right, right_part): (&Ranges<A, R>, Part<R>),
        f: &mut impl FnMut(L, R) -> V,
    ) -> Part<V> {
        let (left_node, right_node) = match (left_part, right_part) {
            (part, Part::All(theirs)) => return self.map(left, part, &mut |ours| f(ours, theirs)),
            (Part::All(ours), part) => return self.map(right, part, &mut |theirs| f(ours, theirs)),
            (Part::Node(left_node, _), Part::Node(right_node, _)) => (left_node, right_node),
        };
        let mark = self.open.len();
        let (ours, theirs) = (left.runs(left_node), right.runs(right_node));
        let (mut our, mut their) = (left_node, right_node);
        let mut slot = 0;
        // A node is a single slot, so the other side has either the same slot or a single value there.
        loop {
            let part = self.zip((left, left.part(our)), (right, right.part(their)), f);
            self.push(mark, slot, part);
            let our_next = (our < *ours.end()).then(|| left.slots[our + 1]);
            let their_next = (their < *theirs.end()).then(|| right.slots[their + 1]);
            slot = match (our_next, their_next) {
                (None, None) => return self.close(mark),
                (Some(next), None) | (None, Some(next)) => next,
                (Some(one), Some(two)) => one.min(two),
            };
            our += usize::from(our_next == Some(slot));
            their += usize::from(their_next == Some(slot));
        }
    }

    /// Sets the content from this slot on. A slot equal to the last one replaces it.
    fn push(&mut self, mark: usize, slot: u16, part: Part<V>) {
        match (self.open[mark..].last(), part) {
            (Some((last, _)), _) if *last == slot => {
                self.open.pop();
            }
            (Some((_, Part::All(before))), Part::All(value)) if *before == value => return,
            _ => {}
        }
        self.open.push((slot, part));
    }

    /// The runs after `mark` are a node, unless they have a single value.
    fn close(&mut self, mark: usize) -> Part<V> {
        let runs = &self.open[mark..];
        let (Part::All(first) | Part::Node(_, first)) = runs[0].1;
        let follow = (runs.len() - 1) as u16;
        if follow == 0 {
            self.open.truncate(mark);
            return Part::All(first);
        }
        let has_nodes = runs.iter().any(|(_, part)| matches!(part, Part::Node(..)));
        let into = if has_nodes { &mut self.inner } else { &mut self.leaves };
        let position = into.slots.len();
        for (slot, part) in self.open.drain(mark..) {
            let (node, value) = match part {
                Part::All(value) => (VALUE, value),
                Part::Node(node, value) => (node as u32, value),
            };
            into.slots.push(slot);
            into.values.push(value);
            if has_nodes {
                self.nodes.push(node);
            }
        }
        into.slots[position] = follow;
        Part::Node(if has_nodes { position | INNER } else { position }, first)
    }

    fn build<A: Bits>(mut self, root: Part<V>) -> Ranges<A, V> {
        let root = match root {
            Part::Node(node, _) => node,
            Part::All(value) => {
                self.leaves = Runs { slots: vec![0], values: vec![value] };
                0
            }
        };
        let before = self.leaves.slots.len();
        let place = |node: usize| if node & INNER == 0 { node } else { (node & !INNER) + before };
        for node in self.nodes.iter_mut().filter(|node| **node != VALUE) {
            *node = place(*node as usize) as u32;
        }
        self.leaves.slots.append(&mut self.inner.slots);
        self.leaves.values.append(&mut self.inner.values);
        assert!(self.leaves.slots.len() < RUN as usize, "positions have 31 bits");
        let mut ranges = Ranges {
            slots: self.leaves.slots.into(),
            values: self.leaves.values.into(),
            nodes: self.nodes.into(),
            root: place(root) as u32,
            direct: Box::default(),
            family: PhantomData,
        };
        ranges.direct = ranges.direct();
        ranges
    }
}

impl<A: Bits, V: Copy + Eq> Ranges<A, V> {
    /// The expected content of [`Ranges::direct`].
    fn direct(&self) -> Box<[u32]> {
        let root = self.root as usize;
        if self.slots[root] < DIRECT_RUNS {
            return Box::default();
        }
        let mut direct = Vec::with_capacity(1 << DIGIT_BITS);
        let runs = self.runs(root);
        for run in runs.clone() {
            let end = if run == *runs.end() { 1 << DIGIT_BITS } else { usize::from(self.slots[run + 1]) };
            direct.resize(end, self.node_at(run).map_or(run as u32 | RUN, |node| node as u32));
        }
        direct.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_is_looked_up_says_what_a_search_says() {
        let mut starts = Starts::new(0_u32);
        let mut addresses = vec![0, u32::MAX];
        let mut start = 0_u32;
        // Steps of two slots, of a slot and a quarter, within a slot, and of a single address.
        for (value, step) in [0x2_0000, 0x1_4000, 0x100, 1].into_iter().cycle().take(7_000).enumerate() {
            start += step;
            starts.push(start, value as u32 % 3);
            addresses.extend([start - 1, start, start + 1]);
        }
        let ranges = starts.build();
        assert_eq!(ranges.direct.len(), 1 << DIGIT_BITS);
        assert!(ranges.direct.iter().any(|step| step & RUN != 0) && ranges.nodes.iter().any(|n| *n != VALUE));
        let searched = Ranges { direct: Box::default(), ..ranges.clone() };
        for address in addresses {
            assert_eq!(ranges.lookup(address), searched.lookup(address), "{address:x}");
        }
        assert_eq!(ranges.map(&mut |_| ()).memory_bytes(), 2);
    }
}
