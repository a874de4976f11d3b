//! What a config needs from the system that it runs on: certificate authorities and resolvers.

use std::sync::Arc;

use crate::config::{Config, Diagnostic};
use crate::net::resolver::Resolver;
use crate::net::tls::Trust;
use crate::probe::PreparedProbe;

/// The probes of a config ready to run, by [`ProbeId`](crate::model::ProbeId).
///
/// # Errors
/// A diagnostic for each that relies on the system's certificate authorities where there are none.
pub(super) fn probes(config: &Config) -> Result<Vec<Arc<PreparedProbe>>, Vec<Diagnostic>> {
    let mut trust = Trust::new();
    let (mut prepared, mut wrong) = (Vec::new(), Vec::new());
    for (definition, at) in config.topology.probes.iter().zip(&config.probes_at) {
        match PreparedProbe::new(Arc::new(definition.clone()), &mut trust) {
            Ok(probe) => prepared.push(Arc::new(probe)),
            Err(error) => wrong.push(at.error(
                format!("probe `{}` cannot verify certificates: {error}", definition.name),
                "install the system's certificates, or name the authorities to trust in `ca`".into(),
            )),
        }
    }
    if wrong.is_empty() { Ok(prepared) } else { Err(wrong) }
}

/// The resolver of the hosts of endpoints, if any host has to be resolved.
///
/// # Errors
/// A diagnostic at the first such host, if the system has no usable /etc/resolv.conf and the config names no resolver.
pub(super) fn resolver(config: &Config) -> Result<Option<Resolver>, Vec<Diagnostic>> {
    let mut wanted = config.topology.resolved_hosts();
    wanted.extend(config.topology.discovered_names());
    let Some((_, at)) = config.hosts.iter().find(|(host, _)| wanted.contains(host)) else {
        return Ok(None);
    };
    let destinations = config.node.destinations.clone();
    Resolver::new(&config.node.resolvers, destinations).map(Some).map_err(|why| {
        let message = format!("no resolver for the hosts of endpoints: {why}");
        vec![at.error(message, "name one in `resolver` of [node]".into())]
    })
}
