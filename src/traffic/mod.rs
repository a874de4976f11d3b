//! Who asks: the dynamic answers, counted by service, region and country, and by the network that asked.
//!
//! ```text
//! writer 1 ──▶ Book ─┐
//! writer 2 ──▶ Book ─┼─ Meter::totals ──▶ Totals ──▶ what was counted since an earlier moment
//! …           Book ─┘
//! ```
//!
//! Each thread that answers has a [`Book`] and is the only one that writes to it, so counting is plain loads and stores.
//! A book has the same size whatever is asked and by whom: `answers` counts combinations of service, region and country
//! that found no room without their country, and `networks` keeps those that ask the most, with the bound of its error.
//! [`Meter`] adds the books up and keeps some earlier sums, so that it knows what is asked *now*.

mod answers;
mod book;
mod layout;
mod meter;
mod network;
mod networks;
mod totals;

use std::sync::atomic::{AtomicU64, Ordering};

pub use answers::Answers;
pub use book::Book;
pub use meter::{EVERY, Measured, Meter, Period};
pub use network::Network;
pub use totals::{NetworkCount, Row, Totals};

/// Adds one. Only the one writer of a counter may call it; readers see the old or the new number.
#[inline]
fn increase(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
