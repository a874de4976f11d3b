//! The control API: REST, the event stream and metrics. The `portolan` command uses it to talk to a running node.

#![allow(clippy::disallowed_methods, reason = "a shell: it reads the clocks")]

mod access;
mod acme;
mod audit;
mod body;
mod certificates;
mod connections;
pub mod dto;
mod explain;
mod exposition;
mod forecast;
mod host;
mod identity;
mod load;
mod metrics;
mod openapi;
mod operations;
mod page;
mod parameters;
mod problem;
mod reload;
mod routes;
mod server;
mod status;
mod traffic;

pub use access::{Access, Policy};
pub use connections::Connections;
pub use explain::{Question, RequestQuestion, explain, explain_request};
pub use forecast::Forecasts;
pub use load::{Load, Loads};
pub use metrics::{Contributor, Metrics};
pub use problem::{NO_ANSWER, Problem, REFUSED_BY_SAFETY};
pub use reload::{Draft, ReloadRequest, Reloads, reload_by_signal};
pub use routes::{Api, router};
pub use server::Server;
pub use traffic::Traffic;
