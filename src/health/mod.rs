//! From observations to verdicts.
//!
//! An [`Observation`] is a probe's result, a window of counted requests, or a statement of the target about
//! itself. A [`Verdict`] consumes it, with the target's thresholds and `now`, and becomes the next verdict.
//! [`Ejections`] are what follows from requests that fail, which only whoever sends them sees.
//! The [`Condition`](crate::model::Condition)s of the config, which [`evaluate`] evaluates, combine states; [`decide`] says
//! which of them led to the whole.

mod condition;
mod ejection;
mod evidence;
mod observation;
mod verdict;

pub use condition::{Part, any_of, decide, evaluate};
pub use ejection::{Ejections, FailingRequests};
pub use evidence::{Evidence, Failures, Slow};
pub use observation::{CannotProbe, Failure, Observation, ProbeResult, Severity, State, Statement, Window};
pub use verdict::{SavedVerdict, Verdict};
