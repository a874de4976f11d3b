//! The pool that a client's requests are forwarded to.

use crate::model::{PoolId, Weight};
use crate::pick::{Hash, rendezvous};

/// One of the pools of a route, drawn by their weights and the key of the client: a client stays with its pool, and a change
/// of the weights moves as few clients as it must. `name` returns the hash of a pool's name, so that other pools of the
/// config do not matter. Weight 0 means never, unless all are 0.
///
/// # Panics
///
/// If there are no pools.
pub fn choose_pool(pools: &[(PoolId, Weight)], name: impl Fn(PoolId) -> Hash, key: Hash) -> PoolId {
    if let [(pool, _)] = pools {
        return *pool;
    }
    let weightless = pools.iter().all(|(_, weight)| weight.0 == 0);
    let weight_of = |weight: Weight| if weightless { 1.0 } else { f64::from(weight.0) };
    let candidates = pools.iter().map(|(pool, weight)| (*pool, name(*pool), weight_of(*weight)));
    rendezvous(key, candidates).expect("a route forwards to at least one pool, and one of them has weight")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(weights: [u32; 3], pool: u16) -> f64 {
        let pools = [0, 1, 2].map(|id| (PoolId(id), Weight(weights[usize::from(id)])));
        let chosen =
            |client| choose_pool(&pools, |pool| Hash::of(&pool.0.to_be_bytes()), Hash(3).with(client));
        (0..20_000).filter(|client| chosen(*client) == PoolId(pool)).count() as f64 / 20_000.0
    }

    #[test]
    fn clients_are_split_by_weight() {
        let cases =
            [([95, 5, 0], [0.95, 0.05, 0.0]), ([0, 0, 0], [1.0 / 3.0; 3]), ([0, 7, 0], [0.0, 1.0, 0.0])];
        for (weights, shares) in cases {
            for (pool, expected) in (0..).zip(shares) {
                let share = share(weights, pool);
                assert!((share - expected).abs() < 0.02, "{share} of {weights:?} for pool {pool}");
                assert!(expected != 0.0 || share == 0.0, "weight 0 is never chosen");
            }
        }
    }

    #[test]
    fn a_client_stays_unless_the_split_moves_it() {
        let name = |pool: PoolId| Hash(u64::from(pool.0));
        for client in 0..10_000 {
            let choose = |canary| {
                choose_pool(
                    &[(PoolId(8), Weight(95)), (PoolId(9), Weight(canary))],
                    name,
                    Hash(3).with(client),
                )
            };
            assert_eq!(choose(5), choose(5));
            assert!(choose(5) == PoolId(8) || choose(20) == PoolId(9), "a growing canary keeps its clients");
        }
    }

    #[test]
    fn one_pool_has_every_client() {
        assert_eq!(choose_pool(&[(PoolId(4), Weight(0))], |_| Hash(0), Hash(1)), PoolId(4));
    }
}
