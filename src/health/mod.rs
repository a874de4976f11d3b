//! From observations to verdicts.
//!
//! A probe produces an [`Observation`]. A [`Verdict`] consumes it, with the target's thresholds and `now`, and
//! becomes the next verdict. An address that several probes look at has the [`worst`] of their states, an
//! endpoint the best of its addresses' ([`endpoint_state`]), and a region's state follows from its endpoints'
//! by [`region_state`].

mod composite;
mod evidence;
mod observation;
mod verdict;

pub use composite::{endpoint_state, region_state, worst};
pub use evidence::{Evidence, Failures, Slow};
pub use observation::{Failure, Observation, Phase, Severity, State, Timings};
pub use verdict::Verdict;
