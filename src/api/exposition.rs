//! The formats of `/metrics`: OpenMetrics, and the older text format of Prometheus for scrapers that ask for it.

use std::collections::HashSet;

use axum::http::{HeaderMap, header};

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
}

impl Exposition {
    /// The format that `Accept` prefers; OpenMetrics if it has no preference.
    pub(super) fn accepted(headers: &HeaderMap) -> Self {
        let ranges: Vec<(&str, f32)> = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(range)
            .collect();
        // RFC 9110 §12.5.1: the most specific range counts.
        let quality = |kinds: [&str; 3]| {
            let found = |kind: &str| ranges.iter().find(|(range, _)| range.eq_ignore_ascii_case(kind));
            kinds.into_iter().find_map(found).map_or(0.0, |(_, quality)| *quality)
        };
        let prometheus = quality(["text/plain", "text/*", "*/*"]);
        let openmetrics = quality(["application/openmetrics-text", "application/*", "*/*"]);
        if prometheus > openmetrics { Self::Prometheus } else { Self::OpenMetrics }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Converts a text in OpenMetrics.
    pub(super) fn of(self, openmetrics: String) -> String {
        match self {
            Self::OpenMetrics => openmetrics,
            Self::Prometheus => prometheus(&openmetrics),
        }
    }
}

/// A media range and its quality.
fn range(text: &str) -> (&str, f32) {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default();
    let value =
        parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.eq_ignore_ascii_case("q"));
    (range, value.and_then(|(_, value)| value.parse().ok()).unwrap_or(1.0))
}

/// In the older format a counter is described by the name of its samples, which ends in `_total`, and there are neither
/// units nor an end.
fn prometheus(openmetrics: &str) -> String {
    let types = openmetrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let counters: HashSet<&str> = types.filter_map(|it| it.strip_suffix(" counter")).collect();
    let mut text = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(word), Some(name), Some(rest)) if counters.contains(name) => {
                text += &format!("# {word} {name}_total {rest}");
            }
            _ => text += line,
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::Exposition::{OpenMetrics, Prometheus};
    use super::*;

    #[test]
    fn accept_decides_and_openmetrics_wins_a_tie() {
        for (accept, expected) in [
            (&[][..], OpenMetrics),
            (&[""], OpenMetrics),
            (&["*/*"], OpenMetrics),
            (&["text/html"], OpenMetrics),
            (&["text/plain"], Prometheus),
            (&["TEXT/Plain; version=0.0.4"], Prometheus),
            (&["text/*"], Prometheus),
            (&["text/plain, */*"], OpenMetrics),
            (&["text/plain, */*;q=0.1"], Prometheus),
            (&["text/plain;Q=0.1, application/*"], OpenMetrics),
            (&["application/openmetrics-text;q=0, */*"], Prometheus),
            (&["application/openmetrics-text; version=1.0.0; q=0.4", "text/plain;q=0.5"], Prometheus),
            (&["text/plain;q=much"], Prometheus),
            // Prometheus 2.42 and 3.0.
            (
                &[
                    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                ],
                OpenMetrics,
            ),
            (
                &[
                    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,application/openmetrics-text;version=1.0.0;q=0.4,*/*;q=0.2",
                ],
                Prometheus,
            ),
        ] {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(header::ACCEPT, HeaderValue::from_static(value));
            }
            assert_eq!(Exposition::accepted(&headers), expected, "{accept:?}");
        }
    }

    #[test]
    fn the_older_format_has_neither_units_nor_an_end() {
        let openmetrics = "# HELP a_b Some bytes.\n# TYPE a_b counter\n# UNIT a_b bytes\na_b_total{c=\"d\"} 1\n# HELP e A gauge.\n\
                           # TYPE e gauge\ne 2\n# EOF\n";
        let expected = "# HELP a_b_total Some bytes.\n# TYPE a_b_total counter\na_b_total{c=\"d\"} 1\n# HELP e A gauge.\n\
                        # TYPE e gauge\ne 2\n";
        assert_eq!(Prometheus.of(openmetrics.into()), expected);
        assert_eq!(OpenMetrics.of(openmetrics.into()), openmetrics);
    }
}
