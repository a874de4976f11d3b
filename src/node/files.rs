//! The files that the process may have open, as metrics, and whether they suffice.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::model::{Endpoint, Pool, Topology};
use crate::net::limits::{FdBudget, Files};
use crate::probe::MAX_IN_FLIGHT;

/// The files that a node needs besides its probes and clients: epoll, journal, log, listeners and what a reload reads,
/// with room to spare.
const OF_ITS_OWN: u64 = 64;

/// Adds `open_files`, `connections` and their limits to a scrape.
pub(super) fn encode(files: &Files, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let gauge = MetricType::Gauge;
    if let Some(open) = Files::open() {
        let help = "Files, sockets included, that the process has open";
        ConstGauge::new(open as u64).encode(encoder.encode_descriptor("open_files", help, None, gauge)?)?;
    }
    let help = "Files that the process may have open";
    ConstGauge::new(files.budget.limit).encode(encoder.encode_descriptor(
        "open_files_limit",
        help,
        None,
        gauge,
    )?)?;
    let shares = [
        ("dns_tcp", files.dns_tcp.count(), files.budget.dns_tcp),
        ("api", files.api.count(), files.budget.api),
        ("proxy", files.proxy.clients.count(), files.proxy.most_clients()),
    ];
    let help = "Open connections of clients";
    let mut open = encoder.encode_descriptor("connections", help, None, gauge)?;
    for (listener, count, _) in shares {
        ConstGauge::new(count as u64).encode(open.encode_family(&[("listener", listener)])?)?;
    }
    let help = "Connections of clients for which there are files";
    let mut limits = encoder.encode_descriptor("connections_limit", help, None, gauge)?;
    for (listener, _, limit) in shares {
        ConstGauge::new(limit as u64).encode(limits.encode_family(&[("listener", listener)])?)?;
    }
    Ok(())
}

/// A sentence if the probes of a config may need more files at a time than are set aside for them.
pub(super) fn shortage(budget: FdBudget, topology: &Topology) -> Option<String> {
    let of_regions: u64 = topology.regions.iter().flat_map(|region| &region.endpoints).map(probes_of).sum();
    let of_pool = |pool: &Pool| (pool.backends.len() * pool.healthy_when.probes().len()) as u64;
    let probes = of_regions + topology.pools.iter().map(of_pool).sum::<u64>();
    let probes = probes.min(MAX_IN_FLIGHT as u64);
    let FdBudget { limit, reserved, .. } = budget;
    (probes + OF_ITS_OWN > reserved).then(|| {
        format!(
            "{probes} probes may run at a time, but of {limit} open files only {reserved} are set aside for them and \
             the node: raise LimitNOFILE"
        )
    })
}

/// The probes of an endpoint that may run at a time. A host counts as one address, since its addresses are not known
/// yet.
fn probes_of(endpoint: &Endpoint) -> u64 {
    (endpoint.listed().len().max(1) * endpoint.healthy_when.probes().len()) as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::net::limits::Serving;
    use crate::prepare::{Origin, prepare};

    #[test]
    fn the_probes_must_fit_into_what_is_set_aside() {
        let toml = "version = 1\n[probe.p]\nkind = \"tcp\"\nport = 80\n[probe.q]\nkind = \"tcp\"\nport = 81\n[region.r]\nendpoint = [\n\
             { name = \"a\", address = [\"192.0.2.1\", \"2001:db8::1\"], probe = [\"p\", \"q\"] },\n\
             { name = \"b\", address = \"192.0.2.2\" },\n]\n";
        let prepared = prepare(&Origin::Text { toml: toml.into(), files: Default::default() });
        let topology: Arc<Topology> = Arc::clone(&prepared.unwrap_or_else(|e| panic!("{e}")).plan.topology);
        let enough = FdBudget { reserved: OF_ITS_OWN + 4, ..FdBudget::of(1024, Serving::Dns) };
        assert_eq!(shortage(enough, &topology), None);
        let why = shortage(FdBudget { reserved: OF_ITS_OWN + 3, ..enough }, &topology).expect("a shortage");
        assert_eq!(
            why,
            "4 probes may run at a time, but of 1024 open files only 67 are set aside for them and the node: raise \
             LimitNOFILE"
        );
    }
}
