//! What the API reports about the certificates that the node obtains itself.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::dto;
use crate::model::Unix;
use crate::net::managed::{AllManaged, Managed};
use crate::snapshot;
use crate::state::timestamp;

/// Each, in the order of the config.
pub(super) fn shown(all: &AllManaged) -> Vec<dto::Certificate> {
    let one = |it: &Arc<Managed>| {
        let progress = it.progress();
        let (error, failing_since) = progress.failing.map(|(why, since)| (why, timestamp(since))).unzip();
        dto::Certificate {
            names: it.names.clone(),
            file: it.file.display().to_string(),
            expires: it.current().map(|current| timestamp(current.not_after)),
            next: progress.next.map(timestamp),
            error,
            failing_since,
        }
    };
    all.load().iter().map(one).collect()
}

/// A sentence about each that is missing, expires, or cannot be renewed.
pub(super) fn alarms(all: &AllManaged, now: Unix) -> Vec<String> {
    all.load().iter().filter_map(|it| alarm(it, now)).collect()
}

fn alarm(managed: &Managed, now: Unix) -> Option<String> {
    let (names, progress) = (managed.names.join(" "), managed.progress());
    let dates = match managed.current() {
        None => Some(format!("there is no certificate for {names}: their TLS handshakes fail")),
        Some(current) => {
            let (not_before, not_after) = (current.not_before, current.not_after);
            snapshot::Certificate { file: format!("for {names}"), not_before, not_after }.alarm(now)
        }
    };
    let failing = progress.failing.map(|(why, since)| {
        let next = progress.next.map_or_else(|| "now".to_owned(), timestamp);
        format!("since {} none can be obtained: {why}; next attempt: {next}", timestamp(since))
    });
    match (dates, failing) {
        (None, None) => None,
        (Some(dates), None) => Some(dates),
        (None, Some(failing)) => Some(format!("the certificate for {names} must be renewed: {failing}")),
        (Some(dates), Some(failing)) => Some(format!("{dates}; {failing}")),
    }
}

/// Adds their metrics to a scrape.
pub(super) fn encode(all: &[Arc<Managed>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let labelled: Vec<(String, &Arc<Managed>)> =
        all.iter().map(|it| (it.file.display().to_string(), it)).collect();
    let (name, help) = ("proxy_certificate_orders", "Attempts to obtain a certificate by ACME");
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (file, managed) in &labelled {
        let progress = managed.progress();
        for (result, count) in [("issued", progress.issued), ("failed", progress.failed)] {
            let labels = [("certificate", file.as_str()), ("result", result)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    let help = "1 for each certificate by ACME whose last attempt failed, else 0";
    let mut family = encoder.encode_descriptor("proxy_certificate_failing", help, None, MetricType::Gauge)?;
    for (file, managed) in &labelled {
        let failing = u64::from(managed.progress().failing.is_some());
        ConstGauge::new(failing).encode(family.encode_family(&[("certificate", file.as_str())])?)?;
    }
    let (name, help) =
        ("proxy_certificate_missing", "TLS handshakes that failed because there was no certificate by ACME");
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (file, managed) in &labelled {
        let labels = [("certificate", file.as_str())];
        ConstCounter::new(managed.missed()).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
