//! What UDP listeners count.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Of a UDP listener.
#[derive(Debug, Default)]
pub struct UdpCounters {
    /// Sessions that are open.
    pub sessions: AtomicU64,
    /// Sessions that have begun.
    pub begun: AtomicU64,
    /// Sessions that ended to make room for others.
    pub evicted: AtomicU64,
    /// What clients sent.
    pub from_clients: Traffic,
    /// What was sent to clients.
    pub to_clients: Traffic,
    /// Datagrams that were not relayed, in the order of [`Dropped::ALL`].
    dropped: [AtomicU64; Dropped::ALL.len()],
}

/// Datagrams in one direction.
#[derive(Debug, Default)]
pub struct Traffic {
    /// How many.
    pub datagrams: AtomicU64,
    /// Their payload.
    pub bytes: AtomicU64,
}

/// Why a datagram is not relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dropped {
    /// It claims to come from a port whose service answers whatever it gets.
    Reflection,
    /// No backend can be used.
    NoBackend,
    /// The node has as many connections to backends as it may have.
    Full,
    /// The node stops, or the listener is no longer configured.
    Closing,
    /// It could not be sent to the backend.
    ToBackend,
    /// It could not be sent to the client.
    ToClient,
}

impl Dropped {
    /// All, in the order of their declaration, with their names in metrics.
    const ALL: [(Self, &'static str); 6] = [
        (Self::Reflection, "reflection"),
        (Self::NoBackend, "no_backend"),
        (Self::Full, "full"),
        (Self::Closing, "closing"),
        (Self::ToBackend, "to_backend"),
        (Self::ToClient, "to_client"),
    ];
}

impl Traffic {
    /// Counts a datagram.
    pub(super) fn add(&self, bytes: usize) {
        self.datagrams.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }
}

impl UdpCounters {
    /// Counts datagrams that are not relayed.
    pub(super) fn count_dropped(&self, why: Dropped, count: usize) {
        self.dropped[why as usize].fetch_add(count as u64, Relaxed);
    }
}

type Row = (&'static str, &'static str, fn(&UdpCounters) -> &AtomicU64);

const COUNTERS: [Row; 2] = [
    ("proxy_udp_sessions_begun", "Sessions of UDP listeners that have begun", |it| &it.begun),
    ("proxy_udp_sessions_evicted", "Sessions of UDP listeners that ended to make room for others", |it| {
        &it.evicted
    }),
];

type Part = fn(&Traffic) -> &AtomicU64;

const TRAFFIC: [(&str, &str, Part); 2] = [
    ("proxy_udp_datagrams", "Datagrams of UDP listeners, from clients and to them", |it| &it.datagrams),
    ("proxy_udp_bytes", "Payload of the datagrams of UDP listeners, from clients and to them", |it| {
        &it.bytes
    }),
];

/// Adds the counters of all UDP listeners to a scrape.
pub(in crate::proxy) fn encode(
    listeners: &[(String, Arc<UdpCounters>)],
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let help = "Sessions of UDP listeners that are open";
    let mut family = encoder.encode_descriptor("proxy_udp_sessions", help, None, MetricType::Gauge)?;
    for (listener, counters) in listeners {
        let labels = [("listener", listener.as_str())];
        ConstGauge::new(counters.sessions.load(Relaxed)).encode(family.encode_family(&labels)?)?;
    }
    for (name, help, of) in COUNTERS {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (listener, counters) in listeners {
            let labels = [("listener", listener.as_str())];
            ConstCounter::new(of(counters).load(Relaxed)).encode(family.encode_family(&labels)?)?;
        }
    }
    for (name, help, part) in TRAFFIC {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (listener, counters) in listeners {
            for (direction, traffic) in [("in", &counters.from_clients), ("out", &counters.to_clients)] {
                let labels = [("listener", listener.as_str()), ("direction", direction)];
                ConstCounter::new(part(traffic).load(Relaxed)).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    let help = "Datagrams of UDP listeners that were not relayed, by reason";
    let mut family = encoder.encode_descriptor("proxy_udp_dropped", help, None, MetricType::Counter)?;
    for (listener, counters) in listeners {
        for (why, name) in Dropped::ALL {
            let labels = [("listener", listener.as_str()), ("reason", name)];
            let count = counters.dropped[why as usize].load(Relaxed);
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_listed_in_the_order_of_their_declaration() {
        for (index, (reason, _)) in Dropped::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason:?}");
        }
    }
}
