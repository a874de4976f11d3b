//! The secret that signs cookies of pools for which the config names none.

use std::sync::LazyLock;

use crate::model::{Pool, Secret};
use crate::net;

/// The secret of this process. It stays the same over reloads, so that cookies stay valid.
static OWN: LazyLock<Secret> = LazyLock::new(|| Secret::new(&net::random::bytes::<32>()));

/// Gives every sticky pool a secret.
pub(super) fn complete(pools: &mut [Pool]) {
    for sticky in pools.iter_mut().filter_map(|pool| pool.sticky.as_mut()) {
        if sticky.secrets.is_empty() {
            sticky.secrets.push(OWN.clone());
        }
    }
}
