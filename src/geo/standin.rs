#![allow(missing_docs)]
use super::Place;
use ipnet::IpNet;
use std::net::IpAddr;
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct PlaceId(pub u32);
#[derive(Debug, Clone, Default)]
pub struct RangeMap<V>(Vec<(IpNet, V)>, V);
impl<V: Copy + Eq> RangeMap<V> {
    pub fn lookup(&self, a: IpAddr) -> (V, u8) {
        self.0.iter().find(|(n, _)| n.contains(&a)).map_or((self.1, 0), |(n, v)| (*v, n.prefix_len()))
    }
    pub fn map<W>(&self, mut f: impl FnMut(V) -> W) -> RangeMap<W> {
        RangeMap(self.0.iter().map(|(n, v)| (*n, f(*v))).collect(), f(self.1))
    }
    pub fn memory_bytes(&self) -> usize {
        0
    }
}
#[derive(Debug, Default)]
pub struct Index {
    map: RangeMap<PlaceId>,
    places: Vec<Place>,
}
impl Index {
    pub fn places(&self) -> &[Place] {
        &self.places
    }
    pub fn ranges(&self) -> &RangeMap<PlaceId> {
        &self.map
    }
}
