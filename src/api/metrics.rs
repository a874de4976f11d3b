//! `/metrics`, in the Prometheus text format.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::status::{View, held_by_region};
use super::{certificates, traffic};
use crate::engine::ReloadCounts;
use crate::health::{Severity, State};
use crate::model::{Rule, Source, Subject, Unix};
use crate::net::managed::Managed;
use crate::snapshot::Snapshot;
use crate::standing::Override;
use crate::state::{CheckStatus, HostStatus};
use crate::traffic::Totals;

/// Adds the metrics of another module.
pub type Contributor = Arc<dyn Fn(&mut DescriptorEncoder<'_>) -> fmt::Result + Send + Sync>;

/// What a scrape reports besides the standing and the checks.
#[derive(Clone)]
pub struct Metrics {
    /// One for each module with metrics of its own.
    pub contributors: Vec<Contributor>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metrics({} contributors)", self.contributors.len())
    }
}

/// What a scrape reports on, at one moment.
pub(super) struct Seen {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) checks: Vec<CheckStatus>,
    pub(super) hosts: Vec<HostStatus>,
    pub(super) overrides: Vec<Override>,
    /// The alarms that only the engine knows.
    pub(super) engine_alarms: Vec<String>,
    /// Those that the node obtains itself.
    pub(super) certificates: Vec<Arc<Managed>>,
    pub(super) transitions: Vec<(String, State, u64)>,
    pub(super) ejections: Vec<(String, std::net::SocketAddr, u64)>,
    pub(super) reloads: ReloadCounts,
    /// Who asks, on a node that answers DNS.
    pub(super) traffic: Option<Totals>,
    pub(super) journal_fails: bool,
    pub(super) now: Unix,
}

/// One scrape.
struct Scrape {
    contributors: Vec<Contributor>,
    seen: Seen,
}

impl Metrics {
    /// The text of a scrape.
    ///
    /// # Errors
    /// If a label or value cannot be written.
    pub(super) fn scrape(&self, seen: Seen) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("portolan");
        let contributors = self.contributors.clone();
        registry.register_collector(Box::new(Scrape { contributors, seen }));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.node(&mut encoder)?;
        self.standing(&mut encoder)?;
        self.probes(&mut encoder)?;
        self.certificates(&mut encoder)?;
        if let Some(totals) = &self.seen.traffic {
            traffic::encode(totals, &self.seen.snapshot.plan.topology, &mut encoder)?;
        }
        self.contributors.iter().try_for_each(|contribute| contribute(&mut encoder))
    }
}

