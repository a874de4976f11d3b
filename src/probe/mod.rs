//! Looking at targets over the network: one file per kind of probe, and the scheduler that runs them.
//!
//! [`Prepared`] is a probe definition made ready once: TLS configured. A [`Target`] is one
//! address to look at with it, and [`run`] is one look. The [`Scheduler`] keeps many targets looked at and
//! sends a [`Report`] for each look.

mod expectation;
mod http;
mod outcome;
mod prepared;
mod scheduler;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use expectation::check_body;
pub use http::MAX_BODY;
pub use outcome::LocalFault;
pub use prepared::Prepared;
pub use scheduler::{Check, CheckKey, MAX_IN_FLIGHT, Report, Scheduler};

use crate::health::Observation;
use outcome::{Progress, Trouble};
use prepared::Speech;

/// One address and the way to look at it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where to look; the port is the probe's.
    pub address: IpAddr,
    /// How.
    pub probe: Arc<Prepared>,
}

/// Looks once. Takes no longer than the probe's timeout and leaves no connection behind, also when dropped.
///
/// # Errors
/// If this node could not look at all, which says nothing about the target.
pub async fn run(target: &Target) -> Result<Observation, LocalFault> {
    let timeout = target.probe.definition.timeout;
    let mut progress = Progress::start();
    let outcome = tokio::time::timeout(timeout, look(target, &mut progress)).await;
    let failure = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(Trouble::Local(fault))) => return Err(fault),
        Ok(Err(Trouble::Target(failure))) => Some(failure),
        Err(_elapsed) => match progress.decided.take() {
            Some(verdict) => verdict.err(),
            None => Some(progress.timed_out(timeout)),
        },
    };
    progress.ended();
    Ok(Observation { timings: progress.timings, failure })
}

async fn look(target: &Target, progress: &mut Progress) -> Result<(), Trouble> {
    let address = SocketAddr::new(target.address, target.probe.definition.kind.port());
    let stream = tcp::connect(address, progress).await?;
    match &target.probe.speech {
        Speech::Tcp => {}
        Speech::Tls(client) => {
            tls::handshake(stream, client, address.ip(), progress).await?;
        }
        Speech::Http(ask) => http::over_tcp(stream, ask, address, progress).await?,
        Speech::Https(ask, client) => {
            let stream = tls::handshake(stream, client, address.ip(), progress).await?;
            http::over_tls(stream, ask, address, progress).await?;
        }
    }
    Ok(())
}
