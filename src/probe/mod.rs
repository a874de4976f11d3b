//! Probing targets over the network: one file per kind of probe, and the scheduler that runs them.
//!
//! [`PreparedProbe`] is a probe definition with its TLS configuration built. A [`ProbeTarget`] is one address to probe with
//! it, and [`run`] probes it once. The [`Scheduler`] probes many targets periodically and sends a [`CheckReport`] each
//! time.

mod expectation;
mod http;
mod metered;
mod outcome;
mod prepared;
mod scheduler;
mod select;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use expectation::check_body;
pub use http::MAX_BODY;
pub use outcome::{Failure, LocalFault, Outcome, Phase, Timings};
pub use prepared::PreparedProbe;
pub use scheduler::{CheckReport, MAX_IN_FLIGHT, ScheduledCheck, Scheduler};

use metered::Metered;
use outcome::{Progress, Trouble};
use prepared::Speech;

/// One address and how to probe it.
#[derive(Clone, Debug)]
pub struct ProbeTarget {
    /// The address; the port is the probe's.
    pub address: IpAddr,
    /// The probe to run.
    pub probe: Arc<PreparedProbe>,
}

/// Probes once. Takes no longer than the probe's timeout and leaves no connection behind, also when dropped.
///
/// # Errors
/// If this node could not probe at all, which is no evidence about the target.
pub async fn run(target: &ProbeTarget) -> Result<Outcome, LocalFault> {
    let timeout = target.probe.definition.timeout;
    let mut progress = Progress::start();
    let outcome = tokio::time::timeout(timeout, attempt(target, &mut progress)).await;
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
    Ok(Outcome { timings: progress.timings, failure })
}

async fn attempt(target: &ProbeTarget, progress: &mut Progress) -> Result<(), Trouble> {
    let address = SocketAddr::new(target.address, target.probe.definition.kind.port());
    let stream = Metered::new(tcp::connect(address, progress).await?);
    match &*target.probe.speech {
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
