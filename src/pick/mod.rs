//! Choosing one of many, for both tiers.
//!
//! Regions and endpoints are chosen by [`rendezvous()`] hashing: the same key and candidates give the same pick on every
//! node. The regional balancer chooses backends by a [`Picker`], one for each pool and worker, which also follows the load.

mod hash;
mod least;
mod maglev;
mod picker;
mod rendezvous;
mod rotation;
mod smooth;
#[cfg(test)]
mod tests;
mod two_choices;

pub use hash::{Hash, client_key};
pub use picker::{Candidate, Load, Picker};
pub use rendezvous::{draw, rendezvous};
