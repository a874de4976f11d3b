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
    let quality = parts.find_map(|part| part.strip_prefix("q=")).and_then(|value| value.parse().ok());
    (range, quality.unwrap_or(1.0))
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
