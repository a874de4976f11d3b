//! The control API: REST, the event stream and metrics. `portolan` itself speaks to a running node through it.

#![allow(clippy::disallowed_methods, reason = "a shell: it lives in the world's time")]

mod access;
pub mod dto;
mod explain;
mod metrics;
mod problem;
mod reload;
mod routes;
mod status;

pub use access::Access;
pub use explain::{Question, explain};
pub use metrics::{Contributor, Metrics};
pub use problem::{Problem, REFUSED_BY_SAFETY};
pub use reload::{ReloadRequest, Reloads};
pub use routes::{Api, router};
pub use status::status;
