//! The counters as Prometheus metrics.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use super::counters::Counters;
use crate::wire::rcode_name;

/// Codes up to REFUSED are reported at zero, too: a counter that starts at 1 has no rate for its first answer.
const ALWAYS_REPORTED: usize = 6;

impl Counters {
    /// Adds `dns_queries`, `dns_responses` and the other counters to a scrape.
    ///
    /// # Errors
    /// If the encoder cannot write.
    pub fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let totals = self.totals();

        let help = "Messages received";
        let mut queries = encoder.encode_descriptor("dns_queries", help, None, MetricType::Counter)?;
        for (transport, count) in [("udp", totals.udp_queries), ("tcp", totals.tcp_queries)] {
            ConstCounter::new(count).encode(queries.encode_family(&[("transport", transport)])?)?;
        }

        let help = "Answers given, by response code";
        let mut responses = encoder.encode_descriptor("dns_responses", help, None, MetricType::Counter)?;
        for (rcode, count) in totals.responses.into_iter().enumerate() {
            if count > 0 || rcode < ALWAYS_REPORTED {
                let labels = [("rcode", rcode_name(rcode as u16))];
                ConstCounter::new(count).encode(responses.encode_family(&labels)?)?;
            }
        }

        let help = "Answers beyond the rate limit, by what became of them";
        let mut limited = encoder.encode_descriptor("dns_rate_limited", help, None, MetricType::Counter)?;
        for (action, count) in [("drop", totals.limited), ("slip", totals.slipped)] {
            ConstCounter::new(count).encode(limited.encode_family(&[("action", action)])?)?;
        }
        let plain = [
            ("dns_truncated", "Answers with TC set", totals.truncated),
            ("dns_dropped", "Messages left without an answer", totals.dropped),
            ("dns_unsent", "Answers that the kernel would not send", totals.unsent),
            ("dns_panics", "Queries dropped because their answer panicked", totals.panics),
            (
                "dns_reflections",
                "Datagrams dropped because they claim to come from echo, chargen and the like",
                totals.reflections,
            ),
            (
                "dns_denied",
                "UDP queries and TCP connections of clients that [dns] allow leaves out",
                totals.denied,
            ),
            ("dns_tcp_evicted", "TCP connections closed to make room for others", totals.evicted),
            (
                "dns_proxy_errors",
                "TCP connections of proxies closed because they did not begin with a valid PROXY header",
                totals.unnamed,
            ),
            (
                "dns_query_log_dropped",
                "Queries that the query log should have and has not",
                self.query_log_dropped.load(Relaxed),
            ),
        ];
        for (name, help, count) in plain {
            let counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(count).encode(counter)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::collector::Collector;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::dns::Totals;
    use crate::dns::counters::RCODES;

    #[derive(Debug)]
    struct Scrape(Counters);

    impl Collector for Scrape {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            self.0.encode(&mut encoder)
        }
    }

    #[test]
    fn a_scrape_reports_what_was_counted() {
        let counters = Counters::default();
        let mut totals = Totals { udp_queries: 9, tcp_queries: 8, truncated: 7, ..Totals::default() };
        (totals.dropped, totals.unsent, totals.panics) = (6, 5, 4);
        (totals.limited, totals.slipped) = (11, 10);
        (totals.reflections, totals.evicted, totals.denied, totals.unnamed) = (12, 13, 14, 15);
        (totals.responses[0], totals.responses[16], totals.responses[RCODES - 1]) = (3, 2, 1);
        counters.block().add(&totals);
        counters.query_log_dropped.fetch_add(16, Relaxed);
        let mut registry = Registry::with_prefix("portolan");
        registry.register_collector(Box::new(Scrape(counters)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                r#"portolan_dns_queries_total{transport="udp"} 9"#,
                r#"portolan_dns_queries_total{transport="tcp"} 8"#,
                r#"portolan_dns_responses_total{rcode="NOERROR"} 3"#,
                r#"portolan_dns_responses_total{rcode="FORMERR"} 0"#,
                r#"portolan_dns_responses_total{rcode="SERVFAIL"} 0"#,
                r#"portolan_dns_responses_total{rcode="NXDOMAIN"} 0"#,
                r#"portolan_dns_responses_total{rcode="NOTIMP"} 0"#,
                r#"portolan_dns_responses_total{rcode="REFUSED"} 0"#,
                r#"portolan_dns_responses_total{rcode="BADVERS"} 2"#,
                r#"portolan_dns_responses_total{rcode="31"} 1"#,
                r#"portolan_dns_rate_limited_total{action="drop"} 11"#,
                r#"portolan_dns_rate_limited_total{action="slip"} 10"#,
                "portolan_dns_truncated_total 7",
                "portolan_dns_dropped_total 6",
                "portolan_dns_unsent_total 5",
                "portolan_dns_panics_total 4",
                "portolan_dns_reflections_total 12",
                "portolan_dns_denied_total 14",
                "portolan_dns_tcp_evicted_total 13",
                "portolan_dns_proxy_errors_total 15",
                "portolan_dns_query_log_dropped_total 16",
            ]
        );
    }
}
