//! From observations to verdicts.
//!
//! A probe produces an [`Observation`]. A [`Verdict`] consumes it, with the target's thresholds and `now`, and
//! becomes the next verdict. An address that several probes look at has the worst of their states; a region's
//! state follows from its endpoints' by [`region_state`].

mod observation;

pub use observation::{Failure, Observation, Phase, Severity, State, Timings};
