//! The counters as Prometheus metrics.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::counters::{BackendCounters, Counters, ListenerCounters, PoolCounters, Rejection};
use super::times::Times;
use super::udp;
use crate::net::netstat::ListenCounters;

/// A counter of each listener, pool or backend: its name, what it counts, and where it is.
type Row<T> = (&'static str, &'static str, fn(&T) -> &AtomicU64);

const OF_LISTENERS: [Row<ListenerCounters>; 10] = [
    ("proxy_connections", "Connections accepted", |it| &it.accepted),
    ("proxy_refused", "Connections closed at once because too many were open", |it| &it.refused),
    (
        "proxy_limited_connections",
        "Connections closed at once because their client had as many as it may",
        |it| &it.limited_connections,
    ),
    ("proxy_limited_requests", "Requests refused with 429 because their client sent too many", |it| {
        &it.limited_requests
    }),
    ("proxy_too_large", "Requests whose body was longer than the listener allows", |it| &it.too_large),
    ("proxy_auth_denied", "Requests that the service of their route did not allow", |it| &it.auth_denied),
    ("proxy_auth_failed", "Requests refused with 503 because that service did not answer", |it| {
        &it.auth_failed
    }),
    ("proxy_slow_uploads", "Requests refused with 408 because they came too slowly", |it| &it.slow_uploads),
    (
        "proxy_slow_downloads",
        "Connections and streams closed because their client took a response too slowly",
        |it| &it.slow_downloads,
    ),
    ("proxy_unrouted", "Requests that no route matched", |it| &it.unrouted),
];

const QUEUES: [Row<ListenerCounters>; 2] = [
    ("proxy_accept_queue", "Connections that wait to be accepted", |it| &it.waiting),
    ("proxy_accept_queue_limit", "Connections that may wait to be accepted", |it| &it.may_wait),
];

type KernelRow = (&'static str, &'static str, fn(&ListenCounters) -> u64);

const OF_KERNEL: [KernelRow; 3] = [
    (
        "kernel_listen_overflows",
        "Connections that found the queue of a listener full, of all programs",
        |it| it.overflows,
    ),
    ("kernel_listen_drops", "Connections dropped before they were accepted, of all programs", |it| it.drops),
    ("kernel_syncookies_sent", "SYN cookies sent because a queue was full, of all programs", |it| {
        it.syncookies_sent
    }),
];

const OF_POOLS: [Row<PoolCounters>; 9] = [
    ("proxy_pool_requests", "Requests, or connections of TCP listeners, for a pool", |it| &it.requests),
    ("proxy_retries", "Attempts after one that failed", |it| &it.retries),
    ("proxy_hedges", "Attempts while another one had no response yet", |it| &it.hedges),
    ("proxy_hedges_won", "Those whose response the client got", |it| &it.hedges_won),
    (
        "proxy_overflowed",
        "Requests that no backend had room for, while too many waited or for too long",
        |it| &it.queue.overflowed,
    ),
    ("proxy_unavailable", "Requests or connections for which there was no backend", |it| &it.unavailable),
    ("proxy_sticky_kept", "Requests sent to the backend that their cookie names", |it| &it.kept),
    ("proxy_sticky_moved", "Requests whose cookie names a backend that is not in use", |it| &it.moved),
    ("proxy_sticky_invalid", "Requests whose cookie is forged, expired, malformed or there twice", |it| {
        &it.invalid_cookies
    }),
];

type TimeRow = (&'static str, &'static str, fn(&PoolCounters) -> &Times);

const TIMES: [TimeRow; 2] = [
    (
        "proxy_first_byte_seconds",
        "Time from the head of a request to that of its response, retries included",
        |it| &it.first_byte,
    ),
    ("proxy_request_seconds", "Time from the head of a request to the end of its response", |it| &it.total),
];

const OF_BACKENDS: [Row<BackendCounters>; 2] = [
    ("proxy_requests", "Requests, or connections of TCP listeners, that a backend was chosen for", |it| {
        &it.requests
    }),
    ("proxy_failures", "Requests or connections that a backend did not take or answer", |it| &it.failures),
];