impl Scrape {
    /// What concerns the node as a whole.
    fn node(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Seen { snapshot, checks, hosts, overrides, engine_alarms, reloads, now, .. } = &self.seen;
        let help = "Always 1; its label is the version of the program";
        let mut build = encoder.encode_descriptor("build_info", help, None, MetricType::Gauge)?;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        ConstGauge::new(1_u64).encode(build.encode_family(&version)?)?;

        let view = View::new(snapshot, checks, hosts, overrides, *now);
        let (alarms, mut unserved) = (view.alarms(), view.unserved());
        // A service is listed once for each family, one after the other.
        unserved.dedup_by_key(|it| it.service);
        for (name, help, value) in [
            ("epoch", "Epoch of the snapshot that answers", snapshot.epoch),
            ("alarms", "Alarms that `portolan status` shows", (alarms.len() + engine_alarms.len()) as u64),
            ("overrides", "Overrides that apply", overrides.len() as u64),
            (
                "services_unserved",
                "Services with clients whom no region can serve, so that all_down decides",
                unserved.len() as u64,
            ),
            (
                "config_applied_timestamp_seconds",
                "When the current config was applied, in seconds since 1970",
                reloads.last_applied.0.as_secs(),
            ),
            (
                "config_reload_failing",
                "1 if the last attempt to read the config again failed, so that an earlier one is in force, else 0",
                u64::from(reloads.has_failed),
            ),
            (
                "journal_failing",
                "1 while changes cannot be written to the journal in state_dir, else 0",
                u64::from(self.seen.journal_fails),
            ),
        ] {
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(gauge)?;
        }

        let help = "Attempts to read the config again";
        let mut attempts = encoder.encode_descriptor("reloads", help, None, MetricType::Counter)?;
        for (result, count) in [("applied", reloads.applied), ("failed", reloads.failed)] {
            ConstCounter::new(count).encode(attempts.encode_family(&[("result", result)])?)?;
        }

        let help =
            "1 if the last lookup of an endpoint's host succeeded, else 0; its addresses are kept meanwhile";
        let mut resolved = encoder.encode_descriptor("host_resolved", help, None, MetricType::Gauge)?;
        for host in hosts.iter().filter(|host| host.is_looked_up) {
            let name = host.host.to_string();
            let labels = [("host", name.as_str())];
            ConstGauge::new(u64::from(host.failure.is_none())).encode(resolved.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn standing(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (topology, standing) = (&self.seen.snapshot.plan.topology, &self.seen.snapshot.standing);
        let help =
            "1 while this node suspects its own network, whether or not suspect_self keeps the last standing";
        let suspicion = encoder.encode_descriptor("self_suspicion", help, None, MetricType::Gauge)?;
        ConstGauge::new(u64::from(standing.suspected.is_some())).encode(suspicion)?;

        let help = "1 while probes and overrides let a region serve, else 0, even if a safety rule holds it";
        let mut up = encoder.encode_descriptor("region_up", help, None, MetricType::Gauge)?;
        for (region, standing) in topology.regions.iter().zip(&standing.regions) {
            let serves = u64::from(!standing.usable().is_withdrawn());
            let labels = [("region", region.name.as_str())];
            ConstGauge::new(serves).encode(up.encode_family(&labels)?)?;
        }

        let help = "1 for each address that its probes found up or degraded, else 0";
        let mut up = encoder.encode_descriptor("address_up", help, None, MetricType::Gauge)?;
        for (region, standing) in topology.regions.iter().zip(&standing.regions) {
            for (endpoint, states) in region.endpoints.iter().zip(standing.endpoints.iter()) {
                for it in &states.addresses {
                    let address = it.address.to_string();
                    let labels = [
                        ("region", region.name.as_str()),
                        ("endpoint", &endpoint.name),
                        ("address", &address),
                    ];
                    ConstGauge::new(u64::from(it.state.serves())).encode(up.encode_family(&labels)?)?;
                }
            }
        }

        self.pools(encoder)?;

        let help = "Regions that a safety rule holds though probes found them down";
        let mut rules = encoder.encode_descriptor("safety_held", help, None, MetricType::Gauge)?;
        let held = held_by_region(standing);
        for rule in Rule::ALL {
            let count = held.iter().filter(|held| **held == Some(rule)).count();
            let labels = [("rule", rule.name())];
            ConstGauge::new(count as u64).encode(rules.encode_family(&labels)?)?;
        }

        let help = "State changes of regions since the start";
        let mut transitions = encoder.encode_descriptor("transitions", help, None, MetricType::Counter)?;
        for (region, to, count) in &self.seen.transitions {
            let to = state_name(*to);
            let labels = [("region", region.as_str()), ("to", to)];
            ConstCounter::new(*count).encode(transitions.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// What probes, requests and the number of healthy backends make of the proxy's pools.
    fn pools(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (topology, standing) = (&self.seen.snapshot.plan.topology, &self.seen.snapshot.standing);
        let help = "1 for each address of a backend that its probes found up or degraded, else 0";
        let mut up = encoder.encode_descriptor("backend_up", help, None, MetricType::Gauge)?;
        for (pool, standing) in topology.pools.iter().zip(&standing.pools) {
            for (backend, states) in pool.backends.iter().zip(standing.backends.iter()) {
                for it in &states.addresses {
                    let address = std::net::SocketAddr::new(it.address, backend.port).to_string();
                    let labels = [("pool", pool.name.as_str()), ("backend", &address)];
                    ConstGauge::new(u64::from(it.state.serves())).encode(up.encode_family(&labels)?)?;
                }
            }
        }

        let help = "1 for each address of a backend that is ejected because its requests fail, else 0";
        let mut ejected = encoder.encode_descriptor("proxy_ejected", help, None, MetricType::Gauge)?;
        for (pool, standing) in topology.pools.iter().zip(&standing.pools) {
            for (backend, states) in pool.backends.iter().zip(standing.backends.iter()) {
                for it in &states.addresses {
                    let address = std::net::SocketAddr::new(it.address, backend.port);
                    let is_ejected = standing.ejected.iter().any(|it| it.address == address);
                    let address = address.to_string();
                    let labels = [("pool", pool.name.as_str()), ("backend", &address)];
                    ConstGauge::new(u64::from(is_ejected)).encode(ejected.encode_family(&labels)?)?;
                }
            }
        }

        let help = "1 for each pool that uses failing backends because too few are healthy, else 0";
        let mut panic = encoder.encode_descriptor("proxy_panic", help, None, MetricType::Gauge)?;
        for (pool, standing) in topology.pools.iter().zip(&standing.pools) {
            let labels = [("pool", pool.name.as_str())];
            ConstGauge::new(u64::from(standing.panic.is_some())).encode(panic.encode_family(&labels)?)?;
        }

        let help = "Ejections of an address of a backend since the start";
        let mut ejections = encoder.encode_descriptor("proxy_ejections", help, None, MetricType::Counter)?;
        for (pool, address, count) in &self.seen.ejections {
            let address = address.to_string();
            let labels = [("pool", pool.as_str()), ("backend", &address)];
            ConstCounter::new(*count).encode(ejections.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn certificates(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "When a certificate of the proxy expires, in seconds since 1970";
        let name = "proxy_certificate_expiry_timestamp_seconds";
        let mut expiry = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for certificate in &self.seen.snapshot.plan.tls.certificates {
            let labels = [("certificate", certificate.file.as_str())];
            ConstGauge::new(certificate.not_after.0.as_secs()).encode(expiry.encode_family(&labels)?)?;
        }
        for managed in &self.seen.certificates {
            let Some(current) = managed.current() else { continue };
            let file = managed.file.display().to_string();
            let labels = [("certificate", file.as_str())];
            ConstGauge::new(current.not_after.0.as_secs()).encode(expiry.encode_family(&labels)?)?;
        }
        certificates::encode(&self.seen.certificates, encoder)
    }

    fn probes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "How long the last probe took, whether it succeeded or failed";
        let mut took = encoder.encode_descriptor("probe_duration_seconds", help, None, MetricType::Gauge)?;
        for check in &self.seen.checks {
            let Some((duration, labels)) = check.took.zip(labels(check)) else { continue };
            ConstGauge::new(duration.as_secs_f64())
                .encode(took.encode_family(&labels.each_ref().map(pair))?)?;
        }
        let help = "How long ago the last probe ended";
        let mut age = encoder.encode_descriptor("probe_age_seconds", help, None, MetricType::Gauge)?;
        for check in &self.seen.checks {
            let Some((last, labels)) = check.last_probe.zip(labels(check)) else { continue };
            let seconds = self.seen.now.since(last).as_secs_f64();
            ConstGauge::new(seconds).encode(age.encode_family(&labels.each_ref().map(pair))?)?;
        }
        let help = "How often a probe runs, as the config says";
        let mut every = encoder.encode_descriptor("probe_interval_seconds", help, None, MetricType::Gauge)?;
        for probe in &self.seen.snapshot.plan.topology.probes {
            let labels = [("probe", probe.name.as_str())];
            ConstGauge::new(probe.interval.as_secs_f64()).encode(every.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Soft and hard failures have names of their own, as safety rules hold soft ones only.
fn state_name(state: State) -> &'static str {
    match state {
        State::Up => "up",
        State::Degraded => "degraded",
        State::Unknown => "unknown",
        State::Down(Severity::Soft) => "down_soft",
        State::Down(Severity::Hard) => "down_hard",
    }
}

/// The labels of a check of an address; other checks have no metrics.
fn labels(check: &CheckStatus) -> Option<[(&'static str, String); 4]> {
    let Subject::Address { region, endpoint, address } = &check.id.subject else { return None };
    let Source::Probe(probe) = &check.id.source else { return None };
    Some([
        ("region", region.to_string()),
        ("endpoint", endpoint.to_string()),
        ("address", address.to_string()),
        ("probe", probe.to_string()),
    ])
}

fn pair<'a>((name, value): &'a (&'static str, String)) -> (&'a str, &'a str) {
    (name, value)
}