fn encode_handshakes(
    listeners: &[(String, Arc<ListenerCounters>)],
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let help = "TLS handshakes with clients";
    let mut family = encoder.encode_descriptor("proxy_handshakes", help, None, MetricType::Counter)?;
    for (listener, counters) in listeners {
        for ([version, resumed], count) in counters.handshakes.completed() {
            let labels = [("listener", listener.as_str()), version, resumed];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    let help = "TLS handshakes with clients that failed";
    let mut family =
        encoder.encode_descriptor("proxy_handshake_failures", help, None, MetricType::Counter)?;
    for (listener, counters) in listeners {
        for (reason, count) in counters.handshakes.failed() {
            let labels = [("listener", listener.as_str()), reason];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// By the first digit of the status.
const CLASSES: [(usize, &str); 5] = [(1, "1xx"), (2, "2xx"), (3, "3xx"), (4, "4xx"), (5, "5xx")];

impl Counters {
    /// Adds `proxy_connections` and the others to a scrape.
    ///
    /// # Errors
    /// If the encoder cannot write.
    pub fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_listeners(encoder)?;
        let pools = self.pools();
        for (name, help, of) in OF_POOLS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (pool, counters) in &pools {
                let labels = [("pool", pool.as_str())];
                ConstCounter::new(of(counters).load(Relaxed)).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Requests that wait until a backend has room";
        let mut family = encoder.encode_descriptor("proxy_pending", help, None, MetricType::Gauge)?;
        for (pool, counters) in &pools {
            let labels = [("pool", pool.as_str())];
            let count = u64::from(counters.queue.waiting.load(Relaxed));
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        for (name, help, of) in TIMES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
            for (pool, counters) in &pools {
                of(counters).encode(family.encode_family(&[("pool", pool.as_str())])?)?;
            }
        }
        let help = "Lines of the access log that were not written";
        let dropped =
            encoder.encode_descriptor("proxy_access_log_dropped", help, None, MetricType::Counter)?;
        ConstCounter::new(self.access_log_dropped.load(Relaxed)).encode(dropped)?;
        self.encode_backends(encoder)?;
        udp::encode(&self.udp_listeners(), encoder)
    }

    fn encode_listeners(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let listeners = self.listeners();
        for (name, help, of) in OF_LISTENERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (listener, counters) in &listeners {
                let labels = [("listener", listener.as_str())];
                ConstCounter::new(of(counters).load(Relaxed)).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Responses to clients, by the class of their status";
        let mut family = encoder.encode_descriptor("proxy_responses", help, None, MetricType::Counter)?;
        for (listener, counters) in &listeners {
            for (digit, class) in CLASSES {
                let labels = [("listener", listener.as_str()), ("class", class)];
                let count = counters.responses[digit].load(Relaxed);
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        encode_traffic(&listeners, encoder)?;
        let help = "Connections closed for what they began with, by reason";
        let mut family = encoder.encode_descriptor("proxy_rejected", help, None, MetricType::Counter)?;
        for (listener, counters) in &listeners {
            for (reason, name) in Rejection::ALL {
                let labels = [("listener", listener.as_str()), ("reason", name)];
                let count = counters.rejected[reason as usize].load(Relaxed);
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        encode_handshakes(&listeners, encoder)?;
        encode_arrivals(&listeners, encoder)
    }

    fn encode_backends(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let backends: Vec<_> = self
            .backends()
            .into_iter()
            .map(|((pool, address), it)| (pool, address.to_string(), it))
            .collect();
        for (name, help, of) in OF_BACKENDS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (pool, backend, counters) in &backends {
                let labels = [("pool", pool.as_str()), ("backend", backend)];
                ConstCounter::new(of(counters).load(Relaxed)).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Responses of backends, by the class of their status";
        let mut family =
            encoder.encode_descriptor("proxy_backend_responses", help, None, MetricType::Counter)?;
        for (pool, backend, counters) in &backends {
            for (digit, class) in CLASSES {
                let labels = [("pool", pool.as_str()), ("backend", backend), ("class", class)];
                let count = counters.responses[digit].load(Relaxed);
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Requests or connections that a backend works on";
        let mut family = encoder.encode_descriptor("proxy_in_flight", help, None, MetricType::Gauge)?;
        for (pool, backend, counters) in &backends {
            let labels = [("pool", pool.as_str()), ("backend", backend)];
            let count = u64::from(counters.in_flight.load(Relaxed));
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        let help = "Connections to a backend, idle ones included";
        let name = "proxy_backend_connections";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (pool, backend, counters) in &backends {
            let labels = [("pool", pool.as_str()), ("backend", backend)];
            let count = u64::from(counters.connections());
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// What goes through listeners: by route, and bytes.
fn encode_traffic(
    listeners: &[(String, Arc<ListenerCounters>)],
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let help = "Requests by the route that they took: its number in the config, from 1";
    let mut family = encoder.encode_descriptor("proxy_route_requests", help, None, MetricType::Counter)?;
    for (listener, counters) in listeners {
        for (route, count) in counters.routes.counted() {
            let route = route.to_string();
            let labels = [("listener", listener.as_str()), ("route", &route)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    let help = "Bytes of the bodies of requests and responses, and of TCP connections";
    let mut family = encoder.encode_descriptor("proxy_bytes", help, None, MetricType::Counter)?;
    for (listener, counters) in listeners {
        for (direction, bytes) in ["in", "out"].into_iter().zip(&counters.bytes) {
            let labels = [("listener", listener.as_str()), ("direction", direction)];
            ConstCounter::new(bytes.load(Relaxed)).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// What is known of connections before they are accepted.
fn encode_arrivals(
    listeners: &[(String, Arc<ListenerCounters>)],
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let (name, help) = ("proxy_handshake_rtt_seconds", "Round-trip times of the handshakes of clients");
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (listener, counters) in listeners {
        let labels = [("listener", listener.as_str())];
        counters.round_trips.encode(family.encode_family(&labels)?)?;
    }
    for (name, help, of) in QUEUES {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (listener, counters) in listeners {
            let labels = [("listener", listener.as_str())];
            ConstGauge::new(of(counters).load(Relaxed)).encode(family.encode_family(&labels)?)?;
        }
    }
    let Some(counters) = ListenCounters::read().filter(|_| !listeners.is_empty()) else { return Ok(()) };
    for (name, help, of) in OF_KERNEL {
        let family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(of(&counters)).encode(family)?;
    }
    Ok(())
}
